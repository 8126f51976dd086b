//! The lease that this member's record hangs on, for upkeep writes outside of a beat.
//!
//! A leader's lease is renewed and replaced by the machine alone (`member/renewal.rs`).

use super::Daemon;
use crate::clock;
use crate::dcs::{DcsError, LeaseId, Txn, TxnResult};
use crate::observe::lock::{NextLease, OwnLease};
use std::time::Duration;

impl Daemon {
    /// The lease that own keys hang on; asks the store for one if there is none.
    /// One of another `ttl` is replaced by the next renewal, and by nothing else.
    pub(super) async fn ensure_lease(&mut self) -> Result<LeaseId, DcsError> {
        if let Some(id) = self.member.lease.id {
            return Ok(id);
        }
        let next = match self.member.lease.next {
            Some(next) => next,
            None => self.grant_lease().await?,
        };
        self.adopt_lease(next);
        Ok(next.id)
    }

    async fn grant_lease(&self) -> Result<NextLease, DcsError> {
        let (renewed, ttl_ms) = (clock::now(), self.member.dynamic.ttl_ms);
        let id = self.store.grant(Duration::from_millis(ttl_ms)).await?;
        Ok(NextLease { id, renewed, ttl_ms })
    }

    fn adopt_lease(&mut self, next: NextLease) {
        self.member.lease = OwnLease::replaced_by(next);
        self.member.memory.lease_renewed = next.renewed;
        self.lease_out.send_replace(Some(next.id));
    }

    /// Writes what hangs on the own lease. A lease that the store does not know
    /// any more is replaced, once.
    pub(super) async fn write_on_lease(
        &mut self,
        txn: impl Fn(LeaseId) -> Txn + Send,
    ) -> Result<TxnResult, DcsError> {
        let lease = self.ensure_lease().await?;
        match self.write(txn(lease)).await {
            Err(DcsError::LeaseGone) => {
                tracing::warn!("the lease is gone: another one is asked for");
                self.member.lease = OwnLease::default();
                let lease = self.ensure_lease().await?;
                self.write(txn(lease)).await
            }
            answer => answer,
        }
    }
}
