//! What the state file of a logical slot says: whose it is, and where decoding begins.
//!
//! PostgreSQL writes the magic number, a checksum, the version of the format and the length of
//! what follows, then a structure in memory's own layout. In the formats of PostgreSQL 10 to 16
//! that begins in the same way: name, database, persistency, two transaction ids, `restart_lsn`.
//! A later format is not guessed at.

use topology::Lsn;

/// The first bytes of a slot's file, whatever its version.
const MAGIC: [u8; 4] = 0x0105_1CA1_u32.to_le_bytes();
/// Formats of PostgreSQL up to 15, and of 16.
const VERSIONS: [u32; 2] = [2, 3];
const VERSION_AT: usize = 8;
const LENGTH_AT: usize = 12;
/// Behind magic, checksum, version and length.
const NAME_AT: usize = 16;
const NAME_BYTES: usize = 64;
/// Behind the name and four numbers of four bytes each.
const RESTART_AT: usize = NAME_AT + NAME_BYTES + 16;
const BYTES_MAX: usize = 4_096;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    #[error("it is no whole state file of this slot")]
    Foreign,
    #[error(
        "its format has version {0}, and where decoding begins is known of 2 and 3 (PostgreSQL 10 \
         to 16) only, so the snapshot that belongs to it cannot be found"
    )]
    Version(u32),
}

/// Where decoding begins; nothing for a slot that PostgreSQL has given up.
pub(super) fn restart_lsn(name: &str, state: &[u8]) -> Result<Option<Lsn>, BadState> {
    let field = state.get(NAME_AT..NAME_AT + NAME_BYTES).ok_or(BadState::Foreign)?;
    let shown = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let length = number(state, LENGTH_AT).ok_or(BadState::Foreign)? as usize;
    let is_whole = state.len() == NAME_AT + length && state.len() <= BYTES_MAX;
    if !state.starts_with(&MAGIC) || !is_whole || shown != name.as_bytes() {
        return Err(BadState::Foreign);
    }
    let version = number(state, VERSION_AT).ok_or(BadState::Foreign)?;
    if !VERSIONS.contains(&version) {
        return Err(BadState::Version(version));
    }
    let at = state.get(RESTART_AT..RESTART_AT + 8).and_then(|bytes| bytes.try_into().ok());
    let at = Lsn(u64::from_le_bytes(at.ok_or(BadState::Foreign)?));
    Ok((at != Lsn(0)).then_some(at))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// As a server of PostgreSQL 15 has written it.
#[cfg(test)]
pub(super) fn of_test(name: &str, restart_lsn: Lsn) -> Vec<u8> {
    let mut bytes = vec![0; 200];
    bytes[..4].copy_from_slice(&[0xa1, 0x1c, 0x05, 0x01]);
    bytes[VERSION_AT] = 2;
    bytes[LENGTH_AT] = 0xb8;
    bytes[NAME_AT..NAME_AT + name.len()].copy_from_slice(name.as_bytes());
    bytes[96..104].copy_from_slice(&restart_lsn.0.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_where_decoding_begins() {
        let state = of_test("a", Lsn(0x1_0000_2BA8));
        assert_eq!(restart_lsn("a", &state), Ok(Some(Lsn(0x1_0000_2BA8))));
        assert_eq!(restart_lsn("a", &of_test("a", Lsn(0))), Ok(None), "the slot is lost");
        let mut newer = state.clone();
        newer[VERSION_AT] = 3;
        assert_eq!(restart_lsn("a", &newer), Ok(Some(Lsn(0x1_0000_2BA8))));
        newer[VERSION_AT] = 5;
        let error = restart_lsn("a", &newer).unwrap_err();
        assert_eq!(error, BadState::Version(5));
        assert!(error.to_string().contains("version 5"), "{error}");
    }

    #[test]
    fn a_file_names_its_slot_and_is_whole() {
        let state = of_test("a", Lsn(7));
        let mut other = state.clone();
        other[0] = 0;
        let foreign = [
            ("b", &state[..]),
            ("", &state[..]),
            ("a", &state[..150]),
            ("a", &state[..10]),
            ("a", &other[..]),
            ("a", &[]),
        ];
        for (name, bytes) in foreign {
            assert_eq!(restart_lsn(name, bytes), Err(BadState::Foreign), "{name} {}", bytes.len());
        }
        // Its length is right, and there is no room for the position.
        let mut short = state[..100].to_vec();
        short[LENGTH_AT] = 84;
        assert_eq!(restart_lsn("a", &short), Err(BadState::Foreign));
    }
}
