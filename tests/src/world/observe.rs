//! The eyes: an `Observation` as the daemon makes it.
//!
//! The store is seen through the local copy. A server that stops, or that has
//! no connection left, answers no query: its role is unknown.

use super::World;
use super::postgres::{Process as Reality, Role};
use node::ha::observation::{DataDir, Job, Me, Postgres, Process, Running, Server, ServerRole};
use node::ha::{Action, Observation, Outcome};
use node::observe::lock;
use standby::switch::ownership::Ownership;
use topology::{Lsn, Seen, Timeline};

/// What an action that took longer saw of the server is old.
const STALE_MS: u64 = 200;

impl World {
    pub fn look(&mut self, member: usize) -> Observation {
        let m = &self.members[member];
        let mut seen = Observation {
            now: m.clock.read(self.now),
            me: Me {
                name: m.name.clone(),
                group: m.place.group,
                tags: m.tags.clone(),
                may_initialise: true,
                may_restore: false,
                rewind: m.rewind,
                has_gate: m.has_gate,
                may_rebuild_diverged: m.may_rebuild_diverged,
                may_rebuild_failed: m.may_rebuild_failed,
            },
            store: Seen::Unknown,
            lock: node::ha::observation::Lock::Unknown,
            postgres: self.look_at_server(member),
            job: None,
            peers: None,
            ownership: Ownership::NoRegions,
            watchdog: Default::default(),
            disk: Default::default(),
            order: None,
            closed_workers: Vec::new(),
            dynamic: m.daemon.dynamic.clone(),
            failsafe: Default::default(),
            history: m.server.system.is_some().then(|| m.server.log.history()),
            memory: m.daemon.memory.clone(),
        };
        self.look_at_store(member, &mut seen);
        seen.job = self.running(member);
        seen.disk = self.look_at_disk(member, &seen);
        self.settle(member, &mut seen);
        seen
    }

    /// After an action only what it may have changed is looked at.
    pub fn look_again(
        &mut self,
        member: usize,
        seen: &mut Observation,
        action: &Action,
        outcome: &Outcome,
    ) {
        let now = self.members[member].clock.read(self.now);
        self.members[member].daemon.memory.fold(action, outcome, now);
        if *action != Action::AskPeers {
            self.look_at_store(member, seen);
        }
        let slow = now.since(seen.now) > STALE_MS;
        let changes = matches!(
            action,
            Action::Promote | Action::Follow(_) | Action::NameSync(_) | Action::WriteWal
        );
        if slow || changes {
            seen.postgres = self.look_at_server(member);
        }
        self.settle(member, seen);
    }

    fn look_at_store(&mut self, member: usize, seen: &mut Observation) {
        let m = &mut self.members[member];
        let group = m.place.group;
        let mirror = &mut m.daemon.mirror;
        let site = mirror.site(&m.keys);
        let own = site.groups.get(&group).cloned().unwrap_or_default();
        seen.store = if mirror.lost { Seen::Unknown } else { Seen::Known(own) };
        self.look_at_topology(member, seen);
    }

    /// What follows from the rest, and what is remembered of it.
    fn settle(&mut self, member: usize, seen: &mut Observation) {
        seen.job = self.running(member);
        let minimum_ttl = self.plan.minimum_ttl;
        let m = &mut self.members[member];
        seen.now = m.clock.read(self.now);
        if let Some(config) = seen.view().and_then(|v| v.config.as_ref()) {
            m.daemon.dynamic = config.value.with_minimum_ttl(minimum_ttl);
        }
        if m.daemon.dynamic.pause {
            m.daemon.last_paused = Some(seen.now);
        }
        seen.dynamic = m.daemon.dynamic.clone();
        self.apply_failsafe(member, seen);
        let m = &mut self.members[member];
        seen.lock = lock::read(&m.name, &seen.store, &m.daemon.lease, m.daemon.held, seen.now);
        m.daemon.held = lock::is_relied_on(&seen.lock);
        if let node::ha::observation::Lock::Mine { deadline, .. } = seen.lock {
            m.deadline = if deadline.0 > 0 { deadline } else { m.deadline };
        }
        self.update_proof(member, seen);
        self.keep_deadline(member);
        self.forget_what_is_over(member, seen);
        seen.memory = self.members[member].daemon.memory.clone();
    }

    fn running(&self, member: usize) -> Option<Running> {
        let m = &self.members[member];
        m.daemon.job.as_ref().map(|work| Running {
            job: work.job.clone(),
            since: work.since,
            closed: m.server.closed().filter(|_| matches!(work.job, Job::Stop { .. })),
            ending: Default::default(),
        })
    }

    fn forget_what_is_over(&mut self, member: usize, seen: &Observation) {
        let daemon = &mut self.members[member].daemon;
        let memory = &mut daemon.memory;
        memory.quiet_since = match seen.is_streaming() || !seen.is_standby() {
            true => None,
            false => memory.quiet_since.or(Some(seen.now)),
        };
        memory.update_from(seen);
        if seen.is_primary() {
            memory.promoting = None;
            memory.forget_comparison();
            memory.signed = None;
        }
        if seen.is_stopped() {
            memory.promoting = None;
        }
        if !seen.holds_lock() {
            memory.won_in_pause = false;
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
                follows: server.follows.clone().map(Box::new),
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
}
