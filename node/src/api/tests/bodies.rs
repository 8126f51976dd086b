//! Status bodies, `/cluster` and metrics against what other programs expect.

use super::*;
use crate::api::cluster::cluster_json;
use crate::api::metrics;
use crate::api::slots::SlotReport;
use crate::api::status::{facts, status_json};
use crate::made_up::TakeSample;
use topology::document::spaced;

const LEADER: &str = r#"{"state": "running", "postmaster_start_time": "2026-11-20 21:56:45.432680+00:00", "role": "primary", "server_version": 150018, "xlog": {"location": 67108960}, "timeline": 1, "replication": [{"usename": "replicator", "application_name": "n2", "client_addr": "127.0.0.1", "state": "streaming", "sync_state": "async", "sync_priority": 0}], "dcs_last_seen": 1795208971, "database_system_identifier": "7710375988543033523", "pending_restart": true, "pending_restart_reason": {"max_connections": {"old_value": "100", "new_value": "110"}}, "patroni": {"version": "4.1.5", "scope": "golden", "name": "n1"}}"#;

const TAGGED_REPLICA: &str = r#"{"state": "running", "postmaster_start_time": "2026-11-20 21:56:50.690293+00:00", "role": "replica", "server_version": 150018, "xlog": {"received_location": 67108960, "replayed_location": 67108960, "replayed_timestamp": null, "paused": false}, "timeline": 1, "replication_state": "streaming", "dcs_last_seen": 1795208971, "tags": {"clonefrom": true, "nosync": false, "sync_priority": 2, "foo": "bar"}, "database_system_identifier": "7710375988543033523", "patroni": {"version": "4.1.5", "scope": "golden", "name": "n3"}}"#;

const QUORUM_REPLICA: &str = r#"{"state": "running", "postmaster_start_time": "2026-11-20 21:56:50.690293+00:00", "role": "replica", "server_version": 150018, "xlog": {"received_location": 67108960, "replayed_location": 67108960, "replayed_timestamp": "2026-11-20 21:58:24.993445+00:00", "paused": false}, "quorum_standby": true, "timeline": 1, "replication_state": "streaming", "dcs_last_seen": 1795208971, "database_system_identifier": "7710375988543033523", "patroni": {"version": "4.1.5", "scope": "golden", "name": "n2"}}"#;

const STOPPED: &str = r#"{"state": "stopped", "role": "replica", "pause": true, "dcs_last_seen": 1795208971, "database_system_identifier": "7710375988543033523", "patroni": {"version": "4.1.5", "scope": "golden", "name": "n3"}}"#;

const STANDBY_LEADER: &str = r#"{"state": "running", "postmaster_start_time": "2026-11-20 21:56:50.690293+00:00", "role": "standby_leader", "server_version": 150018, "xlog": {"received_location": 67108960, "replayed_location": 67108960, "replayed_timestamp": null, "paused": false}, "timeline": 1, "replication_state": "streaming", "dcs_last_seen": 1795208971, "database_system_identifier": "7710375988543033523", "patroni": {"version": "4.1.5", "scope": "golden", "name": "n1"}}"#;

fn said(published: &Published, monitor: Option<&ServerStatus>) -> String {
    spaced(&status_json(published, monitor, NOW))
}

#[test]
fn the_leader_is_described_as_ever() {
    let mut me = published("n1");
    me.pending_restart = Some(json!({"max_connections": {"old_value": "100", "new_value": "110"}}));
    let mut monitor = primary();
    let walsender = json!({"usename": "replicator", "application_name": "n2",
        "client_addr": "127.0.0.1", "state": "streaming", "sync_state": "async",
        "sync_priority": 0, "sent_lsn": "0/4000060", "write_lsn": null, "flush_lsn": null,
        "replay_lsn": null});
    monitor.replication = vec![serde_json::from_value(walsender).unwrap()];
    assert_eq!(said(&me, Some(&monitor)), LEADER);
}

#[test]
fn replicas_are_described_as_ever() {
    let mut me = published("n3");
    me.tags = tags(json!({"clonefrom": true, "nofailover": false, "nosync": false,
        "sync_priority": 2, "foo": "bar"}));
    assert_eq!(said(&me, Some(&standby())), TAGGED_REPLICA);

    let mut me = published("n2");
    let mut view = view();
    view.take_sample("sync", r#"{"leader":"n1","quorum":1,"sync_standby":"n2,n3"}"#, 1, 0);
    me.view = Some(Arc::new(view));
    me.config = Some(Arc::new(json!({"synchronous_mode": "quorum"})));
    let mut monitor = standby();
    monitor.replayed_at = Some("2026-11-20 21:58:24.993445+00:00".to_string());
    assert_eq!(said(&me, Some(&monitor)), QUORUM_REPLICA);
}

#[test]
fn a_stopped_member_says_what_it_remembers() {
    let mut me = published("n3");
    (me.state, me.paused, me.running) = (MemberState::Stopped, true, false);
    // An answer from before the stop says nothing about a stopped server.
    assert_eq!(said(&me, Some(&standby())), STOPPED);
}

#[test]
fn a_standby_leader_and_an_unlocked_silent_server() {
    let mut me = published("n1");
    (me.standby_group, me.role) = (true, MemberRole::StandbyLeader);
    assert_eq!(said(&me, Some(&standby())), STANDBY_LEADER);

    let mut me = published("n2");
    me.view = None;
    let body = status_json(&me, None, NOW);
    assert_eq!(body["state"], "unknown");
    assert_eq!(body["cluster_unlocked"], true);
    assert!(body.get("xlog").is_none());
}

/// Ours alone, and only where a standby leader follows another cluster.
#[test]
fn a_standby_leader_tells_how_far_it_is_behind_the_remote_side() {
    let mut me = published("n1");
    (me.standby_group, me.role) = (true, MemberRole::StandbyLeader);
    let mut monitor = standby();
    monitor.latest_end = Some(Lsn(67108960 + 300));
    monitor.receive = Some(Lsn(67108960 + 200));
    monitor.replay_age_ms = Some(4_500);
    let told = |monitor: &ServerStatus| {
        let facts = facts(&me, Some(monitor), NOW);
        let text = metrics::render(&facts);
        let metric = |what: &str| {
            let name = format!("matriarch_remote_{what}");
            value(&text, &name).map(str::to_string)
        };
        let metrics = ["receive_lag_bytes", "replay_lag_bytes", "replay_lag_seconds"].map(metric);
        (status_json(&me, Some(monitor), NOW)["remote"].clone(), metrics)
    };
    let some = |text: &str| Some(text.to_string());
    let behind = json!({"lsn": 67109260, "receive_lag": 100, "replay_lag": 300,
        "replay_lag_seconds": 4.5});
    assert_eq!(told(&monitor), (behind, [some("100"), some("300"), some("4.5")]));
    // An idle remote side: all is here, however old its last commit is.
    (monitor.receive, monitor.replay) = (monitor.latest_end, monitor.latest_end);
    assert_eq!(told(&monitor).1, [some("0"), some("0"), some("0")]);
    // No stream: the age of what is here bounds what may be lost; bytes are not known.
    monitor.receiver_state = None;
    assert_eq!(told(&monitor), (json!({"replay_lag_seconds": 4.5}), [None, None, some("4.5")]));
    me.role = MemberRole::Replica;
    me.lock_until = None;
    let text = metrics::render(&facts(&me, Some(&monitor), NOW));
    assert!(!text.contains("matriarch_remote"), "a replica has a leader in its own cluster");
}

const CLUSTER: &str = r#"{"members": [{"name": "n1", "role": "leader", "state": "running", "api_url": "http://127.0.0.1:8008/patroni", "host": "127.0.0.1", "port": 5361, "timeline": 1}, {"name": "n2", "role": "sync_standby", "state": "streaming", "api_url": "http://127.0.0.1:8009/patroni", "host": "127.0.0.1", "port": 5362, "timeline": 1, "receive_lag": 0, "receive_lsn": "0/4000490", "replay_lag": 16, "replay_lsn": "0/4000480", "lag": 0, "lsn": "0/4000490"}, {"name": "n3", "role": "replica", "state": "stopped", "api_url": "http://127.0.0.1:8010/patroni", "host": "127.0.0.1", "port": 5363, "tags": {"clonefrom": true, "nosync": false, "sync_priority": 2, "foo": "bar"}, "receive_lsn": "unknown", "receive_lag": "unknown", "replay_lsn": "unknown", "replay_lag": "unknown", "lsn": "unknown", "lag": "unknown"}], "pause": true, "scheduled_switchover": {"at": "2035-06-01T12:30:00+00:00", "from": "n1", "to": "n2"}, "scope": "golden"}"#;

fn cluster() -> GroupView {
    let mut view = GroupView::default();
    let member = |api: u16, sql: u16, rest: Value| {
        let mut record = json!({"conn_url": format!("postgres://127.0.0.1:{sql}/postgres"),
            "api_url": format!("http://127.0.0.1:{api}/patroni")});
        record.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        record.to_string()
    };
    let n1 = json!({"state": "running", "role": "primary", "xlog_location": 1, "timeline": 1});
    let n2 = json!({"state": "running", "role": "replica", "xlog_location": 67110032,
        "receive_lsn": 67110032, "replay_lsn": 67110016, "replication_state": "streaming",
        "timeline": 1});
    let n3 = json!({"state": "stopped", "role": "replica", "tags": {"clonefrom": true,
        "nosync": false, "sync_priority": 2, "foo": "bar"}});
    view.take_sample("members/n1", &member(8008, 5361, n1), 1, 1);
    view.take_sample("members/n2", &member(8009, 5362, n2), 1, 1);
    view.take_sample("members/n3", &member(8010, 5363, n3), 1, 1);
    view.take_sample("leader", "n1", 1, 1);
    view.take_sample("status", r#"{"optime":67110032}"#, 1, 0);
    view.take_sample("sync", r#"{"leader":"n1","quorum":0,"sync_standby":"n2"}"#, 1, 0);
    view.take_sample("config", r#"{"pause":true,"synchronous_mode":true}"#, 1, 0);
    let request = r#"{"leader":"n1","member":"n2","scheduled_at":"2035-06-01T12:30:00+00:00"}"#;
    view.take_sample("failover", request, 1, 0);
    view
}

#[test]
fn the_cluster_is_described_as_ever() {
    assert_eq!(spaced(&cluster_json(&cluster(), "golden", 0)), CLUSTER);
}

#[test]
fn a_standby_cluster_has_a_standby_leader_that_streams() {
    let mut view = cluster();
    let leader = r#"{"state":"running","role":"standby_leader","replication_state":"streaming"}"#;
    view.take_sample("members/n1", leader, 2, 1);
    let body = cluster_json(&view, "golden", 0);
    assert_eq!(body["members"][0]["role"], "standby_leader");
    assert_eq!(body["members"][0]["state"], "streaming");
    assert!(body["members"][0].get("lag").is_none());
    assert!(body["members"][0].get("remote").is_none(), "it says nothing of the remote side");
    let leader = r#"{"state":"running","role":"standby_leader","replication_state":"streaming",
        "receive_lsn":500,"replay_lsn":300,
        "remote":{"lsn":600,"replayed_at":"1970-01-01 00:00:10+00:00"}}"#;
    view.take_sample("members/n1", leader, 3, 1);
    let body = cluster_json(&view, "golden", 14_500);
    let remote = &body["members"][0]["remote"];
    assert_eq!(remote["receive_lag"], 100, "{remote}");
    assert_eq!((&remote["replay_lag"], &remote["replay_lag_seconds"]), (&json!(300), &json!(4.5)));
}

#[test]
fn slots_have_metrics_with_a_line_for_each() {
    let slot = |name: &str, safe| SlotReport {
        name: name.into(),
        kind: "physical".into(),
        active: name == "n2",
        distance_bytes: Some(4096),
        holder: (name == "n2").then(|| "n-2".into()),
        wal_status: Some("reserved".into()),
        safe_bytes: safe,
        ..SlotReport::default()
    };
    let mut me = published("n1");
    let text = metrics::render(&facts(&me, Some(&primary()), NOW));
    assert!(!text.contains("matriarch_slot_"), "there is none");
    me.slots = Arc::new(vec![slot("n2", None), slot("n\"3", Some(-7))]);
    let text = metrics::render(&facts(&me, Some(&primary()), NOW));
    for line in [
        r#"matriarch_slot_active{scope="golden",name="n1",slot="n2",type="physical"} 1"#,
        r#"matriarch_slot_distance_bytes{scope="golden",name="n1",slot="n2",type="physical"} 4096"#,
        r#"matriarch_slot_safe_bytes{scope="golden",name="n1",slot="n\"3",type="physical"} -7"#,
        r#"matriarch_slot_lost{scope="golden",name="n1",slot="n2",type="physical"} 0"#,
        r#"matriarch_slot_info{scope="golden",name="n1",slot="n2",type="physical",holder="n-2",wal_status="reserved"} 1"#,
        r#"matriarch_slot_info{scope="golden",name="n1",slot="n\"3",type="physical",holder="",wal_status="reserved"} 1"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    for name in ["safe_bytes", "info"] {
        let head = format!("# TYPE matriarch_slot_{name} gauge");
        assert_eq!(text.matches(&head).count(), 1, "{head}: {text}");
    }
}

/// The value of a metric, as it is written.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let labelled = format!("{name}{{scope=\"golden\",name=\"");
    text.lines().find_map(|line| line.strip_prefix(&labelled)?.split_once("\"} ").map(|p| p.1))
}

#[test]
fn metrics_of_a_primary_carry_the_known_names_and_values() {
    let me = published("n1");
    let text = metrics::render(&facts(&me, Some(&primary()), NOW));
    for (name, wanted) in [
        ("patroni_version", "040105"),
        ("patroni_postgres_running", "1"),
        ("patroni_postmaster_start_time", "1795211805.43268"),
        ("patroni_primary", "1"),
        ("patroni_xlog_location", "67108960"),
        ("patroni_replica", "0"),
        ("patroni_xlog_received_location", "0"),
        ("patroni_postgres_streaming", "0"),
        ("patroni_postgres_server_version", "150018"),
        ("patroni_cluster_unlocked", "0"),
        ("patroni_postgres_timeline", "1"),
        ("patroni_dcs_last_seen", "1795208971"),
        ("patroni_postgres_state", "5"),
    ] {
        assert_eq!(value(&text, name), Some(wanted), "{name}");
    }
    assert!(text.starts_with(
        "# HELP patroni_version Patroni semver without periods.\n# TYPE patroni_version gauge\n"
    ));
    assert!(text.contains("Numeric representation of Postgres state.\n# Values: 0=initdb, 1="));
    let count = "matriarch_store_writes_total{scope=\"golden\",name=\"n1\",document=\"members\"} 0";
    assert!(text.lines().any(|line| line == count), "{text}");
}

#[test]
fn metrics_of_a_stopped_replica_leave_out_what_is_not_known() {
    let mut me = published("n3");
    (me.state, me.running) = (MemberState::Stopped, false);
    let text = metrics::render(&facts(&me, None, NOW));
    assert_eq!(value(&text, "patroni_replica"), Some("1"));
    assert_eq!(value(&text, "patroni_postgres_state"), Some("12"));
    assert_eq!(value(&text, "patroni_postmaster_start_time"), Some("0"));
    assert_eq!(value(&text, "patroni_postgres_streaming"), None);
}
