//! Writing what a member keeps up in the store: its record, a leader's documents.
//!
//! Invariants: what the store is known to hold is not sent again, however a chore
//! came to ask for it; and an upkeep write does not wake the daemon that made it
//! (`dcs/mirror/sent.rs`). So a chore that misjudges what is there costs nothing.

use super::Daemon;
use topology::Write;

/// What became of an upkeep write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Written,
    /// The store holds it already: nothing was sent.
    Known,
    /// Another program was faster; a later beat looks again.
    Lost,
    /// The store did not answer, and may have taken it.
    Unanswered,
}

impl Daemon {
    pub(super) async fn keep(&self, what: &str, write: Write) -> Kept {
        let Some(write) = self.mirror.news(&self.keys, write) else {
            tracing::debug!("{what} is not written again: the store holds it");
            return Kept::Known;
        };
        match self.write(&write).await {
            Ok(result) if result.succeeded => Kept::Written,
            Ok(_) => Kept::Lost,
            Err(error) => {
                crate::log::warn(&format!("{what} could not be written: {error}"));
                Kept::Unanswered
            }
        }
    }
}
