//! What is shown of groups and regions: roles, states, positions, lags, order. Pure.
//!
//! `GET /cluster`, `/metrics`, `GET /topology` and `matriarchctl` print these values in
//! their own shapes, so they never say different things of one state of the store.
//!
//! | what | by which rule |
//! |---|---|
//! | role | the lock names the leader, `/sync` the synchronous standbys; a member's own record does neither |
//! | state | a leader: what its server does; all others: how they get their log, where they say so |
//! | lag | bytes behind the end in `/status`; a leader has none |
//! | remote lag | of a standby leader: bytes behind the remote end, age of the last replayed commit (`remote`) |
//! | region | what its store says it is, beside the highest epoch that any store holds (`region`) |
//! | order | by name, or each member below its upstream (`cascade`) |
//!
//! Invariant *unknown is not absent*: a position that was not published, or is 0, is
//! `Unknown`, and so is every lag that it would take.
//!
//! Absent on purpose: words for columns and keys of documents (REST and `ctl` have
//! them), and findings across groups and regions (see `graph`).

mod cascade;
mod member;
mod region;
mod remote;
mod role;

pub use member::{MemberReport, Position, Positions};
pub use region::{RegionReport, RegionRole, Standing, lag_bytes};
pub use remote::RemoteLag;
pub use role::{Duty, Role, follows_another, synchronous_mode};

use crate::{GroupView, MemberName};

#[derive(Clone, Debug, PartialEq)]
pub struct GroupReport<'a> {
    /// Those with a record, by name.
    pub members: Vec<MemberReport<'a>>,
    pub is_paused: bool,
    pub switchover: Option<Switchover<'a>>,
}

/// A switchover that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switchover<'a> {
    /// As it was asked for, in ISO 8601.
    pub at: &'a str,
    pub from: Option<&'a MemberName>,
    pub to: Option<&'a MemberName>,
}

impl<'a> GroupReport<'a> {
    pub fn of(view: &'a GroupView) -> GroupReport<'a> {
        let members = view.members.iter();
        GroupReport {
            members: members.map(|(name, m)| MemberReport::of(view, name, &m.value)).collect(),
            is_paused: view.is_paused(),
            switchover: Switchover::of(view),
        }
    }
}

impl<'a> Switchover<'a> {
    fn of(view: &'a GroupView) -> Option<Switchover<'a>> {
        let request = view.request()?;
        Some(Switchover {
            at: request.scheduled_at.as_deref()?,
            from: request.leader.as_ref(),
            to: request.candidate.as_ref(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    #[test]
    fn only_a_switchover_with_a_time_is_scheduled() {
        let mut view = GroupView::default();
        for text in ["{}", r#"{"leader":"a"}"#, r#"{"scheduled_at":"2035-06-01T12:30:00+00:00"}"#] {
            view.take_sample("failover", text, 1, 0);
            assert_eq!(GroupReport::of(&view).switchover, None, "{text}");
        }
        let text = r#"{"leader":"a","scheduled_at":"2035-06-01T12:30:00+00:00"}"#;
        view.take_sample("failover", text, 1, 0);
        let (at, from) = ("2035-06-01T12:30:00+00:00", MemberName::new("a"));
        let wanted = Switchover { at, from: Some(&from), to: None };
        assert_eq!(GroupReport::of(&view).switchover, Some(wanted));
    }
}
