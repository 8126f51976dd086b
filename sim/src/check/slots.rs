//! What must hold for slots and the WAL behind them.
//!
//! - *no member starves*: a member finds the WAL behind its end at the server that it is
//!   to follow, unless its record was gone for longer than `member_slots_ttl`, a limit has
//!   taken its slot, there was no place for it, or its source or the slot there is younger.
//! - *bounded WAL*: when all is well, no server keeps what was written long ago.
//! - *no dead rows kept*: when all is well, only standbys that stream keep rows from vacuum.

use super::{Broken, is_kept_diverged};
use crate::world::World;
use crate::world::member::Member;
use crate::world::slots::{KEPT, SEGMENT, SlotModel};
use topology::id::slot_name;

/// A slot that nothing uses follows its reader within this.
const FOLLOWS_MS: u64 = 60_000;

/// A server has removed WAL: for which members is it noted that they may starve?
pub fn removed(world: &mut World, member: usize) {
    let client = world.members[member].place.client;
    let kept_from = world.members[member].server.wal.kept_from;
    for other in (0..world.members.len()).filter(|other| *other != member) {
        let m = &world.members[other];
        if m.place.client == client && m.server.log.end() < kept_from {
            let may = may_starve(world, other, member);
            world.members[other].may_starve |= may;
        }
    }
}

/// Its slot was not to be kept there.
fn may_starve(world: &World, member: usize, at: usize) -> bool {
    let (m, slots) = (&world.members[member], world.slots.as_ref().expect("a world with slots"));
    let wal = &world.members[at].server.wal;
    let slot = wal.slots.get(&slot_name(m.name.as_str()));
    let is_lost = slot.is_some_and(|slot| slot.is_lost);
    let has_no_place = slot.is_none() && wal.slots.len() >= slots.places;
    let ttl_ms = world.dynamic().member_slots_ttl_ms;
    let is_forgotten = world.now.saturating_sub(m.seen_at) >= ttl_ms;
    let is_late = slot.is_some_and(|slot| slot.made_at > m.server.log.end());
    is_lost || is_late || has_no_place || is_forgotten || wal.born_at > m.server.log.end()
}

/// The WAL behind its end is gone at the server that it follows.
fn starves(world: &World, member: usize) -> bool {
    let server = &world.members[member].server;
    let source = server.follows.as_ref().and_then(|following| world.member_at(following));
    source.map(|source| &world.members[source].server).is_some_and(|source| {
        server.log.may_continue_with(&source.log) && source.wal.kept_from > server.log.end()
    })
}

/// It does not stream, and an operator has to build it anew.
pub fn is_left_behind(world: &World, member: usize) -> Result<bool, Broken> {
    let removes = world.slots.as_ref().is_some_and(|slots| !slots.keeps_wal);
    if !removes || !starves(world, member) {
        return Ok(false);
    }
    let m = &world.members[member];
    let what = format!("the WAL that {} needs is gone", m.name);
    m.may_starve.then_some(true).ok_or(Broken { invariant: "no member starves", what })
}

pub fn settled(world: &World) -> Result<(), Broken> {
    let members = 0..world.members.len();
    for member in members.filter(|member| !waits_for_operator(world, &world.members[*member])) {
        bounded(world, member)?;
        no_dead_rows(world, member)?;
    }
    Ok(())
}

/// It has to be built anew: until then its slots stay where they are, and those on it too.
fn waits_for_operator(world: &World, m: &Member) -> bool {
    m.may_starve || is_kept_diverged(world, m)
}

/// Slots of this server whose member may be expected to stream.
fn slots_in_use(world: &World, member: usize) -> impl Iterator<Item = (&String, &SlotModel)> {
    let waiting = world.members.iter().filter(|m| waits_for_operator(world, m));
    let waiting: Vec<String> = waiting.map(|m| slot_name(m.name.as_str())).collect();
    let slots = world.members[member].server.wal.slots.iter();
    slots.filter(move |(name, _)| !waiting.contains(name))
}

fn bounded(world: &World, member: usize) -> Result<(), Broken> {
    let m = &world.members[member];
    let Some(old) = world.ended_before(m.place.client, FOLLOWS_MS) else { return Ok(()) };
    // One that is left behind has nothing new.
    let runs = m.server.accepts_commits() || m.server.is_standby() && m.server.log.end() >= old;
    let all = m.server.wal.slots.len();
    let keeps_old = m.server.wal.kept_from + KEPT + 2 * SEGMENT < old;
    if !runs || !keeps_old || slots_in_use(world, member).count() < all {
        return Ok(());
    }
    let slowest = m.server.wal.slots.iter().min_by_key(|(_, slot)| slot.restart);
    let slowest = slowest.map(|(name, _)| name.as_str()).unwrap_or_default();
    let what = format!("{} keeps WAL of more than a minute ago, for {slowest}", m.name);
    Err(Broken { invariant: "bounded WAL", what })
}

fn no_dead_rows(world: &World, member: usize) -> Result<(), Broken> {
    let is_dead = |name: &str, slot: &SlotModel| slot.holds_rows && !world.is_active(member, name);
    match slots_in_use(world, member).find(|(name, slot)| is_dead(name, slot)) {
        Some((name, _)) => {
            let what = format!("the slot {name} on {} keeps rows", world.members[member].name);
            Err(Broken { invariant: "no dead rows kept", what })
        }
        None => Ok(()),
    }
}
