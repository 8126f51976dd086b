//! Where a local log ends, read from the log itself.
//!
//! pg_waldump reads it with PostgreSQL's own reader, so it stops where recovery
//! would. Nothing here changes the data directory.

use super::error::Error;
use super::run::run;
use crate::config::Postgresql;
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
pub async fn log_end(settings: &Postgresql, place: Place) -> Result<Lsn, Error> {
    let mut command = waldump(settings, place);
    command.arg("--quiet");
    let unclear = || Error::ToolUnclear { tool: "pg_waldump".into(), missing: "end of log" };
    match run(command, LIMIT).await {
        // It always ends with what it could not read any more.
        Ok(_) => Err(unclear()),
        Err(Error::ToolFailed { stderr, .. }) if stderr.contains(NOTHING) => Ok(place.lsn),
        Err(Error::ToolFailed { stderr, .. }) => {
            let last = last_record(&stderr).ok_or_else(unclear)?;
            record_end(settings, Place { lsn: last, ..place }).await
        }
        Err(error) => Err(error),
    }
}

/// Where the record ends that begins at `place`.
async fn record_end(settings: &Postgresql, place: Place) -> Result<Lsn, Error> {
    let mut command = waldump(settings, place);
    command.arg("--limit=1");
    let unclear = || Error::ToolUnclear { tool: "pg_waldump".into(), missing: "record length" };
    let length = record_length(&run(command, LIMIT).await?).ok_or_else(unclear)?;
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

fn is_switch(text: &str) -> bool {
    text.contains("desc: SWITCH")
}

/// `pg_waldump: error: error in WAL record at 0/3000158: ...`
fn last_record(stderr: &str) -> Option<Lsn> {
    let (_, rest) = stderr.rsplit_once("error in WAL record at ")?;
    rest.split_once(':')?.0.trim().parse().ok()
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
}
