//! What wakes a member before its longest sleep is over.
//! The rule is in `member/wake.rs`.

use crate::dcs::mirror::{Change, Changes};
use member::Member;

/// Waits for a change that another process made and that matters here.
pub(super) async fn changed(changes: &mut Changes, member: &Member) {
    loop {
        match changes.next().await {
            Some(change) if is_awaited(&change, member) => return,
            Some(_) => {}
            // The mirror lives as long as the daemon.
            None => std::future::pending().await,
        }
    }
}

fn is_awaited(change: &Change, member: &Member) -> bool {
    match change {
        Change::Keys { own, keys } => member.is_woken_by(keys.iter().map(String::as_str), *own),
        Change::Missed => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dcs::mirror::Mirror;
    use std::sync::Arc;
    use std::time::Duration;
    use topology::Millis;

    #[test]
    fn changes_that_were_missed_wake_a_member() {
        assert!(is_awaited(&Change::Missed, &Member::new("n2".into(), 20, Millis(0))));
    }

    /// The watch of the local copy is what wakes: from a write by another client to
    /// the end of the sleep there is no poll.
    #[tokio::test]
    async fn a_leader_that_goes_wakes_a_follower_at_once() {
        use crate::dcs::by_hand::Edit;
        use crate::dcs::memory::MemoryStore;
        let (store, member) = (MemoryStore::new(), Member::new("n2".into(), 20, Millis(0)));
        let mirror = Mirror::spawn(Arc::new(store.client()), vec!["/service/shop/".into()]);
        mirror.ready(Duration::from_secs(5)).await.expect("a first read");
        let mut changes = mirror.subscribe();
        store.edit_now([Edit::put("/service/shop/leader", "n1")]).expect("reachable");
        let woken = tokio::time::timeout(Duration::from_secs(5), changed(&mut changes, &member));
        woken.await.expect("woken by the leader's key");
    }
}
