//! Clients that break off, by the thousand: a load balancer that resets its checks.

use super::member::{Member, WAIT_MAX};
use super::tls::{restapi, self_signed};
use super::*;
use rustix::net::sockopt::set_socket_linger;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const CLIENTS: usize = 10_000;
const WARM_UP: usize = 2_000;
const ROUNDS_MAX: usize = 3;
const THREADS: usize = 8;
/// What the allocator may keep: far less than a few hundred bytes a client.
const GROWTH_KB_MAX: u64 = 4_096;
const ALONE: &str = "MATRIARCH_TEST_ALONE";
const NAME: &str =
    "api::tests::resets::known_bug_19_clients_that_reset_leave_no_descriptor_memory_or_line";
/// The start of a handshake that never goes on.
const HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

/// In a process of its own, as descriptors and memory are a process's.
#[test]
fn known_bug_19_clients_that_reset_leave_no_descriptor_memory_or_line() {
    if std::env::var_os(ALONE).is_some() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(thousands_reset());
    }
    let alone = Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&alone.stdout) + String::from_utf8_lossy(&alone.stderr);
    assert!(alone.status.success() && said.contains("1 passed"), "{said}");
}

async fn thousands_reset() {
    let log = tempfile::tempfile().unwrap();
    let lines = Mutex::new(log.try_clone().unwrap());
    tracing_subscriber::fmt().with_writer(lines).init();
    let directory = tempfile::tempdir().unwrap();
    let pair = self_signed(&directory, "ours");
    let plain = Member::leader().await;
    let tls = Member::start(published("n1"), primary(), restapi(&pair, "none")).await;
    let (plain, tls) = (plain.handle.addresses[0], tls.handle.addresses[0]);

    come_and_reset(plain, tls, WARM_UP).await;
    let descriptors = settled(None).await;
    // What clients leave behind grows with every round; what the allocator keeps of
    // its busiest moment does not.
    let mut grown = Vec::new();
    while grown.iter().all(|kb| *kb >= GROWTH_KB_MAX) {
        assert!(grown.len() < ROUNDS_MAX, "{grown:?} kB more after each round");
        let memory = memory_kb();
        come_and_reset(plain, tls, CLIENTS).await;
        let after = settled(Some(descriptors)).await;
        assert!(after <= descriptors, "{descriptors} descriptors before, {after} after");
        grown.push(memory_kb().saturating_sub(memory));
    }
    assert_eq!(log.metadata().unwrap().len(), 0, "the log has lines about it");
}

/// One in four in the handshake, the others between request and answer.
async fn come_and_reset(plain: SocketAddr, tls: SocketAddr, clients: usize) {
    let mut threads = tokio::task::JoinSet::new();
    for _ in 0..THREADS {
        threads.spawn_blocking(move || {
            for n in 0..clients / THREADS {
                let (to, bytes) = match n % 4 {
                    0 => (tls, HELLO),
                    1 => (plain, &b"GET /patroni HTTP/1.1\r\nHost: x\r\n\r\n"[..]),
                    _ => (plain, &b"OPTIONS /primary HTTP/1.1\r\nHost: x\r\n\r\n"[..]),
                };
                let mut wire = TcpStream::connect(to).expect("a connection");
                wire.write_all(bytes).expect("a request");
                set_socket_linger(&wire, Some(Duration::ZERO)).expect("a reset at the end");
            }
        });
    }
    threads.join_all().await;
}

/// How many descriptors there are when no more of them close, or at most `wanted`.
async fn settled(wanted: Option<usize>) -> usize {
    let (end, mut last) = (Instant::now() + WAIT_MAX, usize::MAX);
    loop {
        let now = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let done = wanted.map_or(now >= last, |wanted| now <= wanted);
        if done || Instant::now() > end {
            return now;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
