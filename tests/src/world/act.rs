//! The hands: what an action does to the world, and what its answer means.
//!
//! The writes are the daemon's own (`node::act::txn`).

use super::World;
use super::call::{Acquire, AcquireAs, Answer, CALL_MS, Call, Renew};
use node::act::txn;
use node::ha::observation::{Divergence, End, Job, Lock};
use node::ha::{Action, Observation, Outcome};
use node::observe::lock::{NextLease, OwnLease};
use node::region::ownership::{read, sign};
use standby::rewind::{LocalEnd, Tail, Verdict, judge};
use topology::region::Token;
use topology::{Failover, History, Lsn, Millis, SystemId, Timeline};

impl World {
    /// Does it, or sends it. `None`: the answer is on its way.
    pub fn perform(&mut self, m: usize, seen: &Observation, action: &Action) -> Option<Outcome> {
        if !self.set_out(m, seen, action) {
            return Some(Outcome::Lost);
        }
        let done = match action {
            Action::Promote => return self.promote_by(m, seen),
            Action::Follow(to) => {
                self.reload_names(m, seen);
                let member = &mut self.members[m];
                member.daemon.memory.forget_comparison();
                member.server.follows = to.clone();
                member.server.streams_from = None;
                Outcome::Done
            }
            Action::NameSync(names) => return self.name_sync(m, &names.write()),
            Action::WriteWal => self.write_wal(m),
            // Nothing pauses replay here.
            Action::ResumeReplay => Outcome::Done,
            Action::Begin(job) => {
                self.guard_job(m, seen, job);
                self.lay_names_for(m, seen, job);
                self.begin_job(m, job.clone());
                Outcome::Done
            }
            Action::CancelJob => {
                self.cancel_job(m);
                Outcome::Done
            }
            // A receiver of this world takes what it can, and nothing holds it up.
            Action::EndReceivers(_) | Action::CutStop => Outcome::Done,
            Action::Exit(_) => Outcome::Done,
            // No machine of this world has one: it is never `Ready`.
            Action::ArmWatchdog => Outcome::Failed("there is no watchdog".into()),
            Action::GiveUpBootstrap => {
                self.move_data_aside(m);
                return self.call(m, seen, action);
            }
            Action::Renew
            | Action::AcquireLock
            | Action::ReleaseLock { .. }
            | Action::ClearRequest
            | Action::ClaimInitialize
            | Action::FinishBootstrap
            | Action::AdoptSystem
            | Action::AskPeers
            | Action::AskAll
            | Action::RecordSync(_)
            | Action::CheckDivergence { .. }
            | Action::Sign { .. } => return self.call(m, seen, action),
        };
        Some(done)
    }

    fn call(&mut self, member: usize, seen: &Observation, action: &Action) -> Option<Outcome> {
        match self.call_of(member, seen, action) {
            Ok(call) => {
                let patience = match action {
                    Action::Renew | Action::AskAll => self.until_fence(member, seen),
                    _ => CALL_MS,
                };
                self.send(member, call, patience);
                None
            }
            Err(outcome) => Some(outcome),
        }
    }

    fn call_of(
        &mut self,
        member: usize,
        seen: &Observation,
        action: &Action,
    ) -> Result<Call, Outcome> {
        if *action == Action::Renew {
            return Ok(self.renewal(member, seen));
        }
        let m = &self.members[member];
        let (keys, view) = (&m.keys, seen.view().cloned().unwrap_or_default());
        let unknown = || Outcome::Failed("the system id is not known".into());
        Ok(match action {
            Action::AskPeers => Call::AskPeers,
            Action::AskAll => self.question(member),
            Action::CheckDivergence { with } => Call::History { with: with.clone() },
            Action::AcquireLock => {
                let mine = seen.server().and_then(|s| s.timeline).filter(|_| seen.is_standby());
                self.acquire(member, AcquireAs::Lock(Box::new(view), mine))
            }
            Action::FinishBootstrap => {
                let system = seen.system().ok_or_else(unknown)?.clone();
                let claim = m.daemon.memory.claim;
                self.acquire(member, AcquireAs::NewCluster(system, claim, Box::new(view)))
            }
            Action::ReleaseLock { publish } => {
                Call::Txn(txn::release(keys, &m.name, *publish, &view))
            }
            Action::ClearRequest => {
                Call::Txn(txn::clear_request(keys, &view).ok_or(Outcome::Done)?)
            }
            Action::ClaimInitialize => Call::Claim,
            Action::GiveUpBootstrap => {
                let claim = m.daemon.memory.claim.ok_or(Outcome::Lost)?;
                Call::Txn(txn::give_back_initialize(keys, claim))
            }
            Action::Sign { id, lsn } => {
                let system = seen.system().ok_or_else(unknown)?.clone();
                let timeline = seen.shutdown_state().ok_or_else(unknown)?.timeline;
                let token = Token { system_id: system, timeline, lsn: *lsn };
                let local = read(keys, &m.daemon.mirror.snapshot.entries);
                Call::Txn(sign(keys, &local, &m.name, id, &token).ok_or(Outcome::Lost)?)
            }
            Action::RecordSync(state) => {
                let lease = m.daemon.lease.id.ok_or(Outcome::Lost)?;
                let revision = view.sync.as_ref().map(|sync| sync.revision);
                Call::Txn(txn::sync(keys, lease, state, revision))
            }
            Action::AdoptSystem => {
                Call::Txn(txn::adopt_system(keys, seen.system().ok_or_else(unknown)?))
            }
            _ => return Err(Outcome::Failed("this is no call".into())),
        })
    }

    fn acquire(&self, member: usize, write: AcquireAs) -> Call {
        let daemon = &self.members[member].daemon;
        let lease = daemon.lease.id.or(daemon.lease.next.map(|next| next.id));
        Call::Acquire(Acquire { lease, ttl_ms: daemon.dynamic.ttl_ms, write })
    }

    fn renewal(&mut self, member: usize, seen: &Observation) -> Call {
        self.adopt_moved(member, seen);
        let daemon = &self.members[member].daemon;
        let (lease, ttl_ms) = (daemon.lease, daemon.dynamic.ttl_ms);
        Call::Renew(Renew {
            lease: lease.id,
            next: lease.next.filter(|next| next.ttl_ms == ttl_ms).map(|next| next.id),
            ttl_ms,
            replaces: lease.ttl_ms != ttl_ms || lease.next.is_some(),
            stale: matches!(seen.lock, Lock::Mine { deadline, .. } if deadline.0 == 0),
            leads: seen.holds_lock(),
            lost: daemon.mirror.lost,
        })
    }

    /// The store shows the leader key on the lease that it was moved to.
    fn adopt_moved(&mut self, member: usize, seen: &Observation) {
        let leader = seen.view().and_then(|view| view.leader.as_ref());
        let shown = leader.map(|leader| leader.lease);
        let next = self.members[member].daemon.lease.next;
        if let Some(next) = next.filter(|next| Some(next.id) == shown) {
            self.adopt_lease(member, next);
        }
    }

    fn adopt_lease(&mut self, member: usize, next: NextLease) {
        let daemon = &mut self.members[member].daemon;
        daemon.lease = OwnLease::replaced_by(next);
        daemon.memory.lease_renewed = next.renewed;
    }

    /// An action of two calls: a leader's key is put on the lease that was granted
    /// to replace the one in use.
    pub fn second_call(
        &mut self,
        member: usize,
        seen: &Observation,
        action: &Action,
        sent: u64,
        answer: &Answer,
    ) -> Option<Call> {
        let (Action::Renew, Answer::Renewed { gone, next: Some(id), proven }) = (action, answer)
        else {
            return None;
        };
        let renewed = self.members[member].clock.read(sent);
        let ttl_ms = self.members[member].daemon.dynamic.ttl_ms;
        let next = NextLease { id: *id, renewed, ttl_ms };
        if !seen.holds_lock() {
            self.adopt_lease(member, next);
            return None;
        }
        if *gone {
            self.members[member].daemon.lease.id = None;
        } else if *proven == Some(true) {
            self.proven(member, renewed);
        }
        let m = &mut self.members[member];
        m.daemon.lease.next = Some(next);
        Some(Call::Txn(txn::readopt(&m.keys, &m.name, next.id)))
    }

    fn guard_job(&mut self, member: usize, seen: &Observation, job: &Job) {
        match (job, &seen.lock) {
            (
                Job::StartPrimary | Job::Restart { as_primary: true },
                Lock::Mine { deadline, .. },
            ) if deadline.0 > 0 => self.arm(member, *deadline),
            (Job::StartStandby { .. }, _) => self.members[member].daemon.armed = None,
            _ => {}
        }
    }

    /// The timeline to begin was claimed with the lock, or is now.
    fn promote_by(&mut self, member: usize, seen: &Observation) -> Option<Outcome> {
        let m = &self.members[member];
        let mine = seen.server().and_then(|s| s.timeline);
        let (Some(view), Some(mine), Some(lease)) = (seen.view(), mine, m.daemon.lease.id) else {
            return Some(Outcome::Unknown("the store is silent".into()));
        };
        if let Some(claimed) = view.claimed_by(&m.name, mine) {
            return Some(self.promote_to(member, seen, claimed));
        }
        let txn = txn::claim(&m.keys, &m.name, lease, view, mine);
        self.send(member, Call::Txn(txn), CALL_MS);
        None
    }

    fn promote_to(&mut self, member: usize, seen: &Observation, claimed: Timeline) -> Outcome {
        let Lock::Mine { deadline, .. } = seen.lock else {
            panic!("only a lock holder promotes");
        };
        if self.members[member].clock.read(self.now) + 1_000 >= deadline {
            return Outcome::Failed("the lock ends before the promotion would".into());
        }
        self.arm(member, deadline);
        self.members[member].daemon.status_due = true;
        self.promote(member, claimed.0)
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
        if *action == Action::Renew {
            let m = &mut self.members[member];
            m.daemon.memory.lease_tried = m.clock.read(self.now);
        }
        match answer {
            Answer::Silent if *action == Action::AskAll => self.asked_all(member, sent, false),
            Answer::Agreed => self.asked_all(member, sent, true),
            Answer::Silent => {
                if matches!(action, Action::ReleaseLock { .. }) {
                    let daemon = &mut self.members[member].daemon;
                    daemon.held = false;
                    daemon.lease = OwnLease::default();
                }
                if matches!(action, Action::RecordSync(_)) {
                    self.read_store_anew(member);
                }
                Outcome::Unknown("no answer".into())
            }
            Answer::Renewed { proven, .. } => self.renewed(member, seen, sent, proven),
            Answer::Done(moved) if *action == Action::Renew => self.moved(member, moved),
            Answer::Written { lease, result } => {
                self.keep_lease(member, sent, lease);
                self.members[member].daemon.held |= result;
                if result && *action == Action::AcquireLock {
                    self.members[member].promises.end_promise();
                }
                self.written(member, action, result)
            }
            Answer::Done(true) if *action == Action::Promote => {
                self.fold_own_write(member);
                let mine = seen.server().and_then(|s| s.timeline).unwrap_or_default();
                let claimed = seen.view().map(|view| view.claimable(mine));
                claimed.map_or(Outcome::Lost, |claimed| self.promote_to(member, seen, claimed))
            }
            Answer::Named => self.named(member, action),
            Answer::Done(result) => self.written(member, action, result),
            Answer::Claimed(revision) => {
                self.members[member].daemon.memory.claim = Some(revision);
                self.written(member, action, true)
            }
            Answer::Peers(peers) => {
                seen.peers = Some(peers);
                Outcome::Done
            }
            Answer::History(system, history) => {
                let divergence = self.compare(member, seen, &system, &history);
                self.note_of(member, &format!("compared: {divergence:?}"));
                self.members[member].daemon.memory.divergence = divergence;
                Outcome::Done
            }
        }
    }

    /// A lease that was just granted counts from before it was asked for.
    fn keep_lease(&mut self, member: usize, sent: u64, lease: i64) {
        let renewed = self.members[member].clock.read(sent);
        let daemon = &self.members[member].daemon;
        if daemon.lease.id != Some(lease) {
            let ttl_ms = daemon.dynamic.ttl_ms;
            self.adopt_lease(member, NextLease { id: lease, renewed, ttl_ms });
        }
    }

    fn renewed(
        &mut self,
        member: usize,
        seen: &Observation,
        sent: u64,
        proven: Option<bool>,
    ) -> Outcome {
        let at = self.members[member].clock.read(sent);
        match proven {
            Some(true) => {
                self.proven(member, at);
                self.members[member].daemon.held |= seen.holds_lock();
                self.fold_own_write(member);
                Outcome::Done
            }
            // Without a lock the new lease is all there is to prove.
            None if !seen.holds_lock() => Outcome::Done,
            Some(false) => {
                self.members[member].daemon.held = false;
                Outcome::Lost
            }
            None => Outcome::Unknown("no answer".into()),
        }
    }

    fn proven(&mut self, member: usize, at: Millis) {
        let daemon = &mut self.members[member].daemon;
        daemon.lease.renewed = at;
        daemon.memory.lease_renewed = at;
        daemon.status_due = true;
    }

    /// The leader key was put on the new lease, or is not ours any more.
    fn moved(&mut self, member: usize, moved: bool) -> Outcome {
        if let Some(next) = self.members[member].daemon.lease.next {
            self.adopt_lease(member, next);
        }
        if !moved {
            self.members[member].daemon.held = false;
            self.read_store_anew(member);
            return Outcome::Lost;
        }
        self.members[member].daemon.status_due = true;
        self.members[member].daemon.held = true;
        self.fold_own_write(member);
        Outcome::Done
    }

    fn written(&mut self, member: usize, action: &Action, result: bool) -> Outcome {
        if !result {
            self.read_store_anew(member);
            return Outcome::Lost;
        }
        self.fold_own_write(member);
        if matches!(action, Action::ReleaseLock { .. }) {
            self.members[member].daemon.held = false;
            self.members[member].daemon.armed = None;
        }
        Outcome::Done
    }

    /// Compares the own log's end with another server's history.
    fn compare(
        &self,
        member: usize,
        seen: &Observation,
        system: &SystemId,
        history: &History,
    ) -> Divergence {
        if self.members[member].server.system.as_ref() != Some(system) {
            return Divergence::Diverged("another system id".into());
        }
        let Some(local) = self.local_end(member, seen) else {
            return self.members[member].daemon.memory.divergence.clone();
        };
        match judge(&local, history) {
            Verdict::Prefix => Divergence::Prefix,
            Verdict::Diverged(how) => Divergence::Diverged(how),
            Verdict::Alien(how) => Divergence::Alien(how),
        }
    }

    /// A stopped server's log is read to its end; a running one's end is what
    /// was seen of it.
    fn local_end(&self, member: usize, seen: &Observation) -> Option<LocalEnd> {
        let log = &self.members[member].server.log;
        let history = Some(log.history());
        if let Some(shutdown_state) = seen.shutdown_state() {
            let tail = match shutdown_state.end {
                End::Clean => Tail::Closed { end: Some(Lsn(log.end())) },
                End::Standby | End::Crashed | End::Half => Tail::Open,
            };
            return Some(LocalEnd {
                timeline: shutdown_state.timeline,
                lsn: shutdown_state.lsn,
                tail,
                history,
            });
        }
        let server = seen.server()?;
        Some(LocalEnd { timeline: server.timeline?, lsn: server.lsn, tail: Tail::Open, history })
    }
}

/// `/failover` as an operator's tool writes it.
pub fn request(leader: Option<&str>, candidate: Option<&str>) -> String {
    Failover {
        leader: leader.map(Into::into),
        candidate: candidate.map(Into::into),
        scheduled_at: None,
    }
    .write()
}
