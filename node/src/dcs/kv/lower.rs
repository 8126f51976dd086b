//! From a write of a group to the transaction of a key-value store.
//!
//! Pure, so that the keys, values and conditions of each write can be read in one
//! place. They are a contract: other programs read and write the same keys.

use super::lower_region::{json, lower_region};
use super::{Compare, Edit, Txn, put, put_on, unchanged};
use crate::dcs::Session;
use crate::dcs::keys::Keys;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use topology::cluster::write_history;
use topology::region::Rewired;
use topology::write::{Acquisition, LeaderWrite, NewCluster, Release, Replacement};
use topology::{Failover, Lsn, MemberName, MemberRecord, Status, Version, Write};

/// The transaction that performs `write` for the group of `keys`.
pub(in crate::dcs) fn lower(keys: &Keys, write: &Write) -> Txn {
    match write {
        Write::AcquireLock(acquisition) => acquire(keys, acquisition),
        Write::AdoptLock { me, session } => adopt_lock(keys, me, *session),
        Write::ProveLock { me, session } => prove_lock(keys, me, *session),
        Write::ReleaseLock(release) => lower_release(keys, release),
        Write::ClaimInitialize => Txn::of(
            [Compare::Absent(keys.initialize()), Compare::Absent(keys.leader())],
            [put(keys.initialize(), "")],
        ),
        Write::GiveBackInitialize { claim } => Txn::of(
            [Compare::VersionIs(keys.initialize(), *claim)],
            [Edit::Delete { key: keys.initialize() }],
        ),
        Write::FinishBootstrap(new) => finish_bootstrap(keys, new),
        Write::EnterSystem(system) => Txn::of(
            [Compare::Absent(keys.initialize())],
            [put(keys.initialize(), system.0.clone())],
        ),
        Write::PutRecord { me, session, record } => put_record(keys.member(me), *session, record),
        Write::ReplaceConfig(config) => replaced(keys.config(), config.on, &config.value),
        Write::PutRequest { request, leader } => put_request(keys, request, leader.as_ref()),
        Write::RemoveGroup { leader, others } => remove_group(keys, leader.as_ref(), others),
        Write::EndPause { session } => Txn::of(
            [Compare::SessionIs(keys.pause(), *session)],
            [Edit::Delete { key: keys.pause() }],
        ),
        Write::RemoveOthers(others) => Txn {
            when: vec![Compare::Absent(keys.leader())],
            then: delete_others(keys, others).collect(),
        },
        Write::AsLeader { session, write } => lower_leader(keys, *session, write),
        Write::Region(write) => lower_region(keys, write),
    }
}

fn is_leader(keys: &Keys, name: &MemberName) -> Compare {
    Compare::ValueIs(keys.leader(), name.0.clone())
}

/// The leader key is put on another lease of its member.
fn adopt_lock(keys: &Keys, me: &MemberName, session: Session) -> Txn {
    Txn::of([is_leader(keys, me)], [put_on(session, keys.leader(), me.as_str())])
}

fn prove_lock(keys: &Keys, me: &MemberName, session: Session) -> Txn {
    Txn::of([is_leader(keys, me), Compare::SessionIs(keys.leader(), session)], [])
}

fn put_record(key: String, session: Session, record: &Replacement<Box<MemberRecord>>) -> Txn {
    let text = record.value.write();
    Txn::of([unchanged(key.clone(), record.on)], [put_on(session, key, text)])
}

fn replaced(key: String, on: Option<Version>, text: &str) -> Txn {
    let mut txn = Txn::default();
    txn.replace(key, on, text.to_string());
    txn
}

fn put_request(keys: &Keys, request: &Replacement<Failover>, leader: Option<&MemberName>) -> Txn {
    let mut txn = replaced(keys.failover(), request.on, &request.value.write());
    txn.when.extend(leader.map(|name| is_leader(keys, name)));
    txn
}

fn lower_leader(keys: &Keys, session: Session, write: &LeaderWrite) -> Txn {
    let mut txn = Txn::of([Compare::SessionIs(keys.leader(), session)], []);
    match write {
        LeaderWrite::ClaimTimeline(claim) => {
            txn.replace(keys.claim(), claim.on, claim.value.write());
        }
        LeaderWrite::PutSystem(system) => {
            txn.replace(keys.initialize(), system.on, system.value.0.clone());
        }
        LeaderWrite::PutConfig(config) => {
            txn.replace(keys.config(), config.on, config.value.clone());
        }
        LeaderWrite::PutFailsafe(members) => {
            txn.then.push(put(keys.failsafe(), text_of(members)));
        }
        LeaderWrite::PutStatus { status, legacy_optime } => {
            txn.then.extend(put_status(keys, status.as_deref(), *legacy_optime));
        }
        LeaderWrite::PutSync(state) => txn.replace(keys.sync(), state.on, state.value.write()),
        LeaderWrite::DeleteSync { on } => {
            txn.when.push(Compare::VersionIs(keys.sync(), *on));
            txn.then.push(Edit::Delete { key: keys.sync() });
        }
        LeaderWrite::PutHistory(entries) => {
            txn.then.push(put(keys.history(), write_history(entries)));
        }
        LeaderWrite::TakePause { group, by, on } => {
            let text = serde_json::json!({"group": group, "by": by}).to_string();
            txn.when.push(unchanged(keys.pause(), *on));
            txn.then.push(put_on(session, keys.pause(), &text));
        }
        LeaderWrite::EndRewiring { id } => {
            let rewired = json(&Rewired { id: id.clone() });
            txn.then.push(put(keys.topology("switch/rewired"), rewired));
        }
    }
    txn
}

fn put_status(
    keys: &Keys,
    status: Option<&Status>,
    legacy_optime: Option<Lsn>,
) -> impl Iterator<Item = Edit> {
    let status = status.map(|status| put(keys.status(), status.write()));
    let optime = legacy_optime.map(|lsn| put(keys.legacy_optime(), lsn.0.to_string()));
    status.into_iter().chain(optime)
}

fn acquire(keys: &Keys, acquisition: &Acquisition) -> Txn {
    let Acquisition { me, session, failsafe, status_on, sync, failover, request, claim, status } =
        acquisition;
    let mut txn = Txn::of(
        [
            Compare::Absent(keys.leader()),
            // A leader that leads on without a store asked only the members in
            // `/failsafe`; a member outside that map may not take the lock.
            unchanged(keys.failsafe(), *failsafe),
            // `/status` says which leader may still lead on promises of a majority.
            unchanged(keys.status(), *status_on),
            // `/sync` decides who may lead: it must be as it was read.
            unchanged(keys.sync(), *sync),
            // So must the request: an operator or the last leader may have named another
            // member since.
            unchanged(keys.failover(), *failover),
        ],
        [put_on(*session, keys.leader(), me.as_str())],
    );
    txn.then.extend(request.as_ref().map(|request| put(keys.failover(), request.write())));
    if let Some(claim) = claim {
        txn.replace(keys.claim(), claim.on, claim.value.write());
    }
    // While no member leads, none writes it.
    txn.then.extend(put_status(keys, status.as_ref(), None));
    txn
}

fn lower_release(keys: &Keys, release: &Release) -> Txn {
    let mut txn = Txn::of([Compare::ValueIs(keys.leader(), release.me.0.clone())], []);
    txn.when.extend(release.on.map(|version| Compare::VersionIs(keys.leader(), version)));
    txn.then.extend(put_status(keys, release.status.as_ref(), release.legacy_optime));
    if let Some(request) = &release.request {
        txn.replace(keys.failover(), request.on, request.value.write());
    }
    txn.then.push(Edit::Delete { key: keys.leader() });
    txn
}

fn finish_bootstrap(keys: &Keys, new: &NewCluster) -> Txn {
    let mut txn = Txn::of([Compare::Absent(keys.leader())], []);
    txn.replace(keys.initialize(), new.claim, new.system.0.clone());
    if let Some(config) = &new.config {
        txn.replace(keys.config(), config.on, config.value.clone());
    }
    txn.then.push(put_on(new.session, keys.leader(), new.me.as_str()));
    txn
}

fn remove_group(keys: &Keys, leader: Option<&MemberName>, others: &[String]) -> Txn {
    let when = match leader {
        Some(leader) => Compare::ValueIs(keys.leader(), leader.0.clone()),
        None => Compare::Absent(keys.leader()),
    };
    let mut then: Vec<Edit> = keys.of_group().into_iter().map(|key| Edit::Delete { key }).collect();
    then.push(Edit::DeletePrefix { prefix: keys.members_prefix() });
    then.extend(delete_others(keys, others));
    Txn { when: vec![when], then }
}

fn delete_others(keys: &Keys, others: &[String]) -> impl Iterator<Item = Edit> {
    let place = keys.group_prefix();
    others.iter().map(move |name| Edit::Delete { key: format!("{place}{name}") })
}

fn text_of(map: &BTreeMap<MemberName, String>) -> String {
    let urls = map.iter().map(|(name, url)| (name.to_string(), Value::from(url.clone())));
    Value::Object(urls.collect()).to_string()
}

impl Keys {
    /// What every cluster may have, beside its members.
    pub fn of_group(&self) -> BTreeSet<String> {
        BTreeSet::from([
            self.initialize(),
            self.config(),
            self.leader(),
            self.status(),
            self.failover(),
            self.sync(),
            self.history(),
            self.failsafe(),
            self.legacy_optime(),
            self.claim(),
        ])
    }
}
