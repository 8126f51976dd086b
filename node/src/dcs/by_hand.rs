//! What other programs do with the same store: they speak in keys and compare nothing.
//!
//! The simulator and tests play an operator, Patroni or a lost record with it. No
//! daemon and no command uses it (`tests/tests/tidy.rs`): theirs are writes.

pub use super::kv::Edit;
use super::kv::{KeyValueStore, Txn, lower};
use super::{Answer, Keys, Session, Write};

pub trait ByHand: Send + Sync {
    /// Performs all of them at once, whatever the store holds.
    fn edit(&self, edits: Vec<Edit>) -> Answer<'_, ()>;

    /// Ends the session; keys that hang on it go with it.
    fn end_session(&self, session: Session) -> Answer<'_, ()>;
}

impl<S: KeyValueStore> ByHand for S {
    fn edit(&self, edits: Vec<Edit>) -> Answer<'_, ()> {
        Box::pin(async move { self.txn(Txn { when: Vec::new(), then: edits }).await.map(|_| ()) })
    }

    fn end_session(&self, session: Session) -> Answer<'_, ()> {
        self.revoke(session)
    }
}

/// What a write changes if the store takes it, for checks of all that was sent.
pub fn edits_of(keys: &Keys, write: &Write) -> Vec<Edit> {
    lower(keys, write).then
}
