//! The writes of regions in a store: what it takes, and which of them exclude each other.

use super::ownership::read;
use crate::dcs::by_hand::Edit;
use crate::dcs::keys::Keys;
use crate::dcs::memory::MemoryStore;
use crate::made_up_move::journal;
use standby::agreement::legacy::beside;
use standby::switch::LocalTopology;
use standby::switch::effect::AgentKey;
use standby::switch::register::{first, successor};
use standby::switch::write::*;
use topology::Write;
use topology::region::{Journal, Phase, Policy, Token};
use topology::schedule::{Outcome, Schedule};
use topology::write::RegionWrite;
use topology::{Group, Lsn, SystemId, Timeline};

fn keys() -> Keys {
    Keys::new("/service/", "s", Group::PLAIN)
}

fn policy_ab() -> Policy {
    let text = r#"{"formation":"s","regions":[
        {"name":"a","endpoints":["a:1"]},{"name":"b","endpoints":["b:1"]}]}"#;
    serde_json::from_str(text).expect("a policy")
}

fn look(store: &MemoryStore) -> LocalTopology {
    read(&keys(), &store.read_now(&[keys().scope_prefix()]).expect("read").entries)
}

fn send(store: &MemoryStore, write: &Write) -> bool {
    store.write_now(&keys(), write).expect("answer").succeeded
}

fn owned() -> MemoryStore {
    let store = MemoryStore::new();
    let certificate = first(&policy_ab(), &"a".into(), "now");
    let local = look(&store);
    assert!(send(&store, &create_first(&local, &certificate).expect("new")));
    store
}

#[test]
fn two_firsts_of_one_store_exclude_each_other() {
    let store = MemoryStore::new();
    let empty = look(&store);
    let of = |owner: &str| {
        create_first(&empty, &first(&policy_ab(), &owner.into(), "now")).expect("new")
    };
    assert!(send(&store, &of("a")) && !send(&store, &of("b")));
    assert_eq!(look(&store).certificate().map(|c| c.owner.as_str()), Some("a"));
}

#[test]
fn commit_and_abort_exclude_each_other() {
    for commit_first in [true, false] {
        let store = owned();
        let local = look(&store);
        assert!(send(&store, &write_journal(&local, &journal(Phase::CatchUp))));
        let seen = look(&store);
        let decide = commit(&seen, 5, "a/n1", "now").expect("ready");
        let mut aborted = journal(Phase::Aborted);
        aborted.error = Some("late".into());
        let abort = write_journal(&seen, &aborted);
        let order = if commit_first { [&decide, &abort] } else { [&abort, &decide] };
        assert!(send(&store, order[0]) && !send(&store, order[1]));
        let after = look(&store);
        assert_eq!(after.accepted_epoch(), if commit_first { 2 } else { 1 });
        assert_eq!(after.history.is_some(), !commit_first);
    }
}

/// The journal that carries it is the one that the decision compares.
#[test]
fn a_request_to_abort_and_a_commit_exclude_each_other() {
    for request_first in [true, false] {
        let store = owned();
        assert!(send(&store, &write_journal(&look(&store), &journal(Phase::CatchUp))));
        let seen = look(&store);
        let decide = commit(&seen, 5, "a/n1", "now").expect("ready");
        let request = topology::region::AbortRequest { host: "desk".into(), at_ms: 5 };
        let asked = Journal { abort: Some(request), ..journal(Phase::CatchUp) };
        let ask = write_journal(&seen, &asked);
        let order = if request_first { [&ask, &decide] } else { [&decide, &ask] };
        assert!(send(&store, order[0]) && !send(&store, order[1]));
        assert_eq!(commit(&look(&store), 5, "a/n1", "now"), None);
    }
}

/// Two agents, or one whose clock was set back, begin an occurrence once.
#[test]
fn a_schedule_and_the_request_of_its_move_are_one_write() {
    let store = owned();
    let schedule = Schedule::once("s", "a".into(), "b".into(), 5);
    assert!(send(&store, &put_schedule(&look(&store), &schedule, None)));
    let seen = look(&store);
    let begin = || {
        let (outcome, journal) = (Outcome::Started("m".into()), journal(Phase::Requested));
        conclude(&seen, "s", &outcome, Some(&journal), 6).expect("pending")
    };
    assert!(send(&store, &begin()) && !send(&store, &begin()));
    let after = look(&store);
    assert_eq!(after.journal().map(|journal| journal.phase), Some(Phase::Requested));
    assert!(!after.schedules["s"].is_pending());
    assert_eq!(conclude(&after, "s", &Outcome::Started("m".into()), None, 7), None);
}

#[test]
fn a_delivery_confirms_the_epoch_only_on_a_living_agents_lease() {
    let store = owned();
    let old = look(&store).certificate().cloned().expect("owned");
    let register = topology::region::Register { promised: 1, accepted: Some(old.clone()) };
    let next = successor(&register, &old, &"b".into(), &Default::default(), "now");
    let lease = store.grant_now(std::time::Duration::from_secs(30)).expect("lease");
    let agent_key = AgentKey { name: "b/n1".into(), session: lease };
    assert!(send(&store, &elect(&look(&store), &agent_key)));
    let open = journal(Phase::Open);
    let marks = |local: &LocalTopology| match deliver(local, &next, &open).expect("new to it") {
        Write::Region(RegionWrite::Accept(acceptance)) => acceptance.mark.is_some(),
        other => panic!("{other:?}"),
    };
    assert!(!marks(&look(&store)), "no agent confirmed the epoch before");
    assert!(send(&store, &verify(&look(&store), 1, &agent_key)));
    let seen = look(&store);
    assert!(marks(&seen));
    assert!(send(&store, &resign(&agent_key)));
    let late = deliver(&seen, &next, &open).expect("new to it");
    assert!(!send(&store, &late), "the agent is gone");
    assert_eq!(look(&store).accepted_epoch(), 1);
}

#[test]
fn a_vote_is_never_lowered_but_a_damaged_certificate_is_restored() {
    let store = owned();
    let local = look(&store);
    let mine = local.certificate().cloned().expect("owned");
    assert_eq!(adopt(&local, &mine, None), None);
    let other = first(&policy_ab(), &"b".into(), "now");
    assert_eq!(adopt(&local, &other, None), None);
    store.edit_now([Edit::put(keys().topology("certificate"), "?")]).expect("answer");
    let repair = adopt(&look(&store), &mine, None).expect("a repair");
    assert!(send(&store, &repair));
    assert_eq!(look(&store).certificate(), Some(&mine));
}

#[test]
fn only_one_daemon_is_the_agent() {
    let store = MemoryStore::new();
    let lease = store.grant_now(std::time::Duration::from_secs(30)).expect("lease");
    let agent_key = |name: &str| AgentKey { name: name.into(), session: lease };
    let empty = look(&store);
    assert!(send(&store, &elect(&empty, &agent_key("a/n1"))));
    assert!(!send(&store, &elect(&empty, &agent_key("a/n2"))));
    assert!(send(&store, &elect(&look(&store), &agent_key("a/n1"))), "a new lease");
    assert!(!send(&store, &resign(&agent_key("a/n2"))));
    assert!(send(&store, &resign(&agent_key("a/n1"))));
}

fn token() -> Token {
    let system_id = SystemId("7710375988543033523".into());
    Token { system_id, timeline: Timeline(1), lsn: Lsn(7) }
}

/// An aborted move was asked for on a host whose wall clock is ahead.
#[test]
fn a_certificate_always_brings_its_journal() {
    let store = owned();
    let local = look(&store);
    let steps = vec![topology::region::StepRecord { phase: Phase::Requested, at_ms: u64::MAX }];
    let aborted = Journal { id: "earlier".into(), attempt: 9, steps, ..journal(Phase::Aborted) };
    assert!(send(&store, &write_journal(&local, &aborted)));
    let local = look(&store);
    let register = &local.register.as_ref().expect("a vote").value;
    let in_force = local.certificate().expect("one is in force");
    let next = successor(register, in_force, &"b".into(), &Default::default(), "now");
    let write = deliver(&local, &next, &journal(Phase::Open)).expect("it is new here");
    assert!(send(&store, &write));
    assert_eq!(look(&store).journal().map(|j| j.id.clone()), Some("m".to_string()));
}

fn signing(phase: Phase) -> Journal {
    Journal { groups: vec![Group::PLAIN], ..journal(phase) }
}

#[test]
fn a_signature_needs_the_lock_and_the_journal_that_was_read() {
    let store = MemoryStore::new();
    let keys = keys();
    let write =
        |key: String, value: String| store.edit_now([Edit::put(key, value)]).expect("written");
    let text = |phase| serde_json::to_string(&signing(phase)).expect("json");
    write(keys.topology("switch"), text(Phase::Stop));
    let local = look(&store);
    let signed = sign(&local, &"n1".into(), "m", &token()).expect("an order");
    assert!(!send(&store, &signed), "no lock");
    write(keys.leader(), "n1".into());
    assert!(send(&store, &signed));
    write(keys.topology("switch"), text(Phase::Aborted));
    assert!(!send(&store, &signed), "the move is over");
    let local = look(&store);
    assert_eq!(sign(&local, &"n1".into(), "m", &token()), None);
    assert_eq!(local.tokens_of("m").get(&Group::PLAIN), Some(&token()));
}

/// An agent of an older program may decide in between: its vote is followed, and never overtaken.
#[test]
fn an_acceptor_is_written_only_beside_the_vote_that_it_was_made_of() {
    let store = owned();
    let session = store.grant_now(std::time::Duration::from_secs(30)).expect("lease");
    let key = AgentKey { name: "a/n1".into(), session };
    assert!(send(&store, &elect(&look(&store), &key)));
    let acceptor = |local: &LocalTopology| {
        let old = local.acceptor.as_ref().map(|acceptor| &acceptor.value);
        beside(old, None, local.accepted().expect("owned"), "s")
    };
    let seen = look(&store);
    let late = record(&seen, &acceptor(&seen), &key);
    let register = seen.register.as_ref().expect("a vote").value.clone();
    let old = seen.certificate().expect("owned");
    let next = successor(&register, old, &"b".into(), &Default::default(), "now");
    assert!(send(&store, &adopt(&seen, &next, None).expect("new to it")));
    assert!(!send(&store, &late));
    let seen = look(&store);
    let wanted = acceptor(&seen);
    let other = AgentKey { name: "a/n2".into(), session };
    assert!(!send(&store, &record(&seen, &wanted, &other)), "another agent");
    assert!(send(&store, &record(&seen, &wanted, &key)));
    let after = look(&store);
    assert_eq!(after.acceptor.as_ref().map(|there| there.value.clone()), Some(wanted));
    assert_eq!((acceptor(&after).epoch(), after.accepted_epoch()), (2, 2));
}
