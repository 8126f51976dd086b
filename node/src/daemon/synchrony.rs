//! Synchronous replication: other names, written and in force.
//!
//! Invariant *in force before it counts*: a step is done when the new names act in
//! every process of the server (`standby/src/sync/acting.rs`); until then commits may be
//! acknowledged by the old ones.

use super::Daemon;
use super::overrides::NAMES;
use member::Answer;
use member::overrides::Overrides;
use standby::sync::Names;

impl Daemon {
    pub(super) async fn name_sync(&mut self, names: &Names, overrides: &Overrides) -> Answer {
        let (text, values) = (names.write(), self.values_of(overrides));
        if let Err(why) = self.server.rename_sync(&self.member.dynamic.raw, &values).await {
            return Answer::Failed(why);
        }
        match self.server.until_names_act(text.clone()).await {
            Ok(()) => {
                tracing::info!("{NAMES} is now `{text}`");
                Answer::Done
            }
            Err(why) => Answer::Failed(format!("{NAMES} `{text}`: {why}")),
        }
    }
}
