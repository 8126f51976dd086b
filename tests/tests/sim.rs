//! Seeds: each one is a world of its own, with its faults.
//!
//! Rerun one with `MATRIARCH_SEED=123 cargo test -p tests --test sim`, with more
//! of its story with `MATRIARCH_TRACE=5000`; look for new ones with
//! `MATRIARCH_SEEDS=1000 cargo test -p tests --test sim fresh`.
//! A seed that found a bug is kept in `tests/seeds/known.txt`.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};
use tests::check::{self, Broken};
use tests::world::disk::Health;
use tests::world::{Counts, Shape, World};
use topology::Group;
use topology::region::Phase;

/// A cluster has come up by then, when nothing goes wrong.
const BIRTH_MS: u64 = 40_000;
/// Long enough for a lease to end, a server to recover, a copy to be made,
/// and for a few tries of those that failed before.
const SETTLE_MS: u64 = 150_000;
/// Between two looks whether all is well.
const STEP_MS: u64 = 3_000;
/// A leader looks at its disk once in a loop, and stops before others lead.
const DISK_MS: u64 = 25_000;
const TRACE_SHOWN: usize = 200;

fn one_group(seed: u64) -> Shape {
    Shape {
        regions: 1,
        groups: vec![Group::PLAIN],
        members: 2 + (seed % 3) as usize,
        failsafe: false,
        synchronous: false,
        disks: false,
        times: false,
        fast: false,
    }
}

/// One group in failsafe mode, with a store that is away more often.
fn failsafe_group(seed: u64) -> Shape {
    Shape { failsafe: true, ..one_group(seed) }
}

/// One group whose operator changes `ttl`, with and without failsafe mode.
fn changing_times(seed: u64) -> Shape {
    Shape { times: true, failsafe: seed.is_multiple_of(3), ..one_group(seed) }
}

/// One group with a `ttl` of 5 seconds, and a failsafe mode now and then.
fn fast_group(seed: u64) -> Shape {
    Shape { fast: true, failsafe: seed.is_multiple_of(4), ..one_group(seed) }
}

/// One group whose disks fail, too.
fn failing_disks(seed: u64) -> Shape {
    Shape { disks: true, ..one_group(seed) }
}

/// One group whose operator wants synchronous replication, of some kind.
fn synchronous_group(seed: u64) -> Shape {
    let (failsafe, disks) = (seed.is_multiple_of(5), seed.is_multiple_of(4));
    Shape { synchronous: true, failsafe, disks, ..one_group(seed) }
}

/// Two regions, each with a coordinator and a worker group of two members.
fn two_regions(_: u64) -> Shape {
    let groups = vec![Group(Some(0)), Group(Some(1))];
    Shape { regions: 2, groups, members: 2, times: false, ..one_group(0) }
}

fn run(world: &mut World) -> Result<(), Broken> {
    settle(world, BIRTH_MS)?;
    world.begin_faults();
    let faults = world.rng.range(20_000, 150_000);
    world.run_until(world.now + faults)?;
    world.heal_everything();
    settle(world, SETTLE_MS)
}

/// Runs until all is well and stays so, at most `limit_ms`.
fn settle(world: &mut World, limit_ms: u64) -> Result<(), Broken> {
    let end = world.now + limit_ms;
    loop {
        world.run_until(world.now + STEP_MS)?;
        let first = check::settled(world);
        if first.is_ok() {
            world.run_until(world.now + STEP_MS)?;
        }
        match check::settled(world) {
            Ok(()) if first.is_ok() => return Ok(()),
            Err(broken) if world.now >= end => return Err(broken),
            _ => {}
        }
    }
}

/// What went wrong, with the end of the trace.
fn failure(seed: u64, shape: fn(u64) -> Shape) -> Option<String> {
    let mut world = World::new(seed, &shape(seed));
    let broken = run(&mut world).err()?;
    let shown = number("MATRIARCH_TRACE").map_or(TRACE_SHOWN, |lines| lines as usize);
    let skip = world.trace.len().saturating_sub(shown);
    let mut text = String::new();
    for line in world.trace.iter().skip(skip) {
        writeln!(text, "{line}").expect("a string takes all");
    }
    let kind = match world.plan.failsafe {
        _ if world.plan.synchronous => "synchronous_groups",
        _ if world.plan.times => "changing_times",
        _ if world.plan.minimum_ttl < 20 => "fast_groups",
        true => "failsafe_groups",
        false if world.plan.disks => "failing_disks",
        false if world.has_regions() => "two_regions",
        false => "one_group",
    };
    let again = format!("MATRIARCH_SEED={seed} cargo test -p tests --test sim {kind}");
    write!(text, "seed {seed}: {broken}\n{again}").expect("a string takes all");
    Some(text)
}

/// All seeds are run; the first failure is shown whole, the others by name.
fn check_seeds(seeds: impl Iterator<Item = u64>, shape: fn(u64) -> Shape) {
    let failures: Vec<String> = seeds.filter_map(|seed| failure(seed, shape)).collect();
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

fn fixed(shape: fn(u64) -> Shape, count: u64) {
    match number("MATRIARCH_SEED") {
        Some(seed) => check_seeds(std::iter::once(seed), shape),
        None => check_seeds(1..=count, shape),
    }
}

fn fresh(shape: fn(u64) -> Shape, count: u64) {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let first = clock.as_millis() as u64 & 0xFFFF_FFFF;
    let count = number("MATRIARCH_SEEDS").unwrap_or(count);
    println!("fresh seeds {first} to {}", first + count - 1);
    check_seeds(first..first + count, shape);
}

fn known(kind: &str, shape: fn(u64) -> Shape) {
    let lines = include_str!("../seeds/known.txt").lines();
    let ours = lines.filter_map(|line| line.strip_prefix(kind)?.split_whitespace().next());
    check_seeds(ours.filter_map(|seed| seed.parse().ok()), shape);
}

/// A simulator in which nothing happens would find nothing.
#[test]
fn the_worlds_are_eventful() {
    let mut ends = Vec::new();
    let mut all = Counts::default();
    for (shape, seeds) in [(one_group as fn(u64) -> Shape, 1..=48), (two_regions, 1..=6)] {
        for seed in seeds {
            let mut world = World::new(seed, &shape(seed));
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
    all.kept += one.kept;
    all.waited += one.waited;
    all.recorded += one.recorded;
}

#[test]
fn one_group_survives_the_fixed_seeds() {
    fixed(one_group, 150);
}

#[test]
fn one_group_survives_fresh_seeds() {
    fresh(one_group, 25);
}

#[test]
fn failsafe_groups_survive_the_fixed_seeds() {
    fixed(failsafe_group, 100);
}

#[test]
fn failsafe_groups_survive_fresh_seeds() {
    fresh(failsafe_group, 25);
}

/// Leaders do lead on past the end of their leases.
#[test]
fn failsafe_groups_lead_on_without_a_store() {
    let mut all = Counts::default();
    for seed in 1..=60 {
        let mut world = World::new(seed, &failsafe_group(seed));
        run(&mut world).expect("a fixed seed");
        add(&mut all, &world.counts);
    }
    println!("{all:?}");
    assert!(all.agreed > 20 && all.led_on > 10 && all.promotions > 10, "{all:?}");
}

#[test]
fn synchronous_groups_survive_the_fixed_seeds() {
    fixed(synchronous_group, 80);
}

/// There is something to lose, and another member takes over with it.
#[test]
fn synchronous_groups_wait_and_fail_over() {
    let mut all = Counts::default();
    for seed in 1..=25 {
        let mut world = World::new(seed, &synchronous_group(seed));
        run(&mut world).expect("a fixed seed");
        add(&mut all, &world.counts);
    }
    println!("{all:?}");
    assert!(all.kept > 25 && all.promotions > 40, "{all:?}");
    assert!(all.waited > 5_000 && all.recorded > 100, "{all:?}");
}

#[test]
fn synchronous_groups_survive_fresh_seeds() {
    fresh(synchronous_group, 20);
}

#[test]
fn changing_times_survive_the_fixed_seeds() {
    fixed(changing_times, 80);
}

#[test]
fn changing_times_survive_fresh_seeds() {
    fresh(changing_times, 20);
}

#[test]
fn fast_groups_survive_the_fixed_seeds() {
    fixed(fast_group, 80);
}

#[test]
fn fast_groups_survive_fresh_seeds() {
    fresh(fast_group, 20);
}

/// Ten minutes on a store that answers each call within `delay_ms`: how often did a
/// leader stop that no member had to replace?
fn needless_failovers(delay_ms: u64, seeds: u64) -> u64 {
    let mut stopped = 0;
    for seed in 1..=seeds {
        let mut world = World::new(seed, &fast_group(4 * seed + 1));
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
        let mut world = World::new(seed, &one_group(seed));
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
    fixed(failing_disks, 80);
}

#[test]
fn failing_disks_survive_fresh_seeds() {
    fresh(failing_disks, 20);
}

/// Nothing else is wrong: another member leads soon if one is able to, and only then.
#[test]
fn the_lock_leaves_a_failing_disk_for_somebody_who_is_able() {
    let mut moved = 0;
    for seed in 1..=30 {
        let mut world = World::new(seed, &failing_disks(seed));
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

#[test]
fn two_regions_survive_the_fixed_seeds() {
    fixed(two_regions, 40);
}

#[test]
fn two_regions_survive_fresh_seeds() {
    fresh(two_regions, 10);
}

/// The member that makes a cluster enters it, whatever became of its claim meanwhile.
#[test]
fn a_store_that_is_wiped_while_a_cluster_is_made_gets_it_nevertheless() {
    let mut hit = 0;
    for seed in 1..=60 {
        let mut world = World::new(seed, &one_group(seed));
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
    known("group ", one_group);
    known("failsafe ", failsafe_group);
    known("disks ", failing_disks);
    known("times ", changing_times);
    known("fast ", fast_group);
    known("synchronous ", synchronous_group);
    known("regions ", two_regions);
}
