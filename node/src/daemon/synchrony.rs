//! Synchronous replication: the steps that `decide` asks for.
//!
//! Invariant *in force before it counts*: a step is done when the new names act in
//! every process of the server (`server/names.rs`); until then commits may be
//! acknowledged by the old ones.

use super::Daemon;
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::member::Answer;
use crate::postgres::recovery::TARGET;
use standby::switch::ownership::Ownership;
use standby::sync::Names;
use std::time::Duration;

/// How long a beat waits for it; later ones see when it has come.
const IN_FORCE: Duration = Duration::from_secs(1);
const NAME: &str = "synchronous_standby_names";

impl Daemon {
    pub(super) async fn name_sync(&mut self, names: &Names) -> Answer {
        // Whatever comes of it, the files are looked at again.
        self.chores.applied = None;
        let text = names.write();
        let ownership = self.chores.ownership.clone().unwrap_or(Ownership::NoRegions);
        let overrides = self.with_names(&ownership, Some(text.clone()));
        if let Err(why) = self.server.rename_sync(&self.member.dynamic.raw, &overrides).await {
            return Answer::Failed(why);
        }
        match self.server.until_names_act(&text, IN_FORCE).await {
            Ok(()) => {
                tracing::info!("{NAME} is now `{text}`");
                Answer::Done
            }
            Err(why) => Answer::Failed(format!("{NAME} `{text}`: {why}")),
        }
    }

    /// Settings that the server has beside the configured ones, now or, with
    /// `opens`, when it is started as a primary.
    pub(super) fn overrides(&self, seen: &Observation, opens: bool) -> Vec<(String, String)> {
        let mut overrides = self.with_names(&seen.ownership, Facts::of(seen).sync_names(opens));
        let pinned = seen.memory.pinned.filter(|_| !opens);
        overrides.extend(pinned.map(|timeline| (TARGET.to_string(), timeline.to_string())));
        overrides
    }

    fn with_names(&self, owner: &Ownership, names: Option<String>) -> Vec<(String, String)> {
        let mut overrides = self.quarantine(owner);
        overrides.extend(names.map(|names| (NAME.to_string(), names)));
        overrides
    }
}
