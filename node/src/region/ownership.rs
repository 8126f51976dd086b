//! The topology of one store, read from its keys.
//!
//! The rules are pure and live in `standby::switch::ownership`; here is what knows
//! where their keys lie.

use crate::dcs::KeyValue;
use crate::dcs::keys::{Keys, split_groups};
use standby::switch::{LocalTopology, Site};

/// The `topology/` keys among `entries`.
pub fn read(keys: &Keys, entries: &[KeyValue]) -> LocalTopology {
    let prefix = keys.topology_prefix();
    let mut local = LocalTopology::default();
    for entry in entries {
        if let Some(key) = entry.key.strip_prefix(&prefix) {
            local.take(key, &entry.value, entry.version, entry.session);
        }
    }
    local
}

/// One region as its store tells it.
pub fn read_site(keys: &Keys, entries: &[KeyValue]) -> Site {
    let groups = split_groups(&keys.scope_prefix(), entries);
    Site { topology: read(keys, entries), groups }
}
