//! The lease that this member's record and, leading, its lock hang on.
//!
//! Invariant *never without a lock*: a lease is replaced (`ttl` has changed, or the
//! store says that it is gone) by writing the leader key on the new one. The old
//! lease is renewed first, so that a store that refuses the new one takes nothing
//! away; the new one is remembered before the write is sent, so that a lost answer
//! leaves no key that this process does not know as its own.
//!
//! Absent on purpose: revoking the old lease. The member's record may still hang on
//! it; it ends by itself.

use super::Daemon;
use crate::act::txn;
use crate::clock;
use crate::dcs::{DcsError, LeaseId, Renewal, Txn, TxnResult};
use crate::ha::Observation;
use crate::ha::observation::Lock;
use crate::observe::lock::{NextLease, OwnLease};
use std::time::Duration;
use topology::{Dynamic, Millis};

impl Daemon {
    /// The lease that own keys hang on; asks the store for one if there is none.
    /// One of another `ttl` is replaced by the next renewal, and by nothing else.
    pub(super) async fn ensure_lease(&mut self) -> Result<LeaseId, DcsError> {
        if let Some(id) = self.lease.id {
            return Ok(id);
        }
        let next = match self.lease.next {
            Some(next) => next,
            None => self.grant_lease().await?,
        };
        self.adopt_lease(next);
        Ok(next.id)
    }

    async fn grant_lease(&self) -> Result<NextLease, DcsError> {
        let (renewed, ttl_ms) = (clock::now(), self.dynamic.ttl_ms);
        let id = self.store.grant(Duration::from_millis(ttl_ms)).await?;
        Ok(NextLease { id, renewed, ttl_ms })
    }

    fn adopt_lease(&mut self, next: NextLease) {
        self.lease = OwnLease::replaced_by(next);
        self.memory.lease_renewed = next.renewed;
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
                self.lease = OwnLease::default();
                let lease = self.ensure_lease().await?;
                self.write(txn(lease)).await
            }
            answer => answer,
        }
    }

    /// Keeps the lease alive; a leader key on an older lease is moved onto it.
    pub(super) async fn renew_lease(
        &mut self,
        sent: Millis,
        seen: &Observation,
    ) -> Result<bool, DcsError> {
        self.adopt_moved(seen);
        let Some(id) = self.lease.id else { return self.replace_lease(seen).await };
        if self.store.renew(id).await? == Renewal::Gone {
            // The key went with it, unless it was moved; the store is asked.
            tracing::warn!("the lease is gone: another one is asked for");
            self.lease.id = None;
            return self.replace_lease(seen).await;
        }
        // Without a watch the key is not known to hang on this lease still.
        let unsure = self.lease.next.is_some() && self.is_store_lost();
        if !unsure && !self.prove_lock(id, seen).await? {
            self.held = false;
            return Ok(false);
        }
        if !unsure {
            self.proven(sent, seen);
        }
        if self.lease.ttl_ms == self.dynamic.ttl_ms && self.lease.next.is_none() {
            return Ok(true);
        }
        match self.replace_lease(seen).await {
            Err(error) if !unsure => {
                // The one in use was renewed a moment ago.
                tracing::warn!("the lease could not be replaced by one of the new ttl: {error}");
                Ok(true)
            }
            replaced => replaced,
        }
    }

    /// The store shows the leader key on the lease that it was moved to.
    fn adopt_moved(&mut self, seen: &Observation) {
        let leader = seen.view().and_then(|view| view.leader.as_ref());
        let shown = leader.map(|leader| leader.lease);
        if let Some(next) = self.lease.next.filter(|next| Some(next.id) == shown) {
            self.adopt_lease(next);
        }
    }

    async fn prove_lock(&self, id: LeaseId, seen: &Observation) -> Result<bool, DcsError> {
        let me = &self.settings.name;
        let proof = match seen.lock {
            Lock::Mine { deadline, .. } if deadline.0 == 0 => txn::readopt(&self.keys, me, id),
            Lock::Mine { .. } if self.is_store_lost() => txn::prove(&self.keys, me, id),
            _ => return Ok(true),
        };
        Ok(self.write(proof).await?.succeeded)
    }

    /// Puts the leader key on a new lease; without a lock only the lease is new.
    async fn replace_lease(&mut self, seen: &Observation) -> Result<bool, DcsError> {
        let next = self.next_lease().await?;
        if !seen.holds_lock() {
            self.adopt_lease(next);
            self.proven(next.renewed, seen);
            return Ok(true);
        }
        self.lease.next = Some(next);
        let moved = self.write(txn::readopt(&self.keys, &self.settings.name, next.id)).await?;
        self.adopt_lease(next);
        if moved.succeeded {
            self.proven(next.renewed, seen);
            return Ok(true);
        }
        // The copy of the store may not know yet that the key is gone.
        self.held = false;
        let _ = self.mirror.refresh().await;
        Ok(false)
    }

    /// The lease of a replacement that was begun, if it still lives and fits.
    async fn next_lease(&mut self) -> Result<NextLease, DcsError> {
        let begun = self.lease.next.filter(|next| next.ttl_ms == self.dynamic.ttl_ms);
        let Some(next) = begun else { return self.grant_lease().await };
        let renewed = clock::now();
        match self.store.renew(next.id).await? {
            Renewal::Alive => Ok(NextLease { renewed, ..next }),
            Renewal::Gone => self.grant_lease().await,
        }
    }

    fn proven(&mut self, sent: Millis, seen: &Observation) {
        if seen.holds_lock() {
            self.feed_watchdog();
        }
        self.lease.renewed = sent;
        self.memory.lease_renewed = sent;
        self.chores.status_due = true;
    }

    /// The watchdog fires before the lock ends, also while the lease in use is
    /// still one of a shorter `ttl`.
    fn feed_watchdog(&mut self) {
        let ttl_ms = self.lease.ttl_ms.min(self.dynamic.ttl_ms);
        match ttl_ms == self.dynamic.ttl_ms {
            true => self.watchdog.feed(&self.dynamic),
            false => self.watchdog.feed(&Dynamic { ttl_ms, ..self.dynamic.clone() }),
        }
    }
}
