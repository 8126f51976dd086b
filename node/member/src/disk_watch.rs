//! When the disk of the data directory is tried, and what the answers come to.
//!
//! PostgreSQL says that its disk takes no files only when it needs a new one itself: a
//! leader on a full disk may look well for minutes while every client fails. So the daemon
//! writes and removes a small file, at the pace given here.

use super::{Level, Member};
use crate::ha::observation::{DataDir, Disk, Job, Postgres};
use topology::Millis;

/// A disk that is well is not tried more often than this.
const PACE_MS: u64 = 1_000;
/// One that failed is tried again after this.
const AGAIN_MS: u64 = 400;

/// Whether the disk may be tried with a file of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskProbe {
    Now,
    /// It was tried just now, or an action fills or empties the directory, which may be
    /// full meanwhile: what was known before holds.
    KeepKnown,
    /// There are no data.
    Forget,
}

/// What is known of the disk.
#[derive(Debug, Default)]
pub struct DiskWatch {
    known: Disk,
    tried: Millis,
}

impl DiskWatch {
    /// What the last try has found.
    pub fn known(&self) -> &Disk {
        &self.known
    }

    /// Asked in every beat: whether the disk is tried now.
    pub fn probe(&mut self, postgres: &Postgres, running: Option<&Job>, now: Millis) -> DiskProbe {
        if !matches!(postgres.data, DataDir::Valid { .. }) {
            *self = DiskWatch::default();
            return DiskProbe::Forget;
        }
        let pace = if self.known == Disk::Well { PACE_MS } else { AGAIN_MS };
        let is_early = self.tried.0 > 0 && now.since(self.tried) < pace;
        if is_early || running.is_some_and(Job::writes_the_data) {
            return DiskProbe::KeepKnown;
        }
        self.tried = now;
        DiskProbe::Now
    }

    /// The longest sleep: one that has just begun to fail is tried again soon.
    pub(super) fn again_ms(&self) -> u64 {
        if self.known == Disk::Well { u64::MAX } else { AGAIN_MS }
    }

    /// A failure keeps the moment at which it began.
    fn take(&mut self, answer: Result<(), String>, now: Millis) -> Option<(Level, String)> {
        let (known, told) = match (answer, &self.known) {
            (Ok(()), Disk::Well) => return None,
            (Ok(()), Disk::Failing { .. }) => {
                let text = "the disk of the data directory takes files again";
                (Disk::Well, Some((Level::Info, text.to_string())))
            }
            (Err(why), Disk::Failing { since, .. }) => (Disk::Failing { since: *since, why }, None),
            (Err(why), Disk::Well) => {
                let text = format!("{why}: PostgreSQL cannot go on so; make room or mend the disk");
                (Disk::Failing { since: now, why }, Some((Level::Error, text)))
            }
        };
        self.known = known;
        told
    }
}

impl Member {
    /// The disk was tried. A try without an answer leaves what is known.
    pub fn disk_answered(&mut self, answer: Result<(), String>, now: Millis) {
        if let Some((level, text)) = self.disk.take(answer, now) {
            self.note(level, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::sample;

    fn probe(disk: &mut DiskWatch, at: u64) -> DiskProbe {
        disk.probe(&sample::leader().postgres, None, Millis(5_000 + at))
    }

    #[test]
    fn a_disk_is_asked_at_its_pace_and_sooner_once_it_fails() {
        let mut disk = DiskWatch::default();
        assert_eq!(probe(&mut disk, 0), DiskProbe::Now);
        assert_eq!(probe(&mut disk, PACE_MS - 1), DiskProbe::KeepKnown);
        assert_eq!(probe(&mut disk, PACE_MS), DiskProbe::Now);
        disk.take(Err("full".into()), Millis(5_000 + PACE_MS));
        assert_eq!(disk.again_ms(), AGAIN_MS);
        assert_eq!(probe(&mut disk, PACE_MS + AGAIN_MS - 1), DiskProbe::KeepKnown);
        assert_eq!(probe(&mut disk, PACE_MS + AGAIN_MS), DiskProbe::Now);
    }

    #[test]
    fn it_is_not_asked_while_an_action_fills_it_and_forgotten_without_data() {
        let mut disk = DiskWatch::default();
        disk.take(Err("full".into()), Millis(100));
        let mut postgres = sample::leader().postgres;
        let fills = disk.probe(&postgres, Some(&Job::Bootstrap), Millis(9_000));
        assert_eq!((fills, disk.known() == &Disk::Well), (DiskProbe::KeepKnown, false));
        postgres.data = DataDir::Empty;
        assert_eq!(disk.probe(&postgres, None, Millis(9_000)), DiskProbe::Forget);
        assert_eq!(disk.known(), &Disk::Well);
    }

    #[test]
    fn a_failure_keeps_the_moment_at_which_it_began_and_is_told_once() {
        let mut disk = DiskWatch::default();
        assert_eq!(disk.take(Ok(()), Millis(50)), None);
        assert!(matches!(disk.take(Err("full".into()), Millis(100)), Some((Level::Error, _))));
        assert_eq!(disk.take(Err("still full".into()), Millis(900)), None);
        let known = Disk::Failing { since: Millis(100), why: "still full".into() };
        assert_eq!(disk.known(), &known);
        assert!(matches!(disk.take(Ok(()), Millis(1_000)), Some((Level::Info, _))));
        assert_eq!(disk.known(), &Disk::Well);
    }
}
