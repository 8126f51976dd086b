//! A member that is read from and has gone silent.
//!
//! A frozen machine keeps a connection open: a tool that reads from it would wait for
//! days. While no byte moves the source is asked over a connection of its own, and the
//! tool is ended when that is not answered either. A source that answers may take its
//! time, for a checkpoint before a base backup takes minutes.

use crate::postgres::{Error, Instance};
use member::ha::observation::Following;
use std::time::{Duration, Instant};

/// How often it is looked whether bytes move.
const PACE: Duration = Duration::from_secs(1);
/// After this long without new bytes, the source is asked whether it answers.
const STILL: Duration = Duration::from_secs(10);
/// Between two questions to a source from which nothing comes.
const ASKED_AGAIN: Duration = Duration::from_secs(3);
/// This many questions in a row without an answer end the tool.
const UNANSWERED_MAX: u32 = 4;
/// The connection is dead, whatever the source says. Before a base backup it writes a
/// checkpoint, which may be spread over `checkpoint_timeout`: a day at most.
const STALLED_MAX: Duration = Duration::from_secs(25 * 3600);

/// Why nothing was read from a source.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The tool failed; the source may answer the next one.
    Tool(String),
    /// The source was given up. Which one is read from next is decided anew.
    Silent(String),
}

impl ReadError {
    pub(super) fn into_text(self) -> String {
        match self {
            ReadError::Tool(why) | ReadError::Silent(why) => why,
        }
    }
}

/// Runs a tool that reads from `from`; dropping `tool` ends its program.
pub(super) async fn reading_from<T>(
    instance: &Instance,
    from: &Following,
    tool: impl Future<Output = Result<T, Error>>,
) -> Result<T, ReadError> {
    tokio::select! {
        done = tool => done.map_err(|error| ReadError::Tool(error.with_causes())),
        why = until_silent(instance, from) => Err(ReadError::Silent(why)),
    }
}

/// Returns when the source is given up, and why.
async fn until_silent(instance: &Instance, from: &Following) -> String {
    let Following { host, port, .. } = from;
    let (mut moved, mut since, mut unanswered) = (None, Instant::now(), 0);
    loop {
        tokio::time::sleep(PACE).await;
        let now = instance.bytes_of_tools();
        if now != moved {
            (moved, since, unanswered) = (now, Instant::now(), 0);
            continue;
        }
        let still = since.elapsed();
        if still < STILL {
            continue;
        }
        if moved.is_some() && still >= STALLED_MAX {
            return format!("nothing has come from {host}:{port} for {still:.0?}");
        }
        match instance.peer_answers(host, *port).await {
            Ok(()) => unanswered = 0,
            Err(why) => {
                unanswered += 1;
                if unanswered >= UNANSWERED_MAX {
                    return format!(
                        "{host}:{port} is silent: nothing has come from it for {still:.0?}, and it \
                         does not answer: {}",
                        why.with_causes()
                    );
                }
            }
        }
        tokio::time::sleep(ASKED_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::birth::Copy;
    use super::super::server::Server;
    use super::*;
    use serde_json::json;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use topology::MemberName;

    /// Programs of PostgreSQL; `pg_basebackup` writes that it runs, then does `body`.
    fn programs(dir: &Path, body: &str) {
        let copy = format!("echo run >> {}/runs\n{body}", dir.display());
        for (name, script) in [("postgres", "echo postgres 15.1"), ("pg_basebackup", &copy)] {
            let path = dir.join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Copies from a port on which no server listens: the error, and how often the
    /// program was run.
    async fn copy_with(body: &str) -> (String, usize) {
        let dir = tempfile::tempdir().unwrap();
        programs(dir.path(), body);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let document = json!({"scope": "demo", "name": "a",
            "etcd3": {"hosts": "127.0.0.1:1"},
            "restapi": {"listen": "127.0.0.1:1", "connect_address": "127.0.0.1:1"},
            "postgresql": {"data_dir": dir.path().join("data"), "bin_dir": dir.path(),
                "pgpass": dir.path().join("pgpass"),
                "listen": "127.0.0.1:1", "connect_address": "127.0.0.1:1",
                "authentication": {"replication": {"username": "r"},
                    "superuser": {"username": "s"}}}});
        let settings = settings_of(&dir.path().join("a.yml"), &document);
        let jobs = Server::new(settings.into()).unwrap().jobs(json!({}), Vec::new());
        let from = Following {
            host: "127.0.0.1".into(),
            port,
            slot: None,
            database: None,
            member: MemberName("b".into()),
        };
        let done = jobs.copy(&Copy { from: Some(from), plain: false }, None).await;
        let runs = fs::read_to_string(dir.path().join("runs")).unwrap().lines().count();
        (done.expect_err("no server is there"), runs)
    }

    fn settings_of(path: &Path, document: &serde_json::Value) -> crate::config::Settings {
        fs::write(path, document.to_string()).unwrap();
        crate::config::load(Some(path), &Default::default()).expect("a valid file").settings
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn h1_a_silent_source_is_not_read_again() {
        let (why, runs) = copy_with("exec sleep 600").await;
        assert!(why.contains("is silent"), "{why}");
        assert_eq!(runs, 1, "the next source is decided anew");
    }

    #[tokio::test]
    async fn a_base_backup_that_fails_is_tried_once_more() {
        let (why, runs) = copy_with("echo no such host >&2; exit 1").await;
        assert!(why.contains("no such host"), "{why}");
        assert_eq!(runs, 2);
    }
}
