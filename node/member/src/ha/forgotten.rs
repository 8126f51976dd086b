//! A store that does not know the cluster whose data is here.
//!
//! An operator's `del --prefix`, a new disk, or the wrong address: a deleted entry
//! cannot be distinguished from one that never existed. A member that knew the cluster
//! enters it again, once no member can still rely on a lock that was deleted with it.
//! A member that did not know it leaves everything as it is.

use super::facts::Facts;
use standby::switch::ownership::Ownership;
use topology::MemberRole;

impl Facts<'_> {
    /// No member leads and `/initialize` names no system, though there is data.
    pub fn is_forgotten(&self) -> bool {
        self.o.memory.forgotten_at.is_some() && self.is_lock_free()
    }

    /// The member that led when the store forgot the cluster may still rely on its lock.
    pub fn may_forgotten_lock_hold(&self) -> bool {
        let since = self.o.memory.forgotten_at;
        since.is_some_and(|since| self.o.now.since(since) < self.o.dynamic.ttl_ms)
    }

    /// The first member of a standby cluster: none of its members has ever written,
    /// so there is no writer whose lock could have been deleted.
    pub fn enters_as_standby_cluster(&self) -> bool {
        let plain = self.o.ownership == Ownership::NoRegions;
        plain && self.o.dynamic.standby_cluster.is_some() && self.is_alone()
    }

    /// A server that runs as this process found it, in a store that does not
    /// know the cluster: it may be the wrong store.
    pub fn is_found_in_unknown_store(&self) -> bool {
        let memory = &self.o.memory;
        self.is_forgotten()
            && !self.is_initialised()
            && !memory.has_begun
            && !memory.knew_system
            && self.o.is_standby()
    }

    /// Members that have data.
    pub fn has_data_elsewhere(&self) -> bool {
        let view = self.view();
        view.into_iter().flat_map(|v| &v.members).any(|(name, member)| {
            *name != self.o.me.name && member.value.role != MemberRole::Uninitialized
        })
    }
}
