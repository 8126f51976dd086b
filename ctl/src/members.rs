//! From what the store says to the rows of `list` and `topology`.
//!
//! Roles, states and lags are those of the report, which `GET /cluster` prints too;
//! here they become cells. Unknown stays visible: a position that was not published is `unknown`,
//! a lag that cannot be computed is an empty cell, never 0.
//!
//! Absent on purpose: reading the store (`world.rs`) and borders (`table.rs`).

use crate::table::{Column, Table};
use crate::tree;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use topology::report::{GroupReport, MemberReport, Role};
use topology::{Group, GroupView, Lsn, MemberRecord, Seen};

pub(crate) type Groups = BTreeMap<Group, GroupView>;

/// What of a formation is shown, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub scope: String,
    pub is_citus: bool,
    /// With Citus: one group only.
    pub group: Option<u32>,
    /// All optional columns, even where no member has a value.
    pub extended: bool,
    /// How far standby leaders are behind the remote side, as of this moment (in
    /// milliseconds since 1970).
    pub remote_lag_at: Option<u64>,
    /// In the order of replication, one line a member.
    pub is_tree: bool,
}

const OPTIONAL: [&str; 4] =
    ["Pending restart", "Pending restart reason", "Scheduled restart", "Tags"];

const REMOTE: [&str; 3] = ["Remote Receive Lag", "Remote Replay Lag", "Remote Lag Seconds"];

const LOGICAL: &str = "Logical Slots";

const MEGABYTE: f64 = 1_048_576.0;

/// The table of all members.
pub(crate) fn rows(groups: &Groups, shown: &Shown) -> Table {
    let style = HostStyle::of(groups);
    let has_logical = shown.extended && has_logical_slots(groups);
    let mut rows = Vec::new();
    for (group, view) in groups {
        for (member, label) in tree::order(&GroupReport::of(view), shown.is_tree) {
            let mut row = cells(shown, *group, &member, &label, style);
            row.extend(has_logical.then(|| text_or_empty(logical_slots(member.record))));
            rows.push(row);
        }
    }
    let mut table = Table {
        title: Some(title(groups, shown)),
        columns: columns(shown, has_logical),
        rows,
        footer: footer(groups, shown),
        is_tree: shown.is_tree,
    };
    if !shown.extended {
        drop_empty_optional(&mut table);
    }
    table
}

/// Whether a reader of each permanent logical slot can go on at this member.
fn logical_slots(record: &MemberRecord) -> Option<String> {
    let words = record.logical_slots.iter().map(|(name, word)| format!("{name} {word}"));
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn has_logical_slots(groups: &Groups) -> bool {
    let mut members = groups.values().flat_map(|view| view.members.values());
    members.any(|member| !member.value.logical_slots.is_empty())
}

fn columns(shown: &Shown, has_logical: bool) -> Vec<Column> {
    let mut columns = vec![Column::titled("Cluster")];
    if shown.is_citus {
        let group = if shown.group.is_some() { Column::titled } else { Column::new };
        columns.push(group("Group"));
    }
    let fixed = ["Member", "Host", "Role", "State", "TL", "Receive LSN", "Receive Lag"];
    columns.extend(fixed.map(Column::new));
    columns.extend(["Replay LSN", "Replay Lag"].map(Column::new));
    columns.extend(OPTIONAL.map(Column::new));
    if shown.remote_lag_at.is_some() {
        columns.extend(REMOTE.map(Column::new));
    }
    columns.extend(has_logical.then(|| Column::new(LOGICAL)));
    columns
}

fn drop_empty_optional(table: &mut Table) {
    let is_kept = |index: usize, column: &Column| {
        !OPTIONAL.contains(&column.key.as_ref())
            || table.rows.iter().any(|row| !row[index].is_null())
    };
    let kept: Vec<bool> =
        table.columns.iter().enumerate().map(|(index, column)| is_kept(index, column)).collect();
    let mut flags = kept.iter();
    table.columns.retain(|_| flags.next() == Some(&true));
    for row in &mut table.rows {
        let mut flags = kept.iter();
        row.retain(|_| flags.next() == Some(&true));
    }
}

fn cells(
    shown: &Shown,
    group: Group,
    member: &MemberReport,
    label: &str,
    style: HostStyle,
) -> Vec<Value> {
    let record = member.record;
    let mut row = vec![json!(shown.scope)];
    if shown.is_citus {
        row.push(group.0.map_or(Value::Null, Value::from));
    }
    row.extend([
        json!(label),
        host(record, style),
        json!(title_of(member.role)),
        json!(member.state),
        record.timeline.map_or(Value::Null, |t| json!(t.0)),
    ]);
    row.extend(positions(member));
    row.push(if record.pending_restart { json!("*") } else { Value::Null });
    row.push(text_or_empty(restart_reason(record)));
    row.push(text_or_empty(scheduled_restart(record)));
    let has_tags = !record.tags.0.is_empty();
    row.push(if has_tags { Value::Object(record.tags.0.clone()) } else { Value::Null });
    if let Some(now) = shown.remote_lag_at {
        row.extend(remote_lags(member, now));
    }
    row
}

/// Bytes, for a standby leader is to be level with the remote side; and the age of the
/// last replayed commit, 0 if it has replayed all that it was told of.
fn remote_lags(member: &MemberReport, unix_ms: u64) -> [Value; 3] {
    let lag = member.remote_lag(unix_ms).unwrap_or_default();
    let seconds = lag.replay_ms.map(|ms| ms / 1_000);
    [lag.receive_bytes, lag.replay_bytes, seconds].map(|n| n.map_or(Value::Null, Value::from))
}

fn text_or_empty(text: Option<String>) -> Value {
    text.filter(|t| !t.is_empty()).map_or(Value::Null, Value::from)
}

/// Ports are shown for all members as soon as one needs it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HostStyle {
    Plain,
    WithPort,
}

impl HostStyle {
    fn of(groups: &Groups) -> HostStyle {
        let records = groups.values().flat_map(|view| view.members.values());
        let mut seen = BTreeSet::new();
        let needed = records
            .filter_map(|member| member.value.address())
            .any(|(host, port)| port != 5432 || !seen.insert(host));
        if needed { HostStyle::WithPort } else { HostStyle::Plain }
    }
}

fn host(record: &MemberRecord, style: HostStyle) -> Value {
    match (record.address(), style) {
        (None, _) => Value::Null,
        (Some((host, _)), HostStyle::Plain) => json!(host),
        (Some((host, port)), HostStyle::WithPort) => json!(format!("{host}:{port}")),
    }
}

/// As operators name it.
fn title_of(role: Role) -> &'static str {
    match role {
        Role::Leader => "Leader",
        Role::StandbyLeader => "Standby Leader",
        Role::SyncStandby => "Sync Standby",
        Role::QuorumStandby => "Quorum Standby",
        Role::Replica => "Replica",
    }
}

/// Receive LSN and lag, replay LSN and lag. Leaders have none.
fn positions(member: &MemberReport) -> [Value; 4] {
    if member.role.leads() {
        return [Value::Null, Value::Null, Value::Null, Value::Null];
    }
    let [receive, replay] = member.receive_and_replay();
    let text = |lsn: Seen<Lsn>| lsn.known().map_or(json!("unknown"), |at| json!(at.to_string()));
    let lag = |lag: Seen<u64>| lag.known().map_or(Value::Null, |bytes| json!(megabytes(*bytes)));
    [text(receive.lsn), lag(receive.lag_bytes), text(replay.lsn), lag(replay.lag_bytes)]
}

fn megabytes(bytes: u64) -> u64 {
    (bytes as f64 / MEGABYTE).round_ties_even() as u64
}

/// `parameter: old->new`, one a line.
fn restart_reason(record: &MemberRecord) -> Option<String> {
    let reasons = record.pending_restart_reason.as_ref()?.as_object()?;
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let lines = reasons.iter().map(|(parameter, change)| {
        let (old, new) = (text(change.get("old_value")), text(change.get("new_value")));
        format!("{parameter}: {old}->{new}")
    });
    Some(lines.collect::<Vec<_>>().join("\n"))
}

fn scheduled_restart(record: &MemberRecord) -> Option<String> {
    let request = record.scheduled_restart.as_ref()?;
    let at = request.get("schedule")?.as_str()?;
    Some(match request.get("postgres_version").and_then(Value::as_str) {
        Some(version) => format!("{at} if version < {version}"),
        None => at.to_string(),
    })
}

fn title(groups: &Groups, shown: &Shown) -> String {
    let scope = &shown.scope;
    match (shown.is_citus, shown.group) {
        (false, _) => format!(" Cluster: {scope} ({}) ", system_id(groups)),
        (true, None) => format!(" Citus cluster: {scope} "),
        (true, Some(group)) => {
            format!(" Citus cluster: {scope} (group: {group}, {}) ", system_id(groups))
        }
    }
}

fn system_id(groups: &Groups) -> String {
    match groups.values().next().and_then(|view| view.initialize.as_ref()) {
        None => "uninitialized".to_string(),
        Some(key) => key.value.as_ref().map_or("initializing".to_string(), |id| id.to_string()),
    }
}

fn footer(groups: &Groups, shown: &Shown) -> Vec<String> {
    let mut lines = Vec::new();
    for (group, view) in groups {
        let own = group_footer(&GroupReport::of(view));
        if shown.is_citus && shown.group.is_none() && !own.is_empty() {
            lines.push(format!("Citus group: {group}"));
        }
        lines.extend(own);
    }
    lines
}

fn group_footer(group: &GroupReport) -> Vec<String> {
    let mut lines = Vec::new();
    if group.is_paused {
        lines.push(" Maintenance mode: on".to_string());
    }
    if let Some(switchover) = &group.switchover {
        let line = |key: &str, value: &str| format!("{key:>24}: {value}");
        lines.push(line("Switchover scheduled at", &switchover.at.replacen(' ', "T", 1)));
        lines.extend(switchover.from.map(|name| line("from", name.as_str())));
        lines.extend(switchover.to.map(|name| line("to", name.as_str())));
    }
    lines
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
