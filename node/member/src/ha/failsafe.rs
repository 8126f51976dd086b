//! Failsafe mode: a leader that has lost its store leads on while all members agree.
//!
//! The leader asks all members that `/failsafe` names. A member that agrees promises
//! not to lead for one `ttl`; only members that `/failsafe` names may take the lock.
//! So once all have agreed, and for one `ttl` from the moment the question was sent,
//! every other member that could take the lock has promised not to.
//!
//! Invariant *promise before proof*: a promise is given or refused under the same
//! mutex (of `PromiseStore`) under which this member claims leadership, so that no member
//! has promised and leads at the same time, whichever comes first.
//!
//! Invariant *every possible leader is asked*: the question goes to all members in the
//! map that the store is known to hold and in every map that it may hold.
//!
//! A promise keeps this member from leading, and from promising to another leader, for
//! as long as the leader it was made to may rely on it. That leader relies on it no
//! longer once it has released its lock in order: then the member that takes the
//! lock compares the request which that release wrote, so that the lock cannot have
//! been taken, and given to the same leader again, in between.

pub use super::observation::{Asker, Failsafe, Promise};
use super::observation::{Lock, Observation};
pub use super::peer_set::{Map, PeerSet, electors, enough_for_candidate};
use std::collections::BTreeMap;
use topology::{GroupView, Lsn, MemberName, MemberRecord, MemberRole, Millis, Version, Versioned};

/// Why a member does not agree; the text is the answer's body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("failsafe mode is off")]
    Off,
    #[error("Running as a leader")]
    Leads,
    #[error("{0} holds the lock")]
    OtherLeader(MemberName),
    #[error("{0} was promised support")]
    OtherCandidate(MemberName),
    #[error(
        "a promise for {asked_ms} ms was asked for; with a ttl of {known_ms} ms this member \
         promises {longest_ms} ms at most"
    )]
    TooLong { asked_ms: u64, known_ms: u64, longest_ms: u64 },
}

/// A leader may use a longer ttl than this member knows, up to this factor. A request beyond it
/// is refused.
const TTL_FACTOR_MAX: u64 = 2;

/// A candidate asks for promises that last this long: enough to take the lock, and short for
/// those that wait if it does not.
pub const CANDIDATE_MS: u64 = 4_000;

/// For how long a member promises not to support another leader than this candidate.
pub fn candidate_ms(asked_ms: Option<u64>) -> u64 {
    asked_ms.unwrap_or(CANDIDATE_MS).min(CANDIDATE_MS)
}

/// What the answers of members that were asked for a promise amount to: the positions that were
/// told, or who does not agree.
pub fn agreement(
    answers: Vec<(MemberName, Result<Option<Lsn>, String>)>,
    enough: usize,
) -> Result<BTreeMap<MemberName, Lsn>, String> {
    if answers.iter().filter(|(_, answer)| answer.is_ok()).count() >= enough {
        let told = answers.into_iter().filter_map(|(name, answer)| Some((name, answer.ok()??)));
        return Ok(told.collect());
    }
    let refused = answers.iter().filter_map(|(name, answer)| {
        Some(format!("{name} does not agree: {}", answer.as_ref().err()?))
    });
    Err(refused.collect::<Vec<_>>().join("; "))
}

/// For how long a member promises not to lead. `asked_ms`: for how long the leader will
/// rely on it, if it says so; `known_ms`: the `ttl` that this member knows.
pub fn promised_ms(asked_ms: Option<u64>, known_ms: u64) -> Result<u64, Refusal> {
    let asked_ms = known_ms.max(asked_ms.unwrap_or(0));
    let longest_ms = known_ms.saturating_mul(TTL_FACTOR_MAX);
    match asked_ms <= longest_ms {
        true => Ok(asked_ms),
        false => Err(Refusal::TooLong { asked_ms, known_ms, longest_ms }),
    }
}

/// Where promises are given, and where this member claims leadership before it leads.
#[derive(Clone, Debug)]
pub struct PromiseStore {
    /// `failsafe_mode`, as last read.
    pub is_on: bool,
    /// This member leads, or has set out to.
    occupied: bool,
    /// Who holds the lock, when the store tells.
    leader: Option<MemberName>,
    promise: Option<Promise>,
    /// This member is a candidate, and promises no leader anything until then.
    standing: Option<(MemberName, Millis)>,
    /// Addresses of members, from the records that the store showed last.
    addresses: BTreeMap<MemberName, Addresses>,
}

/// What a record says of where a member answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Addresses {
    conn_url: String,
    api_url: String,
}

impl Default for PromiseStore {
    /// Closed until a first look tells what runs here.
    fn default() -> PromiseStore {
        let addresses = BTreeMap::new();
        let (leader, promise, standing) = (None, None, None);
        PromiseStore { is_on: false, occupied: true, leader, promise, standing, addresses }
    }
}

impl PromiseStore {
    pub fn with_promise(promise: Option<Promise>) -> PromiseStore {
        PromiseStore { promise, ..PromiseStore::default() }
    }

    /// What the store shows of where members answer; those that it has forgotten
    /// are kept.
    pub fn learn(&mut self, view: &GroupView) {
        for (name, member) in &view.members {
            let text = |url: &Option<String>| url.clone().unwrap_or_default();
            let (conn_url, api_url) = (text(&member.value.conn_url), text(&member.value.api_url));
            self.addresses.insert(name.clone(), Addresses { conn_url, api_url });
        }
    }

    /// A leader asks. A promise is not shortened by a later one. Where the leader
    /// answers is taken from its record, not from the question, which is not proven
    /// to come from it.
    pub fn accept(&mut self, mut asked: Promise, now: Millis) -> Result<(), Refusal> {
        if self.occupied {
            let refusal = if self.is_on { Refusal::Leads } else { Refusal::Off };
            return Err(refusal);
        }
        match asked.by {
            Asker::Leader => self.may_lead_on(&asked.to, now)?,
            Asker::Candidate => self.give_way(&asked.to, now)?,
        }
        if let Some(other) = self.promise(now) {
            if other.to != asked.to {
                return Err(Refusal::OtherLeader(other.to.clone()));
            }
            asked.until = asked.until.max(other.until);
        }
        let known = self.addresses.get(&asked.to).cloned().unwrap_or_default();
        (asked.conn_url, asked.api_url) = (known.conn_url, known.api_url);
        self.promise = Some(asked);
        Ok(())
    }

    fn may_lead_on(&self, leader: &MemberName, now: Millis) -> Result<(), Refusal> {
        if !self.is_on {
            return Err(Refusal::Off);
        }
        if let Some((me, _)) = self.standing.as_ref().filter(|(_, until)| now < *until) {
            return Err(Refusal::OtherCandidate(me.clone()));
        }
        match self.leader.as_ref().filter(|other| *other != leader) {
            Some(other) => Err(Refusal::OtherLeader(other.clone())),
            None => Ok(()),
        }
    }

    /// Of two candidates that ask each other the one whose name comes first is supported.
    fn give_way(&mut self, to: &MemberName, now: Millis) -> Result<(), Refusal> {
        if let Some((me, _)) = self.standing.as_ref().filter(|(_, until)| now < *until)
            && me < to
        {
            return Err(Refusal::OtherCandidate(me.clone()));
        }
        if self.promise(now).is_none() {
            self.standing = None;
        }
        Ok(())
    }

    /// This member becomes a candidate, unless it has promised something to another one.
    pub fn stand(&mut self, me: &MemberName, now: Millis, until: Millis) -> bool {
        let is_free = self.promise(now).is_none();
        if is_free {
            self.standing = Some((me.clone(), until));
        }
        is_free
    }

    /// It is one still: it has given way to none.
    pub fn stands(&self, now: Millis) -> bool {
        self.promise(now).is_none() && self.standing.as_ref().is_some_and(|(_, end)| now < *end)
    }

    /// Claims leadership, unless this member promised another member not to lead.
    pub fn claim(&mut self, now: Millis) -> bool {
        let free = self.promise(now).is_none();
        self.occupied |= free;
        free
    }

    /// Sets out to take the lock that was released by the leader of the promise. The
    /// promise stays until the store has confirmed that.
    pub fn claim_released(&mut self) {
        self.occupied = true;
    }

    /// The released lock was taken: the promise is over. False if there was none.
    pub fn end_promise(&mut self) -> bool {
        self.promise.take().is_some()
    }

    /// What a beat has seen: does this member lead, and who does else?
    pub fn update(&mut self, occupied: bool, leader: Option<MemberName>) {
        self.occupied = occupied;
        self.leader = leader;
    }

    pub fn promise(&self, now: Millis) -> Option<&Promise> {
        self.promise.as_ref().filter(|promise| now < promise.until)
    }
}

/// What a beat goes by: the promise that binds this member, and the group with the
/// leader that it was made to. One that a release has ended binds no longer.
pub fn promised(
    mut seen: Failsafe,
    promise: Option<Promise>,
    view: Option<&mut GroupView>,
) -> Failsafe {
    let Some(promise) = promise else { return seen };
    if view.as_ref().is_some_and(|view| view.is_given_up()) {
        seen.is_released = true;
        return seen;
    }
    if let Some(view) = view {
        inject(view, &promise);
    }
    seen.promise = Some(promise);
    seen
}

/// The proof that all members agreed is over when the lock covers it, when another
/// member leads, or when no server here could write by it any more: not when that
/// server does not answer for a moment, or recovers after a backend crashed.
pub fn is_proof_over(seen: &Observation, proof: Millis) -> bool {
    let covered = matches!(&seen.lock, Lock::Mine { deadline, .. } if *deadline >= proof);
    covered || matches!(seen.lock, Lock::Other(_)) || !seen.may_write()
}

/// To a member that has promised, a free lock counts as held by the promise's leader.
pub fn inject(view: &mut GroupView, promise: &Promise) {
    if view.leader.is_some() {
        return;
    }
    let unversioned = |value| Versioned { value, version: Version::default(), session: None };
    let known = |url: &String| Some(url.clone()).filter(|url| !url.is_empty());
    view.leader = Some(unversioned(promise.to.clone()));
    view.members.entry(promise.to.clone()).or_insert_with(|| Versioned {
        value: MemberRecord {
            conn_url: known(&promise.conn_url),
            api_url: known(&promise.api_url),
            state: "running".into(),
            role: MemberRole::Primary,
            ..MemberRecord::default()
        },
        version: Version::default(),
        session: None,
    });
    if let Some(status) = &mut view.status {
        status.value.slots.extend(promise.slots.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use topology::Seen;

    fn asked(by: &str, until: u64) -> Promise {
        Promise { to: by.into(), until: Millis(until), ..Promise::default() }
    }

    fn open() -> PromiseStore {
        let mut promises = PromiseStore { is_on: true, ..PromiseStore::default() };
        promises.update(false, None);
        promises
    }

    #[test]
    fn no_member_promises_before_the_first_look_or_without_the_mode() {
        let mut promises = PromiseStore::default();
        assert_eq!(promises.accept(asked("a", 9), Millis(1)), Err(Refusal::Off));
        promises.is_on = true;
        assert_eq!(promises.accept(asked("a", 9), Millis(1)), Err(Refusal::Leads));
        assert!(promises.promise(Millis(1)).is_none());
    }

    #[test]
    fn a_promise_lasts_as_long_as_the_leader_relies_on_it_and_at_most_two_ttl() {
        assert_eq!(promised_ms(None, 30_000), Ok(30_000));
        assert_eq!(promised_ms(Some(20_000), 30_000), Ok(30_000));
        assert_eq!(promised_ms(Some(60_000), 30_000), Ok(60_000));
        let refusal = promised_ms(Some(60_001), 30_000).unwrap_err().to_string();
        assert!(refusal.contains("promises 60000 ms at most"), "{refusal}");
    }

    #[test]
    fn a_member_promises_or_leads_whichever_comes_first() {
        let mut promised = open();
        assert_eq!(promised.accept(asked("a", 100), Millis(1)), Ok(()));
        assert!(!promised.claim(Millis(99)));
        assert!(promised.claim(Millis(100)), "a promise ends");
        let mut leads = open();
        assert!(leads.claim(Millis(1)));
        assert_eq!(leads.accept(asked("a", 100), Millis(2)), Err(Refusal::Leads));
    }

    /// A group in which `by` has just released its lock for a request.
    fn given_up(by: &str) -> GroupView {
        let mut view = GroupView::default();
        view.take_sample("status", "100", 5, 0);
        view.take_sample("failover", &format!(r#"{{"leader":"{by}","member":"me"}}"#), 5, 0);
        view
    }

    #[test]
    fn b7_an_orderly_release_ends_the_promise_to_the_leader_that_released() {
        let promise = || Some(asked("a", 100));
        let mut view = given_up("a");
        let seen = promised(Failsafe::default(), promise(), Some(&mut view));
        assert!(seen.is_released && seen.promise.is_none());
        assert_eq!(view.leader, None, "the lock is free");
        // A lock that ended, a request that was answered, a store that is silent.
        let mut expired = given_up("a");
        expired.take_sample("status", "100", 4, 0);
        let mut answered = given_up("a");
        answered.take_sample("failover", "{}", 5, 0);
        for mut view in [expired, answered] {
            let seen = promised(Failsafe::default(), promise(), Some(&mut view));
            assert_eq!((seen.is_released, &seen.promise), (false, &promise()));
            assert_eq!(view.leader_name(), Some(&"a".into()));
        }
        assert_eq!(promised(Failsafe::default(), promise(), None).promise, promise());
    }

    #[test]
    fn b7_the_promise_stays_until_the_released_lock_was_taken() {
        let mut promises = open();
        promises.accept(asked("a", 100), Millis(1)).unwrap();
        promises.claim_released();
        assert_eq!(promises.accept(asked("a", 100), Millis(2)), Err(Refusal::Leads));
        promises.update(false, None);
        assert!(!promises.claim(Millis(3)), "the store did not take it");
        promises.claim_released();
        assert!(promises.end_promise() && promises.claim(Millis(3)));
    }

    #[test]
    fn s5_a_question_does_not_say_where_the_leader_answers() {
        let forged = || Promise {
            conn_url: "postgres://evil:5432/postgres".into(),
            api_url: "http://evil:8008/patroni".into(),
            ..asked("a", 100)
        };
        let mut promises = open();
        promises.accept(forged(), Millis(1)).unwrap();
        let mut view = GroupView::default();
        inject(&mut view, promises.promise(Millis(2)).unwrap());
        assert_eq!(view.leader_record().unwrap().address(), None, "no record is known");
        let mut told = GroupView::default();
        let record = r#"{"conn_url":"postgres://h:1/x","api_url":"http://h:2/patroni"}"#;
        told.take_sample("members/a", record, 1, 7);
        promises.learn(&told);
        promises.learn(&GroupView::default());
        promises.accept(forged(), Millis(3)).unwrap();
        inject(&mut view, promises.promise(Millis(4)).unwrap());
        let mut view = GroupView::default();
        inject(&mut view, promises.promise(Millis(4)).unwrap());
        assert_eq!(view.leader_record().unwrap().address(), Some(("h".into(), 1)));
    }

    #[test]
    fn n10_a_proof_ends_with_ownership_or_time_not_with_a_hiccup_of_sql() {
        use crate::ha::observation::Process;
        use crate::ha::sample;
        let silent = || {
            let mut seen = sample::leader();
            (seen.store, seen.lock) = (Seen::Unknown, Lock::Unknown);
            seen
        };
        let (proof, mut seen) = (Millis(sample::NOW + 20_000), silent());
        assert!(!is_proof_over(&seen, proof));
        // A backend crashed: the postmaster recovers in place.
        seen.postgres.process = Process::Starting { since: seen.now, as_primary: true };
        assert!(!is_proof_over(&seen, proof));
        seen.postgres.process = sample::primary();
        let Process::Running(server) = &mut seen.postgres.process else { panic!("it runs") };
        server.role = Seen::Unknown;
        assert!(!is_proof_over(&seen, proof), "it did not answer for a moment");
        // And it is asked for again, as the end of the last one comes near.
        seen.dynamic.failsafe_mode = true;
        seen.failsafe =
            Failsafe { proof: Some(seen.now + 15_000), is_ready: true, ..Failsafe::default() };
        seen.memory.lease_tried = seen.now;
        assert_eq!(crate::ha::decide(&seen).step, crate::ha::Step::Do(crate::ha::Action::AskAll));
        seen.failsafe.asked = seen.now;
        assert_eq!(crate::ha::decide(&seen).rule, 310);
        seen.failsafe.asked = Millis(0);
        let running = std::mem::replace(
            &mut seen.postgres.process,
            Process::Starting { since: seen.now, as_primary: true },
        );
        let asks = |seen: &Observation| crate::ha::facts::Facts::of(seen).must_ask_all();
        assert!(asks(&seen), "crash recovery goes on in its time");
        seen.now = seen.now + seen.dynamic.primary_start_timeout_ms + 1;
        seen.failsafe.proof = Some(seen.now + 15_000);
        assert!(!asks(&seen), "it had its time");
        seen.postgres.process = running;
        assert!(asks(&seen));
        seen.lock = Lock::Other("b".into());
        assert!(is_proof_over(&seen, proof));
        seen.lock = Lock::Unknown;
        seen.postgres.process = Process::Starting { since: seen.now, as_primary: false };
        assert!(is_proof_over(&seen, proof));
        seen.postgres.process = Process::Stopped(Seen::Unknown);
        assert!(is_proof_over(&seen, proof));
    }

    /// One that asked then would wait for a member that is down until it has to stop.
    #[test]
    fn a_leader_whose_store_is_slow_and_answers_asks_no_member() {
        use crate::ha::facts::Facts;
        use crate::ha::sample;
        let mut seen = sample::leader();
        seen.dynamic.failsafe_mode = true;
        seen.failsafe.is_ready = true;
        seen.now = seen.now + seen.dynamic.loop_wait_ms;
        assert!(!Facts::of(&seen).must_ask_all());
        seen.memory.lease_misses = 1;
        assert!(Facts::of(&seen).must_ask_all());
    }

    fn stands(by: &str, until: u64) -> Promise {
        Promise { by: Asker::Candidate, ..asked(by, until) }
    }

    #[test]
    fn a_member_supports_one_leader_or_candidate_at_a_time() {
        let mut promises = open();
        promises.accept(asked("a", 100), Millis(1)).unwrap();
        let taken = Err(Refusal::OtherLeader("a".into()));
        assert_eq!(promises.accept(stands("b", 50), Millis(99)), taken);
        assert!(!promises.stand(&"me".into(), Millis(99), Millis(200)));
        promises.accept(stands("b", 150), Millis(100)).unwrap();
        let taken = Err(Refusal::OtherLeader("b".into()));
        assert_eq!(promises.accept(asked("a", 200), Millis(149)), taken);
        promises.accept(asked("a", 200), Millis(150)).unwrap();
        // What it has seen of the lock, and whether the mode is on, is nothing to a candidate.
        let mut promises = open();
        promises.update(false, Some("a".into()));
        promises.is_on = false;
        promises.accept(stands("b", 150), Millis(1)).unwrap();
        promises.update(true, None);
        assert_eq!(promises.accept(stands("b", 250), Millis(200)), Err(Refusal::Off));
    }

    #[test]
    fn of_two_candidates_that_ask_each_other_one_is_supported() {
        let (mut a, mut b) = (open(), open());
        assert!(a.stand(&"a".into(), Millis(1), Millis(50)));
        assert!(b.stand(&"b".into(), Millis(1), Millis(50)));
        let refused = Err(Refusal::OtherCandidate("a".into()));
        assert_eq!(a.accept(stands("b", 50), Millis(2)), refused);
        assert_eq!(b.accept(stands("a", 50), Millis(2)), Ok(()));
        assert!(a.stands(Millis(3)) && a.claim(Millis(3)));
        assert!(!b.stands(Millis(3)) && !b.claim(Millis(3)), "it gave way");
        // A candidate supports no leader that asks, until its time is over.
        let mut c = open();
        assert!(c.stand(&"c".into(), Millis(1), Millis(50)));
        let refused = Err(Refusal::OtherCandidate("c".into()));
        assert_eq!(c.accept(asked("x", 100), Millis(49)), refused);
        assert_eq!(c.accept(asked("x", 100), Millis(50)), Ok(()));
    }

    #[test]
    fn two_leaders_are_not_promised_the_same() {
        let mut promises = open();
        promises.accept(asked("a", 100), Millis(1)).unwrap();
        let other = Err(Refusal::OtherLeader("a".into()));
        assert_eq!(promises.accept(asked("b", 200), Millis(2)), other);
        promises.accept(asked("a", 50), Millis(3)).unwrap();
        assert!(promises.promise(Millis(99)).is_some(), "a promise was shortened");
        promises.update(false, Some("b".into()));
        let other = Err(Refusal::OtherLeader("b".into()));
        assert_eq!(promises.accept(asked("a", 300), Millis(4)), other);
    }

    #[test]
    fn the_promised_leader_is_the_leader_of_an_unlocked_group() {
        let mut view = GroupView::default();
        let promise = Promise { conn_url: "postgres://h:1/x".into(), ..asked("a", 9) };
        inject(&mut view, &promise);
        assert_eq!(view.leader_name(), Some(&"a".into()));
        assert_eq!(view.leader_record().unwrap().address(), Some(("h".into(), 1)));
        let mut locked = GroupView::default();
        locked.take_sample("leader", "b", 3, 7);
        inject(&mut locked, &promise);
        assert_eq!(locked.leader_name(), Some(&"b".into()));
    }
}
