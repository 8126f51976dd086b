//! `POST /failsafe` and the one who asks, over a real connection.

use super::member::{Member, refused, said};
use super::*;
use crate::peers::Question;
use crate::promises::lock;
use reqwest::Method;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(5);

fn question() -> Value {
    json!({"name": "n1", "conn_url": "postgres://127.0.0.1:1/postgres",
        "api_url": "http://127.0.0.1:2/patroni", "slots": {"n1": 67108960, "n2": 67108000}})
}

/// All of three have to agree.
fn asking(body: &Value, ttl_ms: u64) -> Question<'_> {
    Question { body, ttl_ms, enough: 3 }
}

async fn replica() -> Member {
    let settings = settings(RestApi::default());
    let settings = Settings { name: "n2".into(), ..settings };
    let mut me = published("n2");
    me.role = MemberRole::Replica;
    let member = Member::start_with(settings, me, standby()).await;
    let mut promises = lock(&member.failsafe);
    promises.is_on = true;
    promises.update(false, None);
    drop(promises);
    member
}

#[tokio::test]
async fn a_replica_agrees_and_keeps_it_for_one_ttl() {
    let member = replica().await;
    let answer = member.ask(Method::POST, "/failsafe", Some(&question().to_string())).await;
    assert_eq!(answer.headers()["lsn"], "67108960");
    assert_eq!(said(answer).await, (200, "Accepted".to_string()));
    let promises = lock(&member.failsafe).clone();
    let promise = promises.promise(NOW).unwrap();
    assert_eq!((promise.to.as_str(), promise.until), ("n1", NOW + TTL_MS));
    assert_eq!(promise.slots["n2"], Lsn(67108000));
    assert!(!lock(&member.failsafe).claim(NOW + (TTL_MS - 1)));
}

#[tokio::test]
async fn refusals_have_the_texts_that_leaders_know() {
    let member = replica().await;
    for broken in ["{}", r#"{"name":"n1"}"#, r#"{"name":1,"conn_url":"a","api_url":"b"}"#] {
        let answer = member.ask(Method::POST, "/failsafe", Some(broken)).await;
        assert_eq!(answer.status(), 400, "{broken}");
    }
    lock(&member.failsafe).update(true, None);
    let running = refused(500, "Running as a leader");
    assert_eq!(member.post("/failsafe", question()).await, running);
    lock(&member.failsafe).update(false, Some("n3".into()));
    let other = refused(500, "n3 holds the lock");
    assert_eq!(member.post("/failsafe", question()).await, other);
    lock(&member.failsafe).is_on = false;
    assert_eq!(member.post("/failsafe", question()).await.0, 502);
    assert!(lock(&member.failsafe).promise(NOW).is_none());
}

#[tokio::test]
async fn a_member_that_asks_hears_every_single_answer() {
    let (one, two) = (replica().await, replica().await);
    lock(&two.failsafe).update(true, None);
    let peers = crate::peers::Peers::new(&settings(RestApi::default())).unwrap();
    let members = [
        ("n2".into(), one.url("/patroni")),
        ("n3".into(), two.url("/patroni")),
        ("n4".into(), "http://127.0.0.1:1/patroni".to_string()),
    ];
    // The sender relies on it for longer than this member's own ttl.
    let answers = peers.agree(&members, asking(&question(), 2 * TTL_MS), WAIT).await;
    assert_eq!(answers[0], Ok(Some(Lsn(67108960))));
    assert_eq!(answers[1], Err("500 Running as a leader".to_string()));
    assert!(answers[2].is_err());
    let promise = lock(&one.failsafe).promise(NOW).cloned().unwrap();
    assert_eq!(promise.until, NOW + 2 * TTL_MS);
}

#[tokio::test]
async fn s5_a_promise_is_given_for_twice_the_known_ttl_at_most() {
    let member = replica().await;
    let peers = crate::peers::Peers::new(&settings(RestApi::default())).unwrap();
    let members = [("n2".into(), member.url("/patroni"))];
    let answers = peers.agree(&members, asking(&question(), 2 * TTL_MS + 1), WAIT).await;
    let why = answers[0].clone().unwrap_err();
    assert!(why.starts_with("500 a promise for"), "{why}");
    assert!(lock(&member.failsafe).promise(NOW).is_none(), "it was promised nevertheless");
    let answers = peers.agree(&members, asking(&question(), 2 * TTL_MS), WAIT).await;
    assert_eq!(answers[0], Ok(Some(Lsn(67108960))));
    let promise = lock(&member.failsafe).promise(NOW).cloned().unwrap();
    assert_eq!(promise.until, NOW + 2 * TTL_MS);
    assert_eq!(promise.conn_url, "", "no record was seen");
}

/// The records that `allowlist_include_members` goes by end with the store.
#[tokio::test]
async fn n9_the_allowlist_does_not_keep_a_leader_from_asking() {
    for restapi in [
        RestApi { allowlist_include_members: true, ..RestApi::default() },
        RestApi { allowlist: vec!["192.0.2.1".into()], ..RestApi::default() },
    ] {
        let settings = Settings { name: "n2".into(), ..settings(restapi) };
        let mut me = published("n2");
        (me.role, me.view) = (MemberRole::Replica, None);
        let member = Member::start_with(settings, me, standby()).await;
        {
            let mut promises = lock(&member.failsafe);
            promises.is_on = true;
            promises.update(false, None);
        }
        let denied = refused(403, "Access is denied");
        assert_eq!(member.post("/restart", json!({})).await, denied);
        assert_eq!(member.post("/failsafe", question()).await, (200, "Accepted".to_string()));
    }
}
