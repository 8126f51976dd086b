//! Logical slots that would skip data.
//!
//! A logical slot begins where the log ends when it is made. So a slot that its reader has
//! used on another server is made anew only if nothing is skipped by that: never by this
//! daemon. It is refused, with the position that its reader has confirmed, until an operator
//! takes its definition out of `/config` and puts it back.
//!
//! A reader that has confirmed more than a promoted server's log has would miss what that
//! server writes up to there: such a copy is not resumed either.

use super::{Kind, Slot, permanent};
use std::collections::{BTreeMap, BTreeSet};
use topology::{Dynamic, GroupView, Lsn};

/// Definitions whose slot is not on this primary and was used on another one, with what its
/// reader has confirmed. `owned`: slots that this server had while it was the primary; a
/// person has dropped those that are gone.
pub fn refused(
    view: &GroupView,
    dynamic: &Dynamic,
    there: &[Slot],
    owned: &BTreeSet<String>,
) -> BTreeMap<String, Lsn> {
    let Some(status) = view.status.as_ref().map(|status| &status.value) else {
        return BTreeMap::new();
    };
    let is_there = |name: &String| there.iter().any(|slot| slot.name == *name);
    let names = logical_names(dynamic).into_iter();
    let missing = names.filter(|name| !is_there(name) && !owned.contains(name));
    let at = |name: &String| status.refused_slots.get(name).or(status.slots.get(name)).copied();
    missing.filter_map(|name| Some((name.clone(), at(&name)?))).collect()
}

/// Copies on a server that is about to open whose readers are ahead of the `end` of its log.
pub fn skips(
    view: &GroupView,
    dynamic: &Dynamic,
    there: &[Slot],
    end: Lsn,
) -> BTreeMap<String, Lsn> {
    let Some(status) = view.status.as_ref().map(|status| &status.value) else {
        return BTreeMap::new();
    };
    let names = logical_names(dynamic).into_iter();
    let here = names.filter(|name| there.iter().any(|slot| slot.name == *name));
    let ahead = |name: &String| status.slots.get(name).copied().filter(|at| *at > end);
    here.filter_map(|name| Some((name.clone(), ahead(&name)?))).collect()
}

fn logical_names(dynamic: &Dynamic) -> Vec<String> {
    let all = permanent(&dynamic.slots).specifications.into_iter();
    all.filter(|slot| slot.kind != Kind::Physical).map(|slot| slot.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dynamic() -> Dynamic {
        let logical = json!({"database": "d", "plugin": "p"});
        Dynamic::read(&json!({"slots": {"a": logical, "b": logical, "c": null}})).unwrap()
    }

    fn view(status: &str) -> GroupView {
        let mut view = GroupView::default();
        view.take_sample("status", status, 1, 0);
        view
    }

    fn slot(name: &str) -> Slot {
        let kind = Kind::Logical { database: "d".into(), plugin: "p".into() };
        Slot { kind, confirmed_flush: Some(Lsn(50)), ..Slot::physical(name, Lsn(40)) }
    }

    #[test]
    fn a_slot_that_was_used_on_another_server_is_refused_until_its_definition_is_put_back() {
        let (dynamic, none) = (dynamic(), BTreeSet::new());
        let used = view(r#"{"optime":90,"slots":{"a":50,"c":60,"gone":70}}"#);
        let told = refused(&used, &dynamic, &[], &none);
        assert_eq!(told, [("a".to_string(), Lsn(50))].into(), "b is new, and c physical");
        assert!(refused(&used, &dynamic, &[slot("a")], &none).is_empty(), "it is there");
        let owned = ["a".to_string()].into();
        assert!(refused(&used, &dynamic, &[], &owned).is_empty(), "a person dropped it here");
        // The next report of the new leader has no position of it any more.
        let later = view(r#"{"optime":95,"slots":{},"refused_slots":{"a":50}}"#);
        assert_eq!(refused(&later, &dynamic, &[], &none), told);
        let without = Dynamic::read(&json!({})).unwrap();
        assert!(refused(&later, &without, &[], &none).is_empty());
    }

    #[test]
    fn a_reader_that_is_ahead_of_the_log_would_skip() {
        let used = view(r#"{"optime":90,"slots":{"a":50,"b":70}}"#);
        let there = [slot("a"), slot("b")];
        assert_eq!(skips(&used, &dynamic(), &there, Lsn(60)), [("b".into(), Lsn(70))].into());
        assert!(skips(&used, &dynamic(), &there, Lsn(70)).is_empty());
        assert!(skips(&used, &dynamic(), &[], Lsn(60)).is_empty());
    }
}
