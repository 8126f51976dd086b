//! Which members have to agree in failsafe mode: `/failsafe`, as far as a leader knows it.
//!
//! Invariant *every possible leader is asked*: the question goes to all members in the
//! map that the store is known to hold and in every map that it may hold. A majority is enough
//! only where there is one such map.

use std::collections::BTreeMap;
use topology::{GroupView, MemberName, MemberRecord, Millis, Versioned};

/// Members by name, with the address of their REST API: `/failsafe`.
pub type Map = BTreeMap<MemberName, String>;

/// The maps that the store holds or may hold.
#[derive(Clone, Debug, Default)]
pub struct PeerSet {
    known: Option<Map>,
    /// The last map that had members.
    last: Map,
    /// Sent to the store without an answer.
    unsure: Map,
    /// `/status` says that a majority is enough for this leader.
    is_majority_told: bool,
    /// Members that `/failsafe` names and whose records are gone, since when.
    missing: BTreeMap<MemberName, Millis>,
}

impl PeerSet {
    /// What an earlier process knew while it led on without a store.
    pub fn kept(known: Map, unsure: Map, is_majority_told: bool) -> PeerSet {
        PeerSet { known: Some(known), unsure, is_majority_told, ..PeerSet::default() }
    }

    pub fn last(&self) -> &Map {
        &self.last
    }

    pub fn is_majority_told(&self) -> bool {
        self.is_majority_told
    }

    /// How many of the others make a majority with this member, if that is enough: `/status`
    /// says so, and there is one map that the store can hold.
    pub fn majority(&self) -> Option<usize> {
        let known = self.known.as_ref().filter(|_| self.unsure.is_empty())?;
        self.is_majority_told.then_some(known.len() / 2)
    }

    pub fn unsure(&self) -> &Map {
        &self.unsure
    }

    /// What the store tells.
    pub fn read(&mut self, me: &MemberName, view: &GroupView) {
        let status = view.status.as_ref().map(|status| &status.value);
        let named = status.and_then(|status| status.failsafe_majority.as_ref());
        self.is_majority_told = named == Some(me);
        self.known = view.failsafe.as_ref().map(|map| map.value.clone());
        if let Some(known) = self.known.as_ref().filter(|map| !map.is_empty()) {
            self.last.clone_from(known);
        }
        if self.known.as_ref() == Some(&self.unsure) {
            self.unsure.clear();
        }
    }

    /// `/failsafe` as a leader writes it: every member with an API, and itself. A member
    /// whose record is gone stays in it for one `ttl`: after an outage of the store, or
    /// after all daemons were frozen, the records come back one by one. A map without
    /// those members would keep them from taking the lock of a leader that dies now, and
    /// would not ask them in the next outage.
    pub fn next(
        &mut self,
        me: &MemberName,
        my_url: &str,
        view: &GroupView,
        now: Millis,
        ttl_ms: u64,
    ) -> Map {
        let url = |(name, m): (&MemberName, &Versioned<MemberRecord>)| {
            Some((name.clone(), m.value.api_url.clone()?))
        };
        let shown: Map = view.members.iter().filter_map(url).collect();
        let named = view.failsafe.iter().flat_map(|map| map.value.clone());
        let mut map: Map = named.filter(|(name, _)| !shown.contains_key(name)).collect();
        self.missing.retain(|name, _| map.contains_key(name));
        map.retain(|name, _| now.since(*self.missing.entry(name.clone()).or_insert(now)) < ttl_ms);
        map.extend(shown);
        map.insert(me.clone(), my_url.to_string());
        map
    }

    /// A map is about to be sent. It may be cut off on its way, or its answer may be.
    pub fn sending(&mut self, map: &Map) -> Map {
        let before = self.unsure.clone();
        self.unsure.extend(map.clone());
        before
    }

    /// It did not reach the store: `before` is what `sending` gave.
    pub fn not_taken(&mut self, before: Map) {
        self.unsure = before;
    }

    pub fn written(&mut self, map: Map) {
        self.known = Some(map);
        self.unsure.clear();
    }

    pub fn known(&self) -> Option<Map> {
        self.known.clone()
    }

    pub fn names(&self, me: &MemberName) -> bool {
        self.known.as_ref().is_some_and(|map| map.contains_key(me))
    }

    /// Every member that has to agree. One name may have two addresses: both count.
    pub fn others(&self, me: &MemberName) -> Vec<(MemberName, String)> {
        let all = self.known.iter().flatten().chain(&self.unsure);
        let mut others: Vec<_> =
            all.filter(|(name, _)| *name != me).map(|(n, url)| (n.clone(), url.clone())).collect();
        others.sort();
        others.dedup();
        others
    }
}

/// The members whose promises a candidate needs: those of `/failsafe`, or of `last`, as it was
/// last seen, where that is gone, or those that have records.
pub fn electors(view: &GroupView, last: &Map, me: &MemberName) -> Map {
    let named = view.failsafe.as_ref().map_or(last, |map| &map.value);
    if !named.is_empty() {
        return named.clone();
    }
    let url = |(name, m): (&MemberName, &Versioned<MemberRecord>)| {
        Some((name.clone(), m.value.api_url.clone()?))
    };
    let me = (me.clone(), String::new());
    view.members.iter().filter_map(url).chain([me]).collect()
}

/// How many of the others, so that they and this member, if it is one of them, are in every
/// majority of the electors.
pub fn enough_for_candidate(electors: &Map, me: &MemberName) -> usize {
    electors.len().div_ceil(2) - usize::from(electors.contains_key(me))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    #[test]
    fn t01_an_outage_of_the_store_takes_no_member_out_of_failsafe() {
        let (mut peers, me) = (PeerSet::default(), MemberName::new("me"));
        let mut view = GroupView::default();
        view.take_sample("failsafe", r#"{"a":"http://a","b":"http://b","me":"http://me"}"#, 7, 0);
        view.take_sample("members/b", r#"{"api_url":"http://moved"}"#, 8, 7);
        let mut next = |view: &GroupView, now| peers.next(&me, "http://me", view, Millis(now), 30);
        let kept = next(&view, 100);
        assert_eq!(kept.get(&"a".into()).map(String::as_str), Some("http://a"));
        assert_eq!(kept.get(&"b".into()).map(String::as_str), Some("http://moved"));
        // It comes back and goes again: its time begins anew.
        let mut back = view.clone();
        back.take_sample("members/a", r#"{"api_url":"http://a"}"#, 9, 7);
        assert_eq!(
            (next(&back, 120).len(), next(&view, 129).len(), next(&view, 158).len()),
            (3, 3, 3)
        );
        assert_eq!(next(&view, 159).len(), 2, "a member that does not come back is gone");
    }

    #[test]
    fn a_map_that_is_cut_off_on_its_way_counts_as_one_that_the_store_may_hold() {
        let (mut peers, me) = (PeerSet::default(), MemberName::new("me"));
        let map = |names: &[&str]| -> Map {
            names.iter().map(|n| (MemberName::new(*n), format!("http://{n}"))).collect()
        };
        peers.written(map(&["me", "a"]));
        let before = peers.sending(&map(&["me", "a", "c"]));
        assert_eq!(peers.others(&me).len(), 2, "c may take the lock, so it is asked");
        peers.not_taken(before);
        assert_eq!(peers.others(&me).len(), 1);
    }

    #[test]
    fn every_member_that_may_lead_is_asked() {
        let (mut peer_set, me) = (PeerSet::default(), MemberName::new("me"));
        let map = |names: &[&str]| -> Map {
            names.iter().map(|n| (MemberName::new(*n), format!("http://{n}"))).collect()
        };
        assert!(!peer_set.names(&me));
        peer_set.written(map(&["me", "a"]));
        peer_set.sending(&map(&["me", "b"]));
        assert!(peer_set.names(&me));
        let names: Vec<_> = peer_set.others(&me).into_iter().map(|(n, _)| n.0).collect();
        assert_eq!(names, ["a", "b"]);
        // The store tells what came of it.
        let mut view = GroupView::default();
        view.take_sample("failsafe", r#"{"b":"http://b","me":"http://me"}"#, 7, 0);
        peer_set.read(&me, &view);
        assert_eq!(peer_set.others(&me).len(), 1);
    }

    #[test]
    fn a_majority_and_a_candidate_s_promises_have_a_member_in_common() {
        let map = |count: usize| -> Map {
            (0..count).map(|n| (MemberName::new(format!("n{n}")), String::new())).collect()
        };
        for count in 1..=7 {
            let (map, me) = (map(count), MemberName::new("n0"));
            let mut peers = PeerSet { known: Some(map.clone()), ..PeerSet::default() };
            assert_eq!(peers.majority(), None, "/status does not say so");
            peers.is_majority_told = true;
            let with_leader = peers.majority().unwrap() + 1;
            assert!(2 * with_leader > count);
            let with_candidate = enough_for_candidate(&map, &me) + 1;
            assert!(with_leader + with_candidate > count, "{count} members");
            // One that the map does not name has no promise of its own that counts.
            assert_eq!(enough_for_candidate(&map, &"x".into()), with_candidate);
            peers.sending(&map);
            assert_eq!(peers.majority(), None, "which map the store holds is not known");
        }
    }

    #[test]
    fn the_electors_are_those_of_the_map_as_it_is_or_was_last() {
        let (me, last) = (MemberName::new("me"), Map::from([("old".into(), "u".into())]));
        let mut view = GroupView::default();
        view.take_sample("members/a", r#"{"api_url":"http://a"}"#, 1, 7);
        let names = |view: &GroupView, last: &Map| -> Vec<String> {
            electors(view, last, &me).into_keys().map(|name| name.0.to_string()).collect()
        };
        assert_eq!(names(&view, &Map::new()), ["a", "me"]);
        assert_eq!(names(&view, &last), ["old"], "a store that was emptied");
        view.take_sample("failsafe", r#"{"b":"http://b","me":"http://me"}"#, 7, 0);
        assert_eq!(names(&view, &last), ["b", "me"]);
    }
}
