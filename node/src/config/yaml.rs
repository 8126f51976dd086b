//! YAML as the programs around Patroni write and read it: version 1.1.
//!
//! An unquoted `on` or `yes` is true, `0600` is octal, `<<` merges. Quoted they
//! are texts, so the style of a scalar matters; that is why the events of a
//! parser are read here and not the values that a YAML 1.2 reader makes of them.
//! The last of two equal keys wins, as it does there; `repeated` names them.
//!
//! Invariant: what a text may ask for is bounded, in depth and in what its
//! aliases unfold to.
//!
//! Absent on purpose: numbers to the base of 60 (`1:30`) and dates; both stay
//! texts.

use super::lenient::Lenient;
use super::not_yaml::{DEPTH_MAX, Fault, NotYaml, Place, VALUES_MAX, is_secret};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::collections::HashMap;

const MERGE: &str = "<<";

/// What a text says.
#[derive(Debug)]
pub(super) struct Parsed {
    pub value: Value,
    /// Keys that stand twice in one map.
    pub repeated: Vec<String>,
}

/// YAML as JSON, in the order it was written, with `<<` merged.
pub fn parse(text: &str) -> Result<Value, NotYaml> {
    read(text).map(|parsed| parsed.value)
}

/// The same, with what deserves a warning.
pub(super) fn read(text: &str) -> Result<Parsed, NotYaml> {
    let mut lenient = Lenient::new(text);
    loop {
        let Refusal { fault, index, place } = match read_once(&lenient.text) {
            Ok(parsed) => return Ok(parsed),
            Err(refusal) => refusal,
        };
        let Fault::Syntax(info) = &fault else {
            return Err(not_yaml(text, fault, lenient.as_written(place)));
        };
        if !lenient.mend(info, index, place) {
            return Err(not_yaml(text, fault, lenient.as_written(place)));
        }
    }
}

fn not_yaml(text: &str, fault: Fault, place: Place) -> NotYaml {
    let line = text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
    NotYaml { place, fault, is_template: line.contains("{{") || line.contains("{%") }
}

fn read_once(text: &str) -> Result<Parsed, Refusal> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        at: Marker::new(0, 1, 0),
        path: Vec::new(),
        anchors: HashMap::new(),
        values: 0,
        repeated: Vec::new(),
    };
    let mut value = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if value.is_some() => {
                return Err(reader.refusal(Fault::Documents));
            }
            Event::DocumentStart(_) => value = Some(reader.value(0)?),
            _ => {}
        }
    }
    Ok(Parsed { value: value.unwrap_or(Value::Null), repeated: reader.repeated })
}

/// A fault, and the character and the place where it was met.
struct Refusal {
    fault: Fault,
    index: usize,
    place: Place,
}

impl Refusal {
    fn at(marker: &Marker, fault: Fault) -> Refusal {
        let place = Place { line: marker.line(), column: marker.col() + 1 };
        Refusal { fault, index: marker.index(), place }
    }
}

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// Where the last event began.
    at: Marker,
    /// Keys on the way to the value that is read.
    path: Vec<String>,
    /// What was named, and how many values it holds.
    anchors: HashMap<usize, (Value, usize)>,
    values: usize,
    repeated: Vec<String>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, Refusal> {
        match self.events.next() {
            Some(Ok((event, span))) => {
                self.at = span.start;
                Ok(event)
            }
            Some(Err(error)) => {
                let fault = Fault::Syntax(without_values(error.info()));
                Err(Refusal::at(error.marker(), fault))
            }
            None => Ok(Event::StreamEnd),
        }
    }

    fn refusal(&self, fault: Fault) -> Refusal {
        Refusal::at(&self.at, fault)
    }

    fn unknown_tag(&self, tag: &Tag) -> Refusal {
        let is_secret = self.path.iter().any(|key| is_secret(key));
        self.refusal(Fault::Tag((!is_secret).then(|| tag.to_string())))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Refusal> {
        let event = self.next()?;
        self.value_of(event, depth)
    }

    fn value_of(&mut self, event: Event<'a>, depth: usize) -> Result<Value, Refusal> {
        self.count(1)?;
        if depth > DEPTH_MAX {
            return Err(self.refusal(Fault::TooLarge));
        }
        let before = self.values;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(&text, style, tag.as_deref())?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.only_tag(tag.as_deref(), "seq")?;
                (self.sequence(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.only_tag(tag.as_deref(), "map")?;
                (self.mapping(depth)?, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor),
            _ => return Err(self.refusal(Fault::Syntax("a value is missing".into()))),
        };
        // Anchors are numbered from 1.
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), self.values - before));
        }
        Ok(value)
    }

    fn count(&mut self, values: usize) -> Result<(), Refusal> {
        self.values += values;
        if self.values > VALUES_MAX { Err(self.refusal(Fault::TooLarge)) } else { Ok(()) }
    }

    fn alias(&mut self, anchor: usize) -> Result<Value, Refusal> {
        let named = self.anchors.get(&anchor).cloned();
        let (value, size) = named.ok_or_else(|| self.refusal(Fault::Alias))?;
        self.count(size)?;
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Refusal> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::Array(items)),
                event => items.push(self.value_of(event, depth + 1)?),
            }
        }
    }

    /// Own keys win over merged ones, and the first merged map over the next.
    fn mapping(&mut self, depth: usize) -> Result<Value, Refusal> {
        let mut own = Map::new();
        let mut merged = Map::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => break,
                event => self.key(event, depth)?,
            };
            match key {
                Key::Merge => {
                    let value = self.value(depth + 1)?;
                    merge_into(&mut merged, value).map_err(|fault| self.refusal(fault))?;
                }
                Key::Text(key) => {
                    self.path.push(key.clone());
                    let value = self.value(depth + 1)?;
                    self.path.pop();
                    if own.insert(key.clone(), value).is_some() {
                        self.repeated.push(key);
                    }
                }
            }
        }
        for (key, value) in merged {
            own.entry(key).or_insert(value);
        }
        Ok(Value::Object(own))
    }

    fn key(&mut self, event: Event<'a>, depth: usize) -> Result<Key, Refusal> {
        if let Event::Scalar(text, ScalarStyle::Plain, _, None) = &event
            && text == MERGE
        {
            return Ok(Key::Merge);
        }
        let begin = self.at;
        match self.value_of(event, depth + 1)? {
            Value::String(text) => Ok(Key::Text(text)),
            Value::Array(_) | Value::Object(_) => Err(Refusal::at(&begin, Fault::Key)),
            plain => Ok(Key::Text(plain.to_string())),
        }
    }

    fn only_tag(&self, tag: Option<&Tag>, wanted: &str) -> Result<(), Refusal> {
        match tag {
            Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == wanted) => {
                Err(self.unknown_tag(tag))
            }
            _ => Ok(()),
        }
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Refusal> {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
                "str" => Ok(Value::from(text)),
                "int" | "float" | "bool" | "null" => Ok(plain(text)),
                _ => Err(self.unknown_tag(tag)),
            },
            // A bare `!`: as written.
            Some(tag) if tag.suffix.is_empty() || tag.suffix == "!" => Ok(Value::from(text)),
            Some(tag) => Err(self.unknown_tag(tag)),
            None if style == ScalarStyle::Plain => Ok(plain(text)),
            None => Ok(Value::from(text)),
        }
    }
}

/// The parser's words, without the one character of the text that they may hold.
fn without_values(info: &str) -> String {
    match info.starts_with("unexpected character") {
        true => "a value begins with a character that needs quotes".to_string(),
        false => info.to_string(),
    }
}

enum Key {
    Merge,
    Text(String),
}

fn merge_into(merged: &mut Map<String, Value>, source: Value) -> Result<(), Fault> {
    let sources = match source {
        Value::Array(items) => items,
        single => vec![single],
    };
    for source in sources {
        let Value::Object(source) = source else {
            return Err(Fault::Merge);
        };
        for (key, value) in source {
            merged.entry(key).or_insert(value);
        }
    }
    Ok(())
}

/// What version 1.1 takes an unquoted word for.
pub fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    whole(text).or_else(|| real(text)).unwrap_or_else(|| Value::from(text))
}

/// `_` may stand between digits.
fn digits(text: &str) -> Cow<'_, str> {
    if text.contains('_') { Cow::Owned(text.replace('_', "")) } else { Cow::Borrowed(text) }
}

/// A number that is too large stays a text.
fn whole(text: &str) -> Option<Value> {
    let (sign, size) = match text.strip_prefix(['-', '+']) {
        Some(size) => (&text[..1], size),
        None => ("", text),
    };
    if !size.starts_with(|c: char| c.is_ascii_digit()) || size.contains(['+', '-']) {
        return None;
    }
    let (radix, size) = match size.as_bytes() {
        [b'0', b'b', ..] => (2, &size[2..]),
        [b'0', b'x', ..] => (16, &size[2..]),
        [b'0', _, ..] => (8, &size[1..]),
        _ => (10, size),
    };
    let size = digits(size);
    if sign == "-" {
        return i64::from_str_radix(&format!("-{size}"), radix).ok().map(Value::from);
    }
    u64::from_str_radix(&size, radix).ok().map(Value::from)
}

/// With a point; an exponent needs its sign. JSON has no infinity: that stays
/// a text.
fn real(text: &str) -> Option<Value> {
    let size = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match size.find(['e', 'E']) {
        Some(at) => (&size[..at], Some(&size[at + 1..])),
        None => (size, None),
    };
    let (before, after) = mantissa.split_once('.')?;
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let starts_well = mantissa.starts_with(|c: char| c.is_ascii_digit())
        || after.starts_with(|c: char| c.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let size = exponent.strip_prefix(['-', '+']);
        size.is_some_and(|size| !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit()))
    });
    if !(starts_well && all_digits(before) && all_digits(after) && exponent_fits) {
        return None;
    }
    let number: f64 = digits(text).parse().ok()?;
    Number::from_f64(number).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn unquoted_words_are_read_as_in_version_1_1() {
        let cases = [
            ("on", json!(true)),
            ("Yes", json!(true)),
            ("off", json!(false)),
            ("NO", json!(false)),
            ("'on'", json!("on")),
            ("\"no\"", json!("no")),
            ("y", json!("y")),
            ("oN", json!("oN")),
            ("0600", json!(0o600)),
            ("0x1F", json!(31)),
            ("0b11", json!(3)),
            ("-0640", json!(-0o640)),
            ("1_000", json!(1000)),
            ("089", json!("089")),
            ("0", json!(0)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("1e3", json!("1e3")),
            ("1.0e+3", json!(1000.0)),
            ("1.2.3", json!("1.2.3")),
            ("127.0.0.1", json!("127.0.0.1")),
            ("+", json!("+")),
            ("1:30", json!("1:30")),
            (".inf", json!(".inf")),
            ("2024-01-02", json!("2024-01-02")),
            ("99999999999999999999", json!("99999999999999999999")),
            ("~", Value::Null),
            ("!!str 5", json!("5")),
            ("!!int '5'", json!(5)),
            ("! 5", json!("5")),
            ("|\n  on\n", json!("on\n")),
        ];
        for (text, wanted) in cases {
            let value = parse(&format!("a: {text}")).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(value["a"], wanted, "{text}");
        }
    }

    #[test]
    fn merges_chain_and_own_keys_win() {
        let text = "a: &a {x: 1, y: 1}\nb: &b\n  <<: *a\n  y: 2\nc:\n  <<: [*b, *a]\n  z: 3\n";
        let value = parse(text).unwrap();
        assert_eq!(value["c"], json!({"z": 3, "y": 2, "x": 1}));
        assert_eq!(parse("'<<': 1").unwrap(), json!({"<<": 1}));
    }

    #[test]
    fn the_order_stays_and_the_last_of_equal_keys_wins() {
        let parsed = read("z: 1\na: 2\n1: x\nz: 3\n").unwrap();
        assert_eq!(parsed.value.to_string(), r#"{"z":3,"a":2,"1":"x"}"#);
        assert_eq!(parsed.repeated, ["z"]);
        assert_eq!(parse("").unwrap(), Value::Null);
    }

    #[test]
    fn what_is_no_configuration_is_refused_in_words() {
        for text in ["a: !x 1", "? {a: b}\n: c", "<<: 5", "a: [", "a: 1\n---\nb: 2", "a: *b"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let error = parse("a: 1\nb: [").unwrap_err().to_string();
        assert!(error.contains("in line "), "{error}");
    }

    #[test]
    fn what_unfolds_for_ever_is_refused() {
        let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
        for (name, of) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e")] {
            let many = vec![format!("*{of}"); 10].join(", ");
            text.push_str(&format!("{name}: &{name} [{many}]\n"));
        }
        let fault = |text: &str| parse(text).unwrap_err().fault;
        assert_eq!(fault(&text), Fault::TooLarge);
        assert!(matches!(fault(&"[".repeat(200)), Fault::TooLarge | Fault::Syntax(_)));
        assert_eq!(fault("a: &a [*a]"), Fault::Alias);
    }

    #[test]
    fn p5_what_is_wrong_has_a_place_and_a_remedy() {
        for (text, place, part, remedy) in [
            ("a: 1\nb: !vault x\n", (2, 4), "the tag `!vault` is not known", "quote it"),
            ("a: 1\nb: !vault |\n  x\n", (2, 4), "the tag `!vault` is not known", "quote it"),
            ("a:\n  b: !inc {c: 1}\n", (2, 6), "the tag `!inc` is not known", "quote it"),
            ("a: 1\nb: {{ c }}\n", (2, 5), "stands where a key belongs", "template"),
            ("? {a: b}\n: c\n", (1, 3), "stands where a key belongs", "quote"),
            ("a: 1\n---\nb: 2\n", (2, 1), "a second document begins", "`---`"),
            ("a: 1\nb: {{ c }}-x\n", (2, 5), "stands where a key belongs", "template"),
            ("a: 1\nb: *c\n", (2, 4), "", "quote"),
            ("a: 1\n<<: 5\n", (2, 5), "`<<` wants", "quote"),
            ("a: 1\nb: @c\n", (2, 4), "needs quotes", "quote"),
            ("a: b: c\n", (1, 5), "", "quote"),
        ] {
            let error = parse(text).unwrap_err();
            let found = (error.place.line, error.place.column);
            assert_eq!(found, place, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert!(error.remedy().contains(remedy), "{text}: {error}");
        }
    }

    #[test]
    fn p5_a_secret_is_never_repeated() {
        for value in [
            "!hidden",
            "!hidden x",
            "{{ hidden }}",
            "*hidden",
            "@hidden",
            "%hidden",
            "`hidden`",
            "[hidden",
            "{hidden: {a: b}: c}",
            "'hidden",
            "a: hidden",
            "&hidden !hid x",
            "!<hidden> x",
            "hidden\nhidden",
            "!hidden {a: !hidden b}",
            "|9\nhidden",
        ] {
            for text in [
                format!("password: {value}\n"),
                format!("a:\n  rewind: {{username: u, password: {value}}}\n"),
                format!("a:\n- sslpassword: {value}\n"),
            ] {
                let Err(error) = parse(&text) else { continue };
                assert!(!error.to_string().contains("hid"), "{text}: {error}");
            }
        }
    }

    #[test]
    fn p3_a_quoted_text_may_go_on_at_the_left_edge() {
        for (text, wanted) in [
            ("a:\n  b: \"x\ny\"\n  c: 1\n", json!({"a": {"b": "x y", "c": 1}})),
            ("a:\n  b: 'x''\n\ny'\n  c: 1\n", json!({"a": {"b": "x'\ny", "c": 1}})),
            ("a:\n  b: \"x\\\ny\\\"\\\nz\"\n", json!({"a": {"b": "xy\"z"}})),
            ("a:\n  - \"é\ny\"\n  - 'z\nz'\n", json!({"a": ["é y", "z z"]})),
            (
                "a: {b: {c: \"x\ny\"}}\nd: \"x\r\ny\"\n",
                json!({"a": {"b": {"c": "x y"}}, "d": "x y"}),
            ),
        ] {
            assert_eq!(parse(text).unwrap_or_else(|e| panic!("{text}: {e}")), wanted, "{text}");
        }
        let error = parse("a:\n  b: \"x\ny\n").unwrap_err();
        assert_eq!(error.place.line, 2, "{error}");
    }

    #[test]
    fn p3_brackets_may_close_at_the_left_edge() {
        for (text, wanted) in [
            ("a:\n  b: [\n    x\n]\n  c: 1\n", json!({"a": {"b": ["x"], "c": 1}})),
            ("a:\n  b: [x,\ny]\n", json!({"a": {"b": ["x", "y"]}})),
            ("a: [b,\nc]\nd: {e: 1,\nf: 2\n}\n", json!({"a": ["b", "c"], "d": {"e": 1, "f": 2}})),
            ("a:\n  b: [ # c\n  x, # d\n  y\n  ]\n", json!({"a": {"b": ["x", "y"]}})),
            (
                "a:\n  b: {\n  c: \"x\n y\",\n d: [\n1\n]\n}\n",
                json!({"a": {"b": {"c": "x y", "d": [1]}}}),
            ),
            ("a:\n  b: \"x\n\ty\"\n", json!({"a": {"b": "x y"}})),
            ("a: 'x'#c\nb: 1\n", json!({"a": "x", "b": 1})),
        ] {
            assert_eq!(parse(text).unwrap_or_else(|e| panic!("{text}: {e}")), wanted, "{text}");
        }
        // A place counts as it was written, behind what was mended too.
        let error = parse("a:\n  b: [\nx, y: !z 1]\n").unwrap_err();
        assert_eq!((error.place.line, error.place.column), (3, 7), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z:\\-{}\\[\\],&*<!| \n'\"0-9.]{0,80}") {
            let _ = parse(&text);
        }
    }
}
