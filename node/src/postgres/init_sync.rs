//! How a server that crashed brings its files to the disk before it replays its log.
//!
//! PostgreSQL's default opens and synchronises every file of the data directory, which
//! takes seconds in which the group has no server. With `recovery_init_sync_method =
//! syncfs` (PostgreSQL 14) the kernel synchronises the file systems of the data directory,
//! of `pg_wal` and of each tablespace as a whole. Two conditions come from PostgreSQL's
//! documentation of that setting: before Linux 5.8 an error of the disk may not reach the
//! server, and file systems behind other symbolic links are not synchronised.
//!
//! Invariant *the operator's word counts*: the line stands above everything else in
//! postgresql.conf, so that any other source of the setting overrides it.

use std::path::Path;

const FIRST_RELEASE: u32 = 14;
const FIRST_KERNEL: (u8, u8) = (5, 8);
/// Where files of the data directory lie, and links may be.
const DIRECTORIES: [&str; 3] = [".", "base", "global"];

/// The setting for this server, if it may have it.
pub(super) fn default_method(major: u32, data_dir: &Path) -> Option<(&'static str, &'static str)> {
    let kernel = ::procfs::sys::kernel::Version::current().ok();
    let kernel = kernel.map(|version| (version.major, version.minor));
    let may = major >= FIRST_RELEASE && tells_errors(kernel) && !has_other_links(data_dir);
    may.then_some(("recovery_init_sync_method", "syncfs"))
}

fn tells_errors(kernel: Option<(u8, u8)>) -> bool {
    cfg!(target_os = "linux") && kernel.is_some_and(|kernel| kernel >= FIRST_KERNEL)
}

/// A symbolic link beside `pg_wal`. What cannot be read may hold one.
fn has_other_links(data_dir: &Path) -> bool {
    DIRECTORIES.iter().any(|name| {
        let Ok(mut entries) = std::fs::read_dir(data_dir.join(name)) else { return true };
        entries.any(|entry| {
            let Ok(entry) = entry else { return true };
            let is_link = entry.file_type().map_or(true, |kind| kind.is_symlink());
            is_link && entry.file_name() != "pg_wal"
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["base", "global", "pg_tblspc"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        std::os::unix::fs::symlink("/wal", dir.path().join("pg_wal")).expect("a link");
        std::os::unix::fs::symlink("/space", dir.path().join("pg_tblspc/1")).expect("a link");
        dir
    }

    #[test]
    fn only_kernels_that_tell_errors_synchronise_whole_file_systems() {
        for (kernel, may) in
            [(Some((5, 7)), false), (Some((5, 8)), true), (Some((6, 1)), true), (None, false)]
        {
            assert_eq!(tells_errors(kernel), may, "{kernel:?}");
        }
        assert_eq!(default_method(13, data_dir().path()), None);
    }

    #[test]
    fn files_behind_other_links_are_not_left_out() {
        let dir = data_dir();
        assert!(!has_other_links(dir.path()), "PostgreSQL follows pg_wal and tablespaces itself");
        std::os::unix::fs::symlink("/elsewhere", dir.path().join("base/5")).expect("a link");
        assert!(has_other_links(dir.path()));
        assert!(has_other_links(&dir.path().join("missing")));
    }
}
