//! What every scenario with real servers stands on: programs, a directory, the start of the
//! store and the end of everything.

use ctl::field::process::find_postgres;
use ctl::field::{Field, MemberPlan};
use procfs::{Current, SharedMemorySegments, Shm};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

pub fn programs() -> PathBuf {
    find_postgres().expect("PostgreSQL 13 or later: apt-get install postgresql")
}

pub fn directory(kind: &str) -> TempDir {
    let dir = tempfile::Builder::new().prefix(&format!("matriarch-{kind}-")).tempdir();
    dir.expect("a temporary directory")
}

/// Of the first region.
pub fn start_store(field: &mut Field) {
    let region = field.plan.regions[0].clone();
    field.start_store(&region).expect("etcd starts");
}

pub async fn until<F: AsyncFnMut() -> bool>(
    field: &Field,
    what: &str,
    limit: Duration,
    question: F,
) -> Duration {
    field.until(what, limit, question).await.unwrap_or_else(|why| panic!("{why}"))
}

/// Ends everything; no daemon may have panicked, and no killed server leaves its shared
/// memory segment behind: the kernel allows 4,096 of them.
pub fn end(field: &mut Field) {
    let members: Vec<MemberPlan> = field.plan.members().cloned().collect();
    let postmasters: Vec<i32> = members.iter().filter_map(|m| field.postmaster_pid(m)).collect();
    for member in &members {
        field.kill_node(member);
    }
    field.stop();
    let segments = SharedMemorySegments::current().expect("the kernel lists segments").0;
    // A process of an earlier test may have had the same number.
    let begun = began(&field.dir);
    let is_ours = |s: &&Shm| postmasters.contains(&s.cpid) && s.ctime >= begun;
    let left = segments.iter().filter(is_ours).count();
    assert_eq!(left, 0, "shared memory segments of killed servers are left");
    for member in &members {
        let has_panicked = field.log(&member.name).contains("panicked at");
        assert!(!has_panicked, "the daemon of {} panicked", member.name);
    }
}

/// When the directory was made, in seconds since 1970.
fn began(dir: &Path) -> u64 {
    let made = std::fs::metadata(dir).and_then(|data| data.created()).expect("its directory");
    made.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A failed test leaves its directory, as does one with `MATRIARCH_KEEP=1`.
pub fn keep_if_asked(dir: &mut Option<TempDir>) {
    let is_asked = std::env::var_os("MATRIARCH_KEEP").is_some() || std::thread::panicking();
    if let Some(dir) = dir.take_if(|_| is_asked) {
        eprintln!("---- everything is kept in {}", dir.keep().display());
    }
}

/// What `tools/postgres_versions.sh` fetched may lie where the servers' user
/// cannot read: it is copied, with the libraries that lie beside its package.
pub fn within_reach(pg_bin: &Path, dir: &Path) -> PathBuf {
    let bin = pg_bin.canonicalize().expect("a directory of programs");
    let tree = bin.parent().expect("`bin` lies in a tree");
    if !tree.join("share").is_dir() {
        return pg_bin.to_path_buf();
    }
    let package = tree.parent().expect("the tree lies in a package");
    let libraries = package.with_extension("libs");
    let to = dir.join("postgres");
    let inside = to.join(package.file_name().expect("a name"));
    std::fs::create_dir_all(&inside).expect("a directory");
    for (from, to) in [(tree, &inside), (&libraries, &to)] {
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(copied.is_ok_and(|status| status.success()), "{} is copied", from.display());
    }
    inside.join(tree.file_name().expect("a name")).join("bin")
}

/// The daemon that was built from these sources, beside the test program.
pub fn daemon() -> PathBuf {
    if let Some(other) = std::env::var_os("MATRIARCH_DAEMON") {
        return other.into();
    }
    let us = std::env::current_exe().expect("where is this program?");
    let target = us.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let daemon = target.join("matriarch");
    let build = "build it first: cargo build --workspace --bins";
    let Ok(built) = daemon.metadata().and_then(|m| m.modified()) else {
        panic!("{} is missing; {build}", daemon.display());
    };
    // Cargo's own list of what it was built from.
    let list = std::fs::read_to_string(daemon.with_extension("d")).unwrap_or_default();
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    let is_newer = |path: &&str| {
        std::fs::metadata(path).and_then(|m| m.modified()).is_ok_and(|changed| changed > built)
    };
    if let Some(newer) = sources.split_whitespace().find(is_newer) {
        panic!("{} is older than {newer}; {build}", daemon.display());
    }
    daemon
}
