//! Since when the names of synchronous standbys act, not only stand in a setting.
//!
//! Each process of PostgreSQL reads its files on its own. Walsenders do within
//! moments, and nothing tells when. Whether commits wait at all is a mark in
//! shared memory that the checkpointer alone sets when it reads the files: not
//! before a fast checkpoint is over. Until then commits are acknowledged without
//! anybody, whatever the setting shows.
//!
//! Invariant: names that are said to act are waited for by every commit. Fewer
//! names act at once for that, as what still waits for more only waits longer.

use topology::Millis;

/// Walsenders have read their files after this.
const READ_MS: u64 = 100;

#[derive(Default)]
pub(super) struct ActingNames {
    acting: Option<String>,
    /// What the setting shows, since when.
    shown: Option<(String, Millis)>,
}

impl ActingNames {
    /// Do the names that are shown act? `rests`: the checkpointer waits for work,
    /// with its files read.
    pub(super) fn look(&mut self, shown: &str, rests: bool, now: Millis) -> bool {
        if self.acting.as_deref() == Some(shown) {
            return true;
        }
        if self.shown.as_ref().is_none_or(|(known, _)| known != shown) {
            self.shown = Some((shown.to_string(), now));
        }
        let since = self.shown.as_ref().map_or(now, |(_, since)| *since);
        let is_read = now.since(since) >= READ_MS;
        let begins = self.acting.as_deref().unwrap_or_default().is_empty();
        if shown.is_empty() || is_read && (rests || !begins) {
            self.acting = Some(shown.to_string());
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_act_when_the_checkpointer_has_read_them() {
        let mut names = ActingNames::default();
        assert!(names.look("", false, Millis(1)));
        assert!(!names.look("a", true, Millis(10)), "nobody had time to read it");
        assert!(!names.look("a", false, Millis(500)), "a checkpoint runs");
        assert!(names.look("a", true, Millis(600)));
        assert!(names.look("a", false, Millis(601)), "it has read them once");
    }

    #[test]
    fn other_names_act_when_walsenders_have_read_them_and_none_at_once() {
        let mut names = ActingNames::default();
        assert!(!names.look("a", true, Millis(1)), "found, and not known since when");
        assert!(names.look("a", true, Millis(101)));
        assert!(!names.look("b", false, Millis(200)));
        assert!(names.look("b", false, Millis(300)), "commits wait anyway");
        assert!(names.look("", false, Millis(301)));
        assert!(!names.look("b", true, Millis(302)));
    }
}
