//! Has somebody the end of the log of a leader that has stopped?
//!
//! Asked wherever a stopped leader gives its lock away: what a replica has
//! received to the end is published, and nobody who lacks it may lead. A replica
//! says a moment later what it has, so it is waited for, but not for ever.

use super::facts::Facts;
use super::observation::End;
use standby::candidate::NoCandidate::NotThere;
use topology::Lsn;

/// How long the own successor may take to report the shutdown checkpoint. It
/// has it already in nearly all cases: the walsender waits for it.
const RECEIPT_MS: u64 = 2_000;

impl Facts<'_> {
    /// The end of the log, if somebody has all of it. Else the position stays as
    /// it was reported: a limit that nobody meets would leave no leader at all.
    pub fn received(&self) -> Option<Lsn> {
        let past = self.remains().filter(|r| r.end == End::Clean).map(|r| r.lsn)?;
        self.successor(Some(past)).ok().map(|_| past)
    }

    /// Nobody has it yet, and somebody may have it in a moment.
    pub fn awaits_receipt(&self) -> bool {
        let past = self.remains().filter(|r| r.end == End::Clean).map(|r| r.lsn);
        let lacks = matches!(self.successor(past), Err(NotThere { .. }));
        lacks && self.handover_age() < RECEIPT_MS
    }
}
