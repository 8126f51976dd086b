//! YAML as operators' tools have always received it: sorted keys, lists not
//! indented below their key, single quotes where a plain word would be read
//! as something else, lines folded at 200 columns.
//!
//! Texts are quoted and folded here, because other writers do it differently,
//! and diffs of `/config` and golden outputs are compared byte for byte. The
//! layout is that of every YAML of this program (`node/src/config/emit.rs`).

use crate::word::word;
use node::config::{Form, write_yaml_in};
use serde_json::{Map, Value};

/// Lines longer than this are folded at a blank.
const WIDTH: usize = 200;

const FORM: Form = Form { is_sorted: true, key: |key| word(key, false), text: write_text };

/// Block style, ending in a line break. Empty maps and lists are `{}`, `[]`.
pub(crate) fn block(value: &Value) -> String {
    write_yaml_in(&FORM, value)
}

/// One line, as in `{a: 1, b: [x, y]}`.
pub(crate) fn flow(value: &Value) -> String {
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
        other => other.to_string(),
    }
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut pairs: Vec<_> = map.iter().collect();
    pairs.sort_by_key(|(key, _)| *key);
    pairs
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
                out.push('\n');
                out.push_str(&" ".repeat(indent));
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
