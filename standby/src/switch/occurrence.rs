//! The next occurrence of a schedule, by its cron line.
//!
//! `croner` searches on any type of date; here is what connects it to the one of `jiff`.
//! In a time zone with summer time, a line with a fixed hour is due once a day: an hour
//! that does not exist becomes the first moment after the gap, and of one that comes
//! twice the first counts.

use cron::errors::CronError;
use cron::parser::{CronParser, Seconds, Year};
use cron::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ZonedDateTime};
use std::cmp::Ordering;
use topology::schedule::{CronLine, Outcome, Schedule};

/// The schedule after its present occurrence: of a cron line the next one is due, later
/// than this one and than now. Also why there is none, if only a person may end it.
pub(super) fn concluded(
    schedule: &Schedule,
    outcome: &Outcome,
    now_ms: u64,
) -> (Schedule, Option<String>) {
    let ends = matches!(outcome, Outcome::Cancelled(_));
    let line = schedule.cron.as_ref().filter(|_| !ends);
    let next = line.map(|line| after(line, now_ms.max(schedule.due_ms.unwrap_or_default())));
    let (due_ms, why) = match next.transpose() {
        Ok(due_ms) => (due_ms, None),
        Err(why) => (None, Some(why)),
    };
    (schedule.concluded(outcome.clone(), due_ms, now_ms), why)
}

/// The first occurrence after a moment; both in milliseconds of the Unix clock.
pub fn after(cron: &CronLine, moment_ms: u64) -> Result<u64, String> {
    let CronLine { line, timezone } = cron;
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let parsed = parser.parse(line).map_err(|e| format!("cron line `{line}`: {e}"))?;
    let zone = TimeZone::get(timezone).map_err(|e| format!("time zone `{timezone}`: {e}"))?;
    let moment = i64::try_from(moment_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let moment = moment.ok_or("the clock is beyond all dates")?.to_zoned_datetime(zone);
    let next = parsed.find_next_occurrence(&Moment(moment), false);
    let next = next.map_err(|e| format!("cron line `{line}`: no occurrence: {e}"))?;
    u64::try_from(next.0.timestamp().as_millisecond()).map_err(|e| e.to_string())
}

/// A date with its zone, for the search.
#[derive(Clone)]
struct Moment(ZonedDateTime);

impl CronDateTime for Moment {
    fn to_civil(&self) -> CivilDateTime {
        let at = self.0.datetime();
        let date = CivilDate::from_parts_unchecked(
            i32::from(at.year()),
            u32::from(at.month().unsigned_abs()),
            u32::from(at.day().unsigned_abs()),
        );
        let [hour, minute, second] =
            [at.hour(), at.minute(), at.second()].map(|part| u32::from(part.unsigned_abs()));
        CivilDateTime::new(date, CivilTime::from_parts_unchecked(hour, minute, second))
    }

    fn civil_weekday(&self) -> Weekday {
        let day = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(day.unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Moment>, CronError> {
        let at = self.0.time_zone().to_ambiguous_zoned_datetime(date_of(civil)?);
        let known = |moment: Result<ZonedDateTime, jiff::Error>| {
            moment.map(Moment).map_err(|_| CronError::InvalidTime)
        };
        Ok(match at.offset() {
            AmbiguousOffset::Unambiguous { .. } => Resolution::Single(known(at.unambiguous())?),
            AmbiguousOffset::Fold { .. } => {
                Resolution::Ambiguous(known(at.clone().earlier())?, known(at.later())?)
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Moment> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Moment)
    }

    fn cmp_instant(&self, other: &Moment) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}

fn date_of(civil: CivilDateTime) -> Result<DateTime, CronError> {
    let parts = [civil.month(), civil.day(), civil.hour(), civil.minute(), civil.second()];
    let [month, day, hour, minute, second] =
        parts.map(|part| i8::try_from(part).expect("parts of a date are small"));
    let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
    DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| CronError::InvalidDate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: &str, timezone: &str) -> CronLine {
        CronLine { line: line.into(), timezone: timezone.into() }
    }

    fn ms(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond() as u64
    }

    /// The occurrences after a moment, in UTC.
    fn occurrences(cron: &CronLine, from: &str, count: usize) -> Vec<String> {
        let mut moment = ms(from);
        let mut found = Vec::new();
        for _ in 0..count {
            moment = after(cron, moment).unwrap();
            found.push(Timestamp::from_millisecond(moment as i64).unwrap().to_string());
        }
        found
    }

    #[test]
    fn five_fields_as_crontab_reads_them() {
        let sundays = line("30 3 * * SUN", "UTC");
        let found = occurrences(&sundays, "2026-11-29T03:30:00Z", 2);
        assert_eq!(found, ["2026-12-06T03:30:00Z", "2026-12-13T03:30:00Z"]);
        // Where both days are given, either of them is enough.
        let either = line("0 0 1 * 1", "UTC");
        let found = occurrences(&either, "2026-11-29T00:00:00Z", 3);
        let expected = ["2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z", "2026-12-07T00:00:00Z"];
        assert_eq!(found, expected);
    }

    #[test]
    fn summer_time_neither_drops_nor_doubles_a_day() {
        let daily = line("30 2 * * *", "Europe/Vienna");
        let found = occurrences(&daily, "2027-03-27T12:00:00Z", 2);
        assert_eq!(found, ["2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]);
        let found = occurrences(&daily, "2027-10-30T12:00:00Z", 2);
        assert_eq!(found, ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, zone, named) in [
            ("61 * * * *", "UTC", "61 * * * *"),
            ("0 0 3 * * *", "UTC", "cron line"),
            ("0 3 * * *", "Mars/Olympus", "Mars/Olympus"),
            ("0 0 31 2 *", "UTC", "no occurrence"),
        ] {
            let why = after(&line(text, zone), ms("2026-11-29T00:00:00Z")).unwrap_err();
            assert!(why.contains(named), "{why}");
        }
    }

    #[test]
    fn the_next_occurrence_is_later_than_this_one_and_than_now() {
        let due_ms = ms("2026-11-29T03:00:00Z");
        let schedule = Schedule {
            cron: Some(line("0 * * * *", "UTC")),
            ..Schedule::once("s", "a".into(), "b".into(), due_ms)
        };
        let skipped = Outcome::Skipped("late".into());
        let next = |now: &str| concluded(&schedule, &skipped, ms(now)).0.due_ms;
        assert_eq!(next("2026-11-29T03:00:05Z"), Some(ms("2026-11-29T04:00:00Z")));
        assert_eq!(next("2026-11-29T02:10:00Z"), Some(ms("2026-11-29T04:00:00Z")), "stepped back");
        assert_eq!(next("2026-12-01T00:30:00Z"), Some(ms("2026-12-01T01:00:00Z")), "was away");
        let cancelled = Outcome::Cancelled("by hand".into());
        let (over, _) = concluded(&schedule, &cancelled, due_ms);
        assert_eq!((over.due_ms, over.revision), (None, 2));
    }
}
