//! What `doctor` saw, as one value.
//!
//! Invariant *unknown is not absent*: a member that did not answer has no status, and no row
//! takes that for a status in which nothing is wrong.

use crate::members::Groups;
use crate::world::Chosen;
use node::api::slots::SlotReport;
use serde_json::Value;
use std::collections::BTreeMap;
use topology::dynamic::SHORTEST_TTL_S;
use topology::report::{MemberReport, Role};
use topology::{Dynamic, Group, GroupView, graph};

pub(super) struct Seen {
    pub groups: Groups,
    pub members: Vec<Told>,
    /// Of the whole formation.
    pub formation: Vec<(String, graph::Finding)>,
    /// The slowest of a few reads of the store from here.
    pub store_ms: u64,
    /// Servers of the store that the configuration names; `None`: a name stands for them.
    pub store_servers: Option<usize>,
}

/// A member: its record, and what it said when it was asked.
pub(super) struct Told {
    pub member: Chosen,
    /// `GET /patroni`; else why there is none.
    pub status: Result<Value, String>,
    /// `None`: not known, also where another program than ours runs.
    pub slots: Option<Vec<SlotReport>>,
    /// `GET /config`: the configuration that the member goes by.
    pub config: Option<Value>,
    /// Whether a watchdog can reset its machine.
    pub watchdog: Option<bool>,
    pub clock: Option<Clock>,
    /// The time when it answered, by its own clock.
    pub date_s: Option<u64>,
    /// Of its server; `None`: it was not asked or gave no answer.
    pub settings: Option<BTreeMap<String, String>>,
}

/// How far a member's clock is ahead of ours, between these bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    pub at_least_ms: i64,
    pub at_most_ms: i64,
}

/// The lock is kept while the store takes less than a third of `ttl` for each answer. A few reads
/// do not show the slowest one that there will be: it may take three times as long.
const READS_IN_TTL: u64 = 3 * 3;

impl Clock {
    /// A `Date` header has whole seconds, and the question and its answer took their time.
    pub(super) fn of(date_ms: i64, sent_ms: i64, got_ms: i64) -> Clock {
        Clock { at_least_ms: date_ms - got_ms, at_most_ms: date_ms + 999 - sent_ms }
    }
}

impl Seen {
    pub(super) fn view(&self, group: Group) -> &GroupView {
        &self.groups[&group]
    }

    /// The smallest `ttl` in which renewals fit by what was measured.
    pub(super) fn safe_ttl_s(&self) -> u64 {
        (READS_IN_TTL * self.store_ms).div_ceil(1000).max(SHORTEST_TTL_S)
    }

    /// Groups with their names and settings; a group without a configuration has the defaults.
    pub(super) fn each_group(&self) -> impl Iterator<Item = (String, &GroupView, Dynamic)> {
        self.groups.iter().map(|(group, view)| {
            let config = view.config.as_ref().map(|config| config.value.clone());
            (group_name(*group), view, config.unwrap_or_default())
        })
    }
}

impl Told {
    pub(super) fn name(&self) -> String {
        match self.member.group.0 {
            Some(_) => format!("{}, member {}", group_name(self.member.group), self.member.name),
            None => format!("member {}", self.member.name),
        }
    }

    pub(super) fn report<'a>(&'a self, seen: &'a Seen) -> MemberReport<'a> {
        let view = seen.view(self.member.group);
        MemberReport::of(view, &self.member.name, &self.member.record)
    }

    pub(super) fn leads(&self, seen: &Seen) -> bool {
        Role::of(seen.view(self.member.group), &self.member.name).leads()
    }

    pub(super) fn said(&self, key: &str) -> Option<&Value> {
        self.status.as_ref().ok()?.pointer(key)
    }

    pub(super) fn says(&self, key: &str) -> bool {
        self.said(key).and_then(Value::as_bool) == Some(true)
    }
}

fn group_name(group: Group) -> String {
    match group.0 {
        Some(number) => format!("group {number}"),
        None => "cluster".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_known_between_bounds() {
        // Asked at 10.0 s, answered at 10.4 s; its clock says 10 s.
        let same = Clock::of(10_000, 10_000, 10_400);
        assert_eq!(same, Clock { at_least_ms: -400, at_most_ms: 999 });
        assert_eq!(Clock::of(15_000, 10_000, 10_400).at_least_ms, 4_600);
    }
}
