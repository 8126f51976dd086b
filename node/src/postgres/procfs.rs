//! What Linux tells about processes.
//!
//! A process that has ended but was not reaped (a zombie) counts as dead.
//!
//! Titles are read here, as bytes: a name in them may be in any encoding, which the library
//! does not read.

use super::error::Error;
use ::procfs::ProcError;
use ::procfs::process::{self, FDPermissions, FDTarget, Process};
use std::ffi::OsStr;
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
        match Process::new(pid).and_then(|process| process.stat()) {
            Ok(stat) => Ok(Some(Stat::read(&stat))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(unreadable(pid, error)),
        }
    }

    fn read(stat: &process::Stat) -> Stat {
        let lives = !matches!(stat.state, 'Z' | 'X' | 'x');
        Stat { lives, parent: stat.ppid, started: stat.starttime }
    }
}

fn unreadable(pid: i32, error: ProcError) -> Error {
    Error::File {
        what: "read",
        path: PathBuf::from(format!("/proc/{pid}")),
        source: io_error(error),
    }
}

fn io_error(error: ProcError) -> std::io::Error {
    match error {
        ProcError::Io(error, _) => error,
        ProcError::PermissionDenied(_) => std::io::ErrorKind::PermissionDenied.into(),
        ProcError::NotFound(_) => std::io::ErrorKind::NotFound.into(),
        other => std::io::Error::other(other.to_string()),
    }
}

/// Of a process that ended between open and read, too.
fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => is_no_process(error),
        _ => false,
    }
}

fn is_no_process(error: &std::io::Error) -> bool {
    let code = error.raw_os_error().map(nix::errno::Errno::from_raw);
    matches!(code, Some(nix::errno::Errno::ENOENT | nix::errno::Errno::ESRCH))
}

/// What changes with every start of the machine.
pub fn boot_id() -> Option<String> {
    ::procfs::sys::kernel::random::boot_id().ok()
}

/// The children of a process, as the kernel lists them: without a look at any other
/// process.
pub fn listed_children(pid: i32) -> Vec<i32> {
    let task = Process::new(pid).and_then(|process| process.task_main_thread());
    let children = task.and_then(|task| task.children()).unwrap_or_default();
    children.into_iter().filter_map(|child| i32::try_from(child).ok()).collect()
}

/// Did a process that started at `ticks` start at `epoch` (seconds since 1970)?
pub(super) fn began_at(epoch: Option<u64>, ticks: u64) -> Result<bool, Error> {
    let Some(epoch) = epoch else { return Ok(false) };
    let boot = ::procfs::boot_time_secs().ok();
    Ok(boot.is_some_and(|boot| (boot + ticks / TICKS).abs_diff(epoch) <= START_TOLERANCE_S))
}

/// The clock may have been set since; then the program and its place decide.
pub(super) fn is_postgres_in(pid: i32, data_dir: &Path, postgres: &Path) -> bool {
    let links = Process::new(pid).and_then(|process| Ok((process.exe()?, process.cwd()?)));
    let Ok((exe, cwd)) = links else { return false };
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
        Err(error) => !is_no_process(&error),
    };
    let children = children_of(postmaster);
    // A postmaster that stops has its checkpointer to the end.
    children.is_empty() || children.into_iter().any(is_client)
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
    processes().filter_map(|process| process.cwd().ok()).any(|place| place == dir)
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
    let io = Process::new(pid).and_then(|process| process.io()).ok()?;
    Some(io.rchar + io.wchar)
}

/// Processes with this in their environment.
pub(super) fn with_variable(name: &str, value: &Path) -> Vec<i32> {
    let has = |process: &Process| {
        let environment = process.environ().unwrap_or_default();
        environment.get(OsStr::new(name)).is_some_and(|found| found == value.as_os_str())
    };
    others().filter(has).map(|process| process.pid()).collect()
}

/// The name of a program that has a file below one of these open for writing.
pub(super) fn writer_below(places: &[PathBuf]) -> Option<String> {
    let places: Vec<PathBuf> =
        places.iter().filter_map(|place| std::fs::canonicalize(place).ok()).collect();
    let writer = others().find(|process| writes_below(process, &places))?;
    writer.stat().ok().map(|stat| stat.comm)
}

fn writes_below(process: &Process, places: &[PathBuf]) -> bool {
    let exe = process.exe().unwrap_or_default();
    if exe.file_name().is_some_and(|name| name == "postgres" || name == "postmaster") {
        return false;
    }
    process.fd().into_iter().flatten().flatten().any(|file| match &file.target {
        FDTarget::Path(target) => {
            let below = places.iter().any(|place| target.starts_with(place));
            below && file.mode().contains(FDPermissions::WRITE)
        }
        _ => false,
    })
}

/// Certainly not in `dir`: it can be seen where it is.
pub(super) fn works_elsewhere(pid: i32, dir: &Path) -> bool {
    let Ok(place) = Process::new(pid).and_then(|process| process.cwd()) else { return false };
    std::fs::canonicalize(dir).is_ok_and(|dir| dir != place)
}

/// By the name that every user may read.
pub(super) fn is_named_postgres(pid: i32) -> bool {
    let name = Process::new(pid).and_then(|process| process.stat()).map(|stat| stat.comm);
    name.is_ok_and(|name| name.starts_with("postgres") || name.starts_with("postmaster"))
}

/// Is it this program? Also one that an interpreter runs, a wrapper in `bin_name`.
pub(super) fn runs_program(pid: i32, program: &Path) -> bool {
    let exe = Process::new(pid).and_then(|process| process.exe()).unwrap_or_default();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = program.file_name();
    let mut words = line.split(|byte| *byte == 0).take(2);
    let is_named = |word: &[u8]| {
        let word = Path::new(std::ffi::OsStr::from_bytes(word));
        word.file_name() == name && name.is_some()
    };
    exe.file_name() == name && name.is_some() || words.any(is_named)
}

fn processes() -> impl Iterator<Item = Process> {
    process::all_processes().into_iter().flatten().flatten()
}

fn others() -> impl Iterator<Item = Process> {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    processes().filter(move |process| process.pid() != me)
}

fn pids() -> impl Iterator<Item = i32> {
    processes().map(|process| process.pid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_has_ended_also_when_nothing_has_reaped_it() {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let begin = std::time::Instant::now();
        while Stat::of(pid).unwrap().expect("not reaped").lives {
            assert!(begin.elapsed().as_secs() < 10, "`true` does not end");
            std::thread::yield_now();
        }
        assert_eq!(Stat::of(pid).unwrap().expect("not reaped").parent, me);
        child.wait().unwrap();
        assert!(Stat::of(pid).unwrap().is_none());
    }

    #[test]
    fn a_program_that_writes_below_a_place_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("log")).unwrap();
        let places = [dir.path().to_path_buf()];
        assert_eq!(writer_below(&places), None, "only this process has it open");
        let mut command = std::process::Command::new("sleep");
        let mut writer = command.arg("30").stdout(file).spawn().unwrap();
        let seen = writer_below(&places);
        writer.kill().unwrap();
        writer.wait().unwrap();
        assert_eq!(seen.as_deref(), Some("sleep"));
        let file = std::fs::File::open(dir.path().join("log")).unwrap();
        let mut command = std::process::Command::new("sleep");
        let mut reader = command.arg("30").stdin(file).spawn().unwrap();
        let seen = writer_below(&places);
        reader.kill().unwrap();
        reader.wait().unwrap();
        assert_eq!(seen, None, "it only reads");
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
