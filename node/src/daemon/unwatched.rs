//! A daemon that cannot begin, beside a primary that runs.
//!
//! No daemon watches that primary: its lock, if it holds one, passes to another member
//! when the lease ends, and it would write on. What keeps the daemon from beginning
//! (a file with a mistake, a refused password, a port in use) may be over in a
//! moment, so it is tried again for as long as a store may take to answer
//! (`retry_timeout`); then the primary is stopped.
//!
//! A server that never was in a group's care is left alone: only one with the copy of
//! a cluster's configuration (`patroni.dynamic.json`) was. So is a standby, a server
//! in pause, and one that another living daemon watches: this process may have been
//! started by mistake. A daemon that watches holds a lock on the data directory, which
//! ends with its process.
//!
//! Absent on purpose: rules. Without settings and store there is nothing to decide
//! on; the one decision is that of rule 20.

use super::cache;
use crate::clock;
use crate::config::Settings;
use crate::postgres::Postmaster;
use crate::postgres::files::STANDBY_SIGNAL;
use crate::watchdog::{Watchdog, WatchdogSettings};
use member::stop::{KILLED_MS, QUIT_MS};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use topology::{Dynamic, Millis};

/// Between two attempts to begin.
const AGAIN: Duration = Duration::from_secs(1);
/// After SIGQUIT, before SIGKILL.
const QUIT: Duration = Duration::from_millis(QUIT_MS);
/// After SIGKILL.
const KILLED: Duration = Duration::from_millis(KILLED_MS);

/// The lock of the daemon that watches this directory; it lasts as long as the value.
/// `None`: another daemon has it, or the file system has no locks.
pub fn watch(data_dir: &Path) -> Option<File> {
    let directory = File::open(data_dir).ok()?;
    match directory.try_lock() {
        Ok(()) => Some(directory),
        Err(error) => {
            tracing::warn!("{}: no lock on the data directory: {error}", data_dir.display());
            None
        }
    }
}

fn is_watched(data_dir: &Path) -> bool {
    let tried = File::open(data_dir).map(|directory| directory.try_lock_shared());
    matches!(tried, Ok(Err(TryLockError::WouldBlock)))
}

/// The data directory that a daemon was to watch, as far as it is known.
#[derive(Clone, Debug)]
pub struct Charge {
    data_dir: PathBuf,
    postgres: PathBuf,
    watchdog: Option<WatchdogSettings>,
}

impl Charge {
    pub fn of(settings: &Settings) -> Charge {
        Charge {
            data_dir: settings.postgresql.data_dir.clone(),
            postgres: settings.postgresql.tool("postgres"),
            watchdog: Some(settings.watchdog.clone()),
        }
    }

    /// From a configuration that could not be read as a whole.
    pub fn in_directory(data_dir: PathBuf) -> Charge {
        Charge { data_dir, postgres: "postgres".into(), watchdog: None }
    }

    /// A primary of a group that runs here and is not in pause.
    fn primary(&self) -> Option<(Postmaster, Dynamic)> {
        let dynamic = Dynamic::read(&cache::read(&self.data_dir)?).unwrap_or_default();
        let runs = Postmaster::find(&self.data_dir, &self.postgres).ok()??;
        let is_standby = self.data_dir.join(STANDBY_SIGNAL).is_file();
        let is_ours = !is_standby && !dynamic.pause && !is_watched(&self.data_dir);
        is_ours.then_some((runs, dynamic))
    }
}

/// Attempts to begin that have failed beside a primary.
#[derive(Default)]
pub struct Attempts {
    first: Option<Millis>,
    watchdog: Option<Watchdog>,
}

impl Attempts {
    /// An attempt has failed. True: another one may be made, after a moment. False:
    /// no primary is left unwatched.
    pub fn failed(&mut self, charge: Option<&Charge>) -> bool {
        let Some((charge, (primary, dynamic))) =
            charge.and_then(|charge| Some((charge, charge.primary()?)))
        else {
            return false;
        };
        let now = clock::now();
        let first = *self.first.get_or_insert(now);
        self.arm(charge, &dynamic);
        let left = dynamic.retry_timeout_ms.saturating_sub(now.since(first));
        let (pid, data_dir) = (primary.pid, charge.data_dir.display());
        if left > 0 {
            tracing::error!(
                "the primary in {data_dir} (process {pid}) runs without a daemon: the start is \
                 tried again; in {left} ms the primary is stopped, for its lock may then be \
                 another member's"
            );
            std::thread::sleep(AGAIN.min(Duration::from_millis(left)));
            self.disarm();
            return true;
        }
        tracing::error!(
            "the primary in {data_dir} (process {pid}) is stopped: no daemon watches it"
        );
        self.stop(&primary);
        false
    }

    /// Nothing else would end the primary if this process died.
    fn arm(&mut self, charge: &Charge, dynamic: &Dynamic) {
        let Some(settings) = &charge.watchdog else { return };
        let mut watchdog = Watchdog::new(settings.clone());
        if watchdog.state(dynamic, clock::now()) != member::ha::observation::Guarding::Ready {
            return;
        }
        match watchdog.arm(dynamic, clock::now()) {
            Ok(()) => self.watchdog = Some(watchdog),
            Err(why) => tracing::warn!("the watchdog is not armed: {why}"),
        }
    }

    /// The next attempt opens the device itself.
    fn disarm(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            watchdog.rest();
        }
    }

    /// The device is put to rest only when the primary has ended.
    fn stop(&mut self, primary: &Postmaster) {
        match stop(primary) {
            Ok(()) => {
                tracing::warn!("the primary is stopped");
                self.disarm();
            }
            Err(why) => {
                tracing::error!("the primary could not be stopped: {why}");
                // Dropped without a rest, the device goes on to its end.
                self.watchdog = None;
            }
        }
    }
}

fn stop(primary: &Postmaster) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let stopped = runtime.block_on(primary.stop_at_once(QUIT, KILLED));
    stopped.map_err(|error| error.with_causes())
}

/// The data directory that a broken configuration names: the environment's, or the
/// only one in its text.
pub fn data_dir_of(text: &str, env: Option<&str>) -> Option<PathBuf> {
    if let Some(given) = env.filter(|given| Path::new(given).is_absolute()) {
        return Some(given.into());
    }
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let values = lines.filter_map(|line| line.strip_prefix("data_dir:"));
    let plain = |value: &str| {
        let value = value.split(" #").next().unwrap_or_default().trim();
        value.trim_matches(['\'', '"']).to_string()
    };
    let mut found: Vec<String> = values.map(plain).collect();
    found.dedup();
    match found.as_slice() {
        [one] if Path::new(one).is_absolute() => Some(one.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n15_the_data_directory_of_a_broken_file_is_found_in_its_text() {
        let of = |text: &str| data_dir_of(text, None);
        let text = "scope: [\npostgresql:\n  # data_dir: /old\n  data_dir: '/pg/one' # here\n";
        assert_eq!(of(text), Some("/pg/one".into()));
        assert_eq!(of("data_dir: /a\n  data_dir: /b\n"), None, "which?");
        assert_eq!(of("data_dir: relative\n"), None);
        assert_eq!(of("ttl: 30\n"), None);
        assert_eq!(data_dir_of("data_dir: /a\n", Some("/b")), Some("/b".into()));
    }

    #[test]
    fn n15_a_directory_is_watched_as_long_as_its_daemon_lives() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_watched(dir.path()));
        let lock = watch(dir.path()).expect("a file system with locks");
        assert!(is_watched(dir.path()));
        assert!(watch(dir.path()).is_none(), "another daemon watches already");
        drop(lock);
        assert!(!is_watched(dir.path()));
    }

    #[test]
    fn n15_a_server_that_no_group_has_cared_for_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let charge = Charge::in_directory(dir.path().to_path_buf());
        assert!(charge.primary().is_none());
        assert!(!Attempts::default().failed(Some(&charge)));
        assert!(!Attempts::default().failed(None));
    }
}
