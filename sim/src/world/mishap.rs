//! What befalls stores, hosts and clocks beside the usual faults, and what an
//! operator does by hand.
//!
//! All of it is drawn from a source of its own: a kind of worlds without mishaps keeps
//! its story when one is added here. Which of them a kind has is its `Mishaps`.

use super::fault::Fault;
use super::rng::Rng;
use super::{Event, World};
use node::dcs::memory::Saved;
use serde_json::{Value, json};

/// Between two mishaps.
const GAP_MS: (u64, u64) = (2_000, 25_000);
/// How far the wall clocks of two hosts may be apart.
const CLOCKS_MS: u64 = 3_600_000;
/// When the operator looks whether a group is left without a leader.
const RESCUES_MS: [u64; 2] = [50_000, 95_000];

/// Which mishaps a kind of worlds has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// A store comes back as an earlier backup has it.
    pub restored: bool,
    /// The keys of a store are deleted, but for the numbers of timelines.
    pub wiped: bool,
    /// A store is replaced by one that was never used.
    pub replaced: bool,
    /// A lease lives on after its time, as after an election among the store's members.
    pub leases: bool,
    /// Wall clocks differ, and are set.
    pub clocks: bool,
    /// A host is lost with all that is on it; an empty one takes its place later.
    pub hosts: bool,
    /// The operator stops daemons, starts servers, and changes `/config`.
    pub hands: bool,
}

impl Mishaps {
    pub const NONE: Mishaps = Mishaps {
        restored: false,
        wiped: false,
        replaced: false,
        leases: false,
        clocks: false,
        hosts: false,
        hands: false,
    };
    /// All that must do no harm. A store that is restored or replaced may: the keys
    /// then say what was true once (docs/reliability.md).
    pub const USUAL: Mishaps = Mishaps {
        wiped: true,
        leases: true,
        clocks: true,
        hosts: true,
        hands: true,
        ..Mishaps::NONE
    };

    /// Those whose names a text gives, separated by commas.
    pub fn named(text: &str) -> Option<Mishaps> {
        let mut mishaps = Mishaps::NONE;
        for name in text.split(',') {
            match name {
                "none" => {}
                "restored" => mishaps.restored = true,
                "wiped" => mishaps.wiped = true,
                "replaced" => mishaps.replaced = true,
                "leases" => mishaps.leases = true,
                "clocks" => mishaps.clocks = true,
                "hosts" => mishaps.hosts = true,
                "hands" => mishaps.hands = true,
                _ => return None,
            }
        }
        Some(mishaps)
    }
}

/// The mishaps of one world.
#[derive(Clone, Debug)]
pub struct Fate {
    pub kinds: Mishaps,
    rng: Rng,
    /// The last backup of each region's store.
    pub saved: Vec<Option<Saved>>,
    /// A store has forgotten its clusters.
    pub forgot: bool,
    /// Something happened after which only an operator may know who is to lead.
    pub needs_operator: bool,
}

impl Fate {
    pub fn new(seed: u64, kinds: Mishaps, regions: usize) -> Fate {
        let rng = Rng::new(seed ^ 0x6d69_7368_6170);
        Fate { kinds, rng, saved: vec![None; regions], forgot: false, needs_operator: false }
    }

    /// How far a host's wall clock is off, in milliseconds.
    fn off(&mut self) -> i64 {
        self.rng.range(0, 2 * CLOCKS_MS) as i64 - CLOCKS_MS as i64
    }

    /// A change of `/config` that makes sense.
    fn patch(&mut self) -> Value {
        let times = [(30, 10, 10), (20, 5, 5), (20, 2, 4), (40, 10, 10), (60, 10, 20)];
        match self.rng.range(0, 4) {
            0 => {
                let (ttl, loop_wait, retry) = self.rng.pick(&times);
                json!({ "ttl": ttl, "loop_wait": loop_wait, "retry_timeout": retry })
            }
            1 => json!({ "maximum_lag_on_failover": self.rng.pick(&[1 << 20, 20_000, 0]) }),
            2 => json!({ "primary_start_timeout": self.rng.pick(&[300, 10, 0]) }),
            3 => json!({ "check_timeline": self.rng.percent(50) }),
            _ => json!({ "failsafe_mode": self.rng.percent(50) }),
        }
    }
}

impl World {
    /// Each host begins with a wall clock of its own.
    pub fn set_clocks_apart(&mut self) {
        for member in 0..self.members.len() {
            if self.fate.kinds.clocks {
                self.members[member].wall_off = self.fate.off();
            }
        }
    }

    pub fn begin_mishaps(&mut self) {
        if self.fate.kinds == Mishaps::NONE {
            return;
        }
        (0..self.stores.regions.len()).for_each(|region| self.save_store(region));
        self.later(500, Fault::Mishap);
    }

    fn later(&mut self, ms: u64, fault: Fault) {
        self.after(ms, Event::Fault(fault));
    }

    pub fn choose_mishap(&mut self) {
        let gap = self.fate.rng.range(GAP_MS.0, GAP_MS.1);
        self.later(gap, Fault::Mishap);
        let m = self.fate.rng.range(0, self.members.len() as u64 - 1) as usize;
        let m = if self.fate.rng.percent(40) { self.leader_like(m) } else { m };
        let region = self.members[m].place.region;
        let long = self.fate.rng.pick(&[1_000, 8_000, 30_000, 60_000]);
        let last = self.fate.rng.range(500, long);
        let kinds = self.fate.kinds;
        match self.fate.rng.range(0, 99) {
            0..=19 if kinds.restored => self.later(0, Fault::Save(region)),
            20..=34 if kinds.restored => self.outage(region, last, Fault::Restore(region)),
            35..=37 if kinds.wiped => self.later(0, Fault::Wipe(region)),
            38..=41 if kinds.replaced => self.outage(region, last, Fault::Replace(region)),
            42..=49 if kinds.leases => self.later(0, Fault::Prolong(region)),
            50..=56 if kinds.clocks => {
                let off = self.fate.off();
                self.later(0, Fault::SetClock(m, off));
            }
            57..=66 if kinds.hosts => {
                self.later(0, Fault::LoseHost(m));
                self.later(last + 5_000, Fault::NewHost(m));
            }
            67..=76 if kinds.hands => self.work_without_daemon(m, last),
            77..=88 if kinds.hands => self.work_in_pause(m, last),
            89..=99 if kinds.hands => {
                let patch = self.fate.patch().to_string();
                self.later(0, Fault::Patch(m, patch));
            }
            _ => {}
        }
    }

    /// The store is down meanwhile.
    fn outage(&mut self, region: usize, last: u64, then: Fault) {
        let last = last.min(20_000);
        self.later(0, Fault::StoreDown(region));
        self.later(last, then);
        self.later(last + 1, Fault::StoreUp(region));
    }

    /// The operator stops the daemon, the server goes down, and is started by hand.
    fn work_without_daemon(&mut self, m: usize, last: u64) {
        let as_primary = self.fate.rng.percent(60);
        let (down, up) = (self.fate.rng.range(10, 3_000), self.fate.rng.range(500, 15_000));
        self.later(0, Fault::StayDown(m, last + up));
        if self.fate.rng.percent(80) {
            self.later(down, Fault::CrashServer(m));
        }
        self.later(down + up / 2, Fault::StartByHand(m, as_primary));
        self.later(last + up + 1, Fault::StartDaemon(m));
    }

    fn work_in_pause(&mut self, m: usize, last: u64) {
        let as_primary = self.fate.rng.percent(60);
        let (down, up) = (self.fate.rng.range(500, 5_000), self.fate.rng.range(100, 15_000));
        self.later(0, Fault::Pause(m, true));
        self.later(down, Fault::CrashServer(m));
        self.later(down + up, Fault::StartByHand(m, as_primary));
        self.later(last + 5_000, Fault::Pause(m, false));
    }

    /// When all faults are over: what is lost is replaced, and where no member may lead
    /// any more, the operator says who is to.
    pub fn end_mishaps(&mut self) {
        for member in 0..self.members.len() {
            self.members[member].down_until = 0;
            self.new_host(member);
        }
        if self.fate.needs_operator {
            RESCUES_MS.into_iter().for_each(|ms| self.later(ms, Fault::Rescue));
        }
    }
}
