//! The hands: what an action does to the world, and what its answer means.

use super::World;
use super::call::{Answer, Call};
use node::dcs::{Compare, Op, Txn};
use node::ha::observation::{Divergence, Lock};
use node::ha::{Action, Observation, Outcome};
use standby::rewind::{LocalEnd, Verdict, judge};
use topology::cluster::{Failover, Status, write_history};
use topology::{Lsn, Millis, SystemId, Timeline, Versioned};

impl World {
    /// Does it, or sends it. `None`: the answer is on its way.
    pub fn perform(&mut self, m: usize, seen: &mut Observation, do_it: &Action) -> Option<Outcome> {
        match do_it {
            Action::Renew => self.renew(m),
            Action::AskPeers => self.wait_for(m, Call::AskPeers),
            Action::CheckDivergence { with } => {
                self.wait_for(m, Call::History { with: with.clone() })
            }
            Action::Promote => Some(self.promote(m)),
            Action::Follow(to) => {
                self.members[m].server.follows = to.clone();
                self.members[m].server.streams_from = None;
                Some(Outcome::Done)
            }
            Action::Begin(job) => {
                self.begin_job(m, job.clone());
                Some(Outcome::Done)
            }
            Action::CancelJob => {
                self.cancel_job(m);
                Some(Outcome::Done)
            }
            Action::Exit(code) => {
                self.note_of(m, &format!("daemon ends with {code}"));
                self.end_daemon(m);
                Some(Outcome::Done)
            }
            Action::GiveUpBootstrap => {
                self.move_data_aside(m);
                self.write(m, seen, do_it)
            }
            Action::AcquireLock
            | Action::ReleaseLock { .. }
            | Action::ClearRequest
            | Action::ClaimInitialize
            | Action::FinishBootstrap
            | Action::AdoptSystem
            | Action::Sign { .. } => self.write(m, seen, do_it),
        }
    }

    fn wait_for(&mut self, member: usize, call: Call) -> Option<Outcome> {
        self.send(member, call);
        None
    }

    fn renew(&mut self, member: usize) -> Option<Outcome> {
        let now = self.members[member].clock.read(self.now);
        let daemon = &mut self.members[member].daemon;
        daemon.memory.lease_tried = now;
        let call = Call::Renew {
            lease: daemon.lease,
            ttl_ms: daemon.dynamic.ttl_ms,
            leads: daemon.held,
        };
        self.wait_for(member, call)
    }

    fn write(&mut self, member: usize, seen: &Observation, action: &Action) -> Option<Outcome> {
        match self.transaction(member, seen, action) {
            Some(txn) => self.wait_for(member, Call::Txn(txn)),
            None => Some(Outcome::Failed("there is no lease yet".into())),
        }
    }

    /// The write of an action, with the conditions it was decided under.
    fn transaction(&self, member: usize, seen: &Observation, action: &Action) -> Option<Txn> {
        let name = self.members[member].name.0.clone();
        let lease = self.members[member].daemon.lease;
        let key = |key: &str| self.key(member, key);
        let put = |name: &str, value: String| Op::Put {
            key: key(name),
            value,
            lease: None,
        };
        let system = seen.system().map(|s| s.0.clone());
        Some(match action {
            Action::AcquireLock => Txn {
                when: vec![Compare::Absent(key("leader"))],
                then: vec![self.put_leader(member, lease?)],
            },
            Action::ReleaseLock { publish } => {
                let mut then = vec![Op::Delete { key: key("leader") }];
                then.extend(publish.map(|lsn| put("status", status(lsn))));
                Txn {
                    when: vec![Compare::ValueIs(key("leader"), name)],
                    then,
                }
            }
            Action::ClearRequest => Txn {
                when: self.unchanged(member, seen),
                then: vec![put("failover", "{}".into())],
            },
            Action::ClaimInitialize => Txn {
                when: vec![Compare::Absent(key("initialize"))],
                then: vec![put("initialize", String::new())],
            },
            Action::GiveUpBootstrap => Txn {
                when: vec![Compare::ValueIs(key("initialize"), String::new())],
                then: vec![Op::Delete {
                    key: key("initialize"),
                }],
            },
            Action::FinishBootstrap => Txn {
                when: vec![
                    Compare::ValueIs(key("initialize"), String::new()),
                    Compare::Absent(key("leader")),
                ],
                then: vec![
                    put("initialize", system?),
                    put("config", self.plan.config.clone()),
                    self.put_leader(member, lease?),
                ],
            },
            Action::AdoptSystem => Txn {
                when: vec![Compare::Absent(key("initialize"))],
                then: vec![put("initialize", system?)],
            },
            _ => return None,
        })
    }

    fn put_leader(&self, member: usize, lease: i64) -> Op {
        Op::Put {
            key: self.key(member, "leader"),
            value: self.members[member].name.0.clone(),
            lease: Some(lease),
        }
    }

    fn unchanged(&self, member: usize, seen: &Observation) -> Vec<Compare> {
        let failover = seen.view().and_then(|v| v.failover.as_ref());
        let revision = failover.map_or(0, |f| f.revision);
        vec![Compare::RevisionIs(self.key(member, "failover"), revision)]
    }

    /// What the answer means, for the daemon and for what it has seen.
    pub fn fold_answer(
        &mut self,
        member: usize,
        seen: &mut Observation,
        action: &Action,
        sent: u64,
        answer: Answer,
    ) -> Outcome {
        match answer {
            Answer::Silent => {
                self.released(member, action, false);
                Outcome::Unknown("no answer".into())
            }
            Answer::Renewed { lease, leads, .. } => self.renewed(member, seen, sent, lease, leads),
            Answer::LeaseGone => {
                let daemon = &mut self.members[member].daemon;
                daemon.lease = None;
                daemon.memory.lease_renewed = Millis(0);
                daemon.memory.lease_tried = Millis(0);
                Outcome::Lost
            }
            Answer::Txn(false) => Outcome::Lost,
            Answer::Txn(true) => {
                self.written(member, seen, action);
                Outcome::Done
            }
            Answer::Peers(peers) => {
                seen.peers = Some(peers);
                Outcome::Done
            }
            Answer::History(system, history) => {
                let divergence = self.compare(member, &system, &history);
                self.members[member].daemon.memory.divergence = divergence;
                Outcome::Done
            }
            Answer::Read(_) => Outcome::Failed("a read answers no action".into()),
        }
    }

    fn renewed(
        &mut self,
        member: usize,
        seen: &mut Observation,
        sent: u64,
        lease: i64,
        leads: bool,
    ) -> Outcome {
        let at = self.members[member].clock.read(sent);
        let daemon = &mut self.members[member].daemon;
        daemon.lease = Some(lease);
        daemon.memory.lease_renewed = at;
        let led = matches!(seen.lock, Lock::Mine { .. });
        if leads {
            self.keep_lock(member, seen);
        } else if led {
            self.members[member].daemon.held = false;
            return Outcome::Lost;
        }
        Outcome::Done
    }

    fn keep_lock(&mut self, member: usize, seen: &mut Observation) {
        self.members[member].daemon.held = true;
        seen.lock = self.own_lock(member, true);
        if let Lock::Mine { deadline, .. } = seen.lock {
            self.members[member].deadline = deadline;
        }
    }

    fn written(&mut self, member: usize, seen: &mut Observation, action: &Action) {
        let mut view = seen.view().cloned().unwrap_or_default();
        let name = self.members[member].name.clone();
        let versioned = |value| Versioned {
            value,
            revision: 0,
            lease: 0,
        };
        match action {
            Action::AcquireLock | Action::FinishBootstrap => {
                view.leader = Some(versioned(name));
                self.keep_lock(member, seen);
            }
            Action::ReleaseLock { .. } => {
                view.leader = None;
                seen.lock = Lock::Free;
                self.members[member].daemon.held = false;
            }
            Action::ClearRequest => view.failover = None,
            _ => {}
        }
        let system = seen.system().cloned();
        match action {
            Action::ClaimInitialize => view.initialize = Some(empty_initialize()),
            Action::GiveUpBootstrap => view.initialize = None,
            Action::FinishBootstrap | Action::AdoptSystem => {
                view.initialize = Some(Versioned {
                    value: system,
                    revision: 0,
                    lease: 0,
                });
            }
            _ => {}
        }
        seen.store = topology::Seen::Known(view);
        self.released(member, action, true);
    }

    /// For the checker: everything acknowledged so far must be in what opens
    /// after a lock that was handed over.
    fn released(&mut self, member: usize, action: &Action, known: bool) {
        let m = &self.members[member];
        let planned = m.daemon.memory.handover.is_some() && !m.daemon.memory.stopping;
        let region = m.place.region;
        let leader = self.stores[region].get(&self.key(member, "leader"));
        let gone = known || leader.is_none_or(|kv| kv.value != m.name.0);
        if planned && gone && matches!(action, Action::ReleaseLock { publish: Some(_) }) {
            let acknowledged = self.clients[m.place.client].acknowledged.len();
            self.members[member].released_at = Some(acknowledged);
        }
    }

    /// Compares the own log's end with another server's history.
    fn compare(&self, member: usize, system: &SystemId, history: &topology::History) -> Divergence {
        let server = &self.members[member].server;
        if server.system.as_ref() != Some(system) {
            return Divergence::Diverged("another system id".into());
        }
        let down = server.process == super::postgres::Process::Down;
        let remains = server.remains();
        let local = LocalEnd {
            timeline: Timeline(server.log.timeline()),
            lsn: if down {
                remains.lsn
            } else {
                Lsn(server.log.end())
            },
            was_primary: down && remains.end != node::ha::observation::End::Standby,
        };
        match judge(local, history) {
            Verdict::Prefix => Divergence::Prefix,
            Verdict::Diverged(how) => Divergence::Diverged(how),
        }
    }
}

fn empty_initialize() -> Versioned<Option<SystemId>> {
    Versioned {
        value: None,
        revision: 0,
        lease: 0,
    }
}

pub fn status(optime: Lsn) -> String {
    Status {
        optime,
        ..Status::default()
    }
    .write()
}

pub fn request(leader: Option<&str>, candidate: Option<&str>) -> String {
    Failover {
        leader: leader.map(Into::into),
        candidate: candidate.map(Into::into),
        scheduled_at: None,
    }
    .write()
}

pub fn history_text(history: &topology::History) -> String {
    let entries: Vec<_> = history
        .forks
        .iter()
        .map(|fork| topology::HistoryEntry {
            timeline: fork.parent,
            switch: fork.switch,
            reason: fork.reason.clone(),
            at: None,
            new_leader: None,
        })
        .collect();
    write_history(&entries)
}
