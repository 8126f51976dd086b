//! Does another member have the end of the log of a leader that has stopped?
//!
//! Asked wherever a stopped leader gives its lock away: if a replica has received
//! it to the end, no member that lacks it may lead. A replica reports a moment later
//! what it has, so the leader waits for it, but not for ever.

use super::action::Publish;
use super::facts::Facts;
use super::observation::End;
use standby::candidate::NoCandidate::{self, NotThere};
use topology::{Lsn, MemberName};

/// How long the own successor may take to report the shutdown checkpoint. It
/// has it already in nearly all cases: the walsender waits for it.
const RECEIPT_MS: u64 = 2_000;

impl Facts<'_> {
    /// The end of the log, if another member has all of it.
    pub fn received(&self) -> Option<Lsn> {
        let past = self.end_in_order()?;
        self.successor(Some(past)).ok().map(|_| past)
    }

    /// What is told of the own log when the lock is released.
    pub fn told(&self) -> Publish {
        match (self.received(), self.end_in_order()) {
            (Some(past), _) => Publish::Handover(past, self.own_timeline()),
            (None, Some(past)) => Publish::End(past, self.own_timeline()),
            (None, None) => Publish::Nothing,
        }
    }

    /// The shutdown checkpoint of an orderly stop.
    fn end_in_order(&self) -> Option<Lsn> {
        self.shutdown_state().filter(|r| r.end == End::Clean).map(|r| r.lsn)
    }

    /// The member that this stopped server may hand its lock to: after an orderly end
    /// only one that has all of it.
    pub fn heir(&self) -> Result<MemberName, NoCandidate> {
        self.successor(self.end_in_order())
    }

    /// No member has it yet, and one may have it in a moment.
    pub fn awaits_receipt(&self) -> bool {
        let lacks = matches!(self.successor(self.end_in_order()), Err(NotThere { .. }));
        lacks && self.handover_age() < RECEIPT_MS
    }
}
