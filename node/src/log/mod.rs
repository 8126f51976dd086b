//! Where log lines go and how they look.
//!
//! | file | job |
//! |---|---|
//! | `levels.rs` | which lines are wanted, by level and by module |
//! | `format.rs` | Python's format strings and times, which users' files hold |
//! | `form.rs` | one record as a plain line or as JSON |
//! | `queue.rs` | a bounded queue and the thread that empties it |
//! | `file.rs` | `patroni.log` and its rotation |
//! | `seldom.rs` | what has not changed is not said again |
//! | `panics.rs` | panics as lines, with their stack |
//!
//! A line is made where it is logged and written by another thread: a full
//! disk or a slow terminal never holds up a beat. What does not fit into the
//! queue is dropped and counted.
//!
//! Invariant: before the configuration is known everything goes to standard
//! error; after that a configuration that cannot be used changes nothing.
//!
//! Absent on purpose: stack traces of errors, which carry their causes.

mod file;
mod form;
mod levels;
mod panics;
mod queue;
mod seldom;

pub use queue::Counters;
pub use seldom::{error, is_news, situation, warn};

use crate::config::Log;
use form::{Form, Record};
use levels::Levels;
use queue::{Queue, Sink};
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the end of the process waits for lines that are not written yet.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log.dir: {path} cannot be written: {source}; name a directory this user may write")]
    Open { path: std::path::PathBuf, source: std::io::Error },
    #[error("the thread that writes the log cannot start: {0}")]
    Thread(std::io::Error),
}

/// The log of this process.
struct Logger {
    queue: Arc<Queue>,
    form: Arc<RwLock<Form>>,
    levels: reload::Handle<Levels, Registry>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Logs everything of ours to standard error, until `apply` says better. A
/// second call changes nothing.
pub fn start() -> Result<(), LogError> {
    if LOGGER.get().is_some() {
        return Ok(());
    }
    let queue = Queue::start().map_err(LogError::Thread)?;
    let form = Arc::new(RwLock::new(Form::default()));
    let (gate, levels) = reload::Layer::new(Levels::everything());
    let lines = Lines { form: form.clone(), queue: queue.clone() };
    // Fails only when a test has put another subscriber in place.
    let _ = tracing_subscriber::registry().with(gate).with(lines).try_init();
    let _ = LOGGER.set(Logger { queue, form, levels });
    panics::tell();
    Ok(())
}

/// From now on as the configuration says; the file is opened anew.
pub fn apply(log: &Log) -> Result<(), LogError> {
    let Some(logger) = LOGGER.get() else { return Ok(()) };
    let sink = Sink::open(log)?;
    // No line is made meanwhile: each goes where its form belongs.
    let mut form = logger.form.write().unwrap_or_else(PoisonError::into_inner);
    logger.queue.turn(sink, log.max_queue_size);
    *form = Form::of(log);
    drop(form);
    panics::trace_at(&log.traceback_level);
    // Gone only with the process.
    let _ = logger.levels.reload(Levels::of(log));
    Ok(())
}

/// What waits to be written, and what was dropped since the start.
pub fn counters() -> Counters {
    LOGGER.get().map(|logger| logger.queue.counters()).unwrap_or_default()
}

/// Waits until everything is written. `false`: some lines are not.
pub fn flush() -> bool {
    LOGGER.get().is_none_or(|logger| logger.queue.flush(FLUSH_WAIT_MAX))
}

/// Makes a line of every event that passed the levels.
struct Lines {
    form: Arc<RwLock<Form>>,
    queue: Arc<Queue>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let record = Record {
            now: jiff::ZonedDateTime::now(),
            level: *metadata.level(),
            target: metadata.target(),
            file: metadata.file().unwrap_or_default(),
            line: metadata.line().unwrap_or_default(),
            message: &text.finish(),
        };
        let form = self.form.read().unwrap_or_else(PoisonError::into_inner);
        self.queue.push(form.line(&record));
    }
}

/// The message, then the other fields as `name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(self) -> String {
        if self.message.is_empty() {
            return self.fields.trim_start().to_string();
        }
        self.message + &self.fields
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_string(),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }
}

/// The name of a level in Python, and its number.
fn level_name(level: Level) -> (&'static str, u32) {
    match level {
        Level::ERROR => ("ERROR", 40),
        Level::WARN => ("WARNING", 30),
        Level::INFO => ("INFO", 20),
        Level::DEBUG | Level::TRACE => ("DEBUG", 10),
    }
}

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tracing::subscriber::with_default;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut text = Text::default();
            event.record(&mut text);
            self.0.lock().unwrap().push(text.finish());
        }
    }

    #[test]
    fn fields_stand_behind_the_message() {
        let kept = Kept::default();
        with_default(tracing_subscriber::registry().with(kept.clone()), || {
            tracing::info!(port = 5, error = %"no", "it {}", "failed");
            tracing::info!("plain");
        });
        assert_eq!(*kept.0.lock().unwrap(), ["it failed port=5 error=no", "plain"]);
    }

    #[test]
    fn levels_choose_what_is_seen() {
        let kept = Kept::default();
        let log = Log { level: "warn".into(), ..Log::default() };
        let layers = tracing_subscriber::registry().with(Levels::of(&log)).with(kept.clone());
        with_default(layers, || {
            tracing::info!("dropped");
            tracing::warn!("kept");
            tracing::warn!(target: "h2", "of a library");
            tracing::info!(target: "h2", "chatter of a library");
        });
        assert_eq!(*kept.0.lock().unwrap(), ["kept", "of a library"]);
    }
}
