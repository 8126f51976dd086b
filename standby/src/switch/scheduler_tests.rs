//! The agent of region `a` with a schedule in the stores of both regions.

use super::*;
use crate::made_up::TakeSample;
use crate::switch::preflight::{Probe, STANDBY_SETTINGS};
use topology::schedule::{Outcome, Schedule};

const DUE: u64 = 3_600_000;

fn schedule() -> Schedule {
    Schedule::once("s", "a".into(), "b".into(), DUE)
}

/// The schedule lies in both stores, and it is so early.
fn rig(unix_ms: u64) -> Rig {
    let mut rig = Rig::settled();
    for site in [&mut rig.own, &mut rig.other] {
        site.topology.policy = Some(versioned(policy(2), None));
        for view in site.groups.values_mut() {
            view.take_sample("initialize", SYSTEM, 1, 0);
        }
        site.topology.schedules.insert("s".into(), schedule());
    }
    rig.own.topology.peers.insert("b".into(), observed_region(&"b".into(), &rig.other));
    rig.sight.unix_ms = unix_ms;
    rig.heard = rig.sight.now;
    rig.look_in(5);
    rig
}

fn calls(effects: &[Effect]) -> Vec<(CallId, Call)> {
    let call = |effect: &Effect| match effect {
        Effect::Call { id, call, .. } => Some((*id, call.clone())),
        _ => None,
    };
    effects.iter().filter_map(call).collect()
}

fn probe(is_standby: bool) -> Probe {
    Probe {
        in_recovery: is_standby,
        version: 150_004,
        system_id: SYSTEM.into(),
        settings: STANDBY_SETTINGS.iter().map(|name| (name.to_string(), 100)).collect(),
        wal_log_hints: true,
        is_streaming: is_standby,
        ..Probe::default()
    }
}

impl Rig {
    /// Answers the questions of a preflight; what the last answer brings.
    fn examine(&mut self, effects: &[Effect], is_streaming: bool) -> Vec<Effect> {
        let mut open = calls(effects);
        let mut last = Vec::new();
        assert_eq!(open.len(), 2, "{effects:?}");
        while let Some((id, call)) = open.pop() {
            let answer = match call {
                Call::Read(region) => {
                    let site = if region == "a".into() { &self.own } else { &self.other };
                    Answer::Read(Arc::new(site.clone()))
                }
                Call::Probe(target) if target.host == "a" => Answer::Probed(probe(false).into()),
                Call::Probe(_) => Answer::Probed(Box::new(Probe { is_streaming, ..probe(true) })),
                other => panic!("no question: {other:?}"),
            };
            last = self.answer(id, answer);
            let questions = calls(&last);
            open.extend(questions.into_iter().filter(|(_, c)| !matches!(c, Call::Write(_))));
        }
        last
    }
}

fn concluded(effects: &[Effect]) -> (CallId, Outcome, Option<Phase>) {
    let (id, call) = only(effects);
    match written(call) {
        AgentWrite::Conclude { id: schedule, outcome, journal, .. } => {
            assert_eq!(schedule, "s");
            (id, outcome.clone(), journal.as_ref().map(|journal| journal.phase))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_move_begins_when_it_is_due_and_its_last_preflight_finds_nothing() {
    let mut rig = rig(DUE - 1_005);
    let effects = rig.wake();
    assert_eq!(rig.examine(&effects, false), [], "a check before the time");
    assert!(rig.logs.iter().any(|l| l.contains("hindered") && l.contains("does not stream")));
    rig.heard = rig.sight.now + 1_000;
    rig.look_in(1_000);
    let effects = rig.wake();
    let effects = rig.examine(&effects, true);
    let (id, outcome, phase) = concluded(&effects);
    assert!(matches!(outcome, Outcome::Started(_)), "{outcome:?}");
    assert_eq!(phase, Some(Phase::Requested));
    let over = schedule().concluded(outcome, None, DUE);
    rig.own.topology.schedules.insert("s".into(), over.clone());
    rig.look_in(5);
    let effects = rig.answer(id, Answer::Written);
    let copy = AgentWrite::Schedule(Box::new(over));
    assert_eq!(written(only(&effects).1), &copy, "the other store learns it at once");
}

#[test]
fn a_move_that_is_hindered_when_it_is_due_is_skipped_with_the_finding() {
    let mut rig = rig(DUE);
    let effects = rig.wake();
    let effects = rig.examine(&effects, false);
    let (id, outcome, phase) = concluded(&effects);
    let Outcome::Skipped(why) = outcome else { panic!("{outcome:?}") };
    assert_eq!((why.contains("does not stream"), phase), (true, None), "{why}");
    assert_eq!(rig.answer(id, Answer::Failed("no way".into())), []);
    assert!(rig.logs.iter().any(|line| line.contains("no way")), "{:?}", rig.logs);
    rig.look_in(999);
    assert_eq!(calls(&rig.wake()), []);
    rig.look_in(1);
    concluded(&rig.wake());
}

#[test]
fn another_move_that_is_under_way_is_a_reason_to_skip() {
    let mut rig = rig(DUE);
    rig.own.topology.switch = Some(journal(1, "a", "b", Phase::Stop));
    rig.other.topology.switch = Some(journal(1, "a", "b", Phase::Stop));
    rig.look_in(5);
    let effects = rig.wake();
    let reads: Vec<_> =
        calls(&effects).into_iter().filter(|(_, c)| matches!(c, Call::Read(_))).collect();
    let questions =
        reads.iter().map(|(id, call)| Effect::Call { id: *id, within_ms: 1, call: call.clone() });
    let questions: Vec<Effect> = questions.collect();
    let (_, outcome, _) = concluded(&rig.examine(&questions[questions.len() - 2..], true));
    assert!(outcome.to_string().contains("a move from a to b is running"), "{outcome}");
}

/// The clock of people was set back between the last preflight and the write.
#[test]
fn a_preflight_that_is_old_decides_nothing() {
    let mut rig = rig(DUE);
    let effects = rig.wake();
    let (id, _, _) = concluded(&rig.examine(&effects, true));
    rig.answer(id, Answer::Conflict);
    rig.sight.unix_ms = DUE - 5_000;
    rig.look_in(1_000);
    assert_eq!(calls(&rig.wake()), [], "it waits again");
    rig.heard = rig.sight.now + 60_000;
    rig.look_in(60_000);
    assert_eq!(calls(&rig.wake()).len(), 2, "both sides are examined anew");
}

#[test]
fn a_copy_that_cannot_be_written_hinders_nothing() {
    let mut rig = rig(DUE - 60_000);
    rig.other.topology.schedules.clear();
    rig.look_in(5);
    let effects = rig.wake();
    let (copy, questions) = calls(&effects)
        .into_iter()
        .partition::<Vec<_>, _>(|(_, call)| matches!(call, Call::Write(_)));
    assert_eq!((copy.len(), questions.len()), (1, 2));
    assert_eq!(rig.answer(copy[0].0, Answer::Failed("no way".into())), []);
}

#[test]
fn what_another_store_has_newer_is_taken_before_anything_is_decided() {
    let mut rig = rig(DUE);
    let cancelled = schedule().concluded(Outcome::Cancelled("by hand".into()), None, DUE);
    rig.other.topology.schedules.insert("s".into(), cancelled.clone());
    rig.look_in(5);
    let effects = rig.wake();
    let (id, call) = only(&effects);
    let Call::Write(write) = call else { panic!("{call:?}") };
    assert_eq!(
        (write.region.as_str(), &write.write),
        ("a", &AgentWrite::Schedule(cancelled.clone().into()))
    );
    rig.own.topology.schedules.insert("s".into(), cancelled);
    rig.look_in(5);
    assert_eq!(rig.answer(id, Answer::Written), []);
}
