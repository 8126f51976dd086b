//! When `pg_dist_node` is looked at, and what is done when it is right.
//!
//! Only a coordinator that leads and is open does anything here. One round runs
//! at a time, beside the beat; its end wakes the beat.

use super::Daemon;
use crate::act::citus::{self, Round};
use ::citus::{Address, Groups};
use member::ha::Observation;
use standby::switch::ownership::Ownership;
use tokio::sync::oneshot;
use topology::{Group, Millis};

/// After a round that failed.
const RETRY_MS: u64 = 1_000;

/// What is known of the rows.
#[derive(Default)]
pub(super) struct Metadata {
    running: Option<(Groups, oneshot::Receiver<Result<Round, String>>)>,
    /// The groups that the rows were last brought in line with.
    done: Option<Groups>,
    looked_at: Millis,
    failed_at: Option<Millis>,
    /// A round has found the rows as they should be, or brought them there.
    settled: bool,
}

impl Metadata {
    /// Since this was asked last.
    pub(super) fn take_settled(&mut self) -> bool {
        std::mem::take(&mut self.settled)
    }

    pub(super) fn forget(&mut self) {
        self.done = None;
    }

    /// Waits for the end of the running round; for ever when none runs.
    pub(super) async fn over(&mut self) -> Result<Round, String> {
        match &mut self.running {
            Some((_, answer)) => {
                let answer = answer.await.unwrap_or_else(|_| Err("it was ended".to_string()));
                let (groups, _) = self.running.take().expect("just waited for");
                self.done = answer.as_ref().is_ok_and(|r| r.settled).then_some(groups);
                answer
            }
            None => std::future::pending().await,
        }
    }
}

impl Daemon {
    pub(super) fn keep_citus(&mut self, seen: &Observation) {
        let Some(own) = self.settings.citus.clone() else { return };
        if own.group != 0 || !seen.holds_lock() || !seen.is_primary() || !seen.may_own() {
            self.metadata.forget();
            return;
        }
        let groups = self.groups_led_here(own.group);
        let opening = self.is_opening(&seen.ownership);
        if self.metadata.running.is_some() || !self.is_round_due(seen.now, &groups, opening) {
            return;
        }
        // Half the rows would end the quarantine with the other half naming the
        // old region.
        if opening && !self.is_whole(&groups) {
            return;
        }
        self.metadata.looked_at = seen.now;
        let (tell, answer) = oneshot::channel();
        let instance = (*self.server.instance()).clone();
        let settings = self.settings.clone();
        let work = citus::bring_about(settings, instance, own, groups.clone(), opening);
        tokio::spawn(async move {
            // The receiver is gone only when the daemon ends.
            let _ = tell.send(work.await);
        });
        self.metadata.running = Some((groups, answer));
    }

    /// What the store says of all groups, and of the own one what is certain: its
    /// record may still tell of the standby that this member was a moment ago.
    fn groups_led_here(&self, own: u32) -> Groups {
        let mut groups = citus::groups_now(&self.chores.groups);
        let (host, port) = self.server.served_at();
        let here = Address::new(&host, port);
        groups.entry(own).or_default().leader = Some(here);
        groups
    }

    /// Every group of the move (without a journal: every known one) has a primary.
    fn is_whole(&self, groups: &Groups) -> bool {
        let leads = |group: &Group| {
            let now = group.0.and_then(|number| groups.get(&number));
            group.0.is_none() || now.is_some_and(|now| now.leader.is_some())
        };
        match self.chores.local_topology.journal() {
            Some(journal) => journal.groups.iter().all(leads),
            None => self.chores.groups.keys().all(leads),
        }
    }

    fn is_round_due(&self, now: Millis, groups: &Groups, opening: bool) -> bool {
        let metadata = &self.metadata;
        if metadata.failed_at.is_some_and(|at| now.since(at) < RETRY_MS) {
            return false;
        }
        let old = now.since(metadata.looked_at) >= self.member.dynamic.loop_wait_ms;
        metadata.done.as_ref() != Some(groups) || opening || old
    }

    fn is_opening(&self, ownership: &Ownership) -> bool {
        matches!(ownership, Ownership::Owner { opening: true, .. }) && !self.member.is_rewired()
    }

    /// A round is over. The machine tells the mover of a region move when it was that.
    pub(super) fn take_round(&mut self, result: Result<Round, String>) {
        match result {
            Ok(round) => {
                self.metadata.failed_at = None;
                self.metadata.settled |= round.settled;
            }
            Err(why) => {
                crate::log::warn(&format!("pg_dist_node could not be brought up to date: {why}"));
                self.metadata.failed_at = Some(crate::clock::now());
            }
        }
    }
}
