//! Python's format strings: `%(asctime)s %(levelname)-8s %(message)s`.
//!
//! Users' files hold them, so they are understood here: every attribute of
//! Python's log records that has a meaning, with flags, width and precision.
//! Reading is total: what is not understood is told as a warning when the
//! configuration is read, and stands in the line as it was written.

use serde_json::Value as Json;
use std::fmt::Write;

/// Attributes that a record has. Others are told by `Format::unknown`.
const FIELDS: [&str; 20] = [
    "asctime",
    "created",
    "exc_info",
    "filename",
    "funcName",
    "levelname",
    "levelno",
    "lineno",
    "message",
    "module",
    "msecs",
    "name",
    "pathname",
    "process",
    "processName",
    "relativeCreated",
    "stack_info",
    "taskName",
    "thread",
    "threadName",
];
/// No line needs a wider field.
const WIDTH_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Field { name: String, look: Look },
}

/// What stands between `)` and the letter.
#[derive(Clone, Debug, Default, PartialEq)]
struct Look {
    left: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
    letter: char,
}

/// A format string that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Format(Vec<Piece>);

impl Default for Format {
    fn default() -> Format {
        Format::read("%(asctime)s %(levelname)s: %(message)s")
    }
}

impl Format {
    pub(crate) fn read(text: &str) -> Format {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(next) = after.strip_prefix('%') {
                plain.push('%');
                rest = next;
            } else if let Some((piece, next)) = field(after) {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(piece);
                rest = next;
            } else {
                plain.push('%');
                rest = after;
            }
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Format(pieces)
    }

    /// Names of fields, in order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field { name, .. } => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Names that no record has.
    pub(crate) fn unknown(&self) -> Vec<String> {
        let unknown = self.fields().filter(|name| !is_field(name));
        unknown.map(str::to_string).collect()
    }

    /// The line; `value` gives a field's value, where the record has it.
    pub(crate) fn render(&self, value: impl Fn(&str) -> Option<Value>) -> String {
        let mut line = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Field { name, look } => match value(name) {
                    Some(value) => look.write(&value, &mut line),
                    None => line.push_str(&format!("%({name}){}", look.letter)),
                },
            }
        }
        line
    }
}

pub(crate) fn is_field(name: &str) -> bool {
    FIELDS.contains(&name)
}

/// `(name)-8s` and what follows; `None` when it is no field.
fn field(text: &str) -> Option<(Piece, &str)> {
    let (name, rest) = text.strip_prefix('(')?.split_once(')')?;
    let mut look = Look::default();
    let mut chars = rest.char_indices().peekable();
    while let Some((_, flag)) = chars.next_if(|(_, c)| "-0+ #".contains(*c)) {
        look.left |= flag == '-';
        look.zeros |= flag == '0';
    }
    let number = |chars: &mut std::iter::Peekable<std::str::CharIndices>| {
        let mut number = 0usize;
        while let Some((_, digit)) = chars.next_if(|(_, c)| c.is_ascii_digit()) {
            number = (number * 10 + digit as usize - '0' as usize).min(WIDTH_MAX);
        }
        number
    };
    look.width = number(&mut chars);
    if chars.next_if(|(_, c)| *c == '.').is_some() {
        look.precision = Some(number(&mut chars));
    }
    let (at, letter) = chars.next().filter(|(_, c)| "sdifr".contains(*c))?;
    look.letter = letter;
    Some((Piece::Field { name: name.to_string(), look }, &rest[at + 1..]))
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Number(f64),
    Whole(i64),
}

impl Look {
    fn write(&self, value: &Value, line: &mut String) {
        let text = match (value, self.letter) {
            (Value::Text(text), _) => match self.precision {
                Some(precision) => text.chars().take(precision).collect(),
                None => text.clone(),
            },
            (Value::Number(number), 'd' | 'i') => format!("{}", number.trunc()),
            (Value::Number(number), 'f') => {
                format!("{number:.*}", self.precision.unwrap_or(6))
            }
            (Value::Number(number), _) => number.to_string(),
            (Value::Whole(number), 'f') => {
                format!("{:.*}", self.precision.unwrap_or(6), *number as f64)
            }
            (Value::Whole(number), _) => number.to_string(),
        };
        let missing = self.width.saturating_sub(text.chars().count());
        let zeros = self.zeros && !self.left && !matches!(value, Value::Text(_));
        let pad = if zeros { "0" } else { " " }.repeat(missing);
        // Writing into a text never fails.
        let _ = if self.left { write!(line, "{text}{pad}") } else { write!(line, "{pad}{text}") };
    }
}

/// A list of names and one-pair maps, or the fields of a format string.
pub(crate) fn json_fields(format: &Json) -> Vec<(String, String)> {
    let named = |name: &str| (name.to_string(), name.to_string());
    let Some(items) = format.as_array() else {
        let format = format.as_str().map(Format::read).unwrap_or_default();
        return format.fields().map(named).collect();
    };
    let mut fields = Vec::new();
    for item in items {
        match item {
            Json::String(name) => fields.push(named(name)),
            Json::Object(pair) => fields.extend(
                pair.iter()
                    .filter_map(|(name, key)| Some((name.clone(), key.as_str()?.to_string()))),
            ),
            _ => {}
        }
    }
    fields
}
