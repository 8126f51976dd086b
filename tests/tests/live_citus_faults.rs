//! What a Citus formation survives: faults of its leaders under transfers, a group that is run
//! by Patroni, and what an operator or an unlucky moment adds. The scenarios are in
//! `tests/src/live/citus_faults.rs`, `citus_lost.rs`, `citus_mixed.rs` and `citus_moments.rs`.
//!
//! They need the Citus extension: the stand-in has no shards. `MATRIARCH_CITUS_ROUNDS=20`
//! makes as many switchovers and failovers of the worker and failovers of the coordinator;
//! `MATRIARCH_CITUS_FAULT=SIGSTOP` only those whose name has this word.

use std::time::Duration;
use tests::live::citus_faults::{Fault, Rounds, has_extension};
use tests::live::{citus_lost, citus_mixed, citus_moments, run};

const LIMIT: Duration = Duration::from_secs(240);
/// For each round of a long run.
const ROUND_MAX: Duration = Duration::from_secs(120);

fn rounds() -> usize {
    std::env::var("MATRIARCH_CITUS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// What comes in turn where more than one round of each is asked for.
const FAILOVERS: [Fault; 5] =
    [Fault::KillNode, Fault::FreezeNode, Fault::Cut, Fault::FreezeDaemon, Fault::KillPostmaster];

fn failovers(rounds: usize) -> Vec<Fault> {
    let mut all: Vec<Fault> = FAILOVERS.into_iter().cycle().take(rounds).collect();
    all.extend([Fault::FreezePostmaster].repeat(rounds / FAILOVERS.len()));
    all
}

async fn survive(group: u32, members: [usize; 3], faults: Vec<Fault>) {
    if !has_extension() {
        return;
    }
    let only = std::env::var("MATRIARCH_CITUS_FAULT").unwrap_or_default();
    let mut rounds = Rounds::raise(members).await;
    for fault in faults.into_iter().filter(|fault| fault.says().contains(&only)) {
        rounds.round(group, fault).await;
    }
    rounds.end();
}

#[test]
fn f1_the_books_are_right_after_every_fault_of_a_workers_leader() {
    use Fault::*;
    let faults = match rounds() {
        1 => vec![Switchover, FreezePostmaster, KillNode],
        many => [vec![Switchover; many], failovers(many)].concat(),
    };
    let limit = LIMIT + ROUND_MAX * faults.len() as u32;
    run("transfers while a worker's leader is lost", limit, survive(1, [1, 3, 1], faults));
}

#[test]
fn f2_the_books_are_right_after_every_fault_of_the_coordinators_leader() {
    let faults = match rounds() {
        1 => vec![Fault::KillNode, Fault::Cut],
        many => failovers(many),
    };
    let limit = LIMIT + ROUND_MAX * faults.len() as u32;
    run("transfers while the coordinator's leader is lost", limit, survive(0, [3, 1, 1], faults));
}

#[test]
fn f3_a_lost_coordinator_keeps_no_row_locked() {
    if has_extension() {
        let scenario = citus_lost::a_lost_coordinator_keeps_no_row_locked();
        run("what a lost coordinator left", LIMIT, scenario);
    }
}

#[test]
fn f4_a_copy_that_cannot_be_sent_holds_up_no_other_row() {
    if has_extension() {
        let scenario = citus_lost::a_copy_that_cannot_be_sent_holds_up_no_other_row();
        run("a copy that cannot be sent", LIMIT, scenario);
    }
}

#[test]
fn m1_a_worker_is_run_by_patroni() {
    run("a worker is run by Patroni", LIMIT, citus_mixed::worker_by_patroni());
}

#[test]
fn m2_the_coordinator_is_run_by_patroni() {
    run("the coordinator is run by Patroni", LIMIT, citus_mixed::coordinator_by_patroni());
}

#[test]
fn b1_two_workers_at_once_and_an_operator_who_pauses_cost_no_writer_more_than_a_ttl() {
    run("two workers at once, a pause", LIMIT, citus_moments::two_at_once_and_a_pause());
}
