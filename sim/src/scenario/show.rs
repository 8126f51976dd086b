//! What a scenario prints.
//!
//! Absent on purpose: positions in logs, milliseconds, and the details of a
//! decision. They change with every delay of the world.

use super::condition::has_lock;
use super::story::Story;
use super::usage::usage;
use crate::world::postgres::{Process, Role};
use crate::world::region::region_name;
use member::ha::Decision;
use node::region::ownership::read;
use standby::slots::Slot;
use topology::SyncState;
use topology::schedule::{Outcome, Schedule};

/// A number of this many digits is a position, a system id or a time.
const POSITION_DIGITS: usize = 5;

/// Of a client whose writes are acknowledged at once.
const WRITES_PER_SECOND: u64 = 10;

type Printed = Result<Vec<String>, String>;

pub fn show(story: &mut Story, words: &[&str]) -> Printed {
    match words {
        [] | ["members"] => Ok(members(story)),
        ["keys", names @ ..] => Ok(keys(story, names)),
        ["trace", names @ ..] => trace(story, names),
        ["clients"] => Ok(clients(story)),
        ["move"] => Ok(moves(story)),
        ["schedules"] => Ok(schedules(story)),
        ["slots"] => Ok(slots(story)),
        ["nodes"] if story.world.citus.is_some() => Ok(nodes(story)),
        _ => usage(),
    }
}

pub fn members(story: &Story) -> Vec<String> {
    let mut lines = vec![format!("at {}s", Story::second(story.world.now))];
    let rows: Vec<[String; 4]> = (0..story.world.members.len()).map(|m| row(story, m)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for [name, state, marks, rule] in &rows {
        let [n, s, m] = widths;
        let line = format!("{name:n$}  {state:s$}  {marks:m$}  {rule}");
        lines.push(line.trim_end().to_string());
    }
    lines
}

fn row(story: &Story, member: usize) -> [String; 4] {
    let m = &story.world.members[member];
    let rule = match &story.last[member] {
        _ if story.lost.contains(&member) => "(the machine is away)".to_string(),
        _ if !m.daemon.alive => "(no daemon)".to_string(),
        _ if m.daemon.frozen => "(the daemon stands still)".to_string(),
        Some(decision) => sentence(decision),
        None => String::new(),
    };
    [m.name.to_string(), state(story, member), marks(story, member), rule]
}

fn sentence(decision: &Decision) -> String {
    format!("rule {}: {}", decision.rule, decision.why)
}

fn state(story: &Story, member: usize) -> String {
    let server = &story.world.members[member].server;
    if server.system.is_none() {
        return "empty".to_string();
    }
    let state = match server.process {
        Process::Down => "down",
        Process::Starting(_) => "starting",
        Process::Stopping { .. } => "stopping",
        Process::Up(Role::Primary) => "primary",
        Process::Up(Role::Standby) => "standby",
    };
    format!("{state:8} timeline {}", server.log.timeline())
}

fn marks(story: &Story, member: usize) -> String {
    let world = &story.world;
    let m = &world.members[member];
    let source = m.server.streams_from.map(|source| format!("of {}", world.members[source].name));
    let lock = has_lock(world, member).then(|| "lock".to_string());
    let sync = world.stores.get(m.place.region, &m.keys.sync());
    let sync = sync.map(|kv| SyncState::read(&kv.value)).filter(|s| s.standbys.contains(&m.name));
    let sync = sync.map(|s| if s.quorum > 0 { "quorum" } else { "sync" }.to_string());
    lock.into_iter().chain(source).chain(sync).collect::<Vec<_>>().join(" ")
}

/// The documents of the first member's group, without the members' own records
/// unless they are named.
fn keys(story: &Story, names: &[&str]) -> Vec<String> {
    let prefix = story.world.members[0].keys.group_prefix();
    let snapshot = story.world.stores.snapshot(0);
    let entries = snapshot.entries.iter().filter_map(|kv| {
        let name = kv.key.strip_prefix(&prefix)?;
        let ours = name.starts_with("members/") || name.starts_with("topology/");
        let wanted = if names.is_empty() { !ours } else { names.contains(&name) };
        wanted.then(|| format!("{name}: {}", masked(&kv.value)))
    });
    let there: Vec<String> = entries.collect();
    let lacks = |name: &&&str| !there.iter().any(|line| line.starts_with(&format!("{name}: ")));
    let absent: Vec<String> = names.iter().filter(lacks).map(|n| format!("{n}: absent")).collect();
    let mut lines = [there, absent].concat();
    lines.sort();
    lines
}

/// Long numbers are told as `N`.
fn masked(value: &str) -> String {
    let (mut text, mut digits) = (String::new(), String::new());
    for letter in value.chars().chain([' ']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        text.push_str(if digits.len() >= POSITION_DIGITS { "N" } else { &digits });
        digits.clear();
        text.push(letter);
    }
    text.trim_end().to_string()
}

/// What members began to do in this block; a rule that repeats is told once.
fn trace(story: &Story, names: &[&str]) -> Printed {
    for name in names {
        story.member(name)?;
    }
    let lines = story.begun.iter().filter_map(|decided| {
        let name = story.world.members[decided.member].name.as_str();
        let wanted = names.is_empty() || names.contains(&name);
        let (at, rule) = (Story::second(decided.at), sentence(&decided.decision));
        wanted.then(|| format!("{at:>4}s  {name}  {rule}"))
    });
    Ok(lines.collect())
}

/// Of each group: do writes flow, and what was the longest pause in this block?
fn clients(story: &Story) -> Vec<String> {
    let mut lines = Vec::new();
    for (group, client) in story.world.clients.iter().enumerate() {
        let since = (story.world.now - client.acknowledged_at) / 1_000;
        let flow = match since {
            0 => "writes are acknowledged".to_string(),
            _ => format!("no write was acknowledged for {since}s"),
        };
        let of = if story.world.clients.len() > 1 { format!(" {group}") } else { String::new() };
        lines.push(format!("clients{of}: {flow}; longest pause {}s", story.pauses[group] / 1_000));
    }
    lines.push(format!("acknowledged writes that were lost: {}", lost(story.world.counts.lost)));
    lines
}

/// Their exact number depends on milliseconds.
fn lost(writes: u64) -> String {
    match writes {
        0 => "none".to_string(),
        1..WRITES_PER_SECOND => "less than a second's".to_string(),
        _ => format!("those of about {}s", writes / WRITES_PER_SECOND),
    }
}

/// `pg_dist_node` as every open server of a Citus formation has it.
fn nodes(story: &Story) -> Vec<String> {
    let world = &story.world;
    let is_open = |member: &usize| world.members[*member].server.accepts_commits();
    let open = (0..world.members.len()).filter(is_open);
    let tell = |member: usize| {
        let rows = world.rows_at(member);
        let rows = rows.iter().map(|row| format!("group {} at {}", row.groupid, row.nodename));
        let rows = rows.collect::<Vec<_>>().join(", ");
        let closed = if world.is_read_only(member) { "; read-only" } else { "" };
        format!("{}: {rows}{closed}", world.members[member].name)
    };
    open.map(tell).collect()
}

/// The slots of each server, and whether it has removed WAL since its data were made.
fn slots(story: &Story) -> Vec<String> {
    let world = &story.world;
    let tell = |member: usize| {
        let m = &world.members[member];
        let slots: Vec<String> = world.slots_of(member).iter().map(slot).collect();
        let slots = if slots.is_empty() { "none".to_string() } else { slots.join(", ") };
        let removed = m.server.wal.kept_from > m.server.wal.born_at;
        let wal = if removed { "old WAL is removed" } else { "all WAL is kept" };
        format!("{}: slots {slots}; {wal}", m.name)
    };
    (0..world.members.len()).map(tell).collect()
}

fn slot(slot: &Slot) -> String {
    let state = match slot {
        Slot { is_lost: true, .. } => "lost",
        Slot { active: true, .. } => "active",
        _ => "idle",
    };
    format!("{} ({state})", slot.name)
}

/// Who owns the formation, and how far a move has come, as each store tells it.
fn moves(story: &Story) -> Vec<String> {
    let keys = &story.world.members[0].keys;
    let tell = |region: usize| {
        let local = read(keys, &story.world.stores.snapshot(region).entries);
        let owner =
            local.certificate().map(|c| format!("{} owns since epoch {}", c.owner, c.epoch));
        let journal = local.journal().map(|journal| {
            let why = journal.error.as_ref().map_or(String::new(), |why| format!(" ({why})"));
            format!("; move {} to {}: {:?}{why}", journal.from, journal.to, journal.phase)
        });
        let owner = owner.unwrap_or("no region owns".into());
        format!("store {}: {owner}{}", region_name(region), journal.unwrap_or_default())
    };
    (0..story.world.stores.regions.len()).map(tell).collect()
}

/// The schedules, and what became of their last occurrence. Stores that differ are told
/// one by one.
fn schedules(story: &Story) -> Vec<String> {
    let world = &story.world;
    let of = |region: usize| -> Vec<String> {
        let all = world.topology_of(region).schedules;
        all.values().map(|s| schedule(s, world.unix_ms())).collect()
    };
    let regions = 0..world.stores.regions.len();
    let first = of(0);
    if regions.clone().all(|region| of(region) == first) {
        return first;
    }
    let tell = |region: usize| {
        let name = region_name(region);
        of(region).into_iter().map(move |line| format!("store {name}: {line}"))
    };
    regions.flat_map(tell).collect()
}

fn schedule(schedule: &Schedule, now_ms: u64) -> String {
    let due =
        schedule.due_ms.map(|due_ms| format!("due in {}s", due_ms.saturating_sub(now_ms) / 1_000));
    let last = schedule.last.as_ref().map(|last| match &last.outcome {
        Outcome::Started(_) => "started".to_string(),
        other => other.to_string(),
    });
    let told: Vec<String> = [due, last].into_iter().flatten().collect();
    let Schedule { id, from, to, .. } = schedule;
    format!("schedule {id}, {from} to {to}: {}", told.join("; "))
}
