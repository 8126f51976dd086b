//! Whose is the lock, as far as this member may rely on it?
//!
//! Invariant: the deadline counts from before the last renewal was *sent*, so
//! it lies before the store lets the key go, whatever the reply took.
//!
//! A lease is replaced when `ttl` has changed, or when it is gone. The leader key
//! is put on the new lease by one write; until its outcome is known, the key may
//! hang on either, and the earlier deadline of the two counts.

use crate::ha::observation::Lock;
use topology::Session;
use topology::{GroupView, MemberName, Millis, Seen};

/// What this process knows of its own lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnLease {
    pub id: Option<Session>,
    /// Before the last successful renewal (or the grant) was sent.
    pub renewed: Millis,
    pub ttl_ms: u64,
    /// The lease that replaces this one; the leader key may hang on it already.
    pub next: Option<NextLease>,
}

/// A lease that was granted to replace the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextLease {
    pub id: Session,
    /// Before it was asked for, or last renewed.
    pub renewed: Millis,
    pub ttl_ms: u64,
}

impl OwnLease {
    /// When the leader key may end, on whichever of the two leases it hangs.
    pub fn deadline(&self) -> Millis {
        let own = self.renewed + self.ttl_ms;
        self.next.map_or(own, |next| own.min(next.deadline()))
    }

    /// The replacement is complete: nothing of the leader's hangs on the old one.
    pub fn replaced_by(next: NextLease) -> OwnLease {
        let NextLease { id, renewed, ttl_ms } = next;
        OwnLease { id: Some(id), renewed, ttl_ms, next: None }
    }
}

impl NextLease {
    pub fn deadline(&self) -> Millis {
        self.renewed + self.ttl_ms
    }
}

/// `held`: this process held the lock when it last knew.
pub fn read(
    me: &MemberName,
    store: &Seen<GroupView>,
    lease: &OwnLease,
    held: bool,
    now: Millis,
) -> Lock {
    let mine = Lock::Mine { renewed: lease.renewed, deadline: lease.deadline() };
    match store {
        Seen::Unknown if held && now < lease.deadline() => mine,
        Seen::Unknown => Lock::Unknown,
        Seen::Known(view) => match &view.leader {
            None => Lock::Free,
            Some(leader) if &leader.value != me => Lock::Other(leader.value.clone()),
            Some(leader) if leader.is_on(lease.id) => mine,
            // Only this process moves its key, and it is never moved back.
            Some(leader) if leader.is_on(lease.next.map(|next| next.id)) => {
                let next = lease.next.expect("just compared");
                Lock::Mine { renewed: next.renewed, deadline: next.deadline() }
            }
            // The name is ours, the lease is of a process before this one.
            Some(_) => Lock::Mine { renewed: Millis(0), deadline: Millis(0) },
        },
    }
}

/// May the lock be relied on while the store is silent? Only if its key is
/// known to hang on the lease that this process renews: a key of an earlier
/// process ends when it likes.
pub fn is_relied_on(lock: &Lock) -> bool {
    matches!(lock, Lock::Mine { deadline, .. } if deadline.0 > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    fn view(leader: &str, lease: i64) -> Seen<GroupView> {
        let mut view = GroupView::default();
        view.take_sample("leader", leader, 1, lease);
        Seen::Known(view)
    }

    const LEASE: OwnLease = OwnLease {
        id: Some(Session::of_store(7)),
        renewed: Millis(1_000),
        ttl_ms: 30_000,
        next: None,
    };

    /// The write that moves the key may have happened or not.
    #[test]
    fn n4_while_a_lease_is_replaced_the_key_is_ours_on_either_and_the_earlier_deadline_counts() {
        let me = MemberName::new("me");
        let next = NextLease { id: Session::of_store(8), renewed: Millis(5_000), ttl_ms: 20_000 };
        let lease = OwnLease { next: Some(next), ..LEASE };
        let deadline = |store: &Seen<GroupView>, lease: &OwnLease| match read(
            &me,
            store,
            lease,
            true,
            Millis(6_000),
        ) {
            Lock::Mine { deadline, .. } => deadline,
            other => panic!("{other:?}"),
        };
        assert_eq!(deadline(&view("me", 7), &lease), Millis(25_000), "a shorter ttl");
        assert_eq!(deadline(&view("me", 8), &lease), Millis(25_000));
        assert_eq!(deadline(&Seen::Unknown, &lease), Millis(25_000));
        assert_eq!(deadline(&view("me", 3), &lease), Millis(0), "of an earlier process");
        let longer = OwnLease { next: Some(NextLease { ttl_ms: 40_000, ..next }), ..LEASE };
        assert_eq!(deadline(&view("me", 7), &longer), Millis(31_000), "a longer ttl");
        assert_eq!(deadline(&Seen::Unknown, &longer), Millis(31_000));
        assert_eq!(deadline(&view("me", 8), &longer), Millis(45_000), "it was moved");
        let replaced = OwnLease::replaced_by(next);
        assert_eq!((replaced.id, replaced.deadline()), (Some(next.id), Millis(25_000)));
    }

    #[test]
    fn a_silent_store_leaves_the_lock_until_its_deadline_only() {
        let me = MemberName::new("me");
        let held = |now| read(&me, &Seen::Unknown, &LEASE, true, Millis(now));
        assert!(matches!(held(30_999), Lock::Mine { deadline: Millis(31_000), .. }));
        assert_eq!(held(31_000), Lock::Unknown);
        assert_eq!(read(&me, &Seen::Unknown, &LEASE, false, Millis(2_000)), Lock::Unknown);
    }

    #[test]
    fn a_key_on_an_older_lease_is_ours_but_proves_nothing() {
        let me = MemberName::new("me");
        let old = read(&me, &view("me", 3), &LEASE, false, Millis(2_000));
        assert_eq!(old, Lock::Mine { renewed: Millis(0), deadline: Millis(0) });
        assert!(matches!(read(&me, &view("me", 7), &LEASE, false, Millis(2)), Lock::Mine { .. }));
        let other = read(&me, &view("x", 3), &LEASE, true, Millis(2_000));
        assert_eq!(other, Lock::Other("x".into()));
        let free = read(&me, &Seen::Known(GroupView::default()), &LEASE, true, Millis(2));
        assert_eq!(free, Lock::Free);
    }
}
