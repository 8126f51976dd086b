//! Seeds: each one is a world of its own, with its faults.
//!
//! Rerun one with `MATRIARCH_SEED=123 cargo test -p sim --test sim`, with more
//! of its story with `MATRIARCH_TRACE=5000`; look for new ones with
//! `MATRIARCH_SEEDS=1000 cargo test -p sim --test sim fresh`, or faster with the
//! program `worlds`. A seed that found a bug is kept in `sim/seeds/known.txt`.

use sim::seeds::{self, BIRTH_MS, Kind, SETTLE_MS, run, settle};
use sim::world::disk::Health;
use sim::world::fault::Fault;
use sim::world::{Counts, Shape, World};
use std::time::{SystemTime, UNIX_EPOCH};
use topology::region::Phase;

/// A leader looks at its disk once in a loop, and stops before others lead.
const DISK_MS: u64 = 25_000;
const TRACE_SHOWN: usize = 200;

fn world_of(kind: Kind, seed: u64) -> World {
    World::new(seed, &(kind.shape)(seed))
}

/// What went wrong, with the end of the trace.
fn failure(seed: u64, kind: Kind) -> Option<String> {
    let shown = number("MATRIARCH_TRACE").map_or(TRACE_SHOWN, |lines| lines as usize);
    let failure = seeds::failure(seed, &(kind.shape)(seed), shown)?;
    let name = kind.name;
    let again = format!("cargo run --profile worlds -p sim --bin worlds {name} {seed} 1");
    Some(format!("{}{name} {seed}: {}\n{again}", failure.story, failure.broken))
}

/// All seeds are run; the first failure is shown whole, the others by name.
fn check_seeds(seeds: impl Iterator<Item = u64>, kind: Kind) {
    let failures: Vec<String> = seeds.filter_map(|seed| failure(seed, kind)).collect();
    let Some(first) = failures.first() else { return };
    for other in &failures[1..] {
        let line = other.lines().rev().nth(1).unwrap_or_default();
        eprintln!("{line}");
    }
    panic!("{} seeds fail\n{first}", failures.len());
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fixed(kind: Kind, count: u64) {
    match number("MATRIARCH_SEED") {
        Some(seed) => check_seeds(std::iter::once(seed), kind),
        None => check_seeds(1..=count, kind),
    }
}

fn fresh(kind: Kind, count: u64) {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first = clock.as_millis() as u64 & 0xFFFF_FFFF;
    let count = number("MATRIARCH_SEEDS").unwrap_or(count);
    println!("fresh seeds {first} to {}", first + count - 1);
    check_seeds(first..first + count, kind);
}

fn known(kind: Kind) {
    let lines = include_str!("../seeds/known.txt").lines();
    let ours = lines.filter_map(|line| line.strip_prefix(kind.name)?.strip_prefix(' '));
    let seeds = ours.map(|rest| rest.split([':', ' ']).next().unwrap_or_default());
    check_seeds(seeds.map(|seed| seed.parse().expect("the number of a seed")), kind);
}

/// A simulator in which nothing happens would find nothing.
#[test]
fn the_worlds_are_eventful() {
    let mut ends = Vec::new();
    let mut all = Counts::default();
    for (kind, seeds) in [(seeds::GROUP, 1..=48), (seeds::REGIONS, 1..=6)] {
        for seed in seeds {
            let mut world = world_of(kind, seed);
            run(&mut world).expect("a fixed seed");
            ends.extend(world.ended_moves());
            add(&mut all, &world.counts);
        }
    }
    println!("{all:?} {ends:?}");
    assert!(all.promotions > 20 && all.restarts > 20 && all.handovers > 5, "{all:?}");
    assert!(all.rewinds > 10 && all.rebuilds > 0 && all.lost > 0, "{all:?}");
    assert!(all.signatures > 5, "{all:?}");
    assert!(ends.contains(&Phase::Done) && ends.contains(&Phase::Aborted), "{ends:?}");
}

fn add(all: &mut Counts, one: &Counts) {
    all.promotions += one.promotions;
    all.restarts += one.restarts;
    all.handovers += one.handovers;
    all.rewinds += one.rewinds;
    all.rebuilds += one.rebuilds;
    all.signatures += one.signatures;
    all.lost += one.lost;
    all.agreed += one.agreed;
    all.led_on += one.led_on;
    all.by_majority += one.by_majority;
    all.candidates += one.candidates;
    all.kept += one.kept;
    all.waited += one.waited;
    all.recorded += one.recorded;
    all.rescues += one.rescues;
    all.hosts_lost += one.hosts_lost;
    all.by_hand += one.by_hand;
    all.distributed += one.distributed;
    all.in_doubt += one.in_doubt;
    all.rounds += one.rounds;
    all.carried += one.carried;
    all.ahead += one.ahead;
}

#[test]
fn one_group_survives_the_fixed_seeds() {
    fixed(seeds::GROUP, 150);
}

#[test]
fn one_group_survives_fresh_seeds() {
    fresh(seeds::GROUP, 25);
}

#[test]
fn failsafe_groups_survive_the_fixed_seeds() {
    fixed(seeds::FAILSAFE, 100);
}

#[test]
fn failsafe_groups_survive_fresh_seeds() {
    fresh(seeds::FAILSAFE, 25);
}

/// Leaders do lead on past the end of their leases.
#[test]
fn failsafe_groups_lead_on_without_a_store() {
    let mut all = Counts::default();
    for seed in 1..=60 {
        let mut world = world_of(seeds::FAILSAFE, seed);
        run(&mut world).expect("a fixed seed");
        add(&mut all, &world.counts);
    }
    println!("{all:?}");
    assert!(all.agreed > 20 && all.led_on > 10 && all.promotions > 10, "{all:?}");
}

#[test]
fn failsafe_groups_by_majority_survive_the_fixed_seeds() {
    fixed(seeds::MAJORITY, 100);
}

#[test]
fn failsafe_groups_by_majority_survive_fresh_seeds() {
    fresh(seeds::MAJORITY, 25);
}

/// Leaders lead on without some of the members, and candidates get promises.
#[test]
fn failsafe_groups_lead_on_by_a_majority() {
    let mut all = Counts::default();
    for seed in 1..=60 {
        let mut world = world_of(seeds::MAJORITY, seed);
        run(&mut world).expect("a fixed seed");
        add(&mut all, &world.counts);
    }
    println!("{all:?}");
    assert!(all.by_majority > 20 && all.led_on > 10 && all.candidates > 10, "{all:?}");
}

/// The half of the rule that is the candidate's: without its questions there are two
/// writers, and it is seen.
#[test]
fn candidates_that_ask_for_no_promise_make_two_writers() {
    let broken = (1..=300).find_map(|seed| {
        let shape = Shape { unpromised: true, ..(seeds::MAJORITY.shape)(seed) };
        let broken = seeds::failure(seed, &shape, 0)?.broken.to_string();
        broken.contains("one writer").then(|| format!("majority {seed}: {broken}"))
    });
    println!("{}", broken.expect("one writer is broken for none of the seeds"));
}

#[test]
fn synchronous_groups_survive_the_fixed_seeds() {
    fixed(seeds::SYNCHRONOUS, 80);
}

/// There is something to lose, and another member takes over with it.
#[test]
fn synchronous_groups_wait_and_fail_over() {
    let mut all = Counts::default();
    for seed in 1..=25 {
        let mut world = world_of(seeds::SYNCHRONOUS, seed);
        run(&mut world).expect("a fixed seed");
        add(&mut all, &world.counts);
    }
    println!("{all:?}");
    assert!(all.kept > 25 && all.promotions > 40, "{all:?}");
    assert!(all.waited > 5_000 && all.recorded > 100, "{all:?}");
}

#[test]
fn synchronous_groups_survive_fresh_seeds() {
    fresh(seeds::SYNCHRONOUS, 20);
}

#[test]
fn changing_times_survive_the_fixed_seeds() {
    fixed(seeds::TIMES, 80);
}

#[test]
fn changing_times_survive_fresh_seeds() {
    fresh(seeds::TIMES, 20);
}

#[test]
fn fast_groups_survive_the_fixed_seeds() {
    fixed(seeds::FAST, 80);
}

#[test]
fn fast_groups_survive_fresh_seeds() {
    fresh(seeds::FAST, 20);
}

/// Ten minutes on a store that answers each call within `delay_ms`: how often did a
/// leader stop that no member had to replace?
fn needless_failovers(delay_ms: u64, seeds: u64) -> u64 {
    let mut stopped = 0;
    for seed in 1..=seeds {
        let mut world = world_of(seeds::FAST, 4 * seed + 1);
        settle(&mut world, BIRTH_MS).expect("nothing is wrong");
        let leads = |world: &World| world.members.iter().position(|m| m.server.accepts_commits());
        // Each way takes up to half of it, and 8 ms in any world.
        world.links.slow[0] = delay_ms / 2 - 8;
        let mut leader = leads(&world);
        for _ in 0..6_000 {
            world.run_until(world.now + 100).expect("nothing is wrong but the store's delay");
            let now = leads(&world);
            stopped += u64::from(leader.is_some() && now != leader);
            leader = now;
        }
    }
    stopped
}

#[test]
fn a_fast_group_stands_a_busy_store() {
    let (third, more) = (needless_failovers(5_000 / 3, 12), needless_failovers(4_000, 4));
    println!("ttl 5: needless failovers: {third} under a third of ttl, {more} at up to 4 s");
    assert_eq!(third, 0);
    assert!(more > 0, "delays as long as the lease were not noticed");
}

/// The lease is replaced together with the leader key: no server stops.
#[test]
fn n4_a_change_of_ttl_leaves_the_primary_alone() {
    for seed in 1..=40 {
        let mut world = world_of(seeds::GROUP, seed);
        settle(&mut world, BIRTH_MS).expect("nothing is wrong");
        let leads = |world: &World| world.members.iter().position(|m| m.server.accepts_commits());
        let leader = leads(&world).expect("it has come up");
        let before = (world.counts.promotions, world.counts.restarts);
        for seconds in [30, 20, 40, 20, 60] {
            world.set_ttl(leader, seconds);
            for _ in 0..200 {
                world.run_until(world.now + 100).expect("nothing is wrong");
                assert_eq!(leads(&world), Some(leader), "seed {seed}: ttl {seconds}");
            }
            let lease = world.members[leader].daemon.machine.lease;
            assert_eq!((lease.ttl_ms, lease.next), (seconds * 1_000, None), "seed {seed}");
        }
        assert_eq!((world.counts.promotions, world.counts.restarts), before, "seed {seed}");
    }
}

#[test]
fn failing_disks_survive_the_fixed_seeds() {
    fixed(seeds::DISKS, 80);
}

#[test]
fn failing_disks_survive_fresh_seeds() {
    fresh(seeds::DISKS, 20);
}

/// Nothing else is wrong: another member leads soon if one is able to, and only then.
#[test]
fn the_lock_leaves_a_failing_disk_for_a_member_that_is_able() {
    let mut moved = 0;
    for seed in 1..=30 {
        let mut world = world_of(seeds::DISKS, seed);
        settle(&mut world, BIRTH_MS).expect("nothing is wrong yet");
        let leads = |world: &World| world.members.iter().position(|m| m.server.accepts_commits());
        let leader = leads(&world).expect("it has come up");
        let able = world.members.iter().enumerate();
        let able = able.filter(|(at, m)| *at != leader && !m.tags.nofailover()).count() > 0;
        world.set_disk(leader, Health::Broken);
        world.run_until(world.now + DISK_MS).expect("nothing else is wrong");
        let new = leads(&world).filter(|new| *new != leader);
        assert_eq!(new.is_some(), able, "seed {seed}");
        moved += usize::from(able);
        world.heal_everything();
        settle(&mut world, SETTLE_MS).expect("all is well again");
    }
    assert!(moved > 15, "{moved}");
}

/// Stores whose keys are deleted, leases that outlive their time, wall clocks that are
/// set, hosts that are lost for good, and an operator who does things by hand.
#[test]
fn groups_survive_mishaps() {
    fixed(seeds::MISHAPS, 60);
    fixed(seeds::SYNCHRONOUS_MISHAPS, 40);
}

#[test]
fn regions_survive_mishaps() {
    fixed(seeds::REGION_MISHAPS, 8);
}

#[test]
fn three_regions_survive_the_fixed_seeds() {
    fixed(seeds::THREE, 8);
}

/// Hosts are lost, and an operator is asked seldom.
#[test]
fn mishaps_happen_and_few_need_an_operator() {
    let mut all = Counts::default();
    for seed in 1..=40 {
        let mut world = world_of(seeds::MISHAPS, seed);
        run(&mut world).expect("a fixed seed");
        add(&mut all, &world.counts);
    }
    println!("{all:?}");
    assert!(all.hosts_lost > 8 && all.by_hand > 20 && all.promotions > 40, "{all:?}");
    assert!(all.rescues < all.hosts_lost / 3, "{all:?}");
}

/// In the order that docs/reliability.md gives: pause, stop the daemons, restore, delete
/// what named a leader, start the daemon of the primary first.
fn restore_in_order(world: &mut World) {
    let primary = |world: &World| world.members.iter().position(|m| m.server.accepts_commits());
    let before = primary(world).expect("it has come up");
    world.save_store(0);
    world.on_fault(Fault::Switchover(before));
    world.run_until(world.now + 30_000).expect("nothing is wrong");
    let leader = primary(world).expect("one leads");
    let promotions = world.counts.promotions;
    world.on_fault(Fault::Pause(leader, true));
    world.run_until(world.now + 30_000).expect("nothing is wrong");
    for member in 0..world.members.len() {
        world.on_fault(Fault::StayDown(member, 100_000));
    }
    world.on_fault(Fault::Restore(0));
    let keys = world.members[leader].keys.clone();
    for key in [keys.leader(), keys.sync(), keys.failover()] {
        world.stores.delete(0, key);
    }
    world.members[leader].down_until = 0;
    world.on_fault(Fault::StartDaemon(leader));
    world.run_until(world.now + 30_000).expect("it goes on to lead");
    world.heal_everything();
    settle(world, SETTLE_MS).expect("all is well again");
    assert_eq!((primary(world), world.counts.promotions), (Some(leader), promotions));
}

#[test]
fn a_store_that_is_restored_in_order_changes_no_leader() {
    for seed in 1..=20 {
        for kind in [seeds::GROUP, seeds::SYNCHRONOUS] {
            let mut world = world_of(kind, seed);
            settle(&mut world, BIRTH_MS).expect("nothing is wrong");
            restore_in_order(&mut world);
        }
    }
}

#[test]
fn two_regions_survive_the_fixed_seeds() {
    fixed(seeds::REGIONS, 40);
}

#[test]
fn two_regions_survive_fresh_seeds() {
    fresh(seeds::REGIONS, 10);
}

/// A coordinator and workers, and clients that write over several groups.
#[test]
fn citus_formations_survive_the_fixed_seeds() {
    fixed(seeds::CITUS, 14);
    fixed(seeds::CITUS_REGIONS, 3);
}

#[test]
fn citus_formations_survive_fresh_seeds() {
    fresh(seeds::CITUS, 4);
    fresh(seeds::CITUS_REGIONS, 1);
}

/// `pg_dist_node` follows the leaders, and transactions are left in doubt and resolved.
#[test]
fn citus_formations_are_eventful() {
    let mut all = Counts::default();
    for (kind, seeds) in [(seeds::CITUS, 1..=4), (seeds::CITUS_REGIONS, 2..=2)] {
        for seed in seeds {
            let mut world = world_of(kind, seed);
            run(&mut world).expect("a fixed seed");
            add(&mut all, &world.counts);
        }
    }
    println!("{all:?}");
    assert!(all.distributed > 500 && all.in_doubt > 20 && all.rounds > 50, "{all:?}");
    assert!(all.promotions > 10, "{all:?}");
}

/// Slots are made, moved and dropped, and WAL is removed.
#[test]
fn groups_with_slots_survive_the_fixed_seeds() {
    fixed(seeds::SLOTS, 24);
}

#[test]
fn groups_with_slots_survive_fresh_seeds() {
    fresh(seeds::SLOTS, 6);
}

/// Readers go on through moves between regions, or their slot is refused in words.
#[test]
fn regions_with_readers_survive_the_fixed_seeds() {
    fixed(seeds::REGION_SLOTS, 24);
}

#[test]
fn regions_with_readers_survive_fresh_seeds() {
    fresh(seeds::REGION_SLOTS, 6);
}

/// Where nothing goes wrong, a reader goes on through a move there and one back.
#[test]
fn a_calm_move_carries_its_reader() {
    for seed in 1..=6 {
        let mut world = world_of(seeds::REGION_SLOTS, seed);
        settle(&mut world, BIRTH_MS).expect("nothing is wrong");
        for moves in 1..=2 {
            world.run_until(world.now + 60_000).expect("nothing is wrong");
            world.ask_for_move();
            settle(&mut world, SETTLE_MS).expect("nothing is wrong");
            assert_eq!(world.counts.carried, moves, "seed {seed}: {:?}", world.ended_moves());
        }
    }
}

/// The check fires when the agents believe that every copy is ready.
#[test]
fn a_move_without_a_ready_copy_is_noticed() {
    let broken = (1..=300).find_map(|seed| {
        let shape = Shape { blind: true, ..(seeds::REGION_SLOTS.shape)(seed) };
        let broken = seeds::failure(seed, &shape, 0)?.broken.to_string();
        broken.contains("leaves no reader behind").then(|| format!("region-slots {seed}: {broken}"))
    });
    println!("{}", broken.expect("no reader is left behind for any of the seeds"));
}

/// The member that makes a cluster enters it, whatever became of its claim meanwhile.
#[test]
fn a_store_that_is_wiped_while_a_cluster_is_made_gets_it_nevertheless() {
    let mut hit = 0;
    for seed in 1..=60 {
        let mut world = world_of(seeds::GROUP, seed);
        world.run_until(100 + seed * 40).expect("nothing is wrong yet");
        let made = world.members.iter().any(|m| m.daemon.machine.memory.claim.is_some());
        hit += u32::from(made && world.stores.get(0, "/service/shop/leader").is_none());
        world.stores.wipe(0);
        let settled = settle(&mut world, SETTLE_MS);
        let end = world.trace.iter().rev().take(80).rev().cloned().collect::<Vec<_>>();
        assert_eq!(settled, Ok(()), "seed {seed}\n{}", end.join("\n"));
    }
    assert!(hit > 10, "the wipe met only {hit} clusters in the making");
}

#[test]
fn seeds_that_found_bugs_stay_found() {
    seeds::KINDS.into_iter().for_each(known);
}
