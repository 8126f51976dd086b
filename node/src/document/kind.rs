//! What a setting may hold, and how its texts are read.
//!
//! Numbers and booleans may arrive as strings (other programs write YAML, and
//! `on` or `0600` are strings in YAML 1.2); the readings here are the only ones.
//!
//! Absent on purpose: which setting has which kind (see `settings.rs`).

use super::address;
use serde_json::Value;
use topology::number::{self, Base, counted};
use topology::tags::parse_bool;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Read like a text, never repeated in a message.
    Secret,
    /// A file or a directory; relative to the daemon's working directory.
    Path,
    Switch,
    /// true, false, or one of these words.
    SwitchOr(&'static [&'static str]),
    Whole {
        min: i64,
        max: i64,
    },
    /// A whole number that may have a unit.
    Counted(Base),
    Real,
    /// One of these words, in any case.
    Word(&'static [&'static str]),
    /// `host:port` of one host.
    Address(u16),
    /// The same to listen on: without a host it means all addresses.
    Bind(u16),
    /// `host[,host..]:port`.
    Listen(u16),
    /// A list; its items may hold commas.
    Lines,
    /// A list, or one text with commas.
    Texts,
    /// The same, or a map whose keys are the names.
    Names,
    Map,
    /// Long options of a tool: a list or a map.
    Options,
    Any,
}

/// What is wrong with a value, and what to write.
pub struct Wrong {
    pub what: String,
    pub remedy: String,
}

impl Kind {
    /// Null and the empty text are "not given" for every kind.
    pub fn check(self, value: &Value) -> Option<Wrong> {
        if value.is_null() || value == "" || self.accepts(value) {
            return None;
        }
        if let Some(what) = self.bad_item(value) {
            return Some(Wrong { what, remedy: "write one text in each item".into() });
        }
        let shown = if self.repeats() { shown(value) } else { kind_of(value).to_string() };
        Some(Wrong { what: format!("{shown} is {}", self.refusal()), remedy: self.remedy() })
    }

    /// What is wrong with one item of a list that should hold texts.
    fn bad_item(self, value: &Value) -> Option<String> {
        let items = value.as_array()?;
        if !matches!(self, Kind::Lines | Kind::Texts | Kind::Names) {
            return None;
        }
        let bad = items.iter().position(|item| !item.is_null() && scalar(item).is_none())?;
        Some(format!("item {} is {}, not a text", bad + 1, kind_of(&items[bad])))
    }

    /// May a message repeat the value? Not a secret, nor a text in whose place there
    /// should be a section: it may hold one.
    fn repeats(self) -> bool {
        !matches!(self, Kind::Secret | Kind::Map | Kind::Lines | Kind::Options)
    }

    fn accepts(self, value: &Value) -> bool {
        let text = scalar(value);
        match self {
            Kind::Text | Kind::Secret | Kind::Path => text.is_some(),
            Kind::Switch => parse_bool(value).is_some(),
            Kind::SwitchOr(words) => parse_bool(value).is_some() || is_word(text, words),
            Kind::Whole { min, max } => {
                parse_whole(value).is_some_and(|n| (min..=max).contains(&n))
            }
            Kind::Counted(base) => counted(value, base).is_some(),
            Kind::Real => text.is_some_and(|t| t.trim().parse::<f64>().is_ok_and(f64::is_finite)),
            Kind::Word(words) => is_word(text, words),
            Kind::Address(port) => text.is_some_and(|t| address::parse_address(&t, port).is_some()),
            Kind::Bind(port) => text.is_some_and(|t| address::parse_bind(&t, port).is_some()),
            Kind::Listen(port) => text.is_some_and(|t| address::parse_listen(&t, port).is_some()),
            Kind::Lines => is_list_of_scalars(value),
            Kind::Texts => text.is_some() || is_list_of_scalars(value),
            Kind::Names => text.is_some() || value.is_object() || is_list_of_scalars(value),
            Kind::Map => value.is_object(),
            Kind::Options => value.is_array() || value.is_object(),
            Kind::Any => true,
        }
    }

    fn refusal(self) -> String {
        match self {
            Kind::Text | Kind::Secret | Kind::Path => "no single value".into(),
            Kind::Switch => "neither true nor false".into(),
            Kind::SwitchOr(words) => format!("neither true nor false nor {}", words.join(", ")),
            Kind::Whole { min, max: i64::MAX } => format!("no whole number from {min}"),
            Kind::Whole { min, max } => format!("no whole number from {min} to {max}"),
            Kind::Counted(Base::Seconds) => "no number of seconds".into(),
            Kind::Counted(Base::Bytes) => "no number of bytes".into(),
            Kind::Counted(Base::Plain) => "no whole number".into(),
            Kind::Real => "no number".into(),
            Kind::Word(_) => "not known".into(),
            Kind::Address(_) | Kind::Bind(_) | Kind::Listen(_) => "no host:port".into(),
            Kind::Lines | Kind::Texts => "no list of texts".into(),
            Kind::Names => "no list of names".into(),
            Kind::Map => "no map".into(),
            Kind::Options => "no list of options".into(),
            Kind::Any => "impossible".into(),
        }
    }

    fn remedy(self) -> String {
        match self {
            Kind::Text | Kind::Secret | Kind::Path => "write one text".into(),
            Kind::Switch => "write true or false".into(),
            Kind::SwitchOr(words) => format!("write true, false or {}", words.join(", ")),
            Kind::Whole { min, .. } => format!("write e.g. {}", min.max(1)),
            Kind::Counted(Base::Seconds) => "write e.g. 30 or 5min".into(),
            Kind::Counted(Base::Bytes) => "write e.g. 1048576 or 16MB".into(),
            Kind::Counted(Base::Plain) | Kind::Real => "write e.g. 1".into(),
            Kind::Word(words) => format!("write one of {}", words.join(", ")),
            Kind::Address(port) | Kind::Bind(port) | Kind::Listen(port) => {
                format!("write e.g. 127.0.0.1:{port}")
            }
            Kind::Lines | Kind::Texts | Kind::Names => "write `- item` lines".into(),
            Kind::Map => "write `key: value` lines".into(),
            Kind::Options => "write `- option` or `- option: value` lines".into(),
            Kind::Any => "correct it".into(),
        }
    }
}

fn is_word(text: Option<String>, words: &[&str]) -> bool {
    text.is_some_and(|text| words.iter().any(|word| word.eq_ignore_ascii_case(&text)))
}

/// Empty items (`- # nothing`) are passed over.
fn is_list_of_scalars(value: &Value) -> bool {
    let is_good = |item: &Value| item.is_null() || scalar(item).is_some();
    value.as_array().is_some_and(|items| items.iter().all(is_good))
}

/// The numbers (from 1) of the items that are empty.
pub(crate) fn empty_items(value: &Value) -> Vec<usize> {
    let items = value.as_array().into_iter().flatten().enumerate();
    items.filter(|(_, item)| item.is_null()).map(|(index, _)| index + 1).collect()
}

/// The text of a string, number or boolean.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A whole number as PostgreSQL reads one.
pub fn parse_whole(value: &Value) -> Option<i64> {
    number::whole(value)
}

/// A value as a message may repeat it: short, and never a whole section.
pub(crate) fn shown(value: &Value) -> String {
    const CHARACTERS_MAX: usize = 60;
    match scalar(value) {
        Some(text) if text.chars().count() > CHARACTERS_MAX => {
            format!("`{}...`", text.chars().take(CHARACTERS_MAX).collect::<String>())
        }
        Some(text) => format!("`{text}`"),
        None => kind_of(value).to_string(),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
        _ => "a text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_refusal_says_what_and_what_instead() {
        let wrong = Kind::Listen(5432).check(&json!("x:99999")).unwrap();
        assert_eq!(wrong.what, "`x:99999` is no host:port");
        assert_eq!(wrong.remedy, "write e.g. 127.0.0.1:5432");
        let wrong = Kind::Secret.check(&json!(["hidden"])).unwrap();
        assert!(!wrong.what.contains("hidden"));
    }

    #[test]
    fn booleans_of_yaml_1_1_are_booleans() {
        for text in ["on", "Yes", "TRUE", "off", "no", "0"] {
            assert!(Kind::Switch.check(&json!(text)).is_none(), "{text}");
        }
        assert!(Kind::Switch.check(&json!("maybe")).is_some());
        assert!(Kind::SwitchOr(&["quorum"]).check(&json!("quorum")).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = parse_whole(&json!(text));
            let _ = Kind::Listen(1).check(&json!(text));
        }
    }
}
