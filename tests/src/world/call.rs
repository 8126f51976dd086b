//! Calls over the network: to the store and to other members.
//!
//! A call takes time in both directions and has a deadline. Whatever gets lost
//! on the way, the caller learns only that there was no answer: the write may
//! have happened.

use super::links::Wire;
use super::{Event, World};
use node::dcs::{Compare, LeaseId, Op, Renewal, Snapshot, Txn};
use node::ha::observation::Following;
use standby::promotion::{PeerAnswer, PeerStatus};
use topology::{History, Lsn, MemberName, SystemId, Timeline};

/// Every call gives up after this. The fence budget must cover it.
pub const CALL_MS: u64 = 3_000;

#[derive(Clone, Debug)]
pub enum Call {
    Read,
    /// Renew the own lease (or get one), and put the own keys under it.
    Renew {
        lease: Option<LeaseId>,
        ttl_ms: u64,
        leads: bool,
    },
    Txn(Txn),
    AskPeers,
    History {
        with: Following,
    },
    /// Nobody waits for this one.
    Publish(Vec<Txn>),
}

#[derive(Clone, Debug)]
pub enum Answer {
    Read(Snapshot),
    Renewed {
        lease: LeaseId,
        fresh: bool,
        leads: bool,
    },
    Txn(bool),
    LeaseGone,
    Peers(Vec<PeerAnswer>),
    History(SystemId, History),
    Silent,
}

impl World {
    pub fn send(&mut self, member: usize, call: Call) {
        let sent = self.now;
        let life = self.members[member].daemon.life;
        let to = self.latency(member, &call);
        let call = Box::new(call);
        self.after(
            to,
            Event::Arrive {
                member,
                life,
                call,
                sent,
            },
        );
    }

    fn latency(&mut self, member: usize, call: &Call) -> u64 {
        let region = self.members[member].place.region;
        let slow = match call {
            Call::AskPeers | Call::History { .. } => 0,
            _ => self.links.slow[region],
        };
        let extra = if slow > 0 { self.rng.range(0, slow) } else { 0 };
        self.rng.range(1, 8) + extra
    }

    pub fn on_arrive(&mut self, member: usize, life: u64, call: Call, sent: u64) {
        let region = self.members[member].place.region;
        let waits = !matches!(call, Call::Publish(_));
        let answer = match &call {
            Call::AskPeers => self.ask_peers(member),
            Call::History { with } => self.tell_history(member, with),
            _ if !self.links.to_store(member, region) => Answer::Silent,
            _ => self.serve(member, &call),
        };
        if !waits {
            return;
        }
        let lost = self.links.lossy[region];
        let mut back = self.latency(member, &call);
        if matches!(&answer, Answer::Peers(p) if p.iter().any(|peer| peer.status.is_none())) {
            back += self.rng.range(0, 1_000);
        }
        let store = !matches!(call, Call::AskPeers | Call::History { .. });
        let late = self.now + back > sent + CALL_MS;
        let silent = matches!(answer, Answer::Silent) || late || store && self.rng.percent(lost);
        let (moment, answer) = match silent {
            true => (self.silence_until(sent), Answer::Silent),
            false => (self.now + back, answer),
        };
        let answer = Box::new(answer);
        self.at(
            moment,
            Event::Reply {
                member,
                life,
                sent,
                answer,
            },
        );
    }

    /// A refused connection is known at once, a lost packet at the deadline.
    fn silence_until(&mut self, sent: u64) -> u64 {
        if self.rng.percent(40) {
            self.now + 5
        } else {
            sent + CALL_MS
        }
    }

    fn serve(&mut self, member: usize, call: &Call) -> Answer {
        let (now, region) = (self.now, self.members[member].place.region);
        let base = self.members[member].base();
        match call {
            Call::Read => Answer::Read(self.stores[region].read(&base)),
            Call::Renew {
                lease,
                ttl_ms,
                leads,
            } => self.serve_renewal(member, *lease, *ttl_ms, *leads),
            Call::Txn(txn) if self.stores[region].is_lease_gone(txn) => Answer::LeaseGone,
            Call::Txn(txn) => Answer::Txn(self.stores[region].txn(txn).succeeded),
            Call::Publish(txns) => {
                for txn in txns {
                    self.stores[region].txn(txn);
                }
                Answer::Silent
            }
            Call::AskPeers | Call::History { .. } => {
                unreachable!("not for the store at {now}")
            }
        }
    }

    fn serve_renewal(
        &mut self,
        member: usize,
        lease: Option<LeaseId>,
        ttl_ms: u64,
        leads: bool,
    ) -> Answer {
        let (now, region) = (self.now, self.members[member].place.region);
        let (key, name) = (
            self.key(member, "leader"),
            self.members[member].name.0.clone(),
        );
        let store = &mut self.stores[region];
        let alive = lease.filter(|id| store.renew(now, *id) == Renewal::Alive);
        let lease = alive.unwrap_or_else(|| store.grant(now, ttl_ms));
        // A key of an earlier life hangs on a lease that nobody renews.
        let moved = leads
            && store
                .txn(&Txn {
                    when: vec![Compare::ValueIs(key.clone(), name.clone())],
                    then: match store.get(&key).is_some_and(|kv| kv.lease == lease) {
                        true => vec![],
                        false => vec![Op::Put {
                            key,
                            value: name,
                            lease: Some(lease),
                        }],
                    },
                })
                .succeeded;
        self.at(now + ttl_ms, Event::Sweep { region });
        Answer::Renewed {
            lease,
            fresh: alive.is_none(),
            leads: moved,
        }
    }

    pub fn key(&self, member: usize, name: &str) -> String {
        format!("{}{name}", self.members[member].base())
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
        let up = matches!(peer.server.process, super::postgres::Process::Up(_));
        PeerAnswer {
            name: peer.name.clone(),
            status: (answers && up).then(|| PeerStatus {
                in_recovery: !peer.server.accepts_commits(),
                lsn: Lsn(peer.server.log.end()),
                timeline: Some(Timeline(peer.server.log.timeline())),
                nofailover: peer.tags.nofailover(),
                failover_priority: peer.tags.failover_priority(),
                watchdog_failed: false,
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
        match (
            &server.system,
            self.links.between(Wire::Replication, member, other) && up,
        ) {
            (Some(system), true) => Answer::History(system.clone(), server.log.history()),
            _ => Answer::Silent,
        }
    }

    pub fn member_at(&self, following: &Following) -> Option<usize> {
        self.members.iter().position(|m| m.host() == following.host)
    }

    pub fn member_named(&self, name: &MemberName) -> Option<usize> {
        self.members.iter().position(|m| &m.name == name)
    }
}
