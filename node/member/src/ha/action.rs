//! Everything a member can do. `act` matches on this without a wildcard.

use super::observation::{Following, Job};
use standby::sync::Names;
use topology::{Lsn, SyncState, Timeline};

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Keep the own lease alive and, holding the lock, prove that it is ours.
    Renew,
    /// Create the leader key, if it is absent.
    AcquireLock,
    /// Delete the leader key, if it is ours, and tell in the same transaction
    /// where the log ended.
    ReleaseLock {
        publish: Publish,
    },
    /// Set `/failover` to `{}`, if it is what was seen.
    ClearRequest,
    /// Create `/initialize`, empty.
    ClaimInitialize,
    /// Delete the `/initialize` that this member claimed, move the data aside.
    GiveUpBootstrap,
    /// Write system id, configuration and leader key of a new cluster at once.
    FinishBootstrap,
    /// Write a missing `/initialize` of a cluster that exists.
    AdoptSystem,
    /// Ask all other members for their positions.
    AskPeers,
    /// Ask every member that could lead to let this member lead on without a store.
    AskAll,
    /// Ask members that `/failsafe` names to promise that they support no other leader.
    AskPromises,
    /// Read the leader's timeline history and compare.
    CheckDivergence {
        with: Following,
    },
    /// Start the watchdog: the server is about to accept writes.
    ArmWatchdog,
    /// Tell the server to leave recovery.
    Promote,
    /// Stream from another server: rewrite the settings and reload.
    Follow(Option<Following>),
    /// Let a standby replay on.
    ResumeReplay,
    /// Write `/sync`, if it is what was seen.
    RecordSync(SyncState),
    /// Name the standbys that commits wait for, and see that it is in force.
    NameSync(Names),
    /// Write something small into the log, for standbys to confirm.
    WriteWal,
    /// Write this group's token of a region move.
    Sign {
        id: String,
        lsn: Lsn,
    },
    Begin(Job),
    CancelJob,
    /// End the connections over which others receive the log of a server that stops.
    EndReceivers(Receivers),
    /// A stop that has written its shutdown checkpoint waits for nothing any more.
    CutStop,
    /// End the daemon with this exit code; PostgreSQL is left as it is.
    Exit(i32),
}

/// Which receivers of a server that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receivers {
    All,
    /// Consumers of logical replication: before the shutdown checkpoint.
    Logical,
}

/// What a leader that gives its lock away says of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    Nothing,
    /// Another member has everything up to this shutdown checkpoint: a member that
    /// has not may not lead.
    Handover(Lsn, Option<Timeline>),
    /// It ended in order with this shutdown checkpoint, which no other member is known
    /// to have: only members lead that have everything before it, until this one is
    /// back or an operator names another one.
    End(Lsn, Option<Timeline>),
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Done,
    /// Another writer was first; the store shows what holds now.
    Lost,
    /// It is not known whether it happened.
    Unknown(String),
    Failed(String),
}

/// The answer of `decide`: one thing to do, or none, each with its rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Number of the rule that fired.
    pub rule: u16,
    pub step: Step,
    /// The sentence of the rule.
    pub why: &'static str,
    /// What makes it particular here. It may repeat what a tool or a server said.
    pub detail: Option<String>,
}

impl Decision {
    /// The whole line that an operator reads.
    pub fn line(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{}: {detail}", self.why),
            None => self.why.to_string(),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Do(Action),
    /// Nothing to do before the next event, or before this many milliseconds.
    Rest {
        at_most_ms: Option<u64>,
    },
}
