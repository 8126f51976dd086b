//! From a write of a region to the transaction of a key-value store.
//!
//! All keys lie below `topology/`, which other programs pass over; the values are
//! JSON.

use super::{Compare, Edit, Txn, put, put_on, unchanged};
use crate::dcs::keys::Keys;
use serde::Serialize;
use topology::region::Verified;
use topology::write::{Acceptance, JournalWrite, Mark, RegionWrite};

pub(super) fn lower_region(keys: &Keys, write: &RegionWrite) -> Txn {
    let agent_key = keys.topology("agent");
    match write {
        RegionWrite::ElectAgent { agent, session } => Txn::of(
            [Compare::Absent(agent_key.clone())],
            [put_on(*session, agent_key, agent.as_str())],
        ),
        RegionWrite::AdoptAgent { agent, session } => {
            Txn::of([still(keys, agent)], [put_on(*session, agent_key, agent.as_str())])
        }
        RegionWrite::ResignAgent { agent } => {
            Txn::of([still(keys, agent)], [Edit::Delete { key: agent_key }])
        }
        RegionWrite::PutPolicy(policy) => {
            let key = keys.topology("policy");
            Txn::of([Compare::Absent(key.clone())], [put(key, json(policy))])
        }
        RegionWrite::CreateFirst { acceptance, policy } => {
            let mut txn = accept(keys, acceptance);
            txn.when.push(unchanged(keys.topology("policy"), *policy));
            txn
        }
        RegionWrite::Accept(acceptance) => accept(keys, acceptance),
        RegionWrite::Verify { agent, mark, certificate, register } => Txn::of(
            [
                still(keys, agent),
                unchanged(keys.topology("certificate"), *certificate),
                unchanged(keys.topology("register"), *register),
            ],
            [put_mark(keys, mark)],
        ),
        RegionWrite::PutAcceptor { agent, acceptor, register } => {
            let vote = unchanged(keys.topology("register"), *register);
            let mut txn = Txn::of([still(keys, agent), vote], []);
            txn.replace(keys.topology("acceptor"), acceptor.on, json(&acceptor.value));
            txn
        }
        RegionWrite::PutPeer { agent, peer } => {
            let key = keys.topology(&format!("peers/{}", peer.region));
            Txn::of([still(keys, agent)], [put(key, json(peer))])
        }
        RegionWrite::PutJournal(journal) => {
            let mut txn = Txn::default();
            add_journal(keys, journal, &mut txn);
            txn
        }
        RegionWrite::PutSchedule { schedule, journal } => {
            let mut txn = Txn::default();
            let key = keys.topology(&format!("schedule/{}", schedule.value.id));
            txn.replace(key, schedule.on, json(&schedule.value));
            if let Some(journal) = journal {
                add_journal(keys, journal, &mut txn);
            }
            txn
        }
        RegionWrite::RemoveSchedule { id, on } => {
            let key = keys.topology(&format!("schedule/{id}"));
            Txn::of([unchanged(key.clone(), Some(*on))], [Edit::Delete { key }])
        }
        RegionWrite::SignToken { me, token, journal } => {
            let key = keys.topology(&format!("switch/token/{}", keys.group.key()));
            Txn::of(
                [
                    unchanged(keys.topology("switch"), *journal),
                    Compare::ValueIs(keys.leader(), me.0.clone()),
                ],
                [put(key, json(token))],
            )
        }
    }
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain values always serialise")
}

/// The sender is the agent still.
fn still(keys: &Keys, agent: &str) -> Compare {
    Compare::ValueIs(keys.topology("agent"), agent.to_string())
}

fn put_mark(keys: &Keys, mark: &Mark) -> Edit {
    put_on(mark.session, keys.topology("verified"), json(&Verified { epoch: mark.epoch }))
}

/// The site's vote, the certificate in force and, when it comes with a move, the
/// journal.
fn accept(keys: &Keys, acceptance: &Acceptance) -> Txn {
    let Acceptance { certificate, vote, register, journal, mark } = acceptance;
    let mut txn = Txn::of([unchanged(keys.topology("register"), *register)], []);
    txn.replace(keys.topology("certificate"), certificate.on, json(&certificate.value));
    txn.then.extend(vote.as_ref().map(|vote| put(keys.topology("register"), json(vote))));
    if let Some(journal) = journal {
        add_journal(keys, journal, &mut txn);
    }
    if let Some(mark) = mark {
        txn.when.push(Compare::SessionIs(keys.topology("agent"), mark.value.session));
        txn.when.push(unchanged(keys.topology("verified"), mark.on));
        txn.then.push(put_mark(keys, &mark.value));
    }
    txn
}

fn add_journal(keys: &Keys, write: &JournalWrite, txn: &mut Txn) {
    let JournalWrite { journal, history } = write;
    txn.replace(keys.topology("switch"), journal.on, json(&journal.value));
    if let Some(history) = history {
        txn.replace(keys.topology("history"), history.on, json(&history.value));
    }
}
