//! The eyes: an `Observation` as a daemon would make it.
//!
//! A server that is stopping answers no query, so its role is unknown; all else
//! a daemon sees of its own machine is true at the moment it looks.

use super::World;
use super::postgres::{Process as Reality, Role};
use node::dcs::Snapshot;
use node::ha::Observation;
use node::ha::observation::{
    DataDir, Divergence, Lock, Me, Postgres, Process, Running, Server, ServerRole,
};
use standby::switch::ownership::{Order, Ownership};
use topology::{GroupView, Lsn, Millis, Seen, Timeline};

impl World {
    /// Looks at everything. `None`: the store did not answer.
    pub fn observe(&mut self, member: usize, snapshot: Option<&Snapshot>) -> Observation {
        let view = snapshot.map(|s| self.read_view(member, s));
        if let Some(view) = &view {
            self.members[member].take_view(view);
        }
        self.remember_leader(member, view.as_ref());
        let key_lease = view
            .as_ref()
            .map(|v| v.leader.as_ref().map_or(0, |l| l.lease));
        let lock = self.lock_of(member, view.as_ref(), key_lease);
        self.remember_server(member);
        let m = &self.members[member];
        Observation {
            now: m.clock.read(self.now),
            me: Me {
                name: m.name.clone(),
                group: m.place.group,
                tags: m.tags.clone(),
                may_initialise: true,
                may_rewind: m.may_rewind,
                may_rebuild_diverged: m.may_rebuild_diverged,
            },
            store: view.map_or(Seen::Unknown, Seen::Known),
            lock,
            postgres: self.look_at_server(member),
            job: self.look_at_job(member),
            peers: None,
            ownership: self.ownership(member),
            order: self.order(member),
            closed_workers: Vec::new(),
            dynamic: m.daemon.dynamic.clone(),
            memory: m.daemon.memory.clone(),
        }
    }

    pub fn read_view(&self, member: usize, snapshot: &Snapshot) -> GroupView {
        let base = self.members[member].base();
        let mut view = GroupView::default();
        for kv in &snapshot.entries {
            if let Some(key) = kv.key.strip_prefix(&base) {
                view.take(key, &kv.value, kv.mod_revision, kv.lease);
            }
        }
        view
    }

    /// A lock that the store cannot confirm now is ours until its deadline.
    fn lock_of(&self, member: usize, view: Option<&GroupView>, key_lease: Option<i64>) -> Lock {
        let m = &self.members[member];
        let Some(view) = view else {
            return match m.daemon.held {
                true => self.own_lock(member, m.daemon.lease.is_some()),
                false => Lock::Unknown,
            };
        };
        match view.leader_name() {
            None => Lock::Free,
            Some(name) if *name == m.name => self.own_lock(member, m.daemon.lease == key_lease),
            Some(name) => Lock::Other(name.clone()),
        }
    }

    /// `renews`: the key hangs on the lease that this process renews.
    pub fn own_lock(&self, member: usize, renews: bool) -> Lock {
        let memory = &self.members[member].daemon.memory;
        let renewed = memory.lease_renewed;
        if !renews || renewed == Millis(0) {
            return Lock::Mine {
                renewed: Millis(0),
                deadline: Millis(0),
            };
        }
        let ttl = self.members[member].daemon.dynamic.ttl_ms;
        Lock::Mine {
            renewed,
            deadline: renewed + ttl,
        }
    }

    /// What was found out about one leader says nothing about the next.
    fn remember_leader(&mut self, member: usize, view: Option<&GroupView>) {
        let Some(view) = view else { return };
        let key = self.key(member, "leader");
        let region = self.members[member].place.region;
        let since = self.stores[region]
            .get(&key)
            .map_or(0, |kv| kv.create_revision);
        let daemon = &mut self.members[member].daemon;
        let known = daemon.memory.compared_with.as_ref();
        let stale = daemon.leader_since != since || known != view.leader_name();
        if stale && view.leader_name().is_some() {
            daemon.leader_since = since;
            daemon.memory.divergence = Divergence::Unchecked;
            daemon.memory.compared_with = view.leader_name().cloned();
        }
    }

    fn remember_server(&mut self, member: usize) {
        let now = self.members[member].clock.read(self.now);
        let m = &mut self.members[member];
        let memory = &mut m.daemon.memory;
        let silent = m.server.is_standby() && m.server.streams_from.is_none();
        memory.quiet_since = match silent {
            true => memory.quiet_since.or(Some(now)),
            false => None,
        };
        if m.server.accepts_commits() {
            memory.promoting = None;
            memory.divergence = Divergence::Unchecked;
        }
    }

    pub fn look_at_job(&self, member: usize) -> Option<Running> {
        let work = self.members[member].daemon.job.as_ref()?;
        Some(Running {
            job: work.job.clone(),
            since: work.since,
        })
    }

    pub fn look_at_server(&self, member: usize) -> Postgres {
        let m = &self.members[member];
        let Some(system) = m.server.system.clone() else {
            return Postgres {
                data: DataDir::Empty,
                process: Process::Stopped(Seen::Unknown),
            };
        };
        let process = match m.server.process {
            Reality::Down => Process::Stopped(Seen::Known(m.server.remains())),
            Reality::Starting(_) => Process::Starting {
                since: m.clock.read(m.server.since),
            },
            Reality::Up(role) => Process::Running(self.look_inside(member, Seen::Known(role))),
            Reality::Stopping { .. } => Process::Running(self.look_inside(member, Seen::Unknown)),
        };
        Postgres {
            data: DataDir::Valid { system },
            process,
        }
    }

    fn look_inside(&self, member: usize, role: Seen<Role>) -> Server {
        let server = &self.members[member].server;
        Server {
            role: role.map(|role| match role {
                Role::Primary => ServerRole::Primary,
                Role::Standby => ServerRole::Standby {
                    follows: server.follows.clone(),
                    streaming: server.streams_from.is_some(),
                },
            }),
            timeline: Some(Timeline(server.log.timeline())),
            lsn: Lsn(server.log.end()),
        }
    }

    fn ownership(&self, _member: usize) -> Ownership {
        Ownership::NoRegions
    }

    fn order(&self, _member: usize) -> Option<Order> {
        None
    }
}
