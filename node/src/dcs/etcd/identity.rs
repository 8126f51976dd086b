//! Which etcd cluster this is.
//!
//! Every answer names the cluster that gave it. Two clusters behind one list of
//! endpoints (an old machine that now serves another cluster, a typing error)
//! would else be read as one whose keys come and go.
//!
//! Invariant *one history*: an answer of another cluster than before counts as
//! no answer. Another cluster takes its place only when every endpoint that is
//! known either belongs to it or refuses connections: the old one is gone.

use super::translate;
use crate::dcs::DcsError;
use etcd_client::ResponseHeader;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct Identity(Mutex<Known>);

#[derive(Clone, Copy, Default)]
struct Known {
    /// 0: none has answered yet.
    cluster: u64,
    /// Of the newest answer that a majority stood behind.
    term: u64,
}

impl Identity {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint that did not say (0) is judged by its first answer.
    pub(super) fn is_ours(&self, cluster: u64) -> bool {
        cluster == 0 || [0, cluster].contains(&self.known().cluster)
    }

    /// From now on this cluster is the store.
    pub(super) fn adopt(&self, cluster: u64) {
        let mut known = self.known();
        if known.cluster != 0 && cluster != 0 && known.cluster != cluster {
            tracing::warn!(
                "the store is another etcd cluster now ({cluster:x}, before {:x})",
                known.cluster
            );
        }
        if cluster != 0 && known.cluster != cluster {
            *known = Known { cluster, term: 0 };
        }
    }

    /// An answer that a majority of some cluster stands behind.
    pub(super) fn check(&self, header: Option<&ResponseHeader>) -> Result<(), DcsError> {
        let Some(header) = header else { return Ok(()) };
        if !self.is_ours(header.cluster_id()) {
            return Err(foreign(header.cluster_id()));
        }
        self.adopt(header.cluster_id());
        self.known().term = header.raft_term();
        Ok(())
    }

    /// What a single member tells by itself: it may be behind the others.
    pub(super) fn check_watch(&self, header: Option<&ResponseHeader>) -> Result<(), DcsError> {
        let Some(header) = header else { return Ok(()) };
        if !self.is_ours(header.cluster_id()) {
            return Err(foreign(header.cluster_id()));
        }
        let (term, newest) = (header.raft_term(), self.known().term);
        if term < newest {
            let why = format!("the member that is watched is behind (term {term} of {newest})");
            return Err(translate::unreachable(why));
        }
        Ok(())
    }
}

pub(super) fn foreign(cluster: u64) -> DcsError {
    translate::unreachable(format!(
        "it belongs to another etcd cluster ({cluster:x}); name endpoints of one cluster only, \
         or restart the daemon if the store was replaced"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cluster_stays_until_another_is_adopted() {
        let identity = Identity::default();
        assert!(identity.is_ours(7));
        identity.adopt(7);
        assert!(identity.is_ours(7) && !identity.is_ours(8));
        identity.adopt(8);
        assert!(identity.is_ours(8) && !identity.is_ours(7));
    }
}
