//! Making PostgreSQL begin the timeline that was claimed in the store.
//!
//! PostgreSQL takes the first number for which it finds no history file. An
//! empty file keeps a number from being taken: a running standby looks at it
//! and says that this timeline is no child of its own. A standby that starts
//! beside one would refuse, so they are removed before every start.
//!
//! Invariant: only empty files are made and removed here; a real history file
//! always has a line.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use topology::Timeline;

/// A claim further away than this is no claim but a broken key.
const GAP_MAX: u32 = 1_000;

/// Lets the next promotion on `data_dir`, now on `mine`, begin `claimed`.
pub fn reserve(data_dir: &Path, mine: Timeline, claimed: Timeline) -> io::Result<()> {
    if claimed.0 > mine.0.saturating_add(GAP_MAX) {
        let text = format!("timeline {claimed} was claimed by a member on timeline {mine}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    for number in mine.0 + 1..claimed.0 {
        let path = data_dir.join("pg_wal").join(format!("{number:08X}.history"));
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what `reserve` made: the server starts beside none of it.
pub fn forget_reserved(data_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data_dir.join("pg_wal"))? {
        let entry = entry?;
        let is_history = entry.path().extension().is_some_and(|e| e == "history");
        if is_history && entry.metadata()?.len() == 0 {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
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

    #[test]
    fn the_numbers_between_are_kept_from_being_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("pg_wal")).expect("made");
        fs::write(dir.path().join("pg_wal/00000009.history"), "8\t0/1\tx\n").expect("written");
        reserve(dir.path(), Timeline(8), Timeline(9)).expect("nothing between");
        assert_eq!(names(dir.path()), ["00000009.history"]);
        reserve(dir.path(), Timeline(8), Timeline(12)).expect("made");
        reserve(dir.path(), Timeline(8), Timeline(12)).expect("made before");
        assert_eq!(names(dir.path()), ["00000009.history", "0000000A.history", "0000000B.history"]);
        forget_reserved(dir.path()).expect("removed");
        assert_eq!(names(dir.path()), ["00000009.history"]);
        assert!(reserve(dir.path(), Timeline(1), Timeline(5_000)).is_err());
    }
}
