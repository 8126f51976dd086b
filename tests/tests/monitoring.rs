//! Alert rules and dashboard speak of metrics that the daemon serves, and of pages that exist.
//!
//! A rule on a metric that is not there never fires, and looks the same as a rule with nothing
//! to tell. The names that the daemon serves are read from its source. `promtool` (Debian package
//! prometheus) checks the rules and runs their tests; the table of docs/monitoring.md is made of
//! them: `UPDATE_PAGES=1 cargo test -p tests --test monitoring` writes it anew.

use serde_json::Value as Json;
use serde_yaml::Value as Yaml;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const ALERTS: &str = "monitoring/alerts.yml";
const TESTS: &str = "monitoring/alerts_test.yml";
const DASHBOARD: &str = "monitoring/dashboard.json";
const PAGE: &str = "docs/monitoring.md";

/// Words of PromQL that have a `_` in them, as have all names of metrics. Labels have none.
const PROMQL: [&str; 10] = [
    "clamp_max",
    "clamp_min",
    "count_values",
    "group_left",
    "group_right",
    "last_over_time",
    "label_values",
    "max_over_time",
    "min_over_time",
    "__rate_interval",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf()
}

fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn yaml(path: &str) -> Yaml {
    serde_yaml::from_str(&page(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

struct Alert {
    name: String,
    expr: String,
    after: String,
    severity: String,
    notes: Yaml,
}

impl Alert {
    fn note(&self, key: &str) -> &str {
        let note = self.notes.get(key).and_then(Yaml::as_str);
        note.unwrap_or_else(|| panic!("{}: no annotation `{key}`", self.name))
    }
}

fn alerts() -> Vec<Alert> {
    let file = yaml(ALERTS);
    let groups = file["groups"].as_sequence().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_sequence().expect("rules"));
    let word = |rule: &Yaml, key: &str| rule.get(key).and_then(Yaml::as_str).map(str::to_string);
    let alerts = rules.map(|rule| Alert {
        name: word(rule, "alert").expect("every rule is an alert"),
        expr: word(rule, "expr").expect("an expression"),
        after: word(rule, "for").unwrap_or_else(|| "at once".to_string()),
        severity: word(&rule["labels"], "severity").expect("a severity"),
        notes: rule["annotations"].clone(),
    });
    alerts.collect()
}

/// Every `expr` of a panel and `query` of a variable, at any depth.
fn expressions(value: &Json, found: &mut Vec<String>) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                match value {
                    Json::String(text) if key == "expr" => found.push(text.clone()),
                    other => expressions(other, found),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

fn dashboard() -> (Json, Vec<String>) {
    let dashboard: Json = serde_json::from_str(&page(DASHBOARD)).expect("JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    (dashboard, found)
}

/// Words of an expression that can only be names of metrics, or of PromQL.
fn names(expr: &str) -> impl Iterator<Item = &str> {
    let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.contains('_') && !PROMQL.contains(word))
}

/// The names in the rows of the daemon's metrics.
fn served() -> BTreeSet<String> {
    let source = page("node/src/api/metrics.rs");
    let is_name = |text: &&str| {
        ["patroni_", "matriarch_"].iter().any(|prefix| text.starts_with(prefix))
            && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let served: BTreeSet<_> = source.split('"').filter(is_name).map(str::to_string).collect();
    assert!(served.len() > 30, "the metrics are looked for in the wrong place: {served:?}");
    served
}

fn promtool(args: &[&str]) {
    let run = Command::new("promtool").args(args).current_dir(root()).output();
    let run = run.expect("promtool runs; Debian has it in the package prometheus");
    let text = [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(run.status.success(), "promtool {args:?}:\n{}", text.concat());
}

#[test]
fn alerts_and_dashboard_name_only_metrics_that_the_daemon_serves() {
    let served = served();
    let (dashboard, panels) = dashboard();
    assert!(panels.len() > 10, "the dashboard has panels");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let variables = variables.iter().filter_map(|variable| variable["definition"].as_str());
    let exprs = alerts().into_iter().map(|alert| alert.expr).chain(panels);
    for expr in exprs.chain(variables.map(str::to_string)) {
        for name in names(&expr) {
            assert!(served.contains(name), "the daemon does not serve {name}: {expr}");
        }
    }
}

/// The documentation of our own metrics is complete, so that rules can be written from it.
#[test]
fn the_rest_page_has_every_metric_of_our_own() {
    let text = page("docs/rest.md");
    for name in served().iter().filter(|name| name.starts_with("matriarch_")) {
        let quoted = ['`', '{'].map(|end| text.contains(&format!("`{name}{end}")));
        assert!(quoted.contains(&true), "docs/rest.md lacks {name}");
    }
}

#[test]
fn promtool_accepts_the_rules_and_runs_their_tests() {
    promtool(&["check", "rules", ALERTS]);
    promtool(&["test", "rules", TESTS]);
}

#[test]
fn promtool_reads_every_expression_of_the_dashboard() {
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, expr) in dashboard().1.into_iter().enumerate() {
        let expr = expr.replace("$__rate_interval", "5m").replace("$scope", "shop");
        let expr = Json::String(expr);
        writeln!(rules, "  - record: panel:{number}\n    expr: {expr}").expect("a string");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("dashboard.yml");
    std::fs::write(&path, rules).expect("a file");
    promtool(&["check", "rules", path.to_str().expect("UTF-8")]);
}

/// The test that is called as the alert looks at least once when the alert fires, and at least
/// once when it does not. Whether that is so, promtool says.
#[test]
fn each_alert_is_tested_to_fire_and_to_stay_quiet() {
    let file = yaml(TESTS);
    let tests = file["tests"].as_sequence().expect("tests");
    for alert in alerts() {
        let name = &alert.name;
        let test = tests.iter().find(|test| test["name"].as_str() == Some(name));
        let test = test.unwrap_or_else(|| panic!("{TESTS} has no test of {name}"));
        let looks = test["promql_expr_test"].as_sequence().expect("looks");
        let fires = looks.iter().map(|look| {
            assert!(look["expr"].as_str().is_some_and(|expr| expr.contains("ALERTS")), "{name}");
            let samples = look["exp_samples"].as_sequence().expect("samples");
            let label = format!("alertname=\"{name}\"");
            samples.iter().any(|one| one["labels"].as_str().is_some_and(|l| l.contains(&label)))
        });
        let fires: BTreeSet<bool> = fires.collect();
        assert_eq!(fires.len(), 2, "{name} fires once and stays quiet once");
    }
}

#[test]
fn each_alert_says_what_to_do_and_where_to_read_more() {
    for alert in alerts() {
        let (name, action) = (&alert.name, alert.note("action"));
        assert!(alert.note("summary").ends_with('.') && action.len() > 40, "{name}");
        // The table shows both, where there is nothing to fill in.
        assert!(!format!("{action}{}", alert.note("summary")).contains("{{"), "{name}");
        assert!(alert.note("description").contains("{{ $labels."), "{name} says which member");
        assert!(["critical", "warning", "info"].contains(&alert.severity.as_str()), "{name}");
        let (path, heading) =
            alert.note("page").split_once('#').unwrap_or((alert.note("page"), ""));
        let headings = page(path);
        let mut headings = headings.lines().filter(|line| line.starts_with('#')).map(anchor);
        let is_there = heading.is_empty() || headings.any(|anchor| anchor == heading);
        assert!(is_there, "{name}: {path} has no heading #{heading}");
    }
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_page_lists_the_alerts_as_the_rules_have_them() {
    let mut table = String::from("| alert | severity | after | meaning | what to do |\n");
    table += "|---|---|---|---|---|\n";
    for alert in alerts() {
        let Alert { name, after, severity, .. } = &alert;
        let link = alert.note("page").strip_prefix("docs/").expect("a page of docs/");
        let (summary, action) = (alert.note("summary"), alert.note("action"));
        let cells = format!("| `{name}` | {severity} | {after} | {summary} | {action}");
        writeln!(table, "{cells} [More]({link}) |").expect("a string");
    }
    let text = page(PAGE);
    let (before, rest) = text.split_once("<!-- alerts -->\n").expect("the begin of the table");
    let (_, after) = rest.split_once("<!-- /alerts -->\n").expect("the end of the table");
    let wanted = format!("{before}<!-- alerts -->\n{table}<!-- /alerts -->\n{after}");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(root().join(PAGE), &wanted).expect("the page");
    }
    let is_current = page(PAGE) == wanted;
    assert!(is_current, "run UPDATE_PAGES=1 cargo test -p tests --test monitoring");
}
