//! What Linux tells about processes.
//!
//! A process that has ended but was not reaped (a zombie) counts as dead.

use super::error::{Error, read_if_there};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Ticks of a second in /proc: a constant of Linux's interface.
const TICKS: u64 = 100;
/// postmaster.pid holds whole seconds, and the boot time is rounded too.
const START_TOLERANCE_S: u64 = 3;

/// The words of /proc/<pid>/stat that matter.
pub struct Stat {
    pub lives: bool,
    pub parent: i32,
    /// In ticks since boot.
    pub started: u64,
}

impl Stat {
    pub fn of(pid: i32) -> Result<Option<Stat>, Error> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        match read_if_there(&path) {
            Ok(text) => Ok(text.and_then(|text| Stat::parse(&text))),
            // The process ended between open and read.
            Err(Error::File { source, .. }) if source.raw_os_error() == Some(3) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name in parentheses may hold anything; count from its end.
        let words: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let lives = !matches!(*words.first()?, "Z" | "X" | "x");
        let parent = words.get(1)?.parse().ok()?;
        Some(Stat { lives, parent, started: words.get(19)?.parse().ok()? })
    }
}

/// What changes with every start of the machine.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_string())
}

/// The children of a process, as the kernel lists them: without a look at any other
/// process.
pub fn listed_children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Did a process that started at `ticks` start at `epoch` (seconds since 1970)?
pub(super) fn began_at(epoch: Option<u64>, ticks: u64) -> Result<bool, Error> {
    let Some(epoch) = epoch else { return Ok(false) };
    let path = Path::new("/proc/stat");
    let text = read_if_there(path)?.unwrap_or_default();
    let boot = text.lines().find_map(|line| line.strip_prefix("btime "));
    let boot: Option<u64> = boot.and_then(|seconds| seconds.trim().parse().ok());
    Ok(boot.is_some_and(|boot| (boot + ticks / TICKS).abs_diff(epoch) <= START_TOLERANCE_S))
}

/// The clock may have been set since; then the program and its place decide.
pub(super) fn is_postgres_in(pid: i32, data_dir: &Path, postgres: &Path) -> bool {
    let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
    let (Some(exe), Some(cwd)) = (link("exe"), link("cwd")) else {
        return false;
    };
    let names = [postgres.file_name(), Some("postmaster".as_ref()), Some("postgres".as_ref())];
    let right_place = std::fs::canonicalize(data_dir).is_ok_and(|dir| dir == cwd);
    right_place && names.contains(&exe.file_name())
}

pub(super) fn children_of(parent: i32) -> Vec<i32> {
    let is_child = |pid: &i32| {
        let stat = Stat::of(*pid).ok().flatten();
        stat.is_some_and(|stat| stat.parent == parent)
    };
    pids().filter(is_child).collect()
}

/// The processes of a postmaster that send its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walsenders {
    pub physical: Vec<i32>,
    pub logical: Vec<i32>,
}

/// By their titles: one that sends the log as it is shows how far.
pub(super) fn walsenders_of(postmaster: i32) -> Walsenders {
    let mut found = Walsenders::default();
    for pid in children_of(postmaster) {
        let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        match sends_physically(&String::from_utf8_lossy(&title)) {
            Some(true) => found.physical.push(pid),
            Some(false) => found.logical.push(pid),
            None => {}
        }
    }
    found
}

/// `None`: no walsender. One that is not certainly of logical replication is taken for
/// a physical one, which is waited for: with `update_process_title = off` a title ends
/// with the address, for both kinds.
fn sends_physically(title: &str) -> Option<bool> {
    let (_, rest) = title.strip_prefix("postgres: ")?.split_once("walsender ")?;
    let rest = rest.trim_end_matches(['\0', ' ']);
    let is_told = !rest.ends_with(')') && !rest.ends_with("[local]");
    Some(rest.contains(" streaming ") || !is_told)
}

/// Has a postmaster children other than those that keep the server itself going?
/// A child whose title cannot be read counts as a client, unless the child is gone.
pub(super) fn has_clients(postmaster: i32) -> bool {
    let is_client = |pid: i32| match std::fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(title) => !title.is_empty() && !is_auxiliary(&String::from_utf8_lossy(&title)),
        Err(error) => !is_gone(&error),
    };
    let children = children_of(postmaster);
    // A postmaster that stops has its checkpointer to the end.
    children.is_empty() || children.into_iter().any(is_client)
}

fn is_gone(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(nix::errno::Errno::from_raw);
    matches!(code, Some(nix::errno::Errno::ENOENT | nix::errno::Errno::ESRCH))
}

/// `postgres: [CLUSTER: ]KIND`, where a client has its user, database and host.
fn is_auxiliary(title: &str) -> bool {
    const KINDS: [&str; 10] = [
        "checkpointer",
        "background writer",
        "walwriter",
        "autovacuum launcher",
        "logical replication launcher",
        "stats collector",
        "logger",
        "startup",
        "slotsync worker",
        "walsummarizer",
    ];
    let Some(rest) = title.strip_prefix("postgres: ") else { return false };
    let rest = rest.trim_end_matches(['\0', ' ']);
    // The archiver says what it does; a walsender serves no transactions.
    let kind = rest.rsplit_once(": ").map_or(rest, |(_, kind)| kind);
    KINDS.contains(&kind)
        || kind == "archiver"
        || kind.starts_with("archiver ")
        || kind.starts_with("io worker ")
        || kind.starts_with("walsender ")
}

/// Is `dir` the working directory of any process? All of PostgreSQL's are in
/// their data directory.
pub(super) fn is_anybody_in(dir: &Path) -> bool {
    let Ok(dir) = std::fs::canonicalize(dir) else {
        return false;
    };
    let mut places = pids().filter_map(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).ok());
    places.any(|place| place == dir)
}

/// Children of a postmaster that is dead. By their titles: a person may run a
/// single-user server in the same place.
pub(super) fn orphans_in(data_dir: &Path, postgres: &Path) -> Vec<i32> {
    let is_titled = |pid: i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|t| t.starts_with(b"postgres: "))
    };
    let is_adopted = |pid: i32| {
        let parent = Stat::of(pid).ok().flatten().map(|stat| stat.parent);
        parent.is_some_and(|parent| !is_postgres_in(parent, data_dir, postgres))
    };
    let ours = pids().filter(|pid| is_postgres_in(*pid, data_dir, postgres));
    ours.filter(|pid| is_titled(*pid) && is_adopted(*pid)).collect()
}

/// What a process has read from files and written to them.
pub(super) fn bytes_moved(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let count =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some(count("rchar:").unwrap_or(0u64) + count("wchar:").unwrap_or(0u64))
}

/// Processes with this in their environment.
pub(super) fn with_variable(name: &str, value: &Path) -> Vec<i32> {
    let mut wanted = format!("{name}=").into_bytes();
    wanted.extend(value.as_os_str().as_encoded_bytes());
    let has = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted)
    };
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    pids().filter(|pid| *pid != me).filter(has).collect()
}

/// The name of a program that has a file below one of these open for writing.
pub(super) fn writer_below(places: &[PathBuf]) -> Option<String> {
    let places: Vec<PathBuf> =
        places.iter().filter_map(|place| std::fs::canonicalize(place).ok()).collect();
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let writer = pids().filter(|pid| *pid != me).find(|pid| writes_below(*pid, &places))?;
    std::fs::read_to_string(format!("/proc/{writer}/comm")).ok().map(|name| name.trim().into())
}

fn writes_below(pid: i32, places: &[PathBuf]) -> bool {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    if exe.file_name().is_some_and(|name| name == "postgres" || name == "postmaster") {
        return false;
    }
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.into_iter().any(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        let below = places.iter().any(|place| target.starts_with(place));
        below && is_open_for_writing(pid, &file.file_name().to_string_lossy())
    })
}

/// The access mode is the last octal digit of the flags: 1 or 2 writes.
fn is_open_for_writing(pid: i32, file: &str) -> bool {
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{file}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 0o3 != 0)
}

/// Certainly not in `dir`: it can be seen where it is.
pub(super) fn works_elsewhere(pid: i32, dir: &Path) -> bool {
    let Ok(place) = std::fs::read_link(format!("/proc/{pid}/cwd")) else { return false };
    std::fs::canonicalize(dir).is_ok_and(|dir| dir != place)
}

/// By the name that every user may read.
pub(super) fn is_named_postgres(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.starts_with("postgres") || name.starts_with("postmaster")
}

/// Is it this program? Also one that an interpreter runs, a wrapper in `bin_name`.
pub(super) fn runs_program(pid: i32, program: &Path) -> bool {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = program.file_name();
    let mut words = line.split(|byte| *byte == 0).take(2);
    let is_named = |word: &[u8]| {
        let word = Path::new(std::ffi::OsStr::from_bytes(word));
        word.file_name() == name && name.is_some()
    };
    exe.file_name() == name && name.is_some() || words.any(is_named)
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_hold_parentheses() {
        let tail = "S 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 12345 0";
        let stat = Stat::parse(&format!("42 (a) b) {tail}")).unwrap();
        assert!(stat.lives);
        assert_eq!((stat.parent, stat.started), (7, 12345));
    }

    #[test]
    fn a_process_is_found_by_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_anybody_in(dir.path()));
        let mut command = std::process::Command::new("sleep");
        let mut other = command.arg("30").current_dir(dir.path()).spawn().unwrap();
        let seen = is_anybody_in(dir.path());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(seen);
    }

    #[test]
    fn consumers_of_logical_replication_are_told_from_replicas() {
        let physical = "postgres: shop: walsender replicator 127.0.0.1(4711) streaming 0/3000148";
        assert_eq!(sends_physically(physical), Some(true));
        for logical in [
            "postgres: shop: walsender app 127.0.0.1(4711) START_REPLICATION",
            "postgres: walsender app [local] idle",
        ] {
            assert_eq!(sends_physically(logical), Some(false), "{logical}");
        }
        // With `update_process_title = off`.
        for untold in [
            "postgres: shop: walsender replicator 127.0.0.1(4711) ",
            "postgres: walsender replicator [local]\0\0",
        ] {
            assert_eq!(sends_physically(untold), Some(true), "{untold}");
        }
        for other in ["postgres: shop: checkpointer ", "sh -c walsender ", ""] {
            assert_eq!(sends_physically(other), None, "{other}");
        }
    }

    #[test]
    fn clients_are_told_from_the_servers_own() {
        for title in [
            "postgres: shop: io worker 2",
            "postgres: walsummarizer",
            "postgres: shop: checkpointer ",
            "postgres: background writer \0\0",
            "postgres: shop: archiver archiving 000000010000000000000003",
            "postgres: shop: walsender replicator 127.0.0.1(4711) streaming 0/3000148",
        ] {
            assert!(is_auxiliary(title), "{title}");
        }
        for title in [
            "postgres: shop: postgres app 127.0.0.1(4711) idle",
            "postgres: shop: checkpointer app [local] idle",
            "postgres: shop: autovacuum worker app",
            "postgres: shop: Citus Maintenance Daemon: 16384/10",
            "/usr/lib/postgresql/15/bin/postgres\0-D\0/data",
        ] {
            assert!(!is_auxiliary(title), "{title}");
        }
    }
}
