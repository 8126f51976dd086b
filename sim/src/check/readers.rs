//! What must hold for readers of permanent logical slots.
//!
//! - *a reader misses nothing*: a reader that finds its slot on an open server has got every
//!   commit of that server's log between where the slot began and where it goes on; and the
//!   catalogues that its slot reads are there. What a failover has taken from a reader is a known
//!   limit before PostgreSQL 17 (docs/slots.md): it begins anew there.
//! - *a move leaves no reader behind*: a slot that the old side had when it stopped is on the
//!   server that opens on the new side.
//! - *refused in words*: a slot that was used is on the primary, or `/status` names it.

use super::Broken;
use crate::world::World;
use crate::world::logical::READER;
use crate::world::postgres::{Kind, Log};
use crate::world::readers::Reader;
use topology::Status;

/// A slot that nothing hinders is read within this.
const READS_MS: u64 = 30_000;

fn reader(world: &World, group: usize) -> Option<&Reader> {
    world.readers.as_ref().map(|readers| &readers.of[group])
}

/// The commits of this log that it should have got up to there.
fn missing(reader: &Reader, log: &Log, up_to: u64) -> Vec<u64> {
    let Some(begun) = reader.begun else { return Vec::new() };
    let due = log.records().iter().filter(|r| r.kind == Kind::Commit);
    let due = due.filter(|record| begun < record.end && record.end <= up_to);
    due.map(|record| record.id).filter(|id| !reader.got.contains(id)).collect()
}

/// A reader is about to read on this server.
pub fn connects(world: &mut World, group: usize, member: usize) {
    let (m, reader) = (&world.members[member], reader(world, group).expect("a reader"));
    let (log, slot) = (&m.server.log, &m.server.wal.logical[READER]);
    if slot.needs < log.horizon() {
        let what = format!("{} lacks rows that the slot of group {group} needs", m.name);
        return world.break_with("a reader misses nothing", what);
    }
    if reader.from == Some((member, log.timeline())) {
        return;
    }
    let is_ahead = reader.got.iter().any(|id| !log.contains(*id));
    let missed = missing(reader, log, reader.at.max(slot.confirmed));
    if is_ahead {
        begins_anew(world, group, member);
    } else if let Some(id) = missed.first() {
        let what = format!(
            "the reader of group {group} goes on at {} without {} commits, the first is {id}",
            m.name,
            missed.len()
        );
        world.break_with("a reader misses nothing", what);
    }
}

/// It has rows that a failover has lost.
fn begins_anew(world: &mut World, group: usize, member: usize) {
    world.counts.ahead += 1;
    world.note(format!("the reader of group {group} was ahead of a failover"));
    let log = &world.members[member].server.log;
    let readers = world.readers.as_mut().expect("a world with readers");
    let reader = &mut readers.of[group];
    let commits = log.records().iter().filter(|record| record.kind == Kind::Commit);
    reader.got = commits.map(|record| record.id).collect();
    reader.at = reader.at.min(log.end());
}

/// A standby has opened.
pub fn promoted(world: &mut World, member: usize) {
    let m = &world.members[member];
    let (client, region) = (m.place.client, m.place.region);
    if reader(world, client).is_none_or(|reader| reader.begun.is_none()) {
        return;
    }
    let slot = m.server.wal.logical.get(READER);
    let is_whole = slot.is_some_and(|slot| slot.needs >= m.server.log.horizon() && !slot.is_lost);
    let from = world.members.iter().find(|old| {
        let place = old.place;
        place.client == client && place.region != region && old.signed_at.is_some()
    });
    let had = from.and_then(|old| old.server.wal.logical.get(READER));
    if had.is_some_and(|slot| !slot.is_lost) {
        if !is_whole {
            let what = format!("{} opens for a move with {slot:?}", m.name);
            return world.break_with("a move leaves no reader behind", what);
        }
        world.counts.carried += 1;
    } else if let Some(slot) = world.members[member].server.wal.logical.get_mut(READER) {
        // A failover within a region: the member says that its copy is not ready.
        slot.is_lost |= !is_whole;
    }
}

pub fn settled(world: &World) -> Result<(), Broken> {
    for group in 0..world.clients.len() {
        let Some(reader) = reader(world, group).filter(|reader| reader.begun.is_some()) else {
            continue;
        };
        let mut members = 0..world.members.len();
        let open = members.find(|m| {
            let m = &world.members[*m];
            m.place.client == group && m.server.accepts_commits()
        });
        let Some(leader) = open else { continue };
        match world.members[leader].server.wal.logical.get(READER) {
            Some(slot) if slot.is_lost => {}
            Some(_) => has_all(world, reader, group, leader)?,
            None => is_refused(world, leader)?,
        }
    }
    Ok(())
}

fn has_all(world: &World, reader: &Reader, group: usize, leader: usize) -> Result<(), Broken> {
    let log = &world.members[leader].server.log;
    let reads = world.ended_before(group, READS_MS).is_none_or(|old| reader.at >= old);
    let missed = missing(reader, log, reader.at);
    if reads && missed.is_empty() {
        return Ok(());
    }
    let what = format!(
        "the reader of group {group} is at {}, the log at {}; {} commits are missing",
        reader.at,
        log.end(),
        missed.len()
    );
    Err(Broken { invariant: "a reader misses nothing", what })
}

fn is_refused(world: &World, leader: usize) -> Result<(), Broken> {
    let m = &world.members[leader];
    let status = world.stores.get(m.place.region, &m.keys.status());
    let told = status.map(|status| Status::read(&status.value));
    let is_told = told.is_some_and(|status| status.refused_slots.contains_key(READER));
    let what = format!("{} has no slot for its reader, and does not say so", m.name);
    is_told.then_some(()).ok_or(Broken { invariant: "refused in words", what })
}
