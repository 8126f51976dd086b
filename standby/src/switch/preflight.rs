//! What must hold before a planned move begins.
//!
//! Each finding names its object and its remedy. A check whose facts are not
//! known is an error: a move is never begun on a guess.

use super::slots;
use crate::slots::Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use topology::region::Journal;
use topology::schedule::Limits;
use topology::{Group, GroupView, Lsn, MemberRole, RegionName, SystemId};

/// A standby is less than this behind in replay when a move begins; an operator may
/// allow less.
pub const LAG_BYTES_MAX: u64 = 16 << 20;

/// Settings that a standby must not have lower than its primary: replay stops
/// without them, while the standby still says `streaming`.
pub const STANDBY_SETTINGS: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    Warning,
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// What it is about: `region b, group 1`.
    pub object: String,
    pub message: String,
    pub remedy: String,
}

impl Finding {
    pub fn error(object: impl Into<String>, message: impl Into<String>, remedy: &str) -> Finding {
        Finding::of(Level::Error, object, message, remedy)
    }

    pub fn warning(object: impl Into<String>, message: impl Into<String>, remedy: &str) -> Finding {
        Finding::of(Level::Warning, object, message, remedy)
    }

    pub fn ok(object: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding::of(Level::Ok, object, message, "")
    }

    /// In one line.
    pub fn text(&self) -> String {
        format!("{}: {} ({})", self.object, self.message, self.remedy)
    }

    fn of(
        level: Level,
        object: impl Into<String>,
        message: impl Into<String>,
        remedy: &str,
    ) -> Finding {
        let remedy = remedy.to_string();
        Finding { level, object: object.into(), message: message.into(), remedy }
    }
}

/// What a group's leader answers over SQL.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    pub in_recovery: bool,
    /// As in `server_version_num`.
    pub version: u64,
    pub system_id: String,
    /// The values of `STANDBY_SETTINGS`.
    pub settings: BTreeMap<String, u64>,
    pub wal_log_hints: bool,
    pub checksums: bool,
    pub is_replay_paused: bool,
    pub is_streaming: bool,
    /// A primary: written. A standby: replayed.
    pub lsn: Lsn,
    pub prepared: u64,
    /// Age in seconds of the oldest transaction of a client.
    pub oldest_transaction_s: u64,
    /// Logical slots that survive a restart.
    pub logical: Vec<Slot>,
    /// Where the WAL begins that is still there; `None`: that is not known.
    pub wal_from: Option<Lsn>,
}

/// One region, as its store and its servers tell it.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    pub region: &'a RegionName,
    pub groups: &'a BTreeMap<Group, GroupView>,
    /// Answers of the leaders; an `Err` says why there is none.
    pub probes: &'a BTreeMap<Group, Result<Probe, String>>,
}

impl Side<'_> {
    fn object(&self, group: Group) -> String {
        format!("region {}, group {group}", self.region)
    }

    fn probe(&self, group: Group) -> Option<&Probe> {
        self.probes.get(&group)?.as_ref().ok()
    }
}

/// Examines both sides; an empty list never comes back.
pub fn preflight(
    from: &Side,
    to: &Side,
    limits: &Limits,
    running: Option<&Journal>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let allowed = limits.lag_bytes_max.unwrap_or(u64::MAX);
    let lag_max = allowed.min(LAG_BYTES_MAX - 1);
    if let Some(journal) = running.filter(|j| !j.phase.is_over()) {
        let message = format!("a move from {} to {} is running", journal.from, journal.to);
        let remedy = "wait for it to end: `region list` shows it";
        found.push(Finding::error("formation", message, remedy));
    }
    same_groups(from, to, &mut found);
    unique_names(from, to, &mut found);
    for group in from.groups.keys().filter(|g| to.groups.contains_key(g)) {
        let before = found.len();
        leaders(from, to, *group, &mut found);
        systems(from, to, *group, &mut found);
        servers(from, to, *group, lag_max, &mut found);
        if found[before..].iter().all(|f| f.level == Level::Ok) {
            let message = format!("ready, {} bytes behind", lag(from, to, *group).unwrap_or(0));
            found.push(Finding::ok(to.object(*group), message));
        }
    }
    found
}

/// How far the new side's replay is behind the old side's end.
pub fn lag(from: &Side, to: &Side, group: Group) -> Option<u64> {
    Some(to.probe(group)?.lsn.behind(from.probe(group)?.lsn))
}

fn same_groups(from: &Side, to: &Side, found: &mut Vec<Finding>) {
    if from.groups.is_empty() {
        let message = "no group is in its store";
        let remedy = "start the region's daemons and check scope and namespace";
        found.push(Finding::error(format!("region {}", from.region), message, remedy));
    }
    for (here, there) in [(from, to), (to, from)] {
        for group in here.groups.keys().filter(|g| !there.groups.contains_key(g)) {
            let message = format!("missing, region {} has it", here.region);
            let remedy = "start the group's daemons in this region or remove it in the other";
            found.push(Finding::error(there.object(*group), message, remedy));
        }
    }
}

fn unique_names(from: &Side, to: &Side, found: &mut Vec<Finding>) {
    for (group, view) in from.groups {
        let Some(there) = to.groups.get(group) else {
            continue;
        };
        let here: BTreeSet<_> = view.members.keys().collect();
        for name in there.members.keys().filter(|name| here.contains(name)) {
            let message = format!("member {name} exists in both regions");
            let remedy = "names need not differ for the move, but logs and slots are clearer so";
            found.push(Finding::warning(to.object(*group), message, remedy));
        }
    }
}

fn leaders(from: &Side, to: &Side, group: Group, found: &mut Vec<Finding>) {
    let wanted = [(from, MemberRole::Primary), (to, MemberRole::StandbyLeader)];
    for (side, role) in wanted {
        let view = &side.groups[&group];
        let object = side.object(group);
        if view.is_paused() {
            let message = "paused: its daemons would not obey";
            found.push(Finding::error(&object, message, "`matriarchctl resume` in that region"));
        }
        let Some(leader) = view.leader_record() else {
            let message = "no member holds the lock";
            found.push(Finding::error(object, message, "see the daemons' logs of that group"));
            continue;
        };
        if !leader.is_running() || leader.role != role {
            let message = format!(
                "the leader is `{}` and `{}`, not running {role}",
                leader.role, leader.state
            );
            let remedy = "wait until it is, or see the daemons' logs of that group";
            found.push(Finding::error(object, message, remedy));
        }
    }
    timelines(from, to, group, found);
}

fn timelines(from: &Side, to: &Side, group: Group, found: &mut Vec<Finding>) {
    let of = |side: &Side| side.groups[&group].leader_record().and_then(|r| r.timeline);
    let remedy = "wait until the standby leader follows the primary's timeline";
    match (of(from), of(to)) {
        (Some(old), Some(new)) if old == new => {}
        (Some(old), Some(new)) => {
            let message = format!("timeline {new}, region {} is on {old}", from.region);
            found.push(Finding::error(to.object(group), message, remedy));
        }
        _ => found.push(Finding::error(to.object(group), "the timeline is not known", remedy)),
    }
}

fn systems(from: &Side, to: &Side, group: Group, found: &mut Vec<Finding>) {
    let of = |side: &Side| -> Option<SystemId> {
        side.groups[&group].initialize.as_ref()?.value.clone()
    };
    let remedy = "this region's data is another cluster: rebuild it from the owner's region";
    match (of(from), of(to)) {
        (Some(old), Some(new)) if old == new => {}
        (old, new) => {
            let name = |id: Option<SystemId>| id.map_or("unknown".into(), |id| id.to_string());
            let message = format!("system id {}, not {}", name(new), name(old));
            found.push(Finding::error(to.object(group), message, remedy));
        }
    }
}

fn servers(from: &Side, to: &Side, group: Group, lag_max: u64, found: &mut Vec<Finding>) {
    let before = found.len();
    for side in [from, to] {
        let why = match side.probes.get(&group) {
            Some(Ok(_)) => continue,
            Some(Err(why)) => why.as_str(),
            None => "it was not asked",
        };
        let message = format!("the leader gives no answer over SQL: {why}");
        let remedy = "allow postgresql.authentication.superuser from the agents in pg_hba";
        found.push(Finding::error(side.object(group), message, remedy));
    }
    let (Some(old), Some(new)) = (from.probe(group), to.probe(group)) else {
        return;
    };
    replication(old, new, to.object(group), lag_max, found);
    configuration(old, new, to.object(group), found);
    clients(old, from.object(group), found);
    logical_slots(from, to, group, found);
    debug_assert!(found.len() >= before);
}

fn replication(old: &Probe, new: &Probe, object: String, lag_max: u64, found: &mut Vec<Finding>) {
    if !new.in_recovery || old.in_recovery {
        let message = "the servers' roles are not primary and standby";
        found.push(Finding::error(&object, message, "see the daemons' logs of that group"));
    }
    if !new.is_streaming {
        let message = "the standby leader does not stream";
        let remedy = "check network, pg_hba and the slot on the owner's leader";
        found.push(Finding::error(&object, message, remedy));
    }
    if new.is_replay_paused {
        let message = "replay is paused: promotion would fail";
        found.push(Finding::error(&object, message, "select pg_wal_replay_resume()"));
    }
    let bytes = new.lsn.behind(old.lsn);
    if bytes > lag_max {
        let message = format!("{bytes} bytes behind, {lag_max} allowed");
        found.push(Finding::error(&object, message, "wait until it has caught up"));
    }
}

fn configuration(old: &Probe, new: &Probe, object: String, found: &mut Vec<Finding>) {
    for name in STANDBY_SETTINGS {
        let (old, new) = (old.settings.get(name), new.settings.get(name));
        if let (Some(old), Some(new)) = (old, new)
            && new >= old
        {
            continue;
        }
        let text = |value: Option<&u64>| value.map_or("unknown".into(), u64::to_string);
        let message = format!("{name} is {}, the primary has {}", text(new), text(old));
        let remedy = "set it as high as the primary's and restart the standby";
        found.push(Finding::error(&object, message, remedy));
    }
    if !(old.wal_log_hints || old.checksums) {
        let message = "neither wal_log_hints nor checksums on the primary";
        let remedy = "set wal_log_hints: on, or the old side may have to be rebuilt";
        found.push(Finding::error(&object, message, remedy));
    }
    if old.version != new.version {
        let message = format!("PostgreSQL {} here, {} on the primary", new.version, old.version);
        let level = if old.version / 10_000 == new.version / 10_000 {
            Finding::warning(&object, message, "update both sides to one minor version")
        } else {
            Finding::error(&object, message, "both sides must run one major version")
        };
        found.push(level);
    }
    if old.system_id != new.system_id {
        let message = format!("the server's system id is {}, not {}", new.system_id, old.system_id);
        found.push(Finding::error(&object, message, "rebuild it from the owner's region"));
    }
}

fn clients(old: &Probe, object: String, found: &mut Vec<Finding>) {
    if old.prepared > 0 {
        let message = format!("{} prepared transactions", old.prepared);
        let remedy = "they survive the move; end those that no client will end";
        found.push(Finding::warning(&object, message, remedy));
    }
    if old.oldest_transaction_s >= 60 {
        let message = format!("a transaction runs for {} s and is ended", old.oldest_transaction_s);
        found.push(Finding::warning(&object, message, "wait for it or end it yourself"));
    }
}

/// A reader of a permanent logical slot must find it on the new side, where it was: it would
/// miss what a slot that is made there skips.
fn logical_slots(from: &Side, to: &Side, group: Group, found: &mut Vec<Finding>) {
    let (Some(old), Some(new)) = (from.probe(group), to.probe(group)) else { return };
    let defined = slots::defined(&from.groups[&group]);
    let (major, there, wal_from) = (new.version / 10_000, &new.logical[..], new.wal_from);
    let new = &slots::Copies { major, there, wal_from };
    for slot in old.logical.iter().filter(|slot| defined.contains(&slot.name)) {
        let Err(why) = slots::is_ready(slot, new, &to.groups[&group]) else { continue };
        let message =
            format!("the logical slot `{}` is not ready: {why}; its reader ends here", slot.name);
        let remedy = "define it in `slots` of that region too, let its reader confirm something and \
                      wait; or take the slot out of `slots`, and set its reader up anew after the \
                      move";
        found.push(Finding::error(to.object(group), message, remedy));
    }
    for name in slots::kept_though_refused(&from.groups[&group], &to.groups[&group]) {
        let message = format!(
            "region {} refuses the logical slot `{name}`, and its copy is still here: its reader \
             would miss rows",
            from.region
        );
        let remedy = "the copy is dropped once this region has asked the leader there: try again in \
                      a moment";
        found.push(Finding::error(to.object(group), message, remedy));
    }
}

#[cfg(test)]
mod tests {
    use super::super::register::tests::journal;
    use super::*;
    use crate::made_up::TakeSample;
    use crate::slots::Kind;
    use topology::region::Phase;

    const SYSTEM: &str = "7710375988543033523";

    fn view(role: &str, timeline: u32) -> GroupView {
        let mut view = GroupView::default();
        let member = format!(r#"{{"state":"running","role":"{role}","timeline":{timeline}}}"#);
        view.take_sample(&format!("members/{role}"), &member, 1, 1);
        view.take_sample("leader", role, 1, 1);
        view.take_sample("initialize", SYSTEM, 1, 0);
        view
    }

    fn probe(in_recovery: bool) -> Probe {
        Probe {
            in_recovery,
            version: 150004,
            system_id: SYSTEM.into(),
            settings: STANDBY_SETTINGS.iter().map(|s| (s.to_string(), 100)).collect(),
            wal_log_hints: true,
            is_streaming: in_recovery,
            lsn: Lsn(1000),
            ..Probe::default()
        }
    }

    struct World {
        groups: [BTreeMap<Group, GroupView>; 2],
        probes: [BTreeMap<Group, Result<Probe, String>>; 2],
        limits: Limits,
    }

    fn world() -> World {
        let one = |v: GroupView| BTreeMap::from([(Group::PLAIN, v)]);
        let answer = |p: Probe| BTreeMap::from([(Group::PLAIN, Ok(p))]);
        World {
            groups: [one(view("primary", 2)), one(view("standby_leader", 2))],
            probes: [answer(probe(false)), answer(probe(true))],
            limits: Limits::default(),
        }
    }

    fn run(world: &World) -> Vec<Finding> {
        let (a, b) = (RegionName::new("a"), RegionName::new("b"));
        let from = Side { region: &a, groups: &world.groups[0], probes: &world.probes[0] };
        let to = Side { region: &b, groups: &world.groups[1], probes: &world.probes[1] };
        preflight(&from, &to, &world.limits, None)
    }

    fn errors(world: &World) -> String {
        let errors = run(world).into_iter().filter(|f| f.level == Level::Error);
        let lines: Vec<_> = errors.map(|f| format!("{}: {}", f.object, f.message)).collect();
        lines.join("\n")
    }

    fn change_probe(side: usize, change: impl Fn(&mut Probe)) -> World {
        let mut world = world();
        for probe in world.probes[side].values_mut().flatten() {
            change(probe);
        }
        world
    }

    #[test]
    fn a_sound_formation_has_one_ok_per_group() {
        let found = run(&world());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].level, Level::Ok);
    }

    #[test]
    fn every_fault_is_named() {
        let cases: Vec<(World, &str)> = vec![
            (change_probe(1, |p| p.is_streaming = false), "does not stream"),
            (change_probe(1, |p| p.is_replay_paused = true), "replay is paused"),
            (change_probe(0, |p| p.lsn = Lsn(LAG_BYTES_MAX + 1000)), "bytes behind"),
            (change_probe(0, |p| p.wal_log_hints = false), "wal_log_hints"),
            (change_probe(0, |p| p.version = 160001), "PostgreSQL"),
            (change_probe(1, |p| p.system_id = "1".into()), "system id"),
            (change_probe(1, |p| p.in_recovery = false), "roles"),
            (
                change_probe(1, |p| {
                    p.settings.insert("max_prepared_transactions".into(), 99);
                }),
                "max_prepared_transactions is 99",
            ),
            (
                change_probe(1, |p| {
                    p.settings.remove("max_connections");
                }),
                "max_connections is unknown",
            ),
        ];
        for (world, expected) in cases {
            assert!(errors(&world).contains(expected), "{expected} in:\n{}", errors(&world));
        }
    }

    /// `reader` on the old side; its copy, and the word for it, on the new one.
    fn with_reader(copy: Option<Slot>, word: &str) -> World {
        let mut world = change_probe(0, |p| p.logical = vec![reader()]);
        let config = r#"{"slots":{"reader":{"database":"d","plugin":"p"},"reader_2":null}}"#;
        let of = |world: &mut World, side: usize, key: &str, value: &str| {
            let view = world.groups[side].get_mut(&Group::PLAIN).expect("a group");
            view.take_sample(key, value, 3, 1);
        };
        of(&mut world, 0, "config", config);
        let record = format!(
            r#"{{"state":"running","role":"standby_leader","timeline":2,
            "logical_slots":{{"reader":"{word}"}}}}"#
        );
        of(&mut world, 1, "members/standby_leader", &record);
        for probe in world.probes[1].values_mut().flatten() {
            (probe.logical, probe.wal_from) = (copy.clone().into_iter().collect(), Some(Lsn(800)));
        }
        world
    }

    fn reader() -> Slot {
        let kind = Kind::Logical { database: "d".into(), plugin: "p".into() };
        Slot { kind, ..Slot::physical("reader", Lsn(900)) }
    }

    #[test]
    fn an_operator_may_allow_less_lag_and_never_more() {
        let behind = |bytes: u64, lag_bytes_max| {
            let mut world = change_probe(0, |p| p.lsn = Lsn(1_000 + bytes));
            world.limits.lag_bytes_max = Some(lag_bytes_max);
            errors(&world)
        };
        assert_eq!(behind(0, 0), "");
        assert!(behind(1, 0).contains("1 bytes behind, 0 allowed"), "{}", behind(1, 0));
        assert_eq!(behind(500, 500), "");
        assert!(behind(LAG_BYTES_MAX, u64::MAX).contains("16777215 allowed"));
    }

    #[test]
    fn a_logical_slot_that_is_not_ready_on_the_new_side_is_named() {
        let world = change_probe(0, |p| p.logical = vec![reader()]);
        assert_eq!(errors(&world), "", "it is not permanent");
        let named = |copy: Option<Slot>, word: &str| {
            let errors = errors(&with_reader(copy, word));
            assert!(errors.is_empty() || errors.contains("`reader` is not ready"), "{errors}");
            errors
        };
        assert!(named(None, "missing").contains("no copy"));
        assert!(named(Some(reader()), "pending").contains("is `pending`"));
        assert_eq!(named(Some(reader()), "ready"), "");
        let old = Slot { restart_lsn: Some(Lsn(799)), ..reader() };
        assert!(named(Some(old), "ready").contains("WAL"), "it was written before the copy");
        assert!(named(Some(Slot { is_lost: true, ..reader() }), "ready").contains("no copy"));
        let kind = Kind::Logical { database: "other".into(), plugin: "p".into() };
        assert!(named(Some(Slot { kind, ..reader() }), "ready").contains("no copy"));
    }

    #[test]
    fn from_17_on_a_copy_is_one_that_the_server_keeps_in_line() {
        let of_17 = |copy: Slot| {
            let mut world = with_reader(Some(copy), "ready");
            for probe in world.probes.iter_mut().flat_map(|side| side.values_mut()).flatten() {
                probe.version = 170_002;
            }
            errors(&world)
        };
        assert!(of_17(reader()).contains("no copy"));
        assert_eq!(of_17(Slot { synced: true, ..reader() }), "");
    }

    #[test]
    fn an_unknown_answer_is_an_error() {
        let mut silent = world();
        silent.probes[1].insert(Group::PLAIN, Err("refused".into()));
        assert!(errors(&silent).contains("refused"));
        silent.probes[0].clear();
        assert!(errors(&silent).contains("it was not asked"));
        let mut young = world();
        young.groups[1].insert(Group::PLAIN, GroupView::default());
        assert!(errors(&young).contains("holds the lock"));
        assert!(errors(&young).contains("system id unknown"));
    }

    #[test]
    fn groups_must_be_the_same_and_follow_one_timeline() {
        let mut world = world();
        world.groups[0].insert(Group(Some(3)), view("primary", 1));
        assert!(errors(&world).contains("region b, group 3: missing"));
        world.groups[1].insert(Group::PLAIN, view("standby_leader", 1));
        assert!(errors(&world).contains("timeline 1, region a is on 2"));
        world.groups[1].insert(Group::PLAIN, view("replica", 2));
        assert!(errors(&world).contains("not running standby_leader"));
    }

    #[test]
    fn a_running_move_and_a_pause_are_errors() {
        let (a, groups) = (RegionName::new("a"), BTreeMap::new());
        let side = Side { region: &a, groups: &groups, probes: &BTreeMap::new() };
        let running = journal(1, "a", "b", Phase::Stop).value;
        let found = preflight(&side, &side, &Limits::default(), Some(&running));
        assert!(found.iter().any(|f| f.message.contains("is running")));
        let mut world = world();
        let group = world.groups[1].get_mut(&Group::PLAIN).unwrap();
        group.take_sample("config", r#"{"pause":true}"#, 2, 0);
        assert!(errors(&world).contains("paused"));
    }
}
