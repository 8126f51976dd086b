//! The writes of regions: what is written, and what it is decided on.
//!
//! The daemon and the simulator perform the same ones.
//!
//! Invariant *one decision*: `commit` is the only write that decides a move; `deliver`
//! and `adopt` carry a decision to other stores. `commit` compares the old owner's vote, certificate and journal with what the decision was
//! made on, so an abort and a commit exclude each other.

use super::occurrence;
use standby::switch::LocalTopology;
use standby::switch::effect::{AgentKey, AgentWrite, Claim, StoreWrite};
use standby::switch::local::{comes_with, with_move};
use standby::switch::register::{accept, successor};
use standby::switch::table::advanced;
use topology::region::{Certificate, Journal, PeerRegion, Phase, Policy, SignedToken, Token};
use topology::schedule::{Outcome, Schedule};
use topology::write::{Acceptance, JournalWrite, Mark, RegionWrite, Replacement};
use topology::{MemberName, Write};

/// What an agent writes, on the site that it was decided on. `None`: that site
/// leaves nothing to write.
pub fn of_agent(write: &StoreWrite) -> Option<Write> {
    let (local, key) = (&write.on.topology, &write.key);
    match &write.write {
        AgentWrite::Policy(stored) => Some(policy(stored)),
        AgentWrite::CreateFirst(certificate) => create_first(local, certificate),
        AgentWrite::Adopt { certificate, journal } => adopt(local, certificate, journal.as_ref()),
        AgentWrite::Verify(epoch) => Some(verify(local, *epoch, key)),
        AgentWrite::Peer(peer) => Some(publish_peer(peer, key)),
        AgentWrite::Journal(journal) => Some(write_journal(local, journal)),
        AgentWrite::Schedule(schedule) => Some(put_schedule(local, schedule, None)),
        AgentWrite::RemoveSchedule(id) => {
            let on = local.version(&schedule_key(id))?;
            Some(Write::Region(RegionWrite::RemoveSchedule { id: id.clone(), on }))
        }
        AgentWrite::Conclude { id, outcome, journal, now_ms } => {
            conclude(local, id, outcome, journal.as_deref(), *now_ms)
        }
        AgentWrite::Commit { now_ms, at } => commit(local, *now_ms, &key.name, at),
        AgentWrite::Deliver { certificate, journal } => deliver(local, certificate, journal),
    }
}

/// What changes the agent's key.
pub fn campaign(local: &LocalTopology, key: &AgentKey, claim: Claim) -> Write {
    match claim {
        Claim::Elect => elect(local, key),
        Claim::Resign => resign(key),
    }
}

/// Become the region's agent, or move the own key onto the present lease.
pub fn elect(local: &LocalTopology, key: &AgentKey) -> Write {
    let (agent, session) = (key.name.clone(), key.session);
    Write::Region(match &local.agent {
        Some(there) if there.value == agent => RegionWrite::AdoptAgent { agent, session },
        _ => RegionWrite::ElectAgent { agent, session },
    })
}

/// Gives up being the agent.
pub fn resign(key: &AgentKey) -> Write {
    Write::Region(RegionWrite::ResignAgent { agent: key.name.clone() })
}

/// The policy, where there is none.
pub fn policy(policy: &Policy) -> Write {
    Write::Region(RegionWrite::PutPolicy(Box::new(policy.clone())))
}

/// A certificate accepted by one site: its vote, the certificate in force and,
/// when it comes with a move, the journal. `None`: the site holds it already.
pub fn adopt(
    local: &LocalTopology,
    certificate: &Certificate,
    journal: Option<&Journal>,
) -> Option<Write> {
    let acceptance = acceptance(local, certificate, journal)?;
    Some(Write::Region(RegionWrite::Accept(Box::new(acceptance))))
}

fn acceptance(
    local: &LocalTopology,
    certificate: &Certificate,
    journal: Option<&Journal>,
) -> Option<Acceptance> {
    let vote = accept(local.register.as_ref().map(|r| &r.value), certificate);
    let is_damaged = local.certificate() != Some(certificate);
    let restores = local.accepted() == Some(certificate) && is_damaged;
    if vote.is_none() && !restores {
        return None;
    }
    let journal = journal.filter(|journal| comes_with(certificate, local.journal(), journal));
    Some(Acceptance {
        certificate: on(local, "certificate", certificate.clone()),
        vote,
        register: local.version("register"),
        journal: journal.map(|journal| journal_on(local, journal)),
        mark: None,
    })
}

/// A value in the place of a key below `topology/` as it was read.
fn on<T>(local: &LocalTopology, key: &str, value: T) -> Replacement<T> {
    Replacement { value, on: local.version(key) }
}

/// The first certificate, in a store whose policy is the one it was made for.
pub fn create_first(local: &LocalTopology, certificate: &Certificate) -> Option<Write> {
    let acceptance = Box::new(acceptance(local, certificate, None)?);
    let policy = local.version("policy");
    Some(Write::Region(RegionWrite::CreateFirst { acceptance, policy }))
}

/// The mark that this epoch was confirmed, gone with the agent's lease.
pub fn verify(local: &LocalTopology, epoch: u64, key: &AgentKey) -> Write {
    Write::Region(RegionWrite::Verify {
        agent: key.name.clone(),
        mark: Mark { epoch, session: key.session },
        certificate: local.version("certificate"),
        register: local.version("register"),
    })
}

/// What was seen of another region.
fn publish_peer(peer: &PeerRegion, key: &AgentKey) -> Write {
    let (agent, peer) = (key.name.clone(), Box::new(peer.clone()));
    Write::Region(RegionWrite::PutPeer { agent, peer })
}

/// The next journal; a move that is over also becomes a line of the history.
pub fn write_journal(local: &LocalTopology, journal: &Journal) -> Write {
    Write::Region(RegionWrite::PutJournal(Box::new(journal_on(local, journal))))
}

fn journal_on(local: &LocalTopology, journal: &Journal) -> JournalWrite {
    let past = local.history.as_ref().map_or(&[][..], |h| &h.value);
    let history = journal.phase.is_over().then(|| with_move(past, journal));
    JournalWrite {
        journal: on(local, "switch", journal.clone()),
        history: history.map(|lines| on(local, "history", lines)),
    }
}

fn schedule_key(id: &str) -> String {
    format!("schedule/{id}")
}

/// A schedule in the place of what was read, and with it the request of its move.
pub fn put_schedule(
    local: &LocalTopology,
    schedule: &Schedule,
    journal: Option<&Journal>,
) -> Write {
    let schedule = on(local, &schedule_key(&schedule.id), schedule.clone());
    let journal = journal.map(|journal| Box::new(journal_on(local, journal)));
    Write::Region(RegionWrite::PutSchedule { schedule: Box::new(schedule), journal })
}

/// The end of a schedule's present occurrence. `None`: it is over, or is not there.
pub fn conclude(
    local: &LocalTopology,
    id: &str,
    outcome: &Outcome,
    journal: Option<&Journal>,
    now_ms: u64,
) -> Option<Write> {
    let schedule = local.schedules.get(id).filter(|schedule| schedule.is_pending())?;
    Some(put_schedule(local, &occurrence::concluded(schedule, outcome, now_ms), journal))
}

/// Decides a planned move, in the old owner's store.
///
/// `None`: what was read does not allow it (no vote for the epoch in force, the journal
/// is not in the phase before the decision, or an operator has asked for its end).
pub fn commit(old: &LocalTopology, now_ms: u64, driver: &str, at: &str) -> Option<Write> {
    let (register, in_force) = (&old.register.as_ref()?.value, old.certificate()?);
    let mut journal = old.journal()?.clone();
    let ready = matches!(journal.phase, Phase::Stop | Phase::CatchUp | Phase::Certify);
    let ours = in_force.epoch == journal.epoch && in_force.owner == journal.from;
    if !ready || !ours || journal.abort.is_some() || register.accepted.as_ref() != Some(in_force) {
        return None;
    }
    if journal.phase == Phase::Stop {
        journal.tokens = old.tokens_of(&journal.id);
    }
    let signed = journal.groups.iter().all(|group| journal.tokens.contains_key(group));
    assert!(signed, "fence before open: a group of the old side did not sign");
    let next = successor(register, in_force, &journal.to, &journal.tokens, at);
    for phase in [Phase::CatchUp, Phase::Certify, Phase::Open] {
        if phase > journal.phase {
            journal = advanced(&journal, phase, now_ms, driver);
        }
    }
    adopt(old, &next, Some(&journal))
}

/// The decision, told to the new owner's store.
///
/// A mark of its agent is carried over to the new epoch, as the agent itself
/// would do it one write later: the vote that rises here is the newest there is.
pub fn deliver(new: &LocalTopology, certificate: &Certificate, journal: &Journal) -> Option<Write> {
    let mut acceptance = acceptance(new, certificate, Some(journal))?;
    if let (Some(agent), Some(mark)) = (&new.agent, &new.verified)
        && let Some(session) = agent.session.filter(|_| mark.is_on(agent.session))
        && mark.value.epoch + 1 == certificate.epoch
    {
        let next = Mark { epoch: certificate.epoch, session };
        acceptance.mark = Some(on(new, "verified", next));
    }
    Some(Write::Region(RegionWrite::Accept(Box::new(acceptance))))
}

/// A stopped group's signature under the end of its history.
///
/// It holds only for the move that asked for it: while the journal is as it
/// was read and the signer has the group's lock. `None`: no move `id` stops
/// this region's groups.
pub fn sign(local: &LocalTopology, me: &MemberName, id: &str, token: &Token) -> Option<Write> {
    let journal = local.switch.as_ref()?;
    if journal.value.id != id || !journal.value.phase.old_side_stopped() {
        return None;
    }
    let token = Box::new(SignedToken { id: id.to_string(), token: token.clone() });
    let (me, journal) = (me.clone(), local.version("switch"));
    Some(Write::Region(RegionWrite::SignToken { me, token, journal }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::by_hand::Edit;
    use crate::dcs::keys::Keys;
    use crate::dcs::memory::MemoryStore;
    use crate::region::ownership::read;
    use standby::switch::register::first;
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

    fn journal(phase: Phase) -> Journal {
        Journal {
            id: "m".into(),
            from: "a".into(),
            to: "b".into(),
            epoch: 1,
            attempt: 1,
            phase,
            groups: vec![],
            driver: String::new(),
            steps: vec![],
            tokens: Default::default(),
            error: None,
            limits: Default::default(),
            abort: None,
        }
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
    fn nothing_is_committed_outside_its_phase_or_epoch() {
        let store = owned();
        let local = look(&store);
        assert!(send(&store, &write_journal(&local, &journal(Phase::Hold))));
        assert_eq!(commit(&look(&store), 5, "a/n1", "now"), None);
        let foreign = Journal { epoch: 7, ..journal(Phase::CatchUp) };
        let local = look(&store);
        assert!(send(&store, &write_journal(&local, &foreign)));
        assert_eq!(commit(&look(&store), 5, "a/n1", "now"), None);
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
        let aborted =
            Journal { id: "earlier".into(), attempt: 9, steps, ..journal(Phase::Aborted) };
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
}
