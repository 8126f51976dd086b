//! One record as one line: plain, or JSON with named fields.

use super::level_name;
use crate::config::Log;
use crate::config::log_format::{Format, Value, json_fields};
use jiff::ZonedDateTime;
use jiff::fmt::strtime::{self, BrokenDownTime, PosixCustom};
use serde_json::{Map, Value as Json};
use std::sync::LazyLock;
use std::time::Instant;
use tracing::Level;

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What is known of one event.
pub(super) struct Record<'a> {
    pub now: ZonedDateTime,
    pub level: Level,
    pub target: &'a str,
    pub file: &'a str,
    pub line: u32,
    pub message: &'a str,
}

impl Record<'_> {
    /// An attribute by its name in Python; `None`: there is no such one.
    pub(super) fn field(&self, name: &str, asctime: &str) -> Option<Value> {
        let text = |text: &str| Some(Value::Text(text.to_string()));
        let millis = self.now.millisecond();
        let file = self.file.rsplit('/').next().unwrap_or_default();
        let thread = std::thread::current();
        match name {
            "asctime" => text(asctime),
            "levelname" => text(level_name(self.level).0),
            "levelno" => Some(Value::Whole(level_name(self.level).1.into())),
            "message" => text(self.message),
            "name" => text(&self.target.replace("::", ".")),
            "module" | "funcName" => text(self.target.rsplit("::").next().unwrap_or_default()),
            "filename" => text(file),
            "pathname" => text(self.file),
            "lineno" => Some(Value::Whole(self.line.into())),
            "process" => Some(Value::Whole(std::process::id().into())),
            "processName" => text("MainProcess"),
            "thread" => Some(Value::Whole(nix::unistd::gettid().as_raw().into())),
            "threadName" => text(thread.name().unwrap_or("Thread")),
            "created" => {
                Some(Value::Number(self.now.timestamp().as_millisecond() as f64 / 1_000.0))
            }
            "msecs" => Some(Value::Number(millis.into())),
            "relativeCreated" => Some(Value::Number(STARTED.elapsed().as_millis() as f64)),
            "exc_info" | "stack_info" | "taskName" => text("None"),
            _ => None,
        }
    }
}

/// How lines look.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    shape: Shape,
    dateformat: Option<String>,
}

#[derive(Clone, Debug)]
enum Shape {
    Plain(Format),
    /// Pairs of a record's field and its key, then constants.
    Json {
        fields: Vec<(String, String)>,
        constants: Map<String, Json>,
    },
}

impl Default for Shape {
    fn default() -> Shape {
        Shape::Plain(Format::default())
    }
}

impl Form {
    pub(super) fn of(log: &Log) -> Form {
        LazyLock::force(&STARTED);
        let fields = json_fields(&log.format);
        let shape = if log.json {
            Shape::Json { fields, constants: log.static_fields.clone() }
        } else {
            Shape::Plain(log.format.as_str().map(Format::read).unwrap_or_default())
        };
        Form { shape, dateformat: log.dateformat.clone() }
    }

    /// With its line end.
    pub(super) fn line(&self, record: &Record) -> String {
        let asctime = asctime(&record.now, self.dateformat.as_deref());
        let mut line = match &self.shape {
            Shape::Plain(format) => format.render(|name| record.field(name, &asctime)),
            Shape::Json { fields, constants } => {
                let value = |name: &str| match record.field(name, &asctime) {
                    Some(Value::Text(text)) if !is_nothing(name) => text.into(),
                    Some(Value::Whole(number)) => number.into(),
                    Some(Value::Number(number)) => number.into(),
                    Some(Value::Text(_)) | None => Json::Null,
                };
                let mut all: Map<String, Json> =
                    fields.iter().map(|(name, key)| (key.clone(), value(name))).collect();
                all.extend(constants.clone());
                topology::document::spaced(&Json::Object(all))
            }
        };
        line.push('\n');
        line
    }
}

fn is_nothing(name: &str) -> bool {
    matches!(name, "exc_info" | "stack_info" | "taskName")
}

/// `2026-11-20 20:53:25,627`, or in the words of `log.dateformat`.
fn asctime(now: &ZonedDateTime, dateformat: Option<&str>) -> String {
    // A pattern that jiff does not know is no reason to lose the line.
    let text = dateformat.and_then(|pattern| dated(now, pattern).ok());
    text.unwrap_or_else(|| now.strftime("%Y-%m-%d %H:%M:%S,%3f").to_string())
}

/// Names of days and months as Python writes them without a locale.
fn dated(now: &ZonedDateTime, pattern: &str) -> Result<String, jiff::Error> {
    let config = strtime::Config::new().custom(PosixCustom::default());
    BrokenDownTime::from(now).to_string_with_config(&config, pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use serde_json::json;

    fn line(log: &Log) -> String {
        let now = date(2026, 11, 20).at(20, 53, 25, 627_000_000);
        let record = Record {
            now: now.to_zoned_datetime(TimeZone::UTC).unwrap(),
            level: Level::INFO,
            target: "node::daemon",
            file: "node/src/daemon/run.rs",
            line: 7,
            message: "text \"quoted\"",
        };
        Form::of(log).line(&record)
    }

    #[test]
    fn the_default_line_is_that_of_the_field() {
        assert_eq!(line(&Log::default()), "2026-11-20 20:53:25,627 INFO: text \"quoted\"\n");
    }

    #[test]
    fn format_and_dateformat_are_used_and_a_bad_date_is_not() {
        let mut log = Log {
            format: json!("%(levelname)s|%(asctime)s|%(message)s"),
            dateformat: Some("%d/%m/%y".into()),
            ..Log::default()
        };
        assert_eq!(line(&log), "INFO|20/11/26|text \"quoted\"\n");
        log.dateformat = Some("%!".into());
        assert_eq!(line(&log), "INFO|2026-11-20 20:53:25,627|text \"quoted\"\n");
    }

    #[test]
    fn every_directive_of_pythons_dates_is_known() {
        let now = date(2026, 11, 20).at(20, 53, 25, 0).to_zoned_datetime(TimeZone::UTC).unwrap();
        for directive in "aAbBcdHIjmMpSUwWxXyYzZ%".chars() {
            let text = dated(&now, &format!("%{directive}"));
            assert!(text.is_ok_and(|text| !text.is_empty()), "%{directive}");
        }
        assert_eq!(dated(&now, "%c").unwrap(), "Fri Nov 20 20:53:25 2026");
    }

    #[test]
    fn json_lines_have_the_fields_of_the_format_and_constants() {
        let mut log = Log { json: true, ..Log::default() };
        let wanted = r#"{"asctime": "2026-11-20 20:53:25,627", "levelname": "INFO", "message": "text \"quoted\""}"#;
        assert_eq!(line(&log), format!("{wanted}\n"));
        log.format = json!([{"levelname": "level"}, "message", "lineno", "exc_info"]);
        log.static_fields = json!({"app": "db"}).as_object().cloned().unwrap();
        let wanted = r#"{"level": "INFO", "message": "text \"quoted\"", "lineno": 7, "exc_info": null, "app": "db"}"#;
        assert_eq!(line(&log), format!("{wanted}\n"));
    }
}
