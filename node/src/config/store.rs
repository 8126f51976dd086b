//! Sections of stores: each value is checked against its row, and the store's own
//! reader does the rest.

use super::document::Document;
use super::validate::check_section;
use crate::dcs::settings::{self, SECTION, StoreSettings};
use crate::document::findings::Findings;
use serde_json::Value;

/// Reads the one store section of the document.
pub(super) fn own_store(document: Document, findings: &mut Findings) -> StoreSettings {
    if let Some((name, section)) = settings::own_section(document) {
        check_section(section, SECTION, name, findings);
    }
    settings::own_store(document, findings)
}

/// Reads a store section that stands at `path`.
pub(super) fn read_store(section: &Value, path: &str, findings: &mut Findings) -> StoreSettings {
    check_section(section, SECTION, path, findings);
    settings::read_store(section, path, findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_section_is_checked_against_its_rows_wherever_it_stands() {
        let read = |section: Value| {
            let mut findings = Findings::default();
            read_store(&section, "topology.regions[1].etcd3", &mut findings);
            (findings.to_string(), findings.warnings().to_vec())
        };
        let place = "topology.regions[1].etcd3";
        assert!(read(json!("x")).0.starts_with(&format!("{place}: a text is no map")));
        let wrong = read(json!({"host": "x", "protocol": "ftp"})).0;
        assert!(wrong.starts_with(&format!("{place}.protocol: ")), "{wrong}");
        let (_, warnings) = read(json!({"host": "x", "pasword": "y"}));
        assert!(warnings[0].contains("did you mean"), "{warnings:?}");
    }
}
