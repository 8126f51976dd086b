//! `doctor`: what is wrong with a cluster or will be, on one page.
//!
//! The store is read, and every member is asked. What was seen is a value (`seen.rs`), what is
//! wrong with it are rows of a table (`rows.rs`,
//! `when.rs`), and the findings of the formation's graph.
//! Nothing is changed.
//!
//! Exit codes: 0 nothing was found, 3 warnings only, 4 at least one error; 1 as everywhere: the
//! store could not be read, so nothing is known.

mod ask;
mod rows;
mod seen;
mod when;

use super::outcome::Found;
use crate::args::doctor::Doctor;
use crate::output::{Format, render};
use crate::table::{Column, Table};
use crate::world::World;
use anyhow::Result;
use rows::Finding;
use seen::Seen;
use serde_json::json;
use topology::graph::Level;

const WARNINGS: u8 = 3;
const ERRORS: u8 = 4;

pub(crate) async fn run(world: &mut World, args: &Doctor) -> Result<()> {
    let scope = world.scope(args.of.cluster.as_deref())?;
    let seen = ask::look(world, &scope, args.of.group).await?;
    let found = rows::findings(&seen);
    let text = match args.format {
        Format::Pretty => page(&scope, &seen, &found),
        format => render(&table(&found), format),
    };
    world.terminal.print(&text)?;
    match found.iter().map(|finding| finding.level).max() {
        None => Ok(()),
        Some(Level::Warning) => Err(Found(WARNINGS).into()),
        Some(Level::Error) => Err(Found(ERRORS).into()),
    }
}

fn page(scope: &str, seen: &Seen, found: &[Finding]) -> String {
    let mut lines = vec![summary(scope, seen)];
    for Finding { level, object, text, remedy, .. } in found {
        lines.push(format!("{:<8} {object}: {text}", level.text()));
        lines.push(format!("{:<8}   {remedy}", ""));
    }
    lines.push(match found.len() {
        0 => "nothing is wrong".to_string(),
        1 => "1 finding".to_string(),
        count => format!("{count} findings"),
    });
    // Names come from stores: none of them moves the cursor.
    let shown = |line: String| line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    lines.into_iter().map(shown).map(|line: String| line + "\n").collect()
}

fn summary(scope: &str, seen: &Seen) -> String {
    let answered = seen.members.iter().filter(|member| member.status.is_ok()).count();
    let (members, groups) = (seen.members.len(), seen.groups.len());
    let groups = if groups > 1 { format!(" in {groups} groups") } else { String::new() };
    let none = seen.members.iter().all(|member| member.watchdog == Some(false));
    let watchdogs = if none && answered > 0 { "; no member has a watchdog" } else { "" };
    let (slowest, safe) = (seen.store_ms, seen.safe_ttl_s());
    format!(
        "{scope}: {answered} of {members} members answer{groups}; the slowest of {} reads of the \
         store took {slowest} ms, for which a ttl of {safe} s is long enough{watchdogs}",
        ask::READS
    )
}

fn table(found: &[Finding]) -> Table {
    let row = |f: &Finding| {
        vec![json!(f.level.text()), json!(f.code), json!(f.object), json!(f.text), json!(f.remedy)]
    };
    Table {
        columns: ["Level", "Code", "Object", "Finding", "Remedy"].map(Column::new).to_vec(),
        rows: found.iter().map(row).collect(),
        ..Table::default()
    }
}

#[cfg(test)]
#[path = "doctor/tests.rs"]
mod tests;
