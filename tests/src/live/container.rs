//! A container's life: the daemon is process 1, and the store comes late.

use super::stage::{LONG, SHORT, Stage, ask_sql};
use ctl::field::MemberPlan;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Alone in a namespace of processes: signals are passed on, orphans reaped,
/// and the end of the daemon is the end of the container.
pub async fn process_one() {
    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    stage.start_store();
    let mut container = Container::start(&stage, &member);
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;

    let init = container.init();
    let children = children(init);
    assert_eq!(children.len(), 2, "the daemon, and the postmaster that was left to it");

    let mark = stage.mark(&member);
    kill(Pid::from_raw(init), Signal::SIGHUP).expect("our own process");
    stage
        .until("the reload", SHORT, async || {
            stage.log_since(&member, mark).contains("the configuration was read again")
        })
        .await;

    orphan_is_reaped(&stage, &member, init, &children).await;

    kill(Pid::from_raw(init), Signal::SIGTERM).expect("our own process");
    assert_eq!(container.wait(&stage).await, Some(0));
    let pid_file = stage.field.data_dir(&member).join("postmaster.pid");
    assert!(!pid_file.exists(), "PostgreSQL was not stopped in order");
    failure_is_passed_on(&stage, &member).await;
    stage.field.stop();
}

/// Whatever ends below process 1 leaves no zombie; a killed server comes back.
async fn orphan_is_reaped(stage: &Stage, member: &MemberPlan, init: i32, before: &[i32]) {
    let postgres = before.iter().find(|pid| is_postgres(**pid)).expect("the postmaster");
    let backends = children(*postgres);
    for pid in backends.iter().chain([postgres]) {
        // Some backend may have ended this moment.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    stage
        .until("another postmaster", SHORT, async || {
            let now = children(init);
            let again = now.iter().any(|pid| is_postgres(*pid) && pid != postgres);
            again && ask_sql(member, "SELECT 1::text").await.is_ok()
        })
        .await;
    stage
        .until("no zombie", SHORT, async || children(init).iter().all(|pid| state(*pid) != 'Z'))
        .await;
}

async fn failure_is_passed_on(stage: &Stage, member: &MemberPlan) {
    let path = stage.field.config_path(member);
    fs::write(&path, "scope: [").expect("our file");
    let mut container = Container::start(stage, member);
    assert_eq!(container.wait(stage).await, Some(1));
}

/// `unshare` and what lives in its namespace. Dies with this value.
struct Container(Child);

impl Container {
    fn start(stage: &Stage, member: &MemberPlan) -> Container {
        let log = stage.field.log_path(&member.name);
        let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("our log");
        let errors = log.try_clone().expect("one more of it");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        if geteuid().is_root() {
            command.args(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        } else {
            command.args(["--user", "--map-current-user"]);
        }
        command.arg(stage.field.daemon_program()).arg(stage.field.config_path(member));
        command.env("HOME", &stage.field.dir).env("LC_ALL", "C.UTF-8");
        command.current_dir(&stage.field.dir).stdin(Stdio::null()).stdout(log).stderr(errors);
        Container(command.spawn().expect("unshare of util-linux"))
    }

    /// Its process 1, as this namespace calls it.
    fn init(&self) -> i32 {
        children(self.0.id().cast_signed())[0]
    }

    async fn wait(&mut self, stage: &Stage) -> Option<i32> {
        let mut code = None;
        stage
            .until("the end of the container", SHORT, async || {
                let ended = self.0.try_wait().expect("our own child");
                code = ended.and_then(|status| status.code());
                ended.is_some()
            })
            .await;
        code
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Its end kills process 1, and the kernel everything below.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn is_postgres(pid: i32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.file_name().is_some_and(|name| name == "postgres")
}

fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.unwrap_or('X')
}

/// The daemon is started before its store, as machines start in any order.
pub async fn store_comes_late() {
    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    stage.start(&member);
    let told =
        |stage: &Stage| stage.field.log(&member.name).matches("waiting for the store").count();
    let first = stage.until("a first line", SHORT, async || told(&stage) == 1).await;
    let again = stage.until("a second line", SHORT, async || told(&stage) == 2).await;
    println!("  told after {first:.2?}, and again {again:.2?} later");
    assert!(again > Duration::from_secs(4) && again < Duration::from_secs(9), "{again:?}");
    stage.start_store();
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;
    stage.end();
}
