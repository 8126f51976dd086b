//! Stops whose last checkpoint takes longer than the lock's lease.
//!
//! `before_stop` holds the stop until the checkpointer is frozen, so that it is
//! the shutdown checkpoint that does not come to its end.

use super::birth::entries;
use super::stage::{LONG, SHORT, Stage, TTL};
use super::watchdog::{Device, device_path};
use ctl::field::{MemberPlan, Writer};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SLOW: Duration = Duration::from_secs(TTL.as_secs() + 5);

pub fn file(stage: &Stage, member: &MemberPlan, end: &str) -> PathBuf {
    stage.field.dir.join(format!("{}.{end}", member.name))
}

/// Members with watchdogs, and the devices in the order of the members.
async fn raise() -> (Stage, Vec<Device>) {
    let stage = Stage::prepare_with(2, |plan, dir| {
        let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
        for name in names {
            let place = dir.join(&name).display().to_string();
            let wait = format!("while test ! -e {place}.go; do sleep 0.05; done");
            let command = format!("sh -c 'touch {place}.stops; {wait}'");
            let device = dir.join(format!("{name}.watchdog"));
            let watchdog = json!({"mode": "required", "driver": "testing", "device": device,
                "safety_margin": 5});
            let overlay = json!({"postgresql": {"before_stop": command}, "watchdog": watchdog});
            plan.overlays.insert(name, overlay);
        }
    });
    let mut stage = stage;
    let devices = stage.members().iter().map(|m| Device::make(&device_path(&stage, m))).collect();
    stage.stand_up().await;
    (stage, devices)
}

/// The leader, its device, and the other member.
async fn who(stage: &Stage, devices: &mut Vec<Device>) -> (MemberPlan, Device, MemberPlan) {
    let leader = stage.leader().await;
    let at = stage.members().iter().position(|m| m.name == leader.name).expect("one of them");
    let other = stage.others(&leader)[0].clone();
    (leader, devices.remove(at), other)
}

/// Both at once: each takes longer than a lease.
pub async fn slow() {
    tokio::join!(switchover(), daemon_ends());
}

async fn switchover() {
    let (stage, mut devices) = raise().await;
    let writer = stage.writer("switched").await;
    let (old, mut device, candidate) = who(&stage, &mut devices).await;
    let body = json!({"leader": old.name, "candidate": candidate.name});
    let asked = stage.ask.send(Method::POST, &old, "/switchover", Some(&body));
    // The answer comes before the end, and says that it is not known yet.
    let (_, ()) = tokio::join!(asked, keeps_the_lock(&stage, &old, &mut device, &writer));
    end(stage, writer, &old, &candidate).await;
}

async fn daemon_ends() {
    let (mut stage, mut devices) = raise().await;
    let writer = stage.writer("ended").await;
    let (old, mut device, other) = who(&stage, &mut devices).await;
    assert!(stage.field.signal_daemon(&old.name, Signal::SIGTERM));
    keeps_the_lock(&stage, &old, &mut device, &writer).await;
    stage.new_leader(&old, SHORT).await;
    assert_eq!(stage.field.wait_exit(&old.name, SHORT).expect("it ends"), Some(0));
    // Until its lease is over, the store says how it ended.
    let record = entries(&stage).await.remove(&format!("members/{}", old.name));
    let record = record.expect("its record is there").value;
    assert!(record.contains("\"state\":\"stopped\""), "{record}");
    assert!(record.contains("\"role\":\"primary\""), "{record}");
    assert!(stage.field.postmaster_pid(&old).is_none(), "PostgreSQL outlived its daemon");
    stage.start(&old);
    end(stage, writer, &old, &other).await;
}

/// From the beginning of the stop until its checkpoint may go on.
async fn keeps_the_lock(stage: &Stage, old: &MemberPlan, device: &mut Device, writer: &Writer) {
    let other = &stage.others(old)[0];
    stage.until("the stop", SHORT, async || file(stage, old, "stops").exists()).await;
    device.look();
    assert!(!device.is_at_rest(), "clients still write, and the watchdog is at rest");
    let frozen = stage.field.signal_backends(old, "checkpointer", Signal::SIGSTOP);
    assert_eq!(frozen, 1, "one checkpointer");
    std::fs::write(file(stage, old, "go"), "").expect("a mark");
    let since = Instant::now();
    // No client is left: from here on nothing is written that a client waits for.
    stage
        .until("a watchdog at rest", SHORT, async || {
            device.look();
            device.is_at_rest()
        })
        .await;
    println!("  the last client is gone: the watchdog rests after {:.2?}", since.elapsed());
    while since.elapsed() < SLOW {
        let held = entries(stage).await.remove("leader").map(|entry| entry.value);
        assert_eq!(held.as_ref(), Some(&old.name), "{:?} into the stop", since.elapsed());
        assert!(!stage.watch.writable().contains(&other.name), "{} promoted", other.name);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(stage.field.postmaster_pid(old).is_some(), "the stop was over before");
    let last = writer.last_acknowledged().expect("rows were written before");
    assert!(last < since + Duration::from_secs(1), "a stopping server takes no rows");
    // The same process: its title does not change.
    assert_eq!(stage.field.signal_backends(old, "checkpointer", Signal::SIGCONT), 1);
    let thawed = Instant::now();
    stage.new_leader(old, SHORT).await;
    println!("  checkpoint of {SLOW:.0?}: {} leads {:.2?} after it", other.name, thawed.elapsed());
}

async fn end(stage: Stage, writer: Writer, old: &MemberPlan, new: &MemberPlan) {
    assert_eq!(stage.healthy(LONG).await.name, new.name);
    let log = stage.field.log(&old.name);
    assert!(!log.contains("pg_rewind"), "{} had more than its successor", old.name);
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.end();
}
