//! What must hold while a synchronous mode is in force.
//!
//! In force: `/config` asks for one and `/sync` names a leader, written since the
//! mode was last switched on. From then on every acknowledged write is kept: no server
//! opens without it, except the member that an operator's manual failover names
//! although it is not in `/sync`, or is only one of several voters.
//!
//! Stronger, and so earlier to show a fault: every set of servers that is enough
//! to acknowledge meets every set that is enough to elect (ha.md 16.1).

use super::Broken;
use crate::world::World;
use crate::world::synchrony::{Wanted, parse};
use std::collections::BTreeSet;
use topology::{Dynamic, SyncMode, SyncState, Version};

/// A client that can write does so at least this often.
const FLOWS_MS: u64 = 2_000;

/// An operator's manual failover that no member has carried out yet.
#[derive(Clone, Debug)]
pub struct Word {
    pub named: String,
    /// At some moment the member it names was not in `/sync`, or a voter among others.
    pub outside: bool,
}

/// A standby that is ahead of the fork has just reported its end: it has none of the commits
/// that `waiting` clients of the primary were waiting for.
pub fn counted_beyond_fork(world: &mut World, standby: usize, primary: usize, waiting: usize) {
    let left = world.members[primary].server.waiting.len();
    if left < waiting && world.clients[world.members[primary].place.client].in_force.is_some() {
        let (standby, primary) = (&world.members[standby].name, &world.members[primary].name);
        let what = format!("{primary} acknowledged commits that {standby} does not have");
        world.break_with("a standby confirms only what it has", what);
    }
}

fn configured(world: &World, client: usize) -> Option<Dynamic> {
    let m = world.members.iter().find(|m| m.place.client == client)?;
    let text = world.stores.get(m.place.region, &m.keys.config())?.value;
    Dynamic::read(&serde_json::from_str(&text).ok()?).ok()
}

/// `/sync`, and its version.
fn recorded(world: &World, client: usize) -> Option<(SyncState, Version)> {
    let m = world.members.iter().find(|m| m.place.client == client)?;
    let there = world.stores.get(m.place.region, &m.keys.sync())?;
    let sync = SyncState::read(&there.value);
    sync.is_active().then_some((sync, there.version))
}

fn request_of(world: &World, client: usize) -> Option<String> {
    let m = world.members.iter().find(|m| m.place.client == client)?;
    Some(world.stores.get(m.place.region, &m.keys.failover())?.value.clone())
}

fn led_by(world: &World, client: usize) -> Option<String> {
    let m = world.members.iter().find(|m| m.place.client == client)?;
    Some(world.stores.get(m.place.region, &m.keys.leader())?.value.clone())
}

/// `/sync`, `/config` or `/failover` has changed.
pub fn stirred(world: &mut World) {
    for client in 0..world.clients.len() {
        let mode = configured(world, client).map_or(SyncMode::Off, |c| c.synchronous_mode);
        let (record, leader) = (recorded(world, client), led_by(world, client));
        let state = &mut world.clients[client];
        if let (SyncMode::Off, Some((_, version))) = (mode, &record) {
            state.void_version = *version;
        }
        let record = record.filter(|(_, version)| *version > state.void_version);
        let record = record.map(|(record, _)| record);
        if let Some(word) = &mut state.word {
            // Of several that vote each alone may lack something.
            let inside = |r: &SyncState| r.quorum == 0 && r.is_member(&word.named.as_str().into());
            word.outside |= !record.as_ref().is_some_and(inside);
        }
        let leads = |word: &mut Word| leader.as_ref() == Some(&word.named);
        if let Some(word) = state.word.take_if(leads) {
            state.obeyed = Some(word);
        }
        if record.is_none() {
            state.kept.clear();
        }
        world.counts.recorded += u64::from(record.is_some() && record != state.in_force);
        state.in_force = record;
        sets_meet(world, client);
    }
}

/// A server opens, by promotion or in place.
pub fn opened(world: &mut World, member: usize) {
    let m = &world.members[member];
    let (name, client) = (m.name.0.clone(), m.place.client);
    let state = &world.clients[client];
    let (kept, missing): (Vec<u64>, Vec<u64>) =
        state.kept.iter().partition(|id| m.server.log.contains(**id));
    world.counts.kept += u64::from(!state.kept.is_empty());
    let mut words = state.word.iter().chain(&state.obeyed);
    let excused = words.any(|word| word.named == name && word.outside);
    if let Some(first) = missing.first().filter(|_| !excused) {
        let what = format!(
            "{name} opens without {} writes that were acknowledged in a synchronous mode, \
             the first is {first}; /sync: {:?}",
            missing.len(),
            state.in_force
        );
        world.break_with("nothing acknowledged is lost", what);
    }
    let stands = request_of(world, client);
    let state = &mut world.clients[client];
    // A failover that was not carried out yet outlives the opening of another member.
    let word = state.word.take().filter(|word| stands.is_some_and(|r| r.contains(&word.named)));
    (state.kept, state.word, state.obeyed) = (kept, word, None);
    sets_meet(world, client);
}

/// Invariant *commits and elections meet*.
pub fn sets_meet(world: &mut World, client: usize) {
    let open = world.members.iter().find(|m| {
        m.place.client == client && m.server.accepts_commits() && !m.is_unguarded(world.now)
    });
    let (Some(open), Some(record)) = (open, &world.clients[client].in_force) else { return };
    let wanted = parse(&open.server.acting).expect("what is in force was read");
    let known = |name: &str| world.members.iter().any(|m| m.name.as_str() == name);
    if let Err(why) = meet(open.name.as_str(), record, &wanted, known) {
        let what = format!("{}: {why}; /sync: {record:?}", open.name);
        world.break_with("commits and elections meet", what);
    }
}

fn meet(
    me: &str,
    record: &SyncState,
    wanted: &Wanted,
    known: impl Fn(&str) -> bool,
) -> Result<(), String> {
    if record.standbys.is_empty() {
        return Ok(());
    }
    let (count, names) = match wanted {
        Some(names) => (names.count, names.names.clone()),
        None => (0, Vec::new()),
    };
    let names: BTreeSet<&str> = names.iter().map(String::as_str).filter(|n| known(n)).collect();
    let mut all: BTreeSet<&str> = record.standbys.iter().map(|n| n.as_str()).collect();
    all.extend(record.leader.as_ref().map(|n| n.as_str()));
    all.extend(&names);
    all.insert(me);
    // With fewer known members than `count`, nothing is acknowledged.
    if count > names.len() || all.len() as u64 <= record.quorum + count as u64 + 1 {
        return Ok(());
    }
    Err(format!("it waits for {count} of {names:?}"))
}

/// Invariant *progress*: what `/sync` and the server say in the end.
pub fn settled(world: &World, client: usize, leader: usize) -> Result<(), Broken> {
    let stuck = |what: String| Err(Broken { invariant: "progress", what });
    let Some(config) = configured(world, client) else { return stuck("no /config".into()) };
    let record = recorded(world, client).map(|(record, _)| record);
    let names = &world.members[leader].server.names;
    let eligible = eligible(world, client, leader);
    if config.synchronous_mode == SyncMode::Off {
        return match record.is_none() && names.is_empty() {
            true => Ok(()),
            false => stuck(format!("the mode is off; /sync: {record:?}, names: [{names}]")),
        };
    }
    let quorum = config.synchronous_mode == SyncMode::Quorum;
    let wanted = eligible.wanted(config.synchronous_node_count as usize);
    let standbys = if quorum { eligible.voters(wanted) } else { wanted };
    let expected_quorum = if quorum { standbys - wanted } else { 0 } as u64;
    let me = &world.members[leader].name;
    let fits = record.as_ref().is_some_and(|record| {
        record.leader.as_ref() == Some(me)
            && record.standbys.len() == standbys
            && record.quorum == expected_quorum
    });
    let parsed = parse(names).expect("what is in force was read");
    let real = |n: &crate::world::synchrony::Names| {
        n.names.len() == standbys && n.count == wanted && n.quorum == quorum
    };
    if wanted == 0 && config.synchronous_mode_strict {
        // Those who were named last stay so, also one that is away or that would
        // not be named again: whether writes flow is for them.
        let waits = parsed.is_some() && record.is_some();
        return if waits { Ok(()) } else { stuck("strict, and it waits for no standby".into()) };
    }
    let waits = match &parsed {
        None => wanted == 0,
        Some(names) => real(names),
    };
    if !fits || !waits {
        let what = format!(
            "{} of {standbys} standbys are wanted, quorum {expected_quorum}; \
             /sync: {record:?}, names: [{names}]",
            wanted
        );
        return stuck(what);
    }
    let last = world.clients[client].acknowledged_at;
    match last + FLOWS_MS > world.now {
        true => Ok(()),
        false => stuck(format!("the last write was acknowledged at {last}")),
    }
}

/// Who may have the duty now.
struct Eligible {
    /// Of them may lead next.
    able: usize,
    nofailover: usize,
}

impl Eligible {
    fn wanted(&self, count: usize) -> usize {
        count.min(self.able + self.nofailover)
    }

    /// Members that may not lead vote only where others are too few.
    fn voters(&self, wanted: usize) -> usize {
        self.able.max(wanted)
    }
}

fn eligible(world: &World, client: usize, leader: usize) -> Eligible {
    let senders = &world.members[leader].server.senders;
    let streams = |index: usize| senders.iter().any(|s| s.standby == index && s.streaming);
    let mut eligible = Eligible { able: 0, nofailover: 0 };
    for (index, m) in world.members.iter().enumerate() {
        let theirs = m.place.client == client && index != leader && m.server.is_standby();
        match theirs && streams(index) && !m.tags.nosync() {
            true if m.tags.nofailover() => eligible.nofailover += 1,
            true => eligible.able += 1,
            false => {}
        }
    }
    eligible
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(standbys: &[&str], quorum: u64) -> SyncState {
        let standbys = standbys.iter().map(|name| (*name).into()).collect();
        SyncState { leader: Some("me".into()), standbys, quorum }
    }

    fn meets(record: &SyncState, names: &str) -> bool {
        let wanted = parse(names).expect("a list");
        meet("me", record, &wanted, |name| name.len() < 3).is_ok()
    }

    #[test]
    fn a_member_that_may_be_elected_has_what_is_acknowledged() {
        assert!(meets(&record(&[], 0), ""));
        assert!(meets(&record(&["a"], 0), "a"));
        assert!(meets(&record(&["a"], 0), "2 (a,b)"));
        assert!(!meets(&record(&["a"], 0), "b"), "a may lack what b has");
        assert!(!meets(&record(&["a"], 0), ""));
        assert!(!meets(&record(&["a", "b"], 0), "1 (a,b)"), "b may be behind");
        assert!(meets(&record(&["a", "b"], 1), "ANY 1 (a,b)"));
        assert!(!meets(&record(&["a", "b"], 0), "ANY 1 (a,b)"));
        assert!(!meets(&record(&["a", "b", "c"], 1), "ANY 1 (a,b,c)"));
        assert!(meets(&record(&["a", "b", "c"], 1), "ANY 2 (a,b,c)"));
    }

    #[test]
    fn who_acknowledges_nothing_loses_nothing() {
        assert!(meets(&record(&["a"], 0), "nobody"));
        assert!(meets(&record(&["a", "b"], 0), "ANY 1 (nobody)"));
    }
}
