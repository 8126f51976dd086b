//! What is wrong with a configuration, all of it at once.
//!
//! One collector goes through every step of reading. Findings refuse the
//! configuration, warnings do not. Each finding names its path, what is wrong
//! there and what to write instead.
//!
//! Invariant *no secrets*: a finding never repeats the value of a secret.
//!
//! Absent on purpose: printing. The daemon and the command line each have
//! their own place for these lines.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Dotted path of the setting, or the file.
    pub path: String,
    pub wrong: String,
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.wrong, self.remedy)
    }
}

/// Everything that was found, in the order of reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    found: Vec<Finding>,
    warnings: Vec<String>,
    /// The variable that set a path, so that a finding can name it.
    origins: BTreeMap<String, String>,
    strict: bool,
}

impl std::error::Error for Findings {}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.found.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Findings {
    pub fn add(&mut self, path: &str, wrong: impl Into<String>, remedy: impl Into<String>) {
        let path = match self.origins.get(path) {
            Some(variable) => format!("{path} (from {variable})"),
            None => path.to_string(),
        };
        let path = one_line(path);
        let finding = Finding { path, wrong: one_line(wrong), remedy: one_line(remedy) };
        if !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }

    pub fn warn(&mut self, text: impl Into<String>) {
        let text = one_line(text);
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// For a check that the operator asked for: what a start would accept with a
    /// warning is a finding too.
    pub fn strict() -> Findings {
        Findings { strict: true, ..Findings::default() }
    }

    pub fn are_strict(&self) -> bool {
        self.strict
    }

    pub fn came_from(&mut self, path: &str, variable: &str) {
        self.origins.insert(path.to_string(), variable.to_string());
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.found.iter()
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The warnings when nothing was found, else everything that was.
    pub fn finish(self) -> Result<Vec<String>, Findings> {
        if self.is_empty() { Ok(self.warnings) } else { Err(self) }
    }
}

/// What was read may hold line ends; a finding is one line.
fn one_line(text: impl Into<String>) -> String {
    let blank = |c: char| if c.is_control() { ' ' } else { c };
    text.into().chars().map(blank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_one_line_and_names_its_variable() {
        let mut findings = Findings::default();
        findings.came_from("a.b", "PATRONI_A_B");
        findings.add("a.b", "is wrong", "write 1");
        findings.add("a.b", "is wrong", "write 1");
        findings.add("c", "is missing", "write it");
        let text = "a.b (from PATRONI_A_B): is wrong; write 1\nc: is missing; write it";
        assert_eq!(findings.to_string(), text);
        assert!(findings.finish().is_err());
    }
}
