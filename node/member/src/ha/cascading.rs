//! A cascade follows the leader while no WAL arrives through the member that its tag names.
//!
//! That member may not stream itself, or have no slot or no WAL for this one any more. While
//! the leader is followed the own record is without `replicatefrom`: all that goes by it (slots,
//! synchronous standbys, tables) is then as for any other standby.
//!
//! Beyond Patroni, where a cascade follows its upstream for as long as that has a record.

use super::facts::Facts;
use super::observation::{Memory, Observation};
use standby::source;
use topology::{MemberName, MemberRecord};

impl Facts<'_> {
    /// A cascade that follows the leader meanwhile.
    pub fn is_on_detour(&self) -> bool {
        self.o.memory.detour.is_taken && named(self.o).is_some()
    }
}

impl Memory {
    /// Whether WAL arrives through the upstream, and since when.
    pub fn update_detour(&mut self, seen: &Observation) {
        let Some((upstream, record)) = named(seen) else {
            let has_leader = seen.view().is_some_and(|view| view.leader.is_some());
            if seen.holds_lock() || has_leader && !is_upstream_away(seen) {
                self.detour = Default::default();
            }
            return self.detour.interrupt(seen.now);
        };
        let is_known = seen.is_standby() && seen.job.is_none() && !seen.dynamic.pause;
        if !is_known || Facts::of(seen).leader_source().is_none() {
            return self.detour.interrupt(seen.now);
        }
        let comes = match self.detour.is_taken {
            true => self.could_come(seen, record),
            false => seen.is_streaming(),
        };
        let serves = comes && streams(record);
        self.detour.look(upstream, serves, seen.now, seen.dynamic.loop_wait_ms);
    }

    /// The upstream has the log of this member, as of some loops ago.
    fn could_come(&mut self, seen: &Observation, upstream: &MemberRecord) -> bool {
        let own = seen.server().map(|server| server.lsn);
        let (Some(own), Some(theirs)) = (own, upstream.xlog_location) else { return false };
        self.detour.is_caught_up(own, theirs, seen.now, seen.dynamic.loop_wait_ms)
    }
}

/// The standby that the own tag names. One that lives on an archive is meant to.
fn named(seen: &Observation) -> Option<(&MemberName, &MemberRecord)> {
    let view = seen.view().filter(|_| !seen.holds_lock())?;
    let leader = view.leader_name()?;
    let name = source::upstream(&seen.me.name, &seen.me.tags, view)?;
    let record = view.member(name).filter(|record| !record.tags.nostream())?;
    (name != leader).then_some((name, record))
}

/// The member that the own tag names has no record now.
fn is_upstream_away(seen: &Observation) -> bool {
    let name = seen.me.tags.replicatefrom().map(MemberName::new);
    name.zip(seen.view()).is_some_and(|(name, view)| view.member(&name).is_none())
}

fn streams(record: &MemberRecord) -> bool {
    record.is_running() && record.replication_state.as_deref() == Some("streaming")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::action::{Action, Step};
    use crate::ha::{decide, sample};
    use crate::made_up::TakeSample;
    use serde_json::json;
    use topology::{Seen, Tags};

    fn see(o: &mut Observation, key: &str, value: &str) {
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.take_sample(key, value, 9, 7);
    }

    /// `me` streams from `b`, and `a` leads.
    fn cascade() -> Observation {
        let mut o = sample::follower();
        o.postgres.process = sample::standby_of(Some("b"));
        o.me.tags = Tags(json!({"replicatefrom": "b"}).as_object().expect("a map").clone());
        tell(&mut o, Some("streaming"));
        o
    }

    fn tell(o: &mut Observation, state: Option<&str>) {
        tell_end(o, state, 1_000);
    }

    fn tell_end(o: &mut Observation, state: Option<&str>, end: u64) {
        let record = json!({"conn_url": "postgres://host-b:5432/postgres", "state": "running",
            "role": "replica", "timeline": 2, "replication_state": state, "xlog_location": end});
        see(o, "members/b", &record.to_string());
    }

    /// Looks once a second; the rule at the end.
    fn look(o: &mut Observation, seconds: u64) -> (u16, Step) {
        for _ in 0..seconds {
            o.now = o.now + 1_000;
            (o.memory.lease_renewed, o.memory.compared_at) = (o.now, o.now);
            let mut memory = o.memory.clone();
            memory.update_detour(o);
            o.memory = memory;
        }
        let decision = decide(o);
        (decision.rule, decision.step)
    }

    fn published(o: &Observation) -> Option<String> {
        let tags = o.memory.effective_tags(&o.me.tags);
        tags.replicatefrom().map(str::to_string)
    }

    #[test]
    fn row_937_follows_the_leader_while_the_upstream_does_not_stream() {
        let mut o = cascade();
        assert_eq!(look(&mut o, 100).0, 998);
        for state in [None, Some("in archive recovery")] {
            tell(&mut o, state);
            assert_eq!(look(&mut o, 30).0, 998, "it may be restarting");
            assert_eq!(published(&o).as_deref(), Some("b"));
            let (rule, step) = look(&mut o, 1);
            let to_leader = Step::Do(Action::Follow(Some(sample::following("a"))));
            assert_eq!((rule, step), (937, to_leader));
            assert_eq!(published(&o), None, "the leader keeps a slot for it");
            o.postgres.process = sample::standby_of(Some("a"));
            assert_eq!(look(&mut o, 100).0, 998);
            tell(&mut o, Some("streaming"));
            assert_eq!(look(&mut o, 30).0, 998);
            let (rule, step) = look(&mut o, 1);
            let back = Step::Do(Action::Follow(Some(sample::following("b"))));
            assert_eq!((rule, step), (940, back));
            o.postgres.process = sample::standby_of(Some("b"));
            assert_eq!(look(&mut o, 100).0, 998, "the next one is not doubled");
        }
    }

    /// It was away, and would send nothing to a member that is ahead of it.
    #[test]
    fn an_upstream_that_is_behind_is_waited_for() {
        let mut o = cascade();
        tell(&mut o, None);
        assert_eq!(look(&mut o, 31).0, 937);
        o.postgres.process = sample::standby_of(Some("a"));
        tell_end(&mut o, Some("streaming"), 999);
        assert_eq!(look(&mut o, 600).0, 998);
        tell_end(&mut o, Some("streaming"), 1_000);
        assert_eq!(look(&mut o, 30).0, 998);
        assert_eq!(look(&mut o, 1).0, 940);
    }

    /// Its slot there is lost, or the WAL behind its end is gone.
    #[test]
    fn an_upstream_that_sends_nothing_is_left_too() {
        let mut o = cascade();
        o.postgres.process = sample::standby_of(None);
        o.memory.pointed_to = Some(sample::following("b"));
        look(&mut o, 30);
        assert!(!Facts::of(&o).is_on_detour());
        assert_eq!(look(&mut o, 1).0, 937);
    }

    #[test]
    fn without_a_leader_or_in_a_pause_nothing_is_concluded() {
        let without = |change: &dyn Fn(&mut Observation)| {
            let mut o = cascade();
            tell(&mut o, None);
            change(&mut o);
            look(&mut o, 100);
            o.memory.detour.is_taken
        };
        assert!(without(&|_| {}));
        assert!(!without(&|o| o.dynamic.pause = true));
        assert!(!without(&|o| see(o, "members/a", r#"{"state":"stopped","role":"primary"}"#)));
        assert!(!without(&|o| o.store = Seen::Unknown));
        let archive = r#"{"state":"running","role":"replica","tags":{"nostream":true}}"#;
        assert!(!without(&|o| see(o, "members/b", archive)), "it is meant to");
        assert!(!without(&|o| o.me.tags = Tags::default()));
    }

    #[test]
    fn an_upstream_whose_record_comes_back_is_not_followed_at_once() {
        let mut o = cascade();
        tell(&mut o, None);
        look(&mut o, 31);
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.members.remove(&MemberName::new("b"));
        look(&mut o, 10);
        tell_end(&mut o, None, 500);
        look(&mut o, 1);
        assert!(Facts::of(&o).is_on_detour(), "it does not stream yet");
    }

    #[test]
    fn a_silent_store_ends_no_detour_and_an_upstream_that_leads_does() {
        let mut o = cascade();
        tell(&mut o, None);
        look(&mut o, 31);
        let store = std::mem::replace(&mut o.store, Seen::Unknown);
        look(&mut o, 100);
        o.store = store;
        assert!(Facts::of(&o).is_on_detour());
        see(&mut o, "leader", "b");
        look(&mut o, 1);
        assert!(!o.memory.detour.is_taken);
    }
}
