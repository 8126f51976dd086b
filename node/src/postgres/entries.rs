//! The entries of a directory.

use super::error::Error;
use std::path::{Path, PathBuf};

/// What stands at the top of `dir`; nothing when it is not there.
pub(super) fn list_if_there(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    if dir.exists() { list(dir) } else { Ok(Vec::new()) }
}

pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(dir).map_err(Error::file("list", dir))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    paths.collect::<Result<_, _>>().map_err(Error::file("list", dir))
}
