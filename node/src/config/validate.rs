//! Checks that the table of settings can make by itself: kinds, what is
//! required, and unknown keys.
//!
//! Impossible values are findings. Unknown keys only warn, with the nearest
//! known key: other programs may keep their own keys in the same file.
//!
//! Absent on purpose: rules between settings (each section's reader has its
//! own), and where a key belongs that stands in the wrong section
//! (`misplaced.rs`).

use super::document::whole_of;
use super::known_keys::{children, nearest};
use super::misplaced;
use super::settings::{self, Effect, Setting};
use crate::document::findings::Findings;
use crate::document::kind::{Kind, empty_items};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Sections whose keys a user may invent.
const OPEN: [&str; 3] = ["", "tags", "bootstrap.dcs"];
/// Sections whose unknown maps are methods that a user named.
const WITH_METHODS: [&str; 2] = ["bootstrap", "postgresql"];
/// Checks every row whose path `wanted` accepts.
pub(super) fn check(raw: &Value, wanted: impl Fn(&str) -> bool, findings: &mut Findings) {
    check_sections(raw, &wanted, findings);
    for (path, setting) in settings::all_paths().filter(|(path, _)| wanted(path)) {
        if let Some(value) = whole_of(raw).at(&path) {
            check_value(&path, setting, value, findings);
        }
    }
}

/// The same for one section that stands at another place than in the table.
pub(super) fn check_section(section: &Value, prefix: &str, path: &str, findings: &mut Findings) {
    let Some(map) = section.as_object() else {
        let what = format!("{} is no map", kind_only(section));
        return findings.add(path, what, "write `key: value` lines");
    };
    for (key, value) in map {
        let known = format!("{prefix}.{key}");
        match settings::all_paths().find(|(path, _)| *path == known) {
            Some((_, row)) => check_value(&format!("{path}.{key}"), row, value, findings),
            None => warn_unknown(&format!("{path}.{key}"), key, &children(prefix), findings),
        }
    }
}

fn check_value(path: &str, setting: &Setting, value: &Value, findings: &mut Findings) {
    if matches!(setting.kind, Kind::Lines | Kind::Texts | Kind::Names | Kind::Options) {
        for number in empty_items(value) {
            findings.warn(format!("{path}: item {number} is empty and is passed over"));
        }
    }
    if let Some(wrong) = setting.kind.check(value) {
        if findings.are_strict() || !is_harmless(path, setting) {
            findings.add(path, wrong.what, wrong.remedy);
        } else {
            findings.warn(format!("{path}: {}, so its default is used", wrong.what));
        }
    } else if setting.effect == Effect::Gone && !value.is_null() {
        findings.warn(format!("{path} is no longer supported: {}", setting.help));
    }
}

/// May the daemon start although this value makes no sense? Files that were
/// accepted for years must go on working; what decides over access, addresses,
/// files, or who may write, stops it.
fn is_harmless(path: &str, setting: &Setting) -> bool {
    const TUNING: [&str; 2] = ["restapi.request_queue_size", "log.traceback_level"];
    const TIMES: [&str; 5] = ["ttl", "loop_wait", "retry_timeout", "pause", "standby_cluster"];
    let within = |section: &str| path.strip_prefix(section).and_then(|p| p.strip_prefix('.'));
    if within("topology").is_some() {
        return false;
    }
    if let Some(key) = within("bootstrap.dcs") {
        return !TIMES.contains(&key) && key != "postgresql";
    }
    let tuning = matches!(setting.kind, Kind::Switch | Kind::SwitchOr(_));
    tuning
        || TUNING.contains(&path)
        || setting.effect == Effect::Idle
        || setting.effect == Effect::Foreign
        || within("tags").is_some()
}

fn check_sections(raw: &Value, wanted: &impl Fn(&str) -> bool, findings: &mut Findings) {
    let document = whole_of(raw);
    let sections: BTreeSet<String> = settings::all_paths()
        .filter(|(path, _)| wanted(path))
        .flat_map(|(path, _)| parents(&path))
        .collect();
    for path in sections {
        if let Some(value) = document.at(&path).filter(|value| !value.is_object()) {
            let what = format!("{} is no map", kind_only(value));
            findings.add(&path, what, "write its settings as `key: value` lines");
        }
    }
}

/// A section may hold secrets even when it is misshapen: never its text.
fn kind_only(value: &Value) -> &'static str {
    if value.is_array() { "a list" } else { "a text" }
}

fn parents(path: &str) -> Vec<String> {
    path.match_indices('.').map(|(end, _)| path[..end].to_string()).collect()
}

/// Finds required settings that are not given.
pub(super) fn require(raw: &Value, findings: &mut Findings) {
    let document = whole_of(raw);
    for (path, setting) in settings::all_paths().filter(|(_, setting)| setting.required) {
        let misshapen =
            |section: &String| document.at(section).is_some_and(|value| !value.is_object());
        if document.at(&path).is_none() && !parents(&path).iter().any(misshapen) {
            findings.add(&path, "is missing", remedy_of_missing(&path, setting));
        }
    }
}

fn remedy_of_missing(path: &str, setting: &Setting) -> String {
    let name = settings::variable(path);
    match setting.kind {
        Kind::Address(port) | Kind::Bind(port) | Kind::Listen(port) => {
            format!("write e.g. 127.0.0.1:{port} or set {name}")
        }
        _ => format!("write it or set {name}"),
    }
}

/// Warns of keys that no row knows, in the sections that rows know.
pub(super) fn warn_of_unknown_keys(raw: &Value, findings: &mut Findings) {
    if let Some(map) = raw.as_object() {
        walk(map, "", findings);
    }
}

fn walk(map: &Map<String, Value>, section: &str, findings: &mut Findings) {
    let known = children(section);
    for (key, value) in map {
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        if known.contains(key) {
            let below = value.as_object().filter(|_| !children(&path).is_empty());
            below.into_iter().for_each(|below| walk(below, &path, findings));
        } else if section == "bootstrap.dcs" && misplaced::remedy(section, key).is_some() {
            // Told where the whole of it is checked (`of_all_members.rs`).
        } else if let Some(remedy) = misplaced::remedy(section, key) {
            findings.warn(format!("{path} has no effect here; {remedy}"));
        } else if nearest(key, &known).is_some() || !may_be_invented(section, value) {
            warn_unknown(&path, key, &known, findings);
        }
    }
}

fn may_be_invented(section: &str, value: &Value) -> bool {
    OPEN.contains(&section) || (WITH_METHODS.contains(&section) && value.is_object())
}

fn warn_unknown(path: &str, key: &str, known: &BTreeSet<String>, findings: &mut Findings) {
    findings.warn(match nearest(key, known) {
        Some(near) => format!("{path} is not known; did you mean `{near}`?"),
        None => format!("{path} is not known and has no effect"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn warnings(raw: Value) -> Vec<String> {
        let mut findings = Findings::default();
        warn_of_unknown_keys(&raw, &mut findings);
        findings.warnings().to_vec()
    }

    #[test]
    fn misspelt_keys_warn_with_the_nearest_known_one() {
        let raw = json!({"restapi": {"lisen": 1}, "postgresq": {}, "x-mine": {"a": 1}, "ttl": 30});
        assert_eq!(
            warnings(raw),
            [
                "restapi.lisen is not known; did you mean `listen`?",
                "postgresq is not known; did you mean `postgresql`?",
                "ttl has no effect here; write it below bootstrap.dcs, or use edit-config",
            ]
        );
    }

    #[test]
    fn what_a_user_may_invent_does_not_warn() {
        let raw = json!({"tags": {"datacenter": "a"}, "postgresql": {"parameters": {"lc": 1},
            "wal_e": {"command": "x"}}, "bootstrap": {"dcs": {"mine": 1}}, "consul": {}});
        assert!(warnings(raw).is_empty());
        assert_eq!(
            warnings(json!({"log": {"zzzz": 1}})),
            ["log.zzzz is not known and has no effect"]
        );
    }

    #[test]
    fn what_tunes_and_makes_no_sense_has_its_default() {
        let raw = json!({"restapi": {"request_queue_size": 5000, "server_tokens": "none"},
            "log": {"traceback_level": "TRACE"}, "bootstrap": {"users": {"me": {}}}});
        let mut findings = Findings::default();
        check(&raw, |_| true, &mut findings);
        assert!(findings.is_empty(), "{findings}");
        let told = findings.warnings().join("\n");
        for part in [
            "restapi.request_queue_size: `5000`",
            "log.traceback_level: `TRACE`",
            "bootstrap.users is no longer supported: Users are not made",
        ] {
            assert!(told.contains(part), "{told}");
        }
        let mut strict = Findings::strict();
        check(&raw, |_| true, &mut strict);
        assert_eq!(strict.iter().count(), 2, "{strict}");
    }

    #[test]
    fn a_misshapen_section_is_one_finding() {
        let raw = json!({"scope": "a", "name": "b", "restapi": {"listen": "a:1"},
            "postgresql": "secret"});
        let mut findings = Findings::default();
        check(&raw, |_| true, &mut findings);
        require(&raw, &mut findings);
        let text = "postgresql: a text is no map; write its settings as `key: value` lines";
        assert_eq!(findings.to_string(), text);
    }
}
