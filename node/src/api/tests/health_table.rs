//! Every check for every kind of member.

use super::*;
use crate::api::health::{self, CHECKS, parse_bytes};
use crate::api::status::facts;
use crate::made_up::TakeSample;

fn passes(
    path: &str,
    me: &Published,
    monitor: Option<&ServerStatus>,
    query: &[(&str, &str)],
) -> bool {
    let options: Vec<(String, String)> =
        query.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    health::find(path).unwrap().is_passed(&facts(me, monitor, NOW), &options)
}

/// The paths that answer 200, in the order of the table.
fn green(me: &Published, monitor: Option<&ServerStatus>) -> Vec<&'static str> {
    CHECKS.iter().map(|c| c.path).filter(|path| passes(path, me, monitor, &[])).collect()
}

fn with_sync(mut me: Published, mode: Value) -> Published {
    let mut view = view();
    view.take_sample("sync", r#"{"leader":"n1","quorum":0,"sync_standby":"n2"}"#, 1, 0);
    me.view = Some(Arc::new(view));
    me.config = Some(Arc::new(json!({"synchronous_mode": mode})));
    me
}

#[test]
fn every_role_has_its_paths() {
    let writable = ["/", "/primary", "/master", "/read-write", "/leader", "/read-only", "/health"];
    let reading = ["/read-only-quorum", "/read-only-sync", "/read-only-synchronous"];
    let leader = green(&published("n1"), Some(&primary()));
    assert_eq!(leader, [&writable[..], &reading].concat());

    let replica = green(&published("n2"), Some(&standby()));
    assert_eq!(replica, ["/replica", "/read-only", "/health", "/async", "/asynchronous"]);

    let mut leads_standbys = published("n1");
    (leads_standbys.standby_group, leads_standbys.role) = (true, MemberRole::StandbyLeader);
    let paths = ["/standby-leader", "/standby_leader", "/leader", "/read-only", "/health"];
    assert_eq!(green(&leads_standbys, Some(&standby())), [&paths[..], &reading].concat());

    let mut stopped = published("n2");
    stopped.state = MemberState::Stopped;
    assert!(green(&stopped, None).is_empty());
}

/// Proxies would send writers to a server whose sessions are read-only.
#[test]
fn a_primary_in_quarantine_takes_no_writers() {
    let opening = Published { quarantined: true, ..published("n1") };
    let paths = ["/leader", "/read-only", "/health"];
    let reading = ["/read-only-quorum", "/read-only-sync", "/read-only-synchronous"];
    assert_eq!(green(&opening, Some(&primary())), [&paths[..], &reading].concat());
}

#[test]
fn duties_have_their_paths() {
    let sync = green(&with_sync(published("n2"), json!(true)), Some(&standby()));
    let paths = ["/replica", "/read-only", "/health", "/sync", "/synchronous"];
    assert_eq!(sync, [&paths[..], &["/read-only-sync", "/read-only-synchronous"]].concat());
    let quorum = green(&with_sync(published("n2"), json!("quorum")), Some(&standby()));
    assert_eq!(quorum, ["/replica", "/read-only", "/health", "/quorum", "/read-only-quorum"]);
    let free = green(&with_sync(published("n3"), json!(true)), Some(&standby()));
    assert_eq!(free, ["/replica", "/read-only", "/health", "/async", "/asynchronous"]);
}

/// Answers of a real group, for all three of its members.
#[test]
fn the_families_of_duty_answer_as_a_real_group_did() {
    let sync_of = |name: &str, mode: Value, sync: &str| {
        let mut view = view();
        view.take_sample("sync", sync, 1, 0);
        let mut me = published(name);
        me.view = Some(Arc::new(view));
        me.config = Some(Arc::new(json!({ "synchronous_mode": mode })));
        me
    };
    let (priority, quorum) = (
        r#"{"leader":"n1","quorum":0,"sync_standby":"n3"}"#,
        r#"{"leader":"n1","quorum":1,"sync_standby":"n2,n3"}"#,
    );
    let paths = ["/sync", "/synchronous", "/quorum", "/async", "/asynchronous"];
    let readers = ["/read-only-quorum", "/read-only-sync", "/read-only-synchronous"];
    let answers = |me: &Published, monitor: &ServerStatus| -> String {
        let all = paths.iter().chain(&readers);
        all.map(|path| if passes(path, me, Some(monitor), &[]) { '1' } else { '-' }).collect()
    };
    for (name, mode, sync, monitor, wanted) in [
        ("n1", json!(true), priority, primary(), "-----111"),
        ("n2", json!(true), priority, standby(), "---11---"),
        ("n3", json!(true), priority, standby(), "11----11"),
        ("n1", json!("quorum"), quorum, primary(), "-----111"),
        ("n3", json!("quorum"), quorum, standby(), "--1--1--"),
        ("N3", json!("quorum"), quorum, standby(), "--1--1--"),
        // Without a leader in `/sync` no standby is synchronous.
        ("n3", json!(true), r#"{"leader":null,"sync_standby":"n3"}"#, standby(), "---11---"),
    ] {
        assert_eq!(answers(&sync_of(name, mode.clone(), sync), &monitor), wanted, "{name} {mode}");
    }
    let mut loaded = sync_of("n3", json!(true), priority);
    loaded.tags = tags(json!({"noloadbalance": true}));
    assert_eq!(answers(&loaded, &standby()), "--------");
    let on_duty = sync_of("n3", json!(true), priority);
    let mut behind = standby();
    behind.replay = Some(Lsn(67108960 - 2048));
    assert!(!passes("/sync", &on_duty, Some(&behind), &[("lag", "1kB")]));
    assert!(passes("/read-only-sync", &on_duty, Some(&behind), &[("lag", "2kB")]));
    assert!(!passes("/sync", &on_duty, Some(&standby()), &[("tag_zone", "a")]));
    // A synchronous standby whose server does not answer serves no client.
    assert!(!passes("/sync", &on_duty, None, &[]));
}

#[test]
fn a_lock_that_ran_out_leads_nothing() {
    let mut me = published("n1");
    me.lock_until = Some(NOW);
    for path in ["/", "/primary", "/leader", "/read-only", "/read-only-sync"] {
        assert!(!passes(path, &me, Some(&primary()), &[]), "{path}");
    }
}

#[test]
fn without_a_picture_only_pause_lets_the_role_speak() {
    let mut me = published("n1");
    (me.lock_until, me.view) = (None, None);
    assert!(!passes("/primary", &me, Some(&primary()), &[]));
    me.paused = true;
    assert!(passes("/primary", &me, Some(&primary()), &[]));
    assert!(passes("/leader", &me, Some(&primary()), &[]));
    assert!(!passes("/primary", &me, Some(&standby()), &[]));
    assert!(!passes("/async", &me, Some(&standby()), &[]));
}

#[test]
fn lag_state_and_tags_narrow_the_replica() {
    let mut me = published("n2");
    me.tags = tags(json!({"foo": "bar", "clonefrom": true}));
    let mut behind = standby();
    behind.replay = Some(Lsn(67108960 - 2048));
    for (query, wanted) in [
        (("lag", "1kB"), false),
        (("lag", "2kB"), true),
        (("lag", "2047"), false),
        (("lag", "x"), true),
        (("replication_state", "streaming"), true),
        (("replication_state", "in archive recovery"), false),
        (("tag_foo", "bar"), true),
        (("tag_clonefrom", "true"), true),
        (("tag_clonefrom", "True"), false),
        (("tag_none", "1"), false),
    ] {
        assert_eq!(passes("/replica", &me, Some(&behind), &[query]), wanted, "{query:?}");
        assert_eq!(passes("/read-only", &me, Some(&behind), &[query]), wanted, "{query:?}");
    }
    assert!(passes("/primary", &published("n1"), Some(&primary()), &[("tag_none", "1")]));
    behind.latest_end = Some(Lsn(67108960 + 9000));
    assert!(!passes("/replica", &me, Some(&behind), &[("lag", "2kB")]));
    me.tags = tags(json!({"noloadbalance": true}));
    assert!(!passes("/replica", &me, Some(&standby()), &[]));
    assert!(passes("/health", &me, Some(&standby()), &[]));
}

#[test]
fn without_a_stream_the_log_comes_from_the_archive_if_there_is_one() {
    let mut me = published("n2");
    let mut monitor = standby();
    monitor.receiver_state = None;
    let wanted = [("replication_state", "in archive recovery")];
    assert!(!passes("/replica", &me, Some(&monitor), &wanted));
    let archive = json!({"postgresql": {"recovery_conf": {"restore_command": "cp %f %p"}}});
    me.config = Some(Arc::new(archive));
    assert!(passes("/replica", &me, Some(&monitor), &wanted));
    assert!(!passes("/replica", &me, Some(&standby()), &wanted));
}

#[test]
fn a_silent_server_is_not_healthy() {
    assert!(!passes("/health", &published("n2"), None, &[]));
    assert!(!passes("/replica", &published("n2"), None, &[]));
}

#[test]
fn a_daemon_that_beats_is_alive() {
    let mut me = published("n1");
    me.last_beat = NOW - (10_000 + TTL_MS - 1);
    let alive = |me: &Published| health::is_alive(&facts(me, None, NOW));
    assert!(alive(&me));
    me.last_beat = NOW - (10_000 + TTL_MS);
    assert!(!alive(&me));
    me.role = MemberRole::Replica;
    assert!(alive(&me));
    me.last_beat = Millis(0);
    assert!(!alive(&me));
    me.paused = true;
    assert!(alive(&me));
}

#[test]
fn readiness_needs_the_lock_or_a_close_stream() {
    let ready = |me: &Published, monitor: &ServerStatus, query: &[(&str, &str)]| {
        let options: Vec<(String, String)> =
            query.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        health::is_ready(&facts(me, Some(monitor), NOW), &options)
    };
    assert!(ready(&published("n1"), &primary(), &[]));
    let me = published("n2");
    let mut behind = standby();
    behind.replay = Some(Lsn(67108960 - 2048));
    assert!(ready(&me, &behind, &[]));
    assert!(!ready(&me, &behind, &[("lag", "1kB")]));
    assert!(ready(&me, &behind, &[("lag", "1kB"), ("mode", "write")]));
    assert!(ready(&me, &behind, &[("lag", "garbage")]));
    behind.receiver_state = None;
    assert!(!ready(&me, &behind, &[]));
    let mut blind = published("n2");
    blind.view = None;
    assert!(!ready(&blind, &standby(), &[]));
}

#[test]
fn paths_are_exact_but_for_a_slash_at_the_end() {
    assert!(health::find("/primary/").is_some());
    assert!(health::find("").is_some());
    assert!(health::find("/primaryx").is_none());
    assert!(health::find("/x/primary").is_none());
    let mut paths: Vec<_> = CHECKS.iter().map(|c| c.path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), CHECKS.len());
}

#[test]
fn bytes_have_units() {
    for (text, wanted) in [
        ("0", Some(0)),
        ("16", Some(16)),
        ("16B", Some(16)),
        ("1kB", Some(1024)),
        ("10 MB", Some(10 << 20)),
        ("1.5kB", Some(1536)),
        ("1TB", Some(1 << 40)),
        ("", None),
        ("-1", None),
        ("1KB", None),
        ("99999999999999999999TB", None),
    ] {
        let read = parse_bytes(text);
        // A number beyond all reason is cut, or refused; both are no lag limit.
        assert!(read == wanted || (wanted.is_none() && read == Some(u64::MAX)), "{text}");
    }
}
