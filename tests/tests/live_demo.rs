//! The demo, whole: what a new user runs first must work with the stand-in and
//! with the Citus extension, and lose no acknowledged row.
//!
//! The programs are not built by this test: `cargo build --workspace --bins`
//! first.

use ctl::demo::has_citus;
use ctl::field::process::find_postgres;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The demo takes about a minute; on a busy machine two.
const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn d1_the_demo_runs_with_the_stand_in() {
    let text = demo(&["--stand-in"]);
    assert!(text.contains("Citus: the project's SQL stand-in"), "{text}");
}

#[test]
fn d2_the_demo_runs_with_the_extension_and_loses_nothing() {
    let pg_bin = find_postgres().expect("PostgreSQL 13 or later: apt-get install postgresql");
    if !has_citus(&pg_bin) {
        println!("skipped: the Citus extension is not installed for {}", pg_bin.display());
        return;
    }
    let text = demo(&[]);
    assert!(text.contains("Citus: the real extension"), "{text}");
}

/// Runs the demo to its end; it must say that every acknowledged row was found.
fn demo(args: &[&str]) -> String {
    // Each demo keeps the cores busy with a whole formation.
    let _turn = tests::live::turn_alone();
    let place = tempfile::tempdir().expect("a directory");
    // The servers run as another user, who has to pass through.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), mode).expect("permissions");
    let dir = place.path().join("demo");
    let ended = run(&dir, args);
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let errors = String::from_utf8_lossy(&ended.stderr);
    if !ended.status.success() {
        println!("{}", logs(&dir));
    }
    assert!(ended.status.success(), "{}: {text}\n{errors}", ended.status);
    assert!(text.contains("synchronous_mode: quorum"), "{text}");
    assert!(text.contains("no acknowledged row is lost"), "{text}");
    println!("{text}");
    text
}

/// Ends a demo that takes too long, with all that it started.
fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("demo").arg("--dir").arg(dir).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the demo starts");
    let begin = Instant::now();
    while child.try_wait().expect("the demo's state").is_none() {
        if begin.elapsed() > LIMIT {
            child.kill().expect("the demo ends");
            let stop = Command::new(program()).args(["demo", "--stop", "--dir"]).arg(dir).status();
            println!("not over within {LIMIT:?}; stopped: {stop:?}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.wait_with_output().expect("the demo's output")
}

/// The ends of all logs.
fn logs(dir: &Path) -> String {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let logs = entries.map(|entry| entry.path());
    let logs = logs.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    let tail = |path: PathBuf| {
        let text = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().rev().take(25).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        format!("--- {}\n{}\n", path.display(), lines.join("\n"))
    };
    logs.map(tail).collect()
}

fn program() -> PathBuf {
    let us = std::env::current_exe().expect("this program");
    let target = us.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let built = target.join("matriarchctl");
    assert!(built.is_file(), "build it with: cargo build --workspace --bins");
    built
}
