//! The transactions of regions: what is written, and under which condition.
//!
//! Pure values, so that each condition can be read and tested in one place; the
//! daemon and the simulator send the same ones.
//!
//! Invariant *one decision*: `commit` is the only transaction that moves the
//! formation. It compares the old owner's vote, certificate and journal with
//! what the decision was made on, so an abort and a commit exclude each other.

use crate::dcs::keys::Keys;
use crate::dcs::{Compare, Op, Txn};
use serde::Serialize;
use standby::switch::LocalTopology;
use standby::switch::effect::{AgentKey, Claim, StoreWrite, Write};
use standby::switch::local::{Verified, may_replace, with_move};
use standby::switch::register::{accept, successor};
use standby::switch::table::advanced;
use topology::RegionName;
use topology::region::{Certificate, Journal, PeerRegion, Phase, Policy};

/// The transaction of an agent's write, on the site that it was decided on.
/// `None`: that site leaves nothing to write.
pub fn lower(keys: &Keys, write: &StoreWrite) -> Option<Txn> {
    let (local, key) = (&write.on.topology, &write.key);
    match &write.write {
        Write::Policy(stored) => Some(policy(keys, stored)),
        Write::CreateFirst(certificate) => create_first(keys, local, certificate),
        Write::Adopt { certificate, journal } => adopt(keys, local, certificate, journal.as_ref()),
        Write::Verify(epoch) => Some(verify(keys, local, *epoch, key)),
        Write::Peer(peer) => Some(publish_peer(keys, &peer.region, peer, key)),
        Write::Journal(journal) => Some(write_journal(keys, local, journal)),
        Write::Commit { now_ms, at } => commit(keys, local, *now_ms, &key.name, at),
        Write::Deliver { certificate, journal } => deliver(keys, local, certificate, journal),
    }
}

/// The transaction that changes the agent's key.
pub fn campaign(keys: &Keys, local: &LocalTopology, key: &AgentKey, claim: Claim) -> Txn {
    match claim {
        Claim::Elect => elect(keys, local, key),
        Claim::Resign => resign(keys, key),
    }
}

pub(super) fn put<T: Serialize>(key: String, value: &T) -> Op {
    let value = serde_json::to_string(value).expect("plain values always serialise");
    Op::Put { key, value, session: None }
}

/// A key below `topology/` as it was read: absent, or at that version.
pub fn unchanged(keys: &Keys, local: &LocalTopology, key: &str) -> Compare {
    match local.version(key) {
        Some(version) => Compare::VersionIs(keys.topology(key), version),
        None => Compare::Absent(keys.topology(key)),
    }
}

/// Become the region's agent, or move the own key onto the present lease.
pub fn elect(keys: &Keys, local: &LocalTopology, agent_key: &AgentKey) -> Txn {
    let key = keys.topology("agent");
    let when = match &local.agent {
        Some(agent) if agent.value == agent_key.name => {
            Compare::ValueIs(key.clone(), agent_key.name.clone())
        }
        _ => Compare::Absent(key.clone()),
    };
    let then = Op::Put { key, value: agent_key.name.clone(), session: Some(agent_key.session) };
    Txn { when: vec![when], then: vec![then] }
}

/// Gives up being the agent.
pub fn resign(keys: &Keys, agent_key: &AgentKey) -> Txn {
    Txn {
        when: vec![still(keys, agent_key)],
        then: vec![Op::Delete { key: keys.topology("agent") }],
    }
}

/// The sender is the agent still.
fn still(keys: &Keys, agent_key: &AgentKey) -> Compare {
    Compare::ValueIs(keys.topology("agent"), agent_key.name.clone())
}

/// The policy, where there is none.
pub fn policy(keys: &Keys, policy: &Policy) -> Txn {
    let key = keys.topology("policy");
    Txn { when: vec![Compare::Absent(key.clone())], then: vec![put(key, policy)] }
}

/// A certificate accepted by one site: its vote, the certificate in force and,
/// when it comes with a move, the journal. `None`: the site holds it already.
pub fn adopt(
    keys: &Keys,
    local: &LocalTopology,
    certificate: &Certificate,
    journal: Option<&Journal>,
) -> Option<Txn> {
    let accepted = accept(local.register.as_ref().map(|r| &r.value), certificate);
    if accepted.is_none() && local.accepted() != Some(certificate) {
        return None;
    }
    let mut txn = Txn {
        when: vec![unchanged(keys, local, "register"), unchanged(keys, local, "certificate")],
        then: vec![put(keys.topology("certificate"), certificate)],
    };
    match accepted {
        Some(vote) => txn.then.push(put(keys.topology("register"), &vote)),
        None if local.certificate() == Some(certificate) => return None,
        None => {}
    }
    if let Some(journal) = journal.filter(|j| may_replace(local.journal(), j)) {
        add_journal(keys, local, journal, &mut txn);
    }
    Some(txn)
}

/// The first certificate, in a store whose policy is the one it was made for.
pub fn create_first(keys: &Keys, local: &LocalTopology, certificate: &Certificate) -> Option<Txn> {
    let mut txn = adopt(keys, local, certificate, None)?;
    txn.when.push(unchanged(keys, local, "policy"));
    Some(txn)
}

/// The mark that this epoch was confirmed, gone with the agent's lease.
pub fn verify(keys: &Keys, local: &LocalTopology, epoch: u64, agent_key: &AgentKey) -> Txn {
    let value = serde_json::to_string(&Verified { epoch }).expect("a number serialises");
    let key = keys.topology("verified");
    Txn {
        when: vec![
            still(keys, agent_key),
            unchanged(keys, local, "certificate"),
            unchanged(keys, local, "register"),
        ],
        then: vec![Op::Put { key, value, session: Some(agent_key.session) }],
    }
}

/// What was seen of another region.
pub fn publish_peer(
    keys: &Keys,
    name: &RegionName,
    peer: &PeerRegion,
    agent_key: &AgentKey,
) -> Txn {
    let key = keys.topology(&format!("peers/{name}"));
    Txn { when: vec![still(keys, agent_key)], then: vec![put(key, peer)] }
}

/// The next journal; a move that is over also becomes a line of the history.
pub fn write_journal(keys: &Keys, local: &LocalTopology, journal: &Journal) -> Txn {
    let mut txn = Txn::default();
    add_journal(keys, local, journal, &mut txn);
    txn
}

fn add_journal(keys: &Keys, local: &LocalTopology, journal: &Journal, txn: &mut Txn) {
    txn.when.push(unchanged(keys, local, "switch"));
    txn.then.push(put(keys.topology("switch"), journal));
    if journal.phase.is_over() {
        let history = local.history.as_ref().map_or(&[][..], |h| &h.value);
        txn.when.push(unchanged(keys, local, "history"));
        txn.then.push(put(keys.topology("history"), &with_move(history, journal)));
    }
}

/// THE decision of a planned move, in the old owner's store.
///
/// `None`: what was read does not allow it (no vote for the epoch in force, or
/// the journal is not in the phase before the decision).
pub fn commit(
    keys: &Keys,
    old: &LocalTopology,
    now_ms: u64,
    driver: &str,
    at: &str,
) -> Option<Txn> {
    let (register, in_force) = (&old.register.as_ref()?.value, old.certificate()?);
    let mut journal = old.journal()?.clone();
    let ready = matches!(journal.phase, Phase::Stop | Phase::CatchUp | Phase::Certify);
    let ours = in_force.epoch == journal.epoch && in_force.owner == journal.from;
    if !ready || !ours || register.accepted.as_ref() != Some(in_force) {
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
    adopt(keys, old, &next, Some(&journal))
}

/// The decision, told to the new owner's store.
///
/// A mark of its agent is carried over to the new epoch, as the agent itself
/// would do it one write later: the vote that rises here is the newest there is.
pub fn deliver(
    keys: &Keys,
    new: &LocalTopology,
    certificate: &Certificate,
    journal: &Journal,
) -> Option<Txn> {
    let mut txn = adopt(keys, new, certificate, Some(journal))?;
    let (Some(agent), Some(mark)) = (&new.agent, &new.verified) else { return Some(txn) };
    let Some(session) = agent.session.filter(|_| mark.is_on(agent.session)) else {
        return Some(txn);
    };
    if mark.value.epoch + 1 == certificate.epoch {
        let epoch = certificate.epoch;
        let value = serde_json::to_string(&Verified { epoch }).expect("a number serialises");
        let key = keys.topology("verified");
        txn.when.push(Compare::SessionIs(keys.topology("agent"), session));
        txn.when.push(unchanged(keys, new, "verified"));
        txn.then.push(Op::Put { key, value, session: Some(session) });
    }
    Some(txn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::memory::MemoryStore;
    use crate::region::ownership::read;
    use standby::switch::register::first;
    use topology::Group;

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

    fn send(store: &MemoryStore, txn: &Txn) -> bool {
        store.txn_now(txn).expect("answer").succeeded
    }

    fn owned() -> MemoryStore {
        let store = MemoryStore::new();
        let certificate = first(&policy_ab(), &"a".into(), "now");
        let local = look(&store);
        assert!(send(&store, &create_first(&keys(), &local, &certificate).expect("new")));
        store
    }

    fn journal(phase: Phase) -> Journal {
        Journal {
            id: "m".into(),
            from: "a".into(),
            to: "b".into(),
            epoch: 1,
            phase,
            groups: vec![],
            driver: String::new(),
            steps: vec![],
            tokens: Default::default(),
            error: None,
        }
    }

    #[test]
    fn two_firsts_of_one_store_exclude_each_other() {
        let store = MemoryStore::new();
        let empty = look(&store);
        let of = |owner: &str| {
            create_first(&keys(), &empty, &first(&policy_ab(), &owner.into(), "now")).expect("new")
        };
        assert!(send(&store, &of("a")) && !send(&store, &of("b")));
        assert_eq!(look(&store).certificate().map(|c| c.owner.as_str()), Some("a"));
    }

    #[test]
    fn commit_and_abort_exclude_each_other() {
        for commit_first in [true, false] {
            let store = owned();
            let local = look(&store);
            assert!(send(&store, &write_journal(&keys(), &local, &journal(Phase::CatchUp))));
            let seen = look(&store);
            let decide = commit(&keys(), &seen, 5, "a/n1", "now").expect("ready");
            let mut aborted = journal(Phase::Aborted);
            aborted.error = Some("late".into());
            let abort = write_journal(&keys(), &seen, &aborted);
            let order = if commit_first { [&decide, &abort] } else { [&abort, &decide] };
            assert!(send(&store, order[0]) && !send(&store, order[1]));
            let after = look(&store);
            assert_eq!(after.accepted_epoch(), if commit_first { 2 } else { 1 });
            assert_eq!(after.history.is_some(), !commit_first);
        }
    }

    #[test]
    fn nothing_is_committed_outside_its_phase_or_epoch() {
        let store = owned();
        let local = look(&store);
        assert!(send(&store, &write_journal(&keys(), &local, &journal(Phase::Hold))));
        assert_eq!(commit(&keys(), &look(&store), 5, "a/n1", "now"), None);
        let foreign = Journal { epoch: 7, ..journal(Phase::CatchUp) };
        let local = look(&store);
        assert!(send(&store, &write_journal(&keys(), &local, &foreign)));
        assert_eq!(commit(&keys(), &look(&store), 5, "a/n1", "now"), None);
    }

    #[test]
    fn a_delivery_confirms_the_epoch_only_on_a_living_agents_lease() {
        let store = owned();
        let old = look(&store).certificate().cloned().expect("owned");
        let register = topology::region::Register { promised: 1, accepted: Some(old.clone()) };
        let next = successor(&register, &old, &"b".into(), &Default::default(), "now");
        let lease = store.grant_now(std::time::Duration::from_secs(30)).expect("lease");
        let agent_key = AgentKey { name: "b/n1".into(), session: lease };
        assert!(send(&store, &elect(&keys(), &look(&store), &agent_key)));
        let open = journal(Phase::Open);
        let marks = |local: &LocalTopology| {
            let txn = deliver(&keys(), local, &next, &open).expect("new to it");
            txn.then.iter().any(|op| matches!(op, Op::Put { session: Some(_), .. }))
        };
        assert!(!marks(&look(&store)), "nobody confirmed the epoch before");
        assert!(send(&store, &verify(&keys(), &look(&store), 1, &agent_key)));
        let seen = look(&store);
        assert!(marks(&seen));
        assert!(send(&store, &resign(&keys(), &agent_key)));
        let late = deliver(&keys(), &seen, &next, &open).expect("new to it");
        assert!(!send(&store, &late), "the agent is gone");
        assert_eq!(look(&store).accepted_epoch(), 1);
    }

    #[test]
    fn a_vote_is_never_lowered_but_a_damaged_certificate_is_restored() {
        let store = owned();
        let local = look(&store);
        let mine = local.certificate().cloned().expect("owned");
        assert_eq!(adopt(&keys(), &local, &mine, None), None);
        let other = first(&policy_ab(), &"b".into(), "now");
        assert_eq!(adopt(&keys(), &local, &other, None), None);
        let broken =
            Op::Put { key: keys().topology("certificate"), value: "?".into(), session: None };
        assert!(send(&store, &Txn { when: vec![], then: vec![broken] }));
        let txn = adopt(&keys(), &look(&store), &mine, None).expect("a repair");
        assert!(send(&store, &txn));
        assert_eq!(look(&store).certificate(), Some(&mine));
    }

    #[test]
    fn only_one_daemon_is_the_agent() {
        let store = MemoryStore::new();
        let lease = store.grant_now(std::time::Duration::from_secs(30)).expect("lease");
        let agent_key = |name: &str| AgentKey { name: name.into(), session: lease };
        let empty = look(&store);
        assert!(send(&store, &elect(&keys(), &empty, &agent_key("a/n1"))));
        assert!(!send(&store, &elect(&keys(), &empty, &agent_key("a/n2"))));
        assert!(send(&store, &elect(&keys(), &look(&store), &agent_key("a/n1"))), "a new lease");
        assert!(!send(&store, &resign(&keys(), &agent_key("a/n2"))));
        assert!(send(&store, &resign(&keys(), &agent_key("a/n1"))));
    }
}
