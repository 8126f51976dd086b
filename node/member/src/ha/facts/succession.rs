//! Who leads next: a request, the successor, the race for a free lock, and the step
//! from which writes are possible.
//!
//! Invariant: without the answers of the others there is neither a successor nor a
//! race.

use super::Facts;
use crate::ha::observation::{End, Gate};
use standby::candidate::{self, NoCandidate, Wanted};
use standby::promotion::{self, Electorate, NotYet, PeerAnswer, RaceLimits, Racer};
use standby::switch::ownership::Ownership;
use topology::region::Token;
use topology::{Failover, GroupView, Lsn, MemberName, Millis, SyncMode, Timeline};

/// How long a successor may take to receive what the leader has now.
const READY_MS: u64 = 5_000;

impl<'a> Facts<'a> {
    /// The command before a promotion has to be asked, and now is the time.
    pub fn is_gate_due(&self) -> bool {
        let untried = self.o.memory.gate == Gate::Untried;
        self.o.me.has_gate && untried && self.is_lock_young_enough() && self.open().is_ok()
    }

    pub fn has_gate_failed(&self) -> bool {
        matches!(self.o.memory.gate, Gate::Failed(_))
    }

    /// The `pre_promote` command failed less than a ttl ago: another member should try.
    pub fn is_gate_shut(&self) -> bool {
        let Gate::Failed(at) = self.o.memory.gate else { return false };
        self.o.now.since(at) < self.o.dynamic.ttl_ms
    }

    /// The request that concerns this leader and is due.
    pub fn request(&self) -> Option<&'a Failover> {
        self.view()?.request().filter(|r| r.scheduled_at.is_none())
    }

    /// The request is for this leader, and names another member if it names one.
    pub fn is_request_for_me(&self) -> bool {
        let me = &self.o.me.name;
        self.request().is_some_and(|r| {
            r.leader.as_ref().is_none_or(|l| l == me) && r.candidate.as_ref() != Some(me)
        })
    }

    /// A failover to another member by name: it may lose writes, and waits for nothing.
    pub fn is_ordered_away(&self) -> bool {
        let named = self.request().is_some_and(|r| r.leader.is_none() && r.candidate.is_some());
        named && self.is_request_for_me()
    }

    /// A successor that has received what this leader had when it was asked to
    /// hand over: one that only says it streams may receive nothing any more.
    pub fn ready_successor(&self) -> Result<MemberName, NoCandidate> {
        let seen = self.o.memory.request_seen;
        self.successor(seen.map(|(_, lsn)| Lsn(lsn.0.saturating_sub(1))))
    }

    /// No member can take over as asked, or none was ready in time.
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

    /// A stop that this process did not plan counts from when it was seen.
    pub fn handover_age(&self) -> u64 {
        let since = self.o.memory.handover.or(self.o.memory.stopped_since);
        since.map_or(0, |since| self.o.now.since(since))
    }

    pub fn has_asked(&self) -> bool {
        self.o.peers.is_some()
    }

    /// The member that would take over, past `past` if given.
    pub fn successor(&self, past: Option<Lsn>) -> Result<MemberName, NoCandidate> {
        let (Some(view), Some(peers)) = (self.view(), self.o.peers.as_deref()) else {
            return Err(NoCandidate::Alone);
        };
        candidate::best(&self.o.me.name, peers, view, &self.wanted(past))
    }

    /// Members that could take over once they are past `past`, and what they have.
    pub fn awaited(&self, past: Option<Lsn>) -> Vec<(&'a MemberName, Option<Lsn>)> {
        let (Some(view), Some(peers)) = (self.view(), self.o.peers.as_deref()) else {
            return Vec::new();
        };
        candidate::awaited(&self.o.me.name, peers, view, &self.wanted(past))
    }

    fn wanted(&self, past: Option<Lsn>) -> Wanted<'a> {
        Wanted {
            candidate: self.request().and_then(|r| r.candidate.as_ref()),
            past,
            timeline: self.own_timeline(),
            maximum_lag: self.o.dynamic.maximum_lag_on_failover,
            mode: if self.is_forced() { SyncMode::Off } else { self.synchronous_mode() },
        }
    }

    /// An operator switched failsafe mode off and then asked for a failover to this member. A
    /// request that is older than the settings does not say that the old leader is gone.
    pub fn is_named_without_failsafe(&self) -> bool {
        let me = Some(&self.o.me.name);
        let named = self.request().is_some_and(|request| request.candidate.as_ref() == me);
        named
            && self.is_forced()
            && self.is_asked_since_the_settings()
            && !self.o.dynamic.failsafe_mode
    }

    fn is_asked_since_the_settings(&self) -> bool {
        self.view().is_some_and(|view| {
            let settings = view.config.as_ref().map(|config| config.version);
            view.failover.as_ref().map(|request| request.version) > settings
        })
    }

    /// A failover that an operator asked for by name: it may lose writes.
    fn is_forced(&self) -> bool {
        self.request().is_some_and(|request| request.leader.is_none())
    }

    /// The synchronous mode that elections go by. It has no meaning in a group that
    /// follows another one. A mode that cannot be read may be on: then only members
    /// of `/sync` lead, if it names any.
    pub fn synchronous_mode(&self) -> SyncMode {
        let dynamic = &self.o.dynamic;
        let broken = |view: &GroupView| view.unreadable.iter().any(|(key, _)| key == "config");
        let doubtful = dynamic.is_synchronous || self.view().is_some_and(broken);
        match dynamic.synchronous_mode {
            _ if !self.may_own() => SyncMode::Off,
            SyncMode::Off if doubtful => SyncMode::On,
            mode => mode,
        }
    }

    /// Only members lead that have what was acknowledged.
    pub fn is_sync_mode_in_force(&self) -> bool {
        let mode = self.synchronous_mode();
        self.view().is_some_and(|view| Electorate::of(view, mode).is_some())
    }

    /// Another member may have led since: a primary without a lock may lack what that member
    /// acknowledged, in a synchronous mode, or that member may lead on without its store.
    pub fn may_others_have_led_since(&self) -> bool {
        let Some(view) = self.view() else { return false };
        if self.other_majority_leader().is_some() {
            return true;
        }
        let electorate = Electorate::of(view, self.synchronous_mode());
        electorate.is_some_and(|e| !e.keeps(&self.o.me.name, self.own_timeline(), view))
    }

    pub(in crate::ha) fn own_timeline(&self) -> Option<Timeline> {
        let stopped = self.shutdown_state().or(self.closed());
        // What a standby's control file shows may be several timelines behind its log.
        if stopped.is_some_and(|r| r.end == End::Standby) {
            return None;
        }
        stopped.map(|r| r.timeline).or_else(|| self.o.server().and_then(|s| s.timeline))
    }

    /// May this member take the free lock? Only meaningful once peers answered.
    pub fn race(&self) -> Result<(), NotYet> {
        self.race_but_for_promises()?;
        self.cleared()
    }

    pub(super) fn race_but_for_promises(&self) -> Result<(), NotYet> {
        self.race_among(self.o.peers.as_deref().ok_or(NotYet::TimelineUnknown)?)
    }

    /// An operator named this member, and it may take the free lock whatever the others
    /// would say: one of them that does not answer is not waited for.
    pub fn is_heir_by_name(&self) -> bool {
        self.is_heir_but_for_promises() && self.is_cleared()
    }

    pub(super) fn is_heir_but_for_promises(&self) -> bool {
        let me = Some(&self.o.me.name);
        let named = self.request().is_some_and(|request| request.candidate.as_ref() == me);
        named && self.race_among(&[]).is_ok()
    }

    fn race_among(&self, peers: &[PeerAnswer]) -> Result<(), NotYet> {
        let (Some(view), Some(server)) = (self.view(), self.o.server()) else {
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
        self.reached_token()?;
        let limits = RaceLimits {
            maximum_lag: self.o.dynamic.maximum_lag_on_failover,
            check_timeline: self.o.dynamic.check_timeline && self.may_own(),
            failsafe_mode: self.o.dynamic.failsafe_mode || !self.is_asked_since_the_settings(),
            mode: self.synchronous_mode(),
            token: self.token(),
        };
        promotion::may_race(&racer, &self.racing(view, peers), view, limits)
    }

    /// The only member whose answer counts: the one that a leader was asked to hand over
    /// to.
    pub fn only_answer_that_counts(&self) -> Option<&'a MemberName> {
        self.request()?.candidate.as_ref().filter(|_| self.o.holds_lock())
    }

    /// May the lock holder leave recovery?
    pub fn open(&self) -> Result<(), NotYet> {
        self.cleared()?;
        let Ownership::Owner { opening, .. } = &self.o.ownership else {
            return Ok(());
        };
        if self.o.server().is_none() || self.o.system().is_none() {
            return Err(NotYet::TimelineUnknown);
        }
        self.reached_token()?;
        if *opening && self.o.me.group.is_coordinator() && !self.o.closed_workers.is_empty() {
            let names: Vec<_> = self.o.closed_workers.iter().map(|g| g.key()).collect();
            return Err(NotYet::WorkersFirst(names.join(", ")));
        }
        Ok(())
    }

    /// Where the history of this group ended in the region that owned before.
    fn token(&self) -> Option<&'a Token> {
        match &self.o.ownership {
            Ownership::Owner { token, .. } => token.as_ref(),
            _ => None,
        }
    }

    /// A member that has not could only hold the lock, and keep it from one that has.
    pub(in crate::ha) fn reached_token(&self) -> Result<(), NotYet> {
        let Some(token) = self.token() else { return Ok(()) };
        let (Some(server), Some(system)) = (self.o.server(), self.o.system()) else {
            return Err(NotYet::TimelineUnknown);
        };
        promotion::may_open(Some(token), system, server.timeline, server.lsn)
    }

    /// Holds the lock, and the region's token does not come: another member may have it.
    pub fn is_token_overdue(&self) -> bool {
        let arrived = |since: Millis| since.max(self.o.memory.grew_at);
        let since = self.o.memory.untokened_since.map(arrived);
        let is_overdue = since.is_some_and(|at| self.o.now.since(at) >= self.o.dynamic.ttl_ms);
        is_overdue && self.lacks_token_as_leader()
    }

    pub(in crate::ha) fn lacks_token_as_leader(&self) -> bool {
        let waits = self.o.holds_lock() && self.o.is_standby() && !self.is_promoting();
        waits && self.reached_token().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::observation::{Lock, Observation, Process};
    use crate::ha::{Action, Step, action::Publish, decide, sample};
    use crate::made_up::TakeSample;
    use topology::{Seen, SystemId};

    fn see(o: &mut Observation, key: &str, value: &str) {
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.take_sample(key, value, 9, 0);
    }

    /// A standby whose log ends at 1000, in the region that owns the formation: the history of
    /// this group ended there at `token`, and no member leads.
    fn moved_to(token: u64) -> Observation {
        let mut o = sample::follower();
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        (view.leader, o.lock) = (None, Lock::Free);
        let system_id = SystemId(sample::SYSTEM.into());
        let token = Token { system_id, timeline: Timeline(2), lsn: Lsn(token) };
        o.ownership = Ownership::Owner { epoch: 2, token: Some(token), opening: true };
        o
    }

    fn rule(o: &Observation) -> u16 {
        decide(o).rule
    }

    #[test]
    fn a_member_that_lacks_the_token_takes_no_lock_also_by_name() {
        for request in ["{}", r#"{"member":"me"}"#, r#"{"leader":"a","member":"me"}"#] {
            let mut o = moved_to(1_000);
            see(&mut o, "failover", request);
            assert_eq!(rule(&o), 850, "{request}");
            o.peers = Some(Vec::new());
            let waits = decide(&o);
            assert_eq!(waits.rule, 899, "{request}");
            assert!(waits.line().contains("token ends at 0/3E8"), "{}", waits.line());
            let mut has = moved_to(999);
            see(&mut has, "failover", request);
            has.peers = Some(Vec::new());
            assert!([848, 851].contains(&rule(&has)), "{request}");
        }
    }

    /// An archive brings nothing to a server that stands still.
    #[test]
    fn row_849_resumes_a_replay_that_was_paused_before_the_token() {
        let paused = |token: u64| {
            let mut o = moved_to(token);
            let Process::Running(server) = &mut o.postgres.process else { panic!("it runs") };
            server.replay_paused = true;
            o
        };
        assert_eq!(decide(&paused(1_000)).step, Step::Do(Action::ResumeReplay));
        assert_eq!(rule(&paused(1_000)), 849);
        assert_eq!(rule(&paused(999)), 850, "it has the token");
        let mut other = paused(1_000);
        other.me.tags =
            topology::Tags([("nofailover".to_string(), true.into())].into_iter().collect());
        assert_eq!(rule(&other), 840, "an operator's pause stays where the member never leads");
    }

    #[test]
    fn a_named_member_that_lacks_the_token_is_not_waited_for() {
        for request in [r#"{"member":"a"}"#, r#"{"leader":"b","member":"a"}"#] {
            let mut o = moved_to(999);
            see(&mut o, "failover", request);
            o.peers = Some(vec![sample::answer("a", 1_000)]);
            assert_eq!(rule(&o), 899, "{request}");
            o.peers = Some(vec![sample::answer("a", 999)]);
            assert_eq!(rule(&o), 851, "{request}");
        }
    }

    /// It took the lock before it read that its region owns now.
    #[test]
    fn row_713_gives_the_lock_of_a_leader_without_token_to_another_member() {
        let mut o = moved_to(1_000);
        o.lock = Lock::Mine { renewed: o.now, deadline: o.now + 30_000 };
        let mut look = |ms: u64, grows: bool| {
            o.now = o.now + ms;
            o.memory.lease_renewed = o.now;
            o.lock = Lock::Mine { renewed: o.now, deadline: o.now + 30_000 };
            if grows {
                o.memory.grew_at = o.now;
            }
            let mut memory = o.memory.clone();
            memory.update_from(&o);
            o.memory = memory;
            (rule(&o), decide(&o).step)
        };
        assert_eq!(look(0, true).0, 732);
        assert_eq!(look(29_999, true).0, 732, "it may still arrive");
        assert_eq!(look(29_999, false).0, 732);
        let release = Action::ReleaseLock { publish: Publish::Nothing };
        assert_eq!(look(1, false), (713, Step::Do(release)));
        o.ownership = Ownership::Owner { epoch: 2, token: None, opening: true };
        assert_eq!(rule(&o), 731);
    }
}
