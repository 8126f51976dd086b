//! Shared memory segments that killed servers leave behind.
//!
//! PostgreSQL holds one small System V segment for each data directory. A server that ends
//! in order removes it; the kernel does not remove it for a server that was killed, and
//! allows 4,096 on a machine. Then no server starts any more, so a field that ends removes
//! the segments of its own servers.

use procfs::{Current, SharedMemorySegments, Shm};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A segment and its creator, as a `postmaster.pid` names them.
#[derive(Debug, PartialEq, Eq)]
struct Noted {
    postmaster: i32,
    id: u64,
}

/// The processes of a killed server end one after the other, on a busy machine slowly.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes the segments of all dead servers whose data lies in the field's directory.
/// A segment is removed only if the kernel too says that this server made it, and
/// once no process is attached to it: a living server is.
pub(super) fn remove_segments(dir: &Path) {
    let noted = noted_in(&dir.join("data"));
    let end = Instant::now() + PATIENCE;
    while !remove_unused(&noted) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// None is left.
fn remove_unused(noted: &[Noted]) -> bool {
    let Ok(segments) = SharedMemorySegments::current() else { return true };
    let was_made_by = |n: &Noted, s: &Shm| (n.postmaster, n.id) == (s.cpid, s.shmid);
    let ours = segments.0.into_iter().filter(|s| noted.iter().any(|n| was_made_by(n, s)));
    let (unused, used): (Vec<Shm>, Vec<Shm>) = ours.partition(|segment| segment.nattch == 0);
    for segment in unused {
        let _ = Command::new("ipcrm").args(["-m", &segment.shmid.to_string()]).output();
    }
    used.is_empty()
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
