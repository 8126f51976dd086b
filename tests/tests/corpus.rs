//! Configurations as people have them: files in the style of container images,
//! roles, vendors' pages and years ago are read, and what is told about each is
//! written down.
//!
//! A file that runs elsewhere must start here, unless it asks for something that
//! there is not; a warning names what was passed over. The files in `tests/corpus`
//! are made up after such styles. `UPDATE_PAGES=1 cargo test -p tests --test corpus`
//! writes `tests/corpus/told.txt` anew; look at the difference.

use node::config::{Environment, Loaded, load};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Those that cannot start: they want another store, or are no configuration yet.
const REFUSED: [&str; 4] =
    ["kubernetes-image.yml", "not-filled-in.yml", "two-documents.yml", "vault.yml"];
/// Words that stand for secrets in the files.
const SECRETS: [&str; 8] = [
    "password:",
    "-password",
    "-pass",
    "qwerty",
    "ANSIBLE_VAULT",
    "zalando",
    "#secret",
    "patroni_s",
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(corpus()).expect("the corpus").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".yml")).collect();
    names.sort();
    names
}

fn read(name: &str) -> Result<Loaded, Vec<String>> {
    let env: Environment = [("HOME", "/home/postgres"), ("PWD", "/run/daemon")]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .into();
    let path = corpus().join(name);
    let shown = path.display().to_string();
    load(Some(&path), &env).map_err(|findings| {
        findings.to_string().replace(&shown, name).lines().map(str::to_string).collect()
    })
}

/// Everything that is told about every file.
fn told() -> String {
    let mut text = String::new();
    for name in names() {
        let (what, lines) = match read(&name) {
            Ok(loaded) => ("starts", loaded.warnings),
            Err(findings) => ("is refused", findings),
        };
        writeln!(text, "{name} {what}").expect("a text");
        for line in lines {
            writeln!(text, "  {line}").expect("a text");
        }
    }
    text
}

#[test]
fn p3_files_that_run_elsewhere_start_and_say_what_was_passed_over() {
    let path = corpus().join("told.txt");
    let found = told();
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, &found).expect("the corpus can be written");
    }
    let wanted = std::fs::read_to_string(&path).expect("what was told");
    assert_eq!(found, wanted, "UPDATE_PAGES=1 cargo test -p tests --test corpus writes it anew");
    assert!(names().len() > 10, "the corpus is looked for in the wrong place");
    for name in names() {
        let is_refused = read(&name).is_err();
        assert_eq!(is_refused, REFUSED.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn p5_nothing_that_is_told_repeats_a_secret() {
    for line in told().lines() {
        let secret = SECRETS.iter().find(|word| line.contains(**word));
        assert!(secret.is_none(), "{line}");
    }
}

#[test]
fn p2_a_trial_runs_where_the_daemon_does() {
    let Loaded { settings, .. } = read("local-trial.yml").expect("it starts");
    let postgresql = settings.postgresql;
    assert_eq!(postgresql.data_dir, Path::new("/run/daemon/data/postgresql0"));
    assert_eq!(postgresql.config_dir, postgresql.data_dir);
    assert_eq!(postgresql.pgpass, Path::new("/run/daemon/tmp/pgpass0"));
    assert_eq!(postgresql.replication.extra["sslrootcert"], "/run/daemon/certs/ca.pem");
}

#[test]
fn p3_what_was_meant_is_what_is_read() {
    let Loaded { settings, .. } = read("role-with-comments.yml").expect("it starts");
    let bootstrap = settings.bootstrap.expect("it may initialise");
    let options: Vec<&str> = bootstrap.initdb.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(options, ["encoding", "locale", "data-checksums"]);
    assert_eq!((bootstrap.pg_hba.len(), settings.postgresql.pg_hba.map(|l| l.len())), (2, Some(2)));
    let Loaded { settings, .. } = read("container-image.yml").expect("it starts");
    assert_eq!((settings.restapi.listen_host.as_str(), settings.restapi.listen_port), ("*", 8008));
    let Loaded { settings, .. } = read("tls-everywhere.yml").expect("it starts");
    let command = settings.bootstrap.and_then(|b| b.post_bootstrap).expect("a command");
    assert_eq!(command, "/usr/local/bin/after-bootstrap --message 'made by hand'");
    let Loaded { settings, .. } = read("backup-tool.yml").expect("it starts");
    let methods = node::config::ReplicaMethods::read(&settings.raw, &serde_json::Value::Null);
    let names: Vec<&str> = methods.methods.iter().map(|method| method.name()).collect();
    assert_eq!(names, ["pgbackrest", "basebackup"]);
}
