//! Members whose log has left the group's history, and how they come back.
//!
//! All scenarios stand on one group of two. A primary diverges by rows that are
//! written while its walsender is frozen; then its postmaster dies, and with
//! `primary_start_timeout: 0` the other member leads at once.

use super::stage::{LONG, SHORT, Stage, ask_sql, connect};
use ctl::field::{MemberPlan, Plan};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A member that must not come back does not within this.
const STAYS: Duration = Duration::from_secs(3);

/// The group, and the files that steer its archive and its pg_rewind.
pub struct Ground {
    pub stage: Stage,
    dir: PathBuf,
}

/// Two members with an archive, a user for rewinding that is no superuser, and
/// a pg_rewind that waits, fails or damages as files tell it to.
pub async fn ground() -> Ground {
    let mut dir = PathBuf::new();
    let mut stage = Stage::prepare_with(2, |plan, place| {
        dir = place.to_path_buf();
        lay_out(plan, place);
    });
    let ground_dir = dir.clone();
    fs::create_dir(dir.join("archive")).expect("a directory");
    fs::write(dir.join("archive-open"), "").expect("a file");
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(dir.join("archive"), open).expect("permissions");
    stage.stand_up().await;
    Ground { stage, dir: ground_dir }
}

fn lay_out(plan: &mut Plan, dir: &Path) {
    let at = |name: &str| dir.join(name).display().to_string();
    let change = json!({
        "primary_start_timeout": 0,
        "postgresql": {
            "parameters": {
                "archive_mode": "on",
                "archive_command": format!(
                    "test -f {} && cp %p {}/%f", at("archive-open"), at("archive")
                ),
                "wal_keep_size": "0",
            },
            "recovery_conf": {"restore_command": format!("cp {}/%f %p", at("archive"))},
            "rewind": ["debug"],
        },
    });
    topology::document::patch(&mut plan.dcs, &change);
    let tool = write_tool(dir, &plan.pg_bin);
    let overlay = json!({"postgresql": {
        "bin_name": {"pg_rewind": tool},
        "authentication": {"rewind": {"username": "rewinder", "password": "go-back"}},
        "pg_hba": [
            "local all all trust",
            "host all rewinder 127.0.0.1/32 scram-sha-256",
            "host all all 127.0.0.1/32 trust",
            "host replication all 127.0.0.1/32 trust",
        ],
    }});
    let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
    plan.overlays.extend(names.into_iter().map(|name| (name, overlay.clone())));
}

/// A trial and `--help` go straight through. A real run takes a relation away,
/// as if it had been killed before that file was copied, and tells its pid. Its
/// words go elsewhere: with its daemon their reader would be gone.
fn write_tool(dir: &Path, pg_bin: &Path) -> String {
    let (path, here) = (dir.join("pg_rewind_here"), dir.display());
    let real = pg_bin.join("pg_rewind");
    let script = format!(
        "#!/bin/sh\n\
         case \"$*\" in *--help*|*--dry-run*) exec {real} \"$@\";; esac\n\
         [ -f {here}/fail ] && exit 1\n\
         [ -f {here}/hold ] && rm -f base/1/1259 && echo $$ > {here}/held\n\
         while [ -f {here}/hold ]; do sleep 0.05; done\n\
         [ -f {here}/held ] && exec {real} \"$@\" > {here}/held.log 2>&1\n\
         exec {real} \"$@\"\n",
        real = real.display()
    );
    fs::write(&path, script).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    path.display().to_string()
}

impl Ground {
    fn touch(&self, name: &str) {
        fs::write(self.dir.join(name), "").expect("a file");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.dir.join(name)).expect("the file is there");
    }

    async fn settings(&self, change: Value) {
        self.stage.patch(json!({"postgresql": change})).await;
    }

    /// The primary writes rows that no other member gets, then dies.
    async fn diverge(&self, rows: &str) -> (MemberPlan, usize) {
        let old = self.stage.healthy(LONG).await;
        let client = connect(&old).await.expect("the primary takes connections");
        let table = "CREATE TABLE IF NOT EXISTS diverged (id bigint); CHECKPOINT";
        client.batch_execute(table).await.expect("a table");
        self.stage.replayed_by(1, &old).await;
        let frozen = self.stage.field.signal_backends(&old, "walsender", Signal::SIGSTOP);
        assert_eq!(frozen, 1, "one walsender for the replica");
        client.simple_query(rows).await.expect("rows that nobody else gets");
        let mark = self.stage.mark(&old);
        assert!(self.stage.field.signal_postmaster(&old, Signal::SIGKILL));
        self.stage.new_leader(&old, SHORT).await;
        (old, mark)
    }

    /// The old primary streams again and has nothing of its own any more.
    async fn comes_back(&self, old: &MemberPlan, mark: usize) -> String {
        let leader = self.stage.healthy(LONG).await;
        assert_ne!(leader.name, old.name);
        let seen = ask_sql(old, "SELECT count(*)::text FROM diverged").await;
        assert_eq!(seen.ok().as_deref(), Some("0"), "{} kept a foreign history", old.name);
        self.stage.log_since(old, mark)
    }

    async fn says(&self, member: &MemberPlan, mark: usize, words: &str) {
        self.stage
            .until(words, SHORT, async || self.stage.log_since(member, mark).contains(words))
            .await;
    }

    async fn stays_down(&self, member: &MemberPlan) {
        let end = tokio::time::Instant::now() + STAYS;
        while tokio::time::Instant::now() < end {
            assert!(connect(member).await.is_err(), "{} was started", member.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(self.stage.field.data_dir(member).join("global/pg_control").exists());
    }
}

const ROWS: &str = "INSERT INTO diverged SELECT generate_series(1, 1000)";

/// The log before the fork is in the archive only, the log behind it is not
/// archived yet; the user for rewinding may not write a checkpoint.
pub async fn crashed_with_an_archive(ground: &Ground) {
    let leader = ground.stage.healthy(LONG).await;
    let client = connect(&leader).await.expect("a connection");
    let sql = "CHECKPOINT; SELECT pg_walfile_name(pg_current_wal_lsn())";
    let rows = client.simple_query(sql).await.expect("a checkpoint");
    let checkpointed = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
        _ => None,
    });
    let checkpointed = checkpointed.expect("the name of a segment");
    client.simple_query("SELECT pg_switch_wal()").await.expect("a switch");
    let archived = ground.dir.join("archive").join(&checkpointed);
    ground.stage.until("an archived segment", SHORT, async || archived.exists()).await;
    ground.stage.replayed_by(1, &leader).await;

    let frozen = ground.stage.field.signal_backends(&leader, "walsender", Signal::SIGSTOP);
    assert_eq!(frozen, 1);
    drop(client);
    let client = connect(&leader).await.expect("a connection");
    client.batch_execute("CREATE TABLE diverged (id bigint)").await.expect("a table");
    ground.remove("archive-open");
    for sql in [ROWS, "SELECT pg_switch_wal()", ROWS, "CHECKPOINT", ROWS] {
        client.simple_query(sql).await.expect(sql);
    }
    let wal = ground.stage.field.data_dir(&leader).join("pg_wal");
    // As a cleanup would have it: what is archived needs not be here.
    fs::remove_file(wal.join(&checkpointed)).expect("a segment of before the fork");
    let ready = waiting(&wal);
    assert!(!ready.is_empty(), "nothing waits to be archived");
    ground.touch("archive-open");
    let mark = ground.stage.mark(&leader);
    assert!(ground.stage.field.signal_postmaster(&leader, Signal::SIGKILL));
    ground.stage.new_leader(&leader, SHORT).await;
    ground.stage.healthy(LONG).await;
    let log = ground.stage.log_since(&leader, mark);
    for wanted in ["done: crash recovery in single-user mode", "done: running pg_rewind"] {
        assert!(log.contains(wanted), "the log has no `{wanted}`");
    }
    assert!(!log.contains("reinitialize"), "{} was copied anew", leader.name);
    for name in ready {
        let there = ground.dir.join("archive").join(&name).exists();
        assert!(there, "{name} was lost without being archived");
    }
    let gone = ask_sql(&leader, "SELECT count(*)::text FROM diverged").await;
    assert!(gone.is_err(), "{} kept a foreign history", leader.name);
}

/// Names of segments that wait to be archived.
fn waiting(wal: &Path) -> Vec<String> {
    let entries = fs::read_dir(wal.join("archive_status")).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_suffix(".ready").map(str::to_string)).collect()
}

/// Neither rewinding nor a new copy is permitted: kept, until it is.
pub async fn kept_without_permission(ground: &Ground) {
    ground.settings(json!({"use_pg_rewind": false})).await;
    let (old, mark) = ground.diverge(ROWS).await;
    ground.says(&old, mark, "kept as it is").await;
    ground.says(&old, mark, "use_pg_rewind is off").await;
    ground.stays_down(&old).await;
    ground.settings(json!({"use_pg_rewind": true})).await;
    let log = ground.comes_back(&old, mark).await;
    assert!(log.contains("done: running pg_rewind"), "{} was not rewound", old.name);
}

/// Daemon and pg_rewind die half way: the next daemon rewinds once more before
/// anything starts.
pub async fn interrupted(ground: &mut Ground) {
    ground.touch("hold");
    let (old, _) = ground.diverge(ROWS).await;
    let held = ground.dir.join("held");
    let pid =
        async || fs::read_to_string(&held).is_ok_and(|text| text.trim().parse::<i32>().is_ok());
    ground.stage.until("a rewind that is half way", SHORT, pid).await;
    let text = fs::read_to_string(&held).expect("a pid");
    ground.stage.field.kill_daemon(&old.name);
    let tool = Pid::from_raw(text.trim().parse().expect("a number"));
    kill(tool, Signal::SIGKILL).expect("the tool is killed");
    for name in ["hold", "held"] {
        ground.remove(name);
    }
    ground.touch("fail");
    let mark = ground.stage.mark(&old);
    ground.stage.start(&old);
    ground.says(&old, mark, "a rewind did not come to its end").await;
    ground.says(&old, mark, "pg_rewind failed, see the log").await;
    ground.stays_down(&old).await;

    ground.remove("fail");
    ground.stage.field.kill_daemon(&old.name);
    let mark = ground.stage.mark(&old);
    ground.stage.start(&old);
    let log = ground.comes_back(&old, mark).await;
    let (rewound, started) = (log.find("done: running pg_rewind"), log.find("done: starting"));
    assert!(rewound.is_some() && rewound < started, "it was started before it was whole");
    assert!(!log.contains("reinitialize"));
}

/// A pg_rewind whose daemon dies goes on alone, and the next one waits for it.
pub async fn outlived_its_daemon(ground: &mut Ground) {
    ground.touch("hold");
    let (old, _) = ground.diverge(ROWS).await;
    let held = ground.dir.join("held");
    ground.stage.until("a rewind that is half way", SHORT, async || held.exists()).await;
    ground.stage.field.kill_daemon(&old.name);
    let mark = ground.stage.mark(&old);
    ground.stage.start(&old);
    ground.says(&old, mark, "of an earlier daemon goes on").await;
    ground.remove("hold");
    let log = ground.comes_back(&old, mark).await;
    assert!(!log.contains("running pg_rewind"), "it was rewound twice");
    ground.remove("held");
}

/// pg_rewind fails while the leader is well, and the setting for it is on.
pub async fn rebuilt_after_a_failure(ground: &Ground) {
    ground.settings(json!({"remove_data_directory_on_rewind_failure": true})).await;
    ground.touch("fail");
    let (old, mark) = ground.diverge(ROWS).await;
    let log = ground.comes_back(&old, mark).await;
    assert!(log.contains("failed: running pg_rewind") && log.contains("done: reinitialize"));
    ground.remove("fail");
}
