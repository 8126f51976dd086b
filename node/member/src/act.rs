//! Actions: the calls that each of them takes, and what their answers mean.

use super::effect::{Answer, Call, Effect, NoEnd, RemoteLog};
use super::job_terms::JobTerms;
use super::logical_slots::BeforeOpening;
use super::next::Next;
use super::on_lease::{OnLease, What};
use super::overrides::Overrides;
use super::renewal::Renewal;
use super::{Level, Local, Member};
use crate::ha::facts::Facts;
use crate::ha::failsafe::PromiseStore;
use crate::ha::observation::{Divergence, Fit, Following, Job, Lock};
use crate::ha::{Action, Observation, Outcome, Publish};
use crate::lock::OwnLease;
use crate::write;
use standby::rewind::{Verdict, judge};
use standby::sync::Names;
use std::collections::BTreeMap;
use topology::region::Token;
use topology::write::{LeaderWrite, Replacement};
use topology::{GroupView, Lsn, MemberName, Millis, SyncState, Timeline, Write};

/// An action under way: what the answer on its way is for.
#[derive(Debug)]
pub(super) enum Script {
    /// Its answer is the outcome.
    Plain,
    Promote,
    Follow,
    Renewal(Renewal),
    OnLease(OnLease),
    Claim,
    EndBefore(Option<Timeline>),
    Release,
    RecordSync,
    /// The answer was lost, and the store was read.
    Refresh(String),
    MoveAside,
    AskPeers,
    AskAll {
        sent: Millis,
    },
    AskPromises {
        sent: Millis,
    },
    History(Following),
    LocalEnd(Following, Box<RemoteLog>),
    ClaimTimeline(Timeline),
    /// Work on slots is ended before this server opens.
    EndSlotWork(Timeline),
    Cancel,
}

/// No promotion begins with less than this left of the lock.
const PROMOTION_MS: u64 = 1_000;
/// A promotion waits this long for work on slots to end.
const SLOT_WORK_MS: u64 = 300;
pub const LATE: &str = "the lock ends before the promotion would";

/// Asked when the promotion is decided, and again just before it is signalled: files may
/// have to be made in between, on a disk that may hang.
pub fn is_in_time(now: Millis, lock_until: Millis) -> bool {
    now + PROMOTION_MS < lock_until
}

impl Member {
    /// The first call of an action, or what became of it without one.
    pub(super) fn begin_action(
        &mut self,
        now: Millis,
        seen: &Observation,
        action: &Action,
        promises: &mut PromiseStore,
    ) -> Next<Script> {
        if leads_on(action) && !self.claim_to_lead(now, action, seen, promises) {
            let text = format!(
                "not carrying out {action:?}: this member promised, in failsafe mode, to accept the \
                 current leader"
            );
            self.note(Level::Warn, text);
            return Next::Over(Outcome::Lost);
        }
        if *action == Action::AskPromises {
            return match self.ask_promises(seen, now, promises) {
                Some(effect) => Next::Goes(Script::AskPromises { sent: now }, effect),
                None => Next::Over(Outcome::Lost),
            };
        }
        if opens(action) && !Facts::of(seen).is_cleared() {
            let why = "not opening: another leader may still lead on promises of a majority";
            self.note(Level::Warn, why);
            return Next::Over(Outcome::Lost);
        }
        self.note_operators_word(action, seen, now);
        self.first_call(now, seen, action)
    }

    fn first_call(&mut self, now: Millis, seen: &Observation, action: &Action) -> Next<Script> {
        match action {
            Action::Renew => {
                let (renewal, effect) = self.begin_renewal(seen, now);
                Next::Goes(Script::Renewal(renewal), effect)
            }
            Action::AcquireLock => self.on_lease(What::Lock, seen, now),
            Action::FinishBootstrap => self.finish_bootstrap(seen, now),
            Action::ReleaseLock { publish: Publish::End(lsn, timeline) } => {
                Next::Goes(Script::EndBefore(*timeline), Effect::call(Call::EndBefore(*lsn)))
            }
            Action::ReleaseLock { publish } => self.release(*publish, seen),
            Action::ClearRequest => clear_request(seen),
            Action::ClaimInitialize => {
                Next::Goes(Script::Claim, Effect::call(Call::Write(Write::ClaimInitialize)))
            }
            // If this process has begun nothing, the files belong to another program: leave them.
            Action::GiveUpBootstrap if self.memory.has_begun => {
                Next::Goes(Script::MoveAside, Effect::call(Call::MoveAside))
            }
            Action::GiveUpBootstrap => self.give_back_initialize(),
            Action::AdoptSystem => adopt_system(seen),
            Action::AskPeers => {
                let call = Call::AskPeers(self.peers_to_ask(seen));
                Next::Goes(Script::AskPeers, Effect::call(call))
            }
            Action::AskAll => Next::Goes(Script::AskAll { sent: now }, self.ask_all(seen, now)),
            Action::AskPromises => Next::Over(Outcome::Lost),
            Action::CheckDivergence { with } => {
                // In the own group the leader makes the slot, in a formation the owner's.
                let asks_slot = seen.holds_lock() && Facts::of(seen).is_demoted_cluster();
                let call = Call::History { with: with.clone(), asks_slot };
                Next::Goes(Script::History(with.clone()), Effect::call(call))
            }
            Action::ArmWatchdog => plain(Call::ArmWatchdog),
            Action::Promote => self.claim_timeline(seen, now),
            Action::Follow(upstream) => self.follow(upstream.clone(), seen),
            Action::ResumeReplay => plain(Call::ResumeReplay),
            Action::RecordSync(state) => self.record_sync(state, seen),
            Action::NameSync(names) => self.name_sync(names.clone(), seen),
            Action::WriteWal => plain(Call::WriteWal),
            Action::Sign { id, lsn } => sign(id, *lsn, seen),
            Action::Begin(job) => self.begin_job(job, seen),
            Action::CancelJob => Next::Goes(Script::Cancel, Effect::call(Call::Cancel)),
            Action::EndReceivers(which) => plain(Call::EndReceivers(*which)),
            Action::CutStop => plain(Call::CutStop),
            Action::Exit(_) => Next::Over(Outcome::Done),
        }
    }

    fn finish_bootstrap(&mut self, seen: &Observation, now: Millis) -> Next<Script> {
        match seen.system() {
            Some(system) => self.on_lease(What::NewCluster(system.clone()), seen, now),
            None => failed("the new data directory cannot be read yet"),
        }
    }

    fn follow(&mut self, upstream: Option<Following>, seen: &Observation) -> Next<Script> {
        self.memory.forget_before_following(upstream.as_ref(), seen);
        let call = Call::Follow { upstream, overrides: self.overrides(seen) };
        Next::Goes(Script::Follow, Effect::call(call))
    }

    /// Whatever comes of it, the files are looked at again.
    fn name_sync(&mut self, names: Names, seen: &Observation) -> Next<Script> {
        self.chores.files.forget();
        let overrides = Overrides { names: Some(names.write()), ..self.overrides(seen) };
        plain(Call::NameSync { names, overrides })
    }

    fn begin_job(&mut self, job: &Job, seen: &Observation) -> Next<Script> {
        self.guard_job(job, seen);
        let copies = self.slot_copies(seen, job);
        let terms = Box::new(JobTerms { copies, ..self.job_terms(job, seen) });
        plain(Call::Begin { job: job.clone(), terms })
    }

    fn on_lease(&mut self, what: What, seen: &Observation, now: Millis) -> Next<Script> {
        let (write, effect) = self.begin_on_lease(what, seen, now);
        Next::Goes(Script::OnLease(write), effect)
    }

    fn release(&self, publish: Publish, seen: &Observation) -> Next<Script> {
        let view = seen.view().cloned().unwrap_or_default();
        let write = write::release(&self.name, publish, &view);
        Next::Goes(Script::Release, Effect::call(Call::Write(write)))
    }

    fn give_back_initialize(&self) -> Next<Script> {
        match self.memory.claim {
            Some(claim) => {
                let write = Write::GiveBackInitialize { claim };
                Next::Goes(Script::Plain, Effect::call(Call::Write(write)))
            }
            None => Next::Over(Outcome::Lost),
        }
    }

    fn record_sync(&self, state: &SyncState, seen: &Observation) -> Next<Script> {
        let Some(session) = self.lease.id else { return Next::Over(Outcome::Lost) };
        let on = seen.view().and_then(|view| view.sync.as_ref()).map(|sync| sync.version);
        let state = Replacement { value: state.clone(), on };
        let write = Write::AsLeader { session, write: LeaderWrite::PutSync(state) };
        Next::Goes(Script::RecordSync, Effect::call(Call::Write(write)))
    }

    /// No two histories of a group may share a number: the one to begin was
    /// claimed with the lock, or is now.
    fn claim_timeline(&mut self, seen: &Observation, now: Millis) -> Next<Script> {
        let Some(view) = seen.view() else {
            return Next::Over(Outcome::Unknown("the store is silent".into()));
        };
        let Some(mine) = seen.server().and_then(|s| s.timeline) else {
            return failed("the own timeline is not known");
        };
        if let Some(claimed) = view.claimed_by(&self.name, mine) {
            return self.make_ready_to_open(claimed, seen, now);
        }
        let Some(lease) = self.lease.id else { return Next::Over(Outcome::Lost) };
        let write = write::claim(&self.name, lease, view, mine);
        let claimed = view.claimable(mine);
        Next::Goes(Script::ClaimTimeline(claimed), Effect::call(Call::Write(write)))
    }

    /// A reader of a logical slot finds it free, or not there at all.
    pub(super) fn make_ready_to_open(
        &mut self,
        claimed: Timeline,
        seen: &Observation,
        now: Millis,
    ) -> Next<Script> {
        match self.before_opening(seen) {
            Some(BeforeOpening { drops }) => {
                let call = Call::EndSlotWork { drops };
                let effect = Effect::Call { call, limit_ms: Some(SLOT_WORK_MS) };
                Next::Goes(Script::EndSlotWork(claimed), effect)
            }
            None => self.promote(claimed, seen, now),
        }
    }

    fn promote(&mut self, claimed: Timeline, seen: &Observation, now: Millis) -> Next<Script> {
        let Lock::Mine { deadline, .. } = seen.lock else {
            panic!("rule of promotion: only a lock holder promotes");
        };
        let Some(mine) = seen.server().and_then(|s| s.timeline) else {
            return failed("the own timeline is not known");
        };
        if !is_in_time(now, deadline) {
            return failed(LATE);
        }
        self.arm(deadline);
        self.status_due = true;
        self.chores.checkpoint = Default::default();
        let call = Call::Promote { mine, claimed, lock_until: deadline };
        Next::Goes(Script::Promote, Effect::call(call))
    }

    /// A job that may open the server for writes arms the guard thread before it starts.
    fn guard_job(&mut self, job: &Job, seen: &Observation) {
        match (job, &seen.lock) {
            (
                Job::StartPrimary | Job::Restart { as_primary: true },
                Lock::Mine { deadline, .. },
            ) if deadline.0 > 0 => self.arm(*deadline),
            (Job::StartStandby { .. }, _) => self.local.push(Local::Disarm),
            _ => {}
        }
    }

    /// Every other member, or the only one whose answer counts.
    fn peers_to_ask(&self, seen: &Observation) -> Vec<(MemberName, String)> {
        let empty = GroupView::default();
        let view = seen.view().unwrap_or(&empty);
        let only = Facts::of(seen).only_answer_that_counts();
        let urls = view.members.iter();
        let mut all: BTreeMap<_, _> =
            urls.filter_map(|(name, m)| Some((name.clone(), m.value.api_url.clone()?))).collect();
        if view.leader.is_none() {
            // Records end with their leases; a member that is well may be on its way back.
            let asked = view.failsafe.as_ref().filter(|_| self.dynamic.failsafe_mode);
            let named = asked.iter().flat_map(|map| map.value.iter());
            for (name, url) in named.chain(&self.seen_urls) {
                all.entry(name.clone()).or_insert_with(|| url.clone());
            }
        }
        all.remove(&self.name);
        all.retain(|name, _| only.is_none_or(|only| only == name));
        all.into_iter().collect()
    }

    /// What an answer means for the action under way.
    pub(super) fn go_on_acting(
        &mut self,
        now: Millis,
        seen: &mut Observation,
        script: Script,
        answer: Answer,
        promises: &mut PromiseStore,
    ) -> Next<Script> {
        match (script, answer) {
            (Script::Renewal(renewal), answer) => {
                self.go_on_renewing(renewal, seen, answer, now).map(Script::Renewal)
            }
            (Script::OnLease(write), answer) => {
                self.go_on_writing(write, seen, answer, now, promises).map(Script::OnLease)
            }
            (Script::Claim, Answer::Written(result)) => {
                if result.succeeded {
                    self.memory.claim = Some(result.version);
                }
                Next::Over(Answer::Written(result).into_outcome())
            }
            (Script::EndBefore(timeline), Answer::EndsAt(lsn)) => {
                self.release(Publish::End(lsn, timeline), seen)
            }
            (Script::Release, answer) => Next::Over(self.released(answer.into_outcome())),
            (Script::RecordSync, answer) => match answer.into_outcome() {
                // A reply that was lost: the store is read before anything else.
                Outcome::Unknown(why) => {
                    Next::Goes(Script::Refresh(why), Effect::call(Call::Refresh))
                }
                outcome => Next::Over(outcome),
            },
            (Script::Refresh(why), _) => Next::Over(Outcome::Unknown(why)),
            (Script::MoveAside, Answer::Done) => self.give_back_initialize(),
            (Script::AskPeers, Answer::Peers(peers)) => {
                seen.peers = Some(peers);
                Next::Over(Outcome::Done)
            }
            (Script::AskAll { sent }, answer) => Next::Over(self.asked_all(sent, answer, now)),
            (Script::AskPromises { sent }, answer) => {
                Next::Over(self.asked_promises(sent, answer, now, promises))
            }
            (Script::History(with), Answer::History(history)) => {
                let whole = Facts::of(seen).is_fit_awaited();
                Next::Goes(Script::LocalEnd(with, history), Effect::call(Call::LocalEnd { whole }))
            }
            (Script::LocalEnd(with, history), Answer::End(end)) => {
                Next::Over(self.compare(seen, &with, &history, end))
            }
            (Script::ClaimTimeline(claimed), Answer::Written(result)) if result.succeeded => {
                self.make_ready_to_open(claimed, seen, now)
            }
            (Script::Promote, Answer::Done) => {
                self.call_promoted();
                Next::Over(Outcome::Done)
            }
            (Script::Follow, Answer::Done) => {
                self.call_after_reload();
                Next::Over(Outcome::Done)
            }
            // What could not be dropped now is dropped after the opening (1180).
            (Script::EndSlotWork(claimed), _) => self.promote(claimed, seen, now),
            (Script::Cancel, Answer::Cancelled(job)) => {
                self.cancelled(job, now);
                Next::Over(Outcome::Done)
            }
            (_, answer) => Next::Over(answer.into_outcome()),
        }
    }

    fn released(&mut self, outcome: Outcome) -> Outcome {
        if outcome == Outcome::Done {
            self.local.push(Local::Disarm);
            if self.memory.failed.is_some() {
                self.call_given_up();
            }
        }
        if let Outcome::Unknown(_) = outcome {
            // It may have happened, or happen yet. Only a key moved onto a new
            // lease, which the release on its way no longer meets, is ours.
            self.lease = OwnLease::default();
        }
        self.held &= matches!(outcome, Outcome::Failed(_));
        outcome
    }

    /// Compares the own log with the history of the server to follow.
    fn compare(
        &mut self,
        seen: &Observation,
        with: &Following,
        remote: &RemoteLog,
        end: Result<Box<standby::rewind::LocalEnd>, NoEnd>,
    ) -> Outcome {
        let local = match end {
            Ok(local) => local,
            Err(NoEnd::NotNow(why)) => return Outcome::Unknown(why),
            Err(NoEnd::Unreadable(why)) => {
                self.note(Level::Warn, format!("the end of this log cannot be read: {why}"));
                self.memory.divergence = Divergence::Unreadable(why);
                return Outcome::Done;
            }
        };
        self.note_missing_slot(with, remote);
        let (facts, history) = (Facts::of(seen), &remote.history);
        if let Some(why) = facts.why_remote_is_too_old(&local, history.current, remote.in_recovery)
        {
            return Outcome::Unknown(why);
        }
        let is_open = facts.is_open_history(with, history) && remote.in_recovery != Some(true);
        if facts.is_fit_awaited()
            && let Some(why) = facts.why_no_fit_yet(with, is_open)
        {
            return Outcome::Unknown(why);
        }
        self.memory.compared_timeline = Some(history.current);
        self.memory.divergence = match judge(&local, history) {
            Verdict::Prefix => {
                if is_open && facts.has_no_source_but(with) && facts.is_end_certain() {
                    let (leader, timeline) = (with.member.clone(), history.current);
                    self.memory.fit = Fit::Known { leader, timeline };
                }
                Divergence::Prefix
            }
            Verdict::Diverged(how) => Divergence::Diverged(how),
            Verdict::Alien(how) => Divergence::Alien(how),
        };
        if let Divergence::Diverged(how) | Divergence::Alien(how) = &self.memory.divergence {
            let text = format!("this log has left the history of {}: {how}", with.member);
            self.note(Level::Warn, text);
        }
        Outcome::Done
    }

    /// A slot that is not there keeps a standby leader from streaming, whatever its log.
    fn note_missing_slot(&mut self, with: &Following, remote: &RemoteLog) {
        let slot = with.slot.as_ref().filter(|_| remote.lacks_slot);
        let lacks = slot.map(|slot| {
            format!(
                "{} has no replication slot \"{slot}\": create it there, or name another one as \
                 standby_cluster.primary_slot_name",
                with.member
            )
        });
        if let Some(lacks) = lacks.clone().filter(|_| self.memory.upstream_trouble != lacks) {
            self.note(Level::Warn, lacks);
        }
        self.memory.upstream_trouble = lacks;
    }

    /// A job was ended before its time.
    pub fn cancelled(&mut self, job: Option<Job>, now: Millis) {
        let Some(job) = job else { return };
        self.note(Level::Warn, format!("cancelled: {}", job.title()));
        // A server that the job was starting must not live on as a primary.
        if matches!(job, Job::StartPrimary | Job::Restart { as_primary: true } | Job::Bootstrap) {
            self.local.push(Local::StopServer);
        }
        // A cancelled pre_promote has given no verdict.
        if job != Job::PrePromote {
            let cancelled = Err("cancelled".to_string());
            self.memory.finish(&job, &cancelled, now);
            self.local.push(Local::JobCancelled(job));
        }
    }
}

impl<S> Next<S> {
    fn map(self, into: impl Fn(S) -> Script) -> Next<Script> {
        match self {
            Next::Goes(state, effect) => Next::Goes(into(state), effect),
            Next::Over(outcome) => Next::Over(outcome),
        }
    }
}

impl Answer {
    /// What an answer says of a call whose effect is all that counts.
    pub fn into_outcome(self) -> Outcome {
        match self {
            Answer::Written(result) if !result.succeeded => Outcome::Lost,
            Answer::Overtaken => Outcome::Lost,
            Answer::NoAnswer(why) => Outcome::Unknown(why),
            Answer::LeaseGone => Outcome::Unknown("the lease is gone".into()),
            Answer::Failed(why) => Outcome::Failed(why),
            Answer::Looked(_)
            | Answer::Done
            | Answer::Alive { .. }
            | Answer::Granted(_)
            | Answer::Known
            | Answer::Written(_)
            | Answer::Refreshed { .. }
            | Answer::Peers(_)
            | Answer::Agreed(_)
            | Answer::History(_)
            | Answer::End(_)
            | Answer::EndsAt(_)
            | Answer::Cancelled(_)
            | Answer::Applied { .. } => Outcome::Done,
        }
    }
}

/// One call whose answer is the outcome.
fn plain(call: Call) -> Next<Script> {
    Next::Goes(Script::Plain, Effect::call(call))
}

fn clear_request(seen: &Observation) -> Next<Script> {
    let view = seen.view().cloned().unwrap_or_default();
    match write::clear_request(&view) {
        Some(write) => plain(Call::Write(write)),
        None => Next::Over(Outcome::Done),
    }
}

fn adopt_system(seen: &Observation) -> Next<Script> {
    match seen.system() {
        Some(system) => plain(Call::Write(Write::EnterSystem(system.clone()))),
        None => failed("the system id is not known"),
    }
}

fn sign(id: &str, lsn: Lsn, seen: &Observation) -> Next<Script> {
    match (seen.system(), seen.shutdown_state()) {
        (Some(system), Some(end)) => {
            let token = Token { system_id: system.clone(), timeline: end.timeline, lsn };
            plain(Call::Sign { id: id.to_string(), token })
        }
        _ => failed("the control file is not known"),
    }
}

fn failed(why: &str) -> Next<Script> {
    Next::Over(Outcome::Failed(why.to_string()))
}

/// The server accepts writes after it.
fn opens(action: &Action) -> bool {
    matches!(action, Action::Promote | Action::Begin(Job::StartPrimary))
}

/// From here on this member may come to accept writes.
fn leads_on(action: &Action) -> bool {
    matches!(
        action,
        Action::AcquireLock
            | Action::ClaimInitialize
            | Action::FinishBootstrap
            | Action::Promote
            | Action::Begin(Job::StartPrimary | Job::Bootstrap)
    )
}
