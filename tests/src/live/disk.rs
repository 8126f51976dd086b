//! A leader whose disk is full, and one whose disk has become read-only.
//!
//! The data directory of one member is a file system of its own, on a loop
//! device. That needs root, as the namespaces of `net.rs` do.

use super::stage::{LONG, SHORT, Stage, TTL};
use ctl::field::MemberPlan;
use reqwest::Method;
use serde_json::json;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SIZE: u64 = 256 << 20;
/// A beat (5 s here), a second look, a stop and a promotion on busy cores.
const FREE_MAX: Duration = Duration::from_secs(14);

/// A file system of its own, unmounted when it is dropped.
struct Volume {
    at: PathBuf,
}

fn run(program: &str, words: &[&Path]) {
    let done = Command::new(program).args(words).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Volume {
    /// Where the data of this member will lie.
    fn make(stage: &Stage, member: &MemberPlan) -> Volume {
        let at = stage.field.data_dir(member);
        let image = stage.field.dir.join(format!("{}.img", member.name));
        let data = at.parent().expect("data/NAME");
        fs::create_dir_all(&at).expect("a directory");
        stage.field.give(data).expect("the servers' user has it");
        File::create(&image).and_then(|file| file.set_len(SIZE)).expect("a sparse file");
        let words = ["-q", "-F", "-m", "0", "-t", "ext4"].map(Path::new);
        run("mke2fs", &[&words[..], &[image.as_path()]].concat());
        run("mount", &[Path::new("-o"), Path::new("loop,errors=remount-ro"), &image, &at]);
        fs::remove_dir(at.join("lost+found")).expect("an empty directory");
        stage.field.give(&at).expect("the servers' user has it");
        fs::set_permissions(&at, Permissions::from_mode(0o700)).expect("a private directory");
        Volume { at }
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Not a single byte is left.
    fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.filler());
        let file = file.as_mut().expect("a file");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).expect("the filler is there");
    }

    /// As ext4 does itself when its device fails.
    fn abort(&self) {
        run("mount", &[Path::new("-o"), Path::new("remount,abort"), &self.at]);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(&self.at).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.at.display());
        }
    }
}

pub async fn fails() {
    let mut stage = Stage::prepare(3);
    let member = stage.members()[0].clone();
    let volume = Volume::make(&stage, &member);
    assert_ne!(
        fs::metadata(&volume.at).expect("just made").dev(),
        fs::metadata(&stage.field.dir).expect("it is there").dev()
    );
    stage.start_store();
    stage.start(&member);
    stage.until("a leader", LONG, async || stage.primary().await.is_some()).await;
    for other in stage.others(&member) {
        stage.start(&other);
    }
    assert_eq!(stage.healthy(LONG).await.name, member.name);
    stage.rows_on_a_replica().await;
    let writer = stage.writer("disk").await;

    let (since, mark) = (Instant::now(), stage.mark(&member));
    volume.fill();
    taken_over(&stage, &member, since, "full", mark).await;
    stage.writes_go_on(&writer, since, SHORT).await;
    println!("  disk full: no writes for {:.2?}", writer.longest_pause(since));
    stays_up_without_files(&stage, &member).await;
    volume.make_room();
    stage.healthy(LONG).await;
    println!("  room again: all stream {:.2?} after the failure", since.elapsed());
    // A member that still says that its disk fails is no candidate.
    let body = || async { stage.get(&member, "/patroni").await.body };
    let takes_files = async || body().await.get("disk_failed").is_none();
    stage.until("no word of the disk any more", SHORT, takes_files).await;

    let leader = stage.leader().await;
    let body = json!({"leader": leader.name, "candidate": member.name});
    let reply = stage.send(Method::POST, &leader, "/switchover", body).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(stage.healthy(LONG).await.name, member.name);
    stage.writes_go_on(&writer, Instant::now(), SHORT).await;

    let (since, mark) = (Instant::now(), stage.mark(&member));
    volume.abort();
    taken_over(&stage, &member, since, "read-only", mark).await;
    stage.writes_go_on(&writer, since, SHORT).await;
    println!("  disk read-only: no writes for {:.2?}", writer.longest_pause(since));
    stays_up_without_files(&stage, &member).await;
    stage.settle_without_loss(writer).await;
    stage.one_writer();
    stage.field.kill_node(&member);
    drop(volume);
    stage.end();
}

/// Another member leads before the lease would end, and the old leader's log says why.
async fn taken_over(stage: &Stage, old: &MemberPlan, since: Instant, what: &str, mark: usize) {
    let new = stage.new_leader(old, TTL).await;
    let led = since.elapsed();
    println!("  disk {what}: {} leads after {led:.2?} (ttl {TTL:?})", new.name);
    assert!(led < FREE_MAX, "a new leader only after {led:?}");
    let says = async || stage.log_since(old, mark).contains("takes no files");
    stage.until("a word of why in the old leader's log", SHORT, says).await;
}

/// A configuration that cannot be written down ends no daemon.
async fn stays_up_without_files(stage: &Stage, member: &MemberPlan) {
    let other = stage.others(member)[0].clone();
    let memory = format!("{}MB", 5 + stage.mark(member) % 50);
    stage.patch_by(&other, json!({"postgresql": {"parameters": {"work_mem": memory}}})).await;
    let shown = || async { stage.get(member, "/config").await.body };
    stage
        .until("the new configuration", SHORT, async || {
            shown().await["postgresql"]["parameters"]["work_mem"] == memory.as_str()
        })
        .await;
    let status = || async { stage.get(member, "/patroni").await.body };
    stage.until("word of the disk", SHORT, async || status().await["disk_failed"] == true).await;
    assert_ne!(status().await["role"], "primary");
    assert_eq!(stage.get(member, "/primary").await.status, 503);
}
