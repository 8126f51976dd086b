//! A primary called `me` and what it sees, for the tests of these rules.

use super::*;
use crate::made_up::TakeSample;
use serde_json::Value;
use topology::{GroupView, Millis};

pub(super) struct World {
    pub me: MemberName,
    pub view: GroupView,
    pub seen: Replication,
    pub confirmed: Confirmations,
    pub policy: Policy,
    pub now: Millis,
}

/// Priority mode, one standby wanted, none there yet.
pub(super) fn world(sync: &str) -> World {
    let policy = Policy { mode: SyncMode::On, strict: false, node_count: 1, maximum_lag: None };
    let seen = Replication {
        is_acting: true,
        lsn: Lsn(100),
        names: String::new(),
        commit: "on".to_string(),
        senders: Vec::new(),
    };
    let mut world = World {
        me: "me".into(),
        view: GroupView::default(),
        seen,
        confirmed: Confirmations::default(),
        policy,
        now: Millis(50_000),
    };
    world.member("me", Value::Null);
    world.sync(sync);
    world
}

impl World {
    pub(super) fn member(&mut self, name: &str, tags: Value) {
        let record = serde_json::json!({"state": "running", "role": "replica", "tags": tags});
        self.view.take_sample(&format!("members/{name}"), &record.to_string(), 1, 1);
    }

    pub(super) fn sync(&mut self, text: &str) {
        if !text.is_empty() {
            self.view.take_sample("sync", text, 1, 0);
        }
    }

    /// A running member that streams, all its positions the same.
    pub(super) fn standby(&mut self, name: &str, rank: SyncRank, lsn: u64) {
        self.member(name, Value::Null);
        self.sender(name, rank, lsn);
    }

    pub(super) fn sender(&mut self, name: &str, sync: SyncRank, lsn: u64) {
        self.seen.senders.retain(|sender| sender.name.as_str() != name);
        let at = Some(Lsn(lsn));
        let (write, flush, replay) = (at, at, at);
        let name = name.into();
        self.seen.senders.push(Sender { name, streaming: true, sync, write, flush, replay });
    }

    pub(super) fn leaves(&mut self, name: &str) {
        self.seen.senders.retain(|sender| sender.name.as_str() != name);
    }

    pub(super) fn names(&mut self, text: &str) {
        self.seen.names = text.to_string();
    }

    pub(super) fn look(&mut self) {
        let sync = self.view.sync.as_ref().map(|s| s.value.clone()).unwrap_or_default();
        self.confirmed.look(&self.seen, &sync, &self.policy, self.now);
    }

    pub(super) fn situation(&self) -> Situation<'_> {
        Situation {
            me: &self.me,
            now: self.now,
            view: &self.view,
            seen: &self.seen,
            confirmed: &self.confirmed,
            policy: &self.policy,
        }
    }

    /// Looks, asks and does it.
    pub(super) fn step(&mut self) -> Option<Step> {
        self.look();
        let step = next(&self.situation());
        match &step {
            Some(Step::Record(sync)) => self.sync(&sync.write()),
            Some(Step::Names(names)) => self.names(&names.write()),
            Some(Step::Wait { .. }) | None => {}
        }
        step
    }
}

/// A step as it is written.
pub(super) fn text(step: Option<Step>) -> String {
    match step {
        None => "rest".to_string(),
        Some(Step::Record(sync)) => sync.write(),
        Some(Step::Names(names)) => format!("names {}", names.write()),
        Some(Step::Wait { ms }) => format!("wait {ms}"),
    }
}

pub(super) fn record(standbys: &str, quorum: u64) -> String {
    let standbys = if standbys.is_empty() { "null".into() } else { format!("\"{standbys}\"") };
    format!(r#"{{"leader":"me","quorum":{quorum},"sync_standby":{standbys}}}"#)
}
