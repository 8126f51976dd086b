//! What holds for all sources: purity of the modules that decide, the direction of
//! dependencies, and what every file owes its reader.

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/words.rs"]
mod words;

use std::fs;
use std::path::{Path, PathBuf};

/// Modules without clock, files, network and waiting.
const PURE: [&str; 4] = ["topology/src", "standby/src", "citus/src", "node/member/src"];
/// What would make them impure.
const IMPURE: [&str; 8] = [
    "async ",
    "tokio",
    "std::time::Instant",
    "SystemTime",
    "std::fs",
    "std::net",
    "std::process",
    "rand::",
];
/// Crates that each crate may depend on; anything else in the workspace is a
/// wrong arrow.
const ARROWS: [(&str, &[&str]); 8] = [
    ("topology", &[]),
    ("standby", &["topology"]),
    ("citus", &["topology"]),
    ("node/member", &["topology", "standby"]),
    ("node", &["topology", "standby", "citus", "member"]),
    ("ctl", &["topology", "standby", "citus", "node"]),
    ("sim", &["topology", "standby", "citus", "node", "member"]),
    ("tests", &["topology", "standby", "citus", "node", "member", "ctl"]),
];
/// The directories of all crates. That of the machine lies inside that of its daemon.
const CRATES: [&str; 8] =
    ["topology", "standby", "citus", "node/member", "node", "ctl", "sim", "tests"];
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("a member of the workspace").to_path_buf()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in CRATES {
        found.extend(sources_of(name));
    }
    found.retain(|path| !path.components().any(|c| c.as_os_str() == "target"));
    assert!(found.len() > 100, "the sources are looked for in the wrong place");
    found
}

/// Sources of one crate: those of a crate inside its directory are not its own.
fn sources_of(name: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    sources(&root().join(name), &mut files);
    let inner = CRATES.iter().filter(|inner| inner.starts_with(&format!("{name}/")));
    let inner: Vec<_> = inner.map(|inner| root().join(inner)).collect();
    files.retain(|path| !inner.iter().any(|inner| path.starts_with(inner)));
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a source is text")
}

/// The code of a file: without comments and without its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or("");
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_test(path: &Path) -> bool {
    let name = path.to_string_lossy();
    ["/tests", "/sim/", "check.rs", "/check/", "_test", "model.rs", "plans.rs"]
        .iter()
        .any(|part| name.contains(part))
}

#[test]
fn the_modules_that_decide_are_pure() {
    let mut found = Vec::new();
    for module in PURE {
        sources(&root().join(module), &mut found);
    }
    let mut broken = Vec::new();
    for path in found.iter().filter(|path| !is_test(path)) {
        let code = code(&read(path));
        let word = IMPURE.iter().find(|word| code.contains(**word));
        broken.extend(word.map(|word| format!("{} uses `{word}`", path.display())));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Files that perform what a region's agent decides, for the daemon and in the simulator.
const PERFORMERS: [&str; 5] = [
    "node/src/region/run.rs",
    "node/src/region/perform.rs",
    "node/src/region/region_store.rs",
    "sim/src/world/region/agent.rs",
    "sim/src/world/region/perform.rs",
];
/// What the machine, and it alone, asks: its tables, facts and rules.
const AGENTS_RULES: [&str; 13] = [
    "agent_step",
    "AgentFacts",
    "behind(",
    "CampaignFacts",
    "MarkMemory",
    "Publisher",
    "observed_region(",
    "may_replace",
    "is_receipt",
    "tokens(",
    "SwitchFacts",
    "advanced(",
    "preflight(",
];

#[test]
fn performers_of_an_agent_decide_nothing() {
    let mut machine = Vec::new();
    sources(&root().join("standby/src/switch"), &mut machine);
    let machine: String = machine.iter().map(|path| read(path)).collect();
    for rule in AGENTS_RULES {
        assert!(machine.contains(rule), "there is no {rule} any more");
    }
    for name in PERFORMERS {
        let code = code(&read(&root().join(name)));
        let rule = AGENTS_RULES.iter().find(|rule| code.contains(**rule));
        assert_eq!(rule, None, "{name} asks a rule of standby::switch::agent");
        let phase = code.contains("Phase::");
        assert!(!phase, "{name} looks at the phase of a move");
    }
}

/// Files that perform what a member's machine decides, for the daemon and in the simulator.
const PERFORMERS_OF_A_MEMBER: [&str; 22] = [
    "node/src/daemon/beside.rs",
    "node/src/daemon/callback.rs",
    "node/src/daemon/chores.rs",
    "node/src/daemon/disk.rs",
    "node/src/daemon/jobs.rs",
    "node/src/daemon/metadata.rs",
    "node/src/daemon/overrides.rs",
    "node/src/daemon/perform.rs",
    "node/src/daemon/run.rs",
    "node/src/daemon/run/commands.rs",
    "node/src/daemon/run/wake.rs",
    "node/src/daemon/synchrony.rs",
    "node/src/daemon/work.rs",
    "sim/src/world/beat.rs",
    "sim/src/world/citus/round.rs",
    "sim/src/world/disk.rs",
    "sim/src/world/duty.rs",
    "sim/src/world/failsafe.rs",
    "sim/src/world/job.rs",
    "sim/src/world/slots.rs",
    "sim/src/world/stop.rs",
    "sim/src/world/stores.rs",
];
/// What the machine, and it alone, asks.
const RULES_OF_A_MEMBER: [&str; 14] = [
    "sync_names(",
    "is_watchdog_needed",
    "Ownership::",
    "EndRewiring",
    "AGAIN_MS",
    "is_proof_over",
    "Facts::of(",
    "start_timeout_ms",
    // How stops wait, and for what.
    "Patience::",
    "StopHow::",
    "stop_timeout_ms",
    // Which request is taken, and what is read before a start.
    "memory.asked",
    "start_limit_ms",
    "is_purpose",
];

#[test]
fn performers_of_a_member_decide_nothing() {
    let mut machine = Vec::new();
    sources(&root().join("node/member/src"), &mut machine);
    let machine: String = machine.iter().map(|path| read(path)).collect();
    for rule in RULES_OF_A_MEMBER {
        assert!(machine.contains(rule), "there is no {rule} any more");
    }
    for name in PERFORMERS_OF_A_MEMBER {
        let code = code(&read(&root().join(name)));
        let rule = RULES_OF_A_MEMBER.iter().find(|rule| code.contains(**rule));
        assert_eq!(rule, None, "{name} asks a rule of the member's machine");
    }
}

#[test]
fn dependencies_point_one_way() {
    for (name, allowed) in ARROWS {
        let manifest = read(&root().join(name).join("Cargo.toml"));
        let needed = manifest.split("[dev-dependencies]").next().unwrap_or("");
        for other in CRATES.iter().filter(|other| **other != name) {
            let other = other.rsplit('/').next().expect("a name");
            let depends = needed.lines().any(|line| {
                line.split(['.', ' ', '=']).next().is_some_and(|key| key.trim() == other)
            });
            assert!(!depends || allowed.contains(&other), "{name} must not depend on {other}");
        }
    }
}

/// The library's name in code, where it is not that of the package.
const RENAMED: [(&str, &str); 1] = [("md-5", "md5")];

fn dependencies(manifest: &str) -> Vec<String> {
    let sections = manifest.split("\n[").filter(|part| part.contains("dependencies]"));
    let lines = sections.flat_map(|part| part.lines().skip(1));
    let keys = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    keys.filter(|key| !key.is_empty()).map(str::to_string).collect()
}

#[test]
fn every_line_of_a_manifest_is_used() {
    let mut unused = Vec::new();
    let mut wanted = dependencies(&read(&root().join("Cargo.toml")));
    for name in CRATES {
        let text: String = sources_of(name).iter().map(|path| read(path)).collect();
        for package in dependencies(&read(&root().join(name).join("Cargo.toml"))) {
            wanted.retain(|line| *line != package);
            let renamed = RENAMED.iter().find(|(from, _)| *from == package);
            let library = renamed.map_or(package.replace('-', "_"), |(_, to)| to.to_string());
            let ways = [format!("{library}::"), format!("use {library}")];
            if !ways.iter().any(|way| text.contains(way.as_str())) {
                unused.push(format!("{name}: {package}"));
            }
        }
    }
    unused.extend(wanted.iter().map(|package| format!("the workspace: {package}")));
    assert!(unused.is_empty(), "not used: {unused:?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> =
        all_sources().into_iter().filter(|path| !read(path).starts_with("//!")).collect();
    assert!(silent.is_empty(), "files without `//!` at the top: {silent:#?}");
}

#[test]
fn no_file_grows_without_end() {
    let large: Vec<_> = all_sources()
        .into_iter()
        .map(|path| (read(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(large.is_empty(), "files that hold two jobs: {large:#?}");
}

/// Who removes or renames files, and which: everything below a data directory that
/// is data goes through `data_dir.rs`, whose functions demand a `Permission`.
const REMOVERS: [(&str, &str); 19] = [
    ("node/src/postgres/data_dir.rs", "the data directory, with a permission"),
    ("node/src/postgres/error.rs", "one file that may be absent, for the modules below"),
    ("node/src/postgres/mark.rs", "our own marks, outside the data directory"),
    ("node/src/postgres/files.rs", "configuration and signal files, password files"),
    ("node/src/postgres/process.rs", "postmaster.pid of a dead server"),
    ("node/src/postgres/socket.rs", "lock files of sockets of a dead server"),
    ("node/src/postgres/restored.rs", "our own hba file, the trigger of a promotion"),
    ("node/src/postgres/single_user.rs", "archive status, written again afterwards"),
    ("node/src/postgres/instance_data.rs", "the trigger of a promotion"),
    ("node/src/postgres/archive.rs", "segments that a command has half fetched"),
    ("node/src/postgres/slot_files.rs", "copies of slots that it has written itself"),
    ("node/src/postgres/archive_histories.rs", "our own copies of history files"),
    ("node/src/postgres/timeline.rs", "empty history files of our own"),
    ("node/src/daemon/cache.rs", "our own copy of the configuration"),
    ("node/src/daemon/disk.rs", "our own file that probes the disk"),
    ("node/src/promises/kept.rs", "our own promise"),
    ("node/src/postgres/secrets.rs", "our own files with passwords, beside the password file"),
    ("node/src/dcs/etcd/server.rs", "the directory of an etcd that a test has started"),
    ("node/src/log/file.rs", "our own log"),
];

#[test]
fn only_named_files_remove_or_rename_files() {
    let words = ["remove_dir", "remove_file", "fs::rename", "remove_if_there"];
    let mut found = Vec::new();
    for path in all_sources() {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        let is_named = REMOVERS.iter().any(|(file, _)| *file == name);
        let daemon = name.starts_with("node/src") && !is_test(&path);
        let code = code(&read(&path));
        let word = words.iter().find(|word| code.contains(**word));
        if let Some(word) = word.filter(|_| daemon && !is_named) {
            found.push(format!("{name} uses `{word}`"));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_removes_or_renames_data_demands_a_permission() {
    let text = read(&root().join("node/src/postgres/data_dir.rs"));
    for name in ["remove", "empty", "disarm", "move_aside", "move_made_aside"] {
        let wanted = format!("fn {name}(dir: &Path, permission: &Permission)");
        assert!(text.contains(&wanted), "`{wanted}` is not in data_dir.rs");
    }
    let rewind = read(&root().join("node/src/postgres/mod.rs"));
    let rewind = rewind.split("async fn rewind(").nth(1).expect("it rewinds");
    assert!(rewind.split(')').next().is_some_and(|words| words.contains("&Permission")));
}

/// What only the store module uses: the numbers behind versions and sessions.
const NUMBERS_OF_THE_STORE: &str = "::of_store(";
/// The store's interface for tests and for the simulator.
const TOOLS_OF_TESTS: [&str; 2] = ["dcs::by_hand", "dcs::memory"];

#[test]
fn keys_and_clients_of_the_store_are_private_to_it() {
    let store = read(&root().join("node/src/dcs/mod.rs"));
    for part in ["kv", "etcd"] {
        assert!(store.contains(&format!("\nmod {part};")), "the module {part} is private");
    }
    assert_eq!(store.matches("\npub fn open(").count(), 1);
}

/// The simulator is no exception: it has no numbers either.
#[test]
fn nothing_but_the_store_module_speaks_in_keys_and_numbers() {
    let mut found = Vec::new();
    for path in all_sources().iter().filter(|path| !is_code_of_tests(path)) {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        if name.starts_with("node/src/dcs/") {
            continue;
        }
        let code = code(&read(path));
        if code.contains(NUMBERS_OF_THE_STORE) {
            found.push(format!("{name} uses `{NUMBERS_OF_THE_STORE}`"));
        }
        if name.starts_with("sim/") || name.starts_with("tests/") {
            continue;
        }
        let paths = imports::named_paths(&code);
        let tools = TOOLS_OF_TESTS.iter().filter(|tool| paths.iter().any(|p| p.contains(**tool)));
        found.extend(tools.map(|tool| format!("{name} uses `{tool}`")));
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Compiled for tests alone: it, or a module above it, is declared so.
fn is_code_of_tests(path: &Path) -> bool {
    let is_dir_of_tests = path.components().any(|part| part.as_os_str() == "tests");
    let mut module = Some(path);
    let mut is_declared = false;
    while let Some(file) = module.filter(|file| file.starts_with(root())) {
        is_declared |= is_declared_for_tests(file);
        module = file.parent();
    }
    is_dir_of_tests || is_declared
}

/// By the module above it, or by a neighbour that names its file.
fn is_declared_for_tests(module: &Path) -> bool {
    let (Some(stem), Some(dir)) = (module.file_stem(), module.parent()) else { return false };
    let mut declaring: Vec<PathBuf> = ["mod.rs", "lib.rs", "main.rs"].map(|f| dir.join(f)).into();
    declaring.push(dir.with_extension("rs"));
    let by_name = format!("mod {};", stem.display());
    let by_path = format!("#[path = \"{}.rs\"]", stem.display());
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let neighbours =
        entries.map(|entry| entry.path()).filter(|p| p.extension() == Some("rs".as_ref()));
    let declares = |file: &PathBuf, named: &dyn Fn(&[&str]) -> bool| {
        file.is_file() && declarations_for_tests(&read(file)).iter().any(|lines| named(lines))
    };
    declaring
        .iter()
        .any(|file| declares(file, &|lines| lines.iter().any(|l| l.ends_with(&by_name))))
        || neighbours.into_iter().any(|file| {
            declares(&file, &|lines| lines.contains(&&*by_path))
                || (read(&file).contains(&by_path) && is_declared_for_tests(&file))
        })
}

/// Each declaration of a module under `#[cfg(test)]`, with all of its attributes.
fn declarations_for_tests(text: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    let mut attributes = Vec::new();
    for line in text.lines() {
        attributes.push(line);
        if line.starts_with("#[") {
            continue;
        }
        let lines = std::mem::take(&mut attributes);
        if line.contains("mod ") && line.ends_with(';') && lines.contains(&"#[cfg(test)]") {
            found.push(lines);
        }
    }
    found
}

/// Where etcd's name may stand in texts: the store, and what starts etcd for the demo.
const NAMES_ETCD: [&str; 4] = ["node/src/dcs/", "ctl/src/demo/", "ctl/src/field/", "tests/"];

#[test]
fn no_text_outside_of_the_store_names_its_product() {
    let mut found = Vec::new();
    for path in all_sources().iter().filter(|path| !is_code_of_tests(path)) {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        if !NAMES_ETCD.iter().any(|place| name.starts_with(place)) {
            let code = code(&read(path)).to_lowercase();
            found.extend(code.contains("etcd").then_some(name));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// A program of tests that is in no list is never run.
#[test]
fn every_file_of_tests_is_run() {
    let dir = root().join("tests/tests");
    let listed = read(&dir.join("live.rs")) + &read(&root().join("tests/Cargo.toml"));
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).expect("the directory of tests") {
        let path = entry.expect("an entry").path();
        let main = if path.is_dir() { path.join("main.rs") } else { path };
        let name = main.strip_prefix(&dir).expect("below it").display().to_string();
        names.extend(Some(name).filter(|_| main.exists()));
    }
    assert!(names.len() > 30, "{names:?}");
    names.retain(|name| !listed.contains(&format!("{name}\"")));
    assert!(names.is_empty(), "not run: {names:?}");
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let words = ["todo!(", "unimplemented!(", "FIXME", "#[ignore"];
    let here = file!().rsplit('/').next().expect("a name");
    let mut found = Vec::new();
    for path in all_sources().iter().filter(|path| !path.ends_with(here)) {
        // What a generated configuration is marked with is no comment of ours.
        let text = read(path).replace("#FIXME", "");
        let word = words.iter().find(|word| text.contains(**word));
        found.extend(word.map(|word| format!("{}: `{word}`", path.display())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// As many threads as the machine has cores is one on some: a test that blocks it
/// waits for ever.
#[test]
fn p10_tests_with_several_threads_say_how_many() {
    let here = file!().rsplit('/').next().expect("a name");
    let mut found = Vec::new();
    for path in all_sources().iter().filter(|path| !path.ends_with(here)) {
        let text = read(path);
        let lines = text.lines().filter(|line| line.contains("multi_thread"));
        let silent =
            lines.filter(|line| line.contains("flavor") && !line.contains("worker_threads"));
        found.extend(silent.map(|line| format!("{}: {}", path.display(), line.trim())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn one_tls_provider_and_no_foreign_sources() {
    let lock = read(&root().join("Cargo.lock"));
    for name in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{name}\"")), "{name} is in Cargo.lock");
    }
    assert!(!lock.contains("source = \"git+"), "a dependency comes from git");
}
