//! `explain`: why a member is what it is: the rule that it went by last, what that rule waits
//! for, and the facts that bear on it; `decisions`: the last rules that it went by.
//!
//! The member tells its decisions (`GET /decisions`). The facts are those of the store and of
//! `GET /patroni` now; the member may have read others a moment ago.

use super::list::{CLEAR, every};
use super::reload::call;
use crate::args::explain::{Decisions, Explain, OneMember};
use crate::moment;
use crate::output::render;
use crate::rest::QUICK;
use crate::table::{Column, Table};
use crate::world::{Chosen, World};
use anyhow::{Context, Result, bail};
use node::api::decisions::waits;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use topology::report::{MemberReport, Role};
use topology::{GroupView, Lsn, MemberName, MemberRole, Seen};

/// As `GET /decisions` tells it. Detail and step are for callers that may change something.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Told {
    at: u64,
    rule: u16,
    why: String,
    detail: Option<String>,
    outcome: Option<String>,
}

/// The member, and the group as the store shows it.
struct Picked {
    member: Chosen,
    view: GroupView,
}

pub(crate) async fn explain(world: &mut World, args: &Explain) -> Result<()> {
    let Picked { member, view } = pick(world, &args.of).await?;
    let decisions = ask(world, &member).await;
    let status = call(world, &member, Method::GET, "patroni", None, QUICK).await;
    let status = status.map_or(Value::Null, |reply| reply.json());
    let now = world.now().timestamp().as_millisecond().unsigned_abs();
    let mut lines = vec![role(&view, &member)];
    let read = decisions.map(|all| lines.extend(last(&all, now)));
    lines.push("facts:".to_string());
    let facts = facts(&view, &member, &status).into_iter();
    lines.extend(facts.map(|(name, value)| format!("  {name:<12} {value}")));
    lines.iter().try_for_each(|line| world.terminal.say(line))?;
    read
}

pub(crate) async fn decisions(world: &mut World, args: &Decisions) -> Result<()> {
    let every = every(&args.watch);
    loop {
        let Picked { member, .. } = pick(world, &args.of).await?;
        let told = ask(world, &member).await?;
        if every.is_some() {
            world.terminal.print(CLEAR)?;
        }
        world.terminal.print(&render(&table(&told), args.format))?;
        match every {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Ok(()),
        }
    }
}

async fn pick(world: &World, of: &OneMember) -> Result<Picked> {
    let scope = world.scope(of.cluster.as_deref())?;
    let cluster = world.read(&scope, of.group).await?;
    let named = |member: &Chosen| member.name.as_str() == of.member;
    let mut found = cluster.members().into_iter().filter(named);
    let member = found.next().with_context(|| {
        let names: Vec<String> = cluster.members().iter().map(|m| m.name.to_string()).collect();
        format!("cluster {scope} has no member {}; it has {}", of.member, names.join(", "))
    })?;
    if found.next().is_some() {
        bail!("several groups have a member {}: name one with --group", of.member);
    }
    let view = cluster.view(member.group).cloned().unwrap_or_default();
    Ok(Picked { member, view })
}

/// Oldest first.
async fn ask(world: &World, member: &Chosen) -> Result<Vec<Told>> {
    let name = &member.name;
    let reply = call(world, member, Method::GET, "decisions", None, QUICK).await?;
    match reply.status {
        200 => serde_json::from_value(reply.json())
            .with_context(|| format!("the decisions of {name} cannot be read")),
        404 => bail!("member {name} keeps no decisions: its daemon is another program"),
        status => bail!("member {name} does not tell its decisions: {status}, {}", reply.text),
    }
}

/// One line: what the member is.
fn role(view: &GroupView, member: &Chosen) -> String {
    let report = MemberReport::of(view, &member.name, &member.record);
    let from = report.upstream.filter(|_| report.record.is_running());
    let from = from.map_or(String::new(), |name| format!(", receives WAL from {name}"));
    let state = if report.state.is_empty() { "unknown" } else { report.state };
    let role = match report.role {
        Role::Leader => "the leader",
        Role::StandbyLeader => "the standby leader",
        Role::SyncStandby => "a synchronous standby",
        Role::QuorumStandby => "a standby of the quorum",
        Role::Replica => "a replica",
    };
    format!("{} is {role}: {state}{from}", member.name)
}

/// What was decided last, its outcome, and what would change it.
fn last(all: &[Told], now_ms: u64) -> Vec<String> {
    let Some(told) = all.last() else {
        return vec!["it has decided nothing yet".to_string()];
    };
    let ago = now_ms.saturating_sub(told.at) / 1000;
    let mut lines = vec![format!("rule {}, {ago} s ago: {}", told.rule, told.why)];
    lines.extend(told.detail.iter().map(|detail| format!("  detail: {detail}")));
    lines.extend(told.outcome.iter().map(|outcome| format!("  outcome: {outcome}")));
    if let Some(wait) = waits(told.rule) {
        lines.push(format!("  ends with: {}", wait.ends_with));
        lines.push(format!("  otherwise: {}", wait.otherwise));
    }
    lines
}

fn facts(view: &GroupView, member: &Chosen, status: &Value) -> Vec<(&'static str, String)> {
    let record = &member.record;
    let report = MemberReport::of(view, &member.name, record);
    let leader = view.leader_name().map_or("not held".to_string(), MemberName::to_string);
    let mut facts = vec![("lock", leader)];
    let mut put = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    put("its record", Some(format!("{}, {}", record.role.text(), record.state)));
    put("timeline", record.timeline.map(|timeline| timeline.to_string()));
    put("position", report.position().lsn.known().map(Lsn::to_string));
    put("behind", behind(&report));
    put("reason", record.reason.clone());
    let tags = serde_json::to_string(&record.tags.0).ok().filter(|_| !record.tags.0.is_empty());
    put("tags", tags);
    put("pause", view.is_paused().then(|| "on".to_string()));
    put("sync", view.sync.as_ref().map(|sync| sync.value.write()));
    put("request", view.request().map(|request| request.write()));
    let says = |key: &str| status.get(key).and_then(Value::as_bool) == Some(true);
    put("failsafe", says("failsafe_mode_is_active").then(|| "active".to_string()));
    put("watchdog", says("watchdog_failed").then(|| "cannot be used".to_string()));
    put("disk", says("disk_failed").then(|| "takes no new files".to_string()));
    put("API", status.is_null().then(|| "no answer: this is what the store has".to_string()));
    facts
}

fn behind(report: &MemberReport) -> Option<String> {
    match report.position().lag_bytes {
        Seen::Known(bytes) => Some(format!("{bytes} bytes")),
        Seen::Unknown if report.role.leads() || report.record.role == MemberRole::Primary => None,
        Seen::Unknown => Some("unknown".to_string()),
    }
}

fn table(all: &[Told]) -> Table {
    let row = |told: &Told| {
        vec![
            json!(moment::text_of_ms(told.at)),
            json!(told.rule),
            json!(told.why),
            json!(told.detail),
            json!(told.outcome),
        ]
    };
    Table {
        columns: ["Time", "Rule", "Decision", "Detail", "Outcome"].map(Column::new).to_vec(),
        rows: all.iter().map(row).collect(),
        ..Table::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{move_apis, world};
    use crate::output::Format;
    use crate::rest::answering::serve;

    const MOMENT: &str = "02-three-nodes-default";

    fn of(member: &str) -> OneMember {
        OneMember { member: member.into(), ..OneMember::default() }
    }

    fn kept() -> String {
        json!([
            {"at": 1_000, "rule": 850, "why": "the lock is free", "outcome": "Lost"},
            {"at": 2_000, "rule": 31, "why": "the data directory cannot be used and is not touched",
             "detail": "its owner is root", "step": "Rest", "outcome": null},
        ])
        .to_string()
    }

    #[tokio::test]
    async fn a_member_is_explained_by_its_last_rule_and_the_facts() {
        let (url, _) = serve(vec![
            ("GET /decisions", 200, kept()),
            ("GET /patroni", 200, json!({"disk_failed": true}).to_string()),
        ])
        .await;
        let (mut world, screen) = world(MOMENT, "");
        move_apis(&world, &url).await;
        explain(&mut world, &Explain { of: of("n2") }).await.unwrap();
        let text = screen.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "n2 is a replica: streaming, receives WAL from n1");
        let rule = "s ago: the data directory cannot be used and is not touched";
        assert!(lines[1].starts_with("rule 31, ") && lines[1].ends_with(rule), "{text}");
        assert_eq!(lines[2], "  detail: its owner is root");
        assert!(lines[3].starts_with("  ends with: an operator puts the directory"), "{text}");
        assert!(lines[4].starts_with("  otherwise: the member stays as it is"), "{text}");
        for fact in ["lock         n1", "behind       0 bytes", "disk         takes no new files"] {
            assert!(lines.contains(&format!("  {fact}").as_str()), "{fact}: {text}");
        }
    }

    #[tokio::test]
    async fn without_an_answer_there_are_facts_and_an_error() {
        let (mut world, screen) = world(MOMENT, "");
        move_apis(&world, "http://127.0.0.1:1/patroni").await;
        let error = explain(&mut world, &Explain { of: of("n1") }).await.unwrap_err();
        assert!(error.to_string().contains("gave no answer"), "{error}");
        assert!(
            screen.text().starts_with("n1 is the leader: running\nfacts:\n"),
            "{}",
            screen.text()
        );
        let error = explain(&mut world, &Explain { of: of("x") }).await.unwrap_err();
        assert_eq!(error.to_string(), "cluster golden has no member x; it has n1, n2, n3");
    }

    #[tokio::test]
    async fn decisions_are_listed_oldest_first_and_need_our_daemon() {
        let (url, _) = serve(vec![("GET /decisions", 200, kept())]).await;
        let (mut first, screen) = world(MOMENT, "");
        move_apis(&first, &url).await;
        let args = Decisions { of: of("n2"), format: Format::Tsv, ..Decisions::default() };
        decisions(&mut first, &args).await.unwrap();
        let text = screen.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Time\tRule\tDecision\tDetail\tOutcome");
        assert!(lines[1].ends_with("\t850\tthe lock is free\t\tLost"), "{text}");
        let (url, _) = serve(vec![]).await;
        move_apis(&first, &url).await;
        let error = decisions(&mut first, &args).await.unwrap_err().to_string();
        assert!(error.contains("another program"), "{error}");
    }
}
