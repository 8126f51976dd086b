//! Between our words and etcd's.

use crate::dcs::kv::{Compare, Edit, Txn};
use crate::dcs::{DcsError, Event, KeyValue, Session, Snapshot, Version, Written};
use etcd_client as etcd;
use etcd_client::{CompareOp, DeleteOptions, Error, GetOptions, PutOptions, TxnOp, TxnOpResponse};
use std::time::Duration;

/// gRPC's status codes, by number: their type is not exported to us.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Words of etcd's answers about who we are; they come as invalid arguments.
const LOGIN_WORDS: [&str; 4] =
    ["authentication failed", "user name is empty", "auth store is old", "invalid auth token"];

/// All prefixes in one transaction, so that the answer has one revision.
pub(super) fn read(prefixes: &[String]) -> etcd::Txn {
    let get = |p: &String| TxnOp::get(p.as_str(), Some(GetOptions::new().with_prefix()));
    etcd::Txn::new().and_then(prefixes.iter().map(get).collect::<Vec<_>>())
}

pub(super) fn snapshot(answer: &etcd::TxnResponse) -> Snapshot {
    let mut entries = Vec::new();
    for response in answer.op_responses() {
        if let TxnOpResponse::Get(get) = response {
            entries.extend(get.kvs().iter().map(key_value));
        }
    }
    Snapshot { version: version(answer), entries }
}

pub(super) fn txn(txn: Txn) -> etcd::Txn {
    let when: Vec<_> = txn.when.into_iter().flat_map(compares).collect();
    let then: Vec<_> = txn.then.into_iter().map(operation).collect();
    etcd::Txn::new().when(when).and_then(then)
}

pub(super) fn txn_result(answer: &etcd::TxnResponse) -> Written {
    Written { succeeded: answer.succeeded(), version: version(answer) }
}

fn version(answer: &etcd::TxnResponse) -> Version {
    Version::of_store(answer.header().map_or(0, |header| header.revision()))
}

/// etcd compares an absent key as if all its numbers were 0, hence the second
/// comparison: a key that hangs on no lease is a key.
fn compares(compare: Compare) -> Vec<etcd::Compare> {
    let exists = |key: &str| etcd::Compare::create_revision(key, CompareOp::Greater, 0);
    match compare {
        Compare::Absent(key) => vec![etcd::Compare::create_revision(key, CompareOp::Equal, 0)],
        Compare::ValueIs(key, value) => {
            vec![exists(&key), etcd::Compare::value(key, CompareOp::Equal, value)]
        }
        Compare::VersionIs(key, version) => {
            let is = etcd::Compare::mod_revision(key.as_str(), CompareOp::Equal, version.number());
            vec![exists(&key), is]
        }
        Compare::SessionIs(key, session) => {
            vec![exists(&key), etcd::Compare::lease(key, CompareOp::Equal, session.number())]
        }
    }
}

fn operation(op: Edit) -> TxnOp {
    match op {
        Edit::Put { key, value, session } => {
            let on = |session: Session| PutOptions::new().with_lease(session.number());
            TxnOp::put(key, value, session.map(on))
        }
        Edit::Delete { key } => TxnOp::delete(key, None),
        Edit::DeletePrefix { prefix } => {
            TxnOp::delete(prefix, Some(DeleteOptions::new().with_prefix()))
        }
    }
}

fn key_value(entry: &etcd::KeyValue) -> KeyValue {
    KeyValue {
        key: text(entry.key()),
        value: text(entry.value()),
        version: Version::of_store(entry.mod_revision()),
        created: Version::of_store(entry.create_revision()),
        session: (entry.lease() != 0).then_some(Session::of_store(entry.lease())),
    }
}

/// Whatever is not UTF-8 is not ours; it must not stop us from reading the rest.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn event(event: &etcd::Event) -> Option<Event> {
    let entry = key_value(event.kv()?);
    Some(match event.event_type() {
        etcd::EventType::Put => Event::Put(entry),
        etcd::EventType::Delete => Event::Deleted { key: entry.key, version: entry.version },
    })
}

pub(super) fn unreachable(reason: String) -> DcsError {
    DcsError::Unreachable { waited: Duration::ZERO, reason }
}

/// An error by what comes next. What is not known to be final is `Unreachable`.
pub(super) fn error(error: Error) -> DcsError {
    let status = match &error {
        Error::GRpcStatus(status) => status,
        // The answer to a renewal: the client reads ttl 0 for us.
        Error::LeaseKeepAliveError(why) if why == "lease not found" => return DcsError::LeaseGone,
        Error::InvalidArgs(why) => return DcsError::Settings(why.clone()),
        Error::InvalidUri(why) => return DcsError::Settings(format!("an endpoint: {why}")),
        _ => return unreachable(with_causes(&error)),
    };
    let message = status.message().to_string();
    match status.code() as i32 {
        code::PERMISSION_DENIED | code::UNAUTHENTICATED => DcsError::Denied(message),
        _ if LOGIN_WORDS.iter().any(|words| message.contains(words)) => DcsError::Denied(message),
        code::NOT_FOUND if message.contains("lease not found") => DcsError::LeaseGone,
        code::OUT_OF_RANGE if message.contains("compacted") => DcsError::Compacted,
        code::INVALID_ARGUMENT | code::RESOURCE_EXHAUSTED => DcsError::Refused(message),
        _ => unreachable(with_causes(status)),
    }
}

/// The error and its causes: "transport error" alone explains nothing.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// No process listens there: the server that was there is gone.
pub(super) fn is_refused_connection(error: &DcsError) -> bool {
    matches!(error, DcsError::Unreachable { reason, .. } if reason.contains("onnection refused"))
}

/// The store keeps no users: a name and a password are of no use to it.
pub(super) fn is_auth_off(error: &Error) -> bool {
    is_code(error, code::FAILED_PRECONDITION) && error.to_string().contains("not enabled")
}

pub(super) fn is_permission(error: &Error) -> bool {
    is_code(error, code::PERMISSION_DENIED)
}

fn is_code(error: &Error, code: i32) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.code() as i32 == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    /// A member of etcd that is no leader any more says so with no code of its own.
    /// What counts as unreachable is asked of another endpoint.
    #[test]
    fn bug11_a_renewal_that_a_member_of_etcd_cannot_judge_goes_to_another_one() {
        for status in [
            Status::unknown("etcdserver: not a primary lessor"),
            Status::unknown("lease not found by this lessor"),
            Status::unavailable("etcdserver: no leader"),
            Status::unavailable("etcdserver: leader changed"),
            Status::unavailable("etcdserver: request timed out"),
            Status::deadline_exceeded("context deadline exceeded"),
            Status::internal("stream closed"),
        ] {
            let found = error(Error::GRpcStatus(status.clone()));
            assert!(matches!(found, DcsError::Unreachable { .. }), "{status}: {found}");
        }
        let gone =
            error(Error::GRpcStatus(Status::not_found("etcdserver: requested lease not found")));
        assert!(matches!(gone, DcsError::LeaseGone), "{gone}");
    }
}
