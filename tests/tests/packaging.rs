//! Units and packages: systemd reads the units without a complaint, and what the manifests list
//! for the packages is there.
//!
//! Absent on purpose: building packages, which needs the release build of both programs and the
//! tools `cargo deb` and `cargo generate-rpm` (docs/process.md).

use std::path::{Path, PathBuf};
use std::process::Command;

const UNITS: [&str; 2] = ["matriarch.service", "matriarch@.service"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf()
}

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What systemd says to the units, in which a program that exists everywhere stands for the daemon.
fn complaints(change: impl Fn(String) -> String) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let paths = UNITS.map(|unit| {
        let path = dir.path().join(unit);
        let text =
            page(&format!("packaging/{unit}")).replace("=/usr/bin/matriarch ", "=/bin/true ");
        std::fs::write(&path, change(text)).expect("a unit");
        path
    });
    let run = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(paths).output();
    let run = run.expect("systemd-analyze runs; Debian has it in the package systemd");
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    // Before 253. The units name the older type in the line above.
    let is_known =
        |line: &&str| line.ends_with("Failed to parse service type, ignoring: notify-reload");
    let units = dir.path().to_str().expect("UTF-8");
    let ours = text.lines().filter(|line| line.contains(units) || line.contains("matriarch"));
    let mut found: Vec<_> = ours.filter(|line| !is_known(line)).map(str::to_string).collect();
    found.extend((!run.status.success()).then(|| format!("{}\n{text}", run.status)));
    found
}

#[test]
fn systemd_reads_the_units_without_a_complaint() {
    assert_eq!(complaints(|text| text), [""; 0]);
}

/// The check above would see a mistake.
#[test]
fn systemd_complains_of_a_setting_that_it_does_not_know() {
    let found = complaints(|text| text.replace("KillMode=", "KillMood="));
    assert_eq!(found.len(), UNITS.len(), "{found:?}");
    assert!(found.iter().all(|line| line.contains("KillMood")), "{found:?}");
}

/// PostgreSQL outlives its daemon, a stop has the time to hand over, and a daemon that was told
/// to end stays away. Without `WATCHDOG=1` from the daemon a `WatchdogSec` would kill it.
#[test]
fn units_keep_what_the_daemon_relies_on() {
    let notify = page("node/src/notify.rs");
    for unit in UNITS {
        let text = page(&format!("packaging/{unit}"));
        let lines: Vec<&str> = text.lines().collect();
        for line in [
            "Type=notify-reload",
            "User=postgres",
            "KillMode=process",
            "TimeoutStopSec=10min",
            "TimeoutStartSec=infinity",
            "Restart=on-failure",
            "RestartPreventExitStatus=2",
        ] {
            assert!(lines.contains(&line), "{unit}: {line}");
        }
        let watches = lines.iter().any(|line| line.starts_with("WatchdogSec="));
        assert!(!watches || notify.contains("NotifyState::Watchdog"), "{unit}: WatchdogSec");
    }
}

/// Quoted words of one table of the manifest that look like files of this repository.
fn assets(manifest: &str, table: &str) -> Vec<String> {
    let text = manifest.split(&format!("\n[package.metadata.{table}]\n")).nth(1);
    let text = text.unwrap_or_else(|| panic!("no table {table}"));
    let text = text.split("\n[package").next().expect("one part");
    let lists = text.lines().skip_while(|line| !line.starts_with("assets = ["));
    let lines = lists.skip(1).take_while(|line| *line != "]");
    // The first quoted text of a line is the source, the second one the destination.
    let quoted = |line: &str, index: usize| line.split('"').nth(index * 2 + 1).map(str::to_string);
    lines.map(|line| format!("{} {}", quoted(line, 0).unwrap(), quoted(line, 1).unwrap())).collect()
}

#[test]
fn packages_hold_both_programs_the_units_and_files_that_exist() {
    let manifest = page("node/Cargo.toml");
    for (table, directory, slash) in [("deb", "node", ""), ("generate-rpm", ".", "/")] {
        let assets = assets(&manifest, table);
        for (source, wanted) in [
            ("target/release/matriarch ", "usr/bin/"),
            ("target/release/matriarchctl ", "usr/bin/"),
            ("packaging/matriarch.service ", "usr/lib/systemd/system/"),
            ("packaging/matriarch@.service ", "usr/lib/systemd/system/"),
        ] {
            let is_it = |asset: &&String| asset.trim_start_matches("../").starts_with(source);
            let asset = assets.iter().find(is_it).unwrap_or_else(|| panic!("{table}: no {source}"));
            assert!(asset.contains(&format!(" {slash}{wanted}")), "{table}: {asset}");
        }
        for asset in &assets {
            let (source, dest) = asset.split_once(' ').expect("two words");
            assert!(!dest.contains("etc/patroni"), "{table}: Patroni's own files are not ours");
            let source = source.trim_end_matches("*.md").trim_end_matches('*');
            let is_there = root().join(directory).join(source).exists();
            assert!(source.starts_with("target/") || is_there, "{table}: {source} is not there");
        }
    }
}

#[test]
fn scripts_of_the_package_are_shell_and_never_restart_a_daemon() {
    for name in ["postinst", "prerm", "postrm"] {
        let path = format!("packaging/debian/{name}");
        let run = Command::new("sh").arg("-n").arg(root().join(&path)).output().expect("a shell");
        assert!(run.status.success(), "{path}: {}", String::from_utf8_lossy(&run.stderr));
        let text = page(&path);
        assert!(text.ends_with("#DEBHELPER#\n"), "{path}: cargo deb looks for the token");
        let code: String = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(!code.contains(" restart matriarch"), "{path}: PostgreSQL would stop");
    }
}
