//! What wakes a member before its longest sleep is over.
//! The rule is in `member/wake.rs`.

use crate::dcs::mirror::{Change, Changes};
use member::wakes;

/// Waits for a change that another process made and that matters here.
pub(super) async fn changed(changes: &mut Changes, leads: bool) {
    loop {
        match changes.next().await {
            Some(change) if is_awaited(&change, leads) => return,
            Some(_) => {}
            // The mirror lives as long as the daemon.
            None => std::future::pending().await,
        }
    }
}

fn is_awaited(change: &Change, leads: bool) -> bool {
    match change {
        Change::Keys { own, keys } => wakes(keys.iter().map(String::as_str), *own, leads),
        Change::Missed => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::mirror::Mirror;
    use std::sync::Arc;
    use std::time::Duration;

    fn change(keys: &[&str], own: bool) -> Change {
        Change::Keys { keys: keys.iter().map(|key| format!("/service/shop/{key}")).collect(), own }
    }

    #[test]
    fn others_changes_wake_a_member_and_reports_only_those_who_follow() {
        for key in ["leader", "config", "failover", "sync", "members/n2", "history", "initialize"] {
            assert!(is_awaited(&change(&[key], false), true), "{key}");
            assert!(is_awaited(&change(&[key], false), false), "{key}");
            assert!(!is_awaited(&change(&[key], true), false), "own {key}");
        }
        for report in ["status", "optime/leader"] {
            assert!(is_awaited(&change(&[report], false), false));
            assert!(!is_awaited(&change(&[report], false), true));
        }
        assert!(is_awaited(&change(&["status", "leader"], false), true));
        assert!(is_awaited(&Change::Missed, true));
    }

    /// The watch of the local copy is what wakes: from a write by another client to
    /// the end of the sleep there is no poll.
    #[tokio::test]
    async fn a_leader_that_goes_wakes_a_follower_at_once() {
        use crate::dcs::by_hand::Edit;
        use crate::dcs::memory::MemoryStore;
        let store = MemoryStore::new();
        let mirror = Mirror::spawn(Arc::new(store.client()), vec!["/service/shop/".into()]);
        mirror.ready(Duration::from_secs(5)).await.expect("a first read");
        let mut changes = mirror.subscribe();
        store.edit_now([Edit::put("/service/shop/leader", "n1")]).expect("reachable");
        let woken = tokio::time::timeout(Duration::from_secs(5), changed(&mut changes, false));
        woken.await.expect("woken by the leader's key");
        store.edit_now([Edit::put("/service/shop/status", "n1")]).expect("reachable");
        let sleeps = tokio::time::timeout(Duration::from_millis(100), changed(&mut changes, true));
        assert!(sleeps.await.is_err(), "a leader's report woke a leader");
    }
}
