//! The `bootstrap` section: how a cluster that does not exist yet is made.
//!
//! Invariant: what becomes `/config` of a new cluster can be read back by the
//! daemons that will live with it.

use super::document::Document;
use super::options::read_initdb;
use super::{Bootstrap, BootstrapMethod};
use crate::document::findings::Findings;
use serde_json::{Map, Value};
use topology::Dynamic;
use topology::dynamic::slots_in_vain;

pub(super) fn read(
    document: Document,
    is_citus: bool,
    findings: &mut Findings,
) -> Option<Bootstrap> {
    document.section("bootstrap")?;
    let mut dcs = document.section("bootstrap.dcs").cloned().unwrap_or_else(Map::new);
    if is_citus {
        // A shard that is lost is lost for the whole formation.
        dcs.entry("synchronous_mode").or_insert_with(|| "quorum".into());
    }
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
    if let Some((used, others)) = slots_in_vain(dcs) {
        for other in others {
            findings.warn(format!("{} is ignored beside {}", path(other), path(used)));
        }
    }
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

fn read_method(document: Document, findings: &mut Findings) -> Option<BootstrapMethod> {
    const STANDARD: &str = "initdb";
    let name = document.text_or_empty("bootstrap.method");
    if name == STANDARD {
        return None;
    }
    let section = document.section("bootstrap").and_then(|section| section.get(&name));
    let method = BootstrapMethod::read(&name, section);
    if method.is_none() {
        let why = format!("there is no bootstrap.{name}.command");
        findings.warn(format!("bootstrap.method: {why}; initdb is used"));
    }
    method.as_ref().inspect(|method| check_recovery(method, findings));
    method
}

fn check_recovery(method: &BootstrapMethod, findings: &mut Findings) {
    if method.recovery_conf.is_some() && method.keep_existing_recovery_conf {
        let path = format!("bootstrap.{}.keep_existing_recovery_conf", method.name);
        findings.warn(format!("{path} has no effect beside recovery_conf, which is used"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::whole_of;
    use super::*;
    use serde_json::json;

    fn read_section(section: Value) -> (Option<Bootstrap>, Findings) {
        let raw = json!({"bootstrap": section});
        let mut findings = Findings::default();
        let bootstrap = read(whole_of(&raw), false, &mut findings);
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
    fn two_sections_of_permanent_slots_are_a_warning() {
        let (_, findings) =
            read_section(json!({"dcs": {"slots": {"a": 0}, "permanent_slots": {"b": 0}}}));
        let told = "bootstrap.dcs.slots is ignored beside bootstrap.dcs.permanent_slots";
        assert_eq!((findings.is_empty(), findings.warnings()), (true, &[told.to_string()][..]));
    }

    #[test]
    fn a_method_is_a_section_with_a_command_and_else_initdb() {
        let (bootstrap, findings) =
            read_section(json!({"method": "wal_e", "wal_e": {"command": "x"}}));
        assert_eq!(bootstrap.unwrap().method.unwrap().command, "x");
        assert!(findings.is_empty() && findings.warnings().is_empty());
        let (bootstrap, findings) = read_section(json!({"method": "wal_e"}));
        assert!(bootstrap.unwrap().method.is_none());
        assert!(findings.is_empty() && findings.warnings().len() == 1);
        let (_, findings) = read_section(json!({"method": "p", "p": {"command": "x",
            "recovery_conf": {"recovery_target": "immediate"},
            "keep_existing_recovery_conf": true}}));
        assert!(findings.warnings()[0].contains("has no effect beside recovery_conf"));
    }
}
