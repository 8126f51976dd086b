//! Promotions that do not come to their end.
//!
//! The winner's `restore_command` hangs, as one does whose archive is not reachable:
//! PostgreSQL asks it for the history of the timeline that it is about to begin.

use super::stage::{LONG, SHORT, Stage};
use ctl::field::MemberPlan;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};

/// Of one core, while a promotion hangs; a debug build.
const CPU_MAX_PERCENT: u64 = 30;

fn hang(stage: &Stage, member: &MemberPlan) -> std::path::PathBuf {
    stage.field.dir.join(format!("{}.hang", member.name))
}

/// Seconds of CPU time, in hundredths.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let words = stat.rsplit_once(')').expect("a name").1.split_whitespace();
    words.skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
}

pub async fn restore_command_hangs() {
    let mut stage = Stage::prepare_with(3, |plan, dir| {
        let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
        for name in names {
            let place = dir.join(format!("{name}.hang")).display().to_string();
            let command = format!("while test -e {place}; do sleep 0.1; done; false");
            let conf = json!({"recovery_conf": {"restore_command": command}});
            plan.overlays.insert(name, json!({"postgresql": conf}));
        }
    });
    stage.stand_up().await;
    let writer = stage.writer("hanging").await;
    an_order_is_heard(&mut stage).await;
    stage.patch(json!({"primary_start_timeout": 5})).await;
    another_member_leads(&stage).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}

/// Asks for a switchover to a member whose promotion will hang.
async fn switch_to_one_that_hangs(stage: &Stage, old: &MemberPlan, hanging: &MemberPlan) {
    std::fs::write(hang(stage, hanging), "").expect("a mark");
    let body = json!({"leader": old.name, "candidate": hanging.name});
    let asked = stage.ask.send(Method::POST, old, "/switchover", Some(&body));
    let held = stage.until("a promotion that hangs", SHORT, async || {
        stage.field.log(&hanging.name).contains("leaving recovery")
    });
    let (_, _) = tokio::join!(asked, held);
    assert!(!stage.watch.writable().contains(&hanging.name), "it does not hang");
    for path in ["/primary", "/read-write", "/"] {
        assert_eq!(stage.get(hanging, path).await.status, 503, "{path} of a standby");
    }
}

async fn an_order_is_heard(stage: &mut Stage) {
    let old = stage.leader().await;
    let others = stage.others(&old);
    let (hanging, able) = (&others[0], &others[1]);
    switch_to_one_that_hangs(stage, &old, hanging).await;
    let pid = stage.field.daemon_pid(&hanging.name).expect("its daemon runs");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = cpu_ticks(pid);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let percent = (cpu_ticks(pid) - before) / 3;
    println!("  while the promotion hangs: {percent} % of a CPU");
    assert!(percent < CPU_MAX_PERCENT, "{percent} % of a CPU");
    let since = Instant::now();
    let body = json!({"candidate": able.name});
    let asked = stage.ask.send(Method::POST, able, "/failover", Some(&body));
    let led = stage.until("the member that was named", SHORT, async || {
        stage.watch.writable().contains(&able.name)
    });
    let (_, _) = tokio::join!(asked, led);
    println!("  a failover is heard: {} leads after {:.2?}", able.name, since.elapsed());
    std::fs::remove_file(hang(stage, hanging)).expect("it was there");
    assert_eq!(stage.healthy(LONG).await.name, able.name);
}

async fn another_member_leads(stage: &Stage) {
    let old = stage.leader().await;
    let hanging = stage.others(&old)[0].clone();
    let mark = stage.mark(&hanging);
    switch_to_one_that_hangs(stage, &old, &hanging).await;
    let since = Instant::now();
    let new = stage.new_leader(&hanging, LONG).await;
    println!("  primary_start_timeout is over: {} leads after {:.2?}", new.name, since.elapsed());
    std::fs::remove_file(hang(stage, &hanging)).expect("it was there");
    let log = stage.log_since(&hanging, mark);
    assert!(log.contains("takes longer than primary_start_timeout"), "it is not told");
    assert_ne!(new.name, hanging.name);
}
