//! What another daemon tells the coordinator's leader: Patroni's `POST /citus`.
//!
//! An event is believed only where the store says the same: the sender must be the leader
//! of its group. It is discarded without a word otherwise, as Patroni does.

use std::collections::BTreeMap;
use topology::{Group, GroupView, MemberName};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A worker's leader is about to stop: its writers are to be held.
    BeforeDemote,
    /// A worker's new leader is about to be promoted.
    BeforePromote,
    /// A worker's leader runs as primary.
    AfterPromote,
}

impl EventKind {
    pub const fn text(self) -> &'static str {
        match self {
            EventKind::BeforeDemote => "before_demote",
            EventKind::BeforePromote => "before_promote",
            EventKind::AfterPromote => "after_promote",
        }
    }

    pub fn parse(text: &str) -> Option<EventKind> {
        use EventKind::*;
        [BeforeDemote, BeforePromote, AfterPromote].into_iter().find(|kind| kind.text() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub group: u32,
    pub leader: MemberName,
    /// How long the sender needs the pause at most.
    pub timeout_ms: u64,
    pub cooldown_ms: Option<u64>,
}

impl Event {
    /// No event holds writers for longer than this cluster's own settings would.
    pub fn within(&self, ttl_ms: u64, retry_timeout_ms: u64) -> Event {
        let timeout_ms = self.timeout_ms.min(ttl_ms);
        let cooldown_ms = self.cooldown_ms.map(|ms| ms.min(retry_timeout_ms));
        Event { timeout_ms, cooldown_ms, ..self.clone() }
    }

    /// The store names the sender as the leader of its group, with its address.
    pub fn is_believed(&self, views: &BTreeMap<Group, GroupView>) -> bool {
        let view = views.get(&Group(Some(self.group))).filter(|_| self.group != 0);
        view.is_some_and(|view| {
            let record = view.leader_record();
            view.leader_name() == Some(&self.leader)
                && record.is_some_and(|record| record.conn_url.is_some())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    fn view(record: &str) -> BTreeMap<Group, GroupView> {
        let mut view = GroupView::default();
        view.take_sample("leader", "w1", 1, 7);
        view.take_sample("members/w1", record, 1, 7);
        BTreeMap::from([(Group(Some(1)), view)])
    }

    fn event(group: u32, leader: &str) -> Event {
        let kind = EventKind::BeforeDemote;
        Event { kind, group, leader: leader.into(), timeout_ms: 1, cooldown_ms: None }
    }

    #[test]
    fn only_the_leader_that_the_store_names_is_believed() {
        let views = view(r#"{"conn_url":"postgres://h:1/postgres"}"#);
        assert!(event(1, "w1").is_believed(&views));
        assert!(!event(1, "w2").is_believed(&views), "another member");
        assert!(!event(2, "w1").is_believed(&views), "another group");
        assert!(!event(0, "w1").is_believed(&views), "the coordinator's own group");
        assert!(!event(1, "w1").is_believed(&view("{}")), "without an address");
    }

    #[test]
    fn an_event_holds_writers_for_a_ttl_at_most() {
        let asked = Event { timeout_ms: 3_600_000, cooldown_ms: Some(60_000), ..event(1, "w1") };
        let taken = asked.within(30_000, 10_000);
        assert_eq!((taken.timeout_ms, taken.cooldown_ms), (30_000, Some(10_000)));
        let short = event(1, "w1").within(30_000, 10_000);
        assert_eq!((short.timeout_ms, short.cooldown_ms), (1, None));
    }

    #[test]
    fn kinds_have_patroni_s_names() {
        use EventKind::*;
        for (kind, name) in [
            (BeforeDemote, "before_demote"),
            (BeforePromote, "before_promote"),
            (AfterPromote, "after_promote"),
        ] {
            assert_eq!((kind.text(), EventKind::parse(name)), (name, Some(kind)));
        }
        assert_eq!(EventKind::parse("before_lunch"), None);
    }
}
