//! Calls over the network: to the store and to other members.
//!
//! A call takes time in both directions and has a deadline. Whatever gets lost
//! on the way, the caller learns only that there was no answer: the write may
//! have happened.

use super::failsafe::Question;
use super::links::Wire;
use super::stores::OwnWrite;
use super::{Event, World};
use crate::check;
use member::ha::observation::Following;
use member::{Answer, Call, RemoteLog, STORE_CALL_MS};
use node::dcs::{DcsError, Renewal, Session, Written};
use node::region::ownership::read;
use standby::promotion::{PeerAnswer, PeerStatus};
use standby::switch::write::sign;
use standby::sync::AwaitedNames;
use std::time::Duration;
use topology::write::{RegionWrite, Release};
use topology::{Lsn, MemberName, Timeline, Write};

/// Every call gives up after this. The fence budget must cover it.
pub const CALL_MS: u64 = STORE_CALL_MS;

/// What comes back.
#[derive(Clone, Debug)]
pub enum Reply {
    Machine(Answer),
    /// Other names of synchronous standbys should be in force by now.
    Named(AwaitedNames),
}

fn is_to_store(call: &Call) -> bool {
    !matches!(call, Call::AskPeers(_) | Call::AskAll { .. } | Call::History { .. })
}

fn silence() -> Answer {
    Answer::NoAnswer("no answer".into())
}

impl World {
    /// `limit_ms`: how long the caller waits for the answer.
    pub fn send(&mut self, member: usize, call: Call, limit_ms: Option<u64>) {
        let patience = limit_ms.unwrap_or(CALL_MS).min(CALL_MS);
        let sent = self.now;
        let until = sent + patience;
        let life = self.members[member].daemon.life;
        let to = self.latency(member, &call);
        if to > patience {
            // The caller gives up while the call is still on its way.
            let reply = Box::new(Reply::Machine(silence()));
            self.at(until, Event::Reply { member, life, sent, reply });
        }
        self.after(to, Event::Arrive { member, life, call: Box::new(call), sent, until });
    }

    fn latency(&mut self, member: usize, call: &Call) -> u64 {
        let region = self.members[member].place.region;
        let slow = if is_to_store(call) { self.links.slow[region] } else { 0 };
        let extra = if slow > 0 { self.rng.range(0, slow) } else { 0 };
        self.rng.range(1, 8) + extra
    }

    pub fn on_arrive(&mut self, member: usize, life: u64, call: Call, sent: u64, until: u64) {
        let region = self.members[member].place.region;
        let is_cut = is_to_store(&call) && !self.links.to_store(member, region);
        let answer = if is_cut { silence() } else { self.serve(member, &call) };
        let lost = self.links.lossy[region];
        let mut back = self.latency(member, &call);
        if let Answer::Peers(peers) = &answer
            && peers.iter().any(|peer| peer.status.is_none())
        {
            back += self.rng.range(0, 1_000);
        }
        let late = self.now + back > until;
        let silent = is_cut || is_silence(&answer) || late;
        let silent = silent || is_to_store(&call) && self.rng.percent(lost);
        if self.now > until {
            return;
        }
        let (moment, answer) = match silent {
            true => (self.silence_until(until), silence()),
            false => (self.now + back, answer),
        };
        let reply = Box::new(Reply::Machine(answer));
        self.at(moment, Event::Reply { member, life, sent, reply });
    }

    /// A refused connection is known at once, a lost packet at the deadline.
    fn silence_until(&mut self, deadline: u64) -> u64 {
        if self.rng.percent(40) { deadline.min(self.now + 5) } else { deadline }
    }

    fn serve(&mut self, member: usize, call: &Call) -> Answer {
        match call {
            Call::KeepAlive(lease) => self.serve_keep_alive(member, *lease),
            Call::Grant { ttl_ms } => Answer::Granted(self.grant(member, *ttl_ms)),
            Call::Write(write) | Call::Report { write, .. } => self.serve_write(member, write),
            Call::Sign { id, token } => {
                let m = &self.members[member];
                let local = read(&m.keys, &m.daemon.mirror.snapshot.entries);
                match sign(&local, &m.name, id, token) {
                    Some(write) => self.serve_write(member, &write),
                    None => Answer::Overtaken,
                }
            }
            Call::Refresh => {
                let m = &self.members[member];
                let leader = self.stores.get(m.place.region, &m.keys.leader());
                Answer::Refreshed { is_leader: leader.is_some_and(|kv| kv.value == m.name.0) }
            }
            Call::AskPeers(peers) => self.ask_peers(member, peers),
            Call::AskAll { others, enough, ttl_ms, by } => {
                let question = Question { others, enough: *enough, ttl_ms: *ttl_ms, by: *by };
                self.agree(member, &question)
            }
            Call::History { with, .. } => self.tell_history(member, with),
            other => panic!("{other:?} is not sent"),
        }
    }

    fn serve_write(&mut self, member: usize, write: &Write) -> Answer {
        match self.write(member, write) {
            Ok(result) => {
                if result.succeeded {
                    self.watch_write(member, write);
                }
                Answer::Written(result)
            }
            Err(DcsError::LeaseGone) => Answer::LeaseGone,
            Err(_) => silence(),
        }
    }

    /// For the checker: what was acknowledged when the lock was handed over on
    /// request must be in the server that opens next.
    fn watch_write(&mut self, member: usize, write: &Write) {
        let acknowledged = self.clients[self.members[member].place.client].acknowledged.len();
        match write {
            Write::ReleaseLock(release) if publishes(release) => {
                self.members[member].released_at = Some(acknowledged);
                self.counts.handovers += 1;
            }
            Write::Region(RegionWrite::SignToken { .. }) => {
                self.members[member].signed_at = Some(acknowledged);
                self.counts.signatures += 1;
            }
            Write::AcquireLock(_) | Write::FinishBootstrap(_) => {
                self.end_promises(member);
                if self.members[member].server.accepts_commits() {
                    check::took_lock(self, member);
                }
            }
            _ => {}
        }
    }

    fn write(&mut self, member: usize, write: &Write) -> Result<Written, DcsError> {
        check::sent(self, member, write);
        let m = &self.members[member];
        let written = self.stores.regions[m.place.region].write_now(&m.keys, write)?;
        self.own_write = written.succeeded.then_some(OwnWrite { member, at: written.version });
        Ok(written)
    }

    fn grant(&mut self, member: usize, ttl_ms: u64) -> Session {
        let store = &self.stores.regions[self.members[member].place.region];
        let lease = store.grant_now(Duration::from_millis(ttl_ms));
        self.after(ttl_ms, Event::Sweep);
        lease.expect("this handle has no faults")
    }

    fn serve_keep_alive(&mut self, member: usize, lease: Session) -> Answer {
        let m = &self.members[member];
        let renewal = self.stores.regions[m.place.region].renew_now(lease).expect("no faults");
        let ttl_ms = m.daemon.machine.dynamic.ttl_ms;
        self.after(ttl_ms, Event::Sweep);
        let is_lost = self.members[member].daemon.mirror.lost;
        Answer::Alive { alive: renewal == Renewal::Alive, is_lost }
    }

    /// A handover binds as long as there is a record of the leader that handed over,
    /// and only until an operator names a member that may lose something.
    fn end_promises(&mut self, member: usize) {
        let seen = self.members[member].daemon.machine.seen();
        let Some(view) = seen.and_then(|seen| seen.view()).cloned() else { return };
        if view.request().is_some_and(|r| r.leader.is_none()) {
            return check::forget_release(self, self.members[member].place.client);
        }
        let handed = view.request().and_then(|r| r.leader.clone());
        let handed = handed.filter(|name| !view.members.contains_key(name));
        for member in self.members.iter_mut().filter(|m| Some(&m.name) == handed.as_ref()) {
            member.released_at = None;
        }
    }

    fn ask_peers(&mut self, member: usize, peers: &[(MemberName, String)]) -> Answer {
        let others = 0..self.members.len();
        let asked =
            others.filter(|other| peers.iter().any(|(name, _)| *name == self.members[*other].name));
        Answer::Peers(asked.map(|other| self.peer_answer(member, other)).collect())
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
                disk_failed: peer.daemon.disk_failed,
            }),
        }
    }

    /// `IDENTIFY_SYSTEM` and `TIMELINE_HISTORY` of another server.
    fn tell_history(&mut self, member: usize, with: &Following) -> Answer {
        let Some(other) = self.member_at(with) else {
            return silence();
        };
        let server = &self.members[other].server;
        let up = matches!(server.process, super::postgres::Process::Up(_));
        match (&server.system, self.links.between(Wire::Replication, member, other) && up) {
            (Some(_), true) => Answer::History(Box::new(RemoteLog {
                history: server.log.history(),
                lacks_slot: false,
                in_recovery: Some(!server.accepts_commits()),
            })),
            _ => silence(),
        }
    }

    pub fn member_at(&self, following: &Following) -> Option<usize> {
        self.members.iter().position(|m| m.host() == following.host)
    }
}

fn is_silence(answer: &Answer) -> bool {
    matches!(answer, Answer::NoAnswer(_))
}

/// The successor is told where the log of this leader ends.
fn publishes(release: &Release) -> bool {
    let ended = release.status.as_ref().is_some_and(|status| status.write().contains("ended"));
    let request = release.request.as_ref();
    ended || request.is_some_and(|request| request.value.leader.is_some())
}
