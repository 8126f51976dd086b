//! Faults that programs of this kind had, shown to be absent in the simulated world.
//!
//! Others stand beside the code that they are about; docs/reliability.md lists all.

use sim::world::{Shape, World};

/// A blocked catalogue, or a slow view of statistics: the server lives and commits, its
/// lock is renewed, and no daemon learns more of it for two minutes.
#[test]
fn known_bug_2_a_query_that_hangs_demotes_no_leader() {
    for seed in 1..=20 {
        let mut world = World::new(seed, &Shape::group(3));
        world.run_until(60_000).expect("nothing is wrong");
        let leads = |world: &World| world.members.iter().position(|m| m.server.accepts_commits());
        let leader = leads(&world).expect("it has come up");
        let before = (world.counts.promotions, world.counts.restarts);
        world.members[leader].server.mute = true;
        for _ in 0..1_200 {
            world.run_until(world.now + 100).expect("nothing else is wrong");
            assert_eq!(leads(&world), Some(leader), "seed {seed}");
        }
        world.members[leader].server.mute = false;
        world.run_until(world.now + 30_000).expect("nothing is wrong any more");
        assert_eq!(leads(&world), Some(leader), "seed {seed}");
        assert_eq!((world.counts.promotions, world.counts.restarts), before, "seed {seed}");
    }
}
