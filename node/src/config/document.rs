//! Typed reading of the merged document.
//!
//! A value of the wrong kind reads as its default here: `validate.rs` has
//! already found it, so the configuration is refused anyway and reading can go
//! on to whatever else is wrong.
//!
//! Invariant: null and the empty text are "not given".

use super::kind::{self, Kind};
use super::{Secret, settings};
use serde_json::{Map, Value};
use std::path::PathBuf;
use topology::tags::parse_bool;

/// The document, or one section of it under the path it is known by.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    pub value: &'a Value,
    /// Where `value` stands in the table of settings; empty for the whole.
    pub prefix: &'a str,
}

impl<'a> Document<'a> {
    pub fn whole_of(value: &'a Value) -> Document<'a> {
        Document { value, prefix: "" }
    }

    /// What stands at a dotted path, unless it is null or empty.
    pub fn at(self, path: &str) -> Option<&'a Value> {
        path.split('.')
            .try_fold(self.value, |value, key| value.get(key))
            .filter(|value| !value.is_null() && *value != "")
    }

    pub fn section(self, path: &str) -> Option<&'a Map<String, Value>> {
        self.at(path)?.as_object()
    }

    fn default_of(self, path: &str) -> Option<&'static str> {
        if self.prefix.is_empty() {
            return settings::default_of(path);
        }
        settings::default_of(&format!("{}.{path}", self.prefix))
    }

    pub fn text(self, path: &str) -> Option<String> {
        let given = self.at(path).and_then(kind::scalar);
        given.or_else(|| self.default_of(path).map(str::to_string))
    }

    /// For settings whose default or requirement makes "nothing" impossible.
    pub fn text_or_empty(self, path: &str) -> String {
        self.text(path).unwrap_or_default()
    }

    pub fn secret(self, path: &str) -> Option<Secret> {
        self.text(path).map(Secret)
    }

    pub fn path(self, path: &str) -> Option<PathBuf> {
        self.text(path).map(PathBuf::from)
    }

    pub fn maybe_flag(self, path: &str) -> Option<bool> {
        let default = || parse_bool(&self.default_of(path)?.into());
        self.at(path).and_then(parse_bool).or_else(default)
    }

    pub fn flag(self, path: &str) -> bool {
        self.maybe_flag(path).unwrap_or(false)
    }

    /// A number of a row that has a default and no negative values.
    pub fn count(self, path: &str) -> u64 {
        let default = || kind::parse_whole(&self.default_of(path)?.into());
        let number = self.at(path).and_then(kind::parse_whole).or_else(default);
        number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
    }

    /// A list of lines, as they are.
    pub fn lines(self, path: &str) -> Option<Vec<String>> {
        let items = self.at(path)?.as_array()?;
        Some(items.iter().filter_map(kind::scalar).collect())
    }

    /// A list, or a text with commas.
    pub fn texts(self, path: &str) -> Vec<String> {
        let pieces = match self.at(path) {
            Some(Value::Array(items)) => items.iter().filter_map(kind::scalar).collect(),
            Some(other) => kind::scalar(other).into_iter().collect::<Vec<_>>(),
            None => Vec::new(),
        };
        let split = pieces.iter().flat_map(|piece| piece.split(','));
        split.map(|text| text.trim().to_string()).filter(|text| !text.is_empty()).collect()
    }

    /// Says whether a value is given and is what its row wants.
    pub fn is_good(self, path: &str, kind: Kind) -> bool {
        self.at(path).is_some_and(|value| kind.check(value).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strings_are_read_as_what_is_wanted_and_defaults_fill_in() {
        let raw = json!({"postgresql": {"pg_ctl_timeout": "90", "use_unix_socket": "on",
            "database": null}, "restapi": {"allowlist": "a, b"}});
        let document = Document::whole_of(&raw);
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
        let section = Document { value: &raw, prefix: "etcd3" };
        assert_eq!(section.count("port"), 2379);
        assert_eq!(section.text("cacert"), None);
    }
}
