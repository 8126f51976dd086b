//! What a member remembers from beat to beat.
//!
//! Invariant: all of it may be lost with the process, and nothing becomes unsafe.

use super::{Detour, Following, Job};
use standby::sync::Confirmations;
use std::collections::BTreeMap;
use topology::{Lsn, MemberName, Millis, Timeline, Version};

/// What a daemon remembers from beat to beat. Lost when it restarts; nothing
/// here may be needed for safety.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The daemon was told to end.
    pub stopping: bool,
    /// Since when that is known.
    pub stopping_since: Option<Millis>,
    /// This member won `/initialize` and its bootstrap is under way.
    pub bootstrap: Bootstrapping,
    /// The version of that write: claims of two members look alike.
    pub claim: Option<Version>,
    /// `/initialize` was seen to be another member's claim, last at.
    pub claimed_elsewhere: Option<Millis>,
    /// When the store last refused to take the new cluster.
    pub entry_refused: Option<Millis>,
    /// Stopped on purpose to hand the lock over, since when.
    pub handover: Option<Millis>,
    /// Members that the running stop waits for: how far each was seen to be, and since
    /// when.
    pub received: BTreeMap<MemberName, (Lsn, Millis)>,
    /// When the receivers of the running stop were told to end, and before that those
    /// of logical replication.
    pub receivers_ended: Option<Millis>,
    pub logical_ended: Option<Millis>,
    /// An operator's request that this leader has seen: since when, and what it
    /// had flushed then.
    pub request_seen: Option<(Millis, Lsn)>,
    /// The lock was taken for an operator's request while paused.
    pub won_in_pause: bool,
    /// Promotion was signalled, since when.
    pub promoting: Option<Millis>,
    /// Which leader `/status` last said that a majority is enough for.
    pub majority_leader: Option<MemberName>,
    /// Enough members of `/failsafe` have promised this one, until then.
    pub promised_until: Millis,
    /// When they were asked last for it, and what kept them from it.
    pub promises_asked: Option<Millis>,
    pub unpromised_why: Option<String>,
    /// Since this member took its lock there was a moment at which no other leader could
    /// rely on a majority's promises.
    pub is_tenure_cleared: bool,
    /// The lock is held without that, since when.
    pub uncleared_since: Option<Millis>,
    /// The lock is held by a standby that lacks the region's token, since when.
    pub untokened_since: Option<Millis>,
    /// A promotion that did not come to its end was given up, at.
    pub promotion_failed: Option<Millis>,
    pub divergence: Divergence,
    /// The member that the last divergence check was made (or tried) against, and when.
    pub compared_with: Option<MemberName>,
    /// The timeline that the other server was on.
    pub compared_timeline: Option<Timeline>,
    pub compared_at: Millis,
    /// Which leader's history the own log was found to fit.
    pub fit: Fit,
    /// The standby recovers to this timeline, for the latest one was refused, until
    /// its leader is on another.
    pub pinned: Option<Timeline>,
    /// Who led when it was last looked, and the timeline of the group then.
    pub line: Option<(Option<MemberName>, Timeline)>,
    /// A former primary has been waiting for a comparison since.
    pub uncompared_since: Option<Millis>,
    /// Why the last try to compare gave no answer.
    pub uncompared_why: Option<String>,
    /// What keeps a standby leader from streaming, by the last comparison with the remote
    /// side.
    pub upstream_trouble: Option<String>,
    /// The own lease: last renewed, and last tried to.
    pub lease_renewed: Millis,
    pub lease_tried: Millis,
    /// How many tries in a row the store has not answered.
    pub lease_misses: u32,
    /// The free lock was asked for, and no answer came.
    pub is_lock_unanswered: bool,
    /// The last look could not read the store.
    pub could_not_read: bool,
    /// The store refused the last renewal.
    pub lease_refused: bool,
    /// A restart or a reinitialize that an operator asked for.
    pub asked: Option<Asked>,
    /// A restart that was asked for waits to begin, since when.
    pub asked_since: Option<Millis>,
    /// Why the last restart that was asked for was dropped, until that was answered.
    pub dropped: Option<String>,
    /// A synchronous standby that is about to stop wants to be none, since when.
    pub leaving_duty: Option<Millis>,
    /// Permanent logical slots that are missing here and are on the leader: a start copies them.
    pub slots_to_copy: Option<String>,
    /// None of them can be copied as things are.
    pub are_copies_refused: bool,
    /// A standby that holds the lock has not looked at its logical slots yet, since when.
    pub slots_unseen_since: Option<Millis>,
    /// How long the start of an asked restart may take, if that was said.
    pub start_limit_ms: Option<u64>,
    /// What the `pre_promote` command said to the lock held now.
    pub gate: Gate,
    /// The last job that failed: what, when, how often in a row.
    pub failed: Option<Failed>,
    /// When this process began to run.
    pub started: Millis,
    /// The token of the running move was written.
    pub signed: Option<String>,
    /// The standby has not streamed since.
    pub quiet_since: Option<Millis>,
    /// No WAL arrives through the member that `replicatefrom` names: the leader is followed.
    pub detour: Detour,
    /// The server was seen to be down since.
    pub stopped_since: Option<Millis>,
    /// The data directory could not be read since.
    pub damaged_since: Option<Millis>,
    /// No member has held the lock since.
    pub leaderless_since: Option<Millis>,
    /// Who led last, as far as this process has seen.
    pub former_leader: Option<MemberName>,
    /// With data here and no leader, `/initialize` was seen to name no system;
    /// until a member leads again.
    pub forgotten_at: Option<Millis>,
    /// `/initialize` named a system once in this process's life.
    pub knew_system: bool,
    /// A job was begun: the server is no longer as this process found it.
    pub has_begun: bool,
    /// The server that the standby was last set to follow, while it starts.
    pub pointed_to: Option<Following>,
    /// Where the server's log ended, and when it was last seen to grow.
    pub grown_to: Lsn,
    pub grew_at: Millis,
    /// `synchronous_standby_names` of this primary, as this process set or found
    /// it, while a synchronous mode is or was on.
    pub names: Option<String>,
    /// When names did not come into force, unless others have since.
    pub names_failed: Option<Millis>,
    /// A write of `/sync` may still be on its way to the store.
    pub is_sync_unsure: bool,
    /// Which standbys have what was written since those names hold.
    pub confirmed: Confirmations,
    /// Built anew in pause, and not started yet.
    pub rebuilt_in_pause: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bootstrapping {
    #[default]
    No,
    Claimed,
    /// The new server runs; the store must be told.
    Built,
    Failed,
    /// `/initialize` was given back: this process ends.
    GivenUp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Divergence {
    #[default]
    Unchecked,
    Prefix,
    /// The end of the own log cannot be read.
    Unreadable(String),
    Diverged(String),
    /// Diverged, on a timeline of the leader's number: no rewind helps.
    Alien(String),
}

impl Divergence {
    /// Nothing is known of it yet.
    pub fn is_open(&self) -> bool {
        matches!(self, Divergence::Unchecked | Divergence::Unreadable(_))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    #[default]
    Untried,
    Passed,
    Failed(Millis),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Restart,
    Reinitialize,
    ReinitializeFromLeader,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    pub job: Job,
    pub at: Millis,
    pub times: u32,
    pub why: String,
}

impl Asked {
    /// What the API calls it.
    pub fn title(self) -> &'static str {
        match self {
            Asked::Restart => "restart",
            Asked::Reinitialize | Asked::ReinitializeFromLeader => "reinitialize",
        }
    }
}

/// The last comparison that found the own log to be a prefix of an open leader's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// This process has compared with no leader, and has seen no leader change.
    #[default]
    Unknown,
    /// Another member has led since, or the leader was not compared with yet.
    Stale,
    /// With this leader, on this timeline.
    Known { leader: MemberName, timeline: Timeline },
}
