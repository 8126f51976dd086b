//! Time passes: for a given time, or until something holds.

use super::inject::number;
use super::story::Story;
use super::usage::usage;
use crate::check;
use crate::world::World;

/// How long a scenario waits without `within`.
const LIMIT_S: u64 = 120;
/// What holds stays so for this long: by then the other members have heard of it.
const LASTING_S: u64 = 2;
/// Calm goes on to a round moment: how long a copy or a rewind took does not show.
const CALM_S: u64 = 5;

pub fn run(story: &mut Story, words: &[&str]) -> Result<Vec<String>, String> {
    let (condition, seconds) = match words {
        ["until", condition @ .., "within", seconds] => (condition, number(seconds)?),
        ["until", condition @ ..] => (condition, LIMIT_S),
        [seconds] => {
            let seconds = number(seconds)?;
            return Ok(story.run(seconds).err().into_iter().collect());
        }
        _ => return usage(),
    };
    // Words that do not fit are found before the world goes on.
    holds(story, condition)?;
    let met = |story: &Story| holds(story, condition) == Ok(true);
    let came = story.run_until(met, LASTING_S, seconds);
    let end = came.and_then(|came| match *condition == ["quiet"] {
        true => story.run_to_the_next(CALM_S).map(|()| came),
        false => Ok(came),
    });
    Ok(match end {
        Ok(true) => Vec::new(),
        Ok(false) => vec![format!("not within {seconds}s: {}", condition.join(" "))],
        Err(broken) => vec![broken],
    })
}

fn holds(story: &Story, condition: &[&str]) -> Result<bool, String> {
    let world = &story.world;
    Ok(match condition {
        ["quiet"] => is_quiet(world),
        ["leader"] => (0..world.clients.len()).all(|client| leads(world, client).is_some()),
        ["leader", name] => {
            let member = story.member(name)?;
            leads(world, world.members[member].place.client) == Some(member)
        }
        ["no", "leader"] => world.members.iter().all(|m| !m.server.accepts_commits()),
        ["move", "over"] => world.unfinished_move().is_none() && !world.ended_moves().is_empty(),
        _ => return usage(),
    })
}

/// All is well, and no long action runs: a rewind that is due would count as settled.
fn is_quiet(world: &World) -> bool {
    let is_idle = world.members.iter().all(|m| m.daemon.job.is_none());
    check::settled(world).is_ok() && is_idle
}

/// The member of the group that holds its region's lock and accepts commits.
fn leads(world: &World, client: usize) -> Option<usize> {
    let holds = |member: &usize| {
        let m = &world.members[*member];
        m.place.client == client && m.server.accepts_commits() && has_lock(world, *member)
    };
    (0..world.members.len()).find(holds)
}

pub fn has_lock(world: &World, member: usize) -> bool {
    let m = &world.members[member];
    let lock = world.stores.get(m.place.region, &m.keys.leader());
    lock.is_some_and(|lock| lock.value == m.name.as_str())
}
