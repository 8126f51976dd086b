//! YAML in block style, and a configuration in the order it has.
//!
//! The layout is the same for all that this program writes: lists are not indented
//! below their key. Which words are quoted, and the order of keys, is the caller's
//! `Form`.
//!
//! Invariant: readers of version 1.1 and of 1.2 read back what was written; a
//! word that one of them would take for something else is quoted.

use super::yaml::plain;
use serde_json::{Map, Value};

/// How keys and texts are put.
pub struct Form {
    pub is_sorted: bool,
    pub key: fn(&str) -> String,
    /// Appends one text, whose further lines stand at this indentation.
    pub text: fn(&str, usize, &mut String),
}

const CONFIGURATION: Form =
    Form { is_sorted: false, key: text, text: |string, _, out| out.push_str(&text(string)) };

/// Ends in a line break.
pub fn write(value: &Value) -> String {
    write_in(&CONFIGURATION, value)
}

/// The same in another form. Empty maps and lists are `{}`, `[]`.
pub fn write_in(form: &Form, value: &Value) -> String {
    let mut out = String::new();
    form.write(value, 0, &mut out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

impl Form {
    fn write(&self, value: &Value, indent: usize, out: &mut String) {
        match value {
            Value::Object(map) if !map.is_empty() => self.write_map(map, indent, out),
            Value::Array(items) if !items.is_empty() => self.write_list(items, indent, out),
            Value::String(text) => (self.text)(text, indent, out),
            other => out.push_str(&other.to_string()),
        }
    }

    fn write_map(&self, map: &Map<String, Value>, indent: usize, out: &mut String) {
        let mut pairs: Vec<_> = map.iter().collect();
        if self.is_sorted {
            pairs.sort_by_key(|(key, _)| *key);
        }
        for (index, (key, value)) in pairs.into_iter().enumerate() {
            if index > 0 {
                new_line(indent, out);
            }
            out.push_str(&(self.key)(key));
            out.push(':');
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    new_line(indent + 2, out);
                    self.write_map(inner, indent + 2, out);
                }
                Value::Array(items) if !items.is_empty() => {
                    new_line(indent, out);
                    self.write_list(items, indent, out);
                }
                single => {
                    out.push(' ');
                    self.write(single, indent + 2, out);
                }
            }
        }
    }

    /// The first pair or item stands beside the dash.
    fn write_list(&self, items: &[Value], indent: usize, out: &mut String) {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                new_line(indent, out);
            }
            out.push_str("- ");
            self.write(item, indent + 2, out);
        }
    }
}

fn new_line(indent: usize, out: &mut String) {
    out.push('\n');
    out.push_str(&" ".repeat(indent));
}

/// Plain where only one reading is possible, else in single quotes; a text with line
/// ends or invisible characters in double quotes, escaped as in JSON.
fn text(string: &str) -> String {
    if is_plain(string) {
        return string.to_string();
    }
    let printable = |c: char| matches!(c, ' '..='~') || (c.is_alphanumeric() && !c.is_ascii());
    if string.chars().all(printable) {
        return format!("'{}'", string.replace('\'', "''"));
    }
    Value::from(string).to_string()
}

fn is_plain(string: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_';
    let goes_on = |c: char| c.is_ascii_alphanumeric() || " /_.,;%+=@()-:".contains(c);
    // A colon separates when a blank or the end follows; digits around it are
    // a number to the base of 60.
    let colon = string.contains(": ")
        || string.ends_with(':')
        || string.bytes().all(|b| b.is_ascii_digit() || b":._+-eE".contains(&b));
    // `y` and `n` are booleans for some, and dates begin with a digit.
    let doubtful = matches!(string, "y" | "Y" | "n" | "N") || is_date(string);
    string.starts_with(starts)
        && string.chars().all(goes_on)
        && !string.ends_with(' ')
        && !colon
        && !doubtful
        && plain(string).is_string()
        && string.parse::<f64>().is_err()
}

fn is_date(string: &str) -> bool {
    let year = string.bytes().take_while(u8::is_ascii_digit).count();
    year == 4 && string[year..].starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::parse;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn it_looks_as_people_write_it() {
        let value = json!({"scope": "#FIXME", "restapi": {"listen": "10.0.0.1:8008"},
            "a": [], "b": {}, "pg_hba": ["local all all peer", {"x": 1, "y": {"z": null}}, ["n"]],
            "on": "on", "port": 5432, "s": "it's: so", "t": "a\nb"});
        let wanted = "scope: '#FIXME'\nrestapi:\n  listen: '10.0.0.1:8008'\na: []\nb: {}\n\
            pg_hba:\n- local all all peer\n- x: 1\n  'y':\n    z: null\n- - 'n'\n'on': 'on'\n\
            port: 5432\ns: 'it''s: so'\nt: \"a\\nb\"\n";
        assert_eq!(write(&value), wanted);
        assert_eq!(parse(wanted).unwrap(), value);
    }

    #[test]
    fn words_that_version_1_1_would_change_are_quoted() {
        for word in [
            "on",
            "No",
            "0600",
            "1_000",
            "~",
            "0b1",
            "+5",
            "1e3",
            ".5",
            "!",
            "<<",
            "1:30",
            "2024-01-02",
            "y",
            "",
            " a",
            "a ",
            "-",
            "- a",
            "a #b",
            "nan",
            "inf",
            "null",
            "@a",
        ] {
            assert!(text(word).starts_with('\''), "{word}");
            let value = json!({"a": word, word: [word]});
            assert_eq!(parse(&write(&value)).unwrap(), value);
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[a-z0-9:,./ '\"#*&\n\t-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-z0-9: #-]{0,6}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in any_value()) {
            let text = write(&value);
            let read = parse(&text);
            prop_assert!(read.is_ok(), "{}", text);
            prop_assert_eq!(read.unwrap(), value, "{}", text);
            let other: Value = serde_yaml::from_str(&text).unwrap();
            prop_assert_eq!(parse(&text).unwrap(), other, "{}", text);
        }
    }
}
