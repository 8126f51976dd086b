//! What the chores go by: the beat that is over, and what no look of it shows.

use crate::ha::Observation;
use crate::role::Role;

/// What no look of a beat shows.
#[derive(Clone, Debug, Default)]
pub struct ChoreSight {
    /// The running stop has ended every client.
    pub is_quiet: bool,
    /// As what the server runs, for settings that depend on it; `None`: it does not answer.
    pub runs_as: Option<Role>,
    /// `pg_dist_node` was brought in line with this region's groups since the last beat.
    pub has_rewired: bool,
    /// Work beside the beats that has ended since the last one.
    pub ended: Vec<(Work, Result<(), String>)>,
}

/// What runs beside the beats, one of each at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Checkpoint,
    Histories,
}

/// What the rows go by.
pub(super) struct Sights<'a> {
    pub seen: &'a Observation,
    pub own: &'a ChoreSight,
}

impl Sights<'_> {
    /// The server answers, nothing is done to it, and the store is known.
    pub(crate) fn is_at_rest(&self) -> bool {
        let answers = self.seen.server().is_some_and(|server| server.replication.is_some());
        answers && self.seen.job.is_none() && self.seen.view().is_some()
    }
}
