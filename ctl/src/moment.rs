//! Times as operators write them and as the store keeps them.

use anyhow::{Result, anyhow};
use chrono::{DateTime, FixedOffset, Local, NaiveDate, NaiveDateTime, TimeDelta, TimeZone};

/// A time without a zone is the local one.
const WITH_ZONE: [&str; 4] = [
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M%#z",
    "%Y-%m-%d %H:%M%#z",
];
const WITHOUT_ZONE: [&str; 4] =
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];

/// When something is to happen: `None` is now.
pub fn parse_schedule(text: &str) -> Result<Option<String>> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("now") {
        return Ok(None);
    }
    parse(text).map(|at| Some(iso(&at))).ok_or_else(|| {
        anyhow!(
            "Unable to parse scheduled timestamp ({text}). It should be in an unambiguous \
             format (e.g. ISO 8601)"
        )
    })
}

pub fn parse(text: &str) -> Option<DateTime<FixedOffset>> {
    let zoned = text.replace('Z', "+00:00");
    let with_zone = WITH_ZONE.iter().find_map(|f| DateTime::parse_from_str(&zoned, f).ok());
    with_zone.or_else(|| {
        let naive = WITHOUT_ZONE.iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok());
        let day = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
        let local = Local.from_local_datetime(&naive.or_else(day)?).earliest()?;
        Some(local.fixed_offset())
    })
}

/// ISO 8601 with zone; a fraction only when there is one.
fn iso(at: &DateTime<FixedOffset>) -> String {
    if at.timestamp_subsec_micros() == 0 {
        at.format("%Y-%m-%dT%H:%M:%S%:z").to_string()
    } else {
        at.format("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()
    }
}

/// To the second, as `list -t` and progress lines show it.
pub fn to_the_second(at: &DateTime<Local>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// With five digits of the second's fraction, as answers are stamped.
pub fn stamp(at: &DateTime<Local>) -> String {
    let fraction = (at.timestamp_subsec_micros() % 1_000_000) / 10;
    format!("{}.{fraction:05}", to_the_second(at))
}

/// An hour from now, as an example in a question.
pub fn example(now: &DateTime<Local>) -> String {
    (*now + TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_kept_and_blanks_understood() {
        let text = "2035-06-01T12:30:00+00:00";
        assert_eq!(parse_schedule(text).unwrap().as_deref(), Some(text));
        let blank = "2026-11-20 21:09:11.688230+02:00";
        assert_eq!(parse_schedule(blank).unwrap().unwrap(), "2026-11-20T21:09:11.688230+02:00");
        assert_eq!(parse_schedule("2035-06-01T12:30Z").unwrap().as_deref(), Some(text));
        assert_eq!(parse_schedule(" NOW ").unwrap(), None);
    }

    #[test]
    fn without_a_zone_it_is_local_and_nonsense_is_named() {
        let local = parse("2035-06-01T12:30").unwrap();
        assert_eq!(local.naive_local().to_string(), "2035-06-01 12:30:00");
        assert!(parse_schedule("tomorrow").unwrap_err().to_string().contains("(tomorrow)"));
    }

    #[test]
    fn stamps_have_five_digits() {
        let at = Local.timestamp_opt(1_795_000_000, 4_560_000).unwrap();
        assert!(stamp(&at).ends_with(".00456"), "{}", stamp(&at));
    }
}
