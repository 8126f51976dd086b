//! One region as a document: who owns the formation, the policy, the running move.
//!
//! It is what the region's own store says. Another region may know of a later epoch;
//! `verified_epoch` tells up to which one this region's agent has asked the others.
//!
//! Invariant *unknown is not absent*: a key that cannot be read stands in
//! `unreadable` under its name, and what would follow from it is `null`.
//!
//! Absent on purpose: why a move was given up or skipped. The sentence may quote what a server
//! said, which is for operators (`region history`).

use crate::switch::LocalTopology;
use serde_json::{Value, json};
use topology::RegionName;
use topology::graph::RegionRole;
use topology::region::Policy;
use topology::schedule::Schedule;

/// This region as its configuration names it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub region: &'a RegionName,
    pub policy: &'a Policy,
}

/// `None`: the scope has no regions. `me`: `None` where the configuration of this
/// member names no region, although the store may.
pub fn region_document(me: Option<Named>, local: &LocalTopology) -> Option<Value> {
    if me.is_none() && !has_documents(local) {
        return None;
    }
    let region = me.map(|me| me.region);
    let policy = local.policy.as_ref().map(|policy| &policy.value);
    let accepted = local.accepted();
    Some(json!({
        "formation": policy.or(me.map(|me| me.policy)).map(|policy| &policy.formation),
        "region": region,
        "role": region.zip(accepted).map(|(region, accepted)| RegionRole::of(region, accepted).text()),
        "owner": accepted.map(|accepted| &accepted.owner),
        "epoch": accepted.map(|accepted| accepted.epoch),
        "verified_epoch": local.verified.as_ref().map(|verified| verified.value.epoch),
        "policy": policy,
        "agent": local.agent.as_ref().map(|agent| &agent.value),
        "operation": operation(local),
        "schedules": schedules(local),
        "unreadable": local.unreadable,
    }))
}

fn has_documents(local: &LocalTopology) -> bool {
    let is_written = [local.policy.is_some(), local.register.is_some(), local.agent.is_some()];
    is_written.contains(&true) || !local.unreadable.is_empty()
}

/// The journal of the move under way, in this store's copy.
fn operation(local: &LocalTopology) -> Option<Value> {
    let journal = local.journal().filter(|j| j.is_running(local.accepted_epoch()))?;
    let mut shown = json!(journal);
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("error");
    }
    Some(shown)
}

/// Those that are pending. What became of an occurrence is left out: its reason may quote
/// what a server said, too.
fn schedules(local: &LocalTopology) -> Vec<Value> {
    let pending = local.schedules.values().filter(|schedule| schedule.is_pending());
    pending.map(|schedule| json!(Schedule { last: None, ..schedule.clone() })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{"formation":"shop","regions":[{"name":"a","endpoints":["h:1"]}]}"#;

    fn register(epoch: u64) -> String {
        let certificate = json!({"epoch": epoch, "ballot": 3, "owner": "a", "kind": "planned",
            "previous_hash": "", "groups": {}, "proof": "", "policy_hash": "", "at": ""});
        json!({"promised": epoch, "accepted": certificate}).to_string()
    }

    fn journal(epoch: u64, phase: &str) -> String {
        json!({"id": "m", "from": "a", "to": "b", "epoch": epoch, "phase": phase, "groups": [],
            "driver": "a/n1", "steps": [], "error": "FATAL: user boss"})
        .to_string()
    }

    fn document(me: &str, keys: &[(&str, &str)]) -> Value {
        let (me, policy) = (RegionName::new(me), serde_json::from_str(POLICY).unwrap());
        let named = Named { region: &me, policy: &policy };
        region_document(Some(named), &LocalTopology::read(keys.iter().copied())).unwrap()
    }

    #[test]
    fn the_accepted_certificate_tells_owner_epoch_and_role() {
        let register = register(3);
        let keys = [("register", &*register), ("verified", r#"{"epoch":3}"#), ("agent", "a/n1")];
        let shown = document("a", &keys);
        assert_eq!((&shown["owner"], &shown["epoch"]), (&json!("a"), &json!(3)));
        assert_eq!((&shown["role"], &shown["verified_epoch"]), (&json!("primary"), &json!(3)));
        assert_eq!((&shown["agent"], &shown["operation"]), (&json!("a/n1"), &Value::Null));
        assert_eq!(document("b", &keys)["role"], "standby");
    }

    #[test]
    fn only_a_running_move_is_shown_and_never_what_a_server_said() {
        let register = register(3);
        let operation = |journal: &str| {
            document("a", &[("register", &register), ("switch", journal)])["operation"].clone()
        };
        let running = operation(&journal(3, "catch_up"));
        assert_eq!((&running["phase"], &running["to"]), (&json!("catch_up"), &json!("b")));
        assert!(running.get("error").is_none());
        assert_eq!(operation(&journal(3, "aborted")), Value::Null);
        assert_eq!(operation(&journal(1, "catch_up")), Value::Null, "a later move has decided");
    }

    #[test]
    fn pending_schedules_are_shown_without_what_became_of_earlier_occurrences() {
        let schedule = |due_ms: Option<u64>| {
            let last = json!({"due_ms": 3, "skipped": "FATAL: user boss"});
            json!({"id": "s", "from": "a", "to": "b", "epoch": 3, "revision": 1, "host": "desk",
                "due_ms": due_ms, "window_minutes": 10, "last": last})
            .to_string()
        };
        let (pending, over) = (schedule(Some(5)), schedule(None));
        let shown = document("a", &[("schedule/s", &*pending), ("schedule/t", &*over)]);
        let schedules = shown["schedules"].as_array().unwrap();
        assert_eq!((schedules.len(), &schedules[0]["due_ms"]), (1, &json!(5)));
        assert!(!shown.to_string().contains("boss"), "{shown}");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let shown = document("a", &[("register", "{"), ("policy", POLICY)]);
        assert!(shown["unreadable"]["register"].is_string());
        assert_eq!((&shown["owner"], &shown["role"]), (&Value::Null, &Value::Null));
        assert_eq!(shown["policy"]["formation"], "shop");
    }

    #[test]
    fn a_scope_has_regions_by_its_configuration_or_its_store() {
        let claim = [("timeline/0", "3 n1")];
        assert_eq!(region_document(None, &LocalTopology::read(claim)), None);
        let stored = LocalTopology::read([("policy", POLICY)]);
        let shown = region_document(None, &stored).unwrap();
        assert_eq!((&shown["region"], &shown["formation"]), (&Value::Null, &json!("shop")));
        let young = document("a", &[]);
        assert_eq!((&young["formation"], &young["policy"]), (&json!("shop"), &Value::Null));
    }
}
