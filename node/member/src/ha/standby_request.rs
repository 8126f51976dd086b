//! A new leader was asked for in a group that follows another cluster or region.
//!
//! The leader of such a group writes nothing, and its standbys receive the same log: the
//! lock alone changes hands. No server stops; the next leader streams from the remote
//! side, the others from the next leader, all by a reload.
//!
//! Invariant: the lock is released only when a member that can lead has received what
//! this one had when it was asked. Every wait here ends within seconds, so the rows for a
//! standby leader (720 to 729) are not missed for longer.

use super::action::{Action, Publish};
use super::facts::Facts;
use super::observation::Process;
use super::table::{Rule, act, soon};
use standby::switch::ownership::Ownership;

pub(crate) const STANDBY_REQUEST: &[Rule] = &[
    Rule::new(
        750,
        |f| !f.is_request_for_me(),
        |_| act(Action::ClearRequest),
        "the request names another leader, or its candidate already leads",
    ),
    Rule::new(
        751,
        |f| !f.has_asked(),
        |_| act(Action::AskPeers),
        "a new standby leader was asked for: asking whether another member can take over",
    ),
    Rule::new(
        752,
        |f| f.o.is_standby() && f.ready_successor().is_ok(),
        |_| act(Action::ReleaseLock { publish: Publish::Nothing }),
        "another member has received what this standby leader has: the lock is released, and no \
         server stops",
    ),
    Rule::new(
        753,
        |f| f.is_request_hopeless(),
        |_| act(Action::ClearRequest),
        "no member can take over as asked: this standby leader keeps the lock",
    )
    .saying(|f| f.ready_successor().err().map(|why| why.to_string())),
    Rule::new(
        754,
        |_| true,
        |_| soon(50),
        "waiting for a member that has received what this standby leader has",
    )
    .until(
        "a member has received it (752)",
        "after five seconds the request is cleared (753) and this member leads on",
    )
    .saying(|f| f.ready_successor().err().map(|why| why.to_string())),
];

impl Facts<'_> {
    /// It holds the lock of a group that certainly follows another side, as a standby that
    /// runs or starts.
    pub fn leads_standby_group(&self) -> bool {
        let follows = match self.o.ownership {
            Ownership::NoRegions => self.is_demoted_cluster(),
            Ownership::Standby { .. } => true,
            _ => false,
        };
        let starts = matches!(self.o.postgres.process, Process::Starting { as_primary: false, .. });
        follows && self.o.holds_lock() && (self.o.is_standby() || starts)
    }
}
