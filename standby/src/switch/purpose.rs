//! What the calls of an agent are for: how the answer of each is read.

use super::effect::AgentKey;
use super::register::AgentStep;
use super::{Site, Target};
use std::sync::Arc;
use topology::region::{Journal, Phase, Token};
use topology::schedule::Outcome;
use topology::{Group, RegionName};

/// What a call is for: how its answer is read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Purpose {
    Elect(AgentKey),
    Resign,
    Votes(VotesCall),
    /// A certificate passed on; nothing waits for it.
    Forward,
    Mover(MoverCall),
    Schedule(ScheduleCall),
}

/// A question of a preflight.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ExamineCall {
    Read(RegionName),
    Probe(RegionName, Group),
}

/// What a call of the scheduler is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ScheduleCall {
    Examine(ExamineCall),
    /// A copy for another store, or one that came from it.
    Copy,
    /// The end of an occurrence.
    Conclude(String, Outcome),
}

/// What a turn waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum VotesCall {
    Publish(RegionName),
    Step(AgentStep),
    /// After a step that lost against another client.
    Reread,
    SharePolicy,
    Ask(RegionName),
}

/// What a call of the mover is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MoverCall {
    /// The journal, for the other region's store.
    Copy,
    Listen,
    Act(Box<Acting>),
    /// After a write that did not happen. The table is asked again after this pause.
    Reread(Box<Acting>, u64),
    /// Before a delivery to a store whose copy is not live.
    ReadBeforeDelivery(Box<Acting>, Box<Lead>),
    Examine(ExamineCall),
    Checkpoint,
    Hold,
    Replayed(Target, Token),
    WakeReplay(Group),
}

/// The journal that leads, and the store it lies in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lead {
    pub journal: Journal,
    pub region: RegionName,
    pub site: Arc<Site>,
}

/// A write that the table asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Acting {
    /// The row that asked for it, and its reason.
    pub row: u16,
    pub why: &'static str,
    /// The store that is written.
    pub region: RegionName,
    pub kind: JournalWrite,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum JournalWrite {
    Journal { id: String, phase: Phase, error: Option<String> },
    Commit { id: String, to: RegionName },
    Deliver,
}
