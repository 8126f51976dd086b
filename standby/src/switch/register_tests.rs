//! Steps about votes and certificates, on values alone.

use super::*;
use crate::made_up_move;
use proptest::prelude::*;
use topology::Versioned;
use topology::region::{Journal, Phase};

pub(crate) fn certificate(epoch: u64, owner: &str) -> Certificate {
    let kind = if epoch == 1 { CertificateKind::Initial } else { CertificateKind::Planned };
    let at = String::new();
    Certificate { epoch, ballot: epoch, kind, ..first(&policy(2), &owner.into(), &at) }
}

pub(crate) fn journal(epoch: u64, from: &str, to: &str, phase: Phase) -> Versioned<Journal> {
    let (from, to, groups) = (from.into(), to.into(), vec![Group::PLAIN]);
    let value =
        Journal { id: "move".into(), from, to, epoch, groups, ..made_up_move::journal(phase) };
    Versioned { value, version: Version::of_store(5), session: None }
}

pub(crate) fn local_with(certificate: Certificate) -> LocalTopology {
    let register = Register { promised: 1, accepted: Some(certificate.clone()) };
    LocalTopology {
        policy: Some(versioned(policy(2))),
        register: Some(versioned(register)),
        acceptor: Some(versioned(acceptor(&certificate))),
        certificate: Some(versioned(certificate)),
        ..LocalTopology::default()
    }
}

/// Beside the vote for this certificate, at both sites.
fn acceptor(certificate: &Certificate) -> Acceptor {
    let mut acceptor = Acceptor::first("f", Some(certificate.clone()));
    let position = acceptor.position();
    acceptor.knows = ["a", "b"].map(|name| (name.into(), position.clone())).into();
    acceptor
}

pub(crate) fn policy(regions: usize) -> Policy {
    let names = ["a", "b", "c", "d"];
    let regions = names[..regions]
        .iter()
        .map(|name| format!(r#"{{"name":"{name}","endpoints":["{name}:1"]}}"#));
    let regions = regions.collect::<Vec<_>>().join(",");
    serde_json::from_str(&format!(r#"{{"formation":"f","regions":[{regions}]}}"#))
        .expect("a policy")
}

fn versioned<T>(value: T) -> Versioned<T> {
    Versioned { value, version: Version::of_store(2), session: None }
}

fn bare() -> LocalTopology {
    LocalTopology { policy: Some(versioned(policy(2))), ..LocalTopology::default() }
}

type Sites = BTreeMap<RegionName, Seen<LocalTopology>>;

fn site(name: &str, seen: Seen<LocalTopology>) -> Sites {
    [(RegionName::new(name), seen)].into()
}

struct Case {
    me: &'static str,
    local: LocalTopology,
    others: Sites,
    asked: Option<Sites>,
    mark: Option<u64>,
    memory: Option<Acceptor>,
}

fn step(case: &Case) -> AgentStep {
    agent_step(&AgentFacts {
        me: &case.me.into(),
        settings: &policy(2),
        local: &case.local,
        others: &case.others,
        asked: case.asked.as_ref(),
        mark: case.mark,
        memory: case.memory.as_ref(),
        session: Session::of_store(7),
        at: "now",
    })
}

fn fresh(local: LocalTopology) -> Case {
    let others = site("b", Seen::Known(bare()));
    Case { me: "a", local, others, asked: None, mark: None, memory: None }
}

#[test]
fn the_first_certificate_needs_every_site_read_and_empty() {
    assert_eq!(step(&fresh(LocalTopology::default())), AgentStep::WritePolicy);
    let mut case = fresh(bare());
    assert_eq!(step(&case), AgentStep::AskOthers, "a watch does not prove absence");
    case.asked = Some(site("b", Seen::Unknown));
    assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("unread: b")));
    case.asked = Some(BTreeMap::new());
    assert!(matches!(step(&case), AgentStep::Blocked(_)));
    let mut garbled = bare();
    garbled.take_sample("register", "?", 3, 0);
    case.asked = Some(site("b", Seen::Known(garbled)));
    assert!(matches!(step(&case), AgentStep::Blocked(_)));
    case.asked = Some(site("b", Seen::Known(LocalTopology::default())));
    assert_eq!(step(&case), AgentStep::SharePolicy("b".into()));
    case.asked = Some(site("b", Seen::Known(bare())));
    let AgentStep::CreateFirst(first) = step(&case) else { panic!("{:?}", step(&case)) };
    assert_eq!((first.epoch, first.owner.as_str()), (1, "a"));
}

#[test]
fn the_first_certificate_is_never_written_by_another_region_or_against_a_policy() {
    let mut case = fresh(bare());
    let mut other = bare();
    other.policy.as_mut().unwrap().value.step_seconds = 99;
    case.asked = Some(site("b", Seen::Known(other)));
    assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("policy")));
    let mut same = bare();
    same.policy.as_mut().unwrap().value.regions[1].endpoints = vec!["elsewhere:1".into()];
    case.asked = Some(site("b", Seen::Known(same)));
    assert!(matches!(step(&case), AgentStep::CreateFirst(_)), "ways to a store may differ");
    case.me = "b";
    assert_eq!(step(&case), AgentStep::Settled);
    case.me = "z";
    assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("region z")));
}

#[test]
fn a_higher_epoch_is_adopted_wherever_it_is_seen() {
    let theirs = certificate(3, "b");
    let mut case = fresh(local_with(certificate(2, "a")));
    case.others = site("b", Seen::Known(local_with(theirs.clone())));
    assert_eq!(step(&case), AgentStep::Adopt(Box::new(theirs.clone())));
    case.others = site("b", Seen::Unknown);
    case.asked = Some(site("b", Seen::Known(local_with(theirs.clone()))));
    assert_eq!(step(&case), AgentStep::Adopt(Box::new(theirs)));
}

#[test]
fn a_damaged_certificate_is_restored_from_the_own_vote() {
    let mut case = fresh(local_with(certificate(2, "a")));
    case.local.certificate = None;
    assert_eq!(step(&case), AgentStep::Adopt(Box::new(certificate(2, "a"))));
    case.local.unreadable.insert("register".into(), "?".into());
    assert!(matches!(step(&case), AgentStep::Blocked(_)));
}

#[test]
fn two_certificates_of_one_epoch_block() {
    let mut case = fresh(local_with(certificate(2, "a")));
    case.others = site("b", Seen::Known(local_with(certificate(2, "b"))));
    assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("two different")));
}

#[test]
fn after_a_cold_start_the_other_register_is_read_before_the_mark() {
    let mut case = fresh(local_with(certificate(2, "a")));
    case.others = site("b", Seen::Known(local_with(certificate(2, "a"))));
    assert_eq!(step(&case), AgentStep::AskOthers);
    case.asked = Some(site("b", Seen::Unknown));
    assert!(matches!(step(&case), AgentStep::Blocked(why) if why.contains("unread: b")));
    case.asked = Some(site("b", Seen::Known(local_with(certificate(2, "a")))));
    assert_eq!(step(&case), AgentStep::Verify(2));
    case.local.take_sample("verified", r#"{"epoch":2}"#, 9, 7);
    assert_eq!(step(&case), AgentStep::Settled);
}

/// The mark opens the region, so it comes first.
#[test]
fn a_vote_of_an_older_program_gets_an_acceptor_beside_it() {
    let mut case = fresh(local_with(certificate(1, "a")));
    case.local.acceptor = None;
    case.others = site("b", Seen::Known(case.local.clone()));
    case.mark = Some(1);
    assert_eq!(step(&case), AgentStep::Verify(1));
    case.local.take_sample("verified", r#"{"epoch":1}"#, 9, 7);
    let AgentStep::Record(written) = step(&case) else { panic!("{:?}", step(&case)) };
    assert_eq!((written.epoch(), written.in_force), (1, false));
    case.local.acceptor = Some(versioned(*written));
    assert_eq!(step(&case), AgentStep::Settled);
    // One that cannot be read hinders nothing, and is written anew.
    case.local.acceptor = None;
    case.local.take_sample("acceptor", "?", 9, 0);
    assert!(matches!(step(&case), AgentStep::Record(_)));
}

/// Each takes note of the other, and that changes nothing that the other notes.
#[test]
fn two_agents_do_not_wake_each_other_for_ever() {
    let mut sides = ["a", "b"].map(|me| {
        let mut local = local_with(certificate(1, "a"));
        local.acceptor = None;
        local.take_sample("verified", r#"{"epoch":1}"#, 9, 7);
        Case { me, ..fresh(local) }
    });
    for round in 0..6 {
        let (own, other) = (round % 2, 1 - round % 2);
        let seen = sides[other].local.clone();
        sides[own].others = site(sides[other].me, Seen::Known(seen));
        match step(&sides[own]) {
            AgentStep::Record(written) if round < 4 => {
                sides[own].local.acceptor = Some(versioned(*written));
            }
            step => assert_eq!((round > 2, step), (true, AgentStep::Settled), "{round}"),
        }
    }
    let knows = |side: &Case| side.local.acceptor.as_ref().expect("written").value.knows.len();
    assert_eq!(sides.each_ref().map(knows), [1, 1]);
}

/// The other site has seen this one at an epoch that its store forgot.
#[test]
fn a_store_that_was_emptied_and_filled_again_is_blank() {
    let mut case = fresh(local_with(certificate(2, "a")));
    case.local.take_sample("verified", r#"{"epoch":2}"#, 9, 7);
    case.others = site("b", Seen::Known(local_with(certificate(2, "a"))));
    case.local.acceptor = None;
    let AgentStep::Record(written) = step(&case) else { panic!("{:?}", step(&case)) };
    assert_eq!((written.life, written.blank_through), (2, 4));
}

/// The register has accepted the next certificate, this host has seen it, and the acceptor beside it
/// is not written yet.
#[test]
fn a_host_that_saw_the_register_first_takes_its_store_for_no_emptied_one() {
    let mut case = fresh(local_with(certificate(2, "a")));
    case.local.take_sample("verified", r#"{"epoch":2}"#, 9, 7);
    let old = acceptor(&certificate(1, "b"));
    let mut other = local_with(certificate(2, "a"));
    other.acceptor = Some(versioned(old.clone()));
    case.others = site("b", Seen::Known(other));
    case.memory = Some(old.after(certificate(2, "a")));
    case.local.acceptor = Some(versioned(old));
    let AgentStep::Record(written) = step(&case) else { panic!("{:?}", step(&case)) };
    assert_eq!((written.life, written.epoch(), written.is_blank()), (1, 2, false));
}

#[test]
fn a_mark_seen_alive_is_carried_over_without_asking() {
    let mut case = fresh(local_with(certificate(2, "a")));
    case.others = site("b", Seen::Unknown);
    case.mark = Some(2);
    assert_eq!(step(&case), AgentStep::Verify(2));
    case.local.take_sample("verified", r#"{"epoch":2}"#, 9, 6);
    assert_eq!(step(&case), AgentStep::Verify(2), "it hangs on another agent's lease");
    case.mark = Some(3);
    assert_eq!(step(&case), AgentStep::AskOthers, "the store went back");
}

#[test]
fn with_three_regions_a_majority_confirms() {
    let mut local = local_with(certificate(2, "a"));
    local.policy.as_mut().unwrap().value = policy(3);
    let mut case = fresh(local.clone());
    let mut asked = site("b", Seen::Known(local));
    asked.insert("c".into(), Seen::Unknown);
    case.asked = Some(asked);
    assert_eq!(step(&case), AgentStep::Verify(2));
    case.asked = Some(site("b", Seen::Unknown));
    assert!(matches!(step(&case), AgentStep::Blocked(_)));
}

fn blocked(case: &Case) -> String {
    match step(case) {
        AgentStep::Blocked(why) | AgentStep::Behind(why) => why,
        other => panic!("{other:?}"),
    }
}

fn remembers(epoch: u64, owner: &str) -> Option<Acceptor> {
    Some(Acceptor::first("f", Some(certificate(epoch, owner))))
}

#[test]
fn no_first_certificate_while_this_host_remembers_an_epoch() {
    let mut case = fresh(bare());
    case.asked = Some(site("b", Seen::Known(bare())));
    assert!(matches!(step(&case), AgentStep::CreateFirst(_)));
    case.memory = remembers(2, "b");
    assert!(blocked(&case).contains("remembers epoch 2, in which region b owns"));
    assert!(blocked(&case).contains("holds no vote"));
    // Another region's store brings it back.
    let theirs = certificate(2, "b");
    case.others = site("b", Seen::Known(local_with(theirs.clone())));
    assert_eq!(step(&case), AgentStep::Adopt(Box::new(theirs)));
}

#[test]
fn nothing_is_confirmed_in_a_store_that_went_back() {
    let mut case = fresh(local_with(certificate(1, "a")));
    case.others = site("b", Seen::Unknown);
    case.mark = Some(1);
    assert_eq!(step(&case), AgentStep::Verify(1));
    case.memory = remembers(2, "b");
    assert!(blocked(&case).contains("holds epoch 1"));
    case.memory = remembers(1, "a");
    assert_eq!(step(&case), AgentStep::Verify(1));
}

fn of_three(certificate: Certificate) -> LocalTopology {
    let mut local = local_with(certificate);
    local.policy.as_mut().expect("a policy").value = policy(3);
    local
}

fn emptied() -> LocalTopology {
    LocalTopology { policy: Some(versioned(policy(3))), ..LocalTopology::default() }
}

#[test]
fn an_empty_store_is_no_answer() {
    let mut case = fresh(of_three(certificate(2, "a")));
    case.asked = Some(site("b", Seen::Known(emptied())));
    assert!(blocked(&case).contains("2 of 3 registers must be read, 1 can be; unread: b, c"));
    // After the first certificate it never had a vote: the formation need not wait for it.
    case.local = of_three(certificate(1, "a"));
    case.local.acceptor.as_mut().expect("one").value.knows.clear();
    assert_eq!(step(&case), AgentStep::Verify(1));
    case.local = of_three(certificate(1, "a"));
    assert!(blocked(&case).contains("unread: b, c"), "it was seen with a vote");
}

#[test]
fn a_store_that_was_emptied_and_filled_again_hides() {
    let mut case = fresh(of_three(certificate(2, "a")));
    let mut filled = of_three(certificate(2, "a"));
    filled.acceptor = None;
    case.asked = Some(site("b", Seen::Known(filled.clone())));
    assert!(blocked(&case).contains("unread: c; lost its data"));
    let whole = Seen::Known(of_three(certificate(2, "a")));
    case.asked.as_mut().expect("asked").insert("c".into(), whole);
    assert_eq!(step(&case), AgentStep::Verify(2));
    // Of two regions, the own store knows all that was decided without the other one.
    let mut two = fresh(local_with(certificate(2, "a")));
    filled.policy = Some(versioned(policy(2)));
    two.asked = Some(site("b", Seen::Known(filled)));
    assert_eq!(step(&two), AgentStep::Verify(2));
}

#[test]
fn a_process_that_slept_forgets_what_its_copy_still_shows() {
    let mut local = local_with(certificate(2, "a"));
    local.take_sample("verified", r#"{"epoch":2}"#, 9, 7);
    let mut memory = MarkMemory::default();
    memory.look(&local, Version::of_store(10), Millis(1000), 30_000);
    assert_eq!(memory.alive(Millis(2000), 30_000), Some(2));
    memory.look(&local, Version::of_store(10), Millis(60_000), 30_000);
    memory.look(&local, Version::of_store(10), Millis(61_000), 30_000);
    assert_eq!(memory.alive(Millis(61_000), 30_000), None);
    local.take_sample("verified", r#"{"epoch":2}"#, 12, 8);
    memory.look(&local, Version::of_store(12), Millis(62_000), 30_000);
    assert_eq!(memory.alive(Millis(62_000), 30_000), Some(2));
    local.verified = None;
    memory.look(&local, Version::of_store(13), Millis(80_000), 30_000);
    assert_eq!(memory.alive(Millis(80_000), 30_000), Some(2));
    assert_eq!(memory.alive(Millis(92_000), 30_000), None);
}

#[test]
fn a_move_ends_with_a_certificate_that_follows_the_one_in_force() {
    let old = certificate(2, "a");
    let register = Register { promised: 9, accepted: Some(old.clone()) };
    let new = successor(&register, &old, &"b".into(), &BTreeMap::new(), "now");
    assert_eq!((new.epoch, new.ballot, new.owner.as_str()), (3, 10, "b"));
    assert_eq!(new.previous_hash, old.hash());
    assert_eq!(accept(Some(&register), &new).map(|r| r.promised), Some(10));
}

proptest! {
    #[test]
    fn votes_only_rise(old in 0u64..5, new in 1u64..5) {
        let register = (old > 0).then(|| Register {
            promised: old,
            accepted: Some(certificate(old, "a")),
        });
        let after = accept(register.as_ref(), &certificate(new, "b"));
        prop_assert_eq!(after.is_some(), new > old);
    }
}

/// Its agent reads the other stores; one that is silent leaves it as it is.
#[test]
fn a_store_that_was_filled_again_hides_nothing_once_its_agent_has_read_all_others() {
    let mut case = fresh(of_three(certificate(2, "a")));
    case.local.take_sample("verified", r#"{"epoch":2}"#, 9, 7);
    assert_eq!(step(&case), AgentStep::Settled);
    case.local.acceptor.as_mut().expect("one").value.blank_through = 4;
    assert_eq!(step(&case), AgentStep::AskOthers);
    let whole = || Seen::Known(of_three(certificate(2, "a")));
    case.asked = Some([("b".into(), whole()), ("c".into(), Seen::Unknown)].into());
    assert_eq!(step(&case), AgentStep::Settled);
    case.asked = Some([("b".into(), whole()), ("c".into(), Seen::Known(emptied()))].into());
    assert_eq!(step(&case), AgentStep::Settled, "c may have held a vote");
    case.asked = Some([("b".into(), whole()), ("c".into(), whole())].into());
    let AgentStep::Record(written) = step(&case) else { panic!("{:?}", step(&case)) };
    assert!(!written.is_blank());
    // Before the mark as well: what was read counts for one step.
    case.local.verified = None;
    assert!(matches!(step(&case), AgentStep::Record(_)));
    case.local.acceptor.as_mut().expect("one").value = *written;
    assert_eq!(step(&case), AgentStep::Verify(2));
}
