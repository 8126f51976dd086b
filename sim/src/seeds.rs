//! Kinds of worlds, and how the world of a seed runs: it comes up, faults happen,
//! they end, and all must be well again.

use crate::check::{self, Broken};
use crate::world::mishap::Mishaps;
use crate::world::{Shape, World};
use std::fmt::Write;
use topology::Group;

/// A cluster has come up by then, when nothing goes wrong.
pub const BIRTH_MS: u64 = 40_000;
/// Long enough for a lease to end, a server to recover, a copy to be made,
/// and for a few tries of those that failed before.
pub const SETTLE_MS: u64 = 150_000;
/// Between two looks whether all is well.
const STEP_MS: u64 = 3_000;

/// What a seed is the number of.
#[derive(Clone, Copy)]
pub struct Kind {
    /// As kept seeds and the program name it.
    pub name: &'static str,
    pub shape: fn(u64) -> Shape,
}

const fn kind(name: &'static str, shape: fn(u64) -> Shape) -> Kind {
    Kind { name, shape }
}

pub const GROUP: Kind = kind("group", one_group);
pub const FAILSAFE: Kind = kind("failsafe", failsafe_group);
pub const MAJORITY: Kind = kind("majority", majority_group);
pub const DISKS: Kind = kind("disks", failing_disks);
pub const TIMES: Kind = kind("times", changing_times);
pub const FAST: Kind = kind("fast", fast_group);
pub const SYNCHRONOUS: Kind = kind("synchronous", synchronous_group);
pub const REGIONS: Kind = kind("regions", two_regions);
pub const MISHAPS: Kind = kind("mishaps", group_with_mishaps);
pub const SYNCHRONOUS_MISHAPS: Kind = kind("synchronous-mishaps", synchronous_with_mishaps);
pub const REGION_MISHAPS: Kind = kind("region-mishaps", regions_with_mishaps);
pub const THREE: Kind = kind("three", three_regions);
pub const SLOTS: Kind = kind("slots", group_with_slots);
pub const REGION_SLOTS: Kind = kind("region-slots", regions_with_readers);
pub const CITUS: Kind = kind("citus", citus_formation);
pub const CITUS_REGIONS: Kind = kind("citus-regions", citus_regions);

pub const KINDS: [Kind; 16] = [
    GROUP,
    FAILSAFE,
    MAJORITY,
    DISKS,
    TIMES,
    FAST,
    SYNCHRONOUS,
    REGIONS,
    MISHAPS,
    SYNCHRONOUS_MISHAPS,
    REGION_MISHAPS,
    THREE,
    SLOTS,
    REGION_SLOTS,
    CITUS,
    CITUS_REGIONS,
];

fn one_group(seed: u64) -> Shape {
    Shape::group(2 + (seed % 3) as usize)
}

/// One group in failsafe mode, with a store that is away more often.
fn failsafe_group(seed: u64) -> Shape {
    Shape { failsafe: true, ..one_group(seed) }
}

/// The same by a majority, with three to five members.
fn majority_group(seed: u64) -> Shape {
    let fast = seed.is_multiple_of(7);
    Shape { failsafe: true, majority: true, fast, ..Shape::group(3 + (seed % 3) as usize) }
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
    Shape { regions: 2, groups, ..Shape::group(2) }
}

/// One group to which everything happens that is in `mishap.rs`.
fn group_with_mishaps(seed: u64) -> Shape {
    let (failsafe, times) = (seed.is_multiple_of(4), seed.is_multiple_of(5));
    Shape { mishaps: Mishaps::USUAL, failsafe, times, ..one_group(seed) }
}

fn synchronous_with_mishaps(seed: u64) -> Shape {
    Shape { mishaps: Mishaps::USUAL, ..synchronous_group(seed) }
}

fn regions_with_mishaps(seed: u64) -> Shape {
    Shape { mishaps: Mishaps::USUAL, ..two_regions(seed) }
}

/// One group whose servers have slots and remove WAL; members stream from each other.
fn group_with_slots(seed: u64) -> Shape {
    let (failsafe, synchronous) = (seed.is_multiple_of(5), seed.is_multiple_of(4));
    Shape { slots: true, failsafe, synchronous, ..Shape::group(3 + (seed % 2) as usize) }
}

/// Two regions of one group each, whose members keep a permanent logical slot for a reader.
fn regions_with_readers(_: u64) -> Shape {
    Shape { regions: 2, slots: true, readers: true, ..Shape::group(2) }
}

/// One region with a coordinator and two worker groups of two members, synchronous or not.
fn citus_formation(seed: u64) -> Shape {
    let groups = vec![Group(Some(0)), Group(Some(1)), Group(Some(2))];
    Shape { groups, citus: true, synchronous: seed.is_multiple_of(2), ..Shape::group(2) }
}

/// The same in two regions.
fn citus_regions(seed: u64) -> Shape {
    Shape { regions: 2, synchronous: false, ..citus_formation(seed) }
}

/// Three regions of one group each.
fn three_regions(_: u64) -> Shape {
    Shape { regions: 3, ..Shape::group(2) }
}

pub fn run(world: &mut World) -> Result<(), Broken> {
    settle(world, BIRTH_MS)?;
    world.begin_faults();
    let faults = world.rng.range(20_000, 150_000);
    world.run_until(world.now + faults)?;
    world.heal_everything();
    settle(world, SETTLE_MS)
}

/// Runs until all is well and stays so, at most `limit_ms`.
pub fn settle(world: &mut World, limit_ms: u64) -> Result<(), Broken> {
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

/// A world in which something went wrong.
pub struct Failure {
    pub seed: u64,
    pub broken: Broken,
    /// The end of its trace.
    pub story: String,
}

/// Runs the world of a seed. `shown`: lines of the trace that a failure shows.
pub fn failure(seed: u64, shape: &Shape, shown: usize) -> Option<Failure> {
    let mut world = World::new(seed, shape);
    let broken = run(&mut world).err()?;
    let skip = world.trace.len().saturating_sub(shown);
    let mut story = String::new();
    for line in world.trace.iter().skip(skip) {
        writeln!(story, "{line}").expect("a string takes all");
    }
    Some(Failure { seed, broken, story })
}
