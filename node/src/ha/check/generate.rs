//! Random but plausible observations.
//!
//! Plausible: a lock that is ours is ours in the store's view too, an empty
//! directory has no server. Within that everything is combined with everything,
//! also what a healthy cluster never shows.

use crate::ha::failsafe::{Failsafe, Promise};
use crate::ha::observation::{
    Asked, Bootstrapping, DataDir, Disk, Divergence, End, Failed, Following, Gate, Guarding, Job,
    Lock, Me, Memory, Observation, Postgres, Process, Rebuild, Remains, Rewind, Running, Server,
    ServerRole, Shut, StopHow,
};
use standby::promotion::{PeerAnswer, PeerStatus};
use standby::switch::ownership::{Order, Ownership, Upstream};
use topology::dynamic::StandbyCluster;
use topology::id::slot_name;
use topology::region::Token;
use topology::timeline::Fork;
use topology::{
    Dynamic, Failover, Group, GroupView, History, HistoryEntry, Lsn, MemberName, MemberRecord,
    MemberRole, Millis, Seen, Status, SystemId, Tags, Timeline, Versioned,
};

mod situations;

const NOW: u64 = 10_000_000;
/// A clean end has the most rules.
const ENDS: [End; 6] = [End::Clean, End::Clean, End::Clean, End::Standby, End::Crashed, End::Half];
const NAMES: [&str; 3] = ["me", "a", "b"];

pub struct Generator {
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
        member: name.into(),
    }
}

fn versioned<T>(value: T) -> Option<Versioned<T>> {
    Some(Versioned { value, revision: 1, lease: 0 })
}

/// A standby that is well, in a group that nobody leads.
pub fn quiet() -> Observation {
    let mut view = GroupView::default();
    view.take("initialize", &system(1).0, 1, 0);
    let role = Seen::Known(ServerRole::Standby { follows: None, streaming: false });
    let (timeline, lsn) = (Some(Timeline(1)), Lsn(1_000));
    let server = Server { role, timeline, lsn, replay_paused: false, restart_due: None };
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
fn nobody_has_data(o: &mut Observation) {
    o.memory.knew_system = false;
    let Seen::Known(view) = &mut o.store else { return };
    for member in view.members.values_mut() {
        member.value.role = MemberRole::Uninitialized;
    }
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
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

    pub fn observation(&mut self) -> Observation {
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
        if o.postgres.data == DataDir::Empty && self.percent(60) {
            nobody_has_data(&mut o);
        }
        if self.percent(5) {
            self.stop_a_leader(&mut o);
        }
        if self.percent(1) {
            self.name_a_standby_in_pause(&mut o);
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

    fn tags(&mut self) -> Tags {
        let mut tags = serde_json::Map::new();
        if self.percent(8) {
            tags.insert("nofailover".into(), true.into());
        }
        if self.percent(8) {
            tags.insert("clonefrom".into(), true.into());
        }
        if self.percent(8) {
            tags.insert("replicatefrom".into(), "b".into());
        }
        if self.percent(8) {
            tags.insert("failover_priority".into(), self.pick(&[0, 2]).into());
        }
        Tags(tags)
    }

    fn lock(&mut self) -> Lock {
        match self.next() % 10 {
            0..=4 => {
                let renewed = self.past();
                let left = self.pick(&[0, 10, 2_000, 9_000, 29_000]);
                let deadlines = [0, NOW - 5_000, NOW + left, NOW + left, NOW + 29_000];
                Lock::Mine { renewed, deadline: Millis(self.pick(&deadlines)) }
            }
            5..=6 => Lock::Free,
            _ => Lock::Other(self.pick(&["a", "b"]).into()),
        }
    }

    fn store(&mut self, lock: &Lock) -> Seen<GroupView> {
        if self.percent(12) {
            return Seen::Unknown;
        }
        let mut view = GroupView {
            initialize: self.initialize(),
            leader: match lock {
                Lock::Mine { .. } => versioned("me".into()),
                Lock::Other(name) => versioned(name.clone()),
                Lock::Free | Lock::Unknown => None,
            },
            failover: self.failover(),
            history: self.history(),
            ..GroupView::default()
        };
        if self.percent(85) {
            view.status = versioned(Status {
                optime: Lsn(self.pick(&[1_000, 1_000, 4_000_000])),
                ..Status::default()
            });
        }
        for name in NAMES {
            if self.percent(85) {
                let record = self.record(name);
                view.members.insert(name.into(), versioned(record).expect("just made"));
            }
        }
        Seen::Known(view)
    }

    fn initialize(&mut self) -> Option<Versioned<Option<SystemId>>> {
        match self.next() % 20 {
            0..=3 => None,
            4 => versioned(None),
            5 => versioned(Some(system(2))),
            _ => versioned(Some(system(1))),
        }
    }

    fn failover(&mut self) -> Option<Versioned<Failover>> {
        if self.percent(60) {
            return None;
        }
        let names: Vec<Option<MemberName>> =
            [None, Some("me"), Some("a"), Some("b")].map(|n| n.map(MemberName::from)).to_vec();
        versioned(Failover {
            leader: self.pick(&names),
            candidate: self.pick(&names),
            scheduled_at: self.percent(10).then(|| "2030-01-01T00:00+00:00".into()),
        })
    }

    fn history(&mut self) -> Option<Versioned<Vec<HistoryEntry>>> {
        let entries = self.pick(&[None, Some(0), Some(1), Some(2)])?;
        let entry = |n: u32| HistoryEntry {
            timeline: Timeline(n),
            switch: Lsn(u64::from(n) * 100),
            reason: "no recovery target specified".into(),
            at: None,
            new_leader: None,
        };
        versioned((1..=entries).map(entry).collect())
    }

    fn record(&mut self, name: &str) -> MemberRecord {
        let roles = [
            MemberRole::Primary,
            MemberRole::Primary,
            MemberRole::Replica,
            MemberRole::StandbyLeader,
        ];
        MemberRecord {
            conn_url: Some(format!("postgres://host-{name}:5432/postgres")),
            state: self.pick(&["running", "running", "running", "starting"]).into(),
            role: self.pick(&roles),
            tags: self.tags(),
            checkpoint_after_promote: self.percent(20).then_some(false),
            ..MemberRecord::default()
        }
    }

    fn postgres(&mut self) -> Postgres {
        let data = match self.next() % 40 {
            0..=4 => DataDir::Empty,
            5 => DataDir::Refused("foreign files".into()),
            6 => DataDir::Damaged("its control file is damaged".into()),
            7 => DataDir::Valid { system: system(2) },
            _ => DataDir::Valid { system: system(1) },
        };
        let process = match &data {
            DataDir::Valid { .. } => self.process(),
            // Gone from under a server that still runs.
            _ if self.percent(10) => Process::Running(Server {
                role: Seen::Unknown,
                timeline: None,
                lsn: Lsn(0),
                replay_paused: false,
                restart_due: None,
            }),
            DataDir::Empty | DataDir::Refused(_) | DataDir::Damaged(_) => {
                Process::Stopped(Seen::Unknown)
            }
        };
        Postgres { data, process }
    }

    fn process(&mut self) -> Process {
        match self.next() % 10 {
            0 => Process::Starting { since: self.past(), as_primary: self.percent(50) },
            1..=6 => {
                let role = self.role();
                let timeline = self.pick(&[None, Some(1), Some(2), Some(3)]).map(Timeline);
                let lsn = self.lsn();
                let replay_paused = lsn == Lsn(1_001);
                let restart_due = self.percent(10).then(|| "a setting".to_string());
                Process::Running(Server { role, timeline, lsn, replay_paused, restart_due })
            }
            7 if self.percent(30) => Process::Stopped(Seen::Unknown),
            _ => Process::Stopped(Seen::Known(self.remains())),
        }
    }

    fn remains(&mut self) -> Remains {
        let end = self.pick(&ENDS);
        let shuts = match end {
            End::Clean => [Shut::Orderly; 3],
            End::Crashed => [Shut::Abrupt; 3],
            End::Standby | End::Half => [Shut::Orderly, Shut::Abrupt, Shut::InBackup],
        };
        let shut = self.pick(&shuts);
        let timeline = Timeline(self.pick(&[1, 1, 1, 2]));
        Remains { end, timeline, copied: self.percent(10), lsn: self.lsn(), shut }
    }

    fn gate(&mut self) -> Gate {
        let at = self.past();
        self.pick(&[Gate::Untried, Gate::Passed, Gate::Failed(at)])
    }

    fn lsn(&mut self) -> Lsn {
        Lsn(self.pick(&[900, 1_000, 1_000, 1_001, 5_000_000]))
    }

    fn role(&mut self) -> Seen<ServerRole> {
        match self.next() % 10 {
            0 => Seen::Unknown,
            1..=4 => Seen::Known(ServerRole::Primary),
            _ => Seen::Known(ServerRole::Standby {
                follows: self.pick(&[None, Some("a"), Some("b"), Some("remote")]).map(following),
                streaming: self.percent(60),
            }),
        }
    }

    fn a_job(&mut self) -> Job {
        let from = following(self.pick(&["a", "b"]));
        self.pick(&[
            Job::Bootstrap,
            Job::Clone { from: from.clone() },
            Job::Restore,
            Job::StartPrimary,
            Job::StartPrimary,
            Job::StartStandby { follow: None },
            Job::StartStandby { follow: Some(from.clone()) },
            Job::Stop { how: StopHow::Planned },
            Job::Stop { how: StopHow::Fast },
            Job::Stop { how: StopHow::Immediate },
            Job::Restart { as_primary: true },
            Job::Restart { as_primary: false },
            Job::PrePromote,
            Job::Recover,
            Job::Rewind { from: from.clone() },
            Job::Rewind { from: from.clone() },
            Job::Rebuild { from, why: Rebuild::Diverged },
        ])
    }

    fn job(&mut self) -> Option<Running> {
        self.percent(15).then(|| Running {
            job: self.a_job(),
            since: self.past(),
            closed: self.percent(30).then(|| self.remains()),
        })
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

    fn ownership(&mut self) -> Ownership {
        let upstream = Upstream {
            host: "host-remote".into(),
            port: 5432,
            slot: slot_name("me"),
            member: "remote".into(),
        };
        match self.next() % 10 {
            0..=4 => Ownership::NoRegions,
            5..=6 => Ownership::Owner {
                epoch: 3,
                token: self.percent(50).then(|| Token {
                    system_id: system(self.pick(&[1, 1, 2])),
                    timeline: Timeline(1),
                    lsn: Lsn(self.pick(&[900, 1_000])),
                }),
                opening: self.percent(50),
            },
            7..=8 => {
                Ownership::Standby { epoch: 3, upstream: self.percent(80).then_some(upstream) }
            }
            _ => Ownership::Doubtful("the registers were not read yet".into()),
        }
    }

    fn dynamic(&mut self) -> Dynamic {
        let mut dynamic = self.dynamic.clone();
        dynamic.pause = self.percent(15);
        dynamic.check_timeline = self.percent(30);
        dynamic.failsafe_mode = self.percent(50);
        dynamic.primary_race_backoff_ms = self.pick(&[0, 0, 0, 30_000]);
        dynamic.primary_start_timeout_ms = self.pick(&[0, 10_000, 300_000]);
        if self.percent(5) {
            dynamic.standby_cluster = Some(StandbyCluster {
                host: self.percent(80).then(|| "host-remote".into()),
                port: 5432,
                primary_slot_name: Some("me".into()),
            });
        }
        dynamic
    }

    fn own_history(&mut self) -> Option<History> {
        let current = self.pick(&[None, Some(1), Some(2), Some(2)])?;
        let switch = Lsn(self.pick(&[100, 100, 100, 700]));
        let fork = |n| Fork { parent: Timeline(n), switch, reason: String::new() };
        Some(History { current: Timeline(current), forks: (1..current).map(fork).collect() })
    }

    fn failsafe(&mut self) -> Failsafe {
        let left = self.pick(&[0, 2_000, 9_000, 18_000, 29_000]);
        Failsafe {
            proof: self.percent(20).then_some(Millis(NOW + left)),
            asked: self.past(),
            is_ready: self.percent(70),
            promise: self.percent(3).then(|| Promise { to: "a".into(), ..Promise::default() }),
        }
    }

    fn memory(&mut self) -> Memory {
        let fresh = self.percent(70);
        let bootstraps = [
            Bootstrapping::Claimed,
            Bootstrapping::Claimed,
            Bootstrapping::Built,
            Bootstrapping::Failed,
            Bootstrapping::GivenUp,
        ];
        let unsettled = self.percent(12);
        Memory {
            stopping: self.percent(10),
            bootstrap: match unsettled {
                true => self.pick(&bootstraps),
                false => Bootstrapping::No,
            },
            handover: self.maybe_past(25),
            request_seen: self.maybe_past(90).map(|since| (since, self.lsn())),
            won_in_pause: self.percent(30),
            promoting: self.maybe_past(15),
            divergence: self.divergence(),
            compared_with: self
                .pick(&[None, Some("a"), Some("a"), Some("b"), Some("remote")])
                .map(MemberName::from),
            compared_at: self.past(),
            lease_renewed: if fresh { Millis(NOW) } else { self.past() },
            lease_tried: if fresh { Millis(NOW) } else { self.past() },
            asked: self.pick(&[
                None,
                None,
                None,
                None,
                None,
                None,
                Some(Asked::Restart),
                Some(Asked::Reinitialize),
                Some(Asked::ReinitializeFromLeader),
            ]),
            start_limit_ms: self.pick(&[None, None, Some(5_000)]),
            gate: self.gate(),
            failed: self.failed(),
            started: self.past(),
            signed: self.percent(30).then(|| "move".into()),
            quiet_since: self.maybe_past(60),
            leaderless_since: self.maybe_past(60),
            former_leader: self.pick(&[None, Some("a"), Some("b")]).map(MemberName::from),
            forgotten_at: self.maybe_past(20),
            knew_system: self.percent(50),
            has_begun: self.percent(50),
            grown_to: Lsn(1_000),
            grew_at: self.past(),
            rebuilt_in_pause: self.percent(10),
        }
    }

    fn divergence(&mut self) -> Divergence {
        match self.next() % 11 {
            0..=3 => Divergence::Unchecked,
            4..=6 => Divergence::Prefix,
            7 => Divergence::Alien("timeline 2 is another one here".into()),
            8 => Divergence::Unreadable("pg_waldump failed".into()),
            _ => Divergence::Diverged("timeline 1 was left at 0/100".into()),
        }
    }

    fn failed(&mut self) -> Option<Failed> {
        self.percent(35).then(|| Failed {
            job: self.a_job(),
            at: self.past(),
            times: self.pick(&[1, 2, 3, 7]),
            why: "it ended with 1".into(),
        })
    }
}
