//! The small sections: log, restapi, ctl, tags, watchdog, citus.

use super::document::Document;
use super::env::list;
use super::postgresql::{is_wildcard, unreachable_by_others};
use super::{Citus, Credentials, Ctl, Log, RestApi};
use crate::document::address;
use crate::document::findings::Findings;
use crate::document::kind::{parse_whole, scalar};
use crate::watchdog::{Driver, Mode, WatchdogSettings};
use serde_json::Value;
use std::collections::BTreeMap;
use topology::Tags;
use topology::member::join_host;
use topology::tags::parse_bool;

const PORT: u16 = 8008;
/// Of poolers, unless another one is named.
const POOLER_PORT: u16 = 6432;

pub(super) fn read_log(document: Document, findings: &mut Findings) -> Log {
    let level = match document.text_or_empty("log.level").to_uppercase().as_str() {
        "DEBUG" => "debug",
        "WARN" | "WARNING" => "warn",
        "ERROR" | "FATAL" | "CRITICAL" => "error",
        _ => "info",
    };
    let json = document.text_or_empty("log.type").eq_ignore_ascii_case("json");
    let mode = document.at("log.mode").and_then(parse_whole);
    let levels = document.section("log.loggers").into_iter().flatten();
    Log {
        level: level.to_string(),
        traceback_level: document.text_or_empty("log.traceback_level").to_uppercase(),
        loggers: levels.filter_map(|(name, level)| Some((name.clone(), scalar(level)?))).collect(),
        json,
        format: log_format(document, json, findings),
        dateformat: document.text("log.dateformat"),
        static_fields: document.section("log.static_fields").cloned().unwrap_or_default(),
        dir: document.path("log.dir"),
        mode: mode.and_then(|mode| u32::try_from(mode).ok()),
        file_size: document.count("log.file_size"),
        file_num: u32::try_from(document.count("log.file_num")).unwrap_or(u32::MAX),
        max_queue_size: usize::try_from(document.count("log.max_queue_size")).unwrap_or(usize::MAX),
        deduplicate_heartbeat_logs: document.flag("log.deduplicate_heartbeat_logs"),
    }
}

/// Fields that no record has are told; the line shows them as written.
fn log_format(document: Document, json: bool, findings: &mut Findings) -> Value {
    const PATH: &str = "log.format";
    let Some(format) = document.at(PATH) else { return Value::Null };
    // A variable can only hold a text.
    let as_list = format.as_str().filter(|text| json && !text.contains("%(")).and_then(list);
    let format = as_list.as_ref().unwrap_or(format);
    let is_list = format.as_array().is_some_and(|items| !items.is_empty());
    let is_good = format.is_string() || is_list && json;
    if !is_good {
        let remedy = "write one text; a list of fields is for `log.type: json`";
        findings.add(PATH, "is neither a text nor a list of fields", remedy);
        return Value::Null;
    }
    let names = match format.as_str() {
        Some(text) => super::log_format::Format::read(text).unknown(),
        None => {
            let named = super::log_format::json_fields(format).into_iter().map(|(name, _)| name);
            named.filter(|name| !super::log_format::is_field(name)).collect()
        }
    };
    if !names.is_empty() {
        findings.warn(format!("log.format names fields that no line has: {}", names.join(", ")));
    }
    format.clone()
}

pub(super) fn read_restapi(document: Document, findings: &mut Findings) -> RestApi {
    let listen = document.text("restapi.listen");
    let (listen_host, listen_port) = listen
        .and_then(|text| address::parse_bind(&text, PORT))
        .unwrap_or_else(|| (String::new(), PORT));
    let certfile = document.path("restapi.certfile");
    let mut http_extra_headers = headers(document, "restapi.http_extra_headers");
    if certfile.is_some() {
        http_extra_headers.extend(headers(document, "restapi.https_extra_headers"));
    }
    let verify_client = document.text_or_empty("restapi.verify_client").to_lowercase();
    if verify_client != "none" && document.at("restapi.cafile").is_none() {
        findings.warn("restapi.verify_client needs restapi.cafile: write the authorities' file");
    }
    RestApi {
        connect_address: connect_address(document, &listen_host, listen_port, findings),
        listen_host,
        listen_port,
        authentication: read_credentials(document, "restapi.authentication", findings),
        keyfile: document.path("restapi.keyfile").or_else(|| certfile.clone()),
        keyfile_password: document.secret("restapi.keyfile_password"),
        ciphers: document.text("restapi.ciphers"),
        certfile,
        cafile: document.path("restapi.cafile"),
        verify_client,
        allowlist: document.texts("restapi.allowlist"),
        allowlist_include_members: document.flag("restapi.allowlist_include_members"),
        http_extra_headers,
        request_queue_size: u32::try_from(document.count("restapi.request_queue_size"))
            .unwrap_or_default(),
        server_tokens: server_tokens(document, findings),
    }
}

fn connect_address(
    document: Document,
    listen_host: &str,
    listen_port: u16,
    findings: &mut Findings,
) -> String {
    const PATH: &str = "restapi.connect_address";
    let given = document.text(PATH).and_then(|text| address::parse_address(&text, listen_port));
    let (host, port) = given.unwrap_or_else(|| {
        if !is_wildcard(listen_host) {
            return (listen_host.to_string(), listen_port);
        }
        if document.at(PATH).is_none() {
            findings.warn(unreachable_by_others(PATH));
        }
        ("localhost".to_string(), listen_port)
    });
    join_host(&host, port)
}

fn headers(document: Document, path: &str) -> Vec<(String, String)> {
    let pairs = document.section(path).into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), scalar(value)?))).collect()
}

fn server_tokens(document: Document, findings: &mut Findings) -> String {
    const KNOWN: [&str; 3] = ["original", "productonly", "minimal"];
    let text = document.text_or_empty("restapi.server_tokens").to_lowercase();
    if KNOWN.contains(&text.as_str()) {
        return text;
    }
    let known = KNOWN.join(", ");
    findings.warn(format!("restapi.server_tokens is none of {known}; `original` is used"));
    KNOWN[0].to_string()
}

/// User and password only go together: half of them would protect nothing.
fn read_credentials(
    document: Document,
    path: &str,
    findings: &mut Findings,
) -> Option<Credentials> {
    let username = document.text(&format!("{path}.username"));
    let password = document.secret(&format!("{path}.password"));
    match (username, password) {
        (Some(username), Some(password)) => Some(Credentials { username, password }),
        (None, None) => None,
        (Some(_), None) => {
            findings.add(&format!("{path}.password"), "is missing", "write it beside username");
            None
        }
        (None, Some(_)) => {
            findings.add(&format!("{path}.username"), "is missing", "write it beside password");
            None
        }
    }
}

pub(super) fn read_ctl(document: Document, findings: &mut Findings) -> Ctl {
    let own = read_credentials(document, "ctl.authentication", findings);
    let of_restapi = read_credentials(document, "restapi.authentication", findings);
    let certfile = document.path("ctl.certfile");
    Ctl {
        authentication: own.or(of_restapi),
        insecure: document.flag("ctl.insecure"),
        cacert: document.path("ctl.cacert").or_else(|| document.path("restapi.cafile")),
        keyfile: document.path("ctl.keyfile").or_else(|| certfile.clone()),
        keyfile_password: document.secret("ctl.keyfile_password"),
        certfile,
    }
}

/// Kept as written: others read them by type and order.
pub(super) fn read_tags(document: Document, findings: &mut Findings) -> Tags {
    let tags = document.section("tags").cloned().unwrap_or_default();
    for (flag, number) in [("nofailover", "failover_priority"), ("nosync", "sync_priority")] {
        let set = tags.get(flag).and_then(parse_bool);
        let forbids = tags.get(number).and_then(parse_whole).map(|priority| priority <= 0);
        if let (Some(set), Some(forbids)) = (set, forbids)
            && set != forbids
        {
            findings.warn(format!("tags.{flag} and tags.{number} contradict; {flag} decides"));
        }
    }
    Tags(tags)
}

/// A word that is not known means off, as in Patroni.
pub(super) fn read_watchdog(document: Document, findings: &mut Findings) -> WatchdogSettings {
    let defaults = WatchdogSettings::default();
    let mode = document.at("watchdog.mode");
    let device = document.text_or_empty("watchdog.device");
    let driver = document.text_or_empty("watchdog.driver");
    let margin = document.at("watchdog.safety_margin").and_then(parse_whole);
    if !["", "default", "testing"].contains(&driver.as_str()) {
        findings.warn(format!("watchdog.driver `{driver}` is not known: the device is used"));
    }
    WatchdogSettings {
        mode: mode.map_or(defaults.mode, watchdog_mode),
        device: if device.is_empty() { defaults.device } else { device.into() },
        driver: if driver == "testing" { Driver::Testing } else { Driver::Linux },
        safety_margin: margin.unwrap_or(defaults.safety_margin),
    }
}

fn watchdog_mode(value: &Value) -> Mode {
    let word = value.as_str().unwrap_or_default().to_lowercase();
    match word.as_str() {
        "automatic" | "auto" => Mode::Automatic,
        "required" | "require" => Mode::Required,
        _ => Mode::Off,
    }
}

/// Both the group and the database, or no Citus at all.
/// `citus.poolers`: an address for each number of a group.
fn poolers(document: Document, findings: &mut Findings) -> BTreeMap<u32, (String, u16)> {
    let mut poolers = BTreeMap::new();
    let Some(given) = document.at("citus.poolers").and_then(Value::as_object) else {
        return poolers;
    };
    for (group, text) in given {
        let at = text.as_str().and_then(|text| address::parse_address(text, POOLER_PORT));
        match (group.parse(), at) {
            (Ok(group), Some(at)) => drop(poolers.insert(group, at)),
            _ => findings.warn(format!("citus.poolers.{group}: HOST:PORT of a group's pooler")),
        }
    }
    poolers
}

/// `citus.databases`: a list of names, with or without `citus.database`.
fn more_databases(document: Document, first: &str, findings: &mut Findings) -> Vec<String> {
    let mut others: Vec<String> = Vec::new();
    let Some(given) = document.at("citus.databases") else { return others };
    let given = given.as_array().cloned().unwrap_or_else(|| vec![given.clone()]);
    for name in given {
        match name.as_str() {
            Some(name) if name.is_empty() || name == first => {}
            Some(name) if others.iter().any(|other| other == name) => {}
            Some(name) => others.push(name.to_string()),
            None => findings.warn("citus.databases: only names are read".to_string()),
        }
    }
    others
}

pub(super) fn read_citus(document: Document, findings: &mut Findings) -> Option<Citus> {
    document.at("citus")?;
    let group = document.at("citus.group").and_then(parse_whole);
    let group = group.and_then(|number| u32::try_from(number).ok());
    let database = document.at("citus.database").and_then(Value::as_str).map(str::to_string);
    match (group, database) {
        (Some(group), Some(database)) => {
            let others = more_databases(document, &database, findings);
            let poolers = poolers(document, findings);
            let stand_in = document.flag("citus.stand_in");
            Some(Citus { database, others, poolers, group, stand_in })
        }
        _ => {
            let wanted = "a whole `group` from 0 and a text `database`";
            findings.warn(format!("citus is ignored: it needs {wanted}"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::whole_of;
    use super::*;
    use serde_json::json;

    fn with<T>(raw: Value, read: impl Fn(Document, &mut Findings) -> T) -> (T, Findings) {
        let mut findings = Findings::default();
        let value = read(whole_of(&raw), &mut findings);
        (value, findings)
    }

    #[test]
    fn a_formation_has_one_database_or_several() {
        let read = |raw: Value| with(raw, read_citus).0.map(|citus| citus.others);
        let one = json!({"citus": {"group": 0, "database": "a"}});
        assert_eq!(read(one), Some(vec![]));
        let at = json!({"citus": {"group": 0, "database": "a",
            "poolers": {"1": "b1:6433", "x": "b3:1"}}});
        let (citus, findings) = with(at, read_citus);
        let poolers = citus.expect("a section").poolers;
        assert_eq!(poolers, BTreeMap::from([(1, ("b1".to_string(), 6433))]));
        assert!(findings.warnings()[0].starts_with("citus.poolers.x: "));
        let three =
            json!({"citus": {"group": 0, "database": "a", "databases": ["b", "a", "c", 7]}});
        assert_eq!(read(three), Some(vec!["b".to_string(), "c".to_string()]));
    }

    #[test]
    fn levels_of_python_become_ours() {
        for (theirs, ours) in [("WARNING", "warn"), ("critical", "error"), ("DEBUG", "debug")] {
            assert_eq!(with(json!({"log": {"level": theirs}}), read_log).0.level, ours);
        }
        let (log, _) = with(json!({}), read_log);
        assert_eq!((log.level.as_str(), log.file_size, log.file_num), ("info", 25_000_000, 4));
        assert_eq!((log.max_queue_size, log.mode), (1_000, None));
        assert_eq!(log.traceback_level, "ERROR");
        let (log, _) = with(json!({"log": {"traceback_level": "debug"}}), read_log);
        assert_eq!(log.traceback_level, "DEBUG");
    }

    #[test]
    fn everything_about_the_log_is_read() {
        let (log, _) = with(json!({"log": {"type": "json", "format": "a, {b: c}"}}), read_log);
        assert_eq!(log.format, json!(["a", {"b": "c"}]));
        let (log, findings) = with(
            json!({"log": {"type": "json", "mode": "0640", "format": ["asctime", {"message": "m"}],
                "dateformat": "%H", "loggers": {"a.b": "DEBUG"}, "static_fields": {"app": 1},
                "deduplicate_heartbeat_logs": "on", "max_queue_size": "5"}}),
            read_log,
        );
        assert!(findings.is_empty() && findings.warnings().is_empty());
        assert_eq!((log.mode, log.json, log.max_queue_size), (Some(0o640), true, 5));
        assert!(log.deduplicate_heartbeat_logs && log.loggers["a.b"] == "DEBUG");
        assert_eq!(log.dateformat.as_deref(), Some("%H"));
    }

    #[test]
    fn a_format_that_makes_no_line_is_told() {
        let (_, findings) = with(json!({"log": {"format": "%(mesage)s"}}), read_log);
        assert!(findings.warnings()[0].ends_with("no line has: mesage"));
        for format in [json!(["message"]), json!({"a": "b"}), json!(5)] {
            let (_, findings) = with(json!({"log": {"format": format}}), read_log);
            assert!(findings.to_string().starts_with("log.format: is neither"), "{findings}");
        }
    }

    #[test]
    fn the_rest_api_has_defaults() {
        let (api, findings) = with(json!({"restapi": {"listen": "h"}}), read_restapi);
        assert!(findings.is_empty() && findings.warnings().is_empty());
        assert_eq!(api.api_url(), "http://h:8008/patroni");
        assert_eq!((api.verify_client.as_str(), api.server_tokens.as_str()), ("none", "original"));
    }

    #[test]
    fn a_certificate_brings_tls_and_its_headers() {
        let (api, _) = with(
            json!({"restapi": {"listen": "[::1]:1", "certfile": "c", "http_extra_headers": {"A": 1},
                "https_extra_headers": {"B": "2"}}}),
            read_restapi,
        );
        assert_eq!(api.api_url(), "https://[::1]:1/patroni");
        assert_eq!(api.keyfile, api.certfile);
        let wanted = [("A", "1"), ("B", "2")].map(|(a, b)| (a.to_string(), b.to_string()));
        assert_eq!(api.http_extra_headers, wanted);
    }

    #[test]
    fn ctl_falls_back_to_the_rest_api() {
        let login = json!({"username": "u", "password": "p"});
        let (ctl, _) =
            with(json!({"restapi": {"authentication": login, "cafile": "ca"}}), read_ctl);
        assert_eq!(ctl.authentication.unwrap().username, "u");
        assert_eq!(ctl.cacert.unwrap().to_str(), Some("ca"));
        let half = json!({"ctl": {"authentication": {"username": "u"}}});
        let (_, findings) = with(half, read_ctl);
        assert!(findings.to_string().starts_with("ctl.authentication.password: is missing"));
    }

    #[test]
    fn watchdogs_are_wanted_in_words_and_in_booleans() {
        let mode = |raw| with(json!({"watchdog": {"mode": raw}}), read_watchdog).0.mode;
        for (raw, wanted) in [
            (json!("Required"), Mode::Required),
            (json!("require"), Mode::Required),
            (json!("auto"), Mode::Automatic),
            (json!(false), Mode::Off),
            (json!("off"), Mode::Off),
            (json!("disabled"), Mode::Off),
        ] {
            assert_eq!(mode(raw.clone()), wanted, "{raw}");
        }
        let (read, _) = with(json!({}), read_watchdog);
        assert_eq!(read, WatchdogSettings::default());
        let raw = json!({"watchdog": {"safety_margin": "-1", "driver": "testing", "device": "d"}});
        let (read, _) = with(raw, read_watchdog);
        assert_eq!((read.safety_margin, read.driver), (-1, Driver::Testing));
        let (_, findings) = with(json!({"watchdog": {"driver": "cat"}}), read_watchdog);
        assert_eq!(findings.warnings().len(), 1);
    }

    #[test]
    fn contradicting_tags_warn() {
        let raw = json!({"tags": {"nofailover": "true", "failover_priority": "1"}});
        assert_eq!(with(raw, read_tags).1.warnings().len(), 1);
        let raw = json!({"tags": {"nosync": false, "sync_priority": 2}});
        assert!(with(raw, read_tags).1.warnings().is_empty());
    }

    #[test]
    fn half_a_citus_section_is_ignored_with_a_warning() {
        let (citus, _) = with(json!({"citus": {"group": "1", "database": "d"}}), read_citus);
        assert_eq!(citus.unwrap().group, 1);
        for raw in [json!({"group": -1, "database": "d"}), json!({"database": "d"}), json!([])] {
            let (citus, findings) = with(json!({"citus": raw}), read_citus);
            assert!(citus.is_none() && findings.is_empty() && findings.warnings().len() == 1);
        }
    }
}
