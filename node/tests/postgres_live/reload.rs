//! When PostgreSQL is told to read its files again.

use super::Node;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node::postgres::difference::FilesRead;
use node::postgres::{Postmaster, Session, StartAs};
use serde_json::json;
use std::collections::BTreeMap;

/// Told to read its files by an earlier reload, it does so with its next statement.
pub(crate) async fn a_session_that_has_read_new_files_compares_nothing(
    a: &Node,
    leader: &Postmaster,
    session: &Session,
) {
    let of = |memory: &str| json!({"postgresql": {"parameters": {"work_mem": memory}}});
    let compare = async |memory: &str, is_told: bool| {
        let read = FilesRead::of(session).await.expect("a time");
        let pid = session.row("its backend", "SELECT pg_catalog.pg_backend_pid()", &[]).await;
        let pid: i32 = pid.expect("a row").get(0);
        if is_told {
            kill(Pid::from_raw(pid), Signal::SIGHUP).expect("it lives");
        }
        let written = a.0.write_config(&StartAs::Primary, &of(memory), &[]).await.expect("files");
        assert!(written.changed);
        let wanted = BTreeMap::from([("work_mem".to_string(), memory.to_string())]);
        read.changes(session, &wanted).await.expect("a comparison").map(|changes| changes.len())
    };
    assert_eq!(compare("6MB", false).await, Some(1));
    assert_eq!(compare("7MB", true).await, None, "no other process has read them");
    a.0.reload(leader, &StartAs::Primary, &of("8MB"), &[]).await.expect("a reload");
}
