//! A group whose every connection is TLS with client certificates: one
//! self-signed certificate is authority, server and client at once.
//!
//! The REST API, its logins and all certificates of etcd come from the
//! environment, as other tools set up such groups; PostgreSQL takes TCP only
//! from clients that show a certificate and know a password. Two members, their
//! own etcd, `matriarchctl` without a configuration file.

mod group;

use group::{Group, LOGIN};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_lives_on_certificates_alone() {
    let _turn = tests::live::turn();
    let mut group = Group::start();
    group.healthy(LONG).await;
    let leader = group.leader().await;
    only_certificates_get_in(&group, &leader).await;
    every_connection_is_encrypted(&group, &leader).await;
    another_ttl_takes_another_lease(&group, &leader).await;
    let new = a_switchover_over_https(&group, &leader).await;
    every_connection_is_encrypted(&group, &new).await;
    a_renewed_certificate_needs_no_restart(&mut group, &new).await;
    group.end();
}

async fn only_certificates_get_in(group: &Group, member: &str) {
    let stranger = group.client(false);
    let url = group.url(member, "/primary");
    assert!(stranger.get(&url).send().await.is_err(), "no certificate, and yet an answer");
    let known = group.client(true);
    assert_eq!(known.get(&url).send().await.expect("an answer").status(), 200);
    let reload = group.url(member, "/reload");
    assert_eq!(known.post(&reload).send().await.expect("an answer").status(), 401);
    let with_login = known.post(&reload).basic_auth(LOGIN.0, Some(LOGIN.1));
    assert_eq!(with_login.send().await.expect("an answer").status(), 202);
    let record = group.store_value(&format!("members/{member}")).await.expect("a record").0;
    assert!(record.contains("\"api_url\":\"https://127.0.0.1:"), "{record}");
}

/// Of PostgreSQL: the daemons', the walreceiver's, ours.
async fn every_connection_is_encrypted(group: &Group, leader: &str) {
    let client = group.sql(leader).await.expect("a session");
    let count = "SELECT count(*) FILTER (WHERE ssl AND client_dn LIKE '%all%'), count(*), \
        count(*) FILTER (WHERE backend_type = 'walsender') \
        FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_addr IS NOT NULL";
    let row = client.query_one(count, &[]).await.expect("a row");
    let (with, all, senders): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert!(with == all && senders >= 1 && all >= 3, "{with} of {all}, {senders} senders");
    assert!(group.plain_sql(leader).await.is_err(), "PostgreSQL took a connection without TLS");
}

/// The leader stays; its key hangs on another lease.
async fn another_ttl_takes_another_lease(group: &Group, leader: &str) {
    let (name, before) = group.store_value("leader").await.expect("a leader");
    assert_eq!(name, leader);
    group.patch(leader, json!({"ttl": 40})).await;
    let moved = async || {
        group.store_value("leader").await.is_some_and(|(name, lease)| {
            assert_eq!(name, leader, "another member leads");
            lease != before
        })
    };
    group.until("another lease", SHORT, moved).await;
    let own = async || {
        let leases = [group.store_value("leader").await, {
            group.store_value(&format!("members/{leader}")).await
        }];
        matches!(&leases, [Some((_, a)), Some((_, b))] if a == b && *a != before)
    };
    group.until("the member's record on the same lease", SHORT, own).await;
}

async fn a_switchover_over_https(group: &Group, leader: &str) -> String {
    let other = group.other(leader);
    let listed = group.ctl(&["list", "shop"]);
    assert!(listed.contains(&other) && listed.contains("Leader"), "{listed}");
    let answer =
        group.ctl(&["switchover", "shop", "--leader", leader, "--candidate", &other, "--force"]);
    assert!(answer.contains("Successfully switched over"), "{answer}");
    group.until("the candidate leads", SHORT, async || group.leads(&other).await).await;
    group.healthy(LONG).await;
    other
}

/// The files change; a reload is enough.
async fn a_renewed_certificate_needs_no_restart(group: &mut Group, member: &str) {
    let before = group.shown_certificate(member).await;
    group.renew_certificate();
    let reload = group.url(member, "/reload");
    let known = group.client(true);
    let asked = known.post(&reload).basic_auth(LOGIN.0, Some(LOGIN.1)).send().await;
    assert_eq!(asked.expect("an answer").status(), 202);
    let renewed = async || group.shown_certificate(member).await != before;
    group.until("the renewed certificate", SHORT, renewed).await;
    assert!(
        matches!(known.request(Method::GET, group.url(member, "/")).send().await, Ok(a)
        if a.status() == 200),
        "a client with the certificate is still let in"
    );
}
