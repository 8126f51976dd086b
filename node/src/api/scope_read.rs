//! One read of the whole scope, which serves every caller for a moment.

use crate::dcs::{DcsError, Snapshot, Store, Version};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a read of the whole scope serves the next callers.
const READ_EVERY: Duration = Duration::from_secs(1);

/// One read of the whole scope, or why there is none.
#[derive(Clone)]
pub(crate) struct ScopeRead {
    pub asked: Instant,
    pub outcome: Result<Arc<Snapshot>, String>,
}

impl ScopeRead {
    pub(crate) async fn of(store: &dyn Store, prefix: String) -> ScopeRead {
        let asked = Instant::now();
        let outcome = store.read(&[prefix]).await;
        let outcome = outcome.map(Arc::new);
        let outcome = outcome.map_err(|error| cannot_be_used(&error));
        ScopeRead { asked, outcome }
    }

    /// Young enough, and not older than what callers were told.
    pub(crate) fn serves(&self, wanted: Version) -> bool {
        let is_old = self.outcome.as_ref().is_ok_and(|read| read.version < wanted);
        self.asked.elapsed() < READ_EVERY && !is_old
    }
}

pub(super) fn cannot_be_used(error: &DcsError) -> String {
    format!("the configuration store cannot be used: {error}")
}
