//! Where a local log ends, read from the log itself.
//!
//! pg_waldump reads it with PostgreSQL's own reader, so it stops where recovery
//! would. Nothing here changes the data directory.

use super::archive::segment_name;
use super::error::Error;
use super::run::run;
use crate::config::Postgresql;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;
use topology::{Lsn, Timeline};

/// A member whose server is down waits for the answer.
const LIMIT: Duration = Duration::from_secs(10);

/// Stands once in the line of each record.
const LENGTH: &str = "len (rec/tot):";

/// Said where the log ends before its first record.
const NOTHING: &str = "could not find a valid record after";

/// A place in the log of one timeline.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub timeline: Timeline,
    pub lsn: Lsn,
    pub segment_bytes: u64,
}

/// Where the checkpoint record at `place` ends. A log that goes on behind it is
/// no clean stop's: then where the next record ends.
pub async fn checkpoint_end(settings: &Postgresql, place: Place) -> Result<Lsn, Error> {
    let end = record_end(settings, place).await?;
    let mut command = waldump(settings, place);
    command.arg("--limit=2");
    // It fails at the end of the log, which is what a clean stop leaves.
    match run(command, LIMIT).await {
        Ok(text) if text.matches(LENGTH).count() > 1 => {
            record_end(settings, Place { lsn: end, ..place }).await
        }
        _ => Ok(end),
    }
}

/// The place of the record before, when that one closes a segment for the
/// archive; else `place` itself. A replica that lacks only the checkpoint behind
/// it would seem to lag by the rest of that segment.
pub async fn before_switch(settings: &Postgresql, place: Place) -> Result<Lsn, Error> {
    let dump = async |lsn| {
        let mut command = waldump(settings, Place { lsn, ..place });
        command.arg("--limit=1");
        run(command, LIMIT).await
    };
    let unclear = || Error::ToolUnclear { tool: "pg_waldump".into(), missing: "record before" };
    let before = previous(&dump(place.lsn).await?).ok_or_else(unclear)?;
    Ok(if is_switch(&dump(before).await?) { before } else { place.lsn })
}

/// Where the last valid record of the log ends that begins at `place`.
///
/// A segment that is not there ends the log as a record does that cannot be
/// read: PostgreSQL makes a segment for the first record that it writes there.
pub async fn log_end(settings: &Postgresql, place: Place) -> Result<Lsn, Error> {
    let mut command = waldump(settings, place);
    command.arg("--quiet");
    let unclear = || Error::ToolUnclear { tool: "pg_waldump".into(), missing: "end of log" };
    let error = match run(command, LIMIT).await {
        // It always ends with what it could not read any more.
        Ok(_) => return Err(unclear()),
        Err(error) => error,
    };
    let Error::ToolFailed { stderr, .. } = &error else { return Err(error) };
    if stderr.contains(NOTHING) {
        return Ok(place.lsn);
    }
    if let Some(gap) = missing_segment(stderr, place) {
        return end_before(settings, place, gap).await;
    }
    let last = last_record(stderr).ok_or(error)?;
    record_end(settings, Place { lsn: last, ..place }).await
}

/// Where the last valid record ends behind `place`, which a running standby has replayed.
///
/// The segments are named. Without that pg_waldump waits for one that is not there yet, and
/// takes the size of a segment from any file of the directory, which may be an empty one.
pub async fn end_ahead(settings: &Postgresql, place: Place) -> Result<Lsn, Error> {
    let Some(last) = last_segment(settings, place) else { return Ok(place.lsn) };
    let mut command = named(settings, place, last);
    command.arg("--quiet");
    match run(command, LIMIT).await {
        Ok(_) => end_before(settings, place, Lsn(last.0 + place.segment_bytes)).await,
        Err(Error::ToolFailed { stderr, .. }) if stderr.contains(NOTHING) => Ok(place.lsn),
        Err(Error::ToolFailed { stderr, .. }) if last_record(&stderr).is_some() => {
            let lsn = last_record(&stderr).expect("just seen");
            let record = Place { lsn, ..place };
            let mut command = named(settings, record, last);
            command.arg("--limit=1");
            end_in(&run(command, LIMIT).await?, record)
        }
        Err(error) => Err(error),
    }
}

/// Where the last one begins of the segments that follow each other from `place` on.
fn last_segment(settings: &Postgresql, place: Place) -> Option<Lsn> {
    let first = place.lsn.0.checked_rem(place.segment_bytes).map(|within| place.lsn.0 - within)?;
    if first == place.lsn.0 && !is_begun(&segment(settings, place), place.lsn) {
        return None;
    }
    let begins = (0..).map(|number| Lsn(first + number * place.segment_bytes));
    let is_there = |begin: &Lsn| segment(settings, Place { lsn: *begin, ..place }).exists();
    begins.take_while(is_there).last()
}

/// Its first page is that of this position: PostgreSQL keeps segments ready that are empty,
/// or have another one's content.
fn is_begun(segment: &Path, begin: Lsn) -> bool {
    const BEFORE_ADDRESS: u64 = 8;
    let mut address = [0; 8];
    let read =
        File::open(segment).and_then(|file| file.read_exact_at(&mut address, BEFORE_ADDRESS));
    read.is_ok() && u64::from_ne_bytes(address) == begin.0
}

/// The file in which `place` lies.
fn segment(settings: &Postgresql, place: Place) -> PathBuf {
    let name = segment_name(place.timeline, place.lsn, place.segment_bytes);
    settings.data_dir.join("pg_wal").join(name)
}

fn named(settings: &Postgresql, place: Place, last: Lsn) -> Command {
    let mut command = Command::new(settings.tool("pg_waldump"));
    command.arg(format!("--start={}", place.lsn));
    command.arg(segment(settings, place)).arg(segment(settings, Place { lsn: last, ..place }));
    command.envs([("LC_ALL", "C"), ("LANG", "C")]);
    command
}

/// Where the last record ends that lies between `place` and `gap`, where a
/// segment would begin that is not there. Looked for from behind: all records
/// of one segment at a time are enough to print.
async fn end_before(settings: &Postgresql, place: Place, gap: Lsn) -> Result<Lsn, Error> {
    let mut from = gap.0;
    while from > place.lsn.0 {
        from = from.saturating_sub(place.segment_bytes).max(place.lsn.0);
        let mut command = waldump(settings, Place { lsn: Lsn(from), ..place });
        command.arg(format!("--end={gap}"));
        let text = match run(command, LIMIT).await {
            Err(Error::ToolFailed { stderr, .. }) if stderr.contains(NOTHING) => continue,
            text => text?,
        };
        let last = text.lines().rfind(|line| line.contains(LENGTH));
        if let Some((last, at)) = last.and_then(|line| Some((line, own_place(line)?))) {
            return end_in(last, Place { lsn: at, ..place });
        }
    }
    Ok(place.lsn)
}

/// Where the record ends that begins at `place`.
async fn record_end(settings: &Postgresql, place: Place) -> Result<Lsn, Error> {
    let mut command = waldump(settings, place);
    command.arg("--limit=1");
    end_in(&run(command, LIMIT).await?, place)
}

/// The same, from the line that describes it. A record that closes a segment for
/// the archive takes all that is left of it.
fn end_in(text: &str, place: Place) -> Result<Lsn, Error> {
    let unclear = || Error::ToolUnclear { tool: "pg_waldump".into(), missing: "record length" };
    let length = record_length(text).ok_or_else(unclear)?;
    if is_switch(text) && place.segment_bytes > 0 {
        return Ok(Lsn((place.lsn.0 + 1).next_multiple_of(place.segment_bytes)));
    }
    Ok(end_of_record(place.lsn, length, place.segment_bytes))
}

fn waldump(settings: &Postgresql, place: Place) -> Command {
    let mut command = Command::new(settings.tool("pg_waldump"));
    command.arg("-p").arg(settings.data_dir.join("pg_wal"));
    command.arg(format!("--timeline={}", place.timeline)).arg(format!("--start={}", place.lsn));
    command.envs([("LC_ALL", "C"), ("LANG", "C")]);
    command
}

/// `... len (rec/tot):    114/   114, tx: ...`
fn record_length(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(LENGTH)?;
    let (lengths, _) = rest.split_once(',')?;
    lengths.split_once('/')?.1.trim().parse().ok()
}

/// `... lsn: 0/04000028, prev 0/03000148, desc: CHECKPOINT_SHUTDOWN ...`
fn previous(text: &str) -> Option<Lsn> {
    let (_, rest) = text.split_once(", prev ")?;
    rest.split_once(',')?.0.trim().parse().ok()
}

/// `... lsn: 0/04000028, prev ...`
fn own_place(text: &str) -> Option<Lsn> {
    let (_, rest) = text.split_once(", lsn: ")?;
    rest.split_once(',')?.0.trim().parse().ok()
}

fn is_switch(text: &str) -> bool {
    text.contains("desc: SWITCH")
}

/// `pg_waldump: error: error in WAL record at 0/3000158: ...`
fn last_record(stderr: &str) -> Option<Lsn> {
    let (_, rest) = stderr.rsplit_once("error in WAL record at ")?;
    rest.split_once(':')?.0.trim().parse().ok()
}

/// `pg_waldump: error: could not find file "000000010000000000000002": ...`: where
/// that segment begins, if it lies behind the one of `place`.
fn missing_segment(stderr: &str, place: Place) -> Option<Lsn> {
    let (_, rest) = stderr.rsplit_once("could not find file \"")?;
    let begin = segment_begin(rest.split('"').next()?, place)?;
    (begin > place.lsn).then_some(begin)
}

/// Where the segment of that name begins, if it is one of the timeline of `place`.
fn segment_begin(name: &str, place: Place) -> Option<Lsn> {
    let part = |range| u64::from_str_radix(name.get(range)?, 16).ok();
    let (timeline, high, low) = (part(0..8)?, part(8..16)?, part(16..24)?);
    let is_ours = timeline == u64::from(place.timeline.0) && place.segment_bytes > 0;
    is_ours.then(|| Lsn((high << 32) + low * place.segment_bytes))
}

/// A record that crosses into a new page goes on behind that page's header.
fn end_of_record(start: Lsn, length: u64, segment_bytes: u64) -> Lsn {
    const PAGE: u64 = 8192;
    const HEADER: u64 = 24;
    const SEGMENT_HEADER: u64 = 40;
    let mut at = start.0;
    let mut left = length;
    loop {
        let room = PAGE - at % PAGE;
        if left <= room {
            return Lsn((at + left).next_multiple_of(8));
        }
        left -= room;
        at += room;
        let first = segment_bytes > 0 && at.is_multiple_of(segment_bytes);
        at += if first { SEGMENT_HEADER } else { HEADER };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_may_cross_a_page() {
        const SEGMENT: u64 = 16 << 20;
        assert_eq!(end_of_record(Lsn(0x28), 114, SEGMENT), Lsn(0xA0));
        assert_eq!(end_of_record(Lsn(8192 - 64), 114, SEGMENT), Lsn(8192 + 24 + 56));
        assert_eq!(end_of_record(Lsn(SEGMENT - 64), 114, SEGMENT), Lsn(SEGMENT + 40 + 56));
    }

    #[test]
    fn record_lengths_are_read() {
        let text = "rmgr: XLOG  len (rec/tot):    114/   120, tx:          0, lsn: 0/0150";
        assert_eq!(record_length(text), Some(120));
        assert_eq!(record_length("nothing"), None);
    }

    #[test]
    fn a_segment_that_was_closed_is_told_from_its_last_record() {
        let text = "rmgr: XLOG  len (rec/tot):  114/ 114, tx: 0, lsn: 0/04000028, \
                    prev 0/03000148, desc: CHECKPOINT_SHUTDOWN redo 0/4000028";
        assert_eq!(previous(text), Some(Lsn(0x0300_0148)));
        assert!(!is_switch(text));
        let text = "rmgr: XLOG  len (rec/tot):  24/ 24, tx: 0, lsn: 0/03000148, \
                    prev 0/03000110, desc: SWITCH ";
        assert!(is_switch(text));
    }

    #[test]
    fn the_last_record_is_named_by_the_error_at_the_end() {
        let text = "pg_waldump: error: error in WAL record at 0/1560DA8: invalid record length \
                    at 0/1560DE0: wanted 24, got 0";
        assert_eq!(last_record(text), Some(Lsn(0x1560DA8)));
        assert_eq!(last_record("pg_waldump: error: could not find file"), None);
    }

    #[test]
    fn a_segment_that_is_not_there_is_named_by_the_error() {
        let at = |lsn| Place { timeline: Timeline(1), lsn: Lsn(lsn), segment_bytes: 16 << 20 };
        let text = |name: &str| {
            format!("pg_waldump: error: could not find file \"{name}\": No such file or directory")
        };
        let next = text("000000010000000A00000002");
        assert_eq!(missing_segment(&next, at(0xA_0100_0028)), Some(Lsn(0xA_0200_0000)));
        assert_eq!(missing_segment(&next, at(0xA_0200_0028)), None, "it lacks its beginning");
        assert_eq!(missing_segment(&text("000000020000000A00000002"), at(0x28)), None);
        assert_eq!(missing_segment(&text("pg_control"), at(0x28)), None);
    }

    #[test]
    fn a_record_that_closes_a_segment_ends_with_it() {
        let at = |lsn| Place { timeline: Timeline(1), lsn: Lsn(lsn), segment_bytes: 16 << 20 };
        let text = "rmgr: XLOG  len (rec/tot):  24/ 24, tx: 0, lsn: 0/03000148, \
                    prev 0/03000110, desc: SWITCH ";
        assert_eq!(own_place(text), Some(Lsn(0x0300_0148)));
        assert_eq!(end_in(text, at(0x0300_0148)).unwrap(), Lsn(0x0400_0000));
        let text = text.replace("SWITCH", "NOOP");
        assert_eq!(end_in(&text, at(0x0300_0148)).unwrap(), Lsn(0x0300_0160));
    }
}
