//! Failsafe mode, both sides: asking all members, and keeping a promise.
//!
//! The rules of who may promise what are in `ha/failsafe.rs`. What was promised, and
//! what was agreed to, also lies on disk (`promises`).

use super::Daemon;
use crate::peers::Question;
use crate::promises::{self, SharedPromises};
use member::ha::Observation;
use member::ha::failsafe::{Asker, PromiseStore, agreement};
use member::{Answer, KeptProof};
use serde_json::{Value, json};
use standby::slots::Slot;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use topology::id::slot_name;
use topology::{Lsn, MemberName, Millis};

/// One member may take this long to answer, tried twice.
const ANSWER: Duration = Duration::from_secs(2);

/// What a daemon keeps for failsafe mode.
#[derive(Default)]
pub(super) struct FailsafeState {
    pub promises: SharedPromises,
}

impl FailsafeState {
    /// With the promise that lies on disk.
    pub(super) fn new(data_dir: &Path, me: &MemberName, ttl_ms: u64) -> FailsafeState {
        let promise = promises::read_promise(data_dir, me, ttl_ms);
        let promises = Arc::new(Mutex::new(PromiseStore::with_promise(promise)));
        FailsafeState { promises }
    }
}

impl Daemon {
    /// Asks these members at once. This many of them must agree.
    pub(super) async fn ask_members(
        &mut self,
        others: &[(MemberName, String)],
        enough: usize,
        ttl_ms: u64,
        by: Asker,
    ) -> Answer {
        let mut body = self.question();
        if by == Asker::Candidate {
            body["candidate"] = true.into();
        }
        let question = Question { body: &body, ttl_ms, enough };
        let answers = self.peers.agree(others, question, ANSWER).await;
        let names = others.iter().map(|(name, _)| name.clone());
        agreement(names.zip(answers).collect(), enough).map_or_else(Answer::Failed, Answer::Agreed)
    }

    /// A daemon that is started anew while its store is away goes on asking.
    pub(super) fn keep_proof(&self, kept: &KeptProof) {
        let (data_dir, me) = (&self.settings.postgresql.data_dir, &self.settings.name);
        if let Err(error) = promises::write_proof(data_dir, me, kept) {
            tracing::warn!(
                "the failsafe agreement could not be written to disk: {error}; a restarted daemon \
                 could not rely on it"
            );
        }
    }

    /// Until when the mode is active, on either side.
    pub(super) fn failsafe_until(&self, seen: &Observation) -> Option<Millis> {
        let promise = seen.failsafe.promise.as_ref().filter(|p| p.by == Asker::Leader);
        promise.map(|p| p.until).max(self.member.proof)
    }

    fn question(&self) -> Value {
        let settings = &self.settings;
        let end = self.server.status().and_then(|status| status.position());
        json!({
            "name": settings.name.as_str(),
            "conn_url": self.server.served_url(),
            "api_url": settings.restapi.api_url(),
            "slots": told_positions(&self.server.slots(), &settings.name, end),
        })
    }
}

/// From where the reader of each slot goes on, and the end of the own log, as `/status`
/// has them.
fn told_positions(slots: &[Slot], me: &MemberName, end: Option<Lsn>) -> BTreeMap<String, u64> {
    let slots = slots.iter().filter_map(|slot| Some((slot.name.clone(), slot.position()?.0)));
    let own = end.map(|end| (slot_name(me.as_str()), end.0));
    slots.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use standby::slots::Kind;

    #[test]
    fn positions_of_readers_are_confirmed_ones() {
        let kind = Kind::Logical { database: "d".into(), plugin: "p".into() };
        let reader =
            Slot { kind, confirmed_flush: Some(Lsn(70)), ..Slot::physical("reader", Lsn(20)) };
        let unreserved = Slot { restart_lsn: None, ..Slot::physical("none", Lsn(1)) };
        let slots = [Slot::physical("n2", Lsn(50)), reader, unreserved];
        let told = told_positions(&slots, &"n-1".into(), Some(Lsn(90)));
        assert_eq!(serde_json::json!(told), serde_json::json!({"n2": 50, "n_1": 90, "reader": 70}));
    }
}
