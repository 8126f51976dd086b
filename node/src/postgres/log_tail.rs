//! Why a server ended while it was starting, in its own words.
//!
//! Before its logging collector runs PostgreSQL writes to the standard error that it
//! has from this daemon, then to the file that `current_logfiles` names. Only what
//! was added since the start counts. A standard error that is no file (a journal, a
//! pipe) cannot be read back.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The end of a log that is read.
const TAIL_BYTES: u64 = 64 * 1024;
const FATAL: [&str; 2] = ["FATAL:", "PANIC:"];
/// What a server that starts or stops says to each client.
const TO_CLIENTS: &str = "the database system is ";

/// Where the logs ended before a start.
pub(crate) struct LogTail {
    data_dir: PathBuf,
    before: Vec<(PathBuf, u64)>,
}

impl LogTail {
    pub(crate) fn before_start(data_dir: &Path) -> LogTail {
        let length = |path: PathBuf| {
            let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            (path, bytes)
        };
        let before = logs(data_dir).into_iter().map(length).collect();
        LogTail { data_dir: data_dir.to_path_buf(), before }
    }

    /// The last line since then that says what ended the server.
    pub(crate) fn last_fatal(&self) -> Option<String> {
        logs(&self.data_dir).iter().rev().find_map(|path| {
            let known = self.before.iter().find(|(before, _)| before == path);
            last_fatal_in(path, known.map_or(0, |(_, bytes)| *bytes))
        })
    }
}

/// Our own standard error, then the collector's file.
fn logs(data_dir: &Path) -> Vec<PathBuf> {
    let own = std::fs::read_link("/proc/self/fd/2").ok().filter(|path| path.is_file());
    let named = std::fs::read_to_string(data_dir.join("current_logfiles")).unwrap_or_default();
    let collected = named.lines().find_map(|line| line.strip_prefix("stderr "));
    own.into_iter().chain(collected.map(|name| data_dir.join(name))).collect()
}

fn last_fatal_in(path: &Path, from: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES)))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let own = text.lines().rev().filter(|line| !line.contains(TO_CLIENTS));
    own.into_iter().find_map(|line| {
        let begin = FATAL.iter().find_map(|word| line.find(word))?;
        Some(line[begin..].trim().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h6_the_last_words_since_the_start_are_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log/postgresql.log");
        std::fs::create_dir(dir.path().join("log")).unwrap();
        std::fs::write(dir.path().join("current_logfiles"), "stderr log/postgresql.log\n").unwrap();
        std::fs::write(&log, "1 FATAL:  of another day\n").unwrap();
        let tail = LogTail::before_start(dir.path());
        assert_eq!(last_fatal_in(&log, tail.before.last().unwrap().1), None);
        let text = std::fs::read_to_string(&log).unwrap();
        let more = "2 LOG:  starting\n2 FATAL:  lock file is empty\n2 HINT:  remove it\n\
                    3 FATAL:  the database system is starting up\n";
        std::fs::write(&log, text + more).unwrap();
        assert_eq!(tail.last_fatal().as_deref(), Some("FATAL:  lock file is empty"));
    }
}
