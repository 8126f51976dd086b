//! The stores of the regions, and the local copies that daemons keep of them.
//!
//! The store is the daemon's own `MemoryStore`. A copy is fed by a watch: each
//! change arrives a little later, a cut line loses it, and after a while the
//! daemon notices that it hears nothing any more.

use super::{Event, World};
use crate::check;
use node::dcs::by_hand::Edit;
use node::dcs::keys::Keys;
use node::dcs::memory::{MemoryStore, Saved};
use node::dcs::{Event as Change, KeyValue, Snapshot};
use node::region::ownership::read_site;
use standby::switch::Site;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use topology::Version;

pub const SCOPE: &str = "/service/shop/";

#[derive(Clone)]
pub struct Stores {
    clock: Arc<AtomicU64>,
    pub regions: Vec<MemoryStore>,
    /// The version up to which watchers were told.
    told: Vec<Version>,
    /// What the stores hold, as it was last read.
    kept: RefCell<Vec<Arc<Snapshot>>>,
}

/// A daemon's copy of its store.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub snapshot: Arc<Snapshot>,
    /// The watch is down.
    pub lost: bool,
    /// How often in a row the store was not reached.
    missed: u64,
}

/// What a member has written by a call of its own; the version tells it from what
/// others changed at the same moment, and from leases that end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnWrite {
    pub member: usize,
    pub at: Version,
}

/// Copies that are remembered with what they say; more than are in use at a time.
const SITES_MAX: usize = 64;

thread_local! {
    static SITES: RefCell<VecDeque<(Arc<Snapshot>, Arc<Site>)>> =
        const { RefCell::new(VecDeque::new()) };
}

/// A copy as its readers see it. Many members have the same one, so it is read once.
pub fn site_of(keys: &Keys, snapshot: &Arc<Snapshot>) -> Arc<Site> {
    SITES.with_borrow_mut(|sites| {
        let known = sites.iter().rev().find(|(of, _)| Arc::ptr_eq(of, snapshot));
        if let Some((_, site)) = known {
            return site.clone();
        }
        let site = Arc::new(read_site(keys, &snapshot.entries));
        if sites.len() == SITES_MAX {
            sites.pop_front();
        }
        sites.push_back((snapshot.clone(), site.clone()));
        site
    })
}

impl Default for Mirror {
    fn default() -> Mirror {
        Mirror { snapshot: Arc::default(), lost: true, missed: 0 }
    }
}

impl Mirror {
    pub fn site(&self, keys: &Keys) -> Arc<Site> {
        site_of(keys, &self.snapshot)
    }

    fn take(&mut self, snapshot: &Arc<Snapshot>) {
        if snapshot.version >= self.snapshot.version {
            self.snapshot = snapshot.clone();
        }
    }
}

impl Stores {
    pub fn new(regions: usize) -> Stores {
        let clock = Arc::new(AtomicU64::new(0));
        let regions: Vec<_> =
            (0..regions).map(|_| MemoryStore::with_clock(clock.clone())).collect();
        Stores {
            clock,
            told: regions.iter().map(MemoryStore::version).collect(),
            kept: RefCell::new(vec![Arc::default(); regions.len()]),
            regions,
        }
    }

    pub fn set_clock(&self, now: u64) {
        // Leases that are over end with the next question to the store.
        self.clock.store(now, Ordering::SeqCst);
    }

    pub fn snapshot(&self, region: usize) -> Arc<Snapshot> {
        let kept = &mut self.kept.borrow_mut()[region];
        if kept.version != self.regions[region].version() {
            let read = self.regions[region].read_now(&[SCOPE.to_string()]);
            *kept = Arc::new(read.expect("this handle has no faults"));
        }
        kept.clone()
    }

    pub fn get(&self, region: usize, key: &str) -> Option<KeyValue> {
        let entries = &self.snapshot(region).entries;
        entries.iter().find(|kv| kv.key == key).cloned()
    }

    /// The keys of every group are gone; the numbers of timelines that were
    /// claimed stay, or they could be used twice.
    pub fn wipe(&self, region: usize) {
        self.regions[region].wipe_now(|key| !key.contains("/topology/"));
    }

    /// The store comes back as a backup has it.
    pub fn restore(&mut self, region: usize, saved: &Saved) {
        self.regions[region].restore_now(saved);
        // A version says no more what was read.
        self.kept.borrow_mut()[region] = Arc::default();
        self.told[region] = self.snapshot(region).version;
    }

    pub fn delete(&self, region: usize, key: String) {
        self.regions[region].edit_now([Edit::delete(key)]).expect("this handle has no faults");
    }

    /// An operator's write: nothing stands in its way.
    pub fn put(&self, region: usize, key: String, value: String) {
        self.regions[region].edit_now([Edit::put(key, value)]).expect("this handle has no faults");
    }
}

impl World {
    /// Brings what changed in a store on its way to the watchers.
    /// `own`: what a member's own call has written just now.
    pub fn tell_watchers(&mut self, region: usize, own: Option<OwnWrite>) {
        let since = self.stores.told[region];
        let events = self.stores.regions[region].events_since(since);
        let events = events.expect("nothing is compacted");
        let Some(last) = events.last() else { return };
        self.stores.told[region] = version_of(last);
        for key in events.iter().map(key_of).filter(|key| matters(key)) {
            self.note(format!("store {region}: {} changed", key.trim_start_matches(SCOPE)));
        }
        let modes =
            |key: &str| ["/sync", "/config", "/failover"].iter().any(|end| key.ends_with(end));
        if self.plan.synchronous && events.iter().map(key_of).any(modes) {
            check::synchronous::stirred(self);
        }
        let snapshot = self.stores.snapshot(region);
        for member in 0..self.members.len() {
            let m = &self.members[member];
            if m.place.region != region || !m.daemon.alive || m.daemon.mirror.lost {
                continue;
            }
            let watched = m.keys.watched();
            let is_own = |event: &Change| own == Some(OwnWrite { member, at: version_of(event) });
            let is_watched = |key: &str| watched.iter().any(|prefix| key.starts_with(prefix));
            let wakes = events.iter().any(|event| {
                let key = key_of(event);
                is_watched(key) && m.daemon.machine.is_woken_by([key], is_own(event))
            });
            let (life, snapshot) = (m.daemon.life, snapshot.clone());
            let late = self.rng.range(1, 10);
            self.after(late, Event::Heard { member, life, snapshot, wakes });
        }
    }

    pub fn on_heard(&mut self, member: usize, life: u64, snapshot: Arc<Snapshot>, wakes: bool) {
        let region = self.members[member].place.region;
        let linked = self.links.to_store(member, region);
        let daemon = &mut self.members[member].daemon;
        if !daemon.alive || daemon.life != life || daemon.mirror.lost {
            return;
        }
        if daemon.frozen {
            daemon.deferred.push(Event::Heard { member, life, snapshot, wakes });
            return;
        }
        if linked {
            daemon.mirror.take(&snapshot);
            if wakes {
                self.wake_at(self.now, member);
            }
        }
    }

    /// The copy looks after its connection.
    pub fn on_tend(&mut self, member: usize) {
        let pause = self.rng.range(400, 1_200);
        self.after(pause, Event::Tend { member });
        if !self.members[member].is_running() {
            return;
        }
        let region = self.members[member].place.region;
        if self.links.to_store(member, region) {
            self.refresh_mirror(member);
        } else {
            let patience = self.rng.range(1, 6);
            let mirror = &mut self.members[member].daemon.mirror;
            mirror.missed += 1;
            mirror.lost |= mirror.missed >= patience;
        }
    }

    pub fn refresh_mirror(&mut self, member: usize) {
        let region = self.members[member].place.region;
        let mirror = &self.members[member].daemon.mirror;
        if !mirror.lost && mirror.missed == 0 {
            return;
        }
        let snapshot = self.stores.snapshot(region);
        let mirror = &mut self.members[member].daemon.mirror;
        // A whole read is what the store holds, also one that went back in time.
        mirror.snapshot = snapshot;
        mirror.lost = false;
        mirror.missed = 0;
        self.wake_at(self.now + 1, member);
    }

    /// The outcome of an own write is not known: the store is asked.
    pub fn read_store_anew(&mut self, member: usize) {
        let region = self.members[member].place.region;
        if self.links.to_store(member, region) {
            self.fold_own_write(member);
        }
    }

    /// An own write is in the copy at once.
    pub fn fold_own_write(&mut self, member: usize) {
        let region = self.members[member].place.region;
        let snapshot = self.stores.snapshot(region);
        self.members[member].daemon.mirror.take(&snapshot);
    }
}

/// Changes that a trace shows; positions of members are too many.
fn matters(key: &str) -> bool {
    !key.contains("/members/") && !key.ends_with("/status")
}

fn key_of(event: &Change) -> &str {
    match event {
        Change::Put(kv) => &kv.key,
        Change::Deleted { key, .. } => key,
    }
}

fn version_of(event: &Change) -> Version {
    match event {
        Change::Put(kv) => kv.version,
        Change::Deleted { version, .. } => *version,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Shape;
    use super::*;

    /// What the changes wake the first member for, in the order in which they came.
    fn woken(world: &World) -> Vec<bool> {
        let mut due: Vec<_> = world.queue.iter().collect();
        due.sort_by_key(|due| due.ticket);
        let heard = |event: &Event| match event {
            Event::Heard { member: 0, wakes, .. } => Some(*wakes),
            _ => None,
        };
        due.into_iter().filter_map(|due| heard(&due.event)).collect()
    }

    /// Another member's lock may end, or a fault happen, at the moment of an own write.
    #[test]
    fn an_own_write_hides_no_change_of_others() {
        let mut world = World::new(1, &Shape::group(2));
        world.run_until(40_000).expect("nothing is wrong");
        world.keep_events(|_| false);
        let put = |world: &World, key: &str| {
            world.stores.put(0, format!("{SCOPE}{key}"), "x".into());
            world.stores.snapshot(0).version
        };
        let at = put(&world, "history");
        world.tell_watchers(0, Some(OwnWrite { member: 0, at }));
        assert_eq!(woken(&world), [false]);
        put(&world, "failover");
        let at = put(&world, "history");
        world.tell_watchers(0, Some(OwnWrite { member: 0, at }));
        assert!(woken(&world).contains(&true), "{:?}", woken(&world));
    }
}
