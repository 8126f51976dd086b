//! Schedules: moves of the formation that are to begin later, once or again and again.
//!
//! A schedule is the value of `topology/schedule/<id>` in the stores of all regions. The
//! copy in the owner's store leads, the others make it survive the loss of that store.
//!
//! Invariant *no occurrence begins twice*: what became of an occurrence stands in the
//! schedule, and `due_ms` is a later one, by the write that requests its move.

use crate::RegionName;
use serde::{Deserialize, Serialize};

/// How late an occurrence may begin, where an operator says nothing.
const WINDOW_MINUTES: u64 = 10;

/// A move that an operator asked for in advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub id: String,
    pub from: RegionName,
    pub to: RegionName,
    /// The epoch that was in force when it was made.
    pub epoch: u64,
    /// Rises with every change: of two copies the one with the greater number is newer.
    pub revision: u64,
    /// The host on which it was asked for.
    pub host: String,
    /// `None`: it has one occurrence only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronLine>,
    /// The next occurrence, in milliseconds of the Unix clock. `None`: the schedule is over.
    pub due_ms: Option<u64>,
    /// How late an occurrence may still begin.
    pub window_minutes: u64,
    #[serde(default, skip_serializing_if = "Limits::are_none")]
    pub limits: Limits,
    /// What became of the last occurrence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Occurrence>,
}

/// Five fields of a crontab and the time zone that they are read in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronLine {
    pub line: String,
    /// By its name, such as `Europe/Vienna`.
    pub timezone: String,
}

/// What a move may cost, where its operator said so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Of the replay of each group when the move begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_bytes_max: Option<u64>,
    /// From the hold of writes to the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_seconds_max: Option<u64>,
}

/// One time at which a schedule was due, or at which it was cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    pub due_ms: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The id of the move that was requested.
    Started(String),
    /// Why it was not.
    Skipped(String),
    /// Why the schedule ended.
    Cancelled(String),
}

impl Limits {
    pub fn are_none(&self) -> bool {
        *self == Limits::default()
    }
}

impl Schedule {
    /// One occurrence, as it is where an operator says no more.
    pub fn once(id: &str, from: RegionName, to: RegionName, due_ms: u64) -> Schedule {
        Schedule {
            id: id.into(),
            from,
            to,
            epoch: 1,
            revision: 1,
            host: String::new(),
            cron: None,
            due_ms: Some(due_ms),
            window_minutes: WINDOW_MINUTES,
            limits: Limits::default(),
            last: None,
        }
    }

    pub fn is_pending(&self) -> bool {
        self.due_ms.is_some()
    }

    /// The schedule after its present occurrence. `due_ms`: the next one; a cancelled
    /// schedule has none, and ends now.
    pub fn concluded(&self, outcome: Outcome, due_ms: Option<u64>, now_ms: u64) -> Schedule {
        let at_ms = match outcome {
            Outcome::Cancelled(_) => now_ms,
            Outcome::Started(_) | Outcome::Skipped(_) => self.due_ms.unwrap_or_default(),
        };
        let last = Occurrence { due_ms: at_ms, outcome };
        Schedule { revision: self.revision + 1, due_ms, last: Some(last), ..self.clone() }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Started(id) => write!(f, "started as move {id}"),
            Outcome::Skipped(why) => write!(f, "skipped: {why}"),
            Outcome::Cancelled(why) => write!(f, "cancelled: {why}"),
        }
    }
}
