//! One real PostgreSQL and a standby of it, through everything that
//! `node::postgres` does: initdb, start, users, monitor, slots, base backup,
//! standby, reload, promotion, history, divergence, rewind, crash recovery.
//!
//! PostgreSQL refuses to run as root. As root this test runs a copy of itself
//! as the user `postgres` and passes if that passes.

#[path = "postgres_live/attack.rs"]
mod attack;
#[path = "postgres_live/promotion.rs"]
mod promotion;
#[path = "postgres_live/reload.rs"]
mod reload;
#[path = "postgres_live/slot_copies.rs"]
mod slot_copies;

use node::config::{Bootstrap, Login, Postgresql, Secret, ToolOption};
use node::postgres::archive::is_segment;
use node::postgres::wal::Place;
use node::postgres::{
    ControlData, ControlState, DataDirState, Error, Instance, Monitor, Permission, Postmaster,
    Ready, ServerStatus, Session, StartAs, StopMode, Upstream, history, monitor, rewind,
    rewind_mark, slots, tools, users, wal,
};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use topology::{Lsn, MemberName, Timeline};

const LIMIT: Duration = Duration::from_secs(20);
const APP: &str = "Patroni heartbeat";

#[test]
fn one_instance_through_its_life() {
    if nix::unistd::geteuid().is_root() {
        return run_again_as_postgres("one_instance_through_its_life");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(whole_life());
}

#[test]
fn w1_a_log_that_ends_with_its_segment_has_an_end() {
    if nix::unistd::geteuid().is_root() {
        return run_again_as_postgres("w1_a_log_that_ends_with_its_segment_has_an_end");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(ends_with_a_segment());
}

/// First by a switch, then within a record that goes on in a segment that is gone.
async fn ends_with_a_segment() {
    let root = tempfile::tempdir().expect("a temporary directory");
    certificate(root.path());
    let (a, dynamic) = (node(root.path(), "a"), json!({}));
    let (server, session) = birth(&a, &dynamic).await;
    session.execute("a switch", "CHECKPOINT; SELECT pg_switch_wal()").await.expect("a switch");
    let (end, first) = crashed_before_a_missing_segment(&a, &server).await;
    assert_eq!(end, first, "a switch takes what is left of its segment");

    let (server, session) = start(&a, &StartAs::Primary, &dynamic).await;
    // A commit that has an effect flushes what was written before it.
    let record = "CHECKPOINT; SELECT pg_logical_emit_message(false, 'x', repeat('x', 300000)) \
                  FROM generate_series(1, 60); SELECT txid_current()";
    session.execute("records", record).await.expect("records");
    let (end, gap) = crashed_before_a_missing_segment(&a, &server).await;
    let last = Lsn(gap.0 - 300_000 * 2);
    assert!(end < gap && end > last, "{end} is where the record began that {gap} cuts off");
}

/// Kills the server and takes away all segments but the one of its last checkpoint.
/// Gives where its log ends, and where the first missing segment would begin.
async fn crashed_before_a_missing_segment(a: &Node, server: &Postmaster) -> (Lsn, Lsn) {
    server.kill_all().expect("a kill");
    tokio::time::timeout(LIMIT, server.wait_exit()).await.expect("an end");
    let control = a.0.control().await.expect("control data");
    let segment_bytes = control.wal_segment_bytes;
    let gap = Lsn((control.redo.0 / segment_bytes + 1) * segment_bytes);
    let kept = node::postgres::archive::segment_name(control.timeline, control.redo, segment_bytes);
    let wal = a.0.settings.data_dir.join("pg_wal");
    for entry in std::fs::read_dir(&wal).expect("a directory") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if is_segment(&name) && name > kept {
            std::fs::remove_file(wal.join(name)).expect("a segment");
        }
    }
    let place = Place { timeline: control.timeline, lsn: control.redo, segment_bytes };
    let end = wal::log_end(&a.0.settings, place).await.expect("an end");
    ends_ahead(a, place, end, gap).await;
    (end, gap)
}

/// As a running standby is asked: no wait for a segment that is not there, and an empty one
/// that is kept ready says nothing.
async fn ends_ahead(a: &Node, place: Place, end: Lsn, gap: Lsn) {
    let since = std::time::Instant::now();
    let settings = &a.0.settings;
    let at = |lsn| Place { lsn, ..place };
    assert_eq!(wal::end_ahead(settings, place).await.expect("an end"), end);
    assert_eq!(wal::end_ahead(settings, at(end)).await.expect("an end"), end);
    assert_eq!(wal::end_ahead(settings, at(gap)).await.expect("an end"), gap);
    let name = node::postgres::archive::segment_name(place.timeline, gap, place.segment_bytes);
    let empty = settings.data_dir.join("pg_wal").join(name);
    std::fs::write(&empty, vec![0; place.segment_bytes as usize]).expect("a segment");
    assert_eq!(wal::end_ahead(settings, at(gap)).await.expect("an end"), gap);
    assert_eq!(wal::end_ahead(settings, place).await.expect("an end"), end);
    std::fs::remove_file(empty).expect("the segment");
    assert!(since.elapsed() < std::time::Duration::from_secs(3), "it waited");
}

#[test]
fn n20_a_start_that_takes_long_is_asked_seldom_and_noticed_at_once() {
    if nix::unistd::geteuid().is_root() {
        return run_again_as_postgres(
            "n20_a_start_that_takes_long_is_asked_seldom_and_noticed_at_once",
        );
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(slow_start());
}

#[test]
fn a_copy_whose_wal_is_gone_is_of_no_use() {
    if nix::unistd::geteuid().is_root() {
        return run_again_as_postgres("a_copy_whose_wal_is_gone_is_of_no_use");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(slot_copies::are_useless_without_their_wal());
}

#[test]
fn a_promotion_does_not_wait_for_a_receiver_that_never_started() {
    if nix::unistd::geteuid().is_root() {
        return run_again_as_postgres(
            "a_promotion_does_not_wait_for_a_receiver_that_never_started",
        );
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(promotion::is_noticed_when_the_server_is_woken());
}

#[test]
fn copies_of_slots_come_with_their_snapshot() {
    if nix::unistd::geteuid().is_root() {
        return run_again_as_postgres("copies_of_slots_come_with_their_snapshot");
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(slot_copies::come_with_their_snapshot());
}

/// A world-readable copy, because a home directory may be closed to others.
fn run_again_as_postgres(test: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let copy = dir.path().join("live");
    std::fs::copy(std::env::current_exe().expect("own path"), &copy).expect("a copy");
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("chmod");
    let status = std::process::Command::new("runuser")
        .args(["-u", "postgres", "--"])
        .arg(&copy)
        .args([test, "--exact", "--nocapture"])
        .current_dir("/")
        .env("TMPDIR", "/tmp")
        .env("PATRONI_NAME", "not for the server")
        .status()
        .expect("runuser");
    assert!(status.success(), "the run as postgres failed");
}

fn bin_dir() -> PathBuf {
    let versions = (13..=18).rev().map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin")));
    let mut installed = versions.filter(|dir| dir.join("postgres").exists());
    installed.next().expect("PostgreSQL is installed")
}

/// Below the ports that the kernel gives to outgoing connections, or a server
/// that restarts may find its own taken. Processes that run at the same time have
/// process ids close to each other, and search in different thousands.
fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let thousand = u16::try_from(std::process::id() % 19).expect("below 19");
    let first = 12_000 + 1_000 * thousand;
    loop {
        let port = first + NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 1_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn login(username: &str) -> Login {
    let password = Some(Secret(format!("{username}'s \\ word:1")));
    Login { username: username.into(), password, ..Login::default() }
}

/// A node that is killed with everything when the test ends, however it ends.
struct Node(Instance);

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(Some(postmaster)) = self.0.postmaster() {
            let _ = postmaster.kill_all();
        }
    }
}

fn node(root: &Path, name: &str) -> Node {
    let (port, data_dir) = (free_port(), root.join(name));
    let parameters = json!({
        "unix_socket_directories": root, "logging_collector": "on", "fsync": "off",
        "log_statement": "all", "work_men": "4MB", "wal_keep_size": "1MB",
        "hot_standby_feedback": true, "ssl": "on", "ssl_cert_file": root.join("server.crt"),
        "ssl_key_file": root.join("server.key")});
    let settings = Postgresql {
        listen_hosts: vec!["127.0.0.1".into()],
        port,
        connect_host: "127.0.0.1".into(),
        connect_port: port,
        config_dir: data_dir.clone(),
        data_dir,
        bin_dir: Some(bin_dir()),
        database: "postgres".into(),
        pgpass: root.join(format!("pgpass-{name}")),
        superuser: login("postgres"),
        replication: login("replicator"),
        rewind: login("rewind_user"),
        parameters: parameters.as_object().cloned().unwrap_or_default(),
        use_unix_socket: name == "b",
        ..Postgresql::default()
    };
    Node(Instance::new(Arc::new(settings), "demo", &MemberName::new(name), None))
}

fn bootstrap() -> Bootstrap {
    let option = |name: &str, value: Option<&str>| ToolOption {
        name: name.into(),
        value: value.map(str::to_string),
    };
    let all = "host all,replication all 127.0.0.1/32 scram-sha-256";
    Bootstrap {
        initdb: vec![
            option("encoding", Some("UTF8")),
            option("no-sync", None),
            option("auth", Some("scram-sha-256")),
        ],
        pg_hba: vec![all.into()],
        ..Bootstrap::default()
    }
}

fn follow(leader: &Node, slot: Option<&str>) -> StartAs {
    let port = leader.0.settings.port;
    let slot = slot.map(str::to_string);
    let upstream = Upstream { host: "127.0.0.1".into(), port, slot, database: None, remote: false };
    StartAs::Standby { upstream: Some(upstream) }
}

async fn start(node: &Node, start_as: &StartAs, dynamic: &Value) -> (Postmaster, Session) {
    let (postmaster, _) = node.0.start(start_as, dynamic, &[], &[]).await.expect("a start");
    match node.0.wait_ready(&postmaster, APP, LIMIT).await.expect("an answer") {
        Ready::Accepting(session) => (postmaster, session),
        other => panic!("not ready: {other:?}: {}", log_text(node)),
    }
}

async fn stop(postmaster: &Postmaster, mode: StopMode) {
    postmaster.stop(mode).expect("a signal");
    tokio::time::timeout(LIMIT, postmaster.wait_exit()).await.expect("an end");
}

/// Asks until `done` says yes.
async fn until(session: &Session, what: &str, done: impl Fn(&Monitor) -> bool) -> Monitor {
    let end = Instant::now() + LIMIT;
    loop {
        let last = monitor::read(session).await;
        match last {
            Ok(seen) if done(&seen) => return seen,
            _ if Instant::now() > end => panic!("never {what}: {last:?}"),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Every question to a server that recovers is a FATAL line in its log.
async fn slow_start() {
    let root = tempfile::tempdir().expect("a temporary directory");
    certificate(root.path());
    let a = node(root.path(), "a");
    let (leader, session) = birth(&a, &json!({})).await;
    drop(session);
    stop(&leader, StopMode::Fast).await;
    let fatal = |text: String| text.matches("FATAL:  the database system is").count();
    let before = fatal(log_text(&a));
    let slow = json!({"postgresql": {"recovery_conf": {"restore_command": "sleep 1 && false"}}});
    let begun = Instant::now();
    let (standby, session) = start(&a, &StartAs::Standby { upstream: None }, &slow).await;
    let (took, log) = (begun.elapsed(), log_text(&a));
    let ready = a.0.settings.data_dir.join("postmaster.pid").metadata().expect("it runs");
    let late = ready.modified().expect("a time").elapsed().unwrap_or_default();
    let asked = fatal(log.clone()) - before;
    println!("  {asked} refusals in {took:.1?}, noticed {late:.1?} after it was ready");
    assert!(took > Duration::from_millis(1_500), "the start was not slow: {took:?}");
    assert!(asked as u64 <= took.as_secs() + 1, "{asked} in {took:?}: {log}");
    assert!(late < Duration::from_secs(1), "noticed after {late:?}");
    drop(session);
    stop(&standby, StopMode::Fast).await;
}

async fn whole_life() {
    let root = tempfile::tempdir().expect("a temporary directory");
    certificate(root.path());
    let (a, b) = (node(root.path(), "a"), node(root.path(), "b"));
    let dynamic = json!({"ttl": 30, "postgresql": {"parameters": {"max_connections": 90}}});
    let (leader, session) = birth(&a, &dynamic).await;
    settings_wait_for_a_restart(&a, &leader, &session).await;
    let leader = adopt(&a, &leader);
    let (standby, on_b) = clone(&a, &b, &session).await;
    follow_without_restart(&a, &b, &standby, &on_b, &dynamic).await;
    split(&leader, &session, &standby, &on_b).await;
    let on_a = come_back(&a, &b, &on_b, &dynamic).await;
    end(&a, &b, on_a, standby).await;
}

async fn birth(a: &Node, dynamic: &Value) -> (Postmaster, Session) {
    assert_eq!(a.0.data_state().await, DataDirState::Absent);
    a.0.initdb(&bootstrap()).await.expect("initdb");
    let (postmaster, session) = start(a, &StartAs::Primary, dynamic).await;
    users::ensure_all(&session, &a.0.settings).await.expect("users");
    users::ensure_all(&session, &a.0.settings).await.expect("users, again");
    let seen = monitor::read(&session).await.expect("the monitoring query");
    assert!(!seen.status.in_recovery && seen.status.timeline == Some(Timeline(1)));
    assert!(seen.status.position().is_some() && seen.status.replication.is_empty());
    assert!(
        seen.status.postmaster_start_time.ends_with("+00:00"),
        "{}",
        seen.status.postmaster_start_time
    );
    assert!(seen.status.server_version >= 130000);
    all_questions_have_the_same_answer(&session).await;
    assert_eq!(a.0.control().await.expect("control data").system_id, seen.system_id);
    assert!(matches!(a.0.data_state().await, DataDirState::Valid { system, .. }
        if system == seen.system_id));
    let again = a.0.start(&StartAs::Primary, dynamic, &[], &[]).await;
    assert!(matches!(again, Err(Error::AlreadyRuns(_))));
    assert!(matches!(a.0.remove_data(&Permission::given_up()), Err(Error::AlreadyRuns(_))));
    attack::s9_the_owner_of_the_database_stays_what_it_is(a, &session).await;
    passwords_are_not_in_the_log(a);
    // This test itself tells the server a password.
    attack::s8_verifiers_are_the_servers_own(&session).await;
    assert!(!is_encrypted(&session).await);
    (postmaster, session)
}

/// But for the position, which the server itself moves on.
async fn all_questions_have_the_same_answer(session: &Session) {
    let seen = monitor::read(session).await.expect("the monitoring query").status;
    let told = monitor::read_status(session).await.expect("the status");
    assert!(told.flushed >= seen.flushed);
    let again = monitor::read_primary(session, &told).await.expect("its position");
    let again = again.expect("it is a primary");
    assert!(again.flushed >= told.flushed);
    for answer in [told, again] {
        assert_eq!(ServerStatus { flushed: seen.flushed, ..answer }, seen);
    }
}

/// A server that was a primary when it was last asked, and is none now.
async fn a_standby_is_not_taken_for_a_primary(session: &Session) {
    let before = monitor::read_status(session).await.expect("the status");
    let answer = monitor::read_primary(session, &before).await.expect("an answer");
    assert_eq!(answer, None);
}

fn log_text(node: &Node) -> String {
    let logs = std::fs::read_dir(node.0.settings.data_dir.join("log")).expect("a log directory");
    let texts: Vec<String> =
        logs.flatten().map(|log| std::fs::read_to_string(log.path()).expect("a log")).collect();
    texts.concat()
}

fn passwords_are_not_in_the_log(a: &Node) {
    let text = log_text(a);
    assert!(text.contains("log_statement"), "statements are logged: {text}");
    assert!(!text.contains("word:1"), "{text}");
}

/// The daemon is started anew: it finds the server that runs.
fn adopt(a: &Node, leader: &Postmaster) -> Postmaster {
    let found = a.0.postmaster().expect("/proc").expect("a running postmaster");
    assert_eq!(&found, leader);
    let environ = std::fs::read(format!("/proc/{}/environ", found.pid)).expect("its environment");
    assert!(!String::from_utf8_lossy(&environ).contains("PATRONI_"));
    let cwd = std::fs::read_link(format!("/proc/{}/cwd", found.pid)).expect("its directory");
    assert_eq!(cwd, a.0.settings.data_dir);
    let opts = std::fs::read_to_string(cwd.join("postmaster.opts")).expect("postmaster.opts");
    let order = ["--listen_addresses=", "--cluster_name=demo", "--max_connections=90", "--wal_log"];
    let places: Vec<_> = order.iter().map(|word| opts.find(word).expect(word)).collect();
    assert!(places.is_sorted(), "{opts}");
    found
}

async fn settings_wait_for_a_restart(a: &Node, leader: &Postmaster, session: &Session) {
    let more = json!({"postgresql": {"parameters": {"max_connections": 95, "work_mem": "5MB"}}});
    let written = a.0.reload(leader, &StartAs::Primary, &more, &[]).await.expect("a reload");
    assert!(written.changed);
    assert!(written.effective.warnings.iter().any(|w| w.contains("work_men")));
    let seen = until(session, "pending", |seen| !seen.pending_restart.is_empty()).await;
    let pending = &seen.pending_restart[0];
    let values = (pending.old_value.as_deref(), pending.new_value.as_deref());
    assert_eq!(pending.name, "max_connections");
    assert_eq!(values, (Some("90"), Some("95")));
    let again = a.0.reload(leader, &StartAs::Primary, &more, &[]).await.expect("a reload");
    assert!(!again.changed, "nothing new to write");
    reload::a_session_that_has_read_new_files_compares_nothing(a, leader, session).await;
}

async fn clone(a: &Node, b: &Node, session: &Session) -> (Postmaster, Session) {
    slots::create_physical(session, "b").await.expect("a slot");
    slots::create_physical(session, "b").await.expect("the same slot");
    slots::drop(session, "nobody").await.expect("no slot to drop");
    let fast = [ToolOption { name: "checkpoint".into(), value: Some("fast".into()) }];
    b.0.basebackup("127.0.0.1", a.0.settings.port, &fast).await.expect("a base backup");
    let less = json!({"postgresql": {"parameters": {"max_connections": 30}}});
    let (standby, on_b) = start(b, &follow(a, Some("b")), &less).await;
    let written = b.0.write_config(&follow(a, Some("b")), &less, &[]).await.expect("files");
    let raised: Vec<&str> = written.effective.raised.keys().map(String::as_str).collect();
    assert_eq!(raised, ["max_connections"], "a standby has what it needs");
    assert_eq!(b.0.raised()["max_connections"].configured, "30");
    assert_eq!(written.effective.parameters["max_connections"], "90");
    let seen = until(&on_b, "streaming", |m| m.status.is_streaming()).await;
    assert!(seen.status.in_recovery && seen.status.timeline == Some(Timeline(1)));
    assert_eq!(seen.sender_port, Some(a.0.settings.port));
    assert_eq!(seen.primary_slot_name.as_deref(), Some("b"));
    let seen = monitor::read(session).await.expect("the monitoring query");
    assert_eq!(seen.status.replication[0].application_name, "b");
    assert!(seen.slots.iter().any(|slot| slot.name == "b" && slot.active));
    a_standby_is_not_taken_for_a_primary(&on_b).await;
    (standby, on_b)
}

async fn follow_without_restart(
    a: &Node,
    b: &Node,
    standby: &Postmaster,
    on_b: &Session,
    dynamic: &Value,
) {
    let target = follow(a, None);
    b.0.reload(standby, &target, dynamic, &[]).await.expect("a reload");
    let seen =
        until(on_b, "without slot", |m| m.status.is_streaming() && m.primary_slot_name.is_none());
    assert!(seen.await.primary_conninfo.is_some_and(|info| !info.contains("word")));
    assert!(standby.is_alive().expect("/proc"));
}

/// B is promoted while A still writes, then A dies: A has diverged.
async fn split(leader: &Postmaster, session: &Session, standby: &Postmaster, on_b: &Session) {
    session.execute("a table", "CREATE TABLE public.t AS SELECT 1 AS i").await.expect("a table");
    let end = monitor::read(session).await.expect("a position").status.position();
    until(on_b, "caught up", |seen| seen.status.replay >= end).await;
    standby.promote().expect("a promotion");
    let seen = until(on_b, "primary", |seen| !seen.status.in_recovery).await;
    assert_eq!(seen.status.timeline, Some(Timeline(2)));
    session.execute("a stray row", "INSERT INTO public.t VALUES (2)").await.expect("a row");
    on_b.execute("a row", "INSERT INTO public.t VALUES (3)").await.expect("a row");
    on_b.execute_long("checkpoint", "CHECKPOINT", LIMIT).await.expect("a checkpoint");
    leader.kill_all().expect("a kill");
    tokio::time::timeout(LIMIT, leader.wait_gone()).await.expect("an end");
    tokio::time::timeout(LIMIT, session.closed()).await.expect("a closed connection");
    assert!(!session.is_usable());
}

async fn come_back(a: &Node, b: &Node, on_b: &Session, dynamic: &Value) -> Postmaster {
    let port = b.0.settings.port;
    assert_eq!(a.0.control().await.expect("control").state, ControlState::InProduction);
    a.0.crash_recovery().await.expect("single-user recovery");
    let control = a.0.control().await.expect("control data");
    assert_eq!(control.state, ControlState::ShutDown);
    let peer = over_tls(a, port).await;
    let timeline = history::remote_timeline(&peer).await.expect("a timeline");
    let remote = history::remote(&peer, timeline).await.expect("a history");
    let asked = a.0.peer_history("127.0.0.1", port).await.expect("over the replication protocol");
    assert_eq!(asked, remote, "two ways to one history");
    assert!(!remote.contains(control.timeline, control.checkpoint), "A has diverged");
    let gone = history::remote(&peer, Timeline(9)).await;
    assert!(matches!(gone, Err(Error::NoHistory(Timeline(9)))));
    let data = &b.0.settings.data_dir;
    assert_eq!(history::local(data, timeline).expect("a history"), remote);
    ends_of_the_log(a, &control).await;
    rewind_with_a_fetched_segment(a, port).await;
    slots::create_physical(on_b, "a").await.expect("a slot");
    let (postmaster, on_a) = start(a, &follow(b, Some("a")), dynamic).await;
    let end = monitor::read(on_b).await.expect("a position").status.position();
    let there = |m: &Monitor| m.status.is_streaming() && m.status.replay >= end;
    assert_eq!(until(&on_a, "streaming", there).await.status.timeline, Some(Timeline(2)));
    let rows = on_a.rows("rows", "SELECT i FROM public.t ORDER BY 1", &[]).await.expect("rows");
    let rows: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, [1, 3], "the stray row is gone");
    postmaster
}

/// The shutdown checkpoint is the last record of the log, however it is read.
async fn ends_of_the_log(a: &Node, control: &ControlData) {
    let at =
        |lsn| Place { timeline: control.timeline, lsn, segment_bytes: control.wal_segment_bytes };
    let settings = &a.0.settings;
    let end = wal::checkpoint_end(settings, at(control.checkpoint)).await.expect("pg_waldump");
    assert!(end > control.checkpoint);
    let first = Lsn(control.checkpoint.0 - control.checkpoint.0 % control.wal_segment_bytes);
    assert_eq!(wal::log_end(settings, at(first)).await.expect("pg_waldump"), end);
    assert_eq!(wal::log_end(settings, at(control.checkpoint)).await.expect("pg_waldump"), end);
    assert_eq!(wal::log_end(settings, at(end)).await.expect("nothing more"), end);
    for begin in [first, control.checkpoint, end] {
        assert_eq!(wal::end_ahead(settings, at(begin)).await.expect("pg_waldump"), end);
    }
}

/// As before 13, where pg_rewind does not know the archive.
async fn rewind_with_a_fetched_segment(a: &Node, port: u16) {
    let settings = &a.0.settings;
    let wal = settings.data_dir.join("pg_wal");
    let archive = settings.pgpass.with_file_name("archive");
    std::fs::create_dir(&archive).expect("a directory");
    let entries = std::fs::read_dir(&wal).expect("a directory");
    let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut segments: Vec<String> = names.filter(|name| is_segment(name)).collect();
    segments.sort();
    for name in &segments[..segments.len() - 1] {
        std::fs::rename(wal.join(name), archive.join(name)).expect("a segment");
    }
    let source = tools::Source { host: "127.0.0.1", port };
    let rewinding =
        rewind::Rewinding { settings, source, options: &[], from_primary: true, major: 15 };
    let before = std::fs::read(settings.data_dir.join("global/pg_control")).expect("a file");
    let error = rewinding.run_with("", false).await.expect_err("a segment is missing");
    assert!(error.to_string().contains("could not open file"), "{error}");
    let after = std::fs::read(settings.data_dir.join("global/pg_control")).expect("a file");
    assert!(before == after, "a trial changes nothing");
    assert_eq!(rewind_mark::find(settings).expect("a look"), None);
    let restore = format!("cp {}/%f %p", archive.display());
    rewinding.run_with(&restore, false).await.expect("pg_rewind");
    assert_eq!(rewind_mark::find(settings).expect("a look"), None);
}

/// As the user of pg_rewind, with the certificate checked.
async fn over_tls(a: &Node, port: u16) -> Session {
    let mut login = a.0.settings.rewind.clone();
    let root = a.0.settings.pgpass.with_file_name("server.crt").display().to_string();
    login.extra.insert("sslrootcert".into(), root);
    login.extra.insert("sslmode".into(), "verify-full".into());
    let wrong = a.0.peer("127.0.0.1", port, &login, "test").await;
    assert!(wrong.is_err(), "the certificate is for another name");
    login.extra.insert("sslmode".into(), "verify-ca".into());
    let peer = a.0.peer("127.0.0.1", port, &login, "test").await.expect("a peer");
    assert!(is_encrypted(&peer).await);
    // What is not set is `prefer`: with TLS to a peer, without to the own server.
    let usual = a.0.peer("127.0.0.1", port, &a.0.settings.rewind, "test").await.expect("a peer");
    assert!(is_encrypted(&usual).await);
    peer
}

async fn is_encrypted(session: &Session) -> bool {
    const SQL: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    session.row("tls", SQL, &[]).await.expect("a row").get(0)
}

/// One self-signed certificate for everything, as many sites have.
fn certificate(root: &Path) {
    let status = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=demo", "-addext", "subjectAltName=DNS:demo"])
        .args(["-keyout", "server.key", "-out", "server.crt"])
        .stderr(std::process::Stdio::null())
        .current_dir(root)
        .status()
        .expect("openssl");
    assert!(status.success());
}

async fn end(a: &Node, b: &Node, on_a: Postmaster, on_b: Postmaster) {
    stop(&on_b, StopMode::Fast).await;
    stop(&on_a, StopMode::Fast).await;
    let (b_end, a_end) = (b.0.control().await.expect("b"), a.0.control().await.expect("a"));
    assert_eq!(b_end.state, ControlState::ShutDown);
    assert_eq!(a_end.state, ControlState::ShutDownInRecovery);
    assert!(a_end.min_recovery >= b_end.checkpoint, "the standby has the shutdown checkpoint");
    assert_eq!(a.0.postmaster().expect("/proc"), None);
    let failed = b.0.move_data_aside(&Permission::given_up()).expect("a rename");
    assert!(failed.join("PG_VERSION").exists());
    a.0.remove_data(&Permission::given_up()).expect("a removal");
    assert_eq!(a.0.data_state().await, DataDirState::Empty);
}
