//! YAML as operators' tools have always received it: sorted keys, lists not
//! indented below their key, single quotes where a plain word would be read
//! as something else, lines folded at 200 columns.
//!
//! Written here because other writers quote and fold differently, and diffs
//! of `/config` and golden outputs are compared byte for byte. Only writing;
//! `serde_yaml` reads.

use crate::word::word;
use serde_json::{Map, Value};

/// Lines longer than this are folded at a blank.
const WIDTH: usize = 200;

/// Block style, ending in a line break. Empty maps and lists are `{}`, `[]`.
pub fn block(value: &Value) -> String {
    let mut out = String::new();
    write_block(value, 0, &mut out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// One line, as in `{a: 1, b: [x, y]}`.
pub fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let pairs = sorted(map).into_iter();
            let pairs = pairs.map(|(k, v)| format!("{}: {}", word(k, true), flow(v)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => word(text, true),
        other => plain(other),
    }
}

fn write_block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => write_map(map, indent, out),
        Value::Array(items) if !items.is_empty() => write_list(items, indent, out),
        Value::String(text) => write_text(text, indent, out),
        other => out.push_str(&plain(other)),
    }
}

fn write_map(map: &Map<String, Value>, indent: usize, out: &mut String) {
    for (index, (key, value)) in sorted(map).into_iter().enumerate() {
        if index > 0 {
            new_line(indent, out);
        }
        out.push_str(&word(key, false));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                new_line(indent + 2, out);
                write_map(inner, indent + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                new_line(indent, out);
                write_list(items, indent, out);
            }
            other => {
                out.push(' ');
                write_block(other, indent + 2, out);
            }
        }
    }
}

fn write_list(items: &[Value], indent: usize, out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            new_line(indent, out);
        }
        out.push_str("- ");
        write_block(item, indent + 2, out);
    }
}

fn new_line(indent: usize, out: &mut String) {
    out.push('\n');
    out.push_str(&" ".repeat(indent));
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut pairs: Vec<_> = map.iter().collect();
    pairs.sort_by_key(|(key, _)| *key);
    pairs
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Object(_) => "{}".to_string(),
        Value::Array(_) => "[]".to_string(),
        other => other.to_string(),
    }
}

/// A text as a value in block style: folded, and quoted where it must be.
fn write_text(text: &str, indent: usize, out: &mut String) {
    let quoted = word(text, false);
    if quoted.starts_with('"') {
        out.push_str(&quoted);
        return;
    }
    for (index, line) in quoted.split('\n').enumerate() {
        if index > 0 {
            out.push_str("\n\n");
            out.push_str(&" ".repeat(indent));
        }
        write_folded(line, indent, out);
    }
}

/// Breaks a line at the first single blank behind the last column.
fn write_folded(line: &str, indent: usize, out: &mut String) {
    let column = |out: &str| out.rsplit('\n').next().map_or(0, |l| l.chars().count());
    let mut words = line.split(' ').peekable();
    let mut is_first = true;
    while let Some(word) = words.next() {
        out.push_str(word);
        let next = words.peek().is_some_and(|next| !next.is_empty());
        let may_break = !is_first || !word.is_empty();
        if words.peek().is_some() {
            if next && may_break && !word.is_empty() && column(out) > WIDTH {
                new_line(indent, out);
            } else {
                out.push(' ');
            }
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_lists_stand_below_their_key() {
        let value =
            json!({"b": [1, {"y": null, "x": {}}], "a": {"c": [], "d": "x y"}, "e": [["z"]]});
        let text = "a:\n  c: []\n  d: x y\nb:\n- 1\n- x: {}\n  y: null\ne:\n- - z\n";
        assert_eq!(block(&value), text);
        assert_eq!(flow(&value), "{a: {c: [], d: x y}, b: [1, {x: {}, y: null}], e: [[z]]}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let texts = ["on", "a\nb", "x: y", "%p", "1.0", "tab\there", "", " lead", "a'b", "- x"];
        for text in texts {
            let value = json!({"k": text, "l": [text]});
            let back: Value = serde_yaml::from_str(&block(&value)).unwrap();
            assert_eq!(back, value, "{}", block(&value));
        }
    }

    #[test]
    fn long_lines_are_folded_and_read_back() {
        let long = "word ".repeat(90).trim_end().to_string();
        let value = json!({"k": long});
        let text = block(&value);
        assert!(text.lines().count() > 2);
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH + 10));
        assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), value);
    }
}
