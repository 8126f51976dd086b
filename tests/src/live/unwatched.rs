//! Daemons that cannot begin beside a primary that runs.

use super::stage::{LONG, SHORT, Stage};
use ctl::field::MemberPlan;
use ctl::field::process::is_alive;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// The daemon of a leader is killed, and its successor does not begin: first for a
/// moment, then for ever.
pub async fn beside_a_primary() {
    let mut stage = Stage::raise(2).await;
    let leader = stage.leader().await;
    a_port_in_use(&mut stage, &leader).await;
    a_broken_file(&mut stage, &leader).await;
    stage.one_writer();
    stage.end();
}

/// The port of the REST API comes free before the store would have had to answer.
async fn a_port_in_use(stage: &mut Stage, leader: &MemberPlan) {
    let postmaster = stage.field.postmaster_pid(leader).expect("it runs");
    stage.field.kill_daemon(&leader.name);
    let address = ("127.0.0.1", leader.api_port);
    let mut taken = None;
    stage
        .until("the port", SHORT, async || {
            taken = TcpListener::bind(address).ok();
            taken.is_some()
        })
        .await;
    let mark = stage.mark(leader);
    stage.start(leader);
    stage
        .until("what will become of the primary", SHORT, async || {
            stage
                .log_since(leader, mark)
                .contains("runs without a daemon: the start is tried again")
        })
        .await;
    drop(taken);
    stage.healthy(LONG).await;
    assert_eq!(stage.leader().await.name, leader.name);
    assert_eq!(stage.field.postmaster_pid(leader), Some(postmaster), "it was restarted");
}

/// A person breaks the file and starts the daemon anew.
async fn a_broken_file(stage: &mut Stage, leader: &MemberPlan) {
    let postmaster = stage.field.postmaster_pid(leader).expect("it runs");
    let path = stage.field.config_path(leader);
    let good = fs::read_to_string(&path).expect("our file");
    stage.field.kill_daemon(&leader.name);
    fs::write(&path, format!("{good}\nbroken: [\n")).expect("our file");
    let (mark, begin) = (stage.mark(leader), Instant::now());
    stage.start(leader);
    let code = stage.field.wait_exit(&leader.name, SHORT).expect("the daemon ends");
    let log = stage.log_since(leader, mark);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("is no YAML"), "{log}");
    assert!(log.contains("is stopped: no daemon watches it"), "{log}");
    assert!(!is_alive(postmaster), "the primary runs on without a daemon");
    // The store's `retry_timeout` in these tests, and the stop.
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    let new = stage.new_leader(leader, LONG).await;
    fs::write(&path, good).expect("our file");
    stage.start(leader);
    assert_eq!(stage.healthy(LONG).await.name, new.name);
}
