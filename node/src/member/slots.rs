//! What a member keeps true of its server's replication slots after a beat.
//!
//! Which slots are wanted is decided in `standby/src/slots`; here is the order of the
//! steps, one at a time: the rows are asked from the first one on after each answer.
//! A step that fails keeps no other from being done, and is tried again in the next
//! beat. What drops comes first, for it makes room, then what moves, for it frees WAL.
//!
//! Invariants: no step is tried twice in a beat; all steps of a beat together take no
//! longer than a leader's next renewal can wait, and the next beat goes on behind the
//! step that used up the time.

use super::effect::{Answer, Call, Effect};
use super::record::role_of;
use super::{Level, Member};
use crate::ha::Observation;
use crate::ha::observation::ServerRole;
use standby::slots::{
    ClusterKind, Plan, Role, Scene, Situation, Slot, SlotStep, Unknown, step, wanted,
};
use standby::switch::ownership::Ownership;
use std::collections::{BTreeMap, BTreeSet};
use topology::{GroupView, Lsn, Millis, RegionName};

/// One kind of step.
pub struct SlotRow {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    /// The steps that are due, as far as the slots are known.
    due: fn(&Scene) -> Vec<SlotStep>,
    /// What is done, and why.
    pub why: &'static str,
}

/// In the order in which they are done.
pub const SLOTS: &[SlotRow] = &[
    SlotRow {
        id: 1190,
        due: step::lost,
        why: "the WAL that a wanted slot needs is gone: it is dropped and made anew, for nothing \
              can stream from it",
    },
    SlotRow {
        id: 1200,
        due: step::holding_rows,
        why: "a slot keeps dead rows for a standby that streams from another server now: it is \
              dropped and made anew",
    },
    SlotRow {
        id: 1210,
        due: step::unreserved,
        why: "a slot that no standby uses here reserves no WAL: it is dropped and made anew",
    },
    SlotRow {
        id: 1220,
        due: step::of_another_kind,
        why: "a slot has another type, database or plugin than the wanted one: it is dropped",
    },
    SlotRow {
        id: 1230,
        due: step::unknown,
        why: "a slot is not known here and was not used for a `loop_wait`: it is dropped",
    },
    SlotRow {
        id: 1240,
        due: step::advances,
        why: "a slot that nothing streams from here moves with its member, so that no WAL is kept \
              in vain",
    },
    // The last one: it fails where there is no room.
    SlotRow {
        id: 1260,
        due: step::creations,
        why: "a wanted slot is missing: it is created, those of members before permanent ones",
    },
];

/// Steps of one beat.
const STEPS_MAX: usize = 32;

/// The slots of the server, and what is not part of an observation.
#[derive(Clone, Debug, Default)]
pub struct SlotSight {
    pub slots: Vec<Slot>,
    /// The end of a primary's log on disk; what a standby has replayed.
    pub end: Lsn,
    pub other_regions: Vec<RegionName>,
    pub citus_database: Option<String>,
}

/// What is remembered of the slots between two beats.
#[derive(Debug, Default)]
pub(super) struct SlotMemory {
    unknown: Unknown,
    /// Steps of a beat whose time did not suffice: the next one begins behind them.
    tried: BTreeSet<SlotStep>,
    /// Why a step has failed.
    failures: BTreeMap<SlotStep, String>,
    findings: BTreeSet<String>,
    round: Option<Round>,
}

/// The steps of one beat.
#[derive(Debug)]
struct Round {
    sight: SlotSight,
    role: Role,
    tried: BTreeSet<SlotStep>,
    done: usize,
    until: Millis,
    /// The step under way.
    step: Option<SlotStep>,
}

impl Member {
    /// The first step after a beat; `None`: the slots are as they should be.
    pub fn begin_slots(
        &mut self,
        now: Millis,
        seen: &Observation,
        sight: SlotSight,
    ) -> Option<Effect> {
        self.slots.round = None;
        let (view, role) = (seen.view()?, slot_role(seen)?);
        let until = now + self.report_limit_ms(seen, now);
        let tried = std::mem::take(&mut self.slots.tried);
        let round = Round { sight, role, tried, done: 0, until, step: None };
        let plan = self.plan(seen, view, &round, wanted);
        self.tell_findings(&plan);
        self.look_for_unknown(now, seen, view, &round, &plan);
        self.next_step(now, seen, round)
    }

    /// The next step, after the last one was answered.
    pub fn go_on_with_slots(
        &mut self,
        now: Millis,
        seen: &Observation,
        answer: Answer,
    ) -> Option<Effect> {
        let mut round = self.slots.round.take()?;
        let step = round.step.take()?;
        let failure = match answer {
            Answer::Done => None,
            Answer::Failed(why) | Answer::NoAnswer(why) => Some(why),
            other => Some(format!("{other:?}")),
        };
        if failure.is_none() {
            step::apply(&step, &mut round.sight.slots, round.sight.end);
        }
        self.tell_step(&step, failure);
        round.tried.insert(step);
        round.done += 1;
        self.next_step(now, seen, round)
    }

    fn next_step(&mut self, now: Millis, seen: &Observation, mut round: Round) -> Option<Effect> {
        let view = seen.view()?;
        let step = self.due(now, seen, view, &round)?;
        if now >= round.until || round.done == STEPS_MAX {
            self.slots.tried = round.tried;
            return None;
        }
        let limit_ms = Some(round.until.since(now));
        round.step = Some(step.clone());
        self.slots.round = Some(round);
        Some(Effect::Call { call: Call::ChangeSlot(step), limit_ms })
    }

    /// The first step of the first row that has one. While this member is about to open,
    /// its slots stay as they are: it becomes their owner.
    fn due(
        &self,
        now: Millis,
        seen: &Observation,
        view: &GroupView,
        round: &Round,
    ) -> Option<SlotStep> {
        if round.role == Role::Promoting || view.leader.is_none() {
            return None;
        }
        self.plan(seen, view, round, |situation| {
            let plan = wanted(situation);
            let (there, unknown) = (&round.sight.slots, &self.slots.unknown);
            let scene = Scene { situation, plan: &plan, there, unknown, now };
            let mut steps = SLOTS.iter().flat_map(|row| (row.due)(&scene));
            steps.find(|step| !round.tried.contains(step))
        })
    }

    fn plan<T>(
        &self,
        seen: &Observation,
        view: &GroupView,
        round: &Round,
        look: impl FnOnce(&Situation) -> T,
    ) -> T {
        let is_doubtful = matches!(seen.ownership, Ownership::Doubtful(_));
        let cluster = if seen.may_own() { ClusterKind::Primary } else { ClusterKind::Standby };
        // Other regions stream from the owner only; elsewhere such a slot would keep WAL
        // that no server reads.
        let others = |is: bool| if is { round.sight.other_regions.as_slice() } else { &[] };
        let situation = Situation {
            me: &self.name,
            nofailover: seen.me.tags.nofailover(),
            view,
            dynamic: &self.dynamic,
            role: round.role,
            cluster: (!is_doubtful).then_some(cluster),
            end: round.sight.end,
            regions: others(seen.may_own()),
            doubtful_regions: others(is_doubtful),
            heard: &self.heard,
            citus_database: round.sight.citus_database.as_deref(),
        };
        look(&situation)
    }
}

impl Member {
    fn look_for_unknown(
        &mut self,
        now: Millis,
        seen: &Observation,
        view: &GroupView,
        round: &Round,
        plan: &Plan,
    ) {
        let names = self.plan(seen, view, round, |situation| {
            let (there, unknown) = (&round.sight.slots, &self.slots.unknown);
            step::unknown_names(&Scene { situation, plan, there, unknown, now })
        });
        for name in self.slots.unknown.look(names, now) {
            let text = format!(
                "the slot `{name}` is not known here and nothing uses it: it will be dropped. To \
                 keep it, add {{\"name\": \"{name}\"}} to `ignore_slots` with edit-config"
            );
            self.note(Level::Warn, text);
        }
    }

    /// What is wrong with the definitions, each once.
    fn tell_findings(&mut self, plan: &Plan) {
        for finding in &plan.findings {
            if !self.slots.findings.contains(finding) {
                self.note(Level::Error, finding.clone());
            }
        }
        self.slots.findings = plan.findings.iter().cloned().collect();
    }

    /// A failure is told when it is new, or another one.
    fn tell_step(&mut self, step: &SlotStep, failure: Option<String>) {
        let key = step.without_position();
        let Some(why) = failure else {
            self.slots.failures.remove(&key);
            if matches!(step, SlotStep::Drop { .. }) {
                self.note(Level::Info, step.to_string());
            }
            return;
        };
        if self.slots.failures.get(&key) != Some(&why) {
            self.note(Level::Warn, format!("{step}: {why}"));
            self.slots.failures.insert(key, why);
        }
    }
}

/// What the slots go by: `None` while the server's role is not known.
fn slot_role(seen: &Observation) -> Option<Role> {
    Some(match role_of(seen)? {
        ServerRole::Primary => Role::Primary,
        ServerRole::Standby { .. } if !seen.holds_lock() => Role::Replica,
        ServerRole::Standby { .. } if seen.may_own() => Role::Promoting,
        ServerRole::Standby { .. } => Role::StandbyLeader,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::sample;
    use topology::Seen;

    /// The leader `me` of the sample with b and c, and these slots.
    fn leader(slots: &[(&str, bool)]) -> (Member, Observation, SlotSight) {
        let mut seen = sample::leader();
        let Seen::Known(view) = &mut seen.store else { panic!("the store is known") };
        view.members.clear();
        for name in ["me", "b", "c"] {
            view.take_sample(&format!("members/{name}"), "{}", 1, 1);
        }
        view.take_sample("config", r#"{"ttl":30}"#, 1, 0);
        let mut member = Member::new("me".into(), 20, seen.now);
        member.dynamic = seen.dynamic.clone();
        let there = slots
            .iter()
            .map(|(name, active)| Slot { active: *active, ..Slot::physical(name, Lsn(10)) });
        let sight = SlotSight { slots: there.collect(), end: Lsn(99), ..SlotSight::default() };
        (member, seen, sight)
    }

    fn step_of(effect: &Option<Effect>) -> Option<String> {
        match effect {
            Some(Effect::Call { call: Call::ChangeSlot(step), limit_ms: Some(1..) }) => {
                Some(step.to_string())
            }
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn warnings(member: &mut Member) -> Vec<String> {
        let local = member.take_local().into_iter();
        let text = |local| match local {
            super::super::Local::Note(Level::Warn, text) => Some(text),
            _ => None,
        };
        local.filter_map(text).collect()
    }

    #[test]
    fn ids_rise() {
        assert!(SLOTS.is_sorted_by(|a, b| a.id < b.id));
    }

    #[test]
    fn slots_are_kept_one_step_at_a_time_within_the_beat() {
        let (mut member, seen, sight) = leader(&[]);
        let mut now = seen.now;
        let first = member.begin_slots(now, &seen, sight.clone());
        assert_eq!(step_of(&first).as_deref(), Some("creating the slot `b`"));
        now = now + 10;
        let second = member.go_on_with_slots(now, &seen, Answer::Done);
        assert_eq!(step_of(&second).as_deref(), Some("creating the slot `c`"));
        assert!(member.go_on_with_slots(now, &seen, Answer::Done).is_none());
        // A step that took all of the time: the next beat begins behind it.
        member.begin_slots(now, &seen, sight.clone());
        now = now + 60_000;
        let silence = Answer::NoAnswer("no answer".into());
        assert!(member.go_on_with_slots(now, &seen, silence).is_none());
        let seen = Observation { now, ..sample_at(&seen, now) };
        let next = member.begin_slots(now, &seen, sight.clone());
        assert_eq!(step_of(&next).as_deref(), Some("creating the slot `c`"));
        assert!(member.go_on_with_slots(now, &seen, Answer::Done).is_none());
        let again = member.begin_slots(now, &seen, sight);
        assert_eq!(step_of(&again).as_deref(), Some("creating the slot `b`"), "and tried again");
    }

    /// The same with a lock that was renewed at this moment.
    fn sample_at(seen: &Observation, now: Millis) -> Observation {
        let mut later = seen.clone();
        later.lock = crate::ha::observation::Lock::Mine { renewed: now, deadline: now + 30_000 };
        later
    }

    #[test]
    fn no_step_is_tried_twice_in_a_beat() {
        let (mut member, seen, sight) = leader(&[("b", true)]);
        for _ in 0..2 {
            let first = member.begin_slots(seen.now, &seen, sight.clone());
            assert_eq!(step_of(&first).as_deref(), Some("creating the slot `c`"));
            let full = Answer::Failed("all slots are in use".into());
            assert!(member.go_on_with_slots(seen.now, &seen, full).is_none());
        }
        let told = warnings(&mut member);
        assert_eq!(told, ["creating the slot `c`: all slots are in use"], "told once");
        member.begin_slots(seen.now, &seen, sight.clone());
        member.go_on_with_slots(seen.now, &seen, Answer::Failed("another reason".into()));
        assert_eq!(warnings(&mut member).len(), 1);
    }

    #[test]
    fn a_slot_that_is_not_known_is_named_before_it_is_dropped() {
        let (mut member, mut seen, sight) = leader(&[("b", true), ("c", true), ("old", false)]);
        assert!(member.begin_slots(seen.now, &seen, sight.clone()).is_none());
        let told = warnings(&mut member);
        assert!(told[0].contains("add {\"name\": \"old\"} to `ignore_slots`"), "{told:?}");
        seen = sample_at(&seen, seen.now + member.dynamic.loop_wait_ms);
        seen.now = seen.now + member.dynamic.loop_wait_ms;
        let step = member.begin_slots(seen.now, &seen, sight);
        assert!(step_of(&step).is_some_and(|step| step.starts_with("dropping the slot `old`")));
    }

    #[test]
    fn while_a_member_opens_or_none_leads_no_slot_is_changed() {
        let (mut member, mut seen, sight) = leader(&[]);
        seen.postgres.process = sample::standby_of(Some("b"));
        assert!(member.begin_slots(seen.now, &seen, sight.clone()).is_none(), "it opens");
        seen.lock = crate::ha::observation::Lock::Other("b".into());
        let step = member.begin_slots(seen.now, &seen, sight.clone());
        assert_eq!(step_of(&step).as_deref(), Some("creating the slot `b`"));
        let Seen::Known(view) = &mut seen.store else { panic!("the store is known") };
        view.leader = None;
        assert!(member.begin_slots(seen.now, &seen, sight).is_none(), "none leads");
    }

    #[test]
    fn every_row_comes_to_a_step() {
        let mut bad = vec![
            Slot { is_lost: true, ..Slot::physical("b", Lsn(10)) },
            Slot { holds_rows: true, ..Slot::physical("c", Lsn(10)) },
            Slot { restart_lsn: None, ..Slot::physical("d", Lsn(10)) },
            Slot::physical("e", Lsn(10)),
            Slot::physical("old", Lsn(10)),
        ];
        let kind = standby::slots::Kind::Logical { database: "d".into(), plugin: "p".into() };
        bad.push(Slot { kind, ..Slot::physical("f", Lsn(10)) });
        let (mut member, mut seen, sight) = leader(&[]);
        let Seen::Known(view) = &mut seen.store else { panic!("the store is known") };
        for name in ["c", "d", "e", "f", "g"] {
            let record = r#"{"tags":{"replicatefrom":"b"},"xlog_location":50}"#;
            view.take_sample(&format!("members/{name}"), record, 1, 1);
        }
        member.slots.unknown.look(["old".to_string()].into(), seen.now - 60_000);
        let sight = SlotSight { slots: bad, ..sight };
        let mut effect = member.begin_slots(seen.now, &seen, sight);
        let mut steps = Vec::new();
        while let Some(step) = step_of(&effect) {
            steps.push(step);
            effect = member.go_on_with_slots(seen.now, &seen, Answer::Done);
        }
        let begin = [
            "dropping the slot `b`: the WAL",
            "dropping the slot `c`: it keeps dead rows",
            "dropping the slot `d`: it reserves no WAL",
            "dropping the slot `f`: its type",
            "dropping the slot `old`: it is not known",
            "advancing the slot `e`",
            "creating the slot `b`",
        ];
        assert!(steps.iter().zip(begin).all(|(step, begin)| step.starts_with(begin)), "{steps:?}");
        assert_eq!(steps.len(), begin.len() + 4, "c, d, f and g: {steps:?}");
        assert_eq!(SLOTS.len(), 7);
    }
}
