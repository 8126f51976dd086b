//! Python's format strings: `%(asctime)s %(levelname)-8s %(message)s`.
//!
//! Users' files hold them, so they are understood here: every attribute of
//! Python's log records that has a meaning, with flags, width and precision.
//! Reading is total: what is not understood is told as a warning when the
//! configuration is read, and stands in the line as it was written.

use super::form::Record;
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
pub struct Format(Vec<Piece>);

impl Default for Format {
    fn default() -> Format {
        Format::read("%(asctime)s %(levelname)s: %(message)s")
    }
}

impl Format {
    pub fn read(text: &str) -> Format {
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
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field { name, .. } => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Names that no record has.
    pub fn unknown(&self) -> Vec<String> {
        let unknown = self.fields().filter(|name| !is_field(name));
        unknown.map(str::to_string).collect()
    }

    pub(super) fn render(&self, record: &Record, asctime: &str) -> String {
        let mut line = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Field { name, look } => match record.field(name, asctime) {
                    Some(value) => look.write(&value, &mut line),
                    None => line.push_str(&format!("%({name}){}", look.letter)),
                },
            }
        }
        line
    }
}

pub fn is_field(name: &str) -> bool {
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
pub(super) enum Value {
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

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;
    use tracing::Level;

    fn render(format: &str) -> String {
        let moment = Timestamp::from_millisecond(1_795_208_005_007).unwrap();
        let record = Record {
            now: moment.to_zoned_datetime(TimeZone::UTC),
            level: Level::WARN,
            target: "node::dcs::etcd",
            file: "node/src/dcs/etcd.rs",
            line: 42,
            message: "it failed",
        };
        Format::read(format).render(&record, "NOW")
    }

    #[test]
    fn common_formats_are_understood() {
        assert_eq!(render("%(asctime)s %(levelname)s: %(message)s"), "NOW WARNING: it failed");
        assert_eq!(
            render("[%(levelname)-8s] %(name)s.%(module)s:%(lineno)d"),
            "[WARNING ] node.dcs.etcd.etcd:42"
        );
        assert_eq!(render("%(msecs)03d|%(levelno)5s|%(created)f"), "007|   30|1795208005.007000");
        assert_eq!(render("%(levelname).1s %(filename)s 100%%"), "W etcd.rs 100%");
        let pid = std::process::id();
        assert_eq!(render("%(process)d %(processName)s"), format!("{pid} MainProcess"));
    }

    #[test]
    fn what_is_not_understood_stays_and_is_told() {
        assert_eq!(render("%(nonsense)s %x 5% %(message"), "%(nonsense)s %x 5% %(message");
        assert_eq!(Format::read("%(a)s %(message)s %(b)d").unknown(), ["a", "b"]);
        assert!(Format::default().unknown().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_a_format(text in "[%(){}a-z .0-9\u{e9}-]{0,40}") {
            render(&text);
        }

        #[test]
        fn text_without_percent_is_itself(text in "[^%]{0,40}") {
            prop_assert_eq!(render(&text), text);
        }
    }
}
