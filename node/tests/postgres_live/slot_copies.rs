//! Copies of logical slots, of files that a real server has written.

use super::{LIMIT, Node, StartAs, birth, certificate, node, start, stop};
use node::postgres::slot_files::{self, SlotFile, SlotRequest, Wanted};
use node::postgres::{Session, StopMode, slots, wal_kept};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use topology::Lsn;

/// A slot as it was made, then one whose `restart_lsn` has moved on: what is put is the file of
/// that position. The copy takes the place of the slot in a server that starts with it.
pub(super) async fn come_with_their_snapshot() {
    let root = tempfile::tempdir().expect("a temporary directory");
    certificate(root.path());
    let a = node(root.path(), "a");
    let dynamic = json!({"postgresql": {"parameters": {"wal_level": "logical"}}});
    let (server, session) = birth(&a, &dynamic).await;
    let made = "SELECT pg_create_logical_replication_slot('reader', 'test_decoding'); \
                CREATE TABLE public.events (id int)";
    session.execute("a slot", made).await.expect("a slot");
    let fresh = put(&root.path().join("fresh"), &copies(&a).await);
    assert_eq!(fresh, Vec::<String>::new(), "no decoder has written a snapshot");

    let moved = move_on(&session).await;
    let files = copies(&a).await;
    let there = root.path().join("moved");
    assert_eq!(put(&there, &files), [format!("{}.snap", moved.replace('/', "-"))]);
    let data = &a.0.settings.data_dir;
    let snapshot = format!("pg_logical/snapshots/{}.snap", moved.replace('/', "-"));
    for file in [snapshot.as_str(), "pg_replslot/reader/state"] {
        let (theirs, ours) = (std::fs::read(data.join(file)), std::fs::read(there.join(file)));
        assert_eq!(ours.expect("a copy"), theirs.expect("a file"), "{file}");
    }
    drop(session);
    stop(&server, StopMode::Fast).await;
    let (server, session) = start(&a, &StartAs::Primary, &dynamic).await;
    assert_eq!(restart_lsn(&session).await, moved);
    drop(session);
    stop(&server, StopMode::Fast).await;
}

/// The segment that a slot begins in is removed, as a standby does that knows of no slot.
pub(super) async fn are_useless_without_their_wal() {
    let root = tempfile::tempdir().expect("a temporary directory");
    certificate(root.path());
    let a = node(root.path(), "a");
    let dynamic = json!({"postgresql": {"parameters": {"wal_level": "logical"}}});
    let (server, session) = birth(&a, &dynamic).await;
    let made = "SELECT pg_create_logical_replication_slot('reader', 'test_decoding')";
    session.execute("a slot", made).await.expect("a slot");
    let name = "SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots";
    let segment: String = session.row("a segment", name, &[]).await.expect("a slot").get(0);
    session.execute("a switch", "SELECT pg_switch_wal()").await.expect("a switch");
    drop(session);
    // A server that recovers has replayed what it had written.
    server.kill_all().expect("a kill");
    tokio::time::timeout(LIMIT, server.wait_exit()).await.expect("an end");
    let (server, session) = start(&a, &StartAs::Primary, &dynamic).await;
    let replayed = "SELECT (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint";
    let to: i64 = session.row("an end", replayed, &[]).await.expect("a recovery").get(0);
    let to = Lsn(to as u64);
    let data_dir = &a.0.settings.data_dir;
    let begins = || wal_kept::begins_at(data_dir).expect("segments").expect("some");
    let needs: Lsn = restart_lsn(&session).await.parse().expect("a position");
    assert!(begins() <= needs);
    std::fs::remove_file(data_dir.join("pg_wal").join(segment)).expect("a segment");
    assert!(begins() > needs);
    let told = "SELECT wal_status FROM pg_replication_slots";
    let told: String = session.row("a state", told, &[]).await.expect("a slot").get(0);
    assert_ne!(told, "lost", "PostgreSQL notices it itself");
    let error = slots::advance_logical(&session, "reader", to).await.expect_err("no WAL");
    assert!(slots::is_useless(&error), "{error:?}");
    let other = session.execute("a division", "SELECT 1 / 0").await.expect_err("no number");
    assert!(!slots::is_useless(&other), "{other:?}");
    drop(session);
    stop(&server, StopMode::Fast).await;
}

/// As the login reads them that is meant for it.
async fn copies(a: &Node) -> Vec<SlotFile> {
    let wanted = vec![Wanted {
        name: "reader".into(),
        database: "postgres".into(),
        plugin: "test_decoding".into(),
        // This server has it itself.
        replaces: true,
    }];
    let system = a.0.control().await.expect("control data").system_id;
    let (port, login) = (a.0.settings.port, &a.0.settings.rewind);
    let (host, limit) = ("127.0.0.1", LIMIT);
    let request = SlotRequest { host, port, login, system: &system, wanted, limit };
    let files = a.0.read_slots(&request).await.expect("files");
    assert_eq!(files.len(), 1, "{files:?}");
    files
}

/// Puts them into a directory, and gives the names of the snapshots there.
fn put(dir: &Path, files: &[SlotFile]) -> Vec<String> {
    std::fs::create_dir_all(dir.join("pg_replslot")).expect("a directory");
    let parameters = BTreeMap::from([("wal_level".to_string(), "logical".to_string())]);
    let put = slot_files::install(dir, files, &parameters).expect("copies");
    assert_eq!(put, ["reader"]);
    let Ok(names) = std::fs::read_dir(dir.join("pg_logical/snapshots")) else { return Vec::new() };
    names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into()).collect()
}

/// Reads and confirms until the slot begins at a snapshot.
async fn move_on(session: &Session) -> String {
    let made = restart_lsn(session).await;
    for _ in 0..5 {
        let read = "INSERT INTO public.events VALUES (1); CHECKPOINT; \
                    SELECT count(*) FROM pg_logical_slot_get_changes('reader', NULL, NULL)";
        for statement in read.split("; ") {
            session.execute("a step", statement).await.expect("a step");
        }
        let now = restart_lsn(session).await;
        if now != made {
            return now;
        }
    }
    panic!("the slot still begins at {made}");
}

async fn restart_lsn(session: &Session) -> String {
    const SQL: &str =
        "SELECT restart_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = 'reader'";
    session.row("a slot", SQL, &[]).await.expect("a slot").get(0)
}
