//! `matriarchctl demo`: the main job, end to end, on this machine.
//!
//! Two regions, coordinator and worker, two members each, real PostgreSQL and
//! real etcd; clients write all the time. A primary is killed, the formation
//! moves to the other region and back, and every acknowledged row is looked
//! for at the end. The exit code says whether all are there.

mod load;
mod report;
mod story;

use crate::field::process::{find, find_postgres};
use crate::field::{Field, Plan, process};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything the demo makes lies here; it must be new or an old demo's.
    pub dir: PathBuf,
    pub keep: bool,
    pub stop: bool,
    /// The stand-in also where the Citus extension is installed.
    pub stand_in: bool,
}

/// A directory is only taken when this file says it is a demo's.
const MARK: &str = "matriarch-demo";
/// What a node of Citus has by default, without the demand for TLS.
const NODE_CONNINFO: &str = "sslmode=prefer keepalives_idle=5 keepalives_interval=2 \
    keepalives_count=3 tcp_user_timeout=5000";

pub async fn run(options: &Options) -> anyhow::Result<()> {
    if options.stop {
        return stop(&options.dir);
    }
    let daemon = beside_us("matriarch")?;
    let ctl = std::env::current_exe().context("where is this program?")?;
    let Some(pg_bin) = find_postgres() else {
        bail!(
            "PostgreSQL 13 or later is not installed; install it with: apt-get install postgresql"
        );
    };
    if find("etcd").is_none() {
        bail!("etcd is not installed; install it with: apt-get install etcd-server");
    }
    prepare_dir(&options.dir)?;
    let stand_in = options.stand_in || !has_citus(&pg_bin);
    let plan = plan(pg_bin.clone(), stand_in)?;
    let field = Field::prepare(&options.dir, plan, &daemon)?;
    std::fs::write(options.dir.join(MARK), "made by matriarchctl demo\n")?;
    let mut story = story::Story::new(field, ctl);
    let mut told = tokio::select! {
        told = story.tell() => told,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Some(change) = extension_change(options.stand_in, stand_in, has_citus(&pg_bin)) {
        told = told.context(change);
    }
    if options.keep {
        story.leave_running(&options.dir);
    } else {
        story.stop();
    }
    told
}

fn stop(dir: &Path) -> anyhow::Result<()> {
    if !dir.join(MARK).is_file() {
        bail!("{} is no directory of a demo; name it with --dir", dir.display());
    }
    process::stop_directory(dir);
    println!("stopped; the files are still in {}", dir.display());
    Ok(())
}

/// Only an empty directory or an old demo's is used, and an old demo is ended.
fn prepare_dir(dir: &Path) -> anyhow::Result<()> {
    if dir.join(MARK).is_file() {
        process::stop_directory(dir);
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    if std::fs::read_dir(dir)?.next().is_some() {
        bail!("{} is not empty and no demo's; name another directory with --dir", dir.display());
    }
    Ok(())
}

fn beside_us(program: &str) -> anyhow::Result<PathBuf> {
    let us = std::env::current_exe().context("where is this program?")?;
    let path = us.with_file_name(program);
    if !path.is_file() {
        bail!("{} is missing; build it with: cargo build --release", path.display());
    }
    Ok(path)
}

/// Is the extension installed for this PostgreSQL? Debian and source builds
/// keep its control file below one of these.
pub fn has_citus(pg_bin: &Path) -> bool {
    let version = pg_bin.parent().and_then(Path::file_name).unwrap_or_default();
    let shared = Path::new("/usr/share/postgresql").join(version);
    let beside = pg_bin.parent().map(|home| home.join("share"));
    let places = [Some(shared), beside];
    places.iter().flatten().any(|p| p.join("extension/citus.control").is_file())
}

/// The servers were configured for the extension, or for the stand-in, before they
/// started: an extension that arrived or went since then explains a failure.
fn extension_change(asked: bool, stand_in: bool, is_there: bool) -> Option<&'static str> {
    match (stand_in, is_there) {
        (true, true) if !asked => {
            Some("the Citus extension was installed while the demo ran; start the demo again")
        }
        (false, false) => {
            Some("the Citus extension was removed while the demo ran; start the demo again")
        }
        _ => None,
    }
}

/// Small servers: eight of them run on two cores.
fn plan(pg_bin: PathBuf, stand_in: bool) -> anyhow::Result<Plan> {
    let mut plan = Plan::new(&["north", "south"], &[Some(0), Some(1)], 2, pg_bin)?;
    plan.stand_in = stand_in;
    plan.dcs = serde_json::json!({
        "ttl": 20, "loop_wait": 5, "retry_timeout": 5, "synchronous_mode": "quorum",
        "postgresql": {"use_pg_rewind": true, "parameters": {
            "max_connections": 60, "max_worker_processes": 12, "max_wal_senders": 8,
            "max_prepared_transactions": 120, "wal_level": "logical", "wal_keep_size": "64MB",
        }},
    });
    plan.parameters = serde_json::json!({"min_wal_size": "48MB", "max_wal_size": "256MB"});
    if !stand_in {
        plan.parameters["citus.node_conninfo"] = NODE_CONNINFO.into();
        plan.parameters["citus.node_connection_timeout"] = "5s".into();
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_an_extension_that_arrives_or_goes_is_named() {
        let arrived = extension_change(false, true, true).unwrap();
        assert!(arrived.contains("installed while"), "{arrived}");
        let went = extension_change(false, false, false).unwrap();
        assert!(went.contains("removed while"), "{went}");
        assert_eq!(extension_change(true, true, true), None, "the stand-in was asked for");
        assert_eq!(extension_change(false, false, true), None);
        assert_eq!(extension_change(false, true, false), None);
    }
}
