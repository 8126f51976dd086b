//! The numbers of timelines: which one PostgreSQL begins, and that none is missing.
//!
//! PostgreSQL takes the first number for which it finds no history file, so the one
//! that was claimed in the store is begun when all before it have a file. A standby on
//! an older timeline asks its leader for the file of every number in between, and a
//! recovery from the archive to the latest timeline looks for one number after the
//! other and stops at the first that is missing. So no number below the own timeline
//! may be without a file.
//!
//! Numbers of this line's ancestors get their own history back: it is the beginning of
//! every later one. The others were claimed and never begun, or begun and abandoned;
//! they get a placeholder.
//!
//! Invariant: only placeholders are removed here, and no file is replaced. A placeholder
//! has no line but a comment; a real history always has one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use topology::{History, Timeline};

/// A claim further away than this is no claim but a broken key.
const GAP_MAX: u32 = 1_000;
/// A placeholder: to PostgreSQL, which passes over comments, a history of nothing.
const PLACEHOLDER: &str = "# This timeline is none of the ancestors of the later ones.\n";

pub(crate) fn file_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

fn path_of(data_dir: &Path, timeline: Timeline) -> PathBuf {
    data_dir.join("pg_wal").join(file_name(timeline))
}

/// Lets the next promotion on `data_dir`, now on `mine`, begin `claimed`.
pub(crate) fn reserve(data_dir: &Path, mine: Timeline, claimed: Timeline) -> io::Result<()> {
    if claimed.0 > mine.0.saturating_add(GAP_MAX) {
        let text = format!("timeline {claimed} was claimed by a member on timeline {mine}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    (mine.0 + 1..claimed.0).try_for_each(|number| make(data_dir, Timeline(number), PLACEHOLDER))
}

/// Gives every number below `current` a file that has none.
pub(crate) fn complete(data_dir: &Path, current: Timeline) -> io::Result<()> {
    let own = match fs::read_to_string(path_of(data_dir, current)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    let Ok(history) = History::parse(current, &own) else { return Ok(()) };
    for number in 2.max(current.0.saturating_sub(GAP_MAX))..current.0 {
        let timeline = Timeline(number);
        let text = match history.left_at(timeline) {
            Some(_) => beginning(&own, timeline),
            None => PLACEHOLDER.to_string(),
        };
        make(data_dir, timeline, &text)?;
    }
    Ok(())
}

/// The history of an ancestor: the lines before its own.
fn beginning(text: &str, ancestor: Timeline) -> String {
    let is_of = |line: &&str| {
        let parent = line.split_whitespace().next().and_then(|word| word.parse().ok());
        parent.is_some_and(|parent: u32| parent < ancestor.0)
    };
    text.lines().filter(is_of).map(|line| format!("{line}\n")).collect()
}

/// Removes placeholders for timelines that were never begun: a server would take the
/// highest of them for the latest timeline, and refuse to start.
pub(crate) fn forget_reserved(data_dir: &Path) -> io::Result<()> {
    let mut placeholders = Vec::new();
    let mut newest = 0;
    for entry in fs::read_dir(data_dir.join("pg_wal"))? {
        let path = entry?.path();
        let Some(number) = number_of(&path) else { continue };
        match is_placeholder(&path)? {
            true => placeholders.push((number, path)),
            false => newest = newest.max(number),
        }
    }
    let beyond = placeholders.into_iter().filter(|(number, _)| *number > newest);
    for (_, path) in beyond {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// A file without a line that names an ancestor.
pub(crate) fn is_placeholder(path: &Path) -> io::Result<bool> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')))
}

fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_suffix(".history")?;
    u32::from_str_radix(name, 16).ok().filter(|_| name.len() == 8)
}

/// Makes a file that is not there.
fn make(data_dir: &Path, timeline: Timeline, text: &str) -> io::Result<()> {
    let path = path_of(data_dir, timeline);
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir.join("pg_wal")).expect("made here");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("read").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("pg_wal")).expect("made");
        dir
    }

    fn write(dir: &Path, number: u32, text: &str) {
        fs::write(path_of(dir, Timeline(number)), text).expect("written");
    }

    #[test]
    fn the_numbers_between_are_kept_from_being_taken() {
        let dir = directory();
        write(dir.path(), 9, "8\t0/1\tx\n");
        reserve(dir.path(), Timeline(8), Timeline(9)).expect("nothing between");
        assert_eq!(names(dir.path()), ["00000009.history"]);
        reserve(dir.path(), Timeline(8), Timeline(12)).expect("made");
        reserve(dir.path(), Timeline(8), Timeline(12)).expect("made before");
        assert_eq!(names(dir.path()), ["00000009.history", "0000000A.history", "0000000B.history"]);
        forget_reserved(dir.path()).expect("removed");
        assert_eq!(names(dir.path()), ["00000009.history"]);
        assert!(reserve(dir.path(), Timeline(1), Timeline(5_000)).is_err());
    }

    #[test]
    fn h5_placeholders_stay_below_a_timeline_that_was_begun() {
        let dir = directory();
        reserve(dir.path(), Timeline(1), Timeline(4)).expect("made");
        write(dir.path(), 4, "1\t0/3000000\tno recovery target specified\n");
        reserve(dir.path(), Timeline(4), Timeline(6)).expect("claimed, and never begun");
        // As earlier releases made them.
        write(dir.path(), 7, "");
        forget_reserved(dir.path()).expect("removed");
        let kept = ["00000002.history", "00000003.history", "00000004.history"];
        assert_eq!(names(dir.path()), kept);
    }

    #[test]
    fn h5_every_number_below_the_own_timeline_has_a_file() {
        let dir = directory();
        let own = "1\t0/3000000\tone\n\n2\t0/4000000\ttwo\n4\t0/5000000\tfour\n";
        write(dir.path(), 5, own);
        write(dir.path(), 2, "1\t0/3000000\tas it was\n");
        complete(dir.path(), Timeline(5)).expect("made");
        let text =
            |number| fs::read_to_string(path_of(dir.path(), Timeline(number))).expect("a file");
        assert_eq!(text(2), "1\t0/3000000\tas it was\n", "no file is replaced");
        assert_eq!(text(4), "1\t0/3000000\tone\n2\t0/4000000\ttwo\n");
        assert_eq!(text(3), PLACEHOLDER);
        assert!(is_placeholder(&path_of(dir.path(), Timeline(3))).expect("read"));
        let read = History::parse(Timeline(3), &text(3)).expect("a comment is no mistake");
        assert!(read.forks.is_empty());
        complete(dir.path(), Timeline(9)).expect("nothing is known of it");
        assert_eq!(names(dir.path()).len(), 4);
    }
}
