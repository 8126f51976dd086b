//! The `bootstrap` section: how a cluster that does not exist yet is made.
//!
//! Invariant: what becomes `/config` of a new cluster can be read back by the
//! daemons that will live with it.

use super::Bootstrap;
use super::document::Document;
use super::findings::Findings;
use super::options::read_initdb;
use serde_json::{Map, Value};
use topology::Dynamic;

pub fn read(document: Document, findings: &mut Findings) -> Option<Bootstrap> {
    document.section("bootstrap")?;
    let dcs = document.section("bootstrap.dcs").cloned().unwrap_or_else(Map::new);
    let dcs = Value::Object(dcs);
    check_dynamic(&dcs, findings);
    let initdb = document.at("bootstrap.initdb");
    let post_bootstrap =
        document.text("bootstrap.post_bootstrap").or_else(|| document.text("bootstrap.post_init"));
    Some(Bootstrap {
        dcs,
        method: read_method(document, findings),
        initdb: read_initdb(initdb, "bootstrap.initdb", findings),
        pg_hba: document.lines("bootstrap.pg_hba").unwrap_or_default(),
        post_bootstrap,
    })
}

/// Rules of the cluster-wide configuration that the table does not know.
fn check_dynamic(dcs: &Value, findings: &mut Findings) {
    let path = |key: &str| format!("bootstrap.dcs.{key}");
    match Dynamic::read(dcs) {
        Ok(read) => {
            for bad in read.ignored {
                let (key, wanted) = (path(&bad.key), bad.wanted);
                if !findings.warnings().iter().any(|told| told.starts_with(&key)) {
                    findings.warn(format!("{key} is not {wanted}, so its default is used"));
                }
            }
        }
        // The table of settings may have found the same value already.
        Err(bad) if findings.iter().any(|finding| finding.path == path(&bad.key)) => {}
        Err(bad) => findings.add(&path(&bad.key), format!("is not {}", bad.wanted), "correct it"),
    }
}

fn read_method(document: Document, findings: &mut Findings) -> String {
    const STANDARD: &str = "initdb";
    let method = document.text_or_empty("bootstrap.method");
    if method == STANDARD {
        return method;
    }
    let section = document.section("bootstrap").and_then(|section| section.get(&method));
    if section.and_then(|section| section.get("command")).is_some() {
        let what = format!("`{method}`: custom bootstrap methods are not supported yet");
        findings.add("bootstrap.method", what, "write initdb");
    } else {
        let why = format!("there is no bootstrap.{method}.command");
        findings.warn(format!("bootstrap.method: {why}; initdb is used"));
    }
    STANDARD.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_section(section: Value) -> (Option<Bootstrap>, Findings) {
        let raw = json!({"bootstrap": section});
        let mut findings = Findings::default();
        let bootstrap = read(Document::whole_of(&raw), &mut findings);
        (bootstrap, findings)
    }

    #[test]
    fn an_empty_section_still_may_initialise() {
        let (bootstrap, findings) = read_section(json!({}));
        assert_eq!(bootstrap.unwrap().dcs, json!({}));
        assert!(findings.is_empty());
        assert!(read_section(Value::Null).0.is_none());
    }

    #[test]
    fn the_sum_rule_is_not_a_finding_but_an_unreadable_value_is() {
        let (_, findings) = read_section(json!({"dcs": {"ttl": 20, "retry_timeout": 10}}));
        assert!(findings.is_empty());
        let (_, findings) = read_section(json!({"dcs": {"standby_cluster": {"host": "h",
            "port": "x"}}}));
        assert!(findings.to_string().starts_with("bootstrap.dcs.standby_cluster.port: is not"));
    }

    #[test]
    fn only_a_method_with_a_command_is_refused() {
        let (_, findings) = read_section(json!({"method": "wal_e", "wal_e": {"command": "x"}}));
        assert!(findings.to_string().contains("custom bootstrap methods are not supported yet"));
        let (bootstrap, findings) = read_section(json!({"method": "wal_e"}));
        assert_eq!(bootstrap.unwrap().method, "initdb");
        assert!(findings.is_empty() && findings.warnings().len() == 1);
    }
}
