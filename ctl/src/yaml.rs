//! YAML as operators' tools have always received it: sorted keys, lists not
//! indented below their key, single quotes where a plain word would be read
//! as something else, lines folded at 200 columns.
//!
//! Written here because other writers quote and fold differently, and diffs
//! of `/config` and golden outputs are compared byte for byte. Only writing;
//! `serde_yaml` reads.

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

/// A text as one YAML word: plain, in single or in double quotes.
fn word(text: &str, in_flow: bool) -> String {
    if needs_double_quotes(text) {
        return Value::from(text).to_string();
    }
    if text.is_empty() || text.contains('\n') || reads_as_other(text) || has_syntax(text, in_flow) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    text.to_string()
}

fn needs_double_quotes(text: &str) -> bool {
    let control = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{feff}' | '\u{2028}'));
    text.contains(control) || text.contains(" \n") || text.contains("\n ")
}

/// Characters that mean something to a YAML reader where they stand.
fn has_syntax(text: &str, in_flow: bool) -> bool {
    let chars: Vec<char> = text.chars().collect();
    let blank_at = |i: usize| chars.get(i).is_none_or(|c| c.is_whitespace());
    if text.starts_with(' ') || text.ends_with(' ') {
        return true;
    }
    if text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let starts_badly = match chars[0] {
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
        | '`' => true,
        '?' | ':' => in_flow || blank_at(1),
        '-' => blank_at(1),
        _ => false,
    };
    starts_badly
        || chars.iter().enumerate().skip(1).any(|(i, c)| match c {
            ',' | '?' | '[' | ']' | '{' | '}' => in_flow,
            ':' => in_flow || blank_at(i + 1),
            '#' => chars[i - 1].is_whitespace(),
            _ => false,
        })
}

/// Would a reader of YAML 1.1 take the word for something else than a text?
fn reads_as_other(text: &str) -> bool {
    const WORDS: [&str; 10] =
        ["yes", "no", "true", "false", "on", "off", "null", "~", "<<", "="];
    let lower = text.to_ascii_lowercase();
    let mut capital = lower.clone();
    if let Some(first) = capital.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    let one_case = text == lower || text == capital || text == text.to_ascii_uppercase();
    (one_case && WORDS.contains(&lower.as_str())) || is_number(text) || is_moment(text)
}

fn is_number(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |s: &str, ok: fn(u8) -> bool| !s.is_empty() && s.bytes().all(|b| ok(b) || b == b'_');
    let special = body.to_ascii_lowercase();
    if special == ".inf" || text.to_ascii_lowercase() == ".nan" {
        return true;
    }
    if let Some(hex) = body.strip_prefix("0x") {
        return digits(hex, |b| b.is_ascii_hexdigit());
    }
    if let Some(binary) = body.strip_prefix("0b") {
        return digits(binary, |b| b == b'0' || b == b'1');
    }
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    let whole = |b: u8| b.is_ascii_digit();
    if digits(body, whole) {
        return body == "0" || !body.starts_with('0') || body.bytes().all(|b| (b'0'..b'8').contains(&b));
    }
    is_sexagesimal(body) || is_float(body)
}

/// `12:30`, `1:02:03.5`: minutes and seconds to a reader of YAML 1.1.
fn is_sexagesimal(body: &str) -> bool {
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let parts: Vec<&str> = whole.split(':').collect();
    let first_ok = !parts[0].is_empty()
        && parts[0].bytes().all(|b| b.is_ascii_digit() || b == b'_')
        && (!parts[0].starts_with('0') || body.contains('.'));
    let rest_ok = parts[1..].iter().all(|p| match p.as_bytes() {
        [d] => d.is_ascii_digit(),
        [tens, d] => (b'0'..b'6').contains(tens) && d.is_ascii_digit(),
        _ => false,
    });
    parts.len() > 1 && first_ok && rest_ok && fraction.bytes().all(|b| b.is_ascii_digit())
}

/// A float has a point; its exponent, if any, a sign.
fn is_float(body: &str) -> bool {
    let Some((whole, rest)) = body.split_once('.') else {
        return false;
    };
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let exponent_ok = exponent.is_none_or(|e| {
        let power = e.strip_prefix(['+', '-']);
        power.is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
    });
    digits(whole) && digits(fraction) && exponent_ok && body != "." && !(whole.is_empty() && fraction.is_empty())
}

/// `2026-11-20`, alone or with a time of day behind it.
fn is_moment(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if year.len() != 4 || !digits(year) || !digits(month) || month.len() > 2 {
        return false;
    }
    let day: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let time = &rest[day.len()..];
    if time.is_empty() {
        return bytes.len() == 10;
    }
    let clock = time.trim_start_matches(['T', 't', ' ', '\t']);
    (1..=2).contains(&day.len())
        && clock.len() < time.len()
        && clock.split(':').count() >= 3
        && clock.bytes().all(|b| b.is_ascii_digit() || b":.+-Z ".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_and_lists_stand_below_their_key() {
        let value = json!({"b": [1, {"y": null, "x": {}}], "a": {"c": [], "d": "x y"}, "e": [["z"]]});
        let text = "a:\n  c: []\n  d: x y\nb:\n- 1\n- x: {}\n  y: null\ne:\n- - z\n";
        assert_eq!(block(&value), text);
        assert_eq!(flow(&value), "{a: {c: [], d: x y}, b: [1, {x: {}, y: null}], e: [[z]]}");
    }

    #[test]
    fn words_that_would_change_their_type_are_quoted() {
        let other = ["", "on", "No", "TRUE", "null", "~", "1", "-5", "0x1F", "0755", "1_000", "1.5",
            ".5", "1.0e+3", "12:30", "2026-11-20", "2026-11-20T22:00:06.658001+00:00", "=", "<<", ".inf"];
        for text in other {
            assert_eq!(word(text, false), format!("'{text}'"), "{text}");
        }
        let texts = ["oN", "5MB", "0/4000060", "128MB", "1e3", "1.2.3", "a:b", "089", "2026-11",
            "127.0.0.1:5361", "host all all 0.0.0.0/0 md5", "-x", "é", "12:99"];
        for text in texts {
            assert_eq!(word(text, false), text);
        }
    }

    #[test]
    fn words_with_syntax_are_quoted_where_it_counts() {
        for text in ["- a", "a: b", "a #b", "*", "&x", "%p", " a", "a ", "'a", "[a", "k:", "---"] {
            assert!(word(text, false).starts_with('\''), "{text}");
        }
        assert_eq!(word("it's: x", false), "'it''s: x'");
        assert_eq!(word("a,b", false), "a,b");
        assert_eq!(word("a,b", true), "'a,b'");
        assert_eq!(word("a:b", true), "'a:b'");
        assert_eq!(word("a\tb", false), "\"a\\tb\"");
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
