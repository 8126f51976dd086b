//! Tests of the table of a schedule, and of its shape.

use super::*;
use crate::switch::register::tests::certificate;
use topology::schedule::CronLine;

const DUE: u64 = 100 * 24 * 60 * MINUTE_MS;

fn schedule() -> Schedule {
    Schedule { epoch: 3, ..Schedule::once("b-1", "a".into(), "b".into(), DUE) }
}

fn weekly() -> Schedule {
    let cron = CronLine { line: "0 3 * * 0".into(), timezone: "UTC".into() };
    Schedule { cron: Some(cron), ..schedule() }
}

/// Region `a` owns the formation at epoch 3, and the schedule is due in `DUE - now_ms`.
fn facts(now_ms: u64) -> ScheduleFacts {
    let in_force = Some(certificate(3, "a"));
    ScheduleFacts { me: "a".into(), in_force, now_ms, ..Default::default() }
}

fn checked(now_ms: u64, check: Check, errors: &[&str]) -> ScheduleFacts {
    let errors = errors.iter().map(|e| e.to_string()).collect();
    ScheduleFacts { checked: Some((check, errors)), ..facts(now_ms) }
}

fn skipped(answer: (u16, Next)) -> (u16, String) {
    match answer {
        (row, Next::Conclude(Outcome::Skipped(why) | Outcome::Cancelled(why))) => (row, why),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ids_rise_and_the_last_row_always_matches() {
    assert!(SCHEDULE.windows(2).all(|pair| pair[0].id < pair[1].id));
    let last = SCHEDULE.last().expect("rows");
    assert!((last.when)(&schedule(), &ScheduleFacts::default()));
}

#[test]
fn both_sides_are_examined_fifteen_minutes_one_minute_and_at_last_when_it_is_due() {
    let at = |minutes: u64| DUE - minutes * MINUTE_MS;
    assert_eq!(next(&schedule(), &facts(at(16))), (1940, Next::Wait));
    assert_eq!(next(&schedule(), &facts(at(15))), (1980, Next::Examine(Check::Early)));
    let early = |now| checked(now, Check::Early, &["x"]);
    assert_eq!(next(&schedule(), &early(at(14))), (1999, Next::Wait), "only logged");
    assert_eq!(next(&schedule(), &early(at(1))), (1970, Next::Examine(Check::Soon)));
    let soon = |now| checked(now, Check::Soon, &["x"]);
    assert_eq!(next(&schedule(), &soon(DUE - 1)), (1999, Next::Wait));
    assert_eq!(next(&schedule(), &soon(DUE)), (1950, Next::Examine(Check::Due)));
    let examining = ScheduleFacts { is_examining: true, ..soon(DUE) };
    assert_eq!(next(&schedule(), &examining), (1945, Next::Wait));
    assert_eq!(next(&schedule(), &checked(DUE, Check::Due, &[])), (1960, Next::Begin));
}

#[test]
fn what_the_last_preflight_finds_is_the_reason_to_skip() {
    let (row, why) = skipped(next(&schedule(), &checked(DUE, Check::Due, &["b: lag", "b: x"])));
    assert_eq!((row, why.as_str()), (1955, "preflight: b: lag; b: x"));
}

#[test]
fn what_is_later_than_its_window_is_skipped_and_never_begun() {
    let end = DUE + 10 * MINUTE_MS;
    assert_eq!(next(&schedule(), &checked(end, Check::Due, &[])), (1960, Next::Begin));
    let (row, why) = skipped(next(&schedule(), &checked(end + 1_000, Check::Due, &[])));
    assert_eq!((row, why.contains("601 s late, the window is 10 min")), (1930, true), "{why}");
}

#[test]
fn after_a_step_back_of_the_clock_it_waits_again() {
    let set_back = checked(DUE - 20 * MINUTE_MS, Check::Due, &[]);
    assert_eq!(next(&schedule(), &set_back), (1940, Next::Wait));
    let a_little = checked(DUE - 1, Check::Due, &[]);
    assert_eq!(next(&schedule(), &a_little), (1999, Next::Wait));
}

#[test]
fn an_occurrence_that_is_over_is_looked_at_no_more() {
    let over = schedule().concluded(Outcome::Started("m".into()), None, DUE);
    assert_eq!(next(&over, &checked(DUE, Check::Due, &[])), (1905, Next::Wait));
    let later = weekly().concluded(Outcome::Started("m".into()), Some(DUE + 9 * EARLY_MS), DUE);
    assert_eq!(next(&later, &checked(DUE, Check::Due, &[])), (1940, Next::Wait));
}

#[test]
fn one_time_is_for_one_epoch_and_a_cron_line_for_one_direction() {
    let moved = |me: &str, epoch| ScheduleFacts {
        me: me.into(),
        in_force: Some(certificate(epoch, me)),
        ..checked(DUE, Check::Due, &[])
    };
    let (row, why) = skipped(next(&schedule(), &moved("b", 4)));
    assert_eq!(
        (row, why.contains("region b owns the formation at epoch 4")),
        (1920, true),
        "{why}"
    );
    assert_eq!(skipped(next(&schedule(), &moved("a", 5))).0, 1920, "there and back");
    assert_eq!(next(&weekly(), &moved("a", 5)), (1960, Next::Begin));
    let (row, why) = skipped(next(&weekly(), &moved("b", 4)));
    assert_eq!((row, why.as_str()), (1935, "region b owns the formation, not a"));
    let early = ScheduleFacts { now_ms: DUE - 1, ..moved("b", 4) };
    assert_eq!(next(&weekly(), &early), (1940, Next::Wait));
}

#[test]
fn only_the_owner_acts() {
    let due = checked(DUE, Check::Due, &[]);
    let standby = ScheduleFacts { me: "b".into(), ..due.clone() };
    assert_eq!(next(&schedule(), &standby), (1910, Next::Wait));
    assert_eq!(next(&schedule(), &ScheduleFacts { in_force: None, ..due }), (1910, Next::Wait));
}
