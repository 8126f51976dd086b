//! Seeds: each one is a world of its own, with its faults.
//!
//! Rerun one with `MATRIARCH_SEED=123 cargo test -p tests --test sim -- --nocapture`.

use std::fmt::Write;
use tests::check::{self, Broken};
use tests::world::{Shape, World};
use topology::Group;

/// A cluster has come up by then, when nothing goes wrong.
const BIRTH_MS: u64 = 40_000;
/// Long enough for a lease to end, a server to recover, a copy to be made,
/// and for a few tries of those that failed before.
const SETTLE_MS: u64 = 150_000;
const TRACE_SHOWN: usize = 120;

fn shape(seed: u64) -> Shape {
    Shape {
        regions: 1,
        groups: vec![Group::PLAIN],
        members: 2 + (seed % 3) as usize,
    }
}

fn run(world: &mut World) -> Result<(), Broken> {
    world.run_until(BIRTH_MS)?;
    check::settled(world)?;
    world.begin_faults();
    let faults = world.rng.range(20_000, 150_000);
    world.run_until(BIRTH_MS + faults)?;
    world.heal_everything();
    world.run_until(BIRTH_MS + faults + SETTLE_MS)?;
    check::settled(world)
}

fn check_seed(seed: u64) -> Option<String> {
    let mut world = World::new(seed, &shape(seed));
    let broken = run(&mut world).err()?;
    let mut text = String::new();
    let skip = world.trace.len().saturating_sub(TRACE_SHOWN);
    for line in world.trace.iter().skip(skip) {
        writeln!(text, "{line}").expect("a string takes all");
    }
    write!(
        text,
        "seed {seed}: {broken}\nMATRIARCH_SEED={seed} cargo test -p tests --test sim"
    )
    .expect("a string takes all");
    Some(text)
}

fn check_seeds(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        if let Some(failure) = check_seed(seed) {
            panic!("{failure}");
        }
    }
}

fn chosen() -> Option<u64> {
    std::env::var("MATRIARCH_SEED").ok()?.parse().ok()
}

#[test]
fn one_group_survives_the_fixed_seeds() {
    match chosen() {
        Some(seed) => check_seeds(std::iter::once(seed)),
        None => check_seeds(1..=150),
    }
}
