//! The agent as a machine, on values alone: region `a` owns, `b` follows.

use super::super::effect::{AgentKey, AgentWrite, LocalCopy, StoreCopy};
use super::super::local::Verified;
use super::super::publisher::observed_region;
use super::super::register::tests::{certificate, journal, local_with, policy};
use super::super::{LocalTopology, Replayed, Site};
use super::*;
use crate::made_up::TakeSample;
use std::sync::Arc;
use topology::region::{Phase, SignedToken, StepRecord, Token};
use topology::{
    Group, GroupView, Lsn, RegionName, Session, SystemId, Timeline, Version, Versioned,
};

const SESSION: Session = Session::of_store(7);
const SYSTEM: &str = "7710375988543033523";

fn name() -> String {
    "a/n1".to_string()
}

fn versioned<T>(value: T, session: Option<Session>) -> Versioned<T> {
    Versioned { value, version: Version::of_store(2), session }
}

fn token() -> Token {
    Token { system_id: SystemId(SYSTEM.into()), timeline: Timeline(1), lsn: Lsn(50) }
}

fn group(host: &str, role: &str) -> GroupView {
    let mut view = GroupView::default();
    let record = format!(
        r#"{{"conn_url":"postgres://{host}:5432/x","state":"running","role":"{role}","timeline":1}}"#
    );
    view.take_sample("leader", "n", 1, 1);
    view.take_sample("members/n", &record, 1, 1);
    view
}

fn site(topology: LocalTopology, host: &str, role: &str) -> Site {
    Site { topology, groups: [(Group::PLAIN, group(host, role))].into() }
}

/// A machine with what it is shown.
struct Rig {
    agent: Agent,
    sight: Sight,
    own: Site,
    other: Site,
    /// When each store was heard from.
    heard: Millis,
    logs: Vec<String>,
}

impl Rig {
    fn new(is_preferred: bool) -> Rig {
        let identity = Identity {
            region: "a".into(),
            name: name(),
            is_preferred,
            settings: policy(2),
            others: [RegionName::new("b")].into(),
        };
        let now = Millis(100_000);
        let mut own = site(local_with(certificate(1, "a")), "a", "primary");
        own.topology.verified = Some(versioned(Verified { epoch: 1 }, Some(SESSION)));
        let other = site(local_with(certificate(1, "a")), "b", "standby_leader");
        own.topology.peers.insert("b".into(), observed_region(&"b".into(), &other));
        let (session, holds_lock) = (Some(SESSION), true);
        let sight = Sight { now, unix_ms: 1_000, session, holds_lock, ..Sight::default() };
        let agent = Agent::new(identity, Pace::default());
        Rig { agent, sight, own, other, heard: now, logs: Vec::new() }
    }

    /// An agent with all copies, and nothing to do.
    fn settled() -> Rig {
        let mut rig = Rig::new(true);
        rig.own.topology.agent = Some(versioned(name(), Some(SESSION)));
        rig.show_local();
        assert_eq!(rig.wake(), [Effect::OpenCopies]);
        rig.look_in(20);
        assert_eq!(rig.wake(), []);
        rig
    }

    /// The agent of a region whose move stands in this phase.
    fn moving(phase: Phase) -> Rig {
        let mut rig = Rig::settled();
        let mut switch = journal(1, "a", "b", phase);
        switch.value.steps = vec![StepRecord { phase, at_ms: 1_000 }];
        rig.own.topology.switch = Some(switch.clone());
        rig.other.topology.switch = Some(switch);
        rig
    }

    fn show_local(&mut self) {
        let site = Arc::new(self.own.clone());
        self.sight.local = Some(LocalCopy { site, version: Version::of_store(5) });
        self.sight.changes += 1;
    }

    /// Time passes, and every copy shows what its store holds.
    fn look_in(&mut self, ms: u64) {
        self.sight.now = self.sight.now + ms;
        self.sight.unix_ms += ms;
        let copy = |site: &Site| {
            let site = Arc::new(site.clone());
            StoreCopy { site, is_live: true, heard: self.heard }
        };
        self.sight.copies = [("a".into(), copy(&self.own)), ("b".into(), copy(&self.other))].into();
        self.show_local();
    }

    fn wake(&mut self) -> Vec<Effect> {
        let effects = self.agent.wake(&self.sight);
        self.keep_logs(effects)
    }

    fn answer(&mut self, id: CallId, answer: Answer) -> Vec<Effect> {
        let effects = self.agent.answer(&self.sight, id, answer);
        self.keep_logs(effects)
    }

    fn keep_logs(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut rest = Vec::new();
        for effect in effects {
            match effect {
                Effect::Log(_, text) => self.logs.push(text),
                effect => rest.push(effect),
            }
        }
        rest
    }
}

/// The only call among the effects.
fn only(effects: &[Effect]) -> (CallId, &Call) {
    let calls: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Call { id, call, .. } => Some((*id, call)),
            _ => None,
        })
        .collect();
    assert_eq!(calls.len(), 1, "{effects:?}");
    calls[0]
}

fn written(call: &Call) -> &AgentWrite {
    match call {
        Call::Write(write) => &write.write,
        other => panic!("no write: {other:?}"),
    }
}

fn phase_of(call: &Call) -> Phase {
    match written(call) {
        AgentWrite::Journal(journal) => journal.phase,
        other => panic!("no journal: {other:?}"),
    }
}

#[test]
fn the_copies_begin_after_the_election() {
    let mut rig = Rig::new(true);
    rig.look_in(0);
    let effects = rig.wake();
    let (id, call) = only(&effects);
    assert!(matches!(call, Call::Campaign { claim: Claim::Elect, .. }));
    assert!(!rig.agent.speaks());
    // These copies are older than the election: nothing is done on them.
    rig.own.topology = LocalTopology::default();
    rig.own.topology.agent = Some(versioned(name(), Some(SESSION)));
    rig.look_in(1);
    assert_eq!(rig.answer(id, Answer::Written), [Effect::OpenCopies]);
    assert!(rig.agent.speaks());
}

#[test]
fn another_leader_waits_for_the_preferred_one() {
    let mut rig = Rig::new(false);
    rig.show_local();
    assert_eq!(rig.wake(), []);
    rig.look_in(1_999);
    assert_eq!(rig.wake(), []);
    rig.look_in(1);
    assert!(matches!(only(&rig.wake()).1, Call::Campaign { claim: Claim::Elect, .. }));
}

#[test]
fn a_leader_that_lost_its_lock_resigns_and_drops_everything() {
    let mut rig = Rig::settled();
    rig.sight.holds_lock = false;
    rig.look_in(5);
    let effects = rig.wake();
    let (id, call) = only(&effects);
    let key = AgentKey { name: name(), session: SESSION };
    assert!(matches!(call, Call::Campaign { claim: Claim::Resign, key: k, .. } if *k == key));
    assert_eq!(rig.answer(id, Answer::Written), [Effect::CloseCopies]);
    assert!(!rig.agent.speaks());
}

#[test]
fn a_new_lease_opens_a_new_session() {
    let mut rig = Rig::settled();
    rig.sight.session = Some(Session::of_store(8));
    rig.look_in(5);
    let effects = rig.wake();
    let (id, _) = only(&effects);
    assert_eq!(rig.answer(id, Answer::Written), [Effect::CloseCopies, Effect::OpenCopies]);
}

#[test]
fn a_key_that_could_not_be_written_is_tried_again_and_said() {
    let mut rig = Rig::new(true);
    rig.show_local();
    let effects = rig.wake();
    let (id, _) = only(&effects);
    assert_eq!(rig.answer(id, Answer::Failed("no way".into())), []);
    assert!(rig.logs.last().is_some_and(|line| line.contains("no way")), "{:?}", rig.logs);
    rig.look_in(1_000);
    only(&rig.wake());
}

#[test]
fn a_call_without_an_answer_ends_by_itself() {
    let mut rig = Rig::new(true);
    rig.show_local();
    let effects = rig.wake();
    let (id, _) = only(&effects);
    let patience = STORE_CALL_MS + 1_000;
    assert!(rig.agent.wake_at() <= rig.sight.now + patience);
    rig.look_in(patience - 1);
    assert_eq!(rig.wake(), []);
    rig.look_in(1);
    let effects = rig.wake();
    assert_eq!(effects[0], Effect::End(id));
    assert_ne!(only(&effects).0, id, "and it campaigns again");
    assert_eq!(rig.answer(id, Answer::Written), [], "too late");
}

#[test]
fn an_epoch_is_confirmed_by_reads_and_one_failure_is_said_once() {
    let mut rig = Rig::settled();
    rig.own.topology.verified = None;
    // The mark that was seen alive does not count any more.
    for _ in 0..2 {
        rig.look_in(20_000);
        let effects = rig.wake();
        let (id, call) = only(&effects);
        assert_eq!(*call, Call::Read("b".into()));
        assert_eq!(rig.answer(id, Answer::Failed("cut".into())), []);
        rig.look_in(10);
        assert_eq!(rig.wake(), [], "the next read waits a second");
    }
    assert_eq!(rig.logs.iter().filter(|line| line.contains("unread: b")).count(), 1);
    rig.look_in(1_000);
    let effects = rig.wake();
    let (id, _) = only(&effects);
    let effects = rig.answer(id, Answer::Read(Arc::new(rig.other.clone())));
    assert_eq!(*written(only(&effects).1), AgentWrite::Verify(1));
}

#[test]
fn a_turn_waits_for_one_write_before_the_next() {
    let mut rig = Rig::settled();
    rig.own.topology.peers.clear();
    rig.own.topology.policy = None;
    rig.look_in(5);
    let effects = rig.wake();
    let (id, call) = only(&effects);
    assert!(matches!(written(call), AgentWrite::Peer(_)));
    rig.look_in(5);
    assert_eq!(rig.wake(), [], "the turn waits");
    rig.own.topology.peers.insert("b".into(), observed_region(&"b".into(), &rig.other));
    rig.look_in(5);
    let effects = rig.answer(id, Answer::Written);
    let (id, call) = only(&effects);
    assert!(matches!(written(call), AgentWrite::Policy(_)));
    let effects = rig.answer(id, Answer::Conflict);
    assert_eq!(*only(&effects).1, Call::Read("a".into()));
}

#[test]
fn a_store_that_lacks_the_certificate_is_given_it() {
    let mut rig = Rig::settled();
    rig.other.topology.register = None;
    rig.look_in(5);
    let effects = rig.wake();
    assert!(matches!(written(only(&effects).1), AgentWrite::Adopt { .. }));
    rig.look_in(500);
    assert_eq!(rig.wake(), [], "not again within a second");
}

#[test]
fn a_move_that_was_asked_for_is_examined_on_fresh_reads() {
    let mut rig = Rig::moving(Phase::Preflight);
    rig.look_in(5);
    let effects = rig.wake();
    let reads: Vec<CallId> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Call { id, call: Call::Read(_), .. } => Some(*id),
            _ => None,
        })
        .collect();
    assert_eq!(reads.len(), 2, "{effects:?}");
    assert_eq!(rig.answer(reads[0], Answer::Read(Arc::new(rig.own.clone()))), []);
    let effects = rig.answer(reads[1], Answer::Failed("it is silent".into()));
    let (_, call) = only(&effects);
    let AgentWrite::Journal(journal) = written(call) else { panic!("no journal") };
    assert_eq!(journal.phase, Phase::Aborted);
    assert!(journal.error.as_ref().is_some_and(|why| why.contains("it is silent")));
}

#[test]
fn a_hold_ends_when_the_move_is_given_up() {
    let mut rig = Rig::moving(Phase::Hold);
    rig.look_in(5);
    let effects = rig.wake();
    let (hold, call) = only(&effects);
    assert!(matches!(call, Call::Hold { targets, limit_ms: 50_000 } if targets.len() == 1));
    let effects = rig.answer(hold, Answer::Done);
    let (id, call) = only(&effects);
    assert_eq!(phase_of(call), Phase::Stop);
    // An abort of another client came first.
    if let Some(switch) = &mut rig.own.topology.switch {
        switch.value.phase = Phase::Aborted;
    }
    let effects = rig.answer(id, Answer::Conflict);
    let (id, call) = only(&effects);
    assert_eq!(*call, Call::Read("a".into()));
    rig.look_in(5);
    let effects = rig.answer(id, Answer::Read(Arc::new(rig.own.clone())));
    assert!(effects.contains(&Effect::End(hold)), "{effects:?}");
}

/// A worker that runs on could decide a transaction of a coordinator that has signed.
#[test]
fn a_hold_lasts_until_the_last_group_has_signed() {
    let mut rig = Rig::moving(Phase::Hold);
    rig.look_in(5);
    let (hold, _) = only_call(&rig.wake());
    let (id, call) = only_call(&rig.answer(hold, Answer::Done));
    assert_eq!(phase_of(&call), Phase::Stop);
    rig.own.topology.switch.as_mut().expect("a move").value.phase = Phase::Stop;
    rig.look_in(5);
    let effects = rig.answer(id, Answer::Written);
    assert!(!effects.contains(&Effect::End(hold)), "the group has not signed: {effects:?}");

    let id = rig.own.topology.journal().expect("a move").id.clone();
    rig.own.topology.tokens.insert(Group::PLAIN, SignedToken { id, token: token() });
    rig.look_in(5);
    assert!(rig.wake().contains(&Effect::End(hold)));
}

/// The driver before it wrote the time of its own wall clock into the journal.
#[test]
fn a_step_is_late_by_the_drivers_own_clock() {
    for behind_ms in [0, 3_600_000] {
        let mut rig = Rig::moving(Phase::Hold);
        rig.sight.unix_ms += behind_ms;
        rig.look_in(5);
        assert!(matches!(only_call(&rig.wake()).1, Call::Hold { .. }), "{behind_ms} ms apart");
        rig.sight.unix_ms = 0;
        rig.look_in(20_001);
        rig.heard = rig.sight.now;
        let effects = rig.wake();
        let aborted = effects.iter().any(|effect| match effect {
            Effect::Call { call: call @ Call::Write(_), .. } => phase_of(call) == Phase::Aborted,
            _ => false,
        });
        assert!(aborted, "{effects:?}");
    }
}

/// It counts from the hold on, over all steps before the decision.
#[test]
fn a_move_that_holds_writes_for_longer_than_its_operator_allows_is_given_up() {
    let mut rig = Rig::moving(Phase::Hold);
    rig.own.topology.switch.as_mut().expect("a move").value.limits.pause_seconds_max = Some(3);
    rig.look_in(5);
    let (hold, _) = only_call(&rig.wake());
    let (id, call) = only_call(&rig.answer(hold, Answer::Done));
    assert_eq!(phase_of(&call), Phase::Stop);
    rig.own.topology.switch.as_mut().expect("a move").value.phase = Phase::Stop;
    rig.look_in(1_000);
    rig.answer(id, Answer::Written);
    let abort = |rig: &mut Rig, ms: u64| {
        rig.heard = rig.sight.now + ms;
        rig.look_in(ms);
        rig.wake().iter().any(|effect| match effect {
            Effect::Call { call: call @ Call::Write(_), .. } => phase_of(call) == Phase::Aborted,
            _ => false,
        })
    };
    assert!(!abort(&mut rig, 2_000), "three seconds");
    assert!(abort(&mut rig, 1));
}

/// The stop would take as long, with all writes held back; and a long one is waited for.
#[test]
fn a_checkpoint_may_take_long_and_one_that_fails_ends_the_move_before_anything_stops() {
    let mut rig = Rig::moving(Phase::Warm);
    rig.look_in(5);
    let checkpoints: Vec<CallId> = rig
        .wake()
        .iter()
        .filter_map(|effect| match effect {
            Effect::Call { id, call: Call::Checkpoint(_), within_ms } => {
                assert_eq!(*within_ms, 300_000);
                Some(*id)
            }
            _ => None,
        })
        .collect();
    assert_eq!(checkpoints.len(), 2, "on both sides");
    rig.heard = rig.sight.now + 100_000;
    rig.look_in(100_000);
    assert_eq!(rig.wake(), [], "it is not late");
    let effects = rig.answer(checkpoints[0], Answer::Failed("no room".into()));
    let (_, call) = only_call(&effects);
    let AgentWrite::Journal(journal) = written(&call) else { panic!("no journal") };
    assert_eq!(journal.phase, Phase::Aborted);
    assert!(journal.error.as_ref().is_some_and(|why| why.contains("no room")));
}

fn only_call(effects: &[Effect]) -> (CallId, Call) {
    let (id, call) = only(effects);
    (id, call.clone())
}

#[test]
fn a_write_that_fails_is_tried_again_later_and_later() {
    let mut rig = Rig::moving(Phase::Requested);
    rig.look_in(5);
    let mut effects = rig.wake();
    for pause in [50, 100, 200] {
        let (id, call) = only(&effects);
        assert_eq!(phase_of(call), Phase::Preflight);
        let changes = rig.sight.changes;
        assert_eq!(rig.answer(id, Answer::Failed("cut".into())), []);
        rig.look_in(pause - 1);
        rig.sight.changes = changes;
        assert_eq!(rig.wake(), []);
        rig.look_in(1);
        rig.sight.changes = changes;
        effects = rig.wake();
    }
    only(&effects);
}

/// A move whose old side has signed: the receipt of the only group is asked for.
fn signed() -> (Rig, CallId) {
    let mut rig = Rig::moving(Phase::CatchUp);
    for site in [&mut rig.own, &mut rig.other] {
        let switch = site.topology.switch.as_mut().expect("a move");
        switch.value.tokens.insert(Group::PLAIN, token());
    }
    rig.heard = rig.sight.now;
    rig.look_in(5);
    let effects = rig.wake();
    let find = |wanted: fn(&Call) -> bool| {
        effects.iter().find_map(|effect| match effect {
            Effect::Call { id, call, .. } if wanted(call) => Some(*id),
            _ => None,
        })
    };
    let receipt = find(|call| matches!(call, Call::Replayed(_))).expect("a receipt is asked for");
    let listen = find(|call| matches!(call, Call::Read(_)));
    let listen = listen.expect("what was heard before the signature does not count");
    rig.look_in(1);
    let effects = rig.answer(listen, Answer::Failed("cut".into()));
    assert_eq!(effects, []);
    (rig, receipt)
}

fn replayed(lsn: u64) -> Answer {
    let system_id = SystemId(SYSTEM.into());
    Answer::Replayed(Replayed { system_id, timeline: Some(Timeline(1)), lsn: Lsn(lsn) })
}

#[test]
fn a_standby_without_a_receipt_is_asked_soon_and_woken() {
    let (mut rig, mut receipt) = signed();
    let changes = rig.sight.changes;
    for _ in 0..4 {
        assert_eq!(rig.answer(receipt, replayed(9)), []);
        rig.heard = rig.sight.now + 9;
        rig.look_in(10);
        rig.sight.changes = changes;
        let effects = rig.wake();
        let asked = effects.iter().find_map(|effect| match effect {
            Effect::Call { id, call: Call::Replayed(_), .. } => Some(*id),
            _ => None,
        });
        receipt = asked.expect("asked again after 10 ms");
    }
    let effects = rig.answer(receipt, replayed(9));
    assert!(matches!(only(&effects).1, Call::WakeReplay(_)));
}

#[test]
fn nothing_is_decided_before_the_new_owners_store_answers() {
    let (mut rig, receipt) = signed();
    assert_eq!(rig.answer(receipt, replayed(51)), [], "its store is silent");
    assert_eq!(rig.agent.wake_at(), rig.sight.now + 10, "it is read again soon");
    rig.look_in(10);
    let effects = rig.wake();
    let (id, call) = only(&effects);
    assert_eq!(*call, Call::Read("b".into()));
    rig.heard = rig.sight.now;
    rig.look_in(1);
    let effects = rig.answer(id, Answer::Read(Arc::new(rig.other.clone())));
    assert!(matches!(written(only(&effects).1), AgentWrite::Commit { .. }));
}

#[test]
fn the_answers_to_an_earlier_session_are_ignored() {
    let mut rig = Rig::moving(Phase::Requested);
    rig.look_in(5);
    let effects = rig.wake();
    let (id, _) = only(&effects);
    rig.sight.local = None;
    rig.sight.changes += 1;
    assert_eq!(rig.wake(), [Effect::CloseCopies]);
    assert_eq!(rig.answer(id, Answer::Written), []);
}

#[path = "scheduler_tests.rs"]
mod scheduling;
