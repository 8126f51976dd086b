//! The lock in the store that lets one pause of the formation be open at a time.
//!
//! It hangs on the lease of the coordinator's leader, so that it ends with its daemon. A
//! coordinator that takes over while an earlier one still has it opens no pause: the
//! sessions of both would end each other.

use super::STORE_CALL;
use crate::dcs::keys::Keys;
use crate::dcs::mirror::Mirror;
use crate::dcs::{KeyValue, Session};
use std::sync::Arc;
use topology::MemberName;
use topology::write::{LeaderWrite, Write};

pub(super) struct PauseLock {
    pub mirror: Arc<Mirror>,
    pub keys: Keys,
    pub me: MemberName,
    pub session: Option<Session>,
    /// What the store holds.
    pub entry: Option<KeyValue>,
}

impl PauseLock {
    /// The entry in the store is this process's own.
    pub(super) fn is_left(&self) -> bool {
        let on = self.entry.as_ref().map(|entry| entry.session);
        on.is_some_and(|session| session.is_some() && session == self.session)
    }

    pub(super) async fn take(&self, group: u32) -> Result<(), String> {
        let Some(session) = self.session else { return Err("this member has no lease".into()) };
        let on = self.entry.as_ref().filter(|_| self.is_left()).map(|entry| entry.version);
        let write = LeaderWrite::TakePause { group, by: self.me.clone(), on };
        let write = Write::AsLeader { session, write };
        match tokio::time::timeout(STORE_CALL, self.mirror.write(&self.keys, &write)).await {
            Ok(Ok(result)) if result.succeeded => Ok(()),
            Ok(Ok(_)) => Err(match &self.entry {
                Some(entry) => format!("another pause is open: {}", entry.value),
                None => "another pause is open, or this member leads no more".to_string(),
            }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the store did not answer within {STORE_CALL:?}")),
        }
    }

    /// What stays, for the store is silent, is freed by a later step.
    pub(super) async fn free(&self) {
        let Some(session) = self.session else { return };
        let write = Write::EndPause { session };
        let _ = tokio::time::timeout(STORE_CALL, self.mirror.write(&self.keys, &write)).await;
    }
}
