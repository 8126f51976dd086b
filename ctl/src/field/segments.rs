//! Shared memory segments that killed servers leave behind.
//!
//! PostgreSQL holds one small System V segment for each data directory. A server that ends
//! in order removes it; the kernel does not remove it for a server that was killed, and
//! allows 4,096 on a machine. Then no server starts any more, so a field that ends removes
//! the segments of its own servers.

use procfs::{Current, SharedMemorySegments};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A segment and its creator, as a `postmaster.pid` names them.
#[derive(Debug, PartialEq, Eq)]
struct Noted {
    postmaster: i32,
    id: u64,
}

/// Removes the segments of all dead servers whose data lies in the field's directory.
/// A segment is removed only if the kernel too says that this server made it, and that
/// no process is attached to it: a living server is.
pub(super) fn remove_segments(dir: &Path) {
    let noted = noted_in(&dir.join("data"));
    let Ok(segments) = SharedMemorySegments::current() else { return };
    for segment in segments.0 {
        let was_made_by = |n: &Noted| (n.postmaster, n.id) == (segment.cpid, segment.shmid);
        if segment.nattch == 0 && noted.iter().any(was_made_by) {
            let _ = Command::new("ipcrm").args(["-m", &segment.shmid.to_string()]).output();
        }
    }
}

fn noted_in(data: &Path) -> Vec<Noted> {
    let entries = fs::read_dir(data).into_iter().flatten().flatten();
    let texts = entries.filter_map(|e| fs::read_to_string(e.path().join("postmaster.pid")).ok());
    texts.filter_map(|text| noted(&text)).collect()
}

/// The first line is the postmaster's pid, the seventh the key and the ID of its segment.
fn noted(text: &str) -> Option<Noted> {
    let mut lines = text.lines();
    let postmaster = lines.next()?.trim().parse().ok()?;
    let id = lines.nth(5)?.split_whitespace().nth(1)?.parse().ok()?;
    Some(Noted { postmaster, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_stands_in_the_seventh_line() {
        let text = "4711\n/data\n1700000000\n5432\n/tmp\nlocalhost\n  10069872     42\nready   \n";
        assert_eq!(noted(text), Some(Noted { postmaster: 4711, id: 42 }));
        assert_eq!(noted("4711\n/data\n1700000000\n5432\n"), None);
        assert_eq!(noted(""), None);
    }
}
