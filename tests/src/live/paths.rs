//! A group whose files name every path relative to the daemon's working directory,
//! through bootstrap, copy, crash, rewind and an operator's command; and a file that
//! is not there.

use super::stage::{LONG, SHORT, Stage, ask_sql};
use ctl::field::Plan;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What the command before a promotion leaves behind.
const MARK: &str = "promoted";

pub async fn relative() {
    let mut stage = Stage::prepare_with(2, name_relative_paths);
    place_command(&stage);
    a_missing_file_ends_the_start(&stage);
    stage.stand_up().await;
    let leader = stage.leader().await;
    let data = format!("{}/data/{}", stage.field.dir.display(), leader.name);
    let shown = ask_sql(&leader, "SHOW data_directory").await.expect("it runs");
    assert_eq!(shown, data);
    let writer = stage.writer("relative").await;
    stage.rows_on_a_replica().await;

    let killed = stage.field.postmaster_pid(&leader).expect("the leader runs");
    assert!(stage.field.signal_postmaster(&leader, Signal::SIGKILL));
    stage.restarted(&leader, killed).await;
    println!("  recovered in place");
    stage.patch(json!({"primary_start_timeout": 0})).await;
    let mark = stage.mark(&leader);
    assert!(stage.field.signal_postmaster(&leader, Signal::SIGKILL));
    let new = stage.new_leader(&leader, SHORT).await;
    assert!(stage.field.dir.join(MARK).exists(), "the command of the operator did not run");
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    println!("  failed over to {}, the old primary streams again", new.name);
    let log = stage.log_since(&leader, mark);
    assert!(!log.contains("bootstrap from leader"), "it was copied anew: {log}");
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

fn name_relative_paths(plan: &mut Plan, dir: &Path) {
    std::os::unix::fs::symlink(&plan.pg_bin, dir.join("programs")).expect("an own directory");
    let names: Vec<String> = plan.members().map(|member| member.name.clone()).collect();
    for name in names {
        let overlay = json!({
            "postgresql": {
                "data_dir": format!("./data/{name}"),
                "bin_dir": "programs",
                "pgpass": format!("{name}.pgpass"),
                "pre_promote": "./promote-hook",
                "parameters": {"unix_socket_directories": ".."},
            },
        });
        plan.overlays.insert(name, overlay);
    }
}

fn place_command(stage: &Stage) {
    let path = stage.field.dir.join("promote-hook");
    fs::write(&path, format!("#!/bin/sh\ntouch {MARK}\n")).expect("an own file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("an own file");
}

/// Also where variables could make up a configuration.
fn a_missing_file_ends_the_start(stage: &Stage) {
    let mut command = stage.field.command(&stage.field.daemon_program());
    command.arg("n7.yml").env("PATRONI_SCOPE", "s").env("PATRONI_NAME", "n");
    let output = command.output().expect("the daemon runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with("n7.yml: cannot be read: ") && told.lines().count() == 1, "{told}");
}
