//! What a member's server has beside the configured settings, as PostgreSQL reads it.
//!
//! Which of them apply is decided in `member/overrides.rs`.

use super::Daemon;
use crate::postgres::recovery::TARGET;
use member::overrides::Overrides;

pub(super) const NAMES: &str = "synchronous_standby_names";
pub(super) const WAL_KEEP_SIZE: &str = "wal_keep_size";
/// Of the log, where all of it is kept: more than there is.
pub(super) const ALL_WAL: &str = "1TB";

impl Daemon {
    /// Names and values for the server's files.
    pub(super) fn values_of(&self, overrides: &Overrides) -> Vec<(String, String)> {
        let Overrides { is_quarantined, names, target, keeps_log, .. } = overrides;
        let mut values = match &self.settings.citus {
            Some(own) if *is_quarantined => citus::quarantine(own.group, own.stand_in),
            _ => Vec::new(),
        };
        let mut set = |name: &str, value: String| values.push((name.to_string(), value));
        if let Some(names) = names {
            set(NAMES, names.clone());
        }
        if let Some(timeline) = target {
            set(TARGET, timeline.to_string());
        }
        if *keeps_log {
            set(WAL_KEEP_SIZE, ALL_WAL.to_string());
        }
        if overrides.feedback {
            set("hot_standby_feedback", "on".to_string());
        }
        if overrides.syncs_slots {
            set("sync_replication_slots", "on".to_string());
        }
        if let Some(slots) = &overrides.awaited_slots {
            set("synchronized_standby_slots", slots.join(","));
        }
        values
    }
}
