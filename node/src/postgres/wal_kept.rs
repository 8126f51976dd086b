//! Which WAL a server still has.

use super::archive::is_segment;
use super::entries::list_if_there;
use super::error::Error;
use std::path::Path;
use topology::Lsn;

/// Where the oldest segment in `pg_wal` begins, on whatever timeline. `None`: there is none.
///
/// PostgreSQL itself does not say it: after a start it takes all WAL for reserved that it has not
/// removed since, also what a copy of another server never had.
pub fn begins_at(data_dir: &Path) -> Result<Option<Lsn>, Error> {
    let files = list_if_there(&data_dir.join("pg_wal"))?;
    let segments = files.iter().filter_map(|path| {
        let name = path.file_name()?.to_str().filter(|name| is_segment(name))?;
        Some((name[8..].to_string(), path))
    });
    let Some((place, path)) = segments.min() else { return Ok(None) };
    let bytes = std::fs::metadata(path).map_err(Error::file("look at", path))?.len();
    Ok(start_of(&place, bytes))
}

/// `place`: the name of a segment, without its timeline.
fn start_of(place: &str, segment_bytes: u64) -> Option<Lsn> {
    let part = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let (high, low) = place.split_at_checked(8)?;
    Some(Lsn((part(high)? << 32) + part(low)?.checked_mul(segment_bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_oldest_segment_of_all_timelines_counts() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(begins_at(dir.path()).expect("no files"), None);
        let wal = dir.path().join("pg_wal");
        fs::create_dir(&wal).expect("a directory");
        assert_eq!(begins_at(dir.path()).expect("no files"), None);
        for name in [
            "000000020000000100000003",
            "000000010000000100000004",
            "000000010000000000000001.partial",
            "00000002.history",
        ] {
            fs::write(wal.join(name), [0; 256]).expect("a file");
        }
        assert_eq!(begins_at(dir.path()).expect("files"), Some(Lsn((1 << 32) + 3 * 256)));
    }
}
