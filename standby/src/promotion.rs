//! When may a standby take the lock, and when may it open for writes?
//!
//! Two questions on purpose. `may_race` picks the healthiest member of a group
//! without a leader; `may_open` guards the step from which writes are possible,
//! also for a member that holds the lock already.

mod condition;
mod electorate;
mod open;
mod race;
mod request;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod synchronous;

pub use electorate::Electorate;
pub use open::may_open;
pub use race::may_race;

use topology::region::Token;
use topology::{Lsn, MemberName, SyncMode, SystemId, Tags, Timeline};

/// One member, asked directly in this beat.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerAnswer {
    pub name: MemberName,
    /// `None`: no answer. Never read as "dead"; the lock says who may lead.
    pub status: Option<PeerStatus>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    pub in_recovery: bool,
    /// The larger of what it received and what it replayed.
    pub lsn: Lsn,
    pub timeline: Option<Timeline>,
    pub nofailover: bool,
    pub failover_priority: i64,
    pub watchdog_failed: bool,
    /// Where its data lies no new file can be written.
    pub disk_failed: bool,
}

impl PeerStatus {
    /// Could this member lead at all?
    pub fn is_eligible(&self) -> bool {
        !self.nofailover && !self.watchdog_failed && !self.disk_failed
    }
}

/// The racer itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Racer<'a> {
    pub name: &'a MemberName,
    pub tags: &'a Tags,
    pub lsn: Lsn,
    pub timeline: Option<Timeline>,
    /// Who led before: its failover_priority does not count. While a synchronous
    /// mode is in force `/sync` tells who that was.
    pub former_leader: Option<&'a MemberName>,
}

/// Limits of the race, from `/config` and the region's certificate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RaceLimits<'a> {
    pub maximum_lag: u64,
    pub check_timeline: bool,
    /// A leader whose store is away may lead on, by the word of those it asks.
    pub failsafe_mode: bool,
    /// `Off` also where this group may not be open for writes.
    pub mode: SyncMode,
    /// Where a member must have arrived to open, in a region that was moved to.
    pub token: Option<&'a Token>,
}

/// Why not, with what it would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    #[error("the tag nofailover keeps this member from leading")]
    Tagged,
    #[error("{bytes} bytes behind the last known position, {allowed} allowed")]
    Behind { bytes: u64, allowed: u64 },
    #[error(
        "{leader} ended in order and its log goes up to {end}, here up to {mine}: start {leader} \
         again, or ask for a failover to this member, which loses what is missing"
    )]
    LacksTheEnd { leader: MemberName, end: Lsn, mine: Lsn },
    #[error("timeline {mine} is behind the group's timeline {group}")]
    OldTimeline { mine: Timeline, group: Timeline },
    #[error(
        "the own timeline has the number of the group's and another history; reinitialize this \
         member"
    )]
    OtherHistory,
    #[error("the own timeline is not known yet")]
    TimelineUnknown,
    #[error("{0} runs as a primary")]
    PrimaryExists(MemberName),
    #[error("{name} is on timeline {theirs}, here {mine}")]
    PeerNewer { name: MemberName, theirs: Timeline, mine: Timeline },
    #[error("{name} has received more ({theirs}, here {mine})")]
    PeerAhead { name: MemberName, theirs: Lsn, mine: Lsn },
    #[error("/sync does not name this member: it may lack what was acknowledged")]
    NotSynchronous,
    #[error(
        "{votes} others that /sync names are known to have no more than this member, {needed} \
         must be: it may lack what was acknowledged"
    )]
    TooFewVotes { votes: u64, needed: u64 },
    #[error("{0} has the same position and a higher failover_priority")]
    PeerPreferred(MemberName),
    #[error("{0} was asked for as the new leader and is able")]
    OtherCandidate(MemberName),
    #[error("the region's token ends at {wanted}, received up to {mine}")]
    TokenNotReached { wanted: Lsn, mine: Lsn },
    #[error("the region's token is of system {wanted}, this data is of {mine}")]
    OtherSystem { wanted: SystemId, mine: SystemId },
    #[error("the region's token is of timeline {wanted}, this data is on {mine}")]
    TokenTimeline { wanted: Timeline, mine: Timeline },
    #[error(
        "/failsafe does not name this member: a leader without a store would not have asked it"
    )]
    NotInFailsafe,
    #[error(
        "{leader} may lead on without the store while a majority of /failsafe agrees: enough \
         of its members must promise this one that they do not support {leader}{why}"
    )]
    Unpromised {
        leader: MemberName,
        /// Empty, or what was answered, after a separator.
        why: String,
    },
    #[error("the store does not answer, and may say that another leader leads on")]
    StoreSilent,
    #[error("workers that are not open yet: {0}")]
    WorkersFirst(String),
}
