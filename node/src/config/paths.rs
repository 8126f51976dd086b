//! Paths of the configuration, made absolute when it is read.
//!
//! A relative path begins where the daemon runs, as in Patroni. PostgreSQL, its
//! programs and single-user runs work in other directories, so they get the whole
//! path. Where PostgreSQL itself gives a path another beginning, that stays so:
//! `custom_conf` begins where the configuration files are, values of `parameters`
//! at the data directory, and so does what `restore_command` and its like name.
//!
//! Absent on purpose: the operator's own commands, which run where the daemon does.

use super::document::whole_of;
use super::env::{self, Environment, WORKING_DIRECTORY};
use super::settings;
use crate::dcs::settings::SECTION;
use crate::document::findings::Findings;
use crate::document::kind::Kind;
use serde_json::Value;
use std::path::{Path, PathBuf};

const BIN_NAMES: &str = "postgresql.bin_name";

/// Rewrites every path of the document that is relative.
pub(super) fn make_absolute(raw: &mut Value, env: &Environment, findings: &mut Findings) {
    let base = env::given(env, WORKING_DIRECTORY).map(Path::new).filter(|base| base.is_absolute());
    let mut relative = |path: &str, text: &str| -> Option<String> {
        let Some(base) = base else {
            let what = format!("`{text}` is relative, and the working directory is not known");
            findings.add(path, what, "write a path from the root on");
            return None;
        };
        Some(joined(base, text))
    };
    for path in of_kind_path() {
        rewrite(raw, &path, &path, &mut relative);
    }
    // A program's other name may be a path; it is one of bin_dir, where that is given.
    if whole_of(raw).at("postgresql.bin_dir").is_none() {
        let programs = settings::all_paths().map(|(path, _)| path);
        for path in programs.filter(|path| path.starts_with(BIN_NAMES)) {
            let is_path = whole_of(raw).text(&path).is_some_and(|t| t.contains('/'));
            is_path.then(|| rewrite(raw, &path, &path, &mut relative));
        }
    }
    for (index, region) in regions(raw).iter_mut().enumerate() {
        for path in of_kind_path().filter(|path| path.starts_with(&format!("{SECTION}."))) {
            rewrite(region, &path, &format!("topology.regions[{index}].{path}"), &mut relative);
        }
    }
}

fn of_kind_path() -> impl Iterator<Item = String> {
    settings::all_paths().filter(|(_, row)| row.kind == Kind::Path).map(|(path, _)| path)
}

fn regions(raw: &mut Value) -> &mut [Value] {
    let regions = raw.pointer_mut("/topology/regions").and_then(Value::as_array_mut);
    regions.map(Vec::as_mut_slice).unwrap_or_default()
}

fn rewrite(
    document: &mut Value,
    path: &str,
    place: &str,
    relative: &mut impl FnMut(&str, &str) -> Option<String>,
) {
    let pointer = format!("/{}", path.replace('.', "/"));
    let Some(Value::String(text)) = document.pointer_mut(&pointer) else {
        return;
    };
    if text.is_empty() || text.starts_with('/') || is_no_file(path, text) {
        return;
    }
    if let Some(absolute) = relative(place, text) {
        *text = absolute;
    }
}

/// What libpq takes for something else than a file: the system's authorities, and
/// a key that lies in a device.
fn is_no_file(path: &str, text: &str) -> bool {
    let is = |key: &str| path.ends_with(key) && path.starts_with("postgresql.authentication.");
    is(".sslrootcert") && text == "system" || is(".sslkey") && text.contains(':')
}

/// Without `.` in it; `..` stays, for links may lie on the way.
fn joined(base: &Path, text: &str) -> String {
    base.join(text).components().collect::<PathBuf>().display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn absolute(mut raw: Value, base: &str) -> (Value, String) {
        let env = [(WORKING_DIRECTORY.to_string(), base.to_string())].into();
        let mut findings = Findings::default();
        make_absolute(&mut raw, &env, &mut findings);
        (raw, findings.to_string())
    }

    #[test]
    fn p2_every_path_begins_where_the_daemon_runs() {
        for path in of_kind_path() {
            let pointer = format!("/{}", path.replace('.', "/"));
            let nested = path.rsplit('.').fold(json!("./a/b"), |inner, key| json!({key: inner}));
            let (raw, findings) = absolute(nested, "/run/here");
            assert_eq!(raw.pointer(&pointer), Some(&json!("/run/here/a/b")), "{path}");
            assert_eq!(findings, "");
        }
    }

    #[test]
    fn p2_what_is_absolute_or_no_path_stays() {
        let raw = json!({"postgresql": {"data_dir": "/a/./b/", "bin_dir": "bin",
            "bin_name": {"postgres": "x/pg"}, "pgpass": "", "custom_conf": "mine.conf",
            "authentication": {"rewind": {"sslrootcert": "system", "sslkey": "pkcs11:id"}}}});
        let (found, _) = absolute(raw.clone(), "/h");
        assert_eq!(found["postgresql"]["bin_dir"], "/h/bin");
        let mut wanted = raw;
        wanted["postgresql"]["bin_dir"] = json!("/h/bin");
        assert_eq!(found, wanted);
        let named = json!({"postgresql": {"bin_name": {"postgres": "x/pg", "initdb": "i"}}});
        let (found, _) = absolute(named, "/h");
        assert_eq!(found["postgresql"]["bin_name"], json!({"postgres": "/h/x/pg", "initdb": "i"}));
    }

    #[test]
    fn p2_stores_of_other_regions_count_too() {
        let raw = json!({"topology": {"regions": [{"name": "a"}, {"etcd3": {"cert": "c.pem"}}]}});
        let (found, _) = absolute(raw.clone(), "/h");
        assert_eq!(found["topology"]["regions"][1]["etcd3"]["cert"], "/h/c.pem");
        let (_, findings) = absolute(raw, "");
        assert!(findings.starts_with("topology.regions[1].etcd3.cert: `c.pem` is relative"));
    }

    /// A setting that names a file is of the kind that is made absolute.
    #[test]
    fn p2_no_path_of_the_table_is_forgotten() {
        let words = ["dir", "file", "cert", "cacert", "key", "sslcrl", "device", "pgpass"];
        let elsewhere = ["raft", "consul", "zookeeper", "kubernetes", "postgresql.custom_conf"];
        for (path, row) in settings::all_paths() {
            let last = path.rsplit('.').next().unwrap_or(&path);
            let names_a_file = words.iter().any(|word| last.ends_with(word));
            let counts = names_a_file && !elsewhere.iter().any(|section| path.starts_with(section));
            assert!(!counts || row.kind == Kind::Path, "{path}");
        }
    }
}
