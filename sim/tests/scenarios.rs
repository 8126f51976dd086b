//! Scenarios: the committed texts of `sim/scenarios`, replayed.
//!
//! A text whose outputs differ from what happens now fails, and the difference is
//! printed. `UPDATE_SCENARIOS=1 cargo test -p sim --test scenarios` renews the
//! outputs; the change is then reviewed as any other. `MATRIARCH_SCENARIO=name`
//! replays one text alone, with `MATRIARCH_TRACE=1` it prints the world's whole trace.

use sim::scenario::command::{COMMANDS, MAKING};
use sim::scenario::difference::difference;
use sim::scenario::replay;
use sim::scenario::text::Text;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A page.
const LINES_MAX: usize = 80;

fn texts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = fs::read_dir(dir).expect("the scenarios");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a scenario is text")
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The failure of one text, or nothing.
fn failure(path: &Path) -> Option<String> {
    let before = read(path);
    let after = match replay(&before) {
        Ok(after) => after,
        Err(why) => return Some(format!("{}: {why}", name(path))),
    };
    if before == after {
        return None;
    }
    if std::env::var_os("UPDATE_SCENARIOS").is_some() {
        fs::write(path, after).expect("a scenario can be renewed");
        return None;
    }
    Some(format!("{} has another outcome:\n{}", name(path), difference(&before, &after)))
}

#[test]
fn every_scenario_has_the_outcome_that_its_text_tells() {
    let wanted = std::env::var("MATRIARCH_SCENARIO").ok();
    let chosen = |path: &&PathBuf| wanted.as_ref().is_none_or(|wanted| name(path) == *wanted);
    let failures: Vec<String> = texts().iter().filter(chosen).filter_map(|p| failure(p)).collect();
    assert!(failures.is_empty(), "\n{}\nUPDATE_SCENARIOS=1 renews them", failures.join("\n"));
}

#[test]
fn every_scenario_tells_its_story_on_one_page() {
    for path in texts() {
        let text = read(&path);
        assert!(text.starts_with("# "), "{} does not begin with its story", name(&path));
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines, a page has {LINES_MAX}", name(&path));
        assert!(!text.contains("BROKEN"), "{} breaks an invariant", name(&path));
        assert!(!text.contains("usage: "), "{} misspells a command", name(&path));
    }
}

#[test]
fn every_command_is_used() {
    let mut used = BTreeSet::new();
    for path in texts() {
        let text = Text::read(&read(&path)).expect("a text");
        used.extend(text.commands().filter_map(|c| c.split(' ').next().map(str::to_string)));
    }
    let names = COMMANDS.iter().map(|row| row.name).chain(MAKING.iter().map(|(name, _)| *name));
    let unused: Vec<&str> = names.filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "no scenario uses {unused:?}");
}
