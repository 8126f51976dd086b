//! Since when the names of synchronous standbys act, not only stand in a setting.
//!
//! Each process of PostgreSQL reads its files on its own. Walsenders do within
//! moments, and nothing tells when. Whether commits wait at all is a mark in
//! shared memory that the checkpointer alone sets when it reads the files: not
//! before a fast checkpoint is over. Until then commits are acknowledged without
//! any standby, whatever the setting shows.
//!
//! Invariant: names that are said to act are waited for by every commit. Fewer
//! names act at once for that, as what still waits for more only waits longer.

use std::fmt;
use topology::Millis;

/// Walsenders have read their files after this.
const READ_MS: u64 = 100;
/// A step waits this long for names to act; later looks see when they do.
const STEP_MS: u64 = 1_000;

/// What is known of the names that one running server waits for.
#[derive(Clone, Debug, Default)]
pub struct ActingNames {
    acting: Option<String>,
    /// What the setting shows, since when.
    shown: Option<(String, Millis)>,
}

impl ActingNames {
    /// Do the names that are shown act? `rests`: the checkpointer waits for work,
    /// with its files read.
    pub fn look(&mut self, shown: &str, rests: bool, now: Millis) -> bool {
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

/// Names that were written, and have to act before the step is done.
#[derive(Clone, Debug)]
pub struct AwaitedNames {
    names: String,
    since: Millis,
}

/// Why they do not act although they had the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotActing {
    NotShown,
    NotRead,
}

impl AwaitedNames {
    pub fn new(names: String, now: Millis) -> AwaitedNames {
        AwaitedNames { names, since: now }
    }

    /// `None`: the server is asked again.
    pub fn look(
        &self,
        acting: &mut ActingNames,
        shown: &str,
        rests: bool,
        now: Millis,
    ) -> Option<Result<(), NotActing>> {
        let is_shown = shown == self.names;
        if acting.look(shown, rests, now) && is_shown {
            return Some(Ok(()));
        }
        let why = if is_shown { NotActing::NotRead } else { NotActing::NotShown };
        (now.since(self.since) >= STEP_MS).then_some(Err(why))
    }
}

impl fmt::Display for NotActing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotActing::NotRead => "the checkpointer has not read it yet: a checkpoint runs",
            NotActing::NotShown => {
                "it does not come into force: does postgresql.auto.conf or a file that \
                 postgresql.conf includes set it, or is there a mistake in one of them? Take it \
                 out there"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_act_when_the_checkpointer_has_read_them() {
        let mut names = ActingNames::default();
        assert!(names.look("", false, Millis(1)));
        assert!(!names.look("a", true, Millis(10)), "walsenders had no time to read it");
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

    #[test]
    fn a_step_ends_when_its_own_names_act_and_says_what_is_missing_after_a_second() {
        let mut names = ActingNames::default();
        let awaited = AwaitedNames::new("a".into(), Millis(0));
        assert_eq!(awaited.look(&mut names, "", true, Millis(1)), None, "others act");
        assert_eq!(awaited.look(&mut names, "a", true, Millis(10)), None);
        assert_eq!(awaited.look(&mut names, "a", true, Millis(110)), Some(Ok(())));
        let awaited = AwaitedNames::new("b".into(), Millis(200));
        assert_eq!(awaited.look(&mut names, "a", true, Millis(1_199)), None);
        let late = awaited.look(&mut names, "a", true, Millis(1_200));
        assert_eq!(late, Some(Err(NotActing::NotShown)));
        let mut first = ActingNames::default();
        assert!(first.look("", true, Millis(200)));
        assert_eq!(awaited.look(&mut first, "b", false, Millis(300)), None);
        let late = awaited.look(&mut first, "b", false, Millis(1_200));
        assert_eq!(late, Some(Err(NotActing::NotRead)), "a checkpoint runs");
    }
}
