//! Regions whose stores lose what they held.

use sim::check::Broken;
use sim::seeds::{self, BIRTH_MS, SETTLE_MS, settle};
use sim::world::fault::Fault;
use sim::world::{Shape, World};

/// The formation moves from a to b, then the store of a comes back as it was before, while a
/// reaches no other region.
fn restored_after_a_move(seed: u64, forgetful: bool) -> Result<World, Broken> {
    let mut world = World::new(seed, &Shape { forgetful, ..(seeds::REGIONS.shape)(seed) });
    settle(&mut world, BIRTH_MS).expect("nothing is wrong yet");
    world.save_store(0);
    world.ask_for_move();
    settle(&mut world, SETTLE_MS).expect("nothing is wrong yet");
    world.on_fault(Fault::CutRegions);
    world.on_fault(Fault::Restore(0));
    world.run_until(world.now + 60_000)?;
    Ok(world)
}

#[test]
fn a_restored_store_opens_no_region_beside_the_owner() {
    for seed in 1..=20 {
        let world = restored_after_a_move(seed, false);
        let mut world = world.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        world.on_fault(Fault::HealRegions);
        settle(&mut world, SETTLE_MS).expect("all is well again");
    }
}

/// The check fires when the disks keep nothing.
#[test]
fn without_memory_a_restored_store_makes_two_owners() {
    let broken = (1..=20).find_map(|seed| {
        let broken = restored_after_a_move(seed, true).err()?.to_string();
        Some(format!("seed {seed}: {broken}"))
    });
    let broken = broken.expect("the restored store opens its region for none of the seeds");
    println!("{broken}");
    assert!(broken.contains("one writer"), "{broken}");
}
