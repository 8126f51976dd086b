//! The merged document, read with the defaults of the table of settings.

pub(super) use crate::document::Document;

use super::settings;
use serde_json::Value;

pub(super) fn whole_of(value: &Value) -> Document<'_> {
    Document { value, prefix: "", defaults: settings::default_of }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strings_are_read_as_what_is_wanted_and_defaults_fill_in() {
        let raw = json!({"postgresql": {"pg_ctl_timeout": "90", "use_unix_socket": "on",
            "database": null}, "restapi": {"allowlist": "a, b"}});
        let document = whole_of(&raw);
        assert_eq!(document.count("postgresql.pg_ctl_timeout"), 90);
        assert!(document.flag("postgresql.use_unix_socket"));
        assert_eq!(document.text_or_empty("postgresql.database"), "postgres");
        assert_eq!(document.texts("restapi.allowlist"), ["a", "b"]);
        assert_eq!(document.count("log.file_num"), 4);
        assert_eq!(document.maybe_flag("postgresql.use_pg_rewind"), None);
    }

    #[test]
    fn a_section_knows_the_defaults_of_its_place() {
        let raw = json!({"host": "a"});
        let section = Document { prefix: "watchdog", ..whole_of(&raw) };
        assert_eq!(section.text("mode").as_deref(), Some("automatic"));
        assert_eq!(section.text("device").as_deref(), Some("/dev/watchdog"));
    }
}
