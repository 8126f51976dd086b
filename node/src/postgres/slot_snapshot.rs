//! The decoding snapshot that belongs to a logical slot.
//!
//! PostgreSQL decodes from the slot's `restart_lsn` and skips every commit, without an error,
//! until it knows all transactions that run. It knows them at the first record of running
//! transactions that names none, or at the first one for which `pg_logical/snapshots` has a file.
//! So a copy of the slot needs the file that a decoder of the primary finds first: that of
//! `restart_lsn`, or the next one.
//!
//! No file is safe, too: a consistent decoder writes one at each such record, and `restart_lsn`
//! moves only to records for which it has written or read one. They are removed only below the
//! `restart_lsn` of all slots. So without one the slot still begins where it was made, and decoding
//! becomes consistent where it did then, before anything that was confirmed. The one exception is
//! why the next file counts, too: PostgreSQL before 13.16, 14.13, 15.8 and 16.4 made slots with the
//! snapshot of another slot, which then lies behind `restart_lsn`.

use super::error::Error;
use super::session::Session;
use std::fmt;
use topology::Lsn;

const WHAT: &str = "the snapshots of logical slots";
pub(super) const DIRECTORY: &str = "pg_logical/snapshots";
const MAGIC: [u8; 4] = 0x51A1_E001_u32.to_le_bytes();
/// Magic, checksum and version come before the length of the whole file.
const LENGTH_AT: usize = 12;
/// Some hundred bytes, and four for each transaction that has changed the catalogues.
const BYTES_MAX: i64 = 64 * 1024 * 1024;

/// A snapshot of a primary, as its file holds it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) at: Lsn,
    pub(super) bytes: Vec<u8>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name(), self.bytes.len())
    }
}

impl Snapshot {
    /// Of its file, as PostgreSQL writes it.
    pub(super) fn name(&self) -> String {
        name(self.at)
    }
}

/// What there is for a slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    One(Snapshot),
    /// It was removed while it was looked for: the slot has moved on.
    Gone,
}

/// The first one from here on, of the server behind `session`.
pub(super) async fn read(session: &Session, from: Lsn) -> Result<Found, Error> {
    const NAMES: &str =
        "SELECT name FROM pg_catalog.pg_ls_dir('pg_logical/snapshots', true, false) AS name";
    const FILE: &str = "SELECT pg_catalog.pg_read_binary_file(\
        'pg_logical/snapshots/' || $1::text, 0, $2::bigint, true)";
    let unclear = |_| Error::Answer { what: WHAT, field: "name" };
    let rows = session.rows(WHAT, NAMES, &[]).await?;
    let names = rows.iter().map(|row| row.try_get::<_, String>(0)).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(unclear)?;
    let Some(at) = first(names.iter().map(String::as_str), from) else { return Ok(Found::Nothing) };
    let row = session.row(WHAT, FILE, &[&name(at), &BYTES_MAX]).await?;
    let unclear = |_| Error::Answer { what: WHAT, field: "file" };
    match row.try_get::<_, Option<Vec<u8>>>(0).map_err(unclear)? {
        None => Ok(Found::Gone),
        Some(bytes) if is_whole(&bytes) => Ok(Found::One(Snapshot { at, bytes })),
        Some(_) => Err(Error::Answer { what: WHAT, field: "whole file" }),
    }
}

fn name(at: Lsn) -> String {
    format!("{}.snap", at.to_string().replace('/', "-"))
}

/// Of files by these names; others are there while they are written.
fn first<'a>(names: impl Iterator<Item = &'a str>, from: Lsn) -> Option<Lsn> {
    let at = |name: &str| name.strip_suffix(".snap")?.replacen('-', "/", 1).parse::<Lsn>().ok();
    names.filter_map(at).filter(|at| *at >= from).min()
}

fn is_whole(bytes: &[u8]) -> bool {
    let length = bytes.get(LENGTH_AT..LENGTH_AT + 4).and_then(|field| field.try_into().ok());
    let length = length.map(|field| u32::from_le_bytes(field) as usize);
    bytes.starts_with(&MAGIC) && length == Some(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_from_where_the_slot_begins_is_taken() {
        let names = ["0-90.snap", "1-0.snap", "0-80.snap", "0-100.snap.77.tmp", "0-95.snap.old"];
        let first = |from| first(names.into_iter(), Lsn(from));
        assert_eq!(first(0x80), Some(Lsn(0x80)));
        assert_eq!(first(0x81), Some(Lsn(0x90)), "a slot may have been made with it");
        assert_eq!(first(0x91), Some(Lsn(1 << 32)));
        assert_eq!(first((1 << 32) + 1), None);
        assert_eq!(name(Lsn(0x1_0000_2BA8)), "1-2BA8.snap");
    }

    #[test]
    fn half_of_a_file_is_no_snapshot() {
        let mut bytes = vec![0; 160];
        bytes[..4].copy_from_slice(&[0x01, 0xe0, 0xa1, 0x51]);
        bytes[LENGTH_AT] = 160;
        assert!(is_whole(&bytes));
        assert!(!is_whole(&bytes[..100]) && !is_whole(&bytes[..8]) && !is_whole(&[]));
        bytes[0] = 0;
        assert!(!is_whole(&bytes));
    }
}
