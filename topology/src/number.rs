//! Numbers as PostgreSQL reads its settings: sign, `0x` hexadecimal, leading-0
//! octal, decimal, fractions that are rounded, and units where a base is known.
//! The one table of units: whatever reads or writes one takes it from here.
//!
//! Numbers may be texts: other programs write `'30'`, people write `30min`.
//! Units are case-sensitive, as in PostgreSQL.
//!
//! Absent on purpose: which range is sensible (the caller knows).

use serde_json::Value;

/// What a number without a unit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Plain,
    Bytes,
    Seconds,
}

/// Units of memory in bytes, the largest first.
pub const BYTES: [(&str, f64); 5] = [
    ("TB", 1_099_511_627_776.0),
    ("GB", 1_073_741_824.0),
    ("MB", 1_048_576.0),
    ("kB", 1024.0),
    ("B", 1.0),
];
/// Units of time in microseconds, the largest first.
pub const MICROSECONDS: [(&str, f64); 6] = [
    ("d", 86_400_000_000.0),
    ("h", 3_600_000_000.0),
    ("min", 60_000_000.0),
    ("s", 1_000_000.0),
    ("ms", 1_000.0),
    ("us", 1.0),
];

impl Base {
    /// How many of the base one `unit` is; without a unit it is one.
    pub fn factor(self, unit: &str) -> Option<f64> {
        let (units, one): (&[(&str, f64)], f64) = match self {
            Base::Plain => (&[], 1.0),
            Base::Bytes => (&BYTES, 1.0),
            Base::Seconds => (&MICROSECONDS, 1_000_000.0),
        };
        if unit.is_empty() {
            return Some(1.0);
        }
        units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor / one)
    }
}

/// A whole number without a unit.
pub fn whole(value: &Value) -> Option<i64> {
    counted(value, Base::Plain)
}

/// A whole number of `base`; `30min` is 1800 seconds.
pub fn counted(value: &Value, base: Base) -> Option<i64> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (negative, rest) = sign(text.trim());
    let (digits, unit) = split_unit(rest);
    let factor = base.factor(unit)?;
    let size = match unsigned(digits)? {
        Read::Whole(number) if unit.is_empty() => number,
        Read::Whole(number) => rounded(number as f64 * factor)?,
        Read::Real(number) => rounded(number * factor)?,
    };
    Some(if negative { -size } else { size })
}

/// A number, and the unit behind it as it is written.
pub fn with_unit(text: &str) -> Option<(f64, &str)> {
    let (negative, rest) = sign(text.trim());
    let (digits, unit) = split_unit(rest);
    Some((signed(negative, digits)?, unit))
}

/// A number without a unit, and without blanks.
pub fn real(text: &str) -> Option<f64> {
    let (negative, digits) = sign(text);
    signed(negative, digits)
}

/// The decimal digits and points at the start, and what follows them: `1.5` and `GB`.
pub fn split_decimal(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn signed(negative: bool, digits: &str) -> Option<f64> {
    let size = match unsigned(digits)? {
        Read::Whole(number) => number as f64,
        Read::Real(number) => number,
    };
    Some(if negative { -size } else { size })
}

/// Whether the number is below 0, and its digits.
fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

enum Read {
    Whole(i64),
    Real(f64),
}

/// The unit is what follows the last digit or point; in hexadecimal a unit
/// needs a blank before it, for its letters are digits.
fn split_unit(text: &str) -> (&str, &str) {
    let end = match text.to_ascii_lowercase().starts_with("0x") {
        true => text.find(char::is_whitespace).unwrap_or(text.len()),
        false => text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |at| at + 1),
    };
    (&text[..end], text[end..].trim())
}

fn unsigned(digits: &str) -> Option<Read> {
    let first_is_digit = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let lower = digits.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return in_base(hex, 16);
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        return in_base(digits, 8);
    }
    if let Some(whole) = digits.parse().ok().filter(|_| first_is_digit) {
        return Some(Read::Whole(whole));
    }
    let real: f64 = digits.parse().ok().filter(|_| first_is_digit)?;
    real.is_finite().then_some(Read::Real(real))
}

fn in_base(digits: &str, radix: u32) -> Option<Read> {
    let plain = !digits.starts_with(['+', '-']);
    i64::from_str_radix(digits, radix).ok().filter(|_| plain).map(Read::Whole)
}

fn rounded(number: f64) -> Option<i64> {
    const MAX: f64 = 9e18;
    (number.is_finite() && number < MAX).then(|| number.round_ties_even() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn numbers_are_read_as_postgresql_does() {
        let cases = [
            (json!(5), Some(5)),
            (json!("5432"), Some(5432)),
            (json!(" -0x1F "), Some(-31)),
            (json!("0640"), Some(0o640)),
            (json!("2.6"), Some(3)),
            (json!("1e3"), Some(1000)),
            (json!(2.5), Some(2)),
            (json!("0"), Some(0)),
            (json!("089"), None),
            (json!("--5"), None),
            (json!("+-5"), None),
            (json!("nan"), None),
            (json!("1e300"), None),
            (json!("5s"), None),
            (json!(true), None),
            (json!(""), None),
        ];
        for (value, number) in cases {
            assert_eq!(whole(&value), number, "{value}");
        }
    }

    #[test]
    fn units_are_those_of_postgresql() {
        let seconds = |text: &str| counted(&json!(text), Base::Seconds);
        assert_eq!(seconds("30min"), Some(1800));
        assert_eq!(seconds("1.5 h"), Some(5400));
        assert_eq!(seconds("2d"), Some(172_800));
        assert_eq!(seconds("1600ms"), Some(2));
        assert_eq!(seconds("-1 min"), Some(-60));
        assert_eq!(seconds("0x10 min"), Some(960));
        assert_eq!((seconds("1 MIN"), seconds("1MB"), seconds("min")), (None, None, None));
        let bytes = |text: &str| counted(&json!(text), Base::Bytes);
        assert_eq!(
            (bytes("16MB"), bytes("1kB"), bytes("7B")),
            (Some(16 << 20), Some(1024), Some(7))
        );
        assert_eq!(bytes("1mb"), None);
        assert_eq!(with_unit(" -1.5 kB"), Some((-1.5, "kB")));
        assert_eq!((with_unit("0x10 s"), with_unit("s")), (Some((16.0, "s")), None));
        assert_eq!((split_decimal(" 1.5 GB"), split_decimal("")), (("1.5", "GB"), ("", "")));
        assert_eq!((real("-0x1F"), real(" 1"), real("1kB")), (Some(-31.0), None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}") {
            for base in [Base::Plain, Base::Bytes, Base::Seconds] {
                let _ = counted(&json!(text), base);
            }
        }

        #[test]
        fn whole_numbers_read_back(number in -(1i64 << 53)..(1i64 << 53)) {
            prop_assert_eq!(whole(&json!(number)), Some(number));
            prop_assert_eq!(whole(&json!(number.to_string())), Some(number));
        }
    }
}
