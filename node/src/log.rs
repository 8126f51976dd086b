//! Where log lines go and how they look: `time LEVEL: text`, as users of the
//! field know them.
//!
//! Absent on purpose: JSON lines and rotation by size (a later step).

use crate::config::Log;
use std::fmt;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            tracing::Level::WARN => "WARNING",
            tracing::Level::ERROR => "ERROR",
            tracing::Level::INFO => "INFO",
            _ => "DEBUG",
        };
        let now = chrono::Local::now().format("%Y-%m-%d %H:%M:%S,%3f");
        write!(out, "{now} {level}: ")?;
        context.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// Once per process; a second call changes nothing.
pub fn start(log: &Log) {
    let level = match log.level.to_ascii_lowercase().as_str() {
        "debug" => "debug",
        "warning" | "warn" => "warn",
        "error" | "critical" | "fatal" => "error",
        _ => "info",
    };
    // Our own words; libraries only when something is wrong.
    let filter = format!("warn,node={level},matriarch={level}");
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .event_format(Lines)
        .with_writer(std::io::stderr)
        .try_init();
}
