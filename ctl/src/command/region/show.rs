//! Tables about regions, from what their stores said.
//!
//! Invariant *pure*: nothing is asked here. What is not known says so.

use super::formation;
use super::sites::{Regions, Sites};
use crate::moment::{of_ms, text_of_ms, to_the_second};
use crate::table::{Align, Column, Table};
use serde_json::{Value, json};
use standby::switch::Site;
use standby::switch::local::PastMove;
use standby::switch::preflight::Finding;
use std::collections::BTreeMap;
use topology::region::{Journal, Phase};
use topology::report::{RegionReport, Standing};
use topology::schedule::{CronLine, Schedule};
use topology::{RegionName, Seen};

fn numbers(key: &'static str) -> Column {
    Column { align: Align::Right, ..Column::new(key) }
}

/// `region list`: one row a region.
pub(super) fn list(regions: &Regions, sites: &Sites) -> Table {
    let scene = formation::scene(regions, sites);
    let owner = sites.newest().map(|certificate| &certificate.owner);
    let owned = owner.and_then(|owner| sites.read(owner).ok()).map(|site| &site.groups);
    let row = |(name, site): (&RegionName, &Result<Site, String>)| {
        let seen = scene.regions.iter().find(|region| region.name == *name);
        let role = seen.map_or(Seen::Unknown, |region| region.role);
        let standing = Standing::of(name, role, owner);
        match site {
            Ok(site) => seen_row(name, site, RegionReport::of(standing, &site.groups, owned)),
            Err(_) => [name.as_str(), standing.word(), "?", "?", "?", "unreachable"]
                .map(Value::from)
                .into(),
        }
    };
    let epoch = sites.newest().map_or("no owner yet".to_string(), |c| format!("epoch {}", c.epoch));
    Table {
        title: Some(format!(" Formation: {} ({epoch}) ", regions.formation)),
        columns: vec![
            Column::new("Region"),
            Column::new("Role"),
            numbers("Epoch"),
            numbers("Groups"),
            numbers("Lag in bytes"),
            Column::new("Agent"),
        ],
        rows: sites.0.iter().map(row).collect(),
        footer: footer(sites),
        ..Table::default()
    }
}

fn seen_row(name: &RegionName, site: &Site, report: RegionReport) -> Vec<Value> {
    let lag = report.lag_bytes.map_or(Value::Null, |lag| match lag {
        Seen::Known(bytes) => json!(bytes),
        Seen::Unknown => json!("?"),
    });
    let agent = site.topology.agent.as_ref().map_or("none", |agent| member_of(&agent.value));
    let epoch = site.topology.accepted_epoch();
    let groups = format!("{}/{}", report.led, report.groups);
    vec![json!(name), json!(report.standing.word()), json!(epoch), json!(groups), lag, json!(agent)]
}

fn member_of(agent: &str) -> &str {
    agent.split_once('/').map_or(agent, |(_, member)| member)
}

/// What is not as it should be, and what is going on.
fn footer(sites: &Sites) -> Vec<String> {
    let unread = sites
        .0
        .iter()
        .filter_map(|(name, site)| Some(format!(" Region {name}: {}", site.as_ref().err()?)));
    let mut lines: Vec<String> = unread.collect();
    for (name, site) in sites.known() {
        for (key, why) in &site.topology.unreadable {
            lines.push(format!(" Region {name}: `topology/{key}` cannot be read: {why}"));
        }
    }
    if let Some(journal) = running(sites) {
        let (from, to, phase) = (&journal.from, &journal.to, journal.phase.to_string());
        let aborts = journal.abort.as_ref().map_or("", |_| ", to be given up");
        lines.push(format!(" Move from {from} to {to}: {phase}{aborts}"));
    }
    lines.extend(sites.schedules().values().map(|schedule| format!(" {}", told(schedule))));
    lines
}

/// A schedule in one line.
pub(super) fn told(schedule: &Schedule) -> String {
    let Schedule { id, from, to, host, .. } = schedule;
    let mut line = format!("Schedule {id}: from {from} to {to}");
    match (schedule.due_ms, &schedule.cron) {
        (None, _) => line += ", over",
        (Some(due_ms), None) => line += &format!(" at {}", text_of_ms(due_ms)),
        (Some(due_ms), Some(CronLine { line: cron, timezone })) => {
            let next = text_of_ms(due_ms);
            line += &format!(" by `{cron}` in {timezone}, next at {next}");
        }
    }
    line += &format!(", made on host {host}");
    if let Some(last) = &schedule.last {
        line += &format!("; at {} {}", text_of_ms(last.due_ms), last.outcome);
    }
    line
}

/// The move under way, in the copy that is furthest.
pub(super) fn running(sites: &Sites) -> Option<&Journal> {
    let newest = sites.newest().map_or(0, |certificate| certificate.epoch);
    let mut copies = BTreeMap::new();
    for journal in sites.known().filter_map(|(_, site)| site.topology.journal()) {
        let kept: &mut &Journal = copies.entry(&journal.id).or_insert(journal);
        if journal.phase > kept.phase {
            *kept = journal;
        }
    }
    copies.into_values().find(|journal| journal.is_running(newest))
}

/// `region check`.
pub(super) fn findings(found: &[Finding]) -> Table {
    let row = |f: &Finding| {
        let level = f.level.to_string();
        vec![json!(level), json!(f.object), json!(f.message), json!(f.remedy)]
    };
    let mut sorted: Vec<_> = found.iter().collect();
    sorted.sort_by_key(|f| std::cmp::Reverse(f.level));
    Table {
        columns: ["Level", "Object", "Finding", "Remedy"].map(Column::new).to_vec(),
        rows: sorted.into_iter().map(row).collect(),
        ..Table::default()
    }
}

/// `region history`: every move that any store remembers, oldest first.
pub(super) fn history(sites: &Sites) -> Table {
    let lines = sites.known().filter_map(|(_, site)| site.topology.history.as_ref());
    let mut moves: BTreeMap<(u64, &str), &PastMove> = BTreeMap::new();
    for line in lines.flat_map(|history| &history.value) {
        moves.insert((line.began_ms, &line.id), line);
    }
    Table {
        columns: vec![
            numbers("Epoch"),
            Column::new("From"),
            Column::new("To"),
            Column::new("Began"),
            numbers("Seconds"),
            Column::new("Result"),
        ],
        rows: moves.into_values().map(past_row).collect(),
        ..Table::default()
    }
}

fn past_row(past: &PastMove) -> Vec<Value> {
    let is_done = past.phase == Phase::Done;
    let epoch = past.epoch + u64::from(is_done);
    let result = match &past.error {
        None if is_done => "done".to_string(),
        None => past.phase.to_string(),
        Some(why) => format!("{}: {why}", past.phase),
    };
    let began = of_ms(past.began_ms).map(|at| to_the_second(&at));
    let seconds = format!("{:.1}", past.took_ms as f64 / 1_000.0);
    vec![
        json!(epoch),
        json!(past.from),
        json!(past.to),
        json!(began),
        json!(seconds),
        json!(result),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{formation, journal};
    use super::*;
    use crate::table::pretty;

    #[tokio::test]
    async fn a_region_that_cannot_be_read_keeps_its_place() {
        let formation = formation();
        let text = pretty(&list(&formation.regions, &formation.regions.read().await));
        assert!(text.contains("| a      | primary |     1 |    1/1 |              | n1"), "{text}");
        assert!(text.contains("| b      | standby |     1 |    1/1 |           40 | n1"), "{text}");
        formation.b.set_unreachable(true);
        let text = pretty(&list(&formation.regions, &formation.regions.read().await));
        assert!(text.contains("| b      | unknown |     ? |      ? |"), "{text}");
        // An agent of `a` remembers it, and `a` says that it owns the formation.
        formation.b.set_unreachable(false);
        formation.remember_b();
        formation.b.set_unreachable(true);
        let text = pretty(&list(&formation.regions, &formation.regions.read().await));
        assert!(text.contains("| b      | standby |     ? |      ? |"), "{text}");
        assert!(text.contains("Region b: the store is not reached"), "{text}");
    }

    #[tokio::test]
    async fn a_running_move_is_shown_and_a_past_one_is_history() {
        let formation = formation();
        formation.write_journal(&journal(Phase::CatchUp));
        let sites = formation.regions.read().await;
        let text = pretty(&list(&formation.regions, &sites));
        assert!(text.contains("Move from a to b: catch up"), "{text}");
        let mut aborted = journal(Phase::Aborted);
        aborted.error = Some("too late".into());
        formation.write_journal(&aborted);
        let text = pretty(&history(&formation.regions.read().await));
        assert!(text.contains("aborted: too late"), "{text}");
    }
}
