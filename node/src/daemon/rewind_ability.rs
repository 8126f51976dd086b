//! Can pg_rewind be used on this data directory?
//!
//! Asked before it is needed, so that a member whose log has diverged says at
//! once what is in the way. The control file tells it of every stopped server.
//! The first look is waited for; later ones run beside the beat, which may have
//! a promotion to do.

use crate::postgres::{ControlData, Instance, rewind};
use member::ha::observation::Rewind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use topology::Millis;

/// A program may be installed, a setting may come with a restart.
const AGAIN_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct RewindAbility {
    looked: Option<Millis>,
    found: Arc<Found>,
}

#[derive(Debug, Default)]
struct Found {
    program: AtomicBool,
    /// Data checksums or wal_log_hints; `None`: the file was not read yet.
    hints: Mutex<Option<bool>>,
}

impl RewindAbility {
    pub(super) async fn look(&mut self, instance: &Arc<Instance>, now: Millis) {
        match self.looked {
            None => self.found.look(instance).await,
            Some(at) if now.since(at) < AGAIN_MS => return,
            Some(_) => {
                let (found, instance) = (self.found.clone(), instance.clone());
                tokio::spawn(async move { found.look(&instance).await });
            }
        }
        self.looked = Some(now);
    }

    pub(super) fn take(&mut self, control: &ControlData) {
        self.found.take(control);
    }

    /// Settings were read again.
    pub(super) fn forget(&mut self) {
        self.looked = None;
    }

    pub(super) fn answer(&self) -> Rewind {
        let program = self.found.program.load(Ordering::Relaxed);
        let hints = *self.found.hints.lock().unwrap_or_else(PoisonError::into_inner);
        match (program, hints) {
            (false, _) => Rewind::NoProgram,
            (_, Some(false)) => Rewind::NoHints,
            // Not read is not "without": pg_rewind itself would refuse.
            _ => Rewind::Possible,
        }
    }
}

impl Found {
    async fn look(&self, instance: &Instance) {
        let there = rewind::is_there(&instance.settings).await;
        self.program.store(there, Ordering::Relaxed);
        match instance.control().await {
            Ok(control) => self.take(&control),
            Err(error) => tracing::debug!("{error}"),
        }
    }

    fn take(&self, control: &ControlData) {
        let hints = Some(control.wal_log_hints || control.checksums);
        *self.hints.lock().unwrap_or_else(PoisonError::into_inner) = hints;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let ability = RewindAbility::default();
        assert_eq!(ability.answer(), Rewind::NoProgram);
        ability.found.program.store(true, Ordering::Relaxed);
        assert_eq!(ability.answer(), Rewind::Possible);
        *ability.found.hints.lock().unwrap() = Some(false);
        assert_eq!(ability.answer(), Rewind::NoHints);
        *ability.found.hints.lock().unwrap() = Some(true);
        assert_eq!(ability.answer(), Rewind::Possible);
    }
}
