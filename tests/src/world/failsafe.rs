//! Failsafe mode: the question to all members, and what each of them promised.
//!
//! The rules are the daemon's own (`node::ha::failsafe`). A promise is given at
//! the moment the question arrives, whatever the daemon's beat is doing; it
//! lies on the member's disk and outlives its daemon.

use super::World;
use super::call::{Answer, Call};
use super::links::Wire;
use node::act::txn;
use node::dcs::Txn;
use node::ha::failsafe::{Failsafe, Promise, is_proof_over, promised};
use node::ha::observation::{Job, Lock, Process};
use node::ha::{Action, Observation, Outcome};
use topology::{MemberName, Millis, Seen};

impl World {
    pub fn apply_failsafe(&mut self, member: usize, seen: &mut Observation) {
        let m = &mut self.members[member];
        if let Some(view) = seen.view() {
            m.daemon.peer_set.read(view);
        }
        m.promises.is_on = m.daemon.dynamic.failsafe_mode;
        seen.view().inspect(|view| m.promises.learn(view));
        let asks = Failsafe {
            proof: m.daemon.proof,
            asked: m.daemon.asked_all,
            is_ready: m.daemon.peer_set.names(&m.name),
            ..Failsafe::default()
        };
        let promise = m.promises.promise(seen.now).cloned();
        let view = match &mut seen.store {
            Seen::Known(view) => Some(view),
            Seen::Unknown => None,
        };
        seen.failsafe = promised(asks, promise, view);
    }

    pub fn update_proof(&mut self, member: usize, seen: &mut Observation) {
        let m = &mut self.members[member];
        m.daemon.proof = m.daemon.proof.filter(|proof| !is_proof_over(seen, *proof));
        seen.failsafe.proof = m.daemon.proof;
    }

    /// Sets out to lead; not against a promise.
    pub fn set_out(&mut self, member: usize, seen: &Observation, action: &Action) -> bool {
        let leads_on = matches!(
            action,
            Action::AcquireLock
                | Action::ClaimInitialize
                | Action::FinishBootstrap
                | Action::Promote
                | Action::Begin(Job::StartPrimary | Job::Bootstrap)
        );
        let m = &mut self.members[member];
        let now = m.clock.read(self.now);
        if *action == Action::AcquireLock && seen.failsafe.is_released {
            m.promises.claim_released();
            return true;
        }
        !leads_on || m.promises.claim(now)
    }

    pub fn update_promises(&mut self, member: usize, seen: &Observation) {
        let job = seen.job.as_ref().map(|running| &running.job);
        let opens = matches!(job, Some(Job::StartPrimary | Job::Bootstrap));
        let opening = matches!(seen.postgres.process, Process::Starting { as_primary: true, .. });
        let m = &mut self.members[member];
        let promoting = m.daemon.memory.promoting.is_some();
        let leader = match &seen.lock {
            Lock::Other(name) if seen.failsafe.promise.is_none() => Some(name.clone()),
            _ => None,
        };
        let occupied = seen.holds_lock() || seen.is_primary() || promoting || opens || opening;
        m.promises.update(occupied, leader);
    }

    pub fn question(&self, member: usize) -> Call {
        let m = &self.members[member];
        let others = m.daemon.peer_set.others(&m.name);
        let others = others.into_iter().map(|(name, _)| name).collect();
        Call::AskAll { others, ttl_ms: m.daemon.dynamic.ttl_ms }
    }

    /// Each member answers when the question arrives, or not at all.
    pub fn agree(&mut self, member: usize, others: &[MemberName], ttl_ms: u64) -> Answer {
        let mut agreed = true;
        for name in others {
            agreed &= self.agree_one(member, name, ttl_ms);
        }
        if agreed { Answer::Agreed } else { Answer::Silent }
    }

    fn agree_one(&mut self, member: usize, name: &MemberName, ttl_ms: u64) -> bool {
        let Some(other) = self.members.iter().position(|m| m.name == *name) else {
            return false;
        };
        if !self.members[other].is_running() || !self.links.between(Wire::Rest, member, other) {
            return false;
        }
        let (to, host) = (self.members[member].name.clone(), self.members[member].host());
        let m = &mut self.members[other];
        let now = m.clock.read(self.now);
        let ttl_ms = ttl_ms.max(m.daemon.dynamic.ttl_ms);
        let asked = Promise {
            to,
            conn_url: format!("postgres://{host}:5432/postgres"),
            api_url: format!("http://{host}:8008/patroni"),
            slots: Default::default(),
            until: now + ttl_ms,
        };
        let answer = m.promises.accept(asked, now);
        if let Err(why) = &answer {
            let line = format!("does not agree that {} leads on: {why}", self.members[member].name);
            self.note_of(other, &line);
        }
        answer.is_ok()
    }

    pub fn asked_all(&mut self, member: usize, sent: u64, agreed: bool) -> Outcome {
        let m = &mut self.members[member];
        m.daemon.asked_all = m.clock.read(self.now);
        if !agreed {
            return Outcome::Lost;
        }
        let proof = m.clock.read(sent) + m.daemon.dynamic.ttl_ms;
        m.daemon.proof = m.daemon.proof.max(Some(proof));
        let lease_end = m.daemon.lease.deadline();
        self.counts.led_on += u64::from(m.clock.read(self.now) >= lease_end);
        self.counts.agreed += 1;
        self.arm(member, proof);
        Outcome::Done
    }

    /// `/failsafe` as the leader writes it. Its answer may get lost.
    pub fn failsafe_due(&mut self, member: usize, seen: &Observation) -> Option<Txn> {
        let m = &mut self.members[member];
        let (lease, view) = (m.daemon.lease.id?, seen.view()?);
        if !m.daemon.dynamic.failsafe_mode && view.failsafe.is_none() {
            return None;
        }
        let url = format!("http://{}:8008/patroni", m.host());
        let ttl_ms = m.daemon.dynamic.ttl_ms;
        let map = m.daemon.peer_set.next(&m.name, &url, view, seen.now, ttl_ms);
        if view.failsafe.as_ref().is_some_and(|known| known.value == map) {
            return None;
        }
        m.daemon.peer_set.sending(&map);
        let urls = map.into_iter().map(|(name, url)| (name.0, url.into()));
        let text = serde_json::Value::Object(urls.collect()).to_string();
        Some(txn::as_leader(&m.keys, lease, m.keys.failsafe(), text))
    }

    /// Until when this member may write, for the checker.
    pub fn keep_deadline(&mut self, member: usize) {
        let m = &mut self.members[member];
        m.deadline = m.deadline.max(m.daemon.proof.unwrap_or(Millis(0)));
    }
}
