//! Typed reading of a document that a user wrote, with what its readers share.
//!
//! | file | job |
//! |---|---|
//! | `kind.rs`, `setting.rs` | what a setting may hold; one row of a table of settings |
//! | `address.rs` | `host:port` |
//! | `findings.rs` | what was found wrong |
//!
//! A value of the wrong kind reads as its default here: `config/validate.rs` has
//! already found it, so the configuration is refused anyway and reading can go
//! on to whatever else is wrong.
//!
//! Invariant: null and the empty text are "not given".
//!
//! Absent on purpose: the tables of settings (`config/settings.rs`,
//! `dcs/settings/rows.rs`).

pub(crate) mod address;
pub(crate) mod findings;
pub(crate) mod kind;
pub(crate) mod setting;

use kind::Kind;
use serde_json::{Map, Value};
use std::fmt;
use std::path::PathBuf;
use topology::tags::parse_bool;

/// A word that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The default of a path, as text.
pub(crate) type DefaultOf = fn(&str) -> Option<&'static str>;

/// The document, or one section of it under the path it is known by.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    pub value: &'a Value,
    /// Where `value` stands in the table of settings; empty for the whole.
    pub prefix: &'a str,
    /// Asks the table.
    pub defaults: DefaultOf,
}

impl<'a> Document<'a> {
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
            return (self.defaults)(path);
        }
        (self.defaults)(&format!("{}.{path}", self.prefix))
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
