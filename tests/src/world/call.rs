//! Calls over the network: to the store and to other members.
//!
//! A call takes time in both directions and has a deadline. Whatever gets lost
//! on the way, the caller learns only that there was no answer: the write may
//! have happened.

use super::links::Wire;
use super::{Event, World};
use crate::check;
use node::act::txn;
use node::dcs::{DcsError, LeaseId, Op, Renewal, Txn};
use node::ha::observation::Following;
use standby::promotion::{PeerAnswer, PeerStatus};
use std::time::Duration;
use topology::{History, Lsn, MemberName, SystemId, Timeline};

/// Every call gives up after this. The fence budget must cover it.
pub const CALL_MS: u64 = 3_000;
/// And no earlier than this, however close the fence is.
pub const CALL_MIN_MS: u64 = 500;

#[derive(Clone, Debug)]
pub enum Call {
    Renew(Renew),
    Txn(Txn),
    /// `/initialize` for a new cluster.
    Claim,
    /// Get a lease, if there is none, and write under it.
    Acquire(Acquire),
    AskPeers,
    AskAll {
        others: Vec<MemberName>,
        ttl_ms: u64,
    },
    History {
        with: Following,
    },
    /// Several writes, one after the other.
    Chores(Vec<Txn>),
}

#[derive(Clone, Debug)]
pub struct Renew {
    pub lease: Option<LeaseId>,
    /// A lease that was granted to replace it.
    pub next: Option<LeaseId>,
    pub ttl_ms: u64,
    /// The lease was granted for another `ttl`, or a replacement was begun.
    pub replaces: bool,
    /// The own key hangs on a lease of an earlier process.
    pub stale: bool,
    pub leads: bool,
    pub lost: bool,
}

/// A write that makes the member leader.
#[derive(Clone, Debug)]
pub struct Acquire {
    pub lease: Option<LeaseId>,
    pub ttl_ms: u64,
    pub write: AcquireAs,
}

#[derive(Clone, Debug)]
pub enum AcquireAs {
    Lock(Box<topology::GroupView>, Option<Timeline>),
    /// With the revision of the own claim.
    NewCluster(SystemId, Option<i64>, Box<topology::GroupView>),
}

#[derive(Clone, Debug)]
pub enum Answer {
    /// `gone`: the lease we had has ended. `next`: the one that replaces it.
    Renewed {
        gone: bool,
        next: Option<LeaseId>,
        proven: Option<bool>,
    },
    Written {
        lease: LeaseId,
        result: bool,
    },
    Done(bool),
    /// `/initialize` is ours since this revision.
    Claimed(i64),
    Peers(Vec<PeerAnswer>),
    /// Other names of synchronous standbys should be in force by now.
    Named,
    Agreed,
    History(SystemId, History),
    Silent,
}

impl World {
    /// `patience`: how long the caller waits for the answer.
    pub fn send(&mut self, member: usize, call: Call, patience: u64) {
        let sent = self.now;
        let until = sent + patience;
        let life = self.members[member].daemon.life;
        let to = self.latency(member, &call);
        let call = Box::new(call);
        if to > patience {
            // The caller gives up while the call is still on its way.
            self.at(until, Event::Reply { member, life, sent, answer: Box::new(Answer::Silent) });
        }
        self.after(to, Event::Arrive { member, life, call, sent, until });
    }

    fn latency(&mut self, member: usize, call: &Call) -> u64 {
        let region = self.members[member].place.region;
        let slow = match call {
            Call::AskPeers | Call::AskAll { .. } | Call::History { .. } => 0,
            _ => self.links.slow[region],
        };
        let extra = if slow > 0 { self.rng.range(0, slow) } else { 0 };
        self.rng.range(1, 8) + extra
    }

    pub fn on_arrive(&mut self, member: usize, life: u64, call: Call, sent: u64, until: u64) {
        let region = self.members[member].place.region;
        let answer = match &call {
            Call::AskPeers => self.ask_peers(member),
            Call::AskAll { others, ttl_ms } => self.agree(member, others, *ttl_ms),
            Call::History { with } => self.tell_history(member, with),
            _ if !self.links.to_store(member, region) => Answer::Silent,
            Call::Txn(txn) => self.serve_watching_release(member, &call, txn),
            _ => self.serve(member, &call),
        };
        let lost = self.links.lossy[region];
        let mut back = self.latency(member, &call);
        if matches!(&answer, Answer::Peers(p) if p.iter().any(|peer| peer.status.is_none())) {
            back += self.rng.range(0, 1_000);
        }
        let store = !matches!(call, Call::AskPeers | Call::AskAll { .. } | Call::History { .. });
        let late = self.now + back > until;
        let silent = matches!(answer, Answer::Silent) || late || store && self.rng.percent(lost);
        if self.now > until {
            return;
        }
        let (moment, answer) = match silent {
            true => (self.silence_until(until), Answer::Silent),
            false => (self.now + back, answer),
        };
        let answer = Box::new(answer);
        self.at(moment, Event::Reply { member, life, sent, answer });
    }

    /// A refused connection is known at once, a lost packet at the deadline.
    fn silence_until(&mut self, deadline: u64) -> u64 {
        if self.rng.percent(40) { deadline.min(self.now + 5) } else { deadline }
    }

    fn serve(&mut self, member: usize, call: &Call) -> Answer {
        match call {
            Call::Renew(renew) => self.serve_renewal(member, renew),
            Call::Acquire(acquire) => self.serve_acquire(member, acquire),
            Call::Txn(txn) => self.write(member, txn).map_or(Answer::Silent, Answer::Done),
            Call::Claim => self.serve_claim(member),
            Call::Chores(txns) => {
                for txn in txns {
                    if self.write(member, txn).is_err() {
                        return Answer::Silent;
                    }
                }
                Answer::Done(true)
            }
            Call::AskPeers | Call::AskAll { .. } | Call::History { .. } => Answer::Silent,
        }
    }

    /// For the checker: what was acknowledged when the lock was handed over on
    /// request must be in the server that opens next.
    fn serve_watching_release(&mut self, member: usize, call: &Call, txn: &Txn) -> Answer {
        let m = &self.members[member];
        let (failover, leader) = (m.keys.failover(), m.keys.leader());
        let status = m.keys.status();
        let publishes = |op: &Op| match op {
            Op::Put { key, value, .. } if *key == status => value.contains("ended"),
            Op::Put { key, value, .. } => *key == failover && value.contains("leader"),
            _ => false,
        };
        let deletes = |op: &Op| matches!(op, Op::Delete { key } if *key == leader);
        let signs = |op: &Op| matches!(op, Op::Put { key, .. } if key.contains("/switch/token/"));
        let signed = txn.then.iter().any(signs);
        let hands_over = txn.then.iter().any(publishes) && txn.then.iter().any(deletes);
        let client = m.place.client;
        let answer = self.serve(member, call);
        if hands_over && matches!(answer, Answer::Done(true)) {
            let acknowledged = self.clients[client].acknowledged.len();
            self.members[member].released_at = Some(acknowledged);
            self.counts.handovers += 1;
        }
        if signed && matches!(answer, Answer::Done(true)) {
            let acknowledged = self.clients[client].acknowledged.len();
            self.members[member].signed_at = Some(acknowledged);
            self.counts.signatures += 1;
        }
        answer
    }

    fn write(&mut self, member: usize, txn: &Txn) -> Result<bool, DcsError> {
        check::sent(self, member, txn);
        let store = &self.stores.regions[self.members[member].place.region];
        store.txn_now(txn).map(|result| result.succeeded)
    }

    fn serve_claim(&mut self, member: usize) -> Answer {
        let txn = txn::claim_initialize(&self.members[member].keys);
        check::sent(self, member, &txn);
        match self.stores.regions[self.members[member].place.region].txn_now(&txn) {
            Ok(result) if result.succeeded => Answer::Claimed(result.revision),
            Ok(_) => Answer::Done(false),
            Err(_) => Answer::Silent,
        }
    }

    fn grant(&mut self, member: usize, ttl_ms: u64) -> LeaseId {
        let store = &self.stores.regions[self.members[member].place.region];
        let lease = store.grant_now(Duration::from_millis(ttl_ms));
        self.after(ttl_ms, Event::Sweep);
        lease.expect("this handle has no faults")
    }

    fn serve_renewal(&mut self, member: usize, renew: &Renew) -> Answer {
        let store = &self.stores.regions[self.members[member].place.region];
        let renewal = renew.lease.map(|id| store.renew_now(id).expect("no faults"));
        self.after(renew.ttl_ms, Event::Sweep);
        let (Some(lease), Some(Renewal::Alive)) = (renew.lease, renewal) else {
            let next = Some(self.next_lease(member, renew));
            return Answer::Renewed { gone: true, next, proven: None };
        };
        let m = &self.members[member];
        let unsure = renew.next.is_some() && renew.lost;
        let proof = match renew.leads && !unsure {
            true if renew.stale => Some(txn::readopt(&m.keys, &m.name, lease)),
            true if renew.lost => Some(txn::prove(&m.keys, &m.name, lease)),
            _ => None,
        };
        let proven = match proof {
            Some(proof) => self.write(member, &proof).ok(),
            None => (!unsure).then_some(true),
        };
        let next =
            (renew.replaces && proven != Some(false)).then(|| self.next_lease(member, renew));
        Answer::Renewed { gone: false, next, proven }
    }

    /// The lease of a replacement that was begun, if it still lives.
    fn next_lease(&mut self, member: usize, renew: &Renew) -> LeaseId {
        let store = &self.stores.regions[self.members[member].place.region];
        let lives = |id: &LeaseId| store.renew_now(*id).expect("no faults") == Renewal::Alive;
        match renew.next.filter(lives) {
            Some(next) => next,
            None => self.grant(member, renew.ttl_ms),
        }
    }

    fn serve_acquire(&mut self, member: usize, acquire: &Acquire) -> Answer {
        let store = &self.stores.regions[self.members[member].place.region];
        // One that is gone is replaced, once.
        let lives = |id: &LeaseId| store.renew_now(*id).expect("no faults") == Renewal::Alive;
        let known = acquire.lease.filter(lives);
        let lease = known.unwrap_or_else(|| self.grant(member, acquire.ttl_ms));
        let m = &self.members[member];
        let txn = match &acquire.write {
            AcquireAs::Lock(view, mine) => txn::acquire(&m.keys, &m.name, lease, view, *mine),
            AcquireAs::NewCluster(system, claim, view) => {
                let (me, config, claim) = (&m.name, &self.config(), *claim);
                let new = txn::NewCluster { me, system, config, claim };
                txn::finish_bootstrap(&m.keys, lease, &new, view)
            }
        };
        match self.write(member, &txn) {
            Ok(result) => {
                self.end_promises(member, acquire);
                if result && self.members[member].server.accepts_commits() {
                    check::took_lock(self, member);
                }
                Answer::Written { lease, result }
            }
            Err(_) => Answer::Silent,
        }
    }

    /// A handover binds as long as there is a record of the leader that handed over,
    /// and only until an operator names a member that may lose something.
    fn end_promises(&mut self, member: usize, acquire: &Acquire) {
        let AcquireAs::Lock(view, _) = &acquire.write else { return };
        if view.request().is_some_and(|r| r.leader.is_none()) {
            return check::forget_release(self, self.members[member].place.client);
        }
        let handed = view.request().and_then(|r| r.leader.clone());
        let handed = handed.filter(|name| !view.members.contains_key(name));
        for member in self.members.iter_mut().filter(|m| Some(&m.name) == handed.as_ref()) {
            member.released_at = None;
        }
    }

    fn ask_peers(&mut self, member: usize) -> Answer {
        let place = self.members[member].place;
        let others = 0..self.members.len();
        let peers = others.filter(|other| {
            let theirs = self.members[*other].place;
            *other != member && (theirs.region, theirs.group) == (place.region, place.group)
        });
        Answer::Peers(peers.map(|other| self.peer_answer(member, other)).collect())
    }

    fn peer_answer(&self, member: usize, other: usize) -> PeerAnswer {
        let peer = &self.members[other];
        let answers = self.links.between(Wire::Rest, member, other) && peer.is_running();
        let up =
            matches!(peer.server.process, super::postgres::Process::Up(_)) && !peer.server.mute;
        PeerAnswer {
            name: peer.name.clone(),
            status: (answers && up).then(|| PeerStatus {
                in_recovery: !peer.server.accepts_commits(),
                lsn: Lsn(peer.server.log.end()),
                timeline: Some(Timeline(peer.server.log.timeline())),
                nofailover: peer.tags.nofailover(),
                failover_priority: peer.tags.failover_priority(),
                watchdog_failed: false,
                disk_failed: self.says_disk_failed(other),
            }),
        }
    }

    /// `IDENTIFY_SYSTEM` and `TIMELINE_HISTORY` of another server.
    fn tell_history(&mut self, member: usize, with: &Following) -> Answer {
        let Some(other) = self.member_at(with) else {
            return Answer::Silent;
        };
        let server = &self.members[other].server;
        let up = matches!(server.process, super::postgres::Process::Up(_));
        match (&server.system, self.links.between(Wire::Replication, member, other) && up) {
            (Some(system), true) => Answer::History(system.clone(), server.log.history()),
            _ => Answer::Silent,
        }
    }

    pub fn member_at(&self, following: &Following) -> Option<usize> {
        self.members.iter().position(|m| m.host() == following.host)
    }
}
