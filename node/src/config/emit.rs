//! A configuration as YAML, in the order it has.
//!
//! Invariant: readers of version 1.1 and of 1.2 read back what was written; a
//! word that one of them would take for something else is quoted.

use super::yaml::plain;
use serde_json::{Map, Value};

/// Block style, ending in a line break.
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => write_map(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => write_list(items, 0, &mut out),
        single => out.push_str(&format!("{}\n", word(single))),
    }
    out
}

fn write_map(map: &Map<String, Value>, indent: usize, out: &mut String) {
    for (key, value) in map {
        out.push_str(&format!("{}{}:", " ".repeat(indent), text(key)));
        write_below(value, indent + 2, indent, out);
    }
}

fn write_list(items: &[Value], indent: usize, out: &mut String) {
    for item in items {
        let dash = format!("{}-", " ".repeat(indent));
        match item {
            // The first pair stands beside the dash.
            Value::Object(map) if !map.is_empty() => {
                let mut block = String::new();
                write_map(map, indent + 2, &mut block);
                out.push_str(&format!("{dash} {}", block.trim_start()));
            }
            _ => {
                out.push_str(&dash);
                write_below(item, indent + 2, indent + 2, out);
            }
        }
    }
}

fn write_below(value: &Value, map_indent: usize, list_indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            write_map(map, map_indent, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            write_list(items, list_indent, out);
        }
        single => out.push_str(&format!(" {}\n", word(single))),
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        other => other.to_string(),
    }
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
            pg_hba:\n- local all all peer\n- x: 1\n  'y':\n    z: null\n-\n  - 'n'\n'on': 'on'\n\
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
