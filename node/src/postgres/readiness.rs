//! When the own server is asked for a connection.
//!
//! Every attempt that a server refuses is a FATAL line in its log. The postmaster
//! says in line 8 of `postmaster.pid` what it is doing, and writes the file again
//! whenever that changes; to look there costs it nothing. So a server that starts
//! is asked when the file says that it is ready, which is as soon as before.
//!
//! Invariant: a server that refuses is asked again at most once a second, and one
//! whose file says that it takes no connections only now and then, in case the
//! file could not be written. After a crash of a backend the file goes on saying
//! "ready"; it is written again when the recovery is over.
//!
//! Absent on purpose: what a refusal means (`error.rs`).

use super::error::Error;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Between two attempts that are refused, when nothing has changed.
const AGAIN: Duration = Duration::from_secs(1);
/// The same while the file says that none would be taken.
const DOUBT: Duration = Duration::from_secs(10);
/// Databases that refusals are remembered for.
const TARGETS_MAX: usize = 64;

/// What the postmaster says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Starting,
    Stopping,
    Ready,
    /// In recovery, and not open to queries.
    Standby,
    /// No such line: it has just begun, or there is no file.
    Unknown,
}

/// Line 8 of `postmaster.pid`, and when the file was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sign {
    pub status: Status,
    written: Option<SystemTime>,
}

impl Sign {
    pub(super) fn of(data_dir: &Path) -> Sign {
        let path = data_dir.join("postmaster.pid");
        // In this order: a file that is written in between shows another time later.
        let written = path.metadata().and_then(|meta| meta.modified()).ok();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        Sign { status: Status::read(text.lines().nth(7)), written }
    }
}

impl Status {
    fn read(line: Option<&str>) -> Status {
        match line.map(str::trim) {
            Some("starting") => Status::Starting,
            Some("stopping") => Status::Stopping,
            Some("ready") => Status::Ready,
            Some("standby") => Status::Standby,
            _ => Status::Unknown,
        }
    }

    fn takes_none(self) -> bool {
        matches!(self, Status::Starting | Status::Stopping | Status::Standby)
    }

    fn words(self) -> &'static str {
        match self {
            Status::Starting => "it is starting",
            Status::Stopping => "it is stopping",
            Status::Standby => "it recovers and takes no connections yet",
            Status::Ready | Status::Unknown => "it refused the last connection",
        }
    }
}

/// What a server said last to an attempt that it refused.
#[derive(Clone, Debug)]
struct Refusal {
    sign: Sign,
    at: Instant,
    said: String,
    not_yet: bool,
    is_final: bool,
}

/// The last refusals, by user and database.
#[derive(Debug, Default)]
pub(super) struct Pacer(HashMap<(String, String), Refusal>);

impl Pacer {
    /// `Err`: the server is not asked now, for the reason that it gave last.
    pub(super) fn check(
        &mut self,
        target: (&str, &str),
        sign: &Sign,
        now: Instant,
    ) -> Result<(), Error> {
        let key = (target.0.to_string(), target.1.to_string());
        let Some(last) = self.0.get(&key) else {
            return match sign.status.takes_none() {
                true => Err(self.remember(key, Refusal::by_file(sign, now))),
                false => Ok(()),
            };
        };
        let pause = if sign.status.takes_none() { DOUBT } else { AGAIN };
        let is_another = *sign != last.sign && !sign.status.takes_none();
        if is_another || now.duration_since(last.at) >= pause {
            return Ok(());
        }
        let not_yet = last.not_yet || sign.status.takes_none();
        Err(Error::NotAsked { said: last.said.clone(), not_yet, is_final: last.is_final })
    }

    /// What became of an attempt that was begun with this sign.
    pub(super) fn note<T>(
        &mut self,
        target: (&str, &str),
        sign: Sign,
        now: Instant,
        answer: &Result<T, Error>,
    ) {
        let key = (target.0.to_string(), target.1.to_string());
        match answer {
            Err(error) if error.is_refusal() => {
                self.remember(key, Refusal::by_server(sign, now, error));
            }
            _ => {
                self.0.remove(&key);
            }
        }
    }

    fn remember(&mut self, key: (String, String), refusal: Refusal) -> Error {
        if self.0.len() >= TARGETS_MAX {
            self.0.clear();
        }
        let Refusal { said, not_yet, is_final, .. } = refusal.clone();
        self.0.insert(key, refusal);
        Error::NotAsked { said, not_yet, is_final }
    }
}

impl Refusal {
    fn by_file(sign: &Sign, at: Instant) -> Refusal {
        let said = sign.status.words().to_string();
        Refusal { sign: sign.clone(), at, said, not_yet: true, is_final: false }
    }

    fn by_server(sign: Sign, at: Instant, error: &Error) -> Refusal {
        let (not_yet, is_final) = (error.says_not_yet(), error.is_final());
        Refusal { sign, at, said: error.with_causes(), not_yet, is_final }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: (&str, &str) = ("postgres", "postgres");

    fn sign(status: Status, written: u64) -> Sign {
        let written = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(written));
        Sign { status, written }
    }

    fn refused() -> Result<(), Error> {
        let said = "the database system is in recovery mode".to_string();
        Err(Error::NotAsked { said, not_yet: true, is_final: false })
    }

    /// Attempts of a caller that looks every 20 ms, from `begin` on.
    fn attempts(pacer: &mut Pacer, begin: Instant, ms: u64, sign: impl Fn(u64) -> Sign) -> usize {
        let mut count = 0;
        for at in (0..ms).step_by(20) {
            let now = begin + Duration::from_millis(at);
            if pacer.check(TARGET, &sign(at), now).is_ok() {
                count += 1;
                pacer.note(TARGET, sign(at), now, &refused());
            }
        }
        count
    }

    #[test]
    fn n20_a_server_that_starts_is_asked_when_its_file_says_that_it_is_ready() {
        let (mut pacer, begin) = (Pacer::default(), Instant::now());
        let starting = |_| sign(Status::Starting, 1);
        assert_eq!(attempts(&mut pacer, begin, 9_900, starting), 0);
        let now = begin + Duration::from_millis(9_900);
        assert!(pacer.check(TARGET, &sign(Status::Ready, 2), now).is_ok(), "at once");
        // A file that could not be written does not keep the server unasked.
        assert_eq!(attempts(&mut pacer, begin, 60_000, starting), 5);
    }

    #[test]
    fn n20_a_server_that_refuses_is_asked_once_a_second_until_its_file_is_written_again() {
        let (mut pacer, begin) = (Pacer::default(), Instant::now());
        let crashed = |_| sign(Status::Ready, 1);
        assert_eq!(attempts(&mut pacer, begin, 10_000, crashed), 10);
        let soon = begin + Duration::from_millis(9_500);
        let error = pacer.check(TARGET, &sign(Status::Ready, 1), soon).unwrap_err();
        assert!(error.says_not_yet() && !error.is_no_answer() && !error.is_final());
        assert!(error.to_string().contains("is in recovery mode"), "{error}");
        assert!(pacer.check(TARGET, &sign(Status::Ready, 2), soon).is_ok(), "it is over");
        pacer.note(TARGET, sign(Status::Ready, 2), soon, &Ok(()));
        assert!(pacer.check(TARGET, &sign(Status::Ready, 2), soon).is_ok(), "it takes them");
        // Another database is another question.
        pacer.note(TARGET, sign(Status::Ready, 2), soon, &refused());
        assert!(pacer.check(("postgres", "app"), &sign(Status::Ready, 2), soon).is_ok());
    }

    #[test]
    fn the_eighth_line_says_what_a_postmaster_does() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Sign::of(dir.path()).status, Status::Unknown);
        let text = "42\n/data\n1795208971\n5433\n/tmp\n10.0.0.5\n  123  4\n";
        for (line, status) in [
            ("starting", Status::Starting),
            ("ready   ", Status::Ready),
            ("standby ", Status::Standby),
            ("stopping", Status::Stopping),
            ("", Status::Unknown),
        ] {
            std::fs::write(dir.path().join("postmaster.pid"), format!("{text}{line}\n")).unwrap();
            assert_eq!(Sign::of(dir.path()).status, status, "{line}");
        }
    }
}
