//! Checks of every table and of `decide` as a whole, over many observations.
//!
//! The observations are random but plausible (`check/generate.rs`); a row that
//! never fires over them is dead, or the generator does not know its world.
//! The safety properties here are those of one decision; what many members do
//! together is judged by the simulator in `tests/`.

mod attach;
mod cases;
mod cycle;
mod elections;
mod generate;
mod orders;
mod standby_clusters;
mod synchrony;

use super::action::{Action, Step};
use super::facts::Facts;
use super::observation::{
    DataDir, Divergence, End, Guarding, Job, Lock, Observation, Rebuild, Rewind, Shut, StopHow,
};
use super::table::{Rests, Rule};
use super::{TABLES, decide};
use crate::ha::Decision;
use crate::ha::observation::Asked;
use generate::Generator;
use standby::switch::ownership::Ownership;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Enough for nearly every row to fire many times.
const OBSERVATIONS: usize = 60_000;
/// A row that does not fire in this many observations counts as unreachable.
const SEARCHED_MAX: usize = 2_000_000;

fn for_each_observation(mut check: impl FnMut(&Observation, Decision)) {
    let mut generator = Generator::new(0x9E37_79B9_7F4A_7C15);
    for _ in 0..OBSERVATIONS {
        let o = generator.observation();
        let decision = decide(&o);
        check(&o, decision);
    }
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    TABLES.iter().flat_map(|(_, table)| table.iter())
}

#[test]
fn ids_rise_and_are_unique() {
    for (name, table) in TABLES {
        for pair in table.windows(2) {
            let (one, two) = (pair[0].id, pair[1].id);
            assert!(one < two, "{name}: {two} stands behind {one}");
        }
    }
    let ids: BTreeSet<u16> = rules().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), rules().count(), "two rules share a number");
}

#[test]
fn the_last_row_of_every_table_always_matches() {
    for_each_observation(|o, _| {
        for (name, table) in TABLES {
            let last = table.last().expect("a table has rows");
            assert!((last.when)(&Facts::of(o)), "{name} {}: {o:#?}", last.id);
        }
    });
}

/// Looks until `done`, for what is rare. The limit is hundreds of times what the
/// rarest row needs: which rows fire does not hang on the stream of numbers.
fn reaches(mut done: impl FnMut(&Observation, &Decision) -> bool) -> bool {
    let mut generator = Generator::new(0x9E37_79B9_7F4A_7C15);
    (0..SEARCHED_MAX).any(|_| {
        let o = generator.observation();
        done(&o, &decide(&o))
    })
}

#[test]
fn every_row_fires() {
    // The row that hands over to the other tables is no decision.
    let mut dead: BTreeSet<u16> =
        rules().map(|rule| rule.id).filter(|id| *id != super::gate::PASS).collect();
    let all = reaches(|_, decision| {
        dead.remove(&decision.rule);
        dead.is_empty()
    });
    assert!(all, "rows that nothing can reach: {dead:?}; extend check/generate.rs");
}

#[test]
fn the_tables_read_as_reviewed() {
    let mut text = String::new();
    for (name, table) in TABLES {
        writeln!(text, "{name}").expect("a string takes all");
        for rule in *table {
            writeln!(text, "  {:>3}  {}", rule.id, rule.why).expect("a string takes all");
        }
    }
    insta::assert_snapshot!("tables", text);
}

/// A row that rests says why it may: nothing is left to do, or it waits for
/// something, and what happens if that does not come.
#[test]
fn no_row_waits_without_an_end() {
    let of: BTreeMap<u16, Rests> = rules().map(|rule| (rule.id, rule.rests)).collect();
    let mut silent = BTreeSet::new();
    let mut unseen: BTreeSet<u16> =
        rules().filter(|rule| rule.rests != Rests::Never).map(|rule| rule.id).collect();
    unseen.remove(&super::gate::PASS);
    let mut looked = 0;
    let all = reaches(|_, decision| {
        looked += 1;
        if matches!(decision.step, Step::Rest { .. }) {
            unseen.remove(&decision.rule);
            if of[&decision.rule] == Rests::Never {
                silent.insert(decision.rule);
            }
        }
        unseen.is_empty() && looked >= OBSERVATIONS
    });
    assert!(silent.is_empty(), "rows that wait, without `until` or `at_rest`: {silent:?}");
    assert!(all, "rows that never wait, and say for what: {unseen:?}");
    for rule in rules() {
        if let Rests::Until(wait) = rule.rests {
            let said = !wait.ends_with.is_empty() && !wait.otherwise.is_empty();
            assert!(said, "{}: both are said", rule.id);
        }
    }
}

#[test]
fn the_same_observation_gives_the_same_decision() {
    for_each_observation(|o, decision| assert_eq!(decide(o), decision));
}

fn action(decision: &Decision) -> Option<&Action> {
    match &decision.step {
        Step::Do(action) => Some(action),
        Step::Rest { .. } => None,
    }
}

/// From this action on, or from its end, the member may accept writes.
fn opens(action: &Action) -> bool {
    matches!(action, Action::Promote | Action::Begin(Job::StartPrimary | Job::Bootstrap))
}

/// Runs `check` on every decision that is an action, and shows a failure.
fn always(what: &str, check: impl Fn(&Observation, &Action) -> bool) {
    for_each_observation(|o, decision| {
        let holds = action(&decision).is_none_or(|action| check(o, action));
        assert!(holds, "{what}: rule {}: {decision:?}\n{o:#?}", decision.rule);
    });
}

#[test]
fn a_silent_store_never_adds_write_ability() {
    always("opens without a lock while the store is silent", |o, action| {
        let blind = o.view().is_none() && !o.holds_lock();
        !(blind && (opens(action) || *action == Action::AcquireLock))
    });
}

#[test]
fn no_member_promotes_without_a_lock_that_lasts() {
    always("promotes without a lock that lasts", |o, action| {
        let safe = o.holds_lock() && !Facts::of(o).is_fence_due();
        *action != Action::Promote || safe
    });
    always("starts a primary without the lock", |o, action| {
        *action != Action::Begin(Job::StartPrimary) || o.holds_lock()
    });
}

#[test]
fn nothing_opens_beside_a_leader_that_a_majority_may_keep() {
    always("leads beside a leader that a majority may keep", |o, action| {
        let leads = opens(action) || *action == Action::AcquireLock;
        let born = matches!(action, Action::Begin(Job::Bootstrap));
        !leads || born || Facts::of(o).is_cleared()
    });
}

#[test]
fn a_region_that_does_not_own_opens_nothing() {
    always("opens in a region that does not own", |o, action| {
        let closed = matches!(o.ownership, Ownership::Standby { .. } | Ownership::Doubtful(_));
        !(closed && opens(action))
    });
}

#[test]
fn data_is_thrown_away_only_with_a_source_and_a_reason() {
    always("rebuilds without source or permission", |o, action| {
        let Action::Begin(Job::Rebuild { from, why }) = action else {
            return true;
        };
        let permitted = match why {
            Rebuild::Asked => o.memory.asked == Some(Asked::Reinitialize),
            Rebuild::AskedFromLeader => o.memory.asked == Some(Asked::ReinitializeFromLeader),
            Rebuild::Diverged => {
                let facts = Facts::of(o);
                let failed = o.me.may_rebuild_failed && facts.rewind_failed();
                let known = facts.is_diverged() || facts.ended(End::Half);
                let job = o.memory.failed.as_ref().map(|failed| &failed.job);
                // What is not known to have diverged is kept unless a rewind failed.
                let rewound = failed && matches!(job, Some(Job::Rewind { .. }));
                known && (o.me.may_rebuild_diverged || failed) || facts.is_given_up() && rewound
            }
        };
        let facts = Facts::of(o);
        let (living, source) = match why {
            Rebuild::AskedFromLeader => (facts.leader_source(), facts.leader_source()),
            Rebuild::Asked => (facts.leader_source(), facts.clone_source()),
            Rebuild::Diverged => (facts.rewind_source(), facts.rebuild_source()),
        };
        permitted && living.is_some() && source.as_ref() == Some(from)
    });
    always("clones into a directory that is not empty", |o, action| {
        !matches!(action, Action::Begin(Job::Clone { .. } | Job::Restore | Job::Bootstrap))
            || matches!(o.postgres.data, DataDir::Empty | DataDir::Half(_))
    });
}

#[test]
fn a_leader_keeps_its_data_and_no_member_copies_without_a_leader() {
    always("a leader is rebuilt", |o, action| {
        !matches!(action, Action::Begin(Job::Rebuild { why: Rebuild::Asked, .. }))
            || matches!(o.lock, Lock::Other(_))
    });
    always("restores beside a leader", |o, action| {
        *action != Action::Begin(Job::Restore) || o.lock == Lock::Free
    });
}

#[test]
fn h1_a_rewind_is_cancelled_only_for_the_end_of_the_daemon() {
    always("half a rewind looks whole", |o, action| {
        let rewinds = matches!(o.job.as_ref().map(|j| &j.job), Some(Job::Rewind { .. }));
        let at_rest = o.is_stopped() && o.memory.promoting.is_none();
        let ends = o.memory.stopping && Facts::of(o).stopping_ms() >= 5_000;
        !(rewinds && at_rest && *action == Action::CancelJob) || ends
    });
    let ended = reaches(|o, decision| {
        let rewinds = matches!(o.job.as_ref().map(|j| &j.job), Some(Job::Rewind { .. }));
        rewinds && decision.rule == 103
    });
    assert!(ended, "the daemon would not end");
}

#[test]
fn h1_a_copy_ends_when_its_source_leads_no_more_and_another_member_does() {
    for_each_observation(|o, decision| {
        let copies = match o.job.as_ref().map(|running| &running.job) {
            Some(Job::Clone { from } | Job::Rebuild { from, .. }) => Some(from),
            _ => None,
        };
        let Some(from) = copies.filter(|_| !o.memory.stopping) else { return };
        let facts = Facts::of(o);
        let goes_on = facts.view().is_some_and(|v| v.leader_name() == Some(&from.member));
        assert!(!(goes_on && decision.rule == 140), "a good source is given up\n{o:#?}");
    });
    assert!(reaches(|_, decision| decision.rule == 140), "no copy is ever given up");
}

#[test]
fn n11_a_standby_that_starts_follows_the_leader_of_now() {
    for_each_observation(|o, decision| {
        let facts = Facts::of(o);
        if decision.rule == 910 && facts.upstream().is_some() && !facts.is_opening() {
            assert_eq!(o.memory.pointed_to, facts.upstream(), "{o:#?}");
        }
    });
    for rule in [141, 909] {
        assert!(reaches(|_, decision| decision.rule == rule), "rule {rule} points nobody");
    }
}

#[test]
fn what_a_rewind_left_half_way_is_never_started() {
    always("starts what is not whole", |o, action| {
        let half = o.shutdown_state().is_some_and(|r| r.end == End::Half);
        let starts = matches!(
            action,
            Action::Begin(
                Job::StartPrimary
                    | Job::StartStandby { .. }
                    | Job::Recover
                    | Job::RecoverStandby { .. }
            )
        );
        !(half && starts)
    });
    let again = reaches(|o, decision| {
        let half = o.shutdown_state().is_some_and(|r| r.end == End::Half);
        half && decision.rule == 650
    });
    assert!(again, "it is never repeated");
}

#[test]
fn a_crashed_primary_is_compared_before_it_follows() {
    always("follows without being compared", |o, action| {
        let crashed = o.shutdown_state().is_some_and(|r| r.end == End::Crashed);
        let unchecked = o.memory.divergence == Divergence::Unchecked;
        let elsewhere = matches!(o.lock, Lock::Other(_)) && !o.dynamic.pause;
        let follows = matches!(action, Action::Begin(Job::StartStandby { .. }));
        !(crashed && unchecked && elsewhere && follows)
    });
}

#[test]
fn w1_a_former_primary_that_is_not_compared_starts_only_after_a_stop_in_order_and_a_long_wait() {
    always("starts too early", |o, action| {
        let facts = Facts::of(o);
        let former = facts.ended(End::Clean) || facts.ended(End::Crashed);
        let elsewhere = matches!(o.lock, Lock::Other(_)) && !o.dynamic.pause;
        let starts = matches!(action, Action::Begin(Job::StartStandby { .. }));
        let waited = facts.is_comparison_overdue() && facts.ended(End::Clean);
        !(former && elsewhere && starts) || facts.is_compared() || waited
    });
}

#[test]
fn w1_every_former_primary_beside_a_leader_acts_once_its_wait_is_over() {
    for_each_observation(|o, decision| {
        let facts = Facts::of(o);
        let waits = facts.is_comparison_overdue() && facts.is_leader_elsewhere();
        assert!(!(waits && decision.rule == 661), "waits without an end: {decision:?}\n{o:#?}");
    });
    for rule in [654, 656, 658, 659, 662] {
        let reached = reaches(|o, decision| {
            decision.rule == rule && matches!(o.lock, Lock::Other(_)) && o.job.is_none()
        });
        assert!(reached, "rule {rule} never ends the wait");
    }
}

#[test]
fn a_rewind_waits_for_an_orderly_stop_and_a_ready_source() {
    always("rewinds too early", |o, action| {
        let Action::Begin(Job::Rewind { .. }) = action else { return true };
        let facts = Facts::of(o);
        let orderly = o.shutdown_state().is_some_and(|r| r.shut == Shut::Orderly);
        (orderly || facts.ended(End::Half))
            && !facts.is_source_unready()
            && o.me.rewind == Rewind::Possible
            && !matches!(o.memory.divergence, Divergence::Alien(_))
    });
}

#[test]
fn a_standby_that_does_not_start_is_compared_before_the_next_try() {
    let refused = |o: &Observation| {
        let failed = o.memory.failed.as_ref();
        failed.is_some_and(|f| matches!(f.job, Job::StartStandby { .. }))
    };
    for_each_observation(|o, decision| {
        let facts = Facts::of(o);
        let source = facts.is_leader_elsewhere() && facts.leader_source().is_some();
        let unchecked = o.memory.divergence == Divergence::Unchecked;
        if decision.rule == 670 && source {
            let due = facts.is_comparison_due() && facts.shutdown_state().is_some();
            assert!(!(refused(o) && unchecked && due), "{o:#?}");
        }
    });
    let compared = reaches(|o, decision| decision.rule == 660 && refused(o));
    assert!(compared, "the generator makes none");
}

#[test]
fn nothing_opens_by_itself_without_the_lock() {
    for_each_observation(|o, decision| {
        let facts = Facts::of(o);
        let strays = facts.is_opening() && matches!(o.lock, Lock::Other(_) | Lock::Free);
        let exempt = o.dynamic.pause || o.job.is_some() || o.memory.stopping;
        let unknown =
            facts.is_initialize_absent() || !matches!(o.postgres.data, DataDir::Valid { .. });
        if !strays || exempt || unknown {
            return;
        }
        let waits = matches!(decision.step, Step::Rest { .. });
        assert!(!waits, "waits for it to open: {decision:?}\n{o:#?}");
    });
}

#[test]
fn nothing_opens_without_a_watchdog_that_is_wanted() {
    always("opens a server on a machine that would not be reset", |o, action| {
        let unguarded = matches!(o.watchdog, Guarding::Ready | Guarding::Broken(_));
        let opens = matches!(action, Action::Promote | Action::Begin(Job::StartPrimary));
        !(unguarded && opens && !o.dynamic.pause)
    });
    always("takes a lock without the watchdog that is required", |o, action| {
        let broken = matches!(o.watchdog, Guarding::Broken(_)) && o.may_own();
        let races = *action == Action::AcquireLock && o.is_standby() && !o.dynamic.pause;
        !(broken && races)
    });
}

/// Crash recovery over a backup_label ends in a damaged cluster.
#[test]
fn known_bug_09_data_with_a_backup_label_are_not_recovered_as_after_a_crash() {
    always("recovers an unfinished backup", |o, action| {
        let unfinished = o.shutdown_state().is_some_and(|r| r.shut == Shut::InBackup);
        let recovers = matches!(action, Action::Begin(Job::Recover | Job::RecoverStandby { .. }));
        !(unfinished && recovers)
    });
}

#[test]
fn n16_nothing_opens_on_a_lock_that_this_process_has_not_renewed() {
    always("opens a server without the guard thread", |o, action| {
        let opens = matches!(
            action,
            Action::Promote | Action::Begin(Job::StartPrimary | Job::Restart { as_primary: true })
        );
        let by_name_only = matches!(o.lock, Lock::Mine { deadline, .. } if deadline.0 == 0);
        !(opens && by_name_only && !o.dynamic.pause)
    });
    let waits = reaches(|o, decision| {
        decision.rule == 606 && matches!(o.lock, Lock::Mine { deadline, .. } if deadline.0 == 0)
    });
    assert!(waits, "the generator makes none");
}

#[test]
fn one_job_at_a_time() {
    always("begins a second job", |o, action| {
        !(matches!(action, Action::Begin(_)) && o.job.is_some())
    });
}

#[test]
fn a_primary_beside_another_leader_stops_at_once() {
    for_each_observation(|o, decision| {
        let stray = o.is_primary() && matches!(o.lock, Lock::Other(_)) && o.job.is_none();
        let exempt = o.dynamic.pause || Facts::of(o).is_data_unusable();
        if !stray || exempt {
            return;
        }
        let stops = matches!(
            action(&decision),
            Some(
                Action::Renew
                    | Action::Exit(_)
                    | Action::GiveUpBootstrap
                    | Action::Begin(Job::Stop { how: StopHow::Immediate })
            )
        );
        assert!(stops, "keeps writing: {decision:?}\n{o:#?}");
    });
}

#[test]
fn a_primary_whose_lock_runs_out_stops_writing() {
    for_each_observation(|o, decision| {
        let facts = Facts::of(o);
        if !o.is_primary() || o.dynamic.pause || !facts.is_fence_due() {
            return;
        }
        let fences = match action(&decision) {
            Some(Action::Renew | Action::CancelJob) => true,
            Some(Action::Begin(Job::Stop { how })) => *how == StopHow::Immediate,
            Some(_) => false,
            None => facts.job().is_some(),
        };
        assert!(fences, "does not fence: {decision:?}\n{o:#?}");
    });
}
