//! What follows from an observation, computed once, named, without deciding.

use super::observation::{
    Asked, Bootstrapping, DataDir, Divergence, End, Following, Gate, Job, Lock, Observation,
    Process, Rebuild, Remains,
};
use standby::candidate::{self, NoCandidate, Wanted};
use standby::promotion::{self, NotYet, RaceLimits, Racer};
use standby::switch::ownership::{Order, Ownership};
use topology::{Failover, GroupView, Lsn, MemberName, Seen, Timeline};

/// Between two tries to renew a lease that the store does not answer for.
pub const RENEW_RETRY_MS: u64 = 1_000;
/// A beat that comes so little before the renewal is due does it: a follower
/// beats when its leader has reported, which is not always to the millisecond.
const RENEW_EARLY_MS: u64 = 500;
/// A standby that does not stream for so long is compared with its leader.
const QUIET_MS: u64 = 2_000;
/// Between two tries to compare the own log.
const COMPARE_RETRY_MS: u64 = 1_000;
/// A silent standby whose log fits is compared again after so long.
const COMPARE_AGAIN_MS: u64 = 10_000;
/// Between two tries of a job that failed; doubled each time up to 32 times.
const JOB_RETRY_MS: u64 = 1_000;
/// A starting server that holds a lock may take `primary_start_timeout`; one
/// that does not may take this long before it is stopped and tried again.
const STANDBY_START_MS: u64 = 3_600_000;

/// Between two questions to everybody, when the last one was not agreed to.
const ASK_RETRY_MS: u64 = 1_000;
/// Others find a free lock and take it within this, if they are able.
const ELECTION_MS: u64 = 3_000;

/// How long a successor may take to receive what the leader has now.
const READY_MS: u64 = 5_000;

pub struct Facts<'a> {
    pub o: &'a Observation,
}

impl<'a> Facts<'a> {
    pub fn of(o: &'a Observation) -> Facts<'a> {
        Facts { o }
    }

    pub fn view(&self) -> Option<&'a GroupView> {
        self.o.view()
    }

    pub fn is_leader_elsewhere(&self) -> bool {
        matches!(self.o.lock, Lock::Other(_))
    }

    pub fn is_lock_free(&self) -> bool {
        self.o.lock == Lock::Free
    }

    pub fn is_paused(&self) -> bool {
        self.o.dynamic.pause
    }

    pub fn may_own(&self) -> bool {
        self.o.may_own()
    }

    pub fn is_data_empty(&self) -> bool {
        self.o.postgres.data == DataDir::Empty
    }

    pub fn is_data_unusable(&self) -> bool {
        matches!(self.o.postgres.data, DataDir::Refused(_) | DataDir::Damaged(_))
    }

    pub fn is_starting(&self) -> bool {
        matches!(self.o.postgres.process, Process::Starting { .. })
    }

    pub fn job(&self) -> Option<&'a Job> {
        self.o.job.as_ref().map(|running| &running.job)
    }

    /// Is the own lease due for renewal?
    pub fn is_renewal_due(&self) -> bool {
        let memory = &self.o.memory;
        let stale_key = matches!(self.o.lock, Lock::Mine { deadline, .. } if deadline.0 == 0);
        let age = self.o.now.since(memory.lease_renewed) + RENEW_EARLY_MS;
        let old = age >= self.o.dynamic.loop_wait_ms;
        let tried = self.o.now.since(memory.lease_tried) < RENEW_RETRY_MS;
        (old || stale_key) && !(tried && memory.lease_tried.0 > 0)
    }

    /// Too close to the lock's deadline (or past it) to keep writing.
    pub fn is_fence_due(&self) -> bool {
        let budget = self.o.dynamic.fence_budget_ms();
        if self.is_proven() {
            return false;
        }
        match self.o.lock {
            Lock::Mine { deadline, .. } if deadline.0 > 0 => self.o.now + budget >= deadline,
            Lock::Mine { .. } | Lock::Unknown => {
                // A daemon that just came up beside a running server: the store
                // gets one retry_timeout to say whose lock it is.
                let grace = self.o.memory.started + self.o.dynamic.retry_timeout_ms;
                self.o.now >= grace
            }
            // Led on without a store until a moment ago, and has no lock yet.
            Lock::Free => self.o.failsafe.proof.is_some(),
            Lock::Other(_) => false,
        }
    }

    /// Everybody agreed that this member leads on, for long enough to come.
    pub fn is_proven(&self) -> bool {
        let budget = self.o.dynamic.fence_budget_ms();
        self.o.failsafe.proof.is_some_and(|proof| self.o.now + budget < proof)
    }

    /// The lock could not be proven for a whole loop, and everybody can be asked.
    pub fn must_ask_all(&self) -> bool {
        let (o, failsafe) = (self.o, &self.o.failsafe);
        let asks = o.dynamic.failsafe_mode
            && failsafe.is_ready
            && !self.is_paused()
            && !self.is_leader_elsewhere();
        let Some(until) = o.relied_until().filter(|until| asks && o.now < *until) else {
            return false;
        };
        let proven = until - o.dynamic.ttl_ms;
        o.is_primary()
            && !o.memory.stopping
            && o.now.since(proven) >= o.dynamic.loop_wait_ms
            && o.now.since(failsafe.asked) >= ASK_RETRY_MS
    }

    /// This member promised to somebody else not to lead.
    pub fn has_promised(&self) -> bool {
        self.o.failsafe.promise.is_some()
    }

    /// A promotion must be over before the lock can end.
    pub fn is_lock_young_enough(&self) -> bool {
        let budget = self.o.dynamic.fence_budget_ms();
        matches!(self.o.lock, Lock::Mine { deadline, .. } if self.o.now + budget < deadline)
    }

    /// `/initialize` names another system than the local data.
    pub fn is_other_system(&self) -> bool {
        let wanted = self.view().and_then(|v| v.initialize.as_ref()?.value.as_ref());
        matches!((wanted, self.o.system()), (Some(w), Some(mine)) if w != mine)
    }

    pub fn is_initialised(&self) -> bool {
        self.view().is_some_and(|v| v.initialize.as_ref().is_some_and(|i| i.value.is_some()))
    }

    pub fn is_initialize_absent(&self) -> bool {
        self.view().is_some_and(|v| v.initialize.is_none())
    }

    /// An operator wants the data here replaced, and how.
    pub fn reinitialize(&self) -> Option<Rebuild> {
        match self.o.memory.asked? {
            Asked::Reinitialize => Some(Rebuild::Asked),
            Asked::ReinitializeFromLeader => Some(Rebuild::AskedFromLeader),
            Asked::Restart => None,
        }
    }

    /// Whom to copy for it. Without a leader that runs nobody is good enough.
    pub fn reinitialize_from(&self) -> Option<Following> {
        match self.reinitialize()? {
            Rebuild::AskedFromLeader => self.leader_source(),
            _ => self.clone_source(),
        }
    }

    pub fn reinitialization(&self) -> Option<Job> {
        Some(Job::Rebuild { from: self.reinitialize_from()?, why: self.reinitialize()? })
    }

    /// The new cluster will not be: `/initialize` is to be given back.
    pub fn is_bootstrap_lost(&self) -> bool {
        let copy = |job: &Job| matches!(job, Job::Clone { .. } | Job::Restore);
        let failed = self.o.memory.failed.as_ref().is_some_and(|f| copy(&f.job));
        let plain = self.o.ownership == Ownership::NoRegions;
        match self.bootstrap() {
            Bootstrapping::Failed => true,
            Bootstrapping::Claimed => plain && failed && self.is_data_empty(),
            _ => false,
        }
    }

    /// A new cluster that the store does not know yet.
    pub fn is_half_made(&self) -> bool {
        !matches!(self.bootstrap(), Bootstrapping::No | Bootstrapping::GivenUp)
    }

    /// How far this member's new cluster is. Once `/initialize` names it, it is
    /// a cluster like any other: the write that said so may have lost its reply.
    pub fn bootstrap(&self) -> Bootstrapping {
        let wanted = self.view().and_then(|v| v.initialize.as_ref()?.value.as_ref());
        if wanted.is_some() && wanted == self.o.system() {
            return Bootstrapping::No;
        }
        match self.o.memory.bootstrap {
            Bootstrapping::GivenUp if self.is_leader_elsewhere() => Bootstrapping::No,
            other => other,
        }
    }

    pub fn is_quiet(&self) -> bool {
        let quiet = self.o.memory.quiet_since;
        !self.o.is_streaming() && quiet.is_some_and(|since| self.o.now.since(since) >= QUIET_MS)
    }

    /// Of a standby: it receives, and stands still.
    pub fn is_replay_paused(&self) -> bool {
        self.o.server().is_some_and(|server| server.replay_paused)
    }

    pub fn divergence(&self) -> &'a Divergence {
        &self.o.memory.divergence
    }

    /// Is it time to compare the own log with whom this member follows?
    ///
    /// What was found holds for the history that the other one had then. A
    /// standby that is still silent asks again: its leader may have been rewound.
    pub fn is_comparison_due(&self) -> bool {
        let memory = &self.o.memory;
        let Some(with) = self.leader_source() else { return false };
        let age = self.o.now.since(memory.compared_at);
        let known = memory.compared_with.as_ref() == Some(&with.member);
        match memory.divergence {
            Divergence::Unchecked => !known || age >= COMPARE_RETRY_MS,
            Divergence::Prefix | Divergence::Unreadable(_) => age >= COMPARE_AGAIN_MS,
            Divergence::Diverged(_) | Divergence::Alien(_) => false,
        }
    }

    pub fn is_diverged(&self) -> bool {
        matches!(self.o.memory.divergence, Divergence::Diverged(_) | Divergence::Alien(_))
    }

    pub fn diverged_how(&self) -> Option<String> {
        match &self.o.memory.divergence {
            Divergence::Diverged(how) | Divergence::Alien(how) => Some(how.clone()),
            _ => None,
        }
    }

    /// A standby that was never compared with this leader. Streaming is no
    /// proof: a log that has left the history may stream for moments.
    pub fn is_first_sight(&self) -> bool {
        let memory = &self.o.memory;
        let with = self.leader_source().map(|source| source.member);
        self.o.is_standby()
            && memory.divergence == Divergence::Unchecked
            && with.is_some()
            && memory.compared_with != with
    }

    /// A job of this kind failed a moment ago: wait before the next try.
    pub fn is_backing_off(&self) -> bool {
        let Some(failed) = &self.o.memory.failed else {
            return false;
        };
        let wait = JOB_RETRY_MS << failed.times.saturating_sub(1).min(5);
        self.o.now.since(failed.at) < wait
    }

    /// Failed twice against the source there is now, which answered each time
    /// when it was compared with.
    pub fn rewind_failed(&self) -> bool {
        let Some(failed) = self.o.memory.failed.as_ref().filter(|f| f.times >= 2) else {
            return false;
        };
        let source = self.rewind_source().map(|source| source.member);
        match &failed.job {
            Job::Rewind { from } => source.is_none_or(|member| member == from.member),
            Job::Recover => true,
            _ => false,
        }
    }

    /// Whom to rewind against, or to be built anew from. A standby group without
    /// a leader has the remote side.
    pub fn rewind_source(&self) -> Option<Following> {
        let remote = || self.remote().filter(|_| self.is_lock_free() && !self.may_own());
        self.leader_source().or_else(remote)
    }

    /// Whom to copy when the own data are given up.
    pub fn rebuild_source(&self) -> Option<Following> {
        self.clone_source().or_else(|| self.rewind_source())
    }

    /// The leader said that its checkpoint after the promotion is still running:
    /// its control file shows the timeline before.
    pub fn is_source_unready(&self) -> bool {
        let leader = self.view().and_then(GroupView::leader_record);
        !self.o.holds_lock() && leader.is_some_and(|r| r.checkpoint_after_promote == Some(false))
    }

    /// Somebody else may take the free lock any moment.
    pub fn is_election_young(&self) -> bool {
        let since = self.o.memory.leaderless_since;
        since.is_none_or(|since| self.o.now.since(since) < ELECTION_MS)
    }

    pub fn is_alone(&self) -> bool {
        self.view().is_some_and(|view| view.members.keys().all(|name| *name == self.o.me.name))
    }

    /// The store knows a newer timeline of the group than the own one.
    pub fn is_group_ahead(&self) -> bool {
        let group = self.view().map(GroupView::timeline);
        matches!((self.remains(), group), (Some(r), Some(group)) if r.timeline < group)
    }

    pub fn why_failed(&self) -> Option<String> {
        self.o.memory.failed.as_ref().map(|f| f.why.clone())
    }

    /// The command before a promotion has to be asked, and now is the time.
    pub fn is_gate_due(&self) -> bool {
        let untried = self.o.memory.gate == Gate::Untried;
        self.o.me.has_gate && untried && self.is_lock_young_enough() && self.open().is_ok()
    }

    pub fn has_gate_failed(&self) -> bool {
        matches!(self.o.memory.gate, Gate::Failed(_))
    }

    /// The gate said no less than a ttl ago: somebody else shall try.
    pub fn is_gate_shut(&self) -> bool {
        let Gate::Failed(at) = self.o.memory.gate else { return false };
        self.o.now.since(at) < self.o.dynamic.ttl_ms
    }

    /// An action runs from whose end on the server may accept writes.
    pub fn will_open(&self) -> bool {
        matches!(self.job(), Some(Job::StartPrimary | Job::Restart { as_primary: true }))
    }

    pub fn remains(&self) -> Option<&'a Remains> {
        self.o.remains()
    }

    /// What a running stop has closed with.
    pub fn closed(&self) -> Option<&'a Remains> {
        self.o.job.as_ref()?.closed.as_ref()
    }

    pub fn ended(&self, end: End) -> bool {
        self.remains().is_some_and(|r| r.end == end)
    }

    /// The request that concerns this leader and is due.
    pub fn request(&self) -> Option<&'a Failover> {
        self.view()?.request().filter(|r| r.scheduled_at.is_none())
    }

    /// A successor that has received what this leader had when it was asked to
    /// hand over: one that only says it streams may receive nothing any more.
    pub fn ready_successor(&self) -> Result<MemberName, NoCandidate> {
        let seen = self.o.memory.request_seen;
        self.successor(seen.map(|(_, lsn)| Lsn(lsn.0.saturating_sub(1))))
    }

    /// Nobody can take over as asked, or nobody was ready in time.
    pub fn is_request_hopeless(&self) -> bool {
        let since = self.o.memory.request_seen.map(|(since, _)| since);
        let waited = since.map_or(0, |since| self.o.now.since(since));
        self.successor(None).is_err() || waited >= READY_MS
    }

    pub fn is_handing_over(&self) -> bool {
        self.o.memory.handover.is_some()
    }

    /// Stopped for a successor, with the lock still here. What was begun before
    /// a pause is finished: with a leader there, or with this one again.
    pub fn is_giving_lock_away(&self) -> bool {
        self.is_handing_over() && self.o.holds_lock() && self.o.is_stopped()
    }

    pub fn handover_age(&self) -> u64 {
        self.o.memory.handover.map_or(0, |since| self.o.now.since(since))
    }

    pub fn has_asked(&self) -> bool {
        self.o.peers.is_some()
    }

    /// The member that would take over, past `past` if given.
    pub fn successor(&self, past: Option<Lsn>) -> Result<MemberName, NoCandidate> {
        let (Some(view), Some(peers)) = (self.view(), self.o.peers.as_deref()) else {
            return Err(NoCandidate::Alone);
        };
        let wanted = Wanted {
            candidate: self.request().and_then(|r| r.candidate.as_ref()),
            past,
            timeline: self.own_timeline(),
            maximum_lag: self.o.dynamic.maximum_lag_on_failover,
        };
        candidate::best(&self.o.me.name, peers, view, &wanted)
    }

    fn own_timeline(&self) -> Option<Timeline> {
        let stopped = self.remains().or(self.closed()).map(|r| r.timeline);
        stopped.or_else(|| self.o.server().and_then(|s| s.timeline))
    }

    /// May this member take the free lock? Only meaningful once peers answered.
    pub fn race(&self) -> Result<(), NotYet> {
        let (Some(view), Some(peers)) = (self.view(), self.o.peers.as_deref()) else {
            return Err(NotYet::TimelineUnknown);
        };
        let Some(server) = self.o.server() else {
            return Err(NotYet::TimelineUnknown);
        };
        let racer = Racer {
            name: &self.o.me.name,
            tags: &self.o.me.tags,
            lsn: server.lsn,
            timeline: server.timeline,
            former_leader: self.o.memory.former_leader.as_ref(),
        };
        if self.is_other_history() {
            return Err(NotYet::OtherHistory);
        }
        let limits = RaceLimits {
            maximum_lag: self.o.dynamic.maximum_lag_on_failover,
            check_timeline: self.o.dynamic.check_timeline && self.may_own(),
            failsafe_mode: self.o.dynamic.failsafe_mode,
        };
        promotion::may_race(&racer, &self.racing(view, peers), view, limits)
    }

    /// May the lock holder leave recovery?
    pub fn open(&self) -> Result<(), NotYet> {
        let Ownership::Owner { token, opening, .. } = &self.o.ownership else {
            return Ok(());
        };
        let (Some(server), Some(system)) = (self.o.server(), self.o.system()) else {
            return Err(NotYet::TimelineUnknown);
        };
        promotion::may_open(token.as_ref(), system, server.timeline, server.lsn)?;
        if *opening && self.o.me.group.is_coordinator() && !self.o.closed_workers.is_empty() {
            let names: Vec<_> = self.o.closed_workers.iter().map(|g| g.key()).collect();
            return Err(NotYet::WorkersFirst(names.join(", ")));
        }
        Ok(())
    }

    /// An order of a region move that this group must obey.
    pub fn stop_order(&self) -> Option<&'a str> {
        match &self.o.order {
            Some(Order::StopAndSign { id }) => Some(id),
            None => None,
        }
    }

    pub fn has_signed(&self) -> bool {
        self.stop_order().is_some_and(|id| self.o.memory.signed.as_deref() == Some(id))
    }

    /// A primary without lock whose timeline is the group's newest.
    pub fn is_timeline_current(&self) -> bool {
        let group = self.view().map(GroupView::timeline);
        let mine = self.o.server().and_then(|s| s.timeline);
        matches!((mine, group), (Some(mine), Some(group)) if mine >= group)
    }

    /// A server that will open by itself, started by an earlier process or by
    /// somebody else.
    pub fn is_opening(&self) -> bool {
        self.o.is_opening()
    }

    pub fn start_took_too_long(&self) -> bool {
        let Process::Starting { since, .. } = self.o.postgres.process else {
            return false;
        };
        let limit =
            if self.o.holds_lock() { self.primary_start_limit_ms() } else { STANDBY_START_MS };
        // A start that was given up is on its way down.
        let given_up = self.o.holds_lock() && self.has_start_failed();
        given_up || self.o.now.since(since) > limit.max(1)
    }

    /// The last start as a primary failed, or was given up.
    pub fn has_start_failed(&self) -> bool {
        let primary =
            |job: &Job| matches!(job, Job::StartPrimary | Job::Restart { as_primary: true });
        self.o.memory.failed.as_ref().is_some_and(|failed| primary(&failed.job))
    }

    /// How long a primary may take to start before somebody else leads.
    pub fn primary_start_limit_ms(&self) -> u64 {
        let asked = self.o.memory.start_limit_ms;
        asked.unwrap_or(self.o.dynamic.primary_start_timeout_ms)
    }

    pub fn is_control_unknown(&self) -> bool {
        matches!(self.o.postgres.process, Process::Stopped(Seen::Unknown))
    }

    pub fn doubt(&self) -> Option<String> {
        match &self.o.ownership {
            Ownership::Doubtful(why) => Some(why.clone()),
            _ => None,
        }
    }
}
