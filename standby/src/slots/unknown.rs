//! Since when a slot is there that is not wanted, and that nothing uses.
//!
//! A slot that a person makes by hand is used a moment later. So a slot is dropped only
//! after it was seen unknown and unused for a whole `loop_wait`; a use begins the time
//! anew.

use std::collections::{BTreeMap, BTreeSet};
use topology::Millis;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    since: BTreeMap<String, Millis>,
}

impl Unknown {
    /// Takes the unknown and unused slots of this beat; gives those that are new.
    pub fn look(&mut self, names: BTreeSet<String>, now: Millis) -> Vec<String> {
        self.since.retain(|name, _| names.contains(name));
        let new: Vec<String> =
            names.into_iter().filter(|name| !self.since.contains_key(name)).collect();
        self.since.extend(new.iter().map(|name| (name.clone(), now)));
        new
    }

    pub fn is_over(&self, name: &str, now: Millis, wait_ms: u64) -> bool {
        self.since.get(name).is_some_and(|since| now.since(*since) >= wait_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_time_begins_anew_when_a_slot_was_used() {
        let mut unknown = Unknown::default();
        assert_eq!(unknown.look(names(&["a", "b"]), Millis(100)), ["a", "b"]);
        assert!(unknown.look(names(&["a", "b"]), Millis(150)).is_empty());
        assert!(!unknown.is_over("a", Millis(199), 100) && unknown.is_over("a", Millis(200), 100));
        unknown.look(names(&["b"]), Millis(200));
        assert_eq!(unknown.look(names(&["a", "b"]), Millis(210)), ["a"]);
        assert!(!unknown.is_over("a", Millis(300), 100) && unknown.is_over("b", Millis(300), 100));
        assert!(!unknown.is_over("never seen", Millis(300), 0));
    }
}
