//! Writers of a Citus formation while its groups change their leaders.
//!
//! Uses the Citus extension where it is installed. The project's stand-in has no shards,
//! so with it only the rows of `pg_dist_node` are compared; the test prints which it is.
//!
//! `MATRIARCH_CITUS_ROUNDS=20` repeats each change so often.

use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use tests::live::citus_formation::{COORDINATOR, Formation};
use tests::live::citus_load::Load;
use tests::live::run_alone;

const LIMIT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(20);

fn rounds() -> u32 {
    std::env::var("MATRIARCH_CITUS_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

#[test]
fn c1_writers_wait_while_a_worker_changes_its_leader() {
    run_alone("writers wait while a worker changes its leader", LIMIT, async {
        let formation = Formation::raise().await;
        let load = Load::start(&formation).await;
        for _ in 0..rounds() {
            switch(&formation, &load).await;
        }
        load.settle(&formation).await;
        formation.end();
    });
}

async fn switch(formation: &Formation, load: &Load) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    formation.switchover(1).await;
    formation.is_wired(SOON).await;
    load.goes_on(formation, Instant::now(), SOON).await;
    told("switchover", load, begin);
}

fn told(what: &str, load: &Load, begin: Instant) {
    for through in ["coordinator", "worker"] {
        let seen = load.writers(through, begin);
        let (longest, gap) = (seen.longest, load.longest_gap(through, begin));
        println!(
            "  {what}, through the {through}: longest statement {longest:.2?}, longest gap \
             {gap:.2?}, {} errors {:?}",
            seen.errors.len(),
            seen.errors.first()
        );
    }
    println!("  {what}: readers: {} errors", load.readers(begin).errors.len());
}

#[test]
fn c2_a_crashed_postmaster_costs_little() {
    run_alone("a crashed postmaster costs little", LIMIT, async {
        let formation = Formation::raise().await;
        let load = Load::start(&formation).await;
        for group in [1, COORDINATOR] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let victim = formation.leader(group).await;
            let begin = Instant::now();
            assert!(formation.field.signal_postmaster(&victim, Signal::SIGKILL));
            tokio::time::sleep(Duration::from_millis(200)).await;
            load.goes_on(&formation, Instant::now(), Duration::from_secs(90)).await;
            formation.is_wired(SOON).await;
            told(&format!("kill -9 of {}", victim.name), &load, begin);
        }
        load.settle(&formation).await;
        formation.end();
    });
}
