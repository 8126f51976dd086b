//! Timelines and their history files.
//!
//! A history answers one question: does a log that ends at (timeline, LSN) lie
//! on the path that led to the current timeline?

use crate::Lsn;
use std::fmt;

#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One line of `<timeline>.history`: `parent` ended at `switch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    pub parent: Timeline,
    pub switch: Lsn,
    pub reason: String,
}

/// How the current timeline came to be, oldest fork first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub current: Timeline,
    pub forks: Vec<Fork>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the history of timeline {timeline} is not `parent LSN reason`: `{text}`")]
pub struct BadHistory {
    pub timeline: Timeline,
    pub line: usize,
    pub text: String,
}

impl History {
    /// Reads the text of a `.history` file; timeline 1 has none.
    pub fn parse(current: Timeline, text: &str) -> Result<History, BadHistory> {
        let mut forks = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fork = parse_line(line).ok_or_else(|| BadHistory {
                timeline: current,
                line: index + 1,
                text: line.to_string(),
            })?;
            forks.push(fork);
        }
        Ok(History { current, forks })
    }

    /// Where `timeline` was left on the way to the current one; `None` for the
    /// current timeline itself and for timelines that are not ancestors.
    pub fn left_at(&self, timeline: Timeline) -> Option<Lsn> {
        self.forks.iter().find(|fork| fork.parent == timeline).map(|fork| fork.switch)
    }

    /// Is a log that ends at `end` on `timeline` a prefix of this history?
    pub fn contains(&self, timeline: Timeline, end: Lsn) -> bool {
        timeline == self.current || self.left_at(timeline).is_some_and(|switch| end <= switch)
    }
}

fn parse_line(line: &str) -> Option<Fork> {
    let mut words = line.splitn(3, char::is_whitespace);
    let parent = Timeline(words.next()?.parse().ok()?);
    let switch = words.next()?.parse().ok()?;
    let reason = words.next().unwrap_or("").trim().to_string();
    Some(Fork { parent, switch, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_contained_and_a_branch_is_not() {
        let text = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000000\tx\n";
        let history = History::parse(Timeline(3), text).unwrap();
        assert!(history.contains(Timeline(1), Lsn(0x3000000)));
        assert!(!history.contains(Timeline(1), Lsn(0x3000001)));
        assert!(history.contains(Timeline(2), Lsn(0x4000000)));
        assert!(history.contains(Timeline(3), Lsn(0x9000000)));
        assert!(!history.contains(Timeline(4), Lsn(0)));
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = History::parse(Timeline(2), "1 nonsense").unwrap_err();
        assert_eq!(error.line, 1);
        assert!(error.to_string().contains("timeline 2"));
    }
}
