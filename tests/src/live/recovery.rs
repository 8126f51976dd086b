//! How a running standby comes to other settings of recovery: by a reload
//! where PostgreSQL allows it, by a restart where it does not.

use super::stage::{LONG, SHORT, Stage, ask_sql};
use ctl::field::MemberPlan;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// Leaves the group as it was.
pub async fn of_a_standby(stage: &mut Stage, leader: &MemberPlan) {
    let standby = stage.others(leader)[0].clone();
    let pid = stage.field.postmaster_pid(&standby);
    by_reload(stage, &standby).await;
    without_slots(stage, leader, &standby).await;
    passwords_come_back(stage, &standby).await;
    assert_eq!(stage.field.postmaster_pid(&standby), pid, "a reload was enough");
    without_its_signal(stage, &standby).await;
    on_another_timeline(stage, &standby).await;
}

async fn by_reload(stage: &Stage, standby: &MemberPlan) {
    let conf = json!({"recovery_end_command": "true", "recovery_min_apply_delay": "5ms",
        "recovery_target_time": "2020-01-01", "primary_slot_name": "of_no_leader"});
    stage.patch(json!({"postgresql": {"recovery_conf": conf}})).await;
    shows(stage, standby, "recovery_end_command", "true").await;
    shows(stage, standby, "recovery_min_apply_delay", "5ms").await;
    shows(stage, standby, "recovery_target_time", "").await;
    shows(stage, standby, "primary_slot_name", &standby.name).await;
    stage.patch(json!({"postgresql": {"recovery_conf": null}})).await;
    shows(stage, standby, "recovery_end_command", "").await;
}

async fn without_slots(stage: &Stage, leader: &MemberPlan, standby: &MemberPlan) {
    let count = "SELECT count(*)::text FROM pg_replication_slots";
    let slots = async |wanted: &str| {
        let what = format!("{wanted} slots on {}", leader.name);
        stage
            .until(&what, SHORT, async || ask_sql(leader, count).await.is_ok_and(|n| n == wanted))
            .await;
    };
    slots("1").await;
    for (used, name, number) in [(json!("off"), "", "0"), (Value::Null, &*standby.name, "1")] {
        stage.patch(json!({"postgresql": {"use_slots": used}})).await;
        shows(stage, standby, "primary_slot_name", name).await;
        slots(number).await;
    }
    stage.healthy(LONG).await;
}

async fn passwords_come_back(stage: &Stage, standby: &MemberPlan) {
    let path = stage.field.dir.join(format!("{}.pgpass", standby.name));
    let before = fs::read_to_string(&path).expect("the daemon wrote it");
    assert!(before.contains(":replicator:"), "{before}");
    fs::remove_file(&path).expect("our own file");
    stage
        .until("the passwords", SHORT, async || {
            fs::read_to_string(&path).is_ok_and(|text| text == before)
        })
        .await;
}

/// A server without it would open at the end of its log.
async fn without_its_signal(stage: &Stage, standby: &MemberPlan) {
    let pid = stage.field.postmaster_pid(standby);
    let signal = stage.field.data_dir(standby).join("standby.signal");
    fs::remove_file(&signal).expect("a standby has it");
    let restarted =
        async || stage.field.postmaster_pid(standby).is_some_and(|now| Some(now) != pid);
    stage.until("a restart", SHORT, restarted).await;
    stage.healthy(LONG).await;
    assert!(signal.exists());
}

/// An operator's own start, with a setting that no reload changes.
async fn on_another_timeline(stage: &mut Stage, standby: &MemberPlan) {
    const SETTING: &str = "recovery_target_timeline";
    let data = stage.field.data_dir(standby);
    stage.field.kill_daemon(&standby.name);
    let auto = data.join("postgresql.auto.conf");
    let mut text = fs::read_to_string(&auto).expect("it is always there");
    text.push_str("work_mem = '11MB'\nRecovery_Target_Timeline = 'current'\n");
    fs::write(&auto, text).expect("our own file");
    let mut restart = stage.field.command(&stage.field.plan.pg_bin.join("pg_ctl"));
    restart.arg("-D").arg(&data).args(["-w", "-m", "fast", "-l", "/dev/null", "restart"]);
    restart.stdout(std::process::Stdio::null()).stdin(std::process::Stdio::null());
    assert!(restart.status().expect("pg_ctl runs").success());
    shows(stage, standby, SETTING, "current").await;
    let (pid, mark) = (stage.field.postmaster_pid(standby), stage.mark(standby));
    stage.start(standby);
    shows(stage, standby, SETTING, "latest").await;
    assert_ne!(stage.field.postmaster_pid(standby), pid);
    let log = stage.log_since(standby, mark);
    assert!(
        log.contains("the recovery settings in force differ from the configured ones"),
        "{log}"
    );
    let left = fs::read_to_string(&auto).expect("it is always there");
    assert!(left.contains("work_mem") && !left.contains("imeline"), "{left}");
    stage.healthy(LONG).await;
    fs::write(&auto, left.replace("work_mem = '11MB'\n", "")).expect("our own file");
}

/// Waits until a setting of the server has this value.
pub async fn shows(stage: &Stage, member: &MemberPlan, name: &str, wanted: &str) {
    let sql = format!("SHOW {name}");
    let what = format!("{name} = {wanted} on {}", member.name);
    let limit = Duration::from_secs(15);
    stage
        .until(&what, limit, async || ask_sql(member, &sql).await.is_ok_and(|v| v == wanted))
        .await;
}
