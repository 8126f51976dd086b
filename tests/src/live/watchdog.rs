//! A watchdog that is required: the beat feeds it, and no member leads without it.
//!
//! The device is a FIFO (`driver: testing`). This test is the hardware behind
//! it: when the keep-alives stop for longer than the timeout that was set, the
//! whole node is killed, as a reset would.

use super::stage::{LONG, SHORT, Stage, TTL};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(super) struct Device {
    fifo: File,
    told: String,
    fed: Option<Instant>,
}

impl Device {
    pub(super) fn make(path: &PathBuf) -> Device {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        std::fs::set_permissions(path, Permissions::from_mode(0o666)).expect("for the daemon");
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let fifo = OpenOptions::new().read(true).custom_flags(flags).open(path);
        Device { fifo: fifo.expect("a reader"), told: String::new(), fed: None }
    }

    /// Reads what it was told since.
    pub(super) fn look(&mut self) {
        let mut bytes = [0; 256];
        while let Ok(read @ 1..) = self.fifo.read(&mut bytes) {
            self.told += &String::from_utf8_lossy(&bytes[..read]);
            self.fed = Some(Instant::now());
        }
    }

    /// It was told to rest after all it was told before.
    pub(super) fn is_at_rest(&self) -> bool {
        self.told.ends_with('V')
    }

    fn timeout(&self) -> Option<Duration> {
        let (_, set) = self.told.rsplit_once("Ctimeout=")?;
        set.lines().next()?.parse().ok().map(Duration::from_secs)
    }

    /// Armed, and hungry for longer than its timeout.
    fn fires(&mut self) -> bool {
        self.look();
        let hungry = self.fed.map(|fed| fed.elapsed());
        !self.told.ends_with('V') && hungry > self.timeout() && self.timeout().is_some()
    }
}

pub(super) fn device_path(stage: &Stage, member: &MemberPlan) -> PathBuf {
    stage.field.config_path(member).with_extension("watchdog")
}

pub(super) fn require(stage: &Stage, member: &MemberPlan) {
    let device = device_path(stage, member).display().to_string();
    let section = format!(
        "\nwatchdog:\n  mode: required\n  driver: testing\n  device: {device}\n  safety_margin: 5\n"
    );
    let path = stage.field.config_path(member);
    let file = OpenOptions::new().append(true).open(path);
    file.and_then(|mut file| file.write_all(section.as_bytes())).expect("a longer YAML file");
}

async fn status(stage: &Stage, member: &MemberPlan) -> serde_json::Value {
    stage.get(member, "/patroni").await.body
}

/// The leader's daemon hangs: its machine is reset before its lock is over. The
/// other member has no device, so it leads only when it gets one.
pub async fn required() {
    let mut stage = Stage::prepare(2);
    stage.start_store();
    let members = stage.members();
    let mut devices: Vec<Device> = Vec::new();
    for member in &members {
        require(&stage, member);
        devices.push(Device::make(&device_path(&stage, member)));
        stage.start(member);
    }
    let leader = stage.healthy(LONG).await;
    let at = members.iter().position(|m| m.name == leader.name).expect("one of them");
    let other = members[1 - at].clone();
    devices.iter_mut().for_each(Device::look);
    assert!(devices[at].told.starts_with("Ctimeout=15\n1"), "{:?}", devices[at].told);
    assert_eq!(devices[1 - at].told, "", "a standby needs no watchdog");
    let writer = stage.writer("guarded").await;

    drop(devices.remove(1 - at));
    std::fs::remove_file(device_path(&stage, &other)).expect("the other device is taken away");
    let mut device = devices.remove(0);
    feeds_go_on(&stage, &mut device).await;

    let frozen = Instant::now();
    assert!(stage.field.signal_daemon(&leader.name, Signal::SIGSTOP));
    stage.until("a reset", TTL, async || device.fires()).await;
    stage.field.kill_node(&leader);
    println!("  daemon frozen: its machine was reset after {:.1?}", frozen.elapsed());
    writer.stop().await;

    // Past the end of the lease, no member may lead.
    let free = TTL + Duration::from_secs(4);
    tokio::time::sleep(free.saturating_sub(frozen.elapsed())).await;
    assert!(stage.watch.writable().is_empty(), "somebody leads without a watchdog");
    let shown = status(&stage, &other).await;
    assert_eq!(shown["watchdog_failed"], true, "{shown}");
    assert_eq!(shown["role"], "replica", "{shown}");

    let mut device = Device::make(&device_path(&stage, &other));
    let new = stage.new_leader(&leader, SHORT).await;
    device.look();
    assert!(device.told.starts_with("Ctimeout=15\n1"), "{:?}", device.told);
    assert_eq!(new.name, other.name);
    paused(&stage, &mut device).await;
    stage.one_writer();
    stage.end();
}

async fn feeds_go_on(stage: &Stage, device: &mut Device) {
    let before = device.told.len();
    stage
        .until("two more meals", SHORT, async || {
            device.look();
            device.told.len() >= before + 2
        })
        .await;
}

/// Pause leaves the machine to its operator.
async fn paused(stage: &Stage, device: &mut Device) {
    stage
        .ask
        .send(
            reqwest::Method::PATCH,
            &stage.leader().await,
            "/config",
            Some(&serde_json::json!({"pause": true})),
        )
        .await;
    stage
        .until("a watchdog at rest", SHORT, async || {
            device.look();
            device.told.ends_with('V')
        })
        .await;
}
