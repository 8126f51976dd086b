//! Which receivers an orderly stop waits for, and how long.
//!
//! PostgreSQL ends only when all receivers of its log have confirmed it, or when
//! `wal_sender_timeout` says that they are gone. That is too long for some and too
//! short for others:
//!
//! - The candidate is waited for, and without one every member that could take over,
//!   as long as its position moves. One that stands still for `STILL_MS` is not.
//! - Other receivers are not waited for once a member has the shutdown checkpoint, and
//!   for `OTHERS_MS` otherwise.
//! - Consumers of logical replication hold up the shutdown checkpoint itself while
//!   they do not read. They have `HELD_MS` after the last client, and are told to end
//!   again and again.
//! - The archiver has `ARCHIVER_MS`: its files stay marked for the next start. It has
//!   `STILL_MS` where an operator's candidate gets no further: this member has to lead
//!   again soon.
//! - While the store is silent it is not known who could take over, or whether the lock
//!   is with another member: receivers have `STILL_MS`.
//!
//! Invariant: nothing here gives the lock away. Which member has the shutdown checkpoint
//! is asked in `receipt.rs`, and a member without it is never handed the lock.

use super::action::Receivers;
use super::facts::Facts;
use super::observation::{End, Ending, Job, Lock, Memory, Observation, StopHow};
use topology::{Lsn, MemberName, Millis};

/// A member that receives nothing for this long stands still. Shorter than the time
/// that service managers give a daemon to end.
const STILL_MS: u64 = 10_000;
/// For receivers that are no candidates, while no candidate has everything.
const OTHERS_MS: u64 = 3_000;
/// From the end of the last client to the beginning of the shutdown checkpoint.
const HELD_MS: u64 = 500;
/// A walsender that was told to end, and does not.
const UNHEARD_MS: u64 = 3_000;
/// For an archiver that works or hangs.
const ARCHIVER_MS: u64 = 300_000;

impl Facts<'_> {
    fn ending(&self) -> Option<&Ending> {
        self.o.job.as_ref().map(|running| &running.ending)
    }

    fn is_planned_stop(&self) -> bool {
        self.job() == Some(&Job::Stop { how: StopHow::Planned })
    }

    /// Milliseconds since the shutdown checkpoint of a planned stop was written.
    fn closed_age(&self) -> Option<u64> {
        let since = self.ending().filter(|_| self.is_planned_stop())?.closed_since?;
        Some(self.o.now.since(since))
    }

    /// Stopped to give the lock away: by an operator's request, by the end of the
    /// daemon, or because the disk or the watchdog that is required fails.
    pub fn is_closed_for_another(&self) -> bool {
        let unable = self.disk_failed().is_some() || self.watchdog_broken().is_some();
        let asked = self.request().is_some() || unable;
        let wanted = self.o.memory.stopping || self.is_handing_over() && asked;
        self.is_closed_in_order() && wanted && self.o.holds_lock()
    }

    fn is_closed_in_order(&self) -> bool {
        self.is_planned_stop() && self.closed().is_some_and(|closed| closed.end == End::Clean)
    }

    /// A closed server whose receivers are waited for. Without the store the own lock
    /// may have ended without being handed over: what they receive may still count.
    pub fn awaits_receivers(&self) -> bool {
        let is_unknown = self.view().is_none() && self.is_closed_in_order();
        (is_unknown || self.is_closed_for_another()) && self.is_receipt_coming()
    }

    /// What the replicas lack, as far as it is known.
    pub fn what_replicas_lack(&self) -> Option<String> {
        if self.view().is_none() {
            return Some(
                "the store does not answer: it is not known which member could take over".into(),
            );
        }
        self.successor(self.closed().map(|c| c.lsn)).err().map(|why| why.to_string())
    }

    /// A member that could take over still receives.
    pub fn is_receipt_coming(&self) -> bool {
        let past = self.closed().map(|closed| closed.lsn);
        let since = self.ending().and_then(|ending| ending.closed_since);
        let is_recent = |at: Millis| self.o.now.since(at) < STILL_MS;
        if self.view().is_none() {
            // While the store is silent it is not known who could take over.
            return since.is_some_and(is_recent);
        }
        self.awaited(past).iter().any(|(name, _)| {
            let moved = self.o.memory.received.get(*name).map(|(_, at)| *at);
            moved.max(since).is_some_and(is_recent)
        })
    }

    /// The receivers that are left are not waited for.
    pub fn are_receivers_dispensable(&self) -> bool {
        let Some(age) = self.closed_age() else { return false };
        // A lock whose state is not known does not count as given away.
        let is_elsewhere = matches!(self.o.lock, Lock::Free | Lock::Other(_));
        let is_given = self.is_closed_in_order() && self.view().is_some() && is_elsewhere;
        let is_left = self.ending().is_some_and(|ending| ending.receivers() > 0);
        is_left && self.o.memory.receivers_ended.is_none() && (is_given || age >= OTHERS_MS)
    }

    /// Receivers that were told to end, or an archiver, hold a server that has closed.
    pub fn is_stop_overdue(&self) -> bool {
        let Some(age) = self.closed_age() else { return false };
        let ended = self.o.memory.receivers_ended;
        let unheard = ended.is_some_and(|at| self.o.now.since(at) >= UNHEARD_MS);
        let left = self.ending().map_or(0, Ending::receivers);
        if left > 0 { unheard } else { age >= self.archiver_ms() }
    }

    /// A daemon that ends leaves nothing to lead here: its archiver has the whole time.
    fn archiver_ms(&self) -> u64 {
        let leads_again = self.is_closed_for_another() && !self.o.memory.stopping;
        if leads_again && !self.is_receipt_coming() { STILL_MS } else { ARCHIVER_MS }
    }

    /// No client is left, and consumers of logical replication keep the shutdown
    /// checkpoint from being begun.
    pub fn is_checkpoint_held_up(&self) -> bool {
        let Some(ending) = self.ending().filter(|_| self.is_soft_stop()) else { return false };
        let is_old = |at: Millis| self.o.now.since(at) >= HELD_MS;
        let held = ending.logical > 0 && ending.closed_since.is_none();
        // Told again: a walsender whose farewell the consumer does not read needs it.
        let last = self.o.memory.logical_ended;
        held && ending.quiet_since.is_some_and(is_old) && last.is_none_or(is_old)
    }

    fn is_soft_stop(&self) -> bool {
        match self.job() {
            Some(Job::Stop { how }) => !how.is_immediate(),
            Some(Job::Restart { .. }) => true,
            _ => false,
        }
    }

    /// When the running stop has to be looked at again.
    pub fn stop_again_ms(&self) -> Option<u64> {
        let ending = self.ending().filter(|_| self.is_soft_stop())?;
        let closed = ending.closed_since.filter(|_| self.is_planned_stop());
        let quiet = ending.quiet_since.filter(|_| ending.closed_since.is_none());
        let ended = self.o.memory.receivers_ended.filter(|_| closed.is_some());
        let due = [
            closed.map(|at| at + OTHERS_MS),
            closed.map(|at| at + STILL_MS),
            closed.map(|at| at + ARCHIVER_MS),
            quiet.map(|at| at + HELD_MS),
            quiet.and(self.o.memory.logical_ended).map(|at| at + HELD_MS),
            ended.map(|at| at + UNHEARD_MS),
        ];
        due.into_iter().flatten().filter(|at| *at > self.o.now).map(|at| at.since(self.o.now)).min()
    }

    /// Who did not get further, for the log.
    pub fn who_stands_still(&self) -> Option<String> {
        let past = self.closed()?.lsn;
        let told = |(name, has): &(&MemberName, Option<Lsn>)| match has {
            Some(has) => format!("{name} has {has}"),
            None => format!("{name} does not answer"),
        };
        let awaited: Vec<String> = self.awaited(Some(past)).iter().map(told).collect();
        let left = self.ending().map_or(0, Ending::receivers);
        let details = match awaited.is_empty() {
            true => String::new(),
            false => {
                format!("; the log ends with the checkpoint at {past}, {}", awaited.join(", "))
            }
        };
        Some(format!("{left} still connected{details}"))
    }
}

impl Memory {
    /// How far members have come that a stop waits for, and since when.
    pub fn update_receivers(&mut self, seen: &Observation) {
        let facts = Facts::of(seen);
        let Some(closed) = facts.closed() else { return self.received.clear() };
        for (name, has) in facts.awaited(Some(closed.lsn)) {
            let Some(has) = has else { continue };
            let known = self.received.entry(name.clone()).or_insert((has, seen.now));
            if known.0 < has {
                *known = (has, seen.now);
            }
        }
    }

    pub fn receivers_told_to_end(&mut self, which: Receivers, now: Millis) {
        match which {
            Receivers::All => self.receivers_ended = Some(now),
            Receivers::Logical => self.logical_ended = Some(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::action::{Action, Publish, Step};
    use crate::ha::decide;
    use crate::ha::observation::{Process, Running, Shut, ShutdownState};
    use crate::ha::sample::{NOW, answer, leader};
    use crate::made_up::TakeSample;
    use standby::promotion::PeerAnswer;
    use topology::{Seen, Timeline};

    const CHECKPOINT: Lsn = Lsn(5_000);

    /// The leader's daemon ends, its server has closed, receivers are connected.
    fn closed(physical: usize, logical: usize) -> Observation {
        let mut o = leader();
        o.memory.stopping = true;
        o.memory.handover = Some(Millis(NOW));
        let (end, timeline) = (End::Clean, Timeline(2));
        let shut = Shut::Orderly;
        let shutdown_state = ShutdownState { end, timeline, lsn: CHECKPOINT, copied: false, shut };
        let closed_since = Some(Millis(NOW));
        let ending = Ending { quiet_since: closed_since, closed_since, physical, logical };
        let job = Job::Stop { how: StopHow::Planned };
        o.job =
            Some(Running { job, since: Millis(NOW - 600), closed: Some(shutdown_state), ending });
        o
    }

    /// What is decided `ms` after the checkpoint, with these answers.
    fn at(o: &mut Observation, ms: u64, peers: &[PeerAnswer]) -> (u16, Step) {
        o.now = Millis(NOW + ms);
        o.memory.lease_renewed = o.now;
        o.lock = match &o.lock {
            Lock::Mine { .. } => leader_lock(o.now),
            other => other.clone(),
        };
        o.peers = Some(peers.to_vec());
        let mut memory = o.memory.clone();
        memory.update_receivers(o);
        o.memory = memory;
        let decision = decide(o);
        if let Step::Do(Action::EndReceivers(which)) = decision.step {
            o.memory.receivers_told_to_end(which, o.now);
        }
        (decision.rule, decision.step)
    }

    fn leader_lock(now: Millis) -> Lock {
        Lock::Mine { renewed: now, deadline: now + 30_000 }
    }

    const END_ALL: Step = Step::Do(Action::EndReceivers(Receivers::All));

    #[test]
    fn n1_a_replica_that_gets_on_is_waited_for_and_one_that_stands_still_is_not() {
        let mut o = closed(2, 0);
        for second in 0..30 {
            let (rule, _) = at(&mut o, second * 1_000, &[answer("a", 1_000 + second * 100)]);
            assert_eq!(rule, 152, "after {second} s");
        }
        // From here on it receives nothing.
        assert_eq!(at(&mut o, 38_000, &[answer("a", 3_900)]).0, 152);
        assert_eq!(at(&mut o, 39_000, &[answer("a", 3_900)]).1, END_ALL);
        assert_eq!(at(&mut o, 39_500, &[answer("a", 3_900)]).0, 158, "told to end once");
        assert_eq!(at(&mut o, 42_100, &[answer("a", 3_900)]).1, Step::Do(Action::CutStop));
    }

    #[test]
    fn n1_a_lost_answer_is_no_standstill() {
        let mut o = closed(1, 0);
        let silent = PeerAnswer { name: "a".into(), status: None };
        assert_eq!(at(&mut o, 2_000, &[answer("a", 2_000)]).0, 152);
        assert_eq!(at(&mut o, 5_000, std::slice::from_ref(&silent)).0, 152);
        assert_eq!(at(&mut o, 12_000, &[silent]).1, END_ALL);
    }

    #[test]
    fn h2_who_has_the_checkpoint_leads_and_the_others_are_not_waited_for() {
        let mut o = closed(1, 1);
        let peers = [answer("a", 5_001), answer("b", 1_000)];
        let release =
            Action::ReleaseLock { publish: Publish::Handover(CHECKPOINT, Some(Timeline(2))) };
        assert_eq!(at(&mut o, 0, &peers), (151, Step::Do(release)));
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.leader = None;
        o.lock = Lock::Free;
        assert_eq!(at(&mut o, 10, &peers).1, END_ALL);
        assert_eq!(at(&mut o, 20, &peers).0, 199);
    }

    #[test]
    fn a_silent_store_gives_the_lock_to_no_member() {
        let mut o = closed(1, 0);
        let peers = [answer("a", 1_000)];
        (o.store, o.lock) = (Seen::Unknown, Lock::Unknown);
        let Process::Running(server) = &mut o.postgres.process else { panic!("it runs here") };
        server.role = Seen::Unknown;
        for ms in [0, OTHERS_MS, STILL_MS - 1] {
            let step = Step::Rest { at_most_ms: Some(100) };
            assert_eq!(at(&mut o, ms, &peers), (152, step), "after {ms} ms");
        }
        assert_eq!(at(&mut o, STILL_MS, &peers).1, END_ALL);
        let cut = at(&mut o, STILL_MS + UNHEARD_MS, &peers).1;
        assert_eq!(cut, Step::Do(Action::CutStop));

        let mut led_by_a = closed(1, 0);
        led_by_a.lock = Lock::Other("a".into());
        assert_eq!(at(&mut led_by_a, 0, &peers).1, END_ALL, "another member has the lock");
    }

    #[test]
    fn a_candidate_that_dies_and_an_archiver_that_hangs_keep_no_leader_from_leading_again() {
        let mut o = closed(0, 0);
        o.memory.stopping = false;
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.take_sample("failover", r#"{"leader":"me","member":"a"}"#, 2, 0);
        let silent = [PeerAnswer { name: "a".into(), status: None }];
        assert_eq!(at(&mut o, STILL_MS - 1, &silent).0, 152);
        let mut stopping = o.clone();
        assert_eq!(at(&mut o, STILL_MS, &silent), (155, Step::Do(Action::CutStop)));
        stopping.memory.stopping = true;
        assert_eq!(at(&mut stopping, STILL_MS, &silent).0, 158, "the daemon ends");
    }

    #[test]
    fn h2_only_the_named_candidate_is_waited_for() {
        let mut o = closed(2, 0);
        o.memory.stopping = false;
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.take_sample("failover", r#"{"leader":"me","member":"a"}"#, 2, 0);
        let peers = |b| [answer("a", 1_000), answer("b", b)];
        for second in 0..10 {
            assert_eq!(at(&mut o, second * 1_000, &peers(1_000 + second)).0, 152);
        }
        assert_eq!(at(&mut o, 10_000, &peers(1_011)).1, END_ALL);
    }

    #[test]
    fn h2_a_consumer_that_holds_up_the_checkpoint_is_ended_and_no_replica_is() {
        let mut o = closed(1, 1);
        let job = o.job.as_mut().expect("it stops");
        (job.closed, job.ending.closed_since) = (None, None);
        let peers = [answer("a", 1_000)];
        let (rule, step) = at(&mut o, HELD_MS - 1, &peers);
        assert_eq!((rule, step), (199, Step::Rest { at_most_ms: Some(1) }));
        let (_, step) = at(&mut o, HELD_MS, &peers);
        assert_eq!(step, Step::Do(Action::EndReceivers(Receivers::Logical)));
        assert_eq!(at(&mut o, HELD_MS + 1, &peers).0, 199);
        let again = at(&mut o, 2 * HELD_MS, &peers).1;
        assert_eq!(again, step, "its farewell is not read either");
        let mut physical = o.clone();
        physical.memory.logical_ended = None;
        physical.job.as_mut().expect("it stops").ending.logical = 0;
        assert_eq!(at(&mut physical, 60_000, &peers).0, 199);
    }

    #[test]
    fn known_bug_22_an_archiver_that_hangs_keeps_no_member_from_leading_and_does_not_hold_a_stop() {
        let mut o = closed(0, 0);
        let release =
            Action::ReleaseLock { publish: Publish::Handover(CHECKPOINT, Some(Timeline(2))) };
        let peers = [answer("a", 5_001)];
        assert_eq!(at(&mut o, 0, &peers), (151, Step::Do(release)));
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.leader = None;
        o.lock = Lock::Free;
        assert_eq!(at(&mut o, ARCHIVER_MS - 1, &peers).0, 199);
        assert_eq!(at(&mut o, ARCHIVER_MS, &peers).1, Step::Do(Action::CutStop));
    }
}
