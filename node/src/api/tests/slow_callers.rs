//! Callers that are slow, silent or many do not keep others out.
//!
//! Each kind comes from an address of its own below 127/8, so that addresses have
//! their places as on a network.

use super::member::Member;
use super::*;
use crate::peers::Peers;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Load balancers usually wait two seconds; this machine may be busy.
const CHECK_WAIT_MAX: Duration = Duration::from_secs(2);
const HEAD: &str = "GET /patroni HTTP/1.1\r\nHost: x\r\n";

#[derive(Clone, Copy)]
enum Slow {
    Silent,
    HalfHead,
    Trickling,
}

/// Both ends of every connection are in this process.
fn allow_many_connections() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("more descriptors");
}

async fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// Comes again when it was closed, for as long as it is not dropped.
async fn be_slow(kind: Slow, from: Ipv4Addr, to: SocketAddr) {
    loop {
        if let Ok(mut wire) = connect(from, to).await {
            let _ = linger(kind, &mut wire).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn linger(kind: Slow, wire: &mut TcpStream) -> std::io::Result<()> {
    match kind {
        Slow::Silent => {}
        Slow::HalfHead => wire.write_all(&HEAD.as_bytes()[..20]).await?,
        Slow::Trickling => loop {
            wire.write_all(b"X").await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        },
    }
    wire.read_u8().await.map(drop)
}

/// One health check as HAProxy makes it: a connection of its own.
async fn check(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<String> {
    let mut wire = connect(from, to).await?;
    wire.write_all(b"OPTIONS /primary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    wire.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn asked_by_members_and_load_balancers(member: &Member) {
    let to = member.handle.addresses[0];
    let peers = Peers::new(&settings(RestApi::default())).unwrap();
    for round in 0..20 {
        let haproxy = Ipv4Addr::new(127, 0, 0, 100);
        let answer = tokio::time::timeout(CHECK_WAIT_MAX, check(haproxy, to)).await;
        let answer = answer.unwrap_or_else(|_| panic!("check {round} has no answer in time"));
        let answer = answer.unwrap_or_else(|error| panic!("check {round}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let began = Instant::now();
        let status = peers.status(&member.url("/patroni")).await;
        assert!(status.is_some(), "question {round} of a member has no answer");
        assert!(began.elapsed() < CHECK_WAIT_MAX, "question {round}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_slow_callers_starve_neither_health_checks_nor_a_race() {
    allow_many_connections();
    let member = Member::leader().await;
    let to = member.handle.addresses[0];
    let mut slow = JoinSet::new();
    for n in 0..1_200u32 {
        let kind = [Slow::Silent, Slow::HalfHead, Slow::Trickling][n as usize % 3];
        slow.spawn(be_slow(kind, Ipv4Addr::new(127, 0, 1, (n % 8) as u8 + 1), to));
    }
    // All places that others may have are taken.
    tokio::time::sleep(Duration::from_millis(300)).await;
    asked_by_members_and_load_balancers(&member).await;
    slow.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_a_member_does_not_wait_behind_a_few_hundred_callers() {
    allow_many_connections();
    let member = Member::leader().await;
    let to = member.handle.addresses[0];
    let mut callers = JoinSet::new();
    for n in 0..400u32 {
        let from = Ipv4Addr::new(127, 0, 1, (n % 2) as u8 + 1);
        callers.spawn(async move {
            let mut wire = connect(from, to).await?;
            let mut bytes = [0; 4096];
            loop {
                wire.write_all(format!("{HEAD}\r\n").as_bytes()).await?;
                if wire.read(&mut bytes).await? == 0 {
                    return Err::<(), _>(std::io::Error::other("closed in the middle"));
                }
            }
        });
    }
    asked_by_members_and_load_balancers(&member).await;
    assert!(callers.try_join_next().is_none(), "all callers are still answered");
    callers.shutdown().await;
}

#[tokio::test]
async fn s1_a_body_that_does_not_come_is_not_waited_for() {
    let member = Member::leader().await;
    let mut wire = TcpStream::connect(member.handle.addresses[0]).await.unwrap();
    let head = "PATCH /config HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"ttl\":";
    wire.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    let read = tokio::time::timeout(super::member::WAIT_MAX, wire.read_exact(&mut start)).await;
    read.expect("an answer in time").unwrap();
    assert_eq!(&start, b"HTTP/1.1 408");
}

/// A connection that has said nothing is closed in the time of `HEAD_WAIT_MAX`.
#[tokio::test]
async fn s1_a_head_that_does_not_come_is_not_waited_for() {
    let member = Member::leader().await;
    let mut wire = TcpStream::connect(member.handle.addresses[0]).await.unwrap();
    wire.write_all(&HEAD.as_bytes()[..30]).await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(2 * super::member::WAIT_MAX, wire.read_to_end(&mut answer));
    closed.await.expect("an end in time").unwrap();
}
