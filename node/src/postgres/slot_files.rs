//! Logical slots as files: read from a primary, put where a stopped standby finds them.
//!
//! A server reads `pg_replslot` only when it starts. A copy is made as PostgreSQL makes a
//! slot: below another name, flushed, then renamed. One that is replaced keeps its place, and
//! only its file changes. The snapshot that it decodes with comes before it.
//!
//! Invariant: a server must be able to start with what was put there. It needs `wal_level`
//! logical and a place for each slot, else nothing is put.
//!
//! Invariant: a slot is never put without a snapshot that the primary would decode with: its
//! reader would miss rows without a sign of it (`slot_snapshot.rs`).

use super::Instance;
use super::entries::list_if_there;
use super::error::Error;
use super::permission::ProvenSource;
use super::session::Session;
use super::slot_snapshot::{self, Found, Snapshot};
use super::slot_state;
use crate::config::Login;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use topology::{Lsn, SystemId};

const WHAT: &str = "the files of logical slots";
/// Name of the connection that reads a primary's slots.
const READER: &str = "Matriarch slot copies";
/// A slot moves on only where its reader confirms something, seldom twice within one copy.
const TRIES: usize = 3;
/// What `max_replication_slots` is if no file says so.
const PLACES: usize = 10;

/// Which slot to copy.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: String,
    pub database: String,
    pub plugin: String,
    /// The one that is there is of no use.
    pub replaces: bool,
}

/// A slot of a primary, as its file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFile {
    pub name: String,
    pub replaces: bool,
    state: Vec<u8>,
    snapshot: Option<Snapshot>,
}

/// A slot at one moment.
struct Sight {
    state: Vec<u8>,
    /// Where decoding begins, as the file says it, and as the server does. The server goes ahead
    /// of the file for a moment, in which a checkpoint may remove what the file needs.
    restart: [Option<Lsn>; 2],
}

/// Which slots are read, where, and for how long.
pub struct SlotRequest<'a> {
    pub host: &'a str,
    pub port: u16,
    pub login: &'a Login,
    /// The primary must be of this one.
    pub system: &'a SystemId,
    pub wanted: Vec<Wanted>,
    pub limit: Duration,
}

impl Instance {
    /// Reads slots that are not in the data directory, or of no use there, from the primary. What
    /// was read when the time is over counts, and a slot that cannot be read costs itself alone.
    pub async fn read_slots(&self, request: &SlotRequest<'_>) -> Result<Vec<SlotFile>, Error> {
        let there = names_there(&self.settings.data_dir.join("pg_replslot"))?;
        let is_due = |slot: &&Wanted| slot.replaces || !there.contains(&slot.name);
        let due: Vec<&Wanted> = request.wanted.iter().filter(is_due).collect();
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let (host, port) = (request.host, request.port);
        let from = format!("{host}:{port}");
        let until = Instant::now() + request.limit;
        let late = || Error::Unanswered { what: WHAT, waited: request.limit };
        let connecting = async {
            let session = self.peer(host, port, request.login, READER).await?;
            ProvenSource::ask(&session, from.clone(), request.system).await?;
            Ok::<Session, Error>(session)
        };
        let session = timeout_at(until, connecting).await.map_err(|_| late())??;
        let mut files = Vec::new();
        for slot in due {
            match timeout_at(until, read_one(&session, slot)).await {
                Ok(Ok(file)) => files.extend(file),
                Ok(Err(error)) => tell_unread(slot, &error),
                Err(_) => tell_unread(slot, &late()),
            }
        }
        Ok(files)
    }
}

fn tell_unread(slot: &Wanted, why: &Error) {
    tracing::warn!("the logical slot `{}` is not copied: {}", slot.name, why.with_causes());
}

async fn read_one(session: &Session, slot: &Wanted) -> Result<Option<SlotFile>, Error> {
    for _ in 0..TRIES {
        let Some(before) = look(session, slot).await? else { return Ok(None) };
        let found = match before.restart[0] {
            Some(from) => slot_snapshot::read(session, from).await?,
            None => Found::Nothing,
        };
        let after = look(session, slot).await?;
        if !belong_together(&before, &found, after.as_ref()) {
            continue;
        }
        let snapshot = match found {
            Found::One(snapshot) => Some(snapshot),
            Found::Nothing | Found::Gone => None,
        };
        let (name, replaces, state) = (slot.name.clone(), slot.replaces, before.state);
        return Ok(Some(SlotFile { name, replaces, state, snapshot }));
    }
    tracing::warn!(
        "the logical slot `{}` is not copied: it moved on {TRIES} times while it was read, so its \
         file and its snapshot do not belong together",
        slot.name
    );
    Ok(None)
}

/// Only if the slot has not moved is it known that no file of it was removed meanwhile.
fn belong_together(before: &Sight, found: &Found, after: Option<&Sight>) -> bool {
    let begins = before.restart[0];
    *found != Found::Gone && after.is_some_and(|after| after.restart == [begins, begins])
}

async fn look(session: &Session, slot: &Wanted) -> Result<Option<Sight>, Error> {
    const SQL: &str = "SELECT s.restart_lsn::text, \
        pg_catalog.pg_read_binary_file('pg_replslot/' || s.slot_name || '/state') \
        FROM pg_catalog.pg_replication_slots s WHERE s.slot_type = 'logical' \
        AND NOT s.temporary AND s.confirmed_flush_lsn IS NOT NULL AND NOT pg_catalog.pg_is_in_recovery() \
        AND s.slot_name::text = $1::text AND s.database::text = $2::text AND s.plugin::text = $3::text";
    let rows = session.rows(WHAT, SQL, &[&slot.name, &slot.database, &slot.plugin]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let shown: Option<String> =
        row.try_get(0).map_err(|_| Error::Answer { what: WHAT, field: "restart_lsn" })?;
    let state: Vec<u8> =
        row.try_get(1).map_err(|_| Error::Answer { what: WHAT, field: "state" })?;
    let unclear = |_| Error::Answer { what: WHAT, field: "restart_lsn" };
    let shown = shown.map(|text| text.parse::<Lsn>()).transpose().map_err(unclear)?;
    let in_file = slot_state::restart_lsn(&slot.name, &state)
        .map_err(|why| Error::SlotState { slot: slot.name.clone(), why })?;
    Ok(Some(Sight { state, restart: [in_file, shown] }))
}

/// Puts the slots into the data directory of a stopped server that will start with
/// these parameters. Gives the names of those that it has put there.
pub fn install(
    data_dir: &Path,
    files: &[SlotFile],
    parameters: &BTreeMap<String, String>,
) -> Result<Vec<String>, Error> {
    let dir = data_dir.join("pg_replslot");
    let there = names_there(&dir)?;
    let is_due = |file: &&SlotFile| file.replaces || !there.contains(&file.name);
    let due: Vec<&SlotFile> = files.iter().filter(is_due).collect();
    let new = due.iter().filter(|file| !there.contains(&file.name)).count();
    if due.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(why) = why_not(parameters, there.len() + new) {
        tracing::error!("no logical slot is copied: {why}");
        return Ok(Vec::new());
    }
    put_snapshots(data_dir, &due)?;
    for file in &due {
        put(&dir, file, there.contains(&file.name))?;
    }
    sync_dir(&dir)?;
    Ok(due.into_iter().map(|file| file.name.clone()).collect())
}

fn names_there(dir: &Path) -> Result<Vec<String>, Error> {
    let names = list_if_there(dir)?;
    let names = names.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_string()));
    Ok(names.filter(|name| !name.ends_with(".tmp")).collect())
}

/// With slots that it cannot take, PostgreSQL does not start.
fn why_not(parameters: &BTreeMap<String, String>, slots: usize) -> Option<String> {
    let level = parameters.get("wal_level").map_or("replica", String::as_str);
    if level != "logical" {
        return Some(format!("wal_level is {level}; set it to logical with edit-config"));
    }
    let places = parameters.get("max_replication_slots");
    let places = places.and_then(|text| text.trim().parse().ok()).unwrap_or(PLACES);
    (slots > places).then(|| {
        format!("{slots} slots do not fit into max_replication_slots, which is {places}: raise it")
    })
}

/// One that is there stays: a position has one snapshot, whichever server has written it.
fn put_snapshots(data_dir: &Path, files: &[&SlotFile]) -> Result<(), Error> {
    let dir = data_dir.join(slot_snapshot::DIRECTORY);
    for snapshot in files.iter().filter_map(|file| file.snapshot.as_ref()) {
        let place = dir.join(snapshot.name());
        if place.try_exists().map_err(Error::file("find", &place))? {
            continue;
        }
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&dir);
        made.map_err(Error::file("make", &dir))?;
        // The server removes what is left of it, by this name, once no slot needs the position.
        let making = dir.join(format!("{}.{}.tmp", snapshot.name(), std::process::id()));
        write(&making, &snapshot.bytes)?;
        rename(&making, &place)?;
        sync_dir(&dir)?;
    }
    Ok(())
}

fn put(dir: &Path, file: &SlotFile, is_there: bool) -> Result<(), Error> {
    let place = dir.join(&file.name);
    if is_there {
        let new = place.join("state.tmp");
        write(&new, &file.state)?;
        rename(&new, &place.join("state"))?;
        return sync_dir(&place);
    }
    let making = dir.join(format!("{}.tmp", file.name));
    let made = DirBuilder::new().mode(0o700).recursive(true).create(&making);
    made.map_err(Error::file("make", &making))?;
    write(&making.join("state"), &file.state)?;
    sync_dir(&making)?;
    rename(&making, &place)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().map_err(Error::file("write", path))
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(Error::file("rename", from))
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(Error::file("flush", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str) -> Vec<u8> {
        slot_state::of_test(name, Lsn(0x80))
    }

    fn file(name: &str, replaces: bool) -> SlotFile {
        SlotFile { name: name.into(), replaces, state: state(name), snapshot: None }
    }

    fn with_snapshot(name: &str, at: u64, bytes: &[u8]) -> SlotFile {
        let snapshot = Some(Snapshot { at: Lsn(at), bytes: bytes.to_vec() });
        SlotFile { snapshot, ..file(name, false) }
    }

    fn parameters(level: &str, places: &str) -> BTreeMap<String, String> {
        let pairs = [("wal_level", level), ("max_replication_slots", places)];
        pairs.map(|(name, value)| (name.to_string(), value.to_string())).into()
    }

    #[test]
    fn copies_are_put_where_none_is_and_where_one_is_of_no_use() {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("pg_replslot");
        std::fs::create_dir_all(dir.join("kept")).unwrap();
        std::fs::create_dir_all(dir.join("half.tmp")).unwrap();
        std::fs::write(dir.join("kept/state"), "kept").unwrap();
        let all = [file("kept", false), file("half", false), file("new", true)];
        let put = install(data.path(), &all, &parameters("logical", "4")).unwrap();
        assert_eq!(put, ["half", "new"]);
        let text = |name: &str| std::fs::read(dir.join(name).join("state")).unwrap();
        assert_eq!((text("kept"), text("half")), (b"kept".to_vec(), state("half")));
        assert!(!dir.join("half.tmp").exists());
        let put = install(data.path(), &[file("kept", true)], &parameters("logical", "4"));
        assert_eq!((put.unwrap(), text("kept")), (vec!["kept".to_string()], state("kept")));
        assert!(install(data.path(), &all[..2], &parameters("logical", "4")).unwrap().is_empty());
    }

    #[test]
    fn nothing_is_put_that_keeps_the_server_from_starting() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(data.path().join("pg_replslot/there")).unwrap();
        for (level, places) in [("replica", "10"), ("logical", "1")] {
            let put = install(data.path(), &[file("a", false)], &parameters(level, places));
            assert!(put.unwrap().is_empty());
        }
        assert!(!data.path().join("pg_replslot/a").exists());
        let put = install(data.path(), &[file("a", false)], &parameters("logical", "2"));
        assert_eq!(put.unwrap(), ["a"]);
    }

    #[test]
    fn a_slot_comes_with_the_snapshot_that_it_decodes_with() {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("pg_logical/snapshots");
        let files = [with_snapshot("a", 0x80, b"first"), with_snapshot("b", 1 << 32, b"second")];
        let put = install(data.path(), &files, &parameters("logical", "4")).unwrap();
        assert_eq!(put, ["a", "b"]);
        let names = || {
            let all = list_if_there(&dir).unwrap().into_iter();
            let mut all: Vec<String> =
                all.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
            all.sort();
            all
        };
        assert_eq!(names(), ["0-80.snap", "1-0.snap"]);
        assert_eq!(std::fs::read(dir.join("0-80.snap")).unwrap(), b"first");
        // One that is there stays, and a slot that is not due brings none.
        let files = [with_snapshot("c", 0x80, b"other"), with_snapshot("a", 0x90, b"not due")];
        let put = install(data.path(), &files, &parameters("logical", "4")).unwrap();
        assert_eq!(put, ["c"]);
        assert_eq!(std::fs::read(dir.join("0-80.snap")).unwrap(), b"first");
        assert_eq!(names(), ["0-80.snap", "1-0.snap"]);
    }

    #[test]
    fn a_slot_is_not_put_if_its_snapshot_cannot_be() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(data.path().join("pg_replslot")).unwrap();
        std::fs::write(data.path().join("pg_logical"), "no directory").unwrap();
        let file = with_snapshot("a", 0x80, b"first");
        assert!(install(data.path(), &[file], &parameters("logical", "4")).is_err());
        assert!(!data.path().join("pg_replslot/a").exists());
    }

    #[test]
    fn a_file_and_a_snapshot_belong_together_if_the_slot_has_not_moved() {
        let sight = |file: u64, shown: u64| Sight {
            state: Vec::new(),
            restart: [file, shown].map(|at| (at > 0).then_some(Lsn(at))),
        };
        let found = Found::One(Snapshot { at: Lsn(7), bytes: Vec::new() });
        let at_seven = sight(7, 7);
        assert!(belong_together(&at_seven, &found, Some(&at_seven)));
        assert!(belong_together(&at_seven, &Found::Nothing, Some(&at_seven)), "as it was made");
        assert!(!belong_together(&at_seven, &Found::Gone, Some(&at_seven)));
        assert!(!belong_together(&at_seven, &found, None), "the slot is gone");
        for moved in [sight(9, 9), sight(7, 9), sight(7, 0)] {
            assert!(!belong_together(&at_seven, &Found::Nothing, Some(&moved)));
        }
        let lost = sight(0, 0);
        assert!(belong_together(&lost, &Found::Nothing, Some(&lost)));
    }
}
