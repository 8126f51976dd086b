//! `patroni.log` and its older siblings `patroni.log.1`, `.2`, ...
//!
//! A file that would grow beyond its size is renamed to `.1`, the older ones
//! move up by one, and what moves past the number to keep is deleted. With
//! none to keep the one file grows without end.

use super::LogError;
use crate::config::Log;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const NAME: &str = "patroni.log";

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    size_max: u64,
    /// Older files that are kept.
    keep: u32,
    mode: Option<u32>,
}

impl LogFile {
    pub(super) fn open(dir: &Path, log: &Log) -> Result<LogFile, LogError> {
        let path = dir.join(NAME);
        let told = |source| LogError::Open { path: path.clone(), source };
        let file = open(&path, log.mode).map_err(told)?;
        let size = file.metadata().map_err(told)?.len();
        let (size_max, keep, mode) = (log.file_size, log.file_num, log.mode);
        Ok(LogFile { file, size, size_max, keep, mode, path })
    }

    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64;
        if self.keep > 0 && self.size > 0 && self.size + length > self.size_max {
            self.rotate()?;
        }
        self.file.write_all(line.as_bytes())?;
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.keep).rev() {
            move_if_there(&self.older(number), &self.older(number + 1))?;
        }
        move_if_there(&self.path, &self.older(1))?;
        self.file = open(&self.path, self.mode)?;
        self.size = 0;
        Ok(())
    }

    fn older(&self, number: u32) -> PathBuf {
        self.path.with_file_name(format!("{NAME}.{number}"))
    }
}

fn open(path: &Path, mode: Option<u32>) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    if let Some(mode) = mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(file)
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(file_size: u64, file_num: u32) -> Log {
        Log { file_size, file_num, mode: Some(0o640), ..Log::default() }
    }

    fn write(file: &mut LogFile, numbers: std::ops::Range<u32>) {
        numbers.for_each(|number| file.write(&format!("line {number}\n")).unwrap());
    }

    #[test]
    fn full_files_move_up_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let mut file = LogFile::open(dir.path(), &log(14, 2)).unwrap();
        write(&mut file, 0..7);
        assert_eq!(read("patroni.log"), "line 6\n");
        assert_eq!(read("patroni.log.1"), "line 4\nline 5\n");
        assert_eq!(read("patroni.log.2"), "line 2\nline 3\n");
        assert!(!dir.path().join("patroni.log.3").exists());
        let mode = std::fs::metadata(dir.path().join("patroni.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn a_file_that_is_there_is_continued_and_without_siblings_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        write(&mut LogFile::open(dir.path(), &log(1 << 20, 2)).unwrap(), 0..2);
        write(&mut LogFile::open(dir.path(), &log(5, 0)).unwrap(), 2..4);
        let text = std::fs::read_to_string(dir.path().join("patroni.log")).unwrap();
        assert_eq!(text, "line 0\nline 1\nline 2\nline 3\n");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = LogFile::open(Path::new("/nonexistent/logs"), &log(1, 1)).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/logs/patroni.log"), "{error}");
    }
}
