//! What a leader tells of its slots in `/status`.
//!
//! Members keep slots for each other by these positions, so that any of them
//! can lead without having removed what the others still need. The slot of a
//! member that went away stays for `member_slots_ttl`; the list of such slots is
//! kept by the leader and handed on through `/status`.
//!
//! Absent on purpose: creating, moving and dropping slots (see `slots`).

use crate::slots::{Reader, Slot, permanent};
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet};
use topology::id::slot_name;
use topology::{Dynamic, GroupView, Lsn, MemberName, Millis, Status};

/// When the slots of members were last seen on the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `None`: this member does not lead, and knows nothing of its own.
    seen: Option<BTreeMap<String, Millis>>,
}

impl Retention {
    /// The lock is gone: the next time the list is taken from `/status`.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// Notes which of `slots` are seen now, and returns all that are still kept,
    /// sorted. `before` is the list of the previous leader: a member that takes the
    /// lock keeps each slot of that list for the full time again.
    fn look(
        &mut self,
        slots: BTreeSet<String>,
        before: &[String],
        now: Millis,
        ttl_ms: u64,
    ) -> Vec<String> {
        let inherit = || before.iter().map(|name| (name.clone(), now)).collect();
        let seen = self.seen.get_or_insert_with(inherit);
        seen.extend(slots.into_iter().map(|name| (name, now)));
        seen.retain(|_, at| now.since(*at) < ttl_ms);
        seen.keys().cloned().collect()
    }
}

/// A leader as it reports itself.
pub struct Leader<'a> {
    pub name: &'a MemberName,
    pub optime: Lsn,
    pub slots: &'a [Slot],
    pub dynamic: &'a Dynamic,
    pub readers: ReadersTold,
    /// The leader that a majority is enough for, from this report on.
    pub failsafe_majority: Option<MemberName>,
}

/// What a leader tells of readers of permanent logical slots, beside its own slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadersTold {
    /// Slots that are not made, or resumed, here.
    refused: BTreeMap<String, Reader>,
    /// This counts, and not what the slots here say.
    confirmed: BTreeMap<String, Lsn>,
    /// Logical slots here are copies of another region's: they tell of no reader.
    hides_copies: bool,
}

impl ReadersTold {
    /// Told by a primary, and by the leader of a standby cluster: slots that no member resumes.
    pub fn refusing(refused: BTreeMap<String, Reader>) -> ReadersTold {
        ReadersTold { refused, ..ReadersTold::default() }
    }

    /// The leader of a standby region, which has asked the remote leader.
    pub fn of_standby_region(confirmed: BTreeMap<String, Lsn>) -> ReadersTold {
        ReadersTold { confirmed, hides_copies: true, ..ReadersTold::default() }
    }

    /// A standby that holds the lock: its copies may be behind their readers, and it has
    /// refused none yet.
    pub fn before_opening(readers: BTreeMap<String, Reader>, view: &GroupView) -> ReadersTold {
        let status = view.status.as_ref().map(|status| &status.value);
        let is_refused = |name: &String, reader: &Reader| {
            reader.is_ahead
                || reader.is_guess
                || status.is_some_and(|s| s.refused_slots.contains_key(name))
        };
        let (refused, confirmed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            readers.into_iter().partition(|(name, reader)| is_refused(name, reader));
        let confirmed = confirmed.into_iter().map(|(name, reader)| (name, reader.at));
        ReadersTold { refused, confirmed: confirmed.collect(), hides_copies: false }
    }

    /// They do not wait for the next report.
    pub fn are_news(&self, view: &GroupView) -> bool {
        let status = view.status.as_ref().map(|status| &status.value);
        status.is_some_and(|status| {
            status.refused_slots != self.positions() || status.skipping_slots != self.skipping()
        })
    }

    fn positions(&self) -> IndexMap<String, Lsn> {
        self.refused.iter().map(|(name, reader)| (name.clone(), reader.at)).collect()
    }

    fn skipping(&self) -> Vec<String> {
        let ahead = self.refused.iter().filter(|(_, reader)| reader.is_ahead);
        ahead.map(|(name, _)| name.clone()).collect()
    }
}

impl Leader<'_> {
    /// The value of `/status`.
    pub fn status(&self, view: &GroupView, retention: &mut Retention, now: Millis) -> Status {
        let before = view.status.as_ref().map_or(&[][..], |status| &status.value.retain_slots);
        let ttl_ms = self.dynamic.member_slots_ttl_ms;
        let retain_slots = retention.look(self.slots_of_members(view), before, now, ttl_ms);
        Status {
            optime: self.optime,
            slots: self.positions(),
            retain_slots,
            ended: None,
            ended_timeline: None,
            refused_slots: self.readers.positions(),
            skipping_slots: self.readers.skipping(),
            failsafe_majority: self.failsafe_majority.clone(),
        }
    }

    /// Without a time to keep slots of members, only permanent ones matter.
    fn positions(&self) -> IndexMap<String, Lsn> {
        let permanent = permanent(&self.dynamic.slots);
        let all = self.dynamic.member_slots_ttl_ms > 0;
        let is_linked = |name: &str| self.dynamic.standby_clusters.iter().any(|l| l.slot == name);
        let is_kept = |name: &str| permanent.names(name) || is_linked(name);
        let is_refused = |name: &str| self.readers.refused.contains_key(name);
        let is_hidden = |slot: &&Slot| self.readers.hides_copies && !slot.is_physical();
        let told = self.slots.iter().filter(|s| (all || is_kept(&s.name)) && !is_refused(&s.name));
        let told = told.filter(|slot| !is_hidden(slot));
        let told = told.filter_map(|slot| Some((slot.name.clone(), slot.position()?)));
        let own = all.then(|| (slot_name(self.name.as_str()), self.optime));
        // What comes last counts.
        told.chain(own).chain(self.readers.confirmed.clone()).collect()
    }

    /// Those that are there and of a member that may stream. The leader's own
    /// name stands among them: the others keep a slot for it.
    fn slots_of_members(&self, view: &GroupView) -> BTreeSet<String> {
        let permanent = permanent(&self.dynamic.slots);
        let streams = view.members.iter().filter(|(_, m)| !m.value.tags.nostream());
        let of_members: BTreeSet<String> =
            streams.map(|(name, _)| slot_name(name.as_str())).collect();
        let physical =
            self.slots.iter().filter(|slot| slot.is_physical()).map(|slot| slot.name.clone());
        let own = [slot_name(self.name.as_str())];
        physical
            .filter(|name| of_members.contains(name))
            .chain(own)
            .filter(|name| !permanent.is_physical(name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use crate::slots::Kind;
    use serde_json::{Value, json};

    const TTL: u64 = 1_800_000;

    fn dynamic(raw: Value) -> Dynamic {
        Dynamic::read(&raw).unwrap()
    }

    fn slot(name: &str, physical: bool, at: u64) -> Slot {
        if physical {
            return Slot::physical(name, Lsn(at));
        }
        let kind = Kind::Logical { database: "postgres".into(), plugin: "test_decoding".into() };
        Slot { kind, confirmed_flush: Some(Lsn(at)), ..Slot::physical(name, Lsn(1)) }
    }

    fn view(members: &[&str]) -> GroupView {
        let mut view = GroupView::default();
        for name in members {
            view.take_sample(&format!("members/{name}"), "{}", 1, 1);
        }
        view.take_sample("members/quiet", r#"{"tags":{"nostream":true}}"#, 1, 1);
        view
    }

    /// The slots of a real leader, and what it wrote of them.
    #[test]
    fn a_real_leader_with_permanent_slots_is_told_in_the_same_way() {
        let raw = json!({"slots": {"phys_perm": {"type": "physical"},
            "logical_perm": {"type": "logical", "database": "postgres", "plugin": "test_decoding"}}});
        let text = r#"{"optime":67109776,"slots":{"phys_perm":67109136,"n2":67109776,"n3":67109776,"logical_perm":67109776,"n1":67109776},"retain_slots":["n1","n2","n3"]}"#;
        let slots = [
            slot("phys_perm", true, 67109136),
            slot("n2", true, 67109776),
            slot("n3", true, 67109776),
            slot("logical_perm", false, 67109776),
        ];
        let dynamic = dynamic(raw);
        let me = MemberName::new("n1");
        let leader = Leader {
            name: &me,
            optime: Lsn(67109776),
            slots: &slots,
            dynamic: &dynamic,
            readers: ReadersTold::default(),
            failsafe_majority: None,
        };
        let told = leader.status(&view(&["n1", "n2", "n3"]), &mut Retention::default(), Millis(5));
        assert_eq!(told.write(), text);
        let short = Dynamic { member_slots_ttl_ms: 0, ..dynamic.clone() };
        let leader = Leader { dynamic: &short, ..leader };
        let told = leader.status(&view(&["n1", "n2"]), &mut Retention::default(), Millis(5));
        let text = r#"{"optime":67109776,"slots":{"phys_perm":67109136,"logical_perm":67109776}}"#;
        assert_eq!(told.write(), text);
    }

    /// Its copies are behind their readers, or begin later than they are.
    #[test]
    fn the_leader_of_a_standby_region_tells_of_readers_what_the_remote_leader_says() {
        let raw = json!({"slots": {"a": {"database": "d", "plugin": "p"},
            "b": {"database": "d", "plugin": "p"}}});
        let (me, dynamic) = (MemberName::new("n1"), dynamic(raw));
        let leader = Leader {
            name: &me,
            optime: Lsn(9),
            slots: &[slot("a", false, 5), slot("b", false, 5), slot("n2", true, 7)],
            dynamic: &dynamic,
            readers: ReadersTold::of_standby_region([("a".to_string(), Lsn(6))].into()),
            failsafe_majority: None,
        };
        let told = leader.status(&view(&["n1"]), &mut Retention::default(), Millis(1));
        let told: Vec<_> = told.slots.iter().map(|(name, at)| (name.as_str(), at.0)).collect();
        assert_eq!(told, [("n2", 7), ("n1", 9), ("a", 6)]);
    }

    /// The slots of n2 and n3 are there only after they have come.
    #[test]
    fn only_slots_that_are_there_are_kept_and_a_gone_member_s_for_its_time() {
        let (me, dynamic) = (MemberName::new("n1"), dynamic(json!({})));
        let mut kept = Retention::default();
        let mut tell = |members: &[&str], slots: &[&str], before: &str, now| {
            let slots: Vec<Slot> = slots.iter().map(|name| slot(name, true, 7)).collect();
            let leader = Leader {
                name: &me,
                optime: Lsn(9),
                slots: &slots,
                dynamic: &dynamic,
                readers: ReadersTold::default(),
                failsafe_majority: None,
            };
            let mut view = view(members);
            view.take_sample("status", before, 1, 0);
            leader.status(&view, &mut kept, Millis(now)).retain_slots
        };
        assert_eq!(tell(&["n1", "n2"], &[], "{}", 10), ["n1"]);
        assert_eq!(tell(&["n1", "n2"], &["n2", "quiet", "x"], "{}", 20), ["n1", "n2"]);
        // What stands in the store is not asked for again.
        let other = r#"{"optime":1,"retain_slots":["z"]}"#;
        assert_eq!(tell(&["n1"], &["n2"], other, 20 + TTL - 1), ["n1", "n2"]);
        assert_eq!(tell(&["n1"], &["n2"], other, 20 + TTL), ["n1"]);
    }

    #[test]
    fn a_new_leader_goes_on_with_the_list_and_gives_every_slot_the_full_time() {
        let (me, dynamic) = (MemberName::new("n2"), dynamic(json!({"slots": {"keep": 0}})));
        let slots = [slot("keep", true, 3)];
        let leader = Leader {
            name: &me,
            optime: Lsn(9),
            slots: &slots,
            dynamic: &dynamic,
            readers: ReadersTold::default(),
            failsafe_majority: None,
        };
        let mut view = view(&["n2", "keep"]);
        view.take_sample("status", r#"{"optime":1,"retain_slots":["gone","n1"]}"#, 1, 0);
        let mut kept = Retention::default();
        let at = |kept: &mut Retention, now| leader.status(&view, kept, Millis(now)).retain_slots;
        assert_eq!(at(&mut kept, 5 * TTL), ["gone", "n1", "n2"]);
        assert_eq!(at(&mut kept, 6 * TTL), ["n2"]);
        kept.forget();
        assert_eq!(at(&mut kept, 7 * TTL), ["gone", "n1", "n2"]);
    }
}
