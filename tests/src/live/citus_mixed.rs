//! One group of a formation is run by Patroni, the others by us: events go both ways, writers
//! are held, and the rows follow a failover of either kind.

use super::citus_bank::{Bank, COORDINATORS, WORKERS};
use super::citus_formation::{COORDINATOR, Formation, short_times};
use super::stage::{LONG, SHORT, TTL};
use super::takeover::launcher;
use std::time::{Duration, Instant};

const WORKER: u32 = 1;
/// Patroni's own coordinator takes as long for a hand-over.
const HELD_MAX: Duration = Duration::from_secs(10);

pub async fn worker_by_patroni() {
    let Some((mut formation, bank)) = raise(WORKER).await else { return };
    held(&formation, &bank, &[COORDINATORS, WORKERS]).await;
    assert_eq!(formation.metric("matriarch_citus_pauses_total").await, 1.0);
    assert_eq!(formation.metric("matriarch_citus_pauses_given_up_total").await, 0.0);
    both_fail_over(&mut formation, &bank).await;
    bank.close();
    formation.end();
}

/// Patroni holds the writers of its own node only.
pub async fn coordinator_by_patroni() {
    let Some((mut formation, bank)) = raise(COORDINATOR).await else { return };
    held(&formation, &bank, &[COORDINATORS]).await;
    both_fail_over(&mut formation, &bank).await;
    bank.close();
    formation.end();
}

/// Coordinator and first worker of two members each; one of them by Patroni.
async fn raise(by_patroni: u32) -> Option<(Formation, Bank)> {
    let mut formation = Formation::prepare([2, 2, 1], short_times);
    if !formation.is_real {
        return None;
    }
    let patroni = launcher(&formation.field.dir);
    for member in formation.members(by_patroni) {
        formation.field.programs.insert(member.name, patroni.clone());
    }
    formation.stand_up().await;
    let bank = Bank::open(&formation).await;
    Some((formation, bank))
}

/// A switchover of the worker: writers that come this way get no error.
async fn held(formation: &Formation, bank: &Bank, ways: &[&str]) {
    // Patroni makes its first standby a synchronous one a loop later than we do.
    for group in [COORDINATOR, WORKER] {
        formation.is_counted_on(group).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    formation.switchover(WORKER).await;
    formation.is_wired(SHORT).await;
    resolve(formation).await;
    bank.goes_on(formation, Instant::now(), SHORT).await;
    for way in [COORDINATORS, WORKERS] {
        let tale = bank.tale(way, begin);
        println!("  switchover of the worker, through the {way}: {tale:?}");
        if ways.contains(&way) {
            assert!(tale.errors.is_empty(), "through the {way}: {:?}", tale.errors);
            assert!(tale.longest < HELD_MAX, "through the {way}: {:?}", tale.longest);
        }
    }
    formation.healthy().await;
    bank.audit(formation).await;
}

/// The leaders of both groups are lost in one moment.
async fn both_fail_over(formation: &mut Formation, bank: &Bank) {
    let numbers = formation.numbers().await;
    let mut lost = Vec::new();
    for group in [WORKER, COORDINATOR] {
        // A standby that commits do not wait for may not lead.
        formation.is_counted_on(group).await;
        lost.push(formation.leader(group).await);
    }
    let begin = Instant::now();
    for leader in &lost {
        formation.is_away(leader);
        formation.field.kill_node(leader);
    }
    for group in [WORKER, COORDINATOR] {
        formation
            .until("a new leader", TTL + SHORT, async || {
                formation.leader_if_any(group).await.is_some()
            })
            .await;
    }
    let led = begin.elapsed();
    formation.is_wired(LONG).await;
    println!("  both failed over after {led:.1?}, rows right after {:.1?}", begin.elapsed());
    resolve(formation).await;
    bank.goes_on(formation, Instant::now(), LONG).await;
    for leader in &lost {
        formation.field.start_member(leader).expect("the daemon starts");
    }
    formation.all_are_back();
    formation.healthy().await;
    formation.is_wired(SHORT).await;
    bank.audit(formation).await;
    assert_eq!(formation.numbers().await, numbers, "primary rows were made anew");
}

/// Patroni leaves transactions in doubt to Citus, which looks once a minute. Looking more often
/// is no way out: a look at a server that recovers finds no prepared transaction there, and
/// forgets that they were to be committed.
async fn resolve(formation: &Formation) {
    for group in [COORDINATOR, WORKER, 2] {
        let leader = formation.leader(group).await;
        formation.sql(&leader, "SELECT recover_prepared_transactions()").await;
    }
}
