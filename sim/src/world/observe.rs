//! What a daemon sees of this world: the `Sight` that its machine asks for.
//!
//! The store is seen through the local copy. A server that stops, or that has
//! no connection left, answers no query: its role is unknown.

use super::World;
use super::job;
use super::postgres::{Process as Reality, Role};
use member::chores::{ChoreSight, Work};
use member::ha::Observation;
use member::ha::observation::{
    DataDir, Ending, Following, Guarding, Job, Me, Postgres, Process, Running, Server, ServerRole,
};
use member::stop::OrderlyStop;
use member::{Look, Particulars, Sight, StoreSight, is_slow_stop};
use standby::switch::ownership::Ownership;
use topology::{Lsn, Seen, Timeline};

/// The wall clock of all machines shows this when the world begins.
const BEGAN_UNIX_MS: u64 = 1_800_000_000_000;

impl World {
    pub fn look(&mut self, member: usize, look: Look) -> Sight {
        let (store, server) = match look {
            Look::All => (true, true),
            Look::Again { store, server } => (store, server),
        };
        if server {
            self.look_at_names(member);
        }
        let postgres = server.then(|| self.look_at_server(member));
        let disk = match &postgres {
            Some(postgres) if look == Look::All => Some(self.look_at_disk(member, postgres)),
            _ => None,
        };
        let m = &self.members[member];
        Sight {
            unix_ms: m.wall(BEGAN_UNIX_MS + self.now),
            me: self.me(member),
            job: self.running(member),
            watchdog: Guarding::Unwanted,
            history: m.server.system.is_some().then(|| m.server.log.history()),
            ended: self.members[member].daemon.ended.take(),
            store: store.then(|| self.look_at_store(member)),
            postgres,
            disk,
            restart: Default::default(),
        }
    }

    fn me(&self, member: usize) -> Me {
        let m = &self.members[member];
        Me {
            name: m.name.clone(),
            group: m.place.group,
            tags: m.tags.clone(),
            may_initialise: true,
            may_restore: false,
            rewind: m.rewind,
            has_gate: m.has_gate,
            may_rebuild_diverged: m.may_rebuild_diverged,
            may_rebuild_failed: m.may_rebuild_failed,
        }
    }

    fn look_at_store(&mut self, member: usize) -> StoreSight {
        let m = &mut self.members[member];
        let group = m.place.group;
        let mirror = &mut m.daemon.mirror;
        let site = mirror.site(&m.keys);
        let own = site.groups.get(&group).cloned().unwrap_or_default();
        let is_lost = mirror.lost;
        let mut sight = StoreSight {
            group: if is_lost { Seen::Unknown } else { Seen::Known(own) },
            ownership: Ownership::NoRegions,
            order: None,
            closed_workers: Vec::new(),
            is_lost,
        };
        self.look_at_topology(member, &mut sight);
        sight
    }

    fn running(&self, member: usize) -> Option<Running> {
        let m = &self.members[member];
        let work = m.daemon.job.as_ref()?;
        let mut running = Running {
            job: work.job.clone(),
            since: work.since,
            closed: m.server.closed().filter(|_| matches!(work.job, Job::Stop { .. })),
            ending: Ending::default(),
        };
        if is_slow_stop(&running, m.clock.read(self.now)) {
            running.ending = self.ending(member, work);
        }
        Some(running)
    }

    /// Clients of this world end with the request to stop.
    fn ending(&self, member: usize, work: &job::Work) -> Ending {
        let m = &self.members[member];
        let stops = matches!(m.server.process, Reality::Stopping { .. });
        Ending {
            quiet_since: stops.then(|| m.clock.read(m.server.since)),
            closed_since: work.stop.as_ref().and_then(OrderlyStop::closed_since),
            physical: self.receivers_of(member).count(),
            logical: 0,
        }
    }

    pub fn look_at_server(&self, member: usize) -> Postgres {
        let m = &self.members[member];
        let Some(system) = m.server.system.clone() else {
            return Postgres { data: DataDir::Empty, process: Process::Stopped(Seen::Unknown) };
        };
        let mute = m.server.mute;
        let process = match m.server.process {
            Reality::Down => Process::Stopped(Seen::Known(m.server.shutdown_state())),
            Reality::Starting(role) => Process::Starting {
                since: m.clock.read(m.server.since),
                as_primary: role == Role::Primary,
            },
            Reality::Up(role) if !mute => Process::Running(self.look_inside(member, role)),
            // The control file tells.
            Reality::Up(Role::Primary) => Process::Running(Server {
                role: Seen::Known(ServerRole::Primary),
                timeline: Some(Timeline(m.server.log.timeline())),
                lsn: Lsn(0),
                replay_paused: false,
                restart_due: None,
                replication: None,
            }),
            Reality::Up(_) | Reality::Stopping { .. } => Process::Running(Server {
                role: Seen::Unknown,
                timeline: None,
                lsn: Lsn(0),
                replay_paused: false,
                restart_due: None,
                replication: None,
            }),
        };
        Postgres { data: DataDir::Valid { system }, process }
    }

    fn look_inside(&self, member: usize, role: Role) -> Server {
        let server = &self.members[member].server;
        let role = match role {
            Role::Primary => ServerRole::Primary,
            Role::Standby => ServerRole::Standby {
                follows: server.follows.clone().map(unnamed),
                streaming: server.streams_from.is_some(),
            },
        };
        Server {
            role: Seen::Known(role),
            timeline: Some(Timeline(server.log.timeline())),
            lsn: Lsn(server.log.end()),
            replay_paused: false,
            restart_due: None,
            replication: Some(self.replication_of(member)),
        }
    }

    /// What the member's record says beside what was seen.
    pub fn particulars(&self, member: usize, seen: &Observation) -> Particulars {
        let m = &self.members[member];
        let streams = seen.is_streaming();
        Particulars {
            unix_ms: m.wall(BEGAN_UNIX_MS + self.now),
            conn_url: format!("postgres://{}:5432/postgres", m.host()),
            api_url: format!("http://{}:8008/patroni", m.host()),
            replication_state: streams.then(|| "streaming".to_string()),
            timeline_began: "2027-01-15T08:00:00.000000+00:00".into(),
            slots: self.slots_of(member),
            ..Particulars::default()
        }
    }

    /// What no look of a beat shows.
    pub fn chore_sight(&mut self, member: usize) -> ChoreSight {
        let m = &mut self.members[member];
        let is_written = m.daemon.awaits_checkpoint && m.server.checkpoint_at <= self.now;
        m.daemon.awaits_checkpoint &= !is_written;
        let ended = is_written.then_some((Work::Checkpoint, Ok(())));
        let has_rewired = m.daemon.registrar.take_settled();
        ChoreSight {
            is_quiet: false,
            runs_as: self.runs_as(member),
            has_rewired,
            ended: ended.into_iter().collect(),
        }
    }
}

/// The settings of a server name no member.
fn unnamed(from: Following) -> Box<Following> {
    Box::new(Following { member: "".into(), ..from })
}
