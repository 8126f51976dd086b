//! Long options of PostgreSQL's programs.
//!
//! A list of texts and one-pair maps, or one map. `true` stands for the bare
//! option, `false` and nothing for leaving it out.

use super::ToolOption;
use crate::document::findings::Findings;
use crate::document::kind::{scalar, shown};
use serde_json::Value;

/// Options that initdb must not get. With one of them a bootstrap fails; a
/// member of a cluster that exists never runs initdb and is not kept from
/// starting.
pub const INITDB_FORBIDDEN: [&str; 5] = ["pgdata", "nosync", "pwfile", "sync-only", "version"];
/// Options of pg_basebackup that the daemon chooses itself.
pub const BASEBACKUP_FORBIDDEN: [&str; 11] = [
    "pgdata",
    "format",
    "wal-method",
    "xlog-method",
    "gzip",
    "version",
    "dbname",
    "host",
    "port",
    "username",
    "password",
];

/// Options of pg_rewind that the daemon chooses itself.
const REWIND_FORBIDDEN: [&str; 10] = [
    "target-pgdata",
    "source-pgdata",
    "source-server",
    "write-recovery-conf",
    "dry-run",
    "restore-target-wal",
    "config-file",
    "no-ensure-shutdown",
    "version",
    "help",
];

pub(super) fn read_rewind(
    value: Option<&Value>,
    path: &str,
    findings: &mut Findings,
) -> Vec<ToolOption> {
    let (allowed, dropped): (Vec<_>, Vec<_>) = read(value, path, findings)
        .into_iter()
        .partition(|option| !REWIND_FORBIDDEN.contains(&option.name.as_str()));
    for option in dropped {
        findings.warn(format!("{path}: `{}` is left out: it may not be given", option.name));
    }
    allowed
}

/// Those of the cluster's settings, for members that give none themselves.
pub fn rewind_options_of(dynamic: &Value) -> (Vec<ToolOption>, Findings) {
    let mut findings = Findings::default();
    let given = dynamic.get("postgresql").and_then(|section| section.get("rewind"));
    let options = read_rewind(given, "postgresql.rewind", &mut findings);
    (options, findings)
}

pub(super) fn read_initdb(
    value: Option<&Value>,
    path: &str,
    findings: &mut Findings,
) -> Vec<ToolOption> {
    let options = read(value, path, findings);
    for option in options.iter().filter(|o| INITDB_FORBIDDEN.contains(&o.name.as_str())) {
        let what = format!("`{}` may not be given to initdb", option.name);
        findings.warn(format!("{path}: {what}: no new cluster can be made before it is removed"));
    }
    options
}

pub(super) fn read_basebackup(
    value: Option<&Value>,
    path: &str,
    findings: &mut Findings,
) -> Vec<ToolOption> {
    let (allowed, dropped): (Vec<_>, Vec<_>) =
        read(value, path, findings).into_iter().partition(may_be_given_to_basebackup);
    for option in dropped {
        findings.warn(format!("{path}: `{}` is left out: it may not be given", option.name));
    }
    allowed
}

/// Compression on the client would give archives, not a data directory.
fn may_be_given_to_basebackup(option: &ToolOption) -> bool {
    let on_server = |value: &String| value.starts_with("server-");
    let compresses_here =
        option.name == "compress" && !option.value.as_ref().is_some_and(on_server);
    !compresses_here && !BASEBACKUP_FORBIDDEN.contains(&option.name.as_str())
}

/// Finds what is no option, of any program.
pub(super) fn check(value: &Value, path: &str, findings: &mut Findings) {
    read(Some(value), path, findings);
}

fn read(value: Option<&Value>, path: &str, findings: &mut Findings) -> Vec<ToolOption> {
    match value {
        Some(Value::Array(items)) => {
            let items = items.iter().filter(|item| !item.is_null());
            items.flat_map(|item| read_item(item, path, findings)).collect()
        }
        Some(Value::Object(map)) => {
            map.iter().filter_map(|(key, value)| pair(key, value, path, findings)).collect()
        }
        _ => Vec::new(),
    }
}

fn read_item(item: &Value, path: &str, findings: &mut Findings) -> Vec<ToolOption> {
    if let Some(text) = scalar(item).filter(|text| !text.trim().is_empty()) {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(unquoted(value))),
            None => (text.as_str(), None),
        };
        return vec![ToolOption { name: bare(name), value }];
    }
    const REMEDY: &str = "write one `- option` or `- option: value` a line";
    let Some(map) = item.as_object().filter(|map| !map.is_empty()) else {
        findings.add(path, format!("{} is no option", shown(item)), REMEDY);
        return Vec::new();
    };
    if map.len() > 1 {
        let names: Vec<&str> = map.keys().map(String::as_str).collect();
        findings.warn(format!("{path}: {} stand in one item; {REMEDY}", names.join(" and ")));
    }
    map.iter().filter_map(|(key, value)| pair(key, value, path, findings)).collect()
}

fn pair(key: &str, value: &Value, path: &str, findings: &mut Findings) -> Option<ToolOption> {
    let name = bare(key);
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(ToolOption { name, value: None }),
        Value::String(text) if text.is_empty() => None,
        Value::Array(_) | Value::Object(_) => {
            let what = format!("{} is no value of `{name}`", shown(value));
            findings.add(path, what, "write one text");
            None
        }
        plain => Some(ToolOption { name, value: scalar(plain).map(|text| unquoted(&text)) }),
    }
}

fn bare(name: &str) -> String {
    name.trim().trim_start_matches('-').to_string()
}

/// Without one pair of outer quotes.
fn unquoted(text: &str) -> String {
    let stripped = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    stripped('"').or_else(|| stripped('\'')).unwrap_or(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(options: &[ToolOption]) -> Vec<String> {
        let one = |o: &ToolOption| match &o.value {
            Some(value) => format!("{}={value}", o.name),
            None => o.name.clone(),
        };
        options.iter().map(one).collect()
    }

    #[test]
    fn lists_may_mix_texts_and_maps() {
        let mut findings = Findings::default();
        let value = json!([{"encoding": "UTF8"}, "data-checksums", {"locale": "'C'"}, "--a=b",
            {"wal-segsize": 64}]);
        let options = read_initdb(Some(&value), "bootstrap.initdb", &mut findings);
        let wanted = ["encoding=UTF8", "data-checksums", "locale=C", "a=b", "wal-segsize=64"];
        assert_eq!(text(&options), wanted);
        assert!(findings.is_empty());
    }

    #[test]
    fn a_map_gives_options_that_are_true() {
        let mut findings = Findings::default();
        let value = json!({"max-rate": "100M", "verbose": true, "no-sync": false, "x": ""});
        let options = read_basebackup(Some(&value), "p", &mut findings);
        assert_eq!(text(&options), ["max-rate=100M", "verbose"]);
    }

    #[test]
    fn forbidden_options_stop_initdb_and_are_left_out_of_a_backup() {
        let mut findings = Findings::default();
        read_initdb(Some(&json!(["pwfile=x"])), "bootstrap.initdb", &mut findings);
        assert!(findings.is_empty());
        assert!(findings.warnings()[0].contains("`pwfile` may not be given"));
        let mut findings = Findings::default();
        let value = json!([{"format": "t"}, {"compress": "9"}, {"checkpoint": "fast"}]);
        let options = read_basebackup(Some(&value), "p", &mut findings);
        assert_eq!(text(&options), ["checkpoint=fast"]);
        assert_eq!(findings.warnings().len(), 2);
        let value = json!([{"compress": "server-lz4"}]);
        assert_eq!(read_basebackup(Some(&value), "p", &mut findings).len(), 1);
    }

    #[test]
    fn what_decides_over_the_rewind_is_left_out_of_it() {
        let mut findings = Findings::default();
        let value = json!(["debug", {"source-server": "x"}, "dry-run", {"sync-method": "syncfs"}]);
        let options = read_rewind(Some(&value), "postgresql.rewind", &mut findings);
        assert_eq!(text(&options), ["debug", "sync-method=syncfs"]);
        assert_eq!(findings.warnings().len(), 2);
    }

    #[test]
    fn p3_an_item_with_two_pairs_is_two_options_and_an_empty_one_is_none() {
        let mut findings = Findings::default();
        let value = json!([{"encoding": "UTF8", "locale": "C"}, null, "data-checksums"]);
        let options = read_initdb(Some(&value), "bootstrap.initdb", &mut findings);
        assert_eq!(text(&options), ["encoding=UTF8", "locale=C", "data-checksums"]);
        assert!(findings.is_empty(), "{findings}");
        assert!(findings.warnings()[0].contains("encoding and locale stand in one item"));
    }

    #[test]
    fn what_is_no_option_is_found() {
        let mut findings = Findings::default();
        read_initdb(Some(&json!([{"c": []}, {}, [1]])), "p", &mut findings);
        assert_eq!(findings.iter().count(), 3, "{findings}");
    }
}
