//! Making a world: its members, its settings, and what their own files say.
//!
//! A world of a scenario has no plan of faults. Its delays are the middle of their
//! ranges unless the text names a seed.

use super::story::Story;
use super::usage::usage;
use crate::world::citus::Formation;
use crate::world::mode::Synchrony;
use crate::world::region::policy;
use crate::world::rng::Rng;
use crate::world::slots::Slots;
use crate::world::{Shape, World};
use member::ha::observation::Rewind;
use serde_json::{Map, Value, json};
use topology::{Group, MemberName, Tags};

/// Bytes of a large record, where WAL is removed.
const LARGE: u64 = 8_000;
/// `max_replication_slots`, unless the text says otherwise.
const PLACES: u64 = 10;
/// `step_seconds` of moves between regions.
const STEP_SECONDS: u64 = 10;

pub fn story(name: &str, words: &[&str]) -> Result<Story, String> {
    let (names, settings): (Vec<&str>, Vec<&str>) = words.iter().partition(|w| !w.contains('='));
    let settings = pairs(&settings)?;
    let world = match (name, names.len()) {
        ("cluster", 1..) => named(made(&group(names.len()), settings), &names),
        ("formation", 0) => made(&regions(&settings), settings),
        _ => return Err("a scenario begins with `cluster a b c` or `formation`".into()),
    };
    Ok(Story::of(world))
}

fn group(members: usize) -> Shape {
    Shape {
        // Not the mode: its invariants are judged as soon as one is on.
        synchronous: true,
        disks: true,
        times: true,
        ..Shape::group(members)
    }
}

fn regions(settings: &Map<String, Value>) -> Shape {
    let groups = vec![Group(Some(0)), Group(Some(1))];
    let regions = settings.get("regions").and_then(Value::as_u64).unwrap_or(2) as usize;
    let citus = settings.contains_key("citus");
    Shape { regions, groups, synchronous: false, citus, ..group(2) }
}

/// `KEY=VALUE`, where a value is JSON or a text.
pub fn pairs(words: &[&str]) -> Result<Map<String, Value>, String> {
    let pair = |word: &&str| {
        let (key, value) = word.split_once('=').ok_or(format!("{word} is no KEY=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        Ok((key.to_string(), value))
    };
    words.iter().map(pair).collect()
}

fn made(shape: &Shape, mut settings: Map<String, Value>) -> World {
    settings.remove("citus");
    settings.remove("regions");
    let removes_wal = settings.remove("wal").is_some();
    let places = settings.remove("places").and_then(|places| places.as_u64()).unwrap_or(PLACES);
    let seed = settings.remove("seed").and_then(|seed| seed.as_u64());
    let rng = seed.map_or_else(Rng::calm, Rng::new);
    let mut world = World::with(rng, seed.unwrap_or(0), shape);
    world.policy = policy(shape.regions, STEP_SECONDS);
    if world.citus.is_some() {
        world.citus = Some(Box::new(Formation::calm()));
    }
    let plan = &mut world.plan;
    let document = json!({
        "ttl": 30, "loop_wait": 10, "retry_timeout": 10,
        "primary_start_timeout": 300, "maximum_lag_on_failover": 1_000_000,
    });
    plan.document = document.as_object().cloned().unwrap_or_default();
    plan.document.extend(settings);
    plan.synchrony = Synchrony::OFF;
    plan.minimum_ttl = 5;
    (plan.recovery_max, plan.clone_max, plan.record_max) = (1_000, 2_000, 500);
    if removes_wal {
        plan.record_max = LARGE;
        world.slots = Some(Box::new(Slots::calm(places as usize)));
        world.begin_checkpoints();
    }
    for member in &mut world.members {
        member.tags = Tags(Map::new());
        (member.rewind, member.has_gate) = (Rewind::Possible, false);
        (member.may_rebuild_diverged, member.may_rebuild_failed) = (false, false);
    }
    let (dynamic, minimum_ttl) = (world.dynamic(), world.plan.minimum_ttl);
    for member in &mut world.members {
        let machine = &mut member.daemon.machine;
        (machine.dynamic, machine.minimum_ttl) = (dynamic.clone(), minimum_ttl);
    }
    world
}

fn named(mut world: World, names: &[&str]) -> World {
    for (member, name) in world.members.iter_mut().zip(names) {
        member.name = MemberName((*name).to_string());
        member.daemon.machine.name = member.name.clone();
    }
    world
}

pub fn tag(story: &mut Story, words: &[&str]) -> Result<Vec<String>, String> {
    let [name, tags @ ..] = words else { return usage() };
    let member = story.member(name)?;
    story.world.members[member].tags.0.extend(pairs(tags)?);
    Ok(Vec::new())
}

pub fn permit(story: &mut Story, words: &[&str]) -> Result<Vec<String>, String> {
    let [name, what] = words else { return usage() };
    let (rewind, rebuild) = match *what {
        "nothing" => (false, false),
        "rewind" => (true, false),
        "rebuild" => (false, true),
        "all" => (true, true),
        _ => return usage(),
    };
    let member = story.member(name)?;
    let member = &mut story.world.members[member];
    member.rewind = if rewind { Rewind::Possible } else { Rewind::Off };
    (member.may_rebuild_diverged, member.may_rebuild_failed) = (rebuild, rebuild);
    Ok(Vec::new())
}
