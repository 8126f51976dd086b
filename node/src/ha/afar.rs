//! A cluster that follows another one by its own `/config`, without regions.

use super::facts::Facts;
use standby::switch::ownership::Ownership;

impl Facts<'_> {
    /// `/config` says that this cluster follows another one.
    pub fn is_demoted_cluster(&self) -> bool {
        self.o.ownership == Ownership::NoRegions && self.o.dynamic.standby_cluster.is_some()
    }

    /// A standby cluster with a `restore_command` and no host.
    pub fn has_only_archive(&self) -> bool {
        self.is_demoted_cluster() && self.remote().is_none()
    }
}
