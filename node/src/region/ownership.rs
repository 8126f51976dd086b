//! The topology of one store, read from its keys, and a group's signature.
//!
//! The rules are pure and live in `standby::switch::ownership`; here are the
//! two things around them that know where keys lie.

use super::txn::{put, unchanged};
use crate::dcs::keys::{Keys, split_groups};
use crate::dcs::{Compare, KeyValue, Txn};
use standby::switch::local::SignedToken;
use standby::switch::{LocalTopology, Site};
use topology::MemberName;
use topology::region::Token;

/// The `topology/` keys among `entries`.
pub fn read(keys: &Keys, entries: &[KeyValue]) -> LocalTopology {
    let prefix = keys.topology_prefix();
    let mut local = LocalTopology::default();
    for entry in entries {
        if let Some(key) = entry.key.strip_prefix(&prefix) {
            local.take(key, &entry.value, entry.version, entry.session);
        }
    }
    local
}

/// One region as its store tells it.
pub fn read_site(keys: &Keys, entries: &[KeyValue]) -> Site {
    let groups = split_groups(&keys.scope_prefix(), entries);
    Site { topology: read(keys, entries), groups }
}

/// A stopped group's signature under the end of its history.
///
/// It holds only for the move that asked for it: while the journal is as it
/// was read and the signer has the group's lock. `None`: no move `id` stops
/// this region's groups.
pub fn sign(
    keys: &Keys,
    local: &LocalTopology,
    me: &MemberName,
    id: &str,
    token: &Token,
) -> Option<Txn> {
    let journal = local.switch.as_ref()?;
    if journal.value.id != id || !journal.value.phase.old_side_stopped() {
        return None;
    }
    let signed = SignedToken { id: id.to_string(), token: token.clone() };
    let key = keys.topology(&format!("switch/token/{}", keys.group.key()));
    Some(Txn {
        when: vec![unchanged(keys, local, "switch"), Compare::ValueIs(keys.leader(), me.0.clone())],
        then: vec![put(key, &signed)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::memory::MemoryStore;
    use crate::dcs::{Op, Store};
    use std::collections::BTreeMap;
    use topology::Group;
    use topology::region::{Journal, Phase};
    use topology::{Lsn, SystemId, Timeline};

    fn token() -> Token {
        let system_id = SystemId("7710375988543033523".into());
        Token { system_id, timeline: Timeline(1), lsn: Lsn(7) }
    }

    fn journal(phase: Phase) -> Journal {
        Journal {
            id: "m".into(),
            from: "a".into(),
            to: "b".into(),
            epoch: 1,
            phase,
            groups: vec![Group::PLAIN],
            driver: String::new(),
            steps: vec![],
            tokens: BTreeMap::new(),
            error: None,
        }
    }

    #[tokio::test]
    async fn a_signature_needs_the_lock_and_the_journal_that_was_read() {
        let store = MemoryStore::new();
        let keys = Keys::new("/service/", "s", Group::PLAIN);
        let write = |key: String, value: String| {
            let then = vec![Op::Put { key, value, session: None }];
            store.txn_now(&Txn { when: vec![], then }).expect("written")
        };
        let text = |phase| serde_json::to_string(&journal(phase)).expect("json");
        write(keys.topology("switch"), text(Phase::Stop));
        let all = [keys.scope_prefix()];
        let local = read(&keys, &store.read_now(&all).expect("read").entries);
        let signed = sign(&keys, &local, &"n1".into(), "m", &token()).expect("an order");
        assert!(!store.txn(signed.clone()).await.expect("answer").succeeded, "no lock");
        write(keys.leader(), "n1".into());
        assert!(store.txn(signed.clone()).await.expect("answer").succeeded);
        write(keys.topology("switch"), text(Phase::Aborted));
        assert!(!store.txn(signed).await.expect("answer").succeeded, "the move is over");
        let local = read(&keys, &store.read_now(&all).expect("read").entries);
        assert_eq!(sign(&keys, &local, &"n1".into(), "m", &token()), None);
        assert_eq!(local.tokens_of("m").get(&Group::PLAIN), Some(&token()));
    }
}
