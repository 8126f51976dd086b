//! `GET /cluster`: the group as one document. Pure.
//!
//! The order of keys, down to "lag before LSN unless both are unknown", is
//! that of the golden dumps.

use serde_json::{Map, Value, json};
use topology::report::{GroupReport, MemberReport, Position, RemoteLag, Switchover};
use topology::{GroupView, Seen};

/// `unix_ms`: now, for ages.
pub(super) fn cluster_json(view: &GroupView, scope: &str, unix_ms: u64) -> Value {
    let group = GroupReport::of(view);
    let mut out = Map::new();
    out.insert("members".into(), group.members.iter().map(|m| member(m, unix_ms)).collect());
    if group.is_paused {
        out.insert("pause".into(), true.into());
    }
    if let Some(switchover) = group.switchover {
        out.insert("scheduled_switchover".into(), scheduled(&switchover));
    }
    out.insert("scope".into(), scope.into());
    Value::Object(out)
}

fn scheduled(switchover: &Switchover) -> Value {
    let mut out = Map::new();
    out.insert("at".into(), switchover.at.into());
    for (key, name) in [("from", switchover.from), ("to", switchover.to)] {
        if let Some(name) = name {
            out.insert(key.into(), json!(name));
        }
    }
    Value::Object(out)
}

fn member(member: &MemberReport, unix_ms: u64) -> Value {
    let record = member.record;
    let mut out = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(key.to_string(), value);
        }
    };
    put("name", Some(json!(member.name)));
    put("role", Some(member.role.word().into()));
    put("state", Some(member.state.into()));
    put("api_url", record.api_url.clone().map(Value::from));
    let address = record.address();
    put("host", address.as_ref().map(|a| a.0.clone().into()));
    put("port", address.as_ref().map(|a| a.1.into()));
    put("timeline", record.timeline.map(|t| json!(t)));
    put("pending_restart", record.pending_restart.then_some(true.into()));
    put("pending_restart_reason", record.pending_restart_reason.clone());
    put("scheduled_restart", record.scheduled_restart.clone());
    put("reason", record.reason.clone().map(Value::from));
    let tags = record.tags.published();
    put("tags", (!tags.is_empty()).then_some(Value::Object(tags)));
    if !member.role.leads() {
        let at = member.positions;
        add_position("receive_lsn", "receive_lag", at.receive, &mut out);
        add_position("replay_lsn", "replay_lag", at.replay, &mut out);
        add_position("lsn", "lag", at.any, &mut out);
    }
    if let Some(lag) = member.remote_lag(unix_ms) {
        out.insert("remote".into(), remote_json(&lag));
    }
    Value::Object(out)
}

/// How far a standby leader is behind the cluster or region that it follows, as in `GET /patroni`.
fn remote_json(lag: &RemoteLag) -> Value {
    let mut out = Map::new();
    out.extend(lag.end.map(|end| ("lsn".to_string(), end.to_string().into())));
    let bytes = [("receive_lag", lag.receive_bytes), ("replay_lag", lag.replay_bytes)];
    out.extend(bytes.into_iter().filter_map(|(key, bytes)| Some((key.into(), bytes?.into()))));
    let seconds = lag.replay_seconds();
    out.extend(seconds.map(|seconds| ("replay_lag_seconds".to_string(), seconds.into())));
    Value::Object(out)
}

/// The lag of a known position is always a number here: 0 as long as there is no
/// `/status` to compare it with.
fn add_position(lsn_key: &str, lag_key: &str, at: Position, out: &mut Map<String, Value>) {
    match at.lsn {
        Seen::Known(lsn) => {
            out.insert(lag_key.into(), at.lag_bytes.known().copied().unwrap_or(0).into());
            out.insert(lsn_key.into(), lsn.to_string().into());
        }
        Seen::Unknown => {
            out.insert(lsn_key.into(), "unknown".into());
            out.insert(lag_key.into(), "unknown".into());
        }
    }
}
