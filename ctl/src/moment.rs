//! Times as operators write them and as the store keeps them.

use anyhow::{Result, anyhow};
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ZonedDateTime};

/// When something is to happen: `None` is now.
pub(crate) fn parse_schedule(text: &str) -> Result<Option<String>> {
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

/// A time without a zone is the local one.
pub(crate) fn parse(text: &str) -> Option<ZonedDateTime> {
    // `date` prints a blank before the offset.
    let text = text.replace(" +", "+").replace(" -", "-");
    // The offset counts: a zone by name beside it might say something else.
    let pieces = Pieces::parse(&text).ok().filter(|p| p.time_zone_annotation().is_none())?;
    let zone = pieces.to_numeric_offset().map_or_else(TimeZone::system, TimeZone::fixed);
    pieces.date().to_datetime(pieces.time().unwrap_or_default()).to_zoned_datetime(zone).ok()
}

/// A moment of the Unix clock, in local time.
pub(crate) fn of_ms(ms: u64) -> Option<ZonedDateTime> {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok())?;
    Some(at.to_zoned_datetime(TimeZone::system()))
}

/// The same as a text with its offset, to the second.
pub(crate) fn text_of_ms(ms: u64) -> String {
    let at = of_ms(ms).map(|at| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
    at.unwrap_or_else(|| "?".to_string())
}

/// ISO 8601 with zone; a fraction only when there is one.
fn iso(at: &ZonedDateTime) -> String {
    let whole = at.subsec_nanosecond() < 1_000;
    let form = if whole { "%Y-%m-%dT%H:%M:%S%:z" } else { "%Y-%m-%dT%H:%M:%S%.6f%:z" };
    at.strftime(form).to_string()
}

/// To the second, as `list -t` and progress lines show it.
pub(crate) fn to_the_second(at: &ZonedDateTime) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// With five digits of the second's fraction, as answers are stamped.
pub(crate) fn stamp(at: &ZonedDateTime) -> String {
    format!("{}.{:05}", to_the_second(at), at.subsec_nanosecond() / 10_000)
}

/// An hour from now, as an example in a question.
pub(crate) fn example(now: &ZonedDateTime) -> String {
    (now + SignedDuration::from_hours(1)).strftime("%Y-%m-%dT%H:%M").to_string()
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
        let printed = "2035-06-01 12:30:00 +0000";
        assert_eq!(parse_schedule(printed).unwrap().as_deref(), Some(text));
        assert_eq!(parse_schedule(" NOW ").unwrap(), None);
    }

    #[test]
    fn without_a_zone_it_is_local_and_nonsense_is_named() {
        let local = parse("2035-06-01T12:30").unwrap();
        assert_eq!(local.datetime().to_string(), "2035-06-01T12:30:00");
        assert!(parse("2035-06-01T12:30[America/New_York]").is_none());
        assert!(parse_schedule("tomorrow").unwrap_err().to_string().contains("(tomorrow)"));
    }

    #[test]
    fn stamps_have_five_digits() {
        let at = Timestamp::new(1_795_000_000, 4_560_000).unwrap().to_zoned_datetime(TimeZone::UTC);
        assert!(stamp(&at).ends_with(".00456"), "{}", stamp(&at));
    }
}
