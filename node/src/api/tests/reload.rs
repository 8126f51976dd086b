//! A running API takes over other settings: address, certificate, who may.

use super::member::{Member, WAIT_MAX};
use super::tls::{client, restapi, self_signed};
use super::*;
use crate::tls::Trust;
use reqwest::Method;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

fn on(host: &str, port: u16) -> RestApi {
    RestApi { listen_host: host.to_string(), listen_port: port, ..RestApi::default() }
}

fn listening(host: &str, port: u16) -> Settings {
    Settings { restapi: on(host, port), ..settings(RestApi::default()) }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One request on a connection that stays open.
fn ask_on(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    stream.write_all(b"GET /liveness HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = [0u8; 12];
    stream.read_exact(&mut answer).unwrap();
    let mut rest = [0u8; 4096];
    let _ = stream.read(&mut rest).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_refused(address: SocketAddr) -> bool {
    // The task that listened is dropped a moment after it was told.
    let mut tries = (0..200).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        TcpStream::connect(address).is_err()
    });
    tries.any(|refused| refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_moves_to_another_port_and_keeps_connections() {
    let mut member = Member::leader().await;
    let old = member.handle.addresses[0];
    let mut stream = TcpStream::connect(old).unwrap();
    assert_eq!(ask_on(&mut stream), "HTTP/1.1 200");
    let port = free_port();
    member.handle.reload(&listening("127.0.0.1", port)).await.unwrap();
    assert_eq!(member.handle.addresses, [SocketAddr::from(([127, 0, 0, 1], port))]);
    assert_eq!(member.get("/liveness").await.0, 200);
    assert_eq!(ask_on(&mut stream), "HTTP/1.1 200");
    assert!(is_refused(old));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_port_moves_between_addresses_that_overlap() {
    let mut member = Member::leader().await;
    let port = free_port();
    for host in ["127.0.0.1", "*", "localhost", "127.0.0.1"] {
        member.handle.reload(&listening(host, port)).await.unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port));
        assert_eq!(ask_on(&mut stream.unwrap()), "HTTP/1.1 200", "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_had_leaves_all_as_it_was() {
    let mut member = Member::leader().await;
    let old = member.handle.addresses[0];
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut wanted = listening("127.0.0.1", port);
    wanted.restapi.authentication = Some(login());
    let error = member.handle.reload(&wanted).await.unwrap_err().to_string();
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    // The same port of another address: the old listener was closed for it.
    let error = member.handle.reload(&listening("203.0.113.7", 0)).await.unwrap_err();
    assert!(error.to_string().contains("restapi.listen"), "{error}");
    assert_eq!(member.handle.addresses, [old]);
    assert_eq!(member.post("/reload", json!({})).await.0, 202);
}

#[tokio::test]
async fn who_may_and_what_is_sent_change_at_once() {
    let mut member = Member::leader().await;
    assert_eq!(member.post("/reload", json!({})).await.0, 202);
    let extra = vec![("X-Site".to_string(), "b".to_string())];
    let mut wanted = settings(RestApi::default());
    wanted.restapi.authentication = Some(login());
    wanted.restapi.http_extra_headers = extra;
    member.handle.reload(&wanted).await.unwrap();
    assert_eq!(member.post("/reload", json!({})).await.0, 401);
    let answer = member.ask(Method::GET, "/liveness", None).await;
    assert_eq!(answer.headers()["X-Site"], "b");
    wanted.restapi.authentication = None;
    wanted.restapi.allowlist = vec!["192.0.2.1".to_string()];
    member.handle.reload(&wanted).await.unwrap();
    assert_eq!(member.post("/reload", json!({})).await.0, 403);
    wanted.restapi.allowlist = vec!["no such host".to_string()];
    let error = member.handle.reload(&wanted).await.unwrap_err().to_string();
    assert!(error.contains("no such host"), "{error}");
    assert_eq!(member.post("/reload", json!({})).await.0, 403);
}

#[tokio::test]
async fn a_new_certificate_at_the_old_place_is_shown_after_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (self_signed(&directory, "old"), self_signed(&directory, "new"));
    let place = self_signed(&directory, "place");
    let put = |pair: &super::tls::Pair| {
        std::fs::copy(&pair.cert, &place.cert).unwrap();
        std::fs::copy(&pair.key, &place.key).unwrap();
    };
    put(&old);
    let wanted = settings(restapi(&place, "none"));
    let mut member = Member::start_with(wanted.clone(), published("n1"), primary()).await;
    let url = format!("https://{}/liveness", member.handle.addresses[0]);
    let trusted = async |ca: &super::tls::Pair| {
        // A client of its own: no connection is used again.
        client(Trust::Chain, ca, None).get(&url).send().await.is_ok()
    };
    put(&new);
    assert!(trusted(&old).await && !trusted(&new).await);
    member.handle.reload(&wanted).await.unwrap();
    assert!(!trusted(&old).await && trusted(&new).await);
    std::fs::write(&place.key, "no key").unwrap();
    let error = member.handle.reload(&wanted).await.unwrap_err().to_string();
    assert!(error.contains("place.key"), "{error}");
    assert!(trusted(&new).await);
}

#[tokio::test]
async fn https_is_switched_on_by_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let ours = self_signed(&directory, "ours");
    let mut member = Member::leader().await;
    member.handle.reload(&settings(restapi(&ours, "none"))).await.unwrap();
    let url = format!("https://{}/liveness", member.handle.addresses[0]);
    let answer = client(Trust::Chain, &ours, None).get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}
