//! The truth: what must hold in every world, after every event.
//!
//! Invariants of a group, as in the code's own assertions but judged from
//! outside, with the identities of records that no daemon can see:
//!
//! - *one writer*: never two servers of a group that accept commits. A server
//!   whose daemon is dead, frozen or in pause, past its lock's deadline, is not
//!   counted: without a watchdog nothing can stop it (`Member::is_unguarded`).
//! - *nothing acknowledged is lost* by a planned move; a failover loses at most
//!   what the new primary had not received, within `maximum_lag_on_failover`.
//! - in a synchronous mode nothing acknowledged is lost at all
//!   (`check/synchronous.rs`).
//! - *no regress*: no server streams into a history that its log is no part of.
//! - *no destruction*: data is thrown away only with a living source.
//! - *forgets nothing*: a daemon takes away only its own lock, a claim that it
//!   gives back, and what a move or a mode leaves behind; what must go with its
//!   writer hangs on a lease, and nothing else does.
//! - *one owner*: a move of a formation happens in all of its groups or in none.
//! - readers of logical slots miss nothing, and none is left behind by a move
//!   (`check/readers.rs`).
//! - in a formation of Citus, what `check/citus.rs` says.
//! - *progress*: when faults stop, there is a leader and all stream from it.

pub mod citus;
pub mod readers;
pub mod slots;
pub mod synchronous;

use crate::world::World;
use crate::world::member::Member;
use crate::world::postgres::{Process, Role};
use node::dcs::by_hand::{Edit, edits_of};
use std::fmt;
use topology::{Lsn, Write};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub invariant: &'static str,
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.invariant, self.what)
    }
}

pub fn after_event(world: &World) -> Result<(), Broken> {
    for client in 0..world.clients.len() {
        one_writer(world, client)?;
    }
    Ok(())
}

/// Invariant *forgets nothing*: of everything a daemon sends, taken or not.
pub fn sent(world: &mut World, member: usize, write: &Write) {
    let edits = edits_of(&world.members[member].keys, write);
    if let Some(what) = edits.iter().find_map(forbidden) {
        let what = format!("{} {what}", world.members[member].name);
        world.break_with("forgets nothing", what);
    }
}

fn forbidden(edit: &Edit) -> Option<String> {
    let leaves = |key: &str, names: &[&str]| names.iter().any(|name| key.ends_with(name));
    let is_ours = |key: &str| key.contains("/topology/");
    match edit {
        Edit::DeletePrefix { prefix } => Some(format!("deletes all below {prefix}")),
        Edit::Delete { key } => {
            let may = leaves(key, &["/leader", "/initialize", "/sync"]) || is_ours(key);
            (!may).then(|| format!("deletes {key}"))
        }
        Edit::Put { key, .. } if is_ours(key) => None,
        Edit::Put { key, session, .. } => {
            let passes = leaves(key, &["/leader"]) && !key.ends_with("/optime/leader")
                || key.contains("/members/");
            (passes != session.is_some()).then(|| format!("writes {key} on lease {session:?}"))
        }
    }
}

/// Invariant *one writer*.
fn one_writer(world: &World, client: usize) -> Result<(), Broken> {
    let open = || {
        world.members.iter().filter(|m| {
            m.place.client == client && m.server.accepts_commits() && !m.is_unguarded(world.now)
        })
    };
    if open().nth(1).is_none() {
        return Ok(());
    }
    let who: Vec<&str> = open().map(|m| m.name.as_str()).collect();
    Err(Broken { invariant: "one writer", what: format!("{} accept commits", who.join(" and ")) })
}

/// A standby streams: its log must truly be the beginning of the other one.
pub fn attached(world: &mut World, standby: usize, upstream: usize) {
    let (log, source) = (&world.members[standby].server.log, &world.members[upstream].server.log);
    if log.is_prefix_of(source) {
        return;
    }
    let what = format!(
        "{} streams from {} and its log is no part of that history",
        world.members[standby].name, world.members[upstream].name
    );
    world.break_with("no regress", what);
}

/// A server opens again in place: it must have everything there is, unless its daemon
/// is not there to stop it, or an operator has started it.
pub fn restarted(world: &mut World, member: usize) {
    world.counts.restarts += 1;
    let client = world.members[member].place.client;
    if world.members[member].is_by_hand {
        return;
    }
    let missing = missing(world, member);
    // Its daemon was frozen or killed while it recovered: see *one writer*.
    let is_guarded = !world.members[member].is_unguarded(world.now);
    if let Some(id) = missing.first().filter(|_| is_guarded) {
        let what = format!(
            "{} starts as a primary without {} acknowledged records, the first is {id}",
            world.members[member].name,
            missing.len()
        );
        world.break_with("no regress", what);
    }
    forget_release(world, client);
    synchronous::opened(world, member);
}

/// A primary that runs takes the lock. In pause it may be one that the group has
/// left behind: what another one acknowledged since then is lost with that.
pub fn took_lock(world: &mut World, member: usize) {
    let client = world.members[member].place.client;
    let missing = missing(world, member);
    let m = &world.members[member];
    // A store that knows nothing believes in the primary that an operator has started.
    let excused = m.was_just_paused(m.clock.read(world.now)) || m.is_by_hand && world.fate.forgot;
    if !missing.is_empty() && !excused {
        let what = format!("{} leads on without {} records", m.name, missing.len());
        return world.break_with("no regress", what);
    }
    world.counts.lost += missing.len() as u64;
    world.clients[client].acknowledged.retain(|id| !missing.contains(id));
    synchronous::opened(world, member);
}

/// A standby opened: what may be missing depends on how it came to lead.
pub fn promoted(world: &mut World, member: usize) {
    world.counts.promotions += 1;
    let client = world.members[member].place.client;
    let missing = missing(world, member);
    let floor = world.members.iter().filter(|m| m.place.client == client);
    let region = world.members[member].place.region;
    let promise = |m: &Member| match m.place.region == region {
        true => m.released_at,
        // Only a planned move opens another region.
        false => m.signed_at,
    };
    let floor = floor.filter_map(promise).max().unwrap_or(0);
    let promised = &world.clients[client].acknowledged[..floor];
    let kept = promised.iter().all(|id| world.members[member].server.log.contains(*id));
    if !kept {
        let what = format!(
            "{} opens after a planned handover without {} acknowledged records",
            world.members[member].name,
            missing.len()
        );
        world.break_with("nothing acknowledged is lost", what);
    }
    readers::promoted(world, member);
    let log = &world.members[member].server.log;
    let has: std::collections::HashSet<u64> = log.records().iter().map(|r| r.id).collect();
    world.counts.lost += missing.len() as u64;
    let client_state = &mut world.clients[client];
    client_state.acknowledged.retain(|id| has.contains(id));
    forget_release(world, client);
    synchronous::opened(world, member);
}

pub fn forget_release(world: &mut World, client: usize) {
    for member in world.members.iter_mut().filter(|m| m.place.client == client) {
        member.released_at = None;
        member.signed_at = None;
    }
}

fn missing(world: &World, member: usize) -> Vec<u64> {
    let log = &world.members[member].server.log;
    let client = &world.clients[world.members[member].place.client];
    let acknowledged = client.acknowledged.iter().copied();
    acknowledged.filter(|id| !log.contains(*id)).collect()
}

/// Data is about to be thrown away: another member must have a living copy.
pub fn destroyed(world: &mut World, member: usize) {
    world.counts.rebuilds += 1;
    let client = world.members[member].place.client;
    let other =
        world.members.iter().enumerate().any(|(index, m)| {
            index != member && m.place.client == client && m.server.system.is_some()
        });
    if !other {
        let what = format!("{} throws the last copy away", world.members[member].name);
        world.break_with("no destruction", what);
    }
}

/// Invariant *progress*: judged some time after the last fault.
pub fn settled(world: &World) -> Result<(), Broken> {
    let stuck = |what: String| Broken { invariant: "progress", what };
    if let Some(phase) = world.unfinished_move() {
        return Err(stuck(format!("a move stays in phase {phase:?}")));
    }
    if let Some(m) = world.members.iter().find(|m| m.daemon.agent.holds()) {
        return Err(stuck(format!("{} holds commits back without a move", m.name)));
    }
    for client in 0..world.clients.len() {
        let group = || world.members.iter().enumerate().filter(|(_, m)| m.place.client == client);
        let Some((leader, _)) = group().find(|(_, m)| m.server.accepts_commits()) else {
            return Err(stuck(format!("group {client} has no primary")));
        };
        for (index, m) in group().filter(|(index, _)| *index != leader) {
            let streams =
                m.server.process == Process::Up(Role::Standby) && m.server.streams_from.is_some();
            let excused = slots::is_left_behind(world, index)? || is_kept_diverged(world, m);
            if !streams && !excused {
                return Err(stuck(format!("{} does not stream{}", m.name, source_of(world, m))));
            }
        }
        let log = &world.members[leader].server.log;
        let lost = world.clients[client].acknowledged.iter().find(|id| !log.contains(**id));
        if let Some(id) = lost {
            return Err(Broken {
                invariant: "nothing acknowledged is lost",
                what: format!("record {id} is gone"),
            });
        }
        if world.plan.synchronous {
            synchronous::settled(world, client, leader)?;
        }
    }
    one_region(world)?;
    if world.readers.is_some() {
        readers::settled(world)?;
    } else if world.slots.is_some() {
        slots::settled(world)?;
    }
    match &world.citus {
        Some(formation) => citus::settled(world, formation),
        None => Ok(()),
    }
}

/// Where a standby would stream from, and what that server has for it.
fn source_of(world: &World, m: &Member) -> String {
    let Some(following) = &m.server.follows else { return ", and follows no server".into() };
    let Some(source) = world.member_at(following) else { return String::new() };
    let source = &world.members[source];
    let slot = following.slot.as_ref().map(|name| (name, source.server.wal.slots.get(name)));
    format!(
        " from {}: its log ends at {} of timeline {}, the source keeps {} to {} of timeline {}, slot {slot:?}",
        source.name,
        Lsn(m.server.log.end()),
        m.server.log.timeline(),
        Lsn(source.server.wal.kept_from),
        Lsn(source.server.log.end()),
        source.server.log.timeline(),
    )
}

/// A move has happened or not: the primaries of all groups are in one region.
fn one_region(world: &World) -> Result<(), Broken> {
    let open = || world.members.iter().filter(|m| m.server.accepts_commits());
    let mut regions = open().map(|m| m.place.region);
    let first = regions.next();
    if regions.any(|region| Some(region) != first) {
        let who: Vec<&str> = open().map(|m| m.name.as_str()).collect();
        return Err(Broken {
            invariant: "one owner",
            what: format!("{} are open", who.join(" and ")),
        });
    }
    Ok(())
}

/// Invariant *no regress*: what a rewind left half way is no server's data.
pub fn starting(world: &mut World, member: usize) {
    if world.members[member].server.half {
        let what = format!("{} starts on half of a rewind", world.members[member].name);
        world.break_with("no regress", what);
    }
}

/// Diverged, and the settings permit neither to rewind nor to rebuild it. Its daemon may be
/// about to compare it once more, after its server has started or another lock was taken.
fn is_kept_diverged(world: &World, m: &Member) -> bool {
    use member::ha::observation::{Divergence, Rewind};
    let diverged = match m.daemon.machine.memory.divergence {
        Divergence::Diverged(_) | Divergence::Alien(_) => true,
        Divergence::Unchecked => has_left(world, m),
        Divergence::Prefix | Divergence::Unreadable(_) => false,
    };
    (diverged || m.server.half)
        && !m.may_rebuild_diverged
        && (m.rewind != Rewind::Possible || m.server.process == Process::Down)
}

/// The truth: its log is no beginning of its primary's.
fn has_left(world: &World, m: &Member) -> bool {
    let is_primary =
        |other: &&Member| other.place.client == m.place.client && other.server.accepts_commits();
    let primary = world.members.iter().find(is_primary);
    primary.is_some_and(|primary| !m.server.log.is_prefix_of(&primary.server.log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::Session;

    fn put(key: &str, lease: Option<Session>) -> Edit {
        Edit::Put { key: format!("/service/shop/{key}"), value: "x".into(), session: lease }
    }

    fn delete(key: &str) -> Edit {
        Edit::Delete { key: format!("/service/shop/{key}") }
    }

    #[test]
    fn what_a_daemon_may_take_away_and_what_goes_with_it() {
        for key in ["leader", "0/leader", "initialize", "sync", "topology/switch"] {
            assert_eq!(forbidden(&delete(key)), None, "{key}");
        }
        for key in ["config", "history", "status", "failsafe", "failover", "members/n1"] {
            assert!(forbidden(&delete(key)).is_some(), "{key}");
        }
        assert!(forbidden(&Edit::DeletePrefix { prefix: "/service/shop/".into() }).is_some());
        for key in ["leader", "members/n1"] {
            assert_eq!(forbidden(&put(key, Some(Session::of_store(1)))), None, "{key}");
            assert!(forbidden(&put(key, None)).is_some(), "{key} would outlive its writer");
        }
        for key in ["config", "status", "optime/leader", "failover", "sync", "failsafe"] {
            assert_eq!(forbidden(&put(key, None)), None, "{key}");
            assert!(
                forbidden(&put(key, Some(Session::of_store(1)))).is_some(),
                "{key} would go with its writer"
            );
        }
    }
}
