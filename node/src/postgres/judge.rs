//! Which values PostgreSQL takes: the installed server is asked itself.
//!
//! `postgres -C NAME -c config_file=FILE` reads a file like a server that starts,
//! without a data directory, and complains about all of it at once: first about
//! every name that it does not know, and, when there is none, about every value. So
//! every name, type, unit, range and word of every version is known without a table
//! of ours, and a value that would keep the server from starting never gets into
//! its files.
//!
//! Invariant *no guess*: a complaint that is not understood changes nothing.
//!
//! Invariant *few questions*: their number does not grow with that of the settings.
//! The file lies in memory only: values may be secrets, and a list of processes
//! shows arguments.
//!
//! Absent on purpose: settings of extensions (names with a dot), which only a
//! server with the library could judge, and catalogue files of vendors: their
//! server knows its settings too.

use super::error::Error;
use super::run::complaints;
use super::spelling::quoted;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::process::Command;

/// Of a complaint that is not understood, in the error.
const STDERR_CHARS_MAX: usize = 2_000;
const LIMIT: Duration = Duration::from_secs(5);
/// Verdicts that are remembered; then all are asked for anew.
const VERDICTS_MAX: usize = 20_000;
const ROUNDS: usize = 2;
/// Questions about one file: names, values, and what an answer had no room for.
const QUESTIONS_MAX: usize = 8;

/// They say where files are, which is judged when the server starts.
const PLACES: [&str; 4] = ["data_directory", "hba_file", "ident_file", "external_pid_file"];
/// They may hold passwords, which must not stand in a process list, and PostgreSQL
/// takes any text for them.
const SECRETIVE: [&str; 6] = [
    "archive_cleanup_command",
    "archive_command",
    "primary_conninfo",
    "recovery_end_command",
    "restore_command",
    "ssl_passphrase_command",
];
/// They change how a complaint reads: each is judged alone.
const LOUD: [&str; 5] = [
    "lc_messages",
    "log_destination",
    "log_error_verbosity",
    "log_min_messages",
    "log_line_prefix",
];

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Taken,
    /// Out of range: the nearest possible value, and why.
    Instead(String, String),
    /// Left out, and why.
    Refused(String),
}

#[derive(Debug, Default)]
pub(super) struct Judge {
    known: Mutex<HashMap<(String, String), Verdict>>,
}

impl Judge {
    /// Takes out of `wished` what `postgres` refuses and corrects what is out of
    /// range; gives a sentence for each.
    pub(super) async fn sift(
        &self,
        postgres: &Path,
        wished: &mut BTreeMap<String, String>,
        skipped: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut judged: Vec<(String, String)> = wished
            .iter()
            .filter(|(name, _)| !skipped(name) && !PLACES.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut sentences = Vec::new();
        // The nearest whole number may still be out of the setting's range.
        for _ in 0..ROUNDS {
            self.learn(postgres, &judged).await;
            judged = judged
                .into_iter()
                .filter_map(|pair| self.apply(pair, wished, &mut sentences))
                .collect();
        }
        sentences
    }

    /// What is to be judged again.
    fn apply(
        &self,
        pair: (String, String),
        wished: &mut BTreeMap<String, String>,
        sentences: &mut Vec<String>,
    ) -> Option<(String, String)> {
        match self.verdict(&pair)? {
            Verdict::Taken => None,
            Verdict::Instead(value, why) => {
                sentences.push(format!("{} = {} {why}: {value} is used", pair.0, pair.1));
                wished.insert(pair.0.clone(), value.clone());
                Some((pair.0, value))
            }
            Verdict::Refused(why) => {
                sentences.push(format!("{} = {} {why}: left out", pair.0, pair.1));
                wished.remove(&pair.0);
                None
            }
        }
    }

    fn verdict(&self, pair: &(String, String)) -> Option<Verdict> {
        if !is_name(&pair.0) || pair.1.contains('\0') {
            return Some(Verdict::Refused("cannot be written in postgresql.conf".into()));
        }
        let is_secret = SECRETIVE.contains(&pair.0.to_lowercase().as_str());
        let unasked = (is_secret || pair.0.contains('.')).then_some(Verdict::Taken);
        unasked.or_else(|| self.lock().get(pair).cloned())
    }

    /// Asks for what is not known yet.
    async fn learn(&self, postgres: &Path, pairs: &[(String, String)]) {
        let new = pairs.iter().filter(|pair| self.verdict(pair).is_none()).cloned();
        let (loud, quiet): (Vec<_>, Vec<_>) =
            new.partition(|(name, _)| LOUD.contains(&name.to_lowercase().as_str()));
        let batches = std::iter::once(quiet).chain(loud.into_iter().map(|pair| vec![pair]));
        for batch in batches.filter(|batch| !batch.is_empty()) {
            if let Err(error) = self.ask(postgres, batch).await {
                tracing::warn!("settings that could not be checked are used as they are: {error}");
            }
        }
    }

    /// Every complaint settles one pair; when none comes, all the rest is good.
    async fn ask(&self, postgres: &Path, mut open: Vec<(String, String)>) -> Result<(), Error> {
        for _ in 0..QUESTIONS_MAX {
            let file = file_of(&open)
                .map_err(|source| Error::NoTool { tool: postgres.to_path_buf(), source })?;
            let Some(stderr) = complaints(question(postgres), file, LIMIT).await? else {
                open.drain(..).for_each(|pair| self.remember(pair, Verdict::Taken));
                return Ok(());
            };
            let before = open.len();
            for (name, verdict) in verdicts(&stderr) {
                let about = open.iter().position(|(asked, _)| asked.eq_ignore_ascii_case(&name));
                about.into_iter().for_each(|at| self.remember(open.remove(at), verdict.clone()));
            }
            if open.is_empty() {
                return Ok(());
            }
            if open.len() == before {
                return Err(unclear(&stderr));
            }
        }
        Err(unclear("there were complaints without end"))
    }

    fn remember(&self, pair: (String, String), verdict: Verdict) {
        let mut known = self.lock();
        if known.len() >= VERDICTS_MAX {
            known.clear();
        }
        known.insert(pair, verdict);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Verdict>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `-C` comes first: only then root may ask. The root directory stands for a
/// data directory: it is there, and no other user can put settings into it.
fn question(postgres: &Path) -> Command {
    let mut command = Command::new(postgres);
    command.args(["-C", "max_connections", "-D", "/", "-c", "config_file=/dev/stdin"]);
    command.env("LC_ALL", "C").env("LANG", "C");
    command
}

/// A file without a name. PostgreSQL opens it anew for each of its two readings.
fn file_of(pairs: &[(String, String)]) -> std::io::Result<std::fs::File> {
    let fd = rustix::fs::memfd_create("settings", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    let lines = pairs.iter().map(|(name, value)| format!("{name} = '{}'\n", quoted(value)));
    file.write_all(lines.collect::<String>().as_bytes())?;
    Ok(file)
}

fn unclear(stderr: &str) -> Error {
    let end = stderr.chars().count().saturating_sub(STDERR_CHARS_MAX);
    let stderr = stderr.chars().skip(end).collect();
    Error::ToolFailed { tool: "postgres -C".into(), status: "a complaint".into(), stderr }
}

/// What a file takes for the name of a setting.
fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let rest = |c: char| first(c) || c.is_ascii_digit() || c == '$';
    name.split('.').all(|word| word.starts_with(first) && word.chars().all(rest))
}

/// One verdict for each complaint that is understood.
fn verdicts(stderr: &str) -> Vec<(String, Verdict)> {
    let lines: Vec<&str> = stderr.lines().collect();
    let begins = |line: &&str| ["LOG:  ", "FATAL:  "].iter().any(|mark| line.contains(mark));
    let complaints = lines.chunk_by(|_, next| !begins(next));
    complaints.filter_map(|lines| complaint(&lines.join("\n"))).collect()
}

/// The name that PostgreSQL complains about, and what follows from it.
fn complaint(told: &str) -> Option<(String, Verdict)> {
    let after = |mark: &str| {
        let line = told.lines().find_map(|line| line.split_once(mark));
        line.map(|(_, text)| text.trim())
    };
    let text = after("LOG:  ").or_else(|| after("FATAL:  "))?;
    let (before, rest) = text.split_once("parameter \"")?;
    let (name, rest) = rest.split_once('"')?;
    let refused = |why: &str| Some((name.to_string(), Verdict::Refused(why.into())));
    if before.starts_with("unrecognized configuration") {
        return refused("is not a setting of this PostgreSQL");
    }
    if let Some(value) = before.strip_suffix(" is outside the valid range for ") {
        return Some((name.to_string(), nearest(value, rest)?));
    }
    if before == "invalid value for " {
        let hint = after("HINT:  ").or_else(|| after("DETAIL:  "));
        if hint == Some("Value exceeds integer range.") {
            let least = rest.trim_start_matches([':', ' ', '"']).starts_with('-');
            let bound = if least { i32::MIN } else { i32::MAX }.to_string();
            return Some((name.to_string(), Verdict::Instead(bound, "is no integer".into())));
        }
        let hint = hint.map(|hint| format!(" ({})", hint.trim_end_matches('.')));
        return refused(&format!("is not possible{}", hint.unwrap_or_default()));
    }
    if rest.starts_with(" requires a") || rest.starts_with(" cannot be ") {
        return refused(rest.trim());
    }
    None
}

/// ` (64 kB .. 2147483647 kB)`: bounds in the setting's own unit, which a plain
/// number has too.
fn nearest(value: &str, range: &str) -> Option<Verdict> {
    let (low, high) = range.trim().strip_prefix('(')?.strip_suffix(')')?.split_once(" .. ")?;
    let word = |text: &str| text.split_whitespace().next().map(str::to_string);
    let number = |text: &str| word(text)?.parse::<f64>().ok();
    let bound = if number(value)? < number(low)? { low } else { high };
    let why = format!("is outside its range {}", range.trim());
    Some(Verdict::Instead(word(bound)?, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> (String, Verdict) {
        complaint(&format!("2026-11-21 04:04:02.966 GMT [1] {text}")).expect("understood")
    }

    #[test]
    fn numbers_out_of_range_have_a_nearest_one() {
        let instead = |text: &str| match told(text) {
            (_, Verdict::Instead(value, _)) => value,
            other => panic!("{other:?}"),
        };
        let old = "FATAL:  1 kB is outside the valid range for parameter \"work_mem\" \
                   (64 .. 2147483647)";
        assert_eq!(instead(old), "64");
        let new = "FATAL:  134217728 8kB is outside the valid range for parameter \
                   \"wal_buffers\" (-1 8kB .. 262143 8kB)";
        assert_eq!(instead(new), "262143");
        let real = "FATAL:  -1 is outside the valid range for parameter \"random_page_cost\" \
                    (0 .. 1.79769e+308)";
        assert_eq!(instead(real), "0");
        let huge = "FATAL:  invalid value for parameter \"work_mem\": \"9999999GB\"\n\
                    2026 [1] HINT:  Value exceeds integer range.";
        assert_eq!(instead(huge), "2147483647");
    }

    #[test]
    fn refusals_name_the_setting_and_the_reason() {
        let cases = [
            ("unrecognized configuration parameter \"work_men\"", "work_men", "not a setting"),
            ("parameter \"autovacuum\" requires a Boolean value", "autovacuum", "requires a B"),
            ("parameter \"block_size\" cannot be changed", "block_size", "cannot be changed"),
            (
                "invalid value for parameter \"wal_level\": \"foo\"\n2026 [1] HINT:  Available \
                 values: minimal, replica, logical.",
                "wal_level",
                "(Available values: minimal, replica, logical)",
            ),
        ];
        for (text, name, why) in cases {
            let (about, Verdict::Refused(told)) = told(&format!("FATAL:  {text}")) else {
                panic!("{text}");
            };
            assert_eq!(about, name);
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn every_complaint_of_an_answer_is_heard() {
        let stderr = "2026 [1] LOG:  skipping missing configuration file \"/x.auto.conf\"\n\
            2026 [1] LOG:  1 kB is outside the valid range for parameter \"work_mem\" \
            (64 .. 2147483647)\n\
            2026 [1] LOG:  invalid value for parameter \"wal_level\": \"foo\"\n\
            2026 [1] HINT:  Available values: minimal, replica, logical.\n\
            2026 [1] LOG:  parameter \"block_size\" cannot be changed\n\
            2026 [1] FATAL:  configuration file \"/dev/stdin\" contains errors\n";
        let told = verdicts(stderr);
        let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["work_mem", "wal_level", "block_size"]);
        let Verdict::Refused(why) = &told[1].1 else { panic!("{told:?}") };
        assert!(why.contains("minimal, replica, logical"), "{why}");
    }

    /// The installed server is asked, however many settings there are.
    #[tokio::test]
    async fn n14_thousands_of_unknown_settings_are_judged_in_a_few_questions() {
        let versions = (13..=18).rev().map(|v| format!("/usr/lib/postgresql/{v}/bin/postgres"));
        let mut installed = versions.map(std::path::PathBuf::from).filter(|path| path.exists());
        let postgres = installed.next().expect("PostgreSQL is installed");
        let mut wished: BTreeMap<String, String> =
            (0..5_000).map(|n| (format!("no_such_setting_{n:04}"), "x".into())).collect();
        for (name, value) in [("work_mem", "1kB"), ("wal_level", "foo"), ("port", "5433")] {
            wished.insert(name.into(), value.into());
        }
        let dir = tempfile::tempdir().unwrap();
        let (program, calls) = counted(dir.path(), &postgres);
        let judge = Judge::default();
        let told = judge.sift(&program, &mut wished, |_| false).await;
        assert_eq!(told.len(), 5_002);
        let left: Vec<_> = wished.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(left, [("port", "5433"), ("work_mem", "64")]);
        // Those of the catalogue, and a few for each value that is refused.
        let first = calls();
        assert!(first <= 4 * QUESTIONS_MAX, "{first} processes");
        judge.sift(&program, &mut wished, |_| false).await;
        assert_eq!(calls(), first, "what was judged is remembered");
    }

    /// A program that counts how often it is started.
    fn counted(dir: &Path, program: &Path) -> (std::path::PathBuf, impl Fn() -> usize) {
        use std::os::unix::fs::PermissionsExt;
        let (script, calls) = (dir.join("postgres"), dir.join("calls"));
        let (log, program) = (calls.display(), program.display());
        let text = format!("#!/bin/sh\necho >> {log}\nexec {program} \"$@\"\n");
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        (script, move || std::fs::read_to_string(&calls).unwrap().lines().count())
    }

    #[test]
    fn a_complaint_that_is_not_understood_is_none() {
        assert_eq!(complaint("FATAL:  SSL is not supported by this build"), None);
        assert_eq!(complaint("Segmentation fault"), None);
    }

    #[tokio::test]
    async fn s4_what_may_hold_a_password_is_not_judged() {
        let secret = ("restore_command".to_string(), "fetch --password=word %f".to_string());
        let mut wished = BTreeMap::from([secret.clone()]);
        // It is not even asked: there is no such program.
        let said = Judge::default().sift(Path::new("/nowhere"), &mut wished, |_| false).await;
        assert_eq!((said, wished), (Vec::new(), BTreeMap::from([secret.clone()])));
        assert_eq!(Judge::default().verdict(&secret), Some(Verdict::Taken));
    }

    #[test]
    fn names_are_those_of_a_file() {
        assert!(is_name("work_mem") && is_name("my.thing_1"));
        assert!(!is_name("work-mem") && !is_name("a b") && !is_name("x.") && !is_name(""));
    }
}
