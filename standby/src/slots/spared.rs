//! Slots that are never dropped: those an operator names, those of a running shard move, and
//! those with which a subscription copies its tables.

use super::{Kind, Slot};
use serde_json::{Map, Value};

/// A slot fits an entry of `ignore_slots` when every key that the entry gives is equal.
pub(super) fn is_ignored(slot: &Slot, ignore_slots: &[Map<String, Value>]) -> bool {
    ignore_slots.iter().any(|entry| fits(slot, entry))
}

fn fits(slot: &Slot, entry: &Map<String, Value>) -> bool {
    let (kind, database, plugin) = match &slot.kind {
        Kind::Physical => ("physical", None, None),
        Kind::Logical { database, plugin } => ("logical", Some(database), Some(plugin)),
    };
    let (database, plugin) = (database.map(String::as_str), plugin.map(String::as_str));
    let fields = [
        ("name", Some(slot.name.as_str())),
        ("type", Some(kind)),
        ("database", database),
        ("plugin", plugin),
    ];
    fields.iter().all(|(key, own)| match entry.get(*key) {
        None | Some(Value::Null) => true,
        Some(Value::String(given)) => Some(given.as_str()) == *own,
        Some(other) => Some(other.to_string().as_str()) == *own,
    })
}

/// A shard move or split of Citus reads from it: without it the move fails.
pub(super) fn is_reserved(slot: &Slot, citus_databases: &[String]) -> bool {
    let Kind::Logical { database, plugin } = &slot.kind else { return false };
    let prefix = match plugin.as_str() {
        "pgoutput" => "citus_shard_move_slot",
        "citus" => "citus_shard_split_slot",
        _ => return false,
    };
    let rest = slot.name.strip_prefix(prefix);
    citus_databases.contains(database) && rest.is_some_and(is_two_or_three_numbers)
}

/// A subscription copies a table with it: it is not in use during the copy, and without it
/// the copy begins anew.
pub(super) fn is_of_table_copy(slot: &Slot) -> bool {
    let Kind::Logical { plugin, .. } = &slot.kind else { return false };
    let parts: Vec<&str> = slot.name.split('_').collect();
    let ["pg", subscription, "sync", table, system] = parts[..] else { return false };
    plugin == "pgoutput" && [subscription, table, system].into_iter().all(is_number)
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

/// `_1_2` or `_1_2_3`.
fn is_two_or_three_numbers(rest: &str) -> bool {
    let mut parts = rest.split('_');
    parts.next() == Some("") && {
        let numbers: Vec<&str> = parts.collect();
        (2..=3).contains(&numbers.len()) && numbers.into_iter().all(is_number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use topology::Lsn;

    fn logical(name: &str, database: &str, plugin: &str) -> Slot {
        let kind = Kind::Logical { database: database.into(), plugin: plugin.into() };
        Slot { kind, ..Slot::physical(name, Lsn(1)) }
    }

    #[test]
    fn an_entry_fits_when_every_field_that_it_gives_is_equal() {
        let physical = Slot::physical("a", Lsn(1));
        let logical = logical("b", "d", "p");
        for (entry, fits) in [
            (json!({"name": "a"}), [true, false]),
            (json!({"type": "logical"}), [false, true]),
            (json!({"type": "physical", "name": "a"}), [true, false]),
            (json!({"type": "physical", "name": "b"}), [false, false]),
            (json!({"database": "d"}), [false, true]),
            (json!({"plugin": "p"}), [false, true]),
            (
                json!({"name": "b", "type": "logical", "database": "d", "plugin": "p"}),
                [false, true],
            ),
            (json!({"name": "b", "database": "other"}), [false, false]),
            (json!({"name": "b", "plugin": null}), [false, true]),
            (json!({}), [true, true]),
        ] {
            let entries = [entry.as_object().unwrap().clone()];
            let seen = [is_ignored(&physical, &entries), is_ignored(&logical, &entries)];
            assert_eq!(seen, fits, "{entry}");
        }
        assert!(!is_ignored(&physical, &[]));
    }

    #[test]
    fn the_slots_of_a_shard_move_are_known_by_name_plugin_and_database() {
        let databases = ["shop", "more"].map(str::to_string);
        for (name, plugin, reserved) in [
            ("citus_shard_move_slot_1_10", "pgoutput", true),
            ("citus_shard_move_slot_1_10_7", "pgoutput", true),
            ("citus_shard_split_slot_2_10_7", "citus", true),
            ("citus_shard_move_slot_1", "pgoutput", false),
            ("citus_shard_move_slot_1_2_3_4", "pgoutput", false),
            ("citus_shard_move_slot_1_x", "pgoutput", false),
            ("citus_shard_move_slot__1", "pgoutput", false),
            ("citus_shard_move_slot_1_2", "citus", false),
            ("citus_shard_split_slot_1_2", "pgoutput", false),
            ("mine", "pgoutput", false),
        ] {
            for (database, ours) in [("shop", reserved), ("more", reserved), ("other", false)] {
                let slot = logical(name, database, plugin);
                assert_eq!(is_reserved(&slot, &databases), ours, "{name} in {database}");
            }
        }
        let physical = Slot::physical("citus_shard_move_slot_1_2", Lsn(1));
        assert!(!is_reserved(&physical, &databases));
    }

    #[test]
    fn slots_with_which_a_subscription_copies_its_tables_are_spared() {
        for (name, plugin, is_spared) in [
            ("pg_16394_sync_16385_7371234567890123456", "pgoutput", true),
            ("pg_16394_sync_16385_7371234567890123456", "test_decoding", false),
            ("pg_16394_sync_16385", "pgoutput", false),
            ("pg_16394_sync_16385_", "pgoutput", false),
            ("pg_x_sync_16385_7371234567890123456", "pgoutput", false),
            ("pg_16394_sync_16385_7371234567890123456_1", "pgoutput", false),
            ("orders", "pgoutput", false),
        ] {
            assert_eq!(is_of_table_copy(&logical(name, "any", plugin)), is_spared, "{name}");
        }
        let physical = Slot::physical("pg_16394_sync_16385_7371234567890123456", Lsn(1));
        assert!(!is_of_table_copy(&physical));
    }
}
