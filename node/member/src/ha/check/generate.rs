//! Random but plausible observations.
//!
//! Plausible: a lock that is ours is ours in the store's view too, an empty
//! directory has no server. Within that everything is combined with everything,
//! also what a healthy cluster never shows.

mod memory;
mod server;
mod situations;
mod store;

use crate::ha::failsafe::Failsafe;
use crate::ha::observation::{
    DataDir, Disk, Following, Guarding, Lock, Me, Memory, Observation, Postgres, Process, Rewind,
    Server, ServerRole,
};
use crate::made_up::TakeSample;
use standby::promotion::{PeerAnswer, PeerStatus};
use standby::switch::ownership::{Order, Ownership};
use topology::id::slot_name;
use topology::{
    Dynamic, Group, GroupView, Lsn, MemberRole, Millis, Seen, SystemId, Tags, Timeline, Version,
    Versioned,
};

const NOW: u64 = 10_000_000;
const NAMES: [&str; 3] = ["me", "a", "b"];

pub(super) struct Generator {
    state: u64,
    dynamic: Dynamic,
}

fn system(number: u64) -> SystemId {
    SystemId(format!("771037598854303352{number}"))
}

fn following(name: &str) -> Following {
    Following {
        host: format!("host-{name}"),
        port: 5432,
        slot: Some(slot_name("me")),
        database: Some("postgres".into()),
        member: name.into(),
    }
}

fn versioned<T>(value: T) -> Option<Versioned<T>> {
    Some(Versioned { value, version: Version::of_store(1), session: None })
}

/// A standby that is well, in a group without a leader.
pub(super) fn quiet() -> Observation {
    let mut view = GroupView::default();
    view.take_sample("initialize", &system(1).0, 1, 0);
    let role = Seen::Known(ServerRole::Standby { follows: None, streaming: false });
    let (timeline, lsn) = (Some(Timeline(1)), Lsn(1_000));
    let server =
        Server { role, timeline, lsn, replay_paused: false, restart_due: None, replication: None };
    let (started, lease_renewed) = (Millis(NOW - 4_000_000), Millis(NOW));
    Observation {
        now: Millis(NOW),
        me: Me {
            name: "me".into(),
            group: Group::PLAIN,
            tags: Tags::default(),
            may_initialise: true,
            may_restore: false,
            rewind: Rewind::Possible,
            has_gate: false,
            may_rebuild_diverged: false,
            may_rebuild_failed: false,
        },
        store: Seen::Known(view),
        lock: Lock::Free,
        postgres: Postgres {
            data: DataDir::Valid { system: system(1) },
            process: Process::Running(server),
        },
        job: None,
        peers: None,
        ownership: Ownership::NoRegions,
        watchdog: Guarding::Unwanted,
        disk: Disk::Well,
        order: None,
        closed_workers: Vec::new(),
        dynamic: Dynamic::default(),
        failsafe: Failsafe::default(),
        history: None,
        memory: Memory { started, lease_renewed, ..Memory::default() },
    }
}

/// As in the first moments of a new cluster.
fn no_member_has_data(o: &mut Observation) {
    o.memory.knew_system = false;
    let Seen::Known(view) = &mut o.store else { return };
    for member in view.members.values_mut() {
        member.value.role = MemberRole::Uninitialized;
    }
}

impl Generator {
    pub(super) fn new(seed: u64) -> Generator {
        Generator { state: seed, dynamic: Dynamic::default() }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let index = self.next() % from.len() as u64;
        from[index as usize].clone()
    }

    /// A moment in the past, most often a short while ago.
    fn past(&mut self) -> Millis {
        let ago = self.pick(&[0, 10, 400, 1_500, 3_000, 12_000, 40_000, 4_000_000]);
        Millis(NOW - ago)
    }

    fn maybe_past(&mut self, chance: u64) -> Option<Millis> {
        self.percent(chance).then(|| self.past())
    }

    pub(super) fn observation(&mut self) -> Observation {
        let lock = self.lock();
        let store = self.store(&lock);
        let lock = match (&store, lock) {
            (Seen::Unknown, Lock::Mine { renewed, deadline }) => Lock::Mine { renewed, deadline },
            (Seen::Unknown, _) => Lock::Unknown,
            (_, lock) => lock,
        };
        let ownership = self.ownership();
        let mut o = Observation {
            now: Millis(NOW),
            me: self.me(),
            store,
            lock,
            postgres: self.postgres(),
            job: self.job(),
            peers: self.peers(),
            ownership,
            watchdog: self.watchdog(),
            disk: self.disk(),
            order: self.percent(10).then(|| Order::StopAndSign { id: "move".into() }),
            closed_workers: self.pick(&[vec![], vec![], vec![Group(Some(1))]]),
            dynamic: self.dynamic(),
            failsafe: self.failsafe(),
            history: self.own_history(),
            memory: self.memory(),
        };
        if self.percent(9) {
            self.ask_a_leader(&mut o);
        } else if self.percent(1) {
            self.begin_from_an_archive(&mut o);
        }
        if matches!(o.postgres.data, DataDir::Empty | DataDir::Half(_)) && self.percent(60) {
            no_member_has_data(&mut o);
        }
        if self.percent(5) {
            self.stop_a_leader(&mut o);
        }
        if self.percent(1) {
            self.name_a_standby_in_pause(&mut o);
        }
        if self.percent(1) {
            self.reset_the_log_of_a_lone_member(&mut o);
        }
        if self.percent(1) {
            self.name_a_standby(&mut o);
        }
        if self.percent(1) {
            self.give_a_log_up(&mut o);
        }
        o
    }

    fn watchdog(&mut self) -> Guarding {
        let broken = Guarding::Broken("no device".into());
        let (none, armed) = (Guarding::Unwanted, Guarding::Armed);
        self.pick(&[none.clone(), none, armed.clone(), armed, Guarding::Ready, broken])
    }

    fn disk(&mut self) -> Disk {
        if !self.percent(8) {
            return Disk::Well;
        }
        Disk::Failing { since: self.past(), why: "the disk of /data takes no files".into() }
    }

    fn me(&mut self) -> Me {
        let tags = self.tags();
        Me {
            name: "me".into(),
            group: self.pick(&[Group::PLAIN, Group::COORDINATOR, Group(Some(1))]),
            tags,
            may_initialise: self.percent(80),
            may_restore: self.percent(30),
            rewind: match self.percent(60) {
                true => Rewind::Possible,
                false => self.pick(&[Rewind::Off, Rewind::NoProgram, Rewind::NoHints]),
            },
            has_gate: self.percent(40),
            may_rebuild_diverged: self.percent(40),
            may_rebuild_failed: self.percent(40),
        }
    }

    fn peers(&mut self) -> Option<Vec<PeerAnswer>> {
        if self.percent(45) {
            return None;
        }
        let answers = NAMES[1..].iter().map(|name| PeerAnswer {
            name: (*name).into(),
            status: self.percent(75).then(|| self.peer()),
        });
        Some(answers.collect())
    }

    fn peer(&mut self) -> PeerStatus {
        PeerStatus {
            in_recovery: self.percent(90),
            lsn: self.lsn(),
            timeline: self.pick(&[None, Some(1), Some(1), Some(1), Some(2)]).map(Timeline),
            nofailover: self.percent(10),
            failover_priority: self.pick(&[1, 1, 5]),
            watchdog_failed: self.percent(5),
            disk_failed: self.percent(2),
        }
    }
}
