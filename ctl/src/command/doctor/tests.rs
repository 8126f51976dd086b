//! Every row applies when it should, and none to a cluster in order.

use super::rows::{ROWS, findings};
use super::seen::{Clock, Seen, Told};
use super::*;
use crate::fixture::{golden, move_apis, world};
use crate::made_up::TakeSample;
use crate::rest::answering::serve;
use crate::world::Chosen;
use node::api::slots::SlotReport;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use topology::{Group, MemberName, MemberRecord};

/// A recorded cluster of a leader and two replicas, in order.
fn healthy() -> Seen {
    let groups = golden("02-three-nodes-default", "golden");
    let view = &groups[&Group::PLAIN];
    let config = view.config.as_ref().unwrap().value.raw.clone();
    let told = |(name, record): (&MemberName, &topology::Versioned<MemberRecord>)| Told {
        member: Chosen { group: Group::PLAIN, name: name.clone(), record: record.value.clone() },
        status: Ok(json!({"state": "running", "server_version": 170_005, "dcs_last_seen": 1_000,
            "database_system_identifier": "7710375988543033523"})),
        slots: Some(vec![slot("n2", "n2")]),
        config: Some(config.clone()),
        watchdog: Some(true),
        clock: Some(Clock { at_least_ms: -400, at_most_ms: 900 }),
        date_s: Some(1_005),
        settings: Some(BTreeMap::from([("max_connections".to_string(), "100".to_string())])),
    };
    let members = view.members.iter().map(told).collect();
    Seen { groups, members, formation: Vec::new(), store_ms: 3, store_servers: Some(3) }
}

fn slot(name: &str, holder: &str) -> SlotReport {
    SlotReport {
        name: name.into(),
        kind: "physical".into(),
        active: true,
        holder: Some(holder.into()),
        distance_bytes: Some(4096),
        wal_status: Some("reserved".into()),
        ..SlotReport::default()
    }
}

impl Seen {
    fn key(&mut self, key: &str, value: &Value) {
        let view = self.groups.get_mut(&Group::PLAIN).unwrap();
        view.take_sample(key, &value.to_string(), 99, 0);
    }

    fn told(&mut self, name: &str) -> &mut Told {
        self.members.iter_mut().find(|told| told.member.name.as_str() == name).unwrap()
    }

    fn status(&mut self, name: &str, key: &str, value: Value) {
        self.told(name).status.as_mut().unwrap()[key] = value;
    }

    fn slot(&mut self, change: impl Fn(&mut SlotReport)) {
        change(&mut self.told("n1").slots.as_mut().unwrap()[0]);
    }

    /// Fields of a member's record, in the store.
    fn record(&mut self, name: &str, fields: Value) {
        let told = self.told(name);
        let mut record: Value = serde_json::from_str(&told.member.record.write()).unwrap();
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        told.member.record = MemberRecord::read(&record.to_string());
        self.key(&format!("members/{name}"), &record);
    }

    fn setting(&mut self, name: &str, setting: &str, value: &str) {
        let settings = self.told(name).settings.as_mut().unwrap();
        settings.insert(setting.into(), value.into());
    }
}

type Case = (&'static str, fn(&mut Seen), &'static str);

/// What makes a row apply, and what it then says.
const CASES: &[Case] = &[
    ("member-silent", |s| s.told("n2").status = Err("refused".into()), "member n2: refused"),
    (
        "store-unseen",
        |s| s.told("n2").date_s = Some(1_031),
        "member n2: it has not reached the store for 31 s",
    ),
    (
        "failsafe-active",
        |s| s.status("n1", "failsafe_mode_is_active", true.into()),
        "member n1: leads by failsafe",
    ),
    (
        "needs-a-person",
        |s| s.record("n2", json!({"reason": "the data are damaged"})),
        "member n2: the data are damaged",
    ),
    (
        "not-running",
        |s| s.status("n2", "state", "stopped".into()),
        "member n2: its PostgreSQL is not running: stopped",
    ),
    (
        "other-system",
        |s| s.status("n2", "database_system_identifier", "7".into()),
        "member n2: its system identifier is 7, the cluster's is 7710375988543033523",
    ),
    ("disk-failed", |s| s.status("n1", "disk_failed", true.into()), "member n1: its disk"),
    (
        "watchdog-failed",
        |s| s.status("n1", "watchdog_failed", true.into()),
        "member n1: its watchdog",
    ),
    ("config-unreadable", |s| s.key("config", &json!([1])), "cluster: /config makes no sense"),
    (
        "slot-lost",
        |s| s.slot(|slot| slot.wal_status = Some("lost".into())),
        "member n1, slot n2: the WAL",
    ),
    (
        "no-successor",
        |s| {
            ["n2", "n3"]
                .iter()
                .for_each(|name| s.record(name, json!({"tags": {"nofailover": true}})))
        },
        "cluster: no other member",
    ),
    (
        "standby-settings",
        |s| s.setting("n3", "max_connections", "90"),
        "member n3: max_connections is 90, the leader's is 100",
    ),
    (
        "watchdog-missing",
        |s| s.told("n2").watchdog = Some(false),
        "member n2: it has no watchdog, n1 has one",
    ),
    ("paused", |s| s.key("config", &json!({"pause": true})), "cluster: automatic failover is off"),
    ("failsafe-off", |s| s.store_servers = Some(1), "cluster: the configuration names one server"),
    (
        "store-slow",
        |s| s.store_ms = 3_400,
        "cluster: the slowest read of the store took 3400 ms; ttl is 30 s, and 31 s",
    ),
    (
        "config-ignored",
        |s| s.key("config", &json!({"synchronous_node_count": "x"})),
        "cluster: /config: `synchronous_node_count`",
    ),
    (
        "config-differs",
        |s| s.told("n3").config = Some(json!({"ttl": 40})),
        "member n3: it goes by another",
    ),
    (
        "no-synchronous-standby",
        |s| s.key("config", &json!({"synchronous_mode": true})),
        "cluster: no standby is synchronous: a commit",
    ),
    (
        "not-streaming",
        |s| s.record("n3", json!({"replication_state": null})),
        "member n3: it runs and does not stream",
    ),
    (
        "lag",
        |s| s.key("status", &json!({"optime": 67_108_960 + (3 << 20)})),
        "member n2: it is 3 MB behind in receiving, 3 MB behind in replaying (maximum_lag_on_failover: 1 MB)",
    ),
    (
        "timeline-behind",
        |s| s.record("n1", json!({"timeline": 2})),
        "member n2: it is on timeline 1, the leader on 2",
    ),
    (
        "pending-restart",
        |s| {
            s.record(
                "n2",
                json!({"pending_restart": true, "pending_restart_reason": {"max_connections": {}}}),
            )
        },
        "member n2: settings take effect after a restart: max_connections",
    ),
    (
        "slot-inactive",
        |s| s.slot(|slot| slot.active = false),
        "member n1, slot n2: it has no reader (holder: n2) and keeps 4 kB",
    ),
    (
        "slot-danger",
        |s| s.slot(|slot| (slot.distance_bytes, slot.safe_bytes) = (Some(1 << 30), Some(1 << 20))),
        "member n1, slot n2: the slot n2 (holder: n2, active) keeps 1073741824 bytes of WAL: it is lost after",
    ),
    (
        "logical-slot-not-ready",
        |s| s.record("n2", json!({"logical_slots": {"orders": "pending"}})),
        "member n2: orders is pending",
    ),
    (
        "settings-differ",
        |s| s.setting("n2", "max_connections", "200"),
        "cluster: max_connections differs: 100 on n1, n3; 200 on n2",
    ),
    (
        "versions-differ",
        |s| s.status("n2", "server_version", 170_004.into()),
        "cluster: PostgreSQL is 17.4 on n2; 17.5 on n1, n3",
    ),
    (
        "known-fault",
        |s| s.status("n2", "server_version", 140_003.into()),
        "member n2: PostgreSQL 14.3: CREATE INDEX",
    ),
    (
        "clock-differs",
        |s| s.told("n2").clock = Some(Clock { at_least_ms: -7_900, at_most_ms: -7_000 }),
        "member n2: its clock is at least 7 s behind that of this machine",
    ),
];

fn lines(seen: &Seen, code: &str) -> Vec<String> {
    let found = findings(seen).into_iter().filter(|finding| finding.code == code);
    found.map(|finding| format!("{}: {}", finding.object, finding.text)).collect()
}

#[test]
fn a_cluster_in_order_has_no_finding() {
    assert_eq!(findings(&healthy()), []);
}

#[test]
fn every_row_applies_when_it_should() {
    for (code, change, expected) in CASES {
        let mut seen = healthy();
        change(&mut seen);
        let lines = lines(&seen, code);
        let fires = lines.first().is_some_and(|line| line.starts_with(expected));
        assert!(fires, "{code}: {lines:?}");
    }
    let tested: BTreeSet<&str> = CASES.iter().map(|(code, ..)| *code).collect();
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.code).collect();
    assert_eq!(rows, tested, "a case for every row");
    assert_eq!(rows.len(), ROWS.len(), "every code once");
}

#[test]
fn settings_that_some_members_have_differently_are_listed_with_their_members() {
    let mut seen = healthy();
    for name in ["n1", "n3"] {
        seen.setting(name, "wal_level", "replica");
    }
    seen.setting("n2", "wal_level", "logical");
    let expected = "cluster: wal_level differs: logical on n2; replica on n1, n3";
    assert_eq!(lines(&seen, "settings-differ"), [expected]);
    seen.told("n2").settings = None;
    assert_eq!(lines(&seen, "settings-differ"), [""; 0], "unknown is no other value");
}

#[test]
fn what_a_silent_member_would_have_said_is_not_made_up() {
    let mut seen = healthy();
    let told = seen.told("n2");
    told.status = Err("no answer".into());
    (told.slots, told.config, told.clock) = (None, None, None);
    (told.date_s, told.settings) = (None, None);
    let codes: Vec<&str> = findings(&seen).iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["member-silent"]);
}

#[test]
fn errors_come_first_and_a_page_says_what_to_do() {
    let mut seen = healthy();
    seen.key("config", &json!({"pause": true}));
    seen.told("n2").status = Err("refused\x1b[2J".into());
    let found = findings(&seen);
    let text = page("golden", &seen, &found);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("golden: 2 of 3 members answer; the slowest of 5 reads"),
        "{text}"
    );
    assert_eq!(lines[1], "error    member n2: refused?[2J");
    assert_eq!(lines[3], "warning  cluster: automatic failover is off (pause)");
    assert_eq!(lines[4].trim(), "`resume` when the maintenance is over");
}

/// The exit code, and the codes of what was found.
async fn examine(moment: &str, url: &str) -> (Option<u8>, Vec<String>) {
    let (mut world, screen) = world(moment, "");
    move_apis(&world, url).await;
    let args = Doctor { of: Default::default(), format: Format::Json };
    let ended = run(&mut world, &args).await;
    let code = ended.err().map(|error| error.downcast::<Found>().unwrap().0);
    let found: Value = serde_json::from_str(&screen.text()).unwrap();
    let codes = found.as_array().unwrap().iter();
    (code, codes.map(|row| row["Code"].as_str().unwrap().to_string()).collect())
}

#[tokio::test]
async fn the_exit_code_is_the_worst_of_what_was_found() {
    let status = json!({"state": "running"}).to_string();
    let (url, asked) = serve(vec![("GET /patroni", 200, status)]).await;
    let (code, found) = examine("02-three-nodes-default", &url).await;
    assert_eq!((code, found.as_slice()), (Some(WARNINGS), &["failsafe-off".to_string()][..]));
    assert_eq!(asked.all().len(), 12, "{:?}", asked.all());
    let (code, found) = examine("02-three-nodes-default", "http://127.0.0.1:1/patroni").await;
    assert_eq!(code, Some(ERRORS));
    assert_eq!(found.iter().filter(|code| *code == "member-silent").count(), 3);
}

#[tokio::test]
async fn a_group_without_a_leader_is_a_finding_of_its_formation() {
    let (mut world, _) = world("21-standby-cluster-all-stopped", "");
    move_apis(&world, "http://127.0.0.1:1/patroni").await;
    let seen = ask::look(&mut world, "golden-dr", None).await.unwrap();
    let codes: Vec<&str> = findings(&seen).iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&"leader-missing"), "{codes:?}");
}

/// `UPDATE_PAGES=1` writes it anew.
#[test]
fn the_page_lists_every_row() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/matriarchctl.md");
    let found = std::fs::read_to_string(path).unwrap();
    let rows = ROWS
        .iter()
        .map(|row| format!("| `{}` | {} | {} |\n", row.code, row.level.text(), row.remedy));
    let table: String = rows.collect();
    let (before, rest) = found.split_once("<!-- doctor -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /doctor -->\n").unwrap();
    let head = "| code | level | what to do |\n|---|---|---|\n";
    let wanted = format!("{before}<!-- doctor -->\n{head}{table}<!-- /doctor -->\n{after}");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(path, &wanted).unwrap();
        return;
    }
    assert_eq!(found, wanted, "UPDATE_PAGES=1 writes it anew");
}

#[tokio::test]
async fn what_members_tell_is_read_and_what_they_do_not_tell_stays_unknown() {
    let metrics = "# TYPE x gauge\nmatriarch_watchdog_usable{scope=\"golden\",name=\"n1\"} 1\n";
    let slots = json!({"slots": [slot("n2", "n2")]}).to_string();
    let (url, _) = serve(vec![
        ("GET /patroni", 200, json!({"state": "running"}).to_string()),
        ("GET /slots", 200, slots),
        ("GET /config", 200, json!({"ttl": 30}).to_string()),
        ("GET /metrics", 200, metrics.to_string()),
    ])
    .await;
    let (mut world, _) = world("02-three-nodes-default", "");
    move_apis(&world, &url).await;
    let seen = ask::look(&mut world, "golden", None).await.unwrap();
    let told = &seen.members[0];
    assert_eq!(told.said("/state"), Some(&json!("running")));
    assert_eq!(told.slots.as_ref().unwrap()[0].name, "n2");
    assert_eq!(told.config, Some(json!({"ttl": 30})));
    assert_eq!(told.watchdog, Some(true));
    assert_eq!((told.clock, told.date_s), (None, None), "it has sent no Date");
    assert_eq!(told.settings, None, "no superuser is configured");
    move_apis(&world, "http://127.0.0.1:1/patroni").await;
    let seen = ask::look(&mut world, "golden", None).await.unwrap();
    assert!(seen.members.iter().all(|told| told.slots.is_none() && told.watchdog.is_none()));
}
