//! The stores of the regions, and the local copies that daemons keep of them.
//!
//! The store is the daemon's own `MemoryStore`. A copy is fed by a watch: each
//! change arrives a little later, a cut line loses it, and after a while the
//! daemon notices that it hears nothing any more.

use super::{Event, World};
use crate::check;
use node::dcs::keys::Keys;
use node::dcs::kv::{Op, Txn};
use node::dcs::memory::MemoryStore;
use node::dcs::{Event as Change, KeyValue, Snapshot};
use node::member::wakes;
use node::region::ownership::read_site;
use standby::switch::Site;
use std::cell::RefCell;
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
    /// What the stores hold, until something may have changed it.
    kept: RefCell<Vec<Option<Arc<Snapshot>>>>,
}

/// A daemon's copy of its store.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub snapshot: Arc<Snapshot>,
    /// The watch is down.
    pub lost: bool,
    /// How often in a row the store was not reached.
    missed: u64,
    read: ReadOnce,
}

/// A copy as its readers see it, kept for as long as it is the same.
#[derive(Clone, Debug, Default)]
pub struct ReadOnce(Option<(Version, Arc<Site>)>);

impl ReadOnce {
    pub fn site(&mut self, keys: &Keys, snapshot: &Snapshot) -> Arc<Site> {
        let known = self.0.take().filter(|(at, _)| *at == snapshot.version);
        let fresh = || (snapshot.version, Arc::new(read_site(keys, &snapshot.entries)));
        self.0.insert(known.unwrap_or_else(fresh)).1.clone()
    }
}

impl Default for Mirror {
    fn default() -> Mirror {
        Mirror { snapshot: Arc::default(), lost: true, missed: 0, read: ReadOnce::default() }
    }
}

impl Mirror {
    /// The copy, read once for each version.
    pub fn site(&mut self, keys: &Keys) -> Arc<Site> {
        self.read.site(keys, &self.snapshot)
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
        Stores {
            regions: (0..regions).map(|_| MemoryStore::with_clock(clock.clone())).collect(),
            clock,
            told: vec![Version::of_store(1); regions],
            kept: RefCell::new(vec![None; regions]),
        }
    }

    pub fn set_clock(&self, now: u64) {
        // Leases that are over end with the next question to the store.
        self.clock.store(now, Ordering::SeqCst);
    }

    /// Something is about to change, or has changed.
    pub fn stir(&self) {
        self.kept.borrow_mut().iter_mut().for_each(|kept| *kept = None);
    }

    pub fn snapshot(&self, region: usize) -> Arc<Snapshot> {
        let read = || {
            let read = self.regions[region].read_now(&[SCOPE.to_string()]);
            Arc::new(read.expect("this handle has no faults"))
        };
        self.kept.borrow_mut()[region].get_or_insert_with(read).clone()
    }

    pub fn get(&self, region: usize, key: &str) -> Option<KeyValue> {
        let entries = &self.snapshot(region).entries;
        entries.iter().find(|kv| kv.key == key).cloned()
    }

    /// The keys of every group are gone; the numbers of timelines that were
    /// claimed stay, or they could be used twice.
    pub fn wipe(&self, region: usize) {
        let keys =
            self.snapshot(region).entries.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>();
        let keys = keys.into_iter().filter(|key| !key.contains("/topology/"));
        let then = keys.map(|key| Op::Delete { key }).collect();
        self.regions[region].txn_now(&Txn { when: vec![], then }).expect("no faults");
        self.stir();
    }

    /// An operator's write: nothing stands in its way.
    pub fn put(&self, region: usize, key: String, value: String) {
        let then = vec![Op::Put { key, value, session: None }];
        let txn = Txn { when: vec![], then };
        self.regions[region].txn_now(&txn).expect("this handle has no faults");
        self.stir();
    }
}

impl World {
    /// Brings what changed in a store on its way to the watchers.
    /// `writer`: the member whose call changed it.
    pub fn tell_watchers(&mut self, region: usize, writer: Option<usize>) {
        let since = self.stores.told[region];
        let events = self.stores.regions[region].events_since(since);
        let events = events.expect("nothing is compacted");
        let Some(last) = events.last() else { return };
        self.stores.told[region] = version_of(last);
        let keys: Vec<String> = events.iter().map(|e| key_of(e).to_string()).collect();
        for key in keys.iter().filter(|key| matters(key)) {
            self.note(format!("store {region}: {} changed", key.trim_start_matches(SCOPE)));
        }
        let modes =
            |key: &String| ["/sync", "/config", "/failover"].iter().any(|end| key.ends_with(end));
        if self.plan.synchronous && keys.iter().any(modes) {
            check::synchronous::stirred(self);
        }
        let snapshot = self.stores.snapshot(region);
        for member in 0..self.members.len() {
            let m = &self.members[member];
            if m.place.region != region || !m.daemon.alive || m.daemon.mirror.lost {
                continue;
            }
            let is_watched =
                |key: &&String| key.starts_with(&m.prefix()) || key.contains("/topology/");
            let watched: Vec<&str> = keys.iter().filter(is_watched).map(String::as_str).collect();
            let (own, leads) = (writer == Some(member), m.daemon.machine.held);
            let wakes = !watched.is_empty() && wakes(watched, own, leads);
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
        mirror.take(&snapshot);
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
