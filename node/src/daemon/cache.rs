//! `patroni.dynamic.json` in the data directory: the cluster-wide configuration
//! as it was when this member last saw it. A daemon begins with it, and a
//! leader gives it back to a store that has lost its own.

use serde_json::Value;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub(super) const NAME: &str = "patroni.dynamic.json";
const FRESH: &str = "patroni.dynamic.json.tmp";
/// No configuration is longer.
const BYTES_MAX: u64 = 16 << 20;

/// `None`: not there, or nothing that could be used.
pub(super) fn read(data_dir: &Path) -> Option<Value> {
    let path = data_dir.join(NAME);
    let told = |why: String| tracing::warn!("{} is not used: {why}", path.display());
    let mut text = String::new();
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        file => file,
    };
    let read = file.and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| told(error.to_string())).ok()?;
    serde_json::from_str(&text).map_err(|error| told(error.to_string())).ok()
}

/// Writes all of it or nothing; readable for the group where the data directory is.
pub(super) fn write(data_dir: &Path, dynamic: &Value) -> io::Result<()> {
    let fresh = data_dir.join(FRESH);
    let is_shared = fs::metadata(data_dir)?.permissions().mode() & 0o040 != 0;
    let mode = if is_shared { 0o640 } else { 0o600 };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh);
    let mut file = file?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(topology::document::compact(dynamic).as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, data_dir.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_copy_is_read_back_and_as_private_as_the_data() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({"ttl": 20, "postgresql": {"parameters": {"a": "b"}}});
        for (data, copy) in [(0o700, 0o600), (0o750, 0o640)] {
            fs::set_permissions(dir.path(), Permissions::from_mode(data)).unwrap();
            write(dir.path(), &config).unwrap();
            let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, copy);
        }
        assert_eq!(read(dir.path()), Some(config));
        assert!(!dir.path().join(FRESH).exists());
    }

    #[test]
    fn what_was_cut_off_is_no_configuration() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        fs::write(dir.path().join(NAME), "{\"ttl\": 2").unwrap();
        assert_eq!(read(dir.path()), None);
    }
}
