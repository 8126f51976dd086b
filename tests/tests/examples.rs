//! Examples and pages that are made from the code stay true.
//!
//! An example that warns, a table of settings that lacks a row or a page that
//! names a test that does not exist would mislead its readers. Pages made from
//! code are compared with it; `UPDATE_PAGES=1 cargo test -p tests --test examples`
//! writes them anew.

use citus::registrar::rules::REGISTRAR;
use member::callbacks::CALLBACKS;
use member::chores::CHORES;
use member::events::EVENTS;
use member::ha::TABLES;
use member::ha::table::{Rests, Rule, Wait};
use member::overrides::OVERRIDES;
use member::planned_restart::PLANNED_RESTART;
use member::requests::REQUESTS;
use member::slots::SLOTS;
use member::stop::STOPS;
use member::upkeep::UPKEEP;
use node::config::{Environment, Loaded, load};
use serde_yaml::Value;
use standby::slots::danger::SLOT_DANGERS;
use standby::switch::campaign::CAMPAIGN;
use standby::switch::schedule::SCHEDULE;
use standby::switch::table::SWITCH;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const EXAMPLES: [&str; 9] = [
    "group.yml",
    "fast.yml",
    "citus-coordinator.yml",
    "citus-worker.yml",
    "regions-a.yml",
    "regions-b.yml",
    "replica-barman.yml",
    "replica-pgbackrest.yml",
    "replica-wal-g.yml",
];

/// Files for other programs, and what a member gets from the variables of one of them.
const BESIDE: [&str; 6] = [
    "Containerfile",
    "compose-member.yml",
    "compose.yml",
    "haproxy.cfg",
    "keepalived.conf",
    "pgbouncer.ini",
];

/// When each table of rules is asked; the order is that of `member::ha::decide`.
const WHEN: [(&str, &str); 11] = [
    ("gate", "Asked first, always. Only rule 99 lets another table decide."),
    ("job", "A long action runs: bootstrap, copy, start, stop, restart or rewind."),
    ("stopping", "The daemon was told to end."),
    ("lost", "The store is silent and no lock of ours is known to hold."),
    ("pause", "The group is in maintenance mode (`matriarchctl pause`)."),
    ("birth", "The data directory is empty, or a new cluster is being made."),
    ("down", "PostgreSQL is not running."),
    ("leader", "This member holds the lock and PostgreSQL runs."),
    (
        "standby request",
        "This member holds the lock of a group that follows another side, and a new leader was \
         asked for.",
    ),
    ("race", "No member holds the lock and PostgreSQL runs."),
    ("follow", "Another member holds the lock and PostgreSQL runs."),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf()
}

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn example(name: &str) -> Loaded {
    let env: Environment = [("HOME".to_string(), "/var/lib/postgresql".to_string())].into();
    let path = root().join("examples").join(name);
    load(Some(&path), &env).unwrap_or_else(|findings| panic!("{name}:\n{findings}"))
}

/// The page is as it should be, or is made so when asked for.
fn assert_page(path: &str, wanted: &str) {
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(root().join(path), wanted).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
    let found = page(path);
    let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        found == wanted,
        "{path} differs from the code: {differs:?}; \
         run UPDATE_PAGES=1 cargo test -p tests --test examples"
    );
}

/// The page with everything between `<!-- name -->` and `<!-- /name -->` replaced.
fn with_part(path: &str, name: &str, part: &str) -> String {
    let text = page(path);
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{path}: no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{path}: no {end}"));
    format!("{before}{begin}{part}{end}{after}")
}

fn markdown() -> Vec<String> {
    let names = std::fs::read_dir(root().join("docs")).expect("docs").flatten();
    let names = names.map(|entry| format!("docs/{}", entry.file_name().to_string_lossy()));
    let mut pages: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
    pages.push("README.md".to_string());
    pages
}

#[test]
fn every_example_is_read_without_a_finding_or_a_warning() {
    for name in EXAMPLES {
        assert_eq!(example(name).warnings, [""; 0], "{name}");
    }
    let files = std::fs::read_dir(root().join("examples")).expect("examples");
    let mut files: Vec<_> = files.flatten().map(|file| file.file_name()).collect();
    let mut listed: Vec<_> = EXAMPLES.iter().chain(&BESIDE).map(OsString::from).collect();
    files.sort();
    listed.sort();
    assert_eq!(files, listed, "every example is in a list");
}

/// A replica is made by the tool first, and by a copy of the leader where that fails. What the
/// daemon appends to a command of its own accord, none of the tools takes.
#[test]
fn examples_with_a_backup_tool_copy_where_the_tool_fails() {
    for name in EXAMPLES.iter().filter(|name| name.starts_with("replica-")) {
        let file: Value = serde_yaml::from_str(&page(&format!("examples/{name}"))).expect("YAML");
        let section = &file["postgresql"];
        let methods = section["create_replica_methods"].as_sequence().expect("methods");
        let methods: Vec<_> = methods.iter().filter_map(Value::as_str).collect();
        let [tool, "basebackup"] = methods[..] else { panic!("{name}: {methods:?}") };
        assert!(section[tool]["command"].is_string(), "{name}: {tool} has no command");
        assert_eq!(section[tool]["no_params"].as_bool(), Some(true), "{name}");
        let restore = section["recovery_conf"]["restore_command"].as_str();
        assert!(restore.is_some_and(|command| command.contains("%f")), "{name}: {restore:?}");
    }
}

/// The file that the members share, with the variables of each, is a configuration without a
/// warning.
#[test]
fn members_of_the_compose_file_are_three_whole_configurations() {
    let file: Value = serde_yaml::from_str(&page("examples/compose.yml")).expect("YAML");
    let services = file["services"].as_mapping().expect("services");
    let mut members = Vec::new();
    for (service, body) in services {
        let Some(variables) = body["environment"].as_mapping() else { continue };
        let text = |value: &Value| value.as_str().expect("a text").to_string();
        let mut env: Environment =
            variables.iter().map(|(name, value)| (text(name), text(value))).collect();
        env.insert("HOME".to_string(), "/var/lib/postgresql".to_string());
        let path = root().join("examples/compose-member.yml");
        let loaded = load(Some(&path), &env).unwrap_or_else(|findings| panic!("{findings}"));
        assert_eq!(loaded.warnings, [""; 0]);
        assert_eq!(Some(loaded.settings.name.as_str()), service.as_str());
        members.push(loaded.settings.name.as_str().to_string());
    }
    assert_eq!(members, ["pg1", "pg2", "pg3"]);
}

/// Servers whose names are not known here are warnings.
#[test]
fn haproxy_reads_its_example() {
    let mut haproxy = Command::new("haproxy");
    haproxy.args(["-c", "-f"]).arg(root().join("examples/haproxy.cfg"));
    let run = haproxy.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output();
    let run = run.expect("haproxy runs; Debian has it in the package of this name");
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{text}");
    let unknown = text.lines().filter(|line| line.starts_with("[WARNING]"));
    let other: Vec<_> = unknown.filter(|l| !l.contains("could not resolve address")).collect();
    assert!(other.is_empty(), "{text}");
}

#[test]
fn examples_of_one_formation_agree() {
    let [coordinator, worker] = ["citus-coordinator.yml", "citus-worker.yml"].map(example);
    assert_eq!(coordinator.settings.scope, worker.settings.scope);
    assert_eq!(coordinator.settings.group().0, Some(0));
    assert_eq!(worker.settings.group().0, Some(1));
    let [a, b] = ["regions-a.yml", "regions-b.yml"].map(example);
    let [a, b] = [a.settings.topology, b.settings.topology].map(|t| t.expect("a topology"));
    assert_eq!(a.policy.hash(), b.policy.hash(), "one policy for all daemons");
    assert_eq!(a.policy.first_owner(), Some(&a.region));
    assert_ne!(a.region, b.region);
}

#[test]
fn the_settings_page_is_the_table_of_the_code() {
    let path = "docs/configuration.md";
    let table = node::config::settings::reference();
    assert_page(path, &with_part(path, "settings", &table));
}

#[test]
fn the_rest_page_is_the_table_of_the_code() {
    let path = "docs/rest.md";
    let table = node::api::endpoints::reference();
    assert_page(path, &with_part(path, "endpoints", &table));
}

#[test]
fn the_rules_page_is_the_tables_of_the_code() {
    let path = "docs/rules.md";
    assert_page(path, &with_part(path, "rules", &rules()));
}

fn rules() -> String {
    let mut text = String::new();
    for ((name, table), (named, when)) in TABLES.iter().zip(WHEN) {
        assert_eq!(*name, named, "the tables are described in their order");
        let rows = table.iter().map(|Rule { id, why, rests, .. }| (*id, *why, wait_of(*rests)));
        write_table(&mut text, name, when, rows);
    }
    assert_eq!(TABLES.len(), WHEN.len());
    let rows = SWITCH.iter().map(|row| (row.id, row.why, String::new()));
    write_table(&mut text, "move", "A planned move of the formation; asked by an agent.", rows);
    let rows = SCHEDULE.iter().map(|row| (row.id, row.why, String::new()));
    let when = "A move that was scheduled; asked by the agent of the owner, about each schedule.";
    write_table(&mut text, "schedule", when, rows);
    let rows = CAMPAIGN.iter().map(|row| (row.id, row.why, String::new()));
    write_table(&mut text, "agent", "Which daemon of a region becomes its agent.", rows);
    let rows = UPKEEP.iter().map(|row| (row.id, row.why, String::new()));
    write_table(&mut text, "upkeep", "What a leader writes after a beat, in this order.", rows);
    let rows = CHORES.iter().map(|row| (row.id, row.why, String::new()));
    let when = "What a member keeps in order on its own machine after a beat, in this order; the \
                writes of the table above come before row 1360.";
    write_table(&mut text, "chores", when, rows);
    let rows = OVERRIDES.iter().map(|row| (row.id, row.why, String::new()));
    let when = "What the files of a server say beside the configuration: every row that applies.";
    write_table(&mut text, "overrides", when, rows);
    let rows = REQUESTS.iter().map(|row| (row.id, row.why, String::new()));
    let when = "A restart or a reinitialize that an operator asks for; the first row that matches \
                decides.";
    write_table(&mut text, "requests", when, rows);
    let rows = STOPS.iter().map(|row| (row.id, row.why, String::new()));
    let when = "What an orderly stop of a server waits for, at every look of its job; the first row \
                that matches decides.";
    write_table(&mut text, "stop", when, rows);
    let rows = PLANNED_RESTART.iter().map(|row| (row.id, row.why, String::new()));
    let when = "A restart that was asked for later, at every look at the server.";
    write_table(&mut text, "planned restart", when, rows);
    let rows = CALLBACKS.iter().map(|row| (row.id, row.why, String::new()));
    let when = "Which command of `postgresql.callbacks` is called; asked when a job has ended, a \
                promotion was accepted or a lock given up, and at the end of a beat in which the \
                server is at rest.";
    write_table(&mut text, "callbacks", when, rows);
    let rows = SLOTS.iter().map(|row| (row.id, row.why, String::new()));
    let when = "What a member does about the replication slots of its server after a beat, one step \
                at a time; the rows are asked from the first one on after each step.";
    write_table(&mut text, "slots", when, rows);
    let rows = REGISTRAR.iter().map(|row| (row.id, row.why, String::new()));
    let when = "What the coordinator's leader does about `pg_dist_node` after a beat; the first row \
                that matches decides.";
    write_table(&mut text, "registrar", when, rows);
    let rows = EVENTS.iter().map(|row| (row.id, row.why, String::new()));
    let when = "What a worker's leader tells the coordinator's leader (`POST /citus`).";
    write_table(&mut text, "events", when, rows);
    let rows = SLOT_DANGERS.iter().map(|row| (row.id, row.why, String::new()));
    let when = "Which slots a member's log warns of after a beat, each at most once a minute.";
    write_table(&mut text, "slot dangers", when, rows);
    text
}

fn write_table(
    text: &mut String,
    name: &str,
    when: &str,
    rows: impl Iterator<Item = (u16, &'static str, String)>,
) {
    let rows: Vec<_> = rows.collect();
    let waits = rows.iter().any(|(.., wait)| !wait.is_empty());
    let (head, line) = match waits {
        true => ("| id | sentence | waits for; otherwise |", "|---|---|---|"),
        false => ("| id | sentence |", "|---|---|"),
    };
    writeln!(text, "\n## {name}\n\n{when}\n\n{head}\n{line}").expect("a string");
    for (id, why, wait) in rows {
        let wait = if waits { format!(" {wait} |") } else { String::new() };
        writeln!(text, "| {id} | {} |{wait}", why.replace('|', "\\|")).expect("a string");
    }
}

/// What a row waits for, and what happens if that does not come.
fn wait_of(rests: Rests) -> String {
    match rests {
        Rests::Until(Wait { ends_with, otherwise }) => {
            format!("{ends_with}; otherwise: {otherwise}")
        }
        Rests::InOrder => "nothing is awaited".into(),
        Rests::Never => String::new(),
    }
}

/// Blocks of YAML in the README are parts of examples, which are read above.
#[test]
fn yaml_of_the_readme_comes_from_the_examples() {
    let examples: Vec<String> = EXAMPLES.map(|name| page(&format!("examples/{name}"))).into();
    let readme = page("README.md");
    let blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut count = 0;
    for block in blocks {
        count += 1;
        assert!(examples.iter().any(|example| example.contains(block)), "no example has:\n{block}");
    }
    assert!(count >= 3, "the tour shows a group, Citus and regions");
}

#[test]
fn links_between_pages_lead_somewhere() {
    for path in markdown() {
        let text = page(&path);
        let folder = root().join(&path).parent().expect("a folder").to_path_buf();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let inside = !file.is_empty() && !file.contains("://");
            assert!(!inside || folder.join(file).exists(), "{path}: {target} is not there");
        }
    }
}

/// A feature is partial or done only when a test says so, and that test exists.
#[test]
fn every_feature_that_counts_names_a_test() {
    let text = page("docs/features.md");
    let mut count = 0;
    for line in text.lines().filter(|line| line.starts_with("| ") && line.contains('-')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, _, status, proof] = cells[..] else { panic!("four cells: {line}") };
        if !id.chars().any(|c| c.is_ascii_digit()) {
            continue;
        }
        count += 1;
        assert!(["", "~", "x", "-"].contains(&status), "{id}: status `{status}`");
        assert_eq!(status.is_empty(), proof.is_empty(), "{id}: a status needs a test");
        for test in proof.split(", ").filter(|test| !test.is_empty()) {
            assert!(is_there(test.trim_matches('`')), "{id}: {test} is not there");
        }
    }
    assert!(count > 200, "only {count} features were read");
}

/// Says whether the file of `file::test` has a test of that name.
fn is_there(test: &str) -> bool {
    let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("no file::test: {test}"));
    page(file).contains(&format!("fn {name}("))
}

#[test]
fn every_test_that_the_page_on_reliability_names_is_there() {
    let text = page("docs/reliability.md");
    let quoted =
        text.lines().flat_map(|line| line.split('`').skip(1).step_by(2).map(move |t| (line, t)));
    for (line, test) in quoted.filter(|(_, quoted)| quoted.contains(".rs::")) {
        assert!(is_there(test), "{test} is not there:\n{line}");
    }
}
