//! Values of settings as PostgreSQL reads and shows them.
//!
//! `1024kB`, `1MB` and `1024` of a setting in kilobytes are one value; a reload
//! or a restart is due only for another value, and an operator is shown the
//! form that `SHOW` prints.
//!
//! Absent on purpose: which values are possible. PostgreSQL itself is asked
//! (`judge.rs`).

use super::spelling::boolean;
use topology::number::{BYTES, MICROSECONDS, with_unit};

/// What `pg_settings` tells about one setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nature {
    /// `bool`, `integer`, `real`, `enum` or `string`.
    pub kind: String,
    /// `kB`, `8kB`, `ms`, ...; of a number without suffix.
    pub unit: Option<String>,
}

impl Nature {
    pub(crate) fn new(kind: &str, unit: Option<&str>) -> Nature {
        Nature { kind: kind.to_string(), unit: unit.map(str::to_string) }
    }

    /// Do both texts mean the same to PostgreSQL?
    pub(crate) fn is_same(&self, one: &str, other: &str) -> bool {
        let equal = |read: &dyn Fn(&str) -> Option<String>| {
            let one = read(one);
            one.is_some() && one == read(other)
        };
        one == other
            || match self.kind.as_str() {
                "bool" => equal(&|text| any_boolean(text).map(str::to_string)),
                "integer" => equal(&|text| Some(format!("{}", self.number(text)?.round()))),
                "real" => equal(&|text| Some(format!("{}", self.number(text)?))),
                "enum" => one.eq_ignore_ascii_case(other),
                _ => false,
            }
    }

    /// As `SHOW` prints it.
    pub(crate) fn shown(&self, text: &str) -> String {
        match self.kind.as_str() {
            "bool" => any_boolean(text).map_or_else(|| text.to_string(), str::to_string),
            "integer" => self.number(text).map_or_else(|| text.to_string(), |n| self.grown(n)),
            "real" => self.number(text).map_or_else(|| text.to_string(), |n| self.grown(n)),
            _ => text.to_string(),
        }
    }

    /// The value in the setting's own unit.
    fn number(&self, text: &str) -> Option<f64> {
        let (number, suffix) = with_unit(text)?;
        if suffix.is_empty() {
            return Some(number);
        }
        let (base, units) = self.base()?;
        let (_, factor) = units.iter().find(|(name, _)| *name == suffix)?;
        Some(number * factor / base)
    }

    /// One of the own unit, in bytes or microseconds.
    fn base(&self) -> Option<(f64, &'static [(&'static str, f64)])> {
        let unit = self.unit.as_deref()?;
        let (count, name) = unit.split_at(unit.find(|c: char| !c.is_ascii_digit())?);
        let count: f64 = if count.is_empty() { 1.0 } else { count.parse().ok()? };
        let tables: [&[(&str, f64)]; 2] = [&BYTES, &MICROSECONDS];
        tables.into_iter().find_map(|units| {
            let (_, factor) = units.iter().find(|(unit, _)| *unit == name)?;
            Some((count * factor, units))
        })
    }

    /// The largest unit that divides it evenly. 0 and what switches a setting
    /// off (-1) have none.
    fn grown(&self, number: f64) -> String {
        let number = if self.kind == "integer" { number.round() } else { number };
        let Some((base, units)) = self.base().filter(|_| number > 0.0) else {
            return format!("{number}");
        };
        let whole = number * base;
        let even = units.iter().find(|(_, factor)| (whole / factor).fract() == 0.0);
        match even {
            Some((name, factor)) => format!("{}{name}", whole / factor),
            None => format!("{number}"),
        }
    }
}

/// Every spelling that a boolean of PostgreSQL may have.
fn any_boolean(text: &str) -> Option<&'static str> {
    let text = text.trim().to_lowercase();
    let of = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    match () {
        () if boolean(&text).is_some() => boolean(&text),
        () if of("true", 1) || of("yes", 1) => Some("on"),
        () if of("false", 1) || of("no", 1) || of("off", 2) => Some("off"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_many_spellings() {
        let kb = Nature::new("integer", Some("kB"));
        for text in ["1MB", "1024kB", "1024", "0x400", "02000", " 1.024e3 kB", "1048576B"] {
            assert!(kb.is_same("1024", text), "{text}");
        }
        assert!(!kb.is_same("1024", "1025") && !kb.is_same("1MB", "1mb"));
        let pages = Nature::new("integer", Some("8kB"));
        assert!(pages.is_same("16384", "128MB"));
        assert!(Nature::new("integer", Some("ms")).is_same("60s", "1min"));
        assert!(Nature::new("real", None).is_same("1.10", "1.1"));
        assert!(Nature::new("bool", None).is_same("on", "TRUE"));
        assert!(Nature::new("bool", None).is_same("f", "off"));
        assert!(Nature::new("enum", None).is_same("Replica", "replica"));
        assert!(!Nature::new("string", None).is_same("1MB", "1024kB"));
    }

    #[test]
    fn values_are_shown_as_postgresql_does() {
        let shown = |unit: Option<&str>, text: &str| Nature::new("integer", unit).shown(text);
        assert_eq!(shown(Some("8kB"), "16384"), "128MB");
        assert_eq!(shown(Some("kB"), "1025"), "1025kB");
        assert_eq!(shown(Some("MB"), "2048"), "2GB");
        assert_eq!(shown(Some("s"), "90"), "90s");
        assert_eq!(shown(Some("s"), "3600"), "1h");
        assert_eq!(shown(Some("ms"), "-1"), "-1");
        assert_eq!(shown(None, "100"), "100");
        assert_eq!(Nature::new("bool", None).shown("yes"), "on");
        assert_eq!(Nature::new("real", Some("ms")).shown("2"), "2ms");
        assert_eq!(Nature::new("string", None).shown("%m "), "%m ");
    }
}
