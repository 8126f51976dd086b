//! When a text may stand in YAML as a plain word, and when it is quoted.
//!
//! Readers in the field follow YAML 1.1, where `on`, `12:30` and `0755` are no
//! texts; each such word gets single quotes, so that it stays what it is.

use node::config::read_yaml_word;
use serde_json::Value;

/// A text as one YAML word: plain, in single or in double quotes.
pub(crate) fn word(text: &str, in_flow: bool) -> String {
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
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
        | '@' | '`' => true,
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
    let is_other = !read_yaml_word(text).is_string() || matches!(text, "<<" | "=");
    is_other || is_number(text) || is_moment(text)
}

/// Also numbers that are too large, or that JSON does not have: other readers take them.
fn is_number(text: &str) -> bool {
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits =
        |s: &str, ok: fn(u8) -> bool| !s.is_empty() && s.bytes().all(|b| ok(b) || b == b'_');
    let special = body.to_ascii_lowercase();
    if special == ".inf" || text.eq_ignore_ascii_case(".nan") {
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
        return body == "0"
            || !body.starts_with('0')
            || body.bytes().all(|b| (b'0'..b'8').contains(&b));
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
    digits(whole)
        && digits(fraction)
        && exponent_ok
        && body != "."
        && !(whole.is_empty() && fraction.is_empty())
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

    #[test]
    fn words_that_would_change_their_type_are_quoted() {
        let other = [
            "",
            "on",
            "No",
            "TRUE",
            "null",
            "~",
            "1",
            "-5",
            "0x1F",
            "0755",
            "1_000",
            "1.5",
            ".5",
            "1.0e+3",
            "12:30",
            "2026-11-20",
            "2026-11-20T22:00:06.658001+00:00",
            "=",
            "<<",
            ".inf",
        ];
        for text in other {
            assert_eq!(word(text, false), format!("'{text}'"), "{text}");
        }
        let texts = [
            "oN",
            "5MB",
            "0/4000060",
            "128MB",
            "1e3",
            "1.2.3",
            "a:b",
            "089",
            "2026-11",
            "127.0.0.1:5361",
            "host all all 0.0.0.0/0 md5",
            "-x",
            "é",
            "12:99",
        ];
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
}
