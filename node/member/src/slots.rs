//! What a member keeps true of its server's replication slots after a beat.
//!
//! Which slots are wanted is decided in `standby/src/slots`; here is the order of the
//! steps, one at a time: the rows are asked from the first one on after each answer.
//! A step that fails keeps no other from being done, and is tried again in the next
//! beat. What drops comes first, for it makes room, then what moves, for it frees WAL.
//!
//! Invariants: no step is tried twice in a beat; all steps of a beat together take no
//! longer than a leader's next renewal can wait, and the next beat goes on behind the
//! step that used up the time. While the store is silent, slots are kept only as long as
//! failsafe mode is active, by the group as it was last seen: none is dropped then.

use super::effect::{Answer, Call, Effect};
use super::logical_slots::{LogicalMemory, Moment, copies_region};
use super::record::role_of;
use super::slot_sight::SlotSight;
use super::{Level, Member};
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::ha::failsafe::inject;
use crate::ha::observation::ServerRole;
use standby::slots::{
    ClusterKind, Plan, Role, Scene, Situation, SlotStep, Unknown, logical, step, wanted,
};
use standby::switch::ownership::Ownership;
use std::collections::{BTreeMap, BTreeSet};
use topology::{GroupView, Lsn, Millis};

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
        id: 1180,
        due: logical::skipping,
        why: "the reader of a logical slot has confirmed more than the log of a new primary had: the \
              slot is dropped on all members, for it would skip what was written instead",
    },
    SlotRow {
        id: 1185,
        due: logical::not_synced,
        why: "PostgreSQL 17: a failover slot of a standby that is no copy keeps the server from \
              copying any slot: it is dropped",
    },
    SlotRow {
        id: 1187,
        due: logical::gone,
        why: "a standby region, before PostgreSQL 17: the remote leader does not have the slot that \
              this is a copy of: the copy is dropped, for its reader may be past it",
    },
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
        why: "a slot of another type, database or plugin is wanted under this name: it is dropped",
    },
    SlotRow {
        id: 1230,
        due: step::unknown,
        why: "no member and no entry of `slots` needs this slot, and it was unused for a `loop_wait`: \
              it is dropped",
    },
    SlotRow {
        id: 1240,
        due: step::advances,
        why: "no receiver streams from a slot here: it is advanced to what its reader has confirmed \
              elsewhere, so that no WAL is kept in vain",
    },
    // The last one: it fails where there is no room.
    SlotRow {
        id: 1260,
        due: step::creations,
        why: "a wanted slot is missing: it is created, those of members before permanent ones",
    },
    SlotRow {
        id: 1270,
        due: logical::creations,
        why: "a permanent logical slot is new, or was dropped here by a person: the primary makes it, \
              beside the beats",
    },
    SlotRow {
        id: 1280,
        due: logical::failover,
        why: "PostgreSQL 17: a permanent logical slot was made without `failover`: it is set once \
              the slot is not used",
    },
    SlotRow {
        id: 1285,
        due: logical::own,
        why: "PostgreSQL 16: the leader has a permanent logical slot that is missing here: the standby \
              makes one of its own, beside the beats",
    },
    SlotRow {
        id: 1290,
        due: logical::advances,
        why: "a standby moves its copy of a logical slot to what the reader has confirmed on the \
              leader, beside the beats",
    },
    SlotRow {
        id: 1300,
        due: logical::leader_asked,
        why: "a standby that keeps copies of logical slots compares them with the leader's",
    },
];

/// Steps of one beat.
const STEPS_MAX: usize = 32;

/// What is remembered of the slots between two beats.
#[derive(Debug, Default)]
pub(super) struct SlotMemory {
    unknown: Unknown,
    /// Steps of a beat whose time did not suffice: the next one begins behind them.
    tried: BTreeSet<SlotStep>,
    /// Why a step has failed.
    failures: BTreeMap<SlotStep, String>,
    findings: BTreeSet<String>,
    /// The group when it was last seen with a leader, with `failsafe_mode`.
    last_view: Option<GroupView>,
    /// Where the WAL of this standby began at the last look.
    wal_from: Option<Lsn>,
    pub logical: LogicalMemory,
    round: Option<Round>,
}

/// The steps of one beat.
#[derive(Debug)]
struct Round {
    sight: SlotSight,
    role: Role,
    /// What stands for the group while the store is silent.
    in_failsafe: Option<GroupView>,
    tried: BTreeSet<SlotStep>,
    done: usize,
    until: Millis,
    /// The step under way.
    step: Option<SlotStep>,
}

impl Round {
    fn moment<'a>(&'a self, now: Millis, seen: &'a Observation, view: &'a GroupView) -> Moment<'a> {
        Moment { now, seen, view, role: self.role, sight: &self.sight }
    }
}

impl Member {
    /// The first step after a beat; `None`: the slots are as they should be.
    pub fn begin_slots(
        &mut self,
        now: Millis,
        seen: &Observation,
        mut sight: SlotSight,
    ) -> Option<Effect> {
        self.slots.round = None;
        sight.take_listing(&mut self.slots.wal_from);
        sight.find_lost();
        self.slot_work_ended(&sight.ended, now);
        self.note_group(seen);
        let role = slot_role(seen).filter(|_| seen.job.is_none())?;
        let until = now + self.report_limit_ms(seen, now);
        let tried = std::mem::take(&mut self.slots.tried);
        let in_failsafe = self.group_in_failsafe(seen);
        let round = Round { sight, role, in_failsafe, tried, done: 0, until, step: None };
        let view = group(seen, &round)?;
        let mut plan = self.plan(seen, view, &round, wanted);
        self.note_logical(&round.moment(now, seen, view), &plan);
        let found = self.scene(now, seen, view, &round, logical::findings);
        plan.findings.extend(found);
        self.tell_findings(&plan);
        self.look_for_unknown(now, seen, view, &round);
        self.next_step(now, seen, round)
    }

    /// Positions that members told are no news once their records can be read.
    fn note_group(&mut self, seen: &Observation) {
        self.note_readers(seen);
        let Some(view) = seen.view() else { return };
        self.heard.clear();
        match self.dynamic.failsafe_mode {
            true if view.leader.is_some() => self.slots.last_view = Some(view.clone()),
            true => {}
            false => self.slots.last_view = None,
        }
    }

    /// What has changed since it was seen is not known: without `/config` none is dropped.
    fn group_in_failsafe(&self, seen: &Observation) -> Option<GroupView> {
        let promise = seen.failsafe.promise.as_ref();
        let is_active = seen.failsafe.proof.is_some() || promise.is_some();
        let is_silent = seen.view().is_none();
        let mut view = self.slots.last_view.clone().filter(|_| is_active && is_silent)?;
        if let Some(promise) = promise {
            view.leader = None;
            inject(&mut view, promise);
        }
        (view.config, view.empty_config) = (None, None);
        Some(view)
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
        match step.beside() {
            // Its end is told later.
            Some(_) if failure.is_none() => self.slots.logical.begun(&step, now),
            _ => self.tell_step(&step, failure),
        }
        round.tried.insert(step.without_position());
        round.done += 1;
        self.next_step(now, seen, round)
    }

    fn next_step(&mut self, now: Millis, seen: &Observation, mut round: Round) -> Option<Effect> {
        let step = self.due(now, seen, group(seen, &round)?, &round)?;
        if now >= round.until || round.done == STEPS_MAX {
            self.slots.tried = round.tried;
            return None;
        }
        let limit_ms = Some(round.until.since(now));
        round.step = Some(step.clone());
        self.slots.round = Some(round);
        let call = match step.beside() {
            None => Call::ChangeSlot(step),
            Some(_) => {
                let asks = matches!(step, SlotStep::AskLeader | SlotStep::CreateOnStandby { .. });
                let leader = Facts::of(seen).slots_source().filter(|_| asks);
                Call::BeginSlotWork { step, leader: leader.map(Box::new) }
            }
        };
        Some(Effect::Call { call, limit_ms })
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
        self.scene(now, seen, view, round, |scene| {
            let mut steps = SLOTS.iter().flat_map(|row| (row.due)(scene));
            let wait_ms = self.dynamic.loop_wait_ms;
            steps.find(|step| {
                let is_tried = round.tried.contains(&step.without_position());
                !is_tried && !self.slots.logical.rests(step, now, wait_ms)
            })
        })
    }

    fn scene<T>(
        &self,
        now: Millis,
        seen: &Observation,
        view: &GroupView,
        round: &Round,
        look: impl FnOnce(&Scene) -> T,
    ) -> T {
        self.plan(seen, view, round, |situation| {
            let plan = &wanted(situation);
            let logical = &self.slots.logical.sight(&round.moment(now, seen, view), &self.dynamic);
            let (there, unknown) = (&round.sight.slots[..], &self.slots.unknown);
            look(&Scene { situation, plan, logical, there, unknown, now })
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
        let is_standby = matches!(round.role, Role::StandbyLeader | Role::Replica);
        let copies_region = is_standby && copies_region(seen, round.sight.major);
        let situation = Situation {
            copies_region,
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
            citus_databases: &round.sight.citus_databases,
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
    ) {
        let names = self.scene(now, seen, view, round, step::unknown_names);
        for name in self.slots.unknown.look(names, now) {
            let text = format!(
                "no member and no entry of `slots` needs the slot `{name}`: it will be dropped if it \
                 stays unused. To keep it, add {{\"name\": \"{name}\"}} to `ignore_slots` with edit-config"
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
    pub(super) fn tell_step(&mut self, step: &SlotStep, failure: Option<String>) {
        let key = step.without_position();
        let Some(why) = failure else {
            self.slots.failures.remove(&key);
            let is_told = matches!(
                step,
                SlotStep::Drop { .. }
                    | SlotStep::CreateLogical { .. }
                    | SlotStep::CreateOnStandby { .. }
                    | SlotStep::SetFailover { .. }
            );
            if is_told {
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

fn group<'a>(seen: &'a Observation, round: &'a Round) -> Option<&'a GroupView> {
    seen.view().or(round.in_failsafe.as_ref())
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
#[path = "slots_tests.rs"]
mod tests;
