//! Moments that operators write: when to switch, when to restart.
//!
//! A moment needs its zone; without one two machines would disagree.

use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use topology::number::{Base, split_decimal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadMoment {
    Unreadable,
    NoZone,
    Past,
}

/// Reads a moment that must not have passed and says it as it is stored.
pub(super) fn future_moment(text: &str, now: Timestamp) -> Result<String, BadMoment> {
    let moment = read(text)?;
    if moment.timestamp() <= now { Err(BadMoment::Past) } else { Ok(iso(&moment)) }
}

fn read(text: &str) -> Result<ZonedDateTime, BadMoment> {
    let text = plain(text);
    let pieces = Pieces::parse(&text).map_err(|_| BadMoment::Unreadable)?;
    let offset = pieces.to_numeric_offset().ok_or(BadMoment::NoZone)?;
    // Python, which may read it from the store, knows no larger offset and no name.
    if offset.seconds().abs() >= 86_400 || pieces.time_zone_annotation().is_some() {
        return Err(BadMoment::Unreadable);
    }
    let time = pieces.time().ok_or(BadMoment::Unreadable)?;
    let moment = pieces.date().to_datetime(time).to_zoned_datetime(TimeZone::fixed(offset));
    moment.map_err(|_| BadMoment::Unreadable)
}

/// `2030-01-01T10:00Z` as `2030-01-01 10:00+00:00`.
fn plain(text: &str) -> String {
    let text = text.trim();
    let utc = ["UTC", "Z", "z"].iter().find_map(|zone| text.strip_suffix(zone));
    let text = match utc {
        Some(bare) => format!("{}+00:00", bare.trim_end()),
        None => text.to_string(),
    };
    let (day, time) = text.split_once(['T', 't', ' ']).unwrap_or((&text, ""));
    format!("{day} {}", time.replace(' ', "")).trim_end().to_string()
}

fn iso(moment: &ZonedDateTime) -> String {
    let whole = moment.subsec_nanosecond() == 0;
    let form = if whole { "%Y-%m-%dT%H:%M:%S%:z" } else { "%Y-%m-%dT%H:%M:%S%.6f%:z" };
    moment.strftime(form).to_string()
}

/// Seconds as `30`, `"30"`, `"2min"`; `None` unless it is a positive span.
pub(super) fn positive_seconds(value: &serde_json::Value) -> Option<f64> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let (number, unit) = split_decimal(&text);
    let seconds = number.parse::<f64>().ok()? * Base::Seconds.factor(unit)?;
    (seconds > 0.0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn moments_of_many_spellings_are_stored_as_one() {
        for text in [
            "2035-06-01T12:30:00+00:00",
            "2035-06-01T12:30Z",
            "2035-06-01 12:30:00 UTC",
            "2035-06-01 12:30 +0000",
            "2035-06-01 12:30+00",
        ] {
            let read = future_moment(text, now());
            assert_eq!(read.as_deref(), Ok("2035-06-01T12:30:00+00:00"), "{text}");
        }
        let fine = future_moment("2035-06-01T12:30:00.25+02:00", now()).unwrap();
        assert_eq!(fine, "2035-06-01T12:30:00.250000+02:00");
    }

    #[test]
    fn refusals_have_names() {
        let refused = |text| future_moment(text, now()).unwrap_err();
        assert_eq!(refused("yesterday-ish"), BadMoment::Unreadable);
        assert_eq!(refused(""), BadMoment::Unreadable);
        assert_eq!(refused("2035-06-01T12:30:00+25:00"), BadMoment::Unreadable);
        assert_eq!(refused("2035-06-01T12:30:00+02:00[Europe/Berlin]"), BadMoment::Unreadable);
        assert_eq!(refused("2020-01-01T10:00:00"), BadMoment::NoZone);
        assert_eq!(refused("2035-01-01"), BadMoment::NoZone);
        assert_eq!(refused("2020-01-01T10:00:00+00:00"), BadMoment::Past);
    }

    #[test]
    fn spans_are_positive() {
        assert_eq!(positive_seconds(&json!("2min")), Some(120.0));
        assert_eq!(positive_seconds(&json!(5)), Some(5.0));
        for bad in [json!(-1), json!("abc"), json!(0), json!(null), json!("5 weeks")] {
            assert_eq!(positive_seconds(&bad), None);
        }
    }
}
