//! A cluster that follows another one by its own `/config`, without regions.

use super::facts::Facts;
use standby::rewind::LocalEnd;
use standby::switch::ownership::Ownership;
use topology::Timeline;

impl Facts<'_> {
    /// `/config` says that this cluster follows another one.
    pub fn is_demoted_cluster(&self) -> bool {
        self.o.ownership == Ownership::NoRegions && self.o.dynamic.standby_cluster.is_some()
    }

    /// A standby cluster with a `restore_command` and no host.
    pub fn has_only_archive(&self) -> bool {
        self.is_demoted_cluster() && self.remote().is_none()
    }

    /// What an operator should know of a standby leader that receives nothing.
    pub fn why_not_streaming(&self) -> Option<String> {
        let trouble = self.o.memory.upstream_trouble.as_ref()?;
        if !self.leads_standby_group() || self.o.is_streaming() {
            return None;
        }
        Some(format!("not streaming from the remote side: {trouble}"))
    }

    /// The remote side is on an older timeline than a standby's log that came from there: a
    /// former primary, or a server that has not caught up. It is no proof that this log has
    /// left the history. A timeline that this cluster began itself is another matter.
    ///
    /// A server in recovery is not known to have all of the history that it follows. Only
    /// one that is open proves that a newer log has left its history: a cluster that is
    /// demoted before the other side has received its last failover would be rewound to
    /// what that side has.
    pub fn why_remote_is_too_old(
        &self,
        local: &LocalEnd,
        remote: Timeline,
        in_recovery: Option<bool>,
    ) -> Option<String> {
        let leads_afar = self.o.holds_lock() && self.remote().is_some();
        if leads_afar && in_recovery != Some(false) && local.timeline > remote {
            return Some(format!(
                "the remote server is a standby on timeline {remote}, and this log is on timeline \
                 {}: it is kept until that server has received it, or another one is promoted there",
                local.timeline
            ));
        }
        let view = self.view().filter(|_| self.leads_standby_group())?;
        let claimed = view.claim.as_ref().map_or(Timeline(0), |claim| claim.value.timeline);
        let came_from_there = local.timeline > view.timeline().max(claimed);
        (self.is_demoted_cluster() && came_from_there && local.timeline > remote).then(|| {
            format!(
                "the remote server is on timeline {remote}, but this standby already has timeline {} \
                 of the remote cluster: its log is kept, waiting for a server on that timeline",
                local.timeline
            )
        })
    }
}
