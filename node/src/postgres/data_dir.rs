//! The data directory as a whole: what it is, removing it, moving it aside.
//!
//! Invariant *no destruction*: only a directory without files is empty, and
//! whatever removes or renames something demands a `Permission`.
//!
//! Invariant *half is not whole*: the control file goes first and `PG_VERSION`
//! last, so an interrupted removal is not taken for a data directory. Whether it
//! may be taken up again is told by the mark beside it (`fill_mark.rs`).
//!
//! Absent on purpose: whether it may be removed; that is a rule of `ha/`.

use super::controldata;
use super::entries::list;
use super::error::{Error, read_if_there, remove_if_there};
use super::permission::Permission;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use topology::SystemId;

/// Digits of a system id: it begins with the time of its initdb.
const SYSTEM_ID_MIN: usize = 10;
/// Names that are tried for what is moved aside.
const PLACES_ASIDE: u32 = 9;
/// Without it a directory cannot be started.
const CONTROL: &str = "global/pg_control";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDirState {
    Absent,
    Empty,
    Valid {
        system: SystemId,
        major: u32,
    },
    /// PostgreSQL's, without a control file: half of a copy or of a restore, or
    /// one whose control file was lost.
    Incomplete,
    /// Marked: this member's daemon has begun to fill it (`Instance` looks for
    /// the mark, not this file).
    Half(String),
    /// Files of another program.
    Foreign(String),
    /// A server's of another major version than the programs here.
    OtherVersion {
        theirs: u32,
        ours: u32,
    },
    /// It is not known what is in it.
    Unreadable(String),
}

/// The major version of the PostgreSQL that made `dir`, if one did.
pub(crate) fn major_of(dir: &Path) -> Option<u32> {
    read_if_there(&dir.join("PG_VERSION")).ok()??.trim().parse().ok()
}

/// Looks at `dir`; `tool` is pg_controldata.
pub(crate) async fn state(tool: &Path, dir: &Path) -> DataDirState {
    match shape(dir) {
        Ok(Shape::Cluster(major)) => match controldata::read(tool, dir).await {
            // A damaged control file is printed with a warning, not refused.
            Ok(control) if control.system_id.0.len() < SYSTEM_ID_MIN => {
                let why = "its control file is damaged: it has no system id";
                DataDirState::Unreadable(why.into())
            }
            Ok(control) => DataDirState::Valid { system: control.system_id, major },
            Err(error) => DataDirState::Unreadable(error.to_string()),
        },
        Ok(Shape::Absent) => DataDirState::Absent,
        Ok(Shape::Empty) => DataDirState::Empty,
        Ok(Shape::Incomplete) => DataDirState::Incomplete,
        Ok(Shape::Foreign(why)) => DataDirState::Foreign(why),
        Err(error) => DataDirState::Unreadable(format!("{error}: {}", cause(&error))),
    }
}

enum Shape {
    Absent,
    Empty,
    Cluster(u32),
    Incomplete,
    Foreign(String),
}

fn shape(dir: &Path) -> Result<Shape, Error> {
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Shape::Absent),
        Err(error) => return Err(Error::file("list", dir)(error)),
    };
    let Some(first) = entries.next() else {
        return Ok(Shape::Empty);
    };
    let first = first.map_err(Error::file("list", dir))?.file_name();
    let foreign = |why: String| Ok(Shape::Foreign(why));
    let Some(version) = read_if_there(&dir.join("PG_VERSION"))? else {
        return foreign(format!("it holds {} and no PG_VERSION", first.display()));
    };
    let Ok(major) = version.trim().parse() else {
        return foreign(format!("its PG_VERSION is `{}`", version.trim()));
    };
    match std::fs::metadata(dir.join(CONTROL)) {
        Ok(_) => Ok(Shape::Cluster(major)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Shape::Incomplete),
        Err(error) => Err(Error::file("read", &dir.join(CONTROL))(error)),
    }
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

/// Empties `dir` and what its links point to. The directory itself stays: it
/// may be a mount point, or its parent may not be ours.
pub(crate) fn remove(dir: &Path, permission: &Permission) -> Result<(), Error> {
    refuse_foreign(dir)?;
    empty(dir, permission)
}

/// Is there no file in it? A directory that is not there holds none.
pub(crate) fn is_nothing(dir: &Path) -> Result<bool, Error> {
    Ok(matches!(shape(dir)?, Shape::Absent | Shape::Empty))
}

/// Closes an empty directory that was made readable for everyone: PostgreSQL would
/// not start on what is copied into it.
pub(crate) fn close(dir: &Path) -> Result<(), Error> {
    const OPEN: u32 = 0o027;
    let Ok(found) = std::fs::metadata(dir) else { return Ok(()) };
    if found.permissions().mode() & OPEN == 0 {
        return Ok(());
    }
    let closed = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir, closed).map_err(Error::file("protect", dir))
}

/// Empties a directory whatever is in it. Only for one that was empty when this
/// daemon began to fill it, or that `remove` would empty.
pub(crate) fn empty(dir: &Path, permission: &Permission) -> Result<(), Error> {
    if is_nothing(dir)? {
        return close(dir);
    }
    tracing::warn!("{} is emptied: {permission}", dir.display());
    remove_if_there(&dir.join(CONTROL))?;
    for place in tablespaces(dir)? {
        remove_tablespace(&place)?;
    }
    if let Some(wal) = linked_wal(dir)? {
        clear(&wal, None)?;
    }
    clear(dir, Some("PG_VERSION"))?;
    remove_if_there(&dir.join("PG_VERSION"))?;
    close(dir)
}

/// Takes the control file away: what is left is no data directory that could
/// be started.
pub(crate) fn disarm(dir: &Path, permission: &Permission) -> Result<(), Error> {
    tracing::warn!("the control file of {} is renamed: {permission}", dir.display());
    let (control, kept) = (dir.join(CONTROL), dir.join("global/pg_control.failed"));
    match std::fs::rename(&control, &kept) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::file("rename", &control)),
    }
}

/// Renames `dir` and its linked WAL to `<dir>.failed`, replacing an older one.
/// Tablespaces stay where they are, with their links in the renamed directory.
/// What cannot be renamed, such as a mount point, is disarmed.
pub(crate) fn move_aside(dir: &Path, permission: &Permission) -> Result<PathBuf, Error> {
    refuse_foreign(dir)?;
    match move_made_aside(dir, permission) {
        Err(error @ Error::File { what: "move aside", .. }) => {
            tracing::warn!("{error}: {}; it stays where it is", cause(&error));
            disarm(dir, permission).map(|()| dir.to_path_buf())
        }
        other => other,
    }
}

/// The same for whatever this daemon has filled an empty directory with.
pub(crate) fn move_made_aside(dir: &Path, permission: &Permission) -> Result<PathBuf, Error> {
    if is_nothing(dir)? {
        return Ok(with_ending(dir));
    }
    tracing::warn!("{} is moved aside: {permission}", dir.display());
    let failed = place_aside(dir)?;
    discard(&failed)?;
    let wal = linked_wal(dir)?;
    std::fs::rename(dir, &failed).map_err(Error::file("move aside", dir))?;
    if let Some(wal) = wal {
        move_wal_aside(&wal, &failed)?;
    }
    Ok(failed)
}

/// An older failed one makes room. Its tablespaces may be in use again: links are
/// removed, what they point to stays.
fn discard(failed: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(failed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::file("remove", failed)),
    }
}

/// `<dir>.failed`, or another name where that holds files of another program.
fn place_aside(dir: &Path) -> Result<PathBuf, Error> {
    let first = with_ending(dir);
    let more = (2..=PLACES_ASIDE).map(|number| first.with_added_extension(number.to_string()));
    for place in std::iter::once(first.clone()).chain(more) {
        if !matches!(shape(&place)?, Shape::Foreign(_)) {
            return Ok(place);
        }
    }
    let why = "it and its like hold what is not PostgreSQL's".to_string();
    Err(Error::NotOurs { path: first, why })
}

fn move_wal_aside(wal: &Path, failed: &Path) -> Result<(), Error> {
    let target = with_ending(wal);
    if target.exists() {
        clear(&target, None)?;
    }
    std::fs::rename(wal, &target).map_err(Error::file("move aside", wal))?;
    let link = failed.join("pg_wal");
    remove_if_there(&link)?;
    std::os::unix::fs::symlink(&target, &link).map_err(Error::file("link", &link))
}

fn with_ending(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".failed");
    name.into()
}

/// Files of another program must not be touched.
fn refuse_foreign(dir: &Path) -> Result<(), Error> {
    match shape(dir)? {
        Shape::Absent | Shape::Empty | Shape::Cluster(_) | Shape::Incomplete => Ok(()),
        Shape::Foreign(why) => Err(Error::NotOurs { path: dir.to_path_buf(), why }),
    }
}

/// Where pg_wal is, if it is a link.
fn linked_wal(dir: &Path) -> Result<Option<PathBuf>, Error> {
    link_target(&dir.join("pg_wal"))
}

fn link_target(path: &Path) -> Result<Option<PathBuf>, Error> {
    match std::fs::read_link(path) {
        Ok(target) => Ok(Some(path.parent().unwrap_or(path).join(target))),
        // InvalidInput: it is there and no link.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

fn tablespaces(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let place = dir.join("pg_tblspc");
    if !place.exists() {
        return Ok(Vec::new());
    }
    let targets = list(&place)?.into_iter().map(|link| link_target(&link));
    Ok(targets.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Removes only what PostgreSQL made in a tablespace: its versioned directory.
fn remove_tablespace(place: &Path) -> Result<(), Error> {
    if !place.exists() {
        return Ok(());
    }
    for entry in list(place)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("PG_") {
            remove_entry(&entry)?;
        }
    }
    Ok(())
}

fn clear(dir: &Path, keep: Option<&str>) -> Result<(), Error> {
    for entry in list(dir)? {
        if keep.is_none_or(|keep| entry.file_name() != Some(keep.as_ref())) {
            remove_entry(&entry)?;
        }
    }
    Ok(())
}

/// A link is removed, never followed.
fn remove_entry(path: &Path) -> Result<(), Error> {
    let meta = std::fs::symlink_metadata(path).map_err(Error::file("read", path))?;
    if meta.is_dir() {
        return std::fs::remove_dir_all(path).map_err(Error::file("remove", path));
    }
    remove_if_there(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::permission::ProvenSource;
    use std::fs;

    fn asked() -> Permission {
        Permission::asked(ProvenSource::of_test())
    }

    /// A data directory whose WAL and one tablespace are elsewhere.
    fn cluster(root: &Path) -> PathBuf {
        let data = root.join("data");
        for dir in ["data/global", "data/pg_tblspc", "wal", "space/PG_15_1/5"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        fs::write(data.join("global/pg_control"), "x").unwrap();
        fs::write(root.join("wal/000000010000000000000001"), "x").unwrap();
        fs::write(root.join("space/notes.txt"), "mine").unwrap();
        std::os::unix::fs::symlink(root.join("wal"), data.join("pg_wal")).unwrap();
        std::os::unix::fs::symlink(root.join("space"), data.join("pg_tblspc/16384")).unwrap();
        data
    }

    #[test]
    fn removal_takes_the_linked_parts_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let data = cluster(root.path());
        remove(&data, &asked()).unwrap();
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
        assert_eq!(fs::read_dir(root.path().join("wal")).unwrap().count(), 0);
        assert!(!root.path().join("space/PG_15_1").exists());
        assert!(root.path().join("space/notes.txt").exists(), "somebody else's file");
        remove(&data, &asked()).unwrap();
    }

    #[test]
    fn what_was_emptied_is_closed_to_others() {
        let root = tempfile::tempdir().unwrap();
        let mode = |dir: &Path| fs::metadata(dir).unwrap().permissions().mode() & 0o777;
        let data = cluster(root.path());
        for (before, after) in [(0o755, 0o700), (0o750, 0o750), (0o777, 0o700)] {
            fs::set_permissions(&data, fs::Permissions::from_mode(before)).unwrap();
            remove(&data, &asked()).unwrap();
            assert_eq!(mode(&data), after);
        }
    }

    #[test]
    fn foreign_files_are_never_touched() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.txt"), "x").unwrap();
        assert!(matches!(remove(root.path(), &asked()), Err(Error::NotOurs { .. })));
        assert!(matches!(move_aside(root.path(), &asked()), Err(Error::NotOurs { .. })));
        assert!(root.path().join("thesis.txt").exists());
    }

    #[test]
    fn what_is_disarmed_is_no_data_directory_and_loses_nothing() {
        let root = tempfile::tempdir().unwrap();
        let data = cluster(root.path());
        disarm(&data, &asked()).unwrap();
        assert!(matches!(shape(&data), Ok(Shape::Incomplete)));
        assert_eq!(fs::read(data.join("global/pg_control.failed")).unwrap(), b"x");
        disarm(&data, &asked()).unwrap();
        disarm(&root.path().join("none"), &asked()).unwrap();
    }

    #[test]
    fn what_a_command_left_in_an_empty_directory_goes_without_a_version() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        fs::create_dir_all(data.join("half")).unwrap();
        fs::write(data.join("half/unpacked"), "x").unwrap();
        let failed = move_made_aside(&data, &asked()).unwrap();
        assert!(failed.join("half/unpacked").exists() && !data.exists());
        let next = move_aside(&cluster(root.path()), &asked()).unwrap();
        assert_eq!(next, root.path().join("data.failed.2"));
        assert!(failed.join("half/unpacked").exists(), "it is kept");
        empty(&failed, &asked()).unwrap();
        assert_eq!(fs::read_dir(&failed).unwrap().count(), 0);
        empty(&data, &asked()).unwrap();
    }

    #[test]
    fn a_failed_directory_keeps_its_wal_and_replaces_an_older_one() {
        let root = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let failed = move_aside(&cluster(root.path()), &asked()).unwrap();
            assert!(failed.join("pg_wal/000000010000000000000001").exists());
            assert!(!root.path().join("data").exists());
        }
        // The tablespace of the first is the second's as well.
        assert!(root.path().join("space/PG_15_1/5").exists());
    }

    #[tokio::test]
    async fn states_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let at = |dir: &str| root.path().join(dir);
        let look = async |dir: PathBuf| state(Path::new("false"), &dir).await;
        assert_eq!(look(at("none")).await, DataDirState::Absent);
        fs::create_dir(at("d")).unwrap();
        assert_eq!(look(at("d")).await, DataDirState::Empty);
        fs::write(at("d/PG_VERSION"), "15\n").unwrap();
        assert_eq!(look(at("d")).await, DataDirState::Incomplete);
        fs::write(at("d/PG_VERSION"), "nonsense").unwrap();
        assert!(matches!(look(at("d")).await, DataDirState::Foreign(_)));
        fs::write(at("file"), "").unwrap();
        assert!(matches!(look(at("file")).await, DataDirState::Unreadable(_)));
        let data = cluster(root.path());
        assert!(matches!(look(data).await, DataDirState::Unreadable(_)));
    }
}
