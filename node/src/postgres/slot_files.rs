//! Logical slots as files: read from a primary, put where a stopped standby finds them.
//!
//! A server reads `pg_replslot` only when it starts. A copy is made as PostgreSQL makes a
//! slot: below another name, flushed, then renamed. One that is replaced keeps its place, and
//! only its file changes.
//!
//! Invariant: a server must be able to start with what was put there. It needs `wal_level`
//! logical and a place for each slot, else nothing is put.

use super::Instance;
use super::entries::list_if_there;
use super::error::Error;
use super::permission::ProvenSource;
use super::session::Session;
use crate::config::Login;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use topology::SystemId;

/// Name of the connection that reads a primary's slots.
const READER: &str = "Matriarch slot copies";
/// The first bytes of a slot's file, whatever its version.
const MAGIC: [u8; 4] = 0x0105_1CA1_u32.to_le_bytes();
/// Magic, checksum, version and length, then the name.
const NAME_AT: usize = 16;
const NAME_BYTES: usize = 64;
const BYTES_MAX: usize = 4_096;
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
}

impl Instance {
    /// Reads the slots from the primary at this address, which must be of the same system.
    pub async fn read_slots(
        &self,
        host: &str,
        port: u16,
        login: &Login,
        wanted: &[Wanted],
        system: &SystemId,
    ) -> Result<Vec<SlotFile>, Error> {
        let session = self.peer(host, port, login, READER).await?;
        ProvenSource::ask(&session, format!("{host}:{port}"), system).await?;
        read(&session, wanted).await
    }
}

async fn read(session: &Session, wanted: &[Wanted]) -> Result<Vec<SlotFile>, Error> {
    const WHAT: &str = "the files of logical slots";
    const SQL: &str = "SELECT s.slot_name::text, s.database::text, s.plugin::text, \
        pg_catalog.pg_read_binary_file('pg_replslot/' || s.slot_name || '/state') \
        FROM pg_catalog.pg_replication_slots s WHERE s.slot_type = 'logical' \
        AND NOT s.temporary AND s.confirmed_flush_lsn IS NOT NULL AND NOT pg_catalog.pg_is_in_recovery() \
        AND s.slot_name::text = ANY($1::text[])";
    let names: Vec<&str> = wanted.iter().map(|slot| slot.name.as_str()).collect();
    let mut files = Vec::new();
    for row in session.rows(WHAT, SQL, &[&names]).await? {
        let unclear = |_| Error::Answer { what: WHAT, field: "slot" };
        let (name, state): (String, Vec<u8>) =
            (row.try_get(0).map_err(unclear)?, row.try_get(3).map_err(unclear)?);
        let (database, plugin): (String, String) =
            (row.try_get(1).map_err(unclear)?, row.try_get(2).map_err(unclear)?);
        let same = |slot: &&Wanted| {
            slot.name == name && slot.database == database && slot.plugin == plugin
        };
        let Some(slot) = wanted.iter().find(same) else { continue };
        if !is_file_of(&name, &state) {
            return Err(Error::Answer { what: WHAT, field: "state" });
        }
        files.push(SlotFile { name, replaces: slot.replaces, state });
    }
    Ok(files)
}

fn is_file_of(name: &str, state: &[u8]) -> bool {
    let Some(field) = state.get(NAME_AT..NAME_AT + NAME_BYTES) else { return false };
    let shown = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let length = u32::from_le_bytes(state[12..16].try_into().expect("four bytes")) as usize;
    let is_whole = state.len() == NAME_AT + length && state.len() <= BYTES_MAX;
    state.starts_with(&MAGIC) && is_whole && shown == name.as_bytes()
}

/// Puts the slots into the data directory of a stopped server that will start with
/// these parameters. Gives the names of those that it has put there.
pub fn install(
    data_dir: &Path,
    files: &[SlotFile],
    parameters: &BTreeMap<String, String>,
) -> Result<Vec<String>, Error> {
    let dir = data_dir.join("pg_replslot");
    let there: Vec<String> = list_if_there(&dir)?
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_string()))
        .filter(|name| !name.ends_with(".tmp"))
        .collect();
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
    for file in &due {
        put(&dir, file, there.contains(&file.name))?;
    }
    sync_dir(&dir)?;
    Ok(due.into_iter().map(|file| file.name.clone()).collect())
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

    /// As a server has written it.
    fn state(name: &str) -> Vec<u8> {
        let mut bytes = vec![0; 200];
        bytes[..4].copy_from_slice(&[0xa1, 0x1c, 0x05, 0x01]);
        bytes[12] = 0xb8;
        bytes[NAME_AT..NAME_AT + name.len()].copy_from_slice(name.as_bytes());
        bytes
    }

    fn file(name: &str, replaces: bool) -> SlotFile {
        SlotFile { name: name.into(), replaces, state: state(name) }
    }

    fn parameters(level: &str, places: &str) -> BTreeMap<String, String> {
        let pairs = [("wal_level", level), ("max_replication_slots", places)];
        pairs.map(|(name, value)| (name.to_string(), value.to_string())).into()
    }

    #[test]
    fn a_file_names_its_slot() {
        assert!(is_file_of("a", &state("a")));
        assert!(!is_file_of("b", &state("a")) && !is_file_of("", &state("a")));
        assert!(!is_file_of("a", &state("a")[..150]), "half of a file");
        let mut other = state("a");
        other[0] = 0;
        assert!(!is_file_of("a", &other) && !is_file_of("a", &[]));
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
}
