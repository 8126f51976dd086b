//! The mark of a data directory that is being filled: by initdb, a base backup or
//! an operator's command.
//!
//! Invariant: what stands in a marked directory is thrown away only if it is what
//! this member's daemon put there, or was permitted to replace. The mark lists the
//! files at the top of the directory with their inodes and times of birth; files of
//! another program do not match, and then only a person can tell what they are.

use super::entries;
use super::error::{Error, read_if_there};
use super::mark;
use crate::config::Postgresql;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

const ENDING: &str = "filling";
/// A line of the mark that describes one file.
const ENTRY: &str = "entry ";
/// The last file of a copy or of a restore.
const CONTROL_FILE: &str = "global/pg_control";
/// For people who find the mark.
const HELP: &str = "While this file is here, the data directory counts as half made and is filled \
                    anew. If its data is good, remove this file.";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillMark {
    pub path: PathBuf,
    pub what: String,
    entries: Vec<String>,
}

/// The mark of this data directory. An error: it is not known.
pub(crate) fn find(settings: &Postgresql) -> Result<Option<FillMark>, Error> {
    let Some(path) = mark::find(settings, ENDING)? else { return Ok(None) };
    let text = read_if_there(&path)?.unwrap_or_default();
    let what = text.lines().next().unwrap_or_default().to_string();
    let entries = text.lines().filter(|line| line.starts_with(ENTRY)).map(str::to_string);
    Ok(Some(FillMark { entries: entries.collect(), path, what }))
}

/// Before the first change. `what` is going to happen, and who permitted it.
pub(crate) fn set(settings: &Postgresql, what: &str) -> Result<(), Error> {
    mark::make(settings, ENDING, &text(what, &entries_of(&settings.data_dir)?))
}

/// Writes down what is there by now.
pub(crate) fn note(settings: &Postgresql) -> Result<(), Error> {
    let Some(found) = find(settings)? else { return Ok(()) };
    let now = entries_of(&settings.data_dir)?;
    if now.is_empty() || now == found.entries {
        return Ok(());
    }
    mark::replace(&found.path, &text(&found.what, &now))
}

/// The data directory is complete, or empty again.
pub(crate) fn clear(settings: &Postgresql) -> Result<(), Error> {
    mark::clear(settings, ENDING)
}

impl FillMark {
    /// Does `dir` hold anything of what the mark lists, and no control file of another
    /// program? A restore by hand may go into the directories that were listed.
    pub fn is_of(&self, dir: &Path) -> Result<bool, Error> {
        let now = entries_of(dir)?;
        let listed = |entry: &String| self.entries.contains(entry);
        let control = now.iter().find(|entry| entry.ends_with(CONTROL_FILE));
        Ok(now.iter().any(listed) && control.is_none_or(listed))
    }
}

fn text(what: &str, entries: &[String]) -> String {
    let mut text = format!("{what}\n{HELP}\n");
    entries.iter().for_each(|entry| text.extend([entry, "\n"]));
    text
}

/// One line per file. Inodes are used again, so the time of birth belongs to it;
/// a file system that does not tell it leaves nothing to be recognised by.
fn entries_of(dir: &Path) -> Result<Vec<String>, Error> {
    let mut entries: Vec<String> =
        entries::list_if_there(dir)?.iter().filter_map(|path| entry_of(dir, path)).collect();
    entries.extend(entry_of(dir, &dir.join(CONTROL_FILE)));
    entries.sort();
    Ok(entries)
}

fn entry_of(dir: &Path, path: &Path) -> Option<String> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    let born = meta.created().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let name = path.strip_prefix(dir).ok()?.to_string_lossy().replace('\n', " ");
    Some(format!("{ENTRY}{} {born} {name}", meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn settings(root: &Path) -> Postgresql {
        fs::create_dir_all(root.join("data")).unwrap();
        Postgresql {
            data_dir: root.join("data"),
            pgpass: root.join("pgpass"),
            ..Postgresql::default()
        }
    }

    #[test]
    fn a_mark_knows_what_was_put_there_and_not_what_another_program_put_there() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path());
        let data = &settings.data_dir;
        set(&settings, "a base backup of a").unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert!(!find(&settings).unwrap().unwrap().is_of(data).unwrap(), "not noted yet");
        note(&settings).unwrap();
        let mark = find(&settings).unwrap().unwrap();
        assert!(mark.is_of(data).unwrap());
        assert_eq!(mark.what, "a base backup of a");
        // A person empties the directory and restores something else there.
        fs::remove_file(data.join("PG_VERSION")).unwrap();
        assert!(!mark.is_of(data).unwrap());
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        assert!(!find(&settings).unwrap().unwrap().is_of(data).unwrap());
        clear(&settings).unwrap();
        assert_eq!(find(&settings).unwrap(), None);
    }

    #[test]
    fn n2_a_restore_into_the_directories_of_a_killed_copy_is_not_ours() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path());
        let data = &settings.data_dir;
        set(&settings, "a base backup of a").unwrap();
        fs::create_dir(data.join("global")).unwrap();
        note(&settings).unwrap();
        let mark = find(&settings).unwrap().unwrap();
        assert!(mark.is_of(data).unwrap());
        fs::write(data.join(CONTROL_FILE), "restored by hand").unwrap();
        assert!(!mark.is_of(data).unwrap());
        note(&settings).unwrap();
        assert!(find(&settings).unwrap().unwrap().is_of(data).unwrap(), "our own copy ended");
    }

    #[test]
    fn what_is_to_be_replaced_is_known_from_the_beginning() {
        let root = tempfile::tempdir().unwrap();
        let settings = settings(root.path());
        fs::write(settings.data_dir.join("PG_VERSION"), "15\n").unwrap();
        set(&settings, "reinitialize").unwrap();
        assert!(find(&settings).unwrap().unwrap().is_of(&settings.data_dir).unwrap());
    }
}
