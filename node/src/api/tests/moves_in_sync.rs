//! Moving the leader while a synchronous mode is on: who may take over, by whose
//! word.

use super::member::{Member, ok, pair, refused, said};
use super::*;
use crate::api::Command;

const ON: &str = r#"{"synchronous_mode":true}"#;
const QUORUM: &str = r#"{"synchronous_mode":"quorum"}"#;
const NOT_SYNC: &str = "candidate name does not match with sync_standby";
const NO_SYNC: &str = "switchover is not possible: can not find sync_standby";

/// n1 leads, n2 is able, n3 is the synchronous standby and silent.
async fn group(config: &str) -> (Member, Member) {
    let (leader, replica) = pair().await;
    leader.put(&leader.keys.config(), config);
    leader.put(&leader.keys.sync(), r#"{"leader":"n1","sync_standby":"n3","quorum":0}"#);
    (leader, replica)
}

/// Asks, and lets `n2` win if the request is written: what was written, and said.
async fn moved(leader: &mut Member, path: &str, body: Value) -> (Option<String>, (u16, String)) {
    let url = leader.url(path);
    let asked = tokio::spawn(leader.client.post(url).body(body.to_string()).send());
    assert!(matches!(leader.command().await, Command::Wake));
    let request = leader.stored(&leader.keys.failover());
    leader.put(&leader.keys.leader(), "n2");
    leader.put(&leader.keys.failover(), "{}");
    leader.publish_store();
    (request, said(asked.await.unwrap().unwrap()).await)
}

#[tokio::test]
async fn a_switchover_goes_to_a_synchronous_standby() {
    let (mut leader, _replica) = group(ON).await;
    for body in
        [json!({"leader": "n1", "candidate": "n2"}), json!({"leader": "n1", "member": "n2"})]
    {
        assert_eq!(leader.post("/switchover", body.clone()).await, refused(412, NOT_SYNC));
        // With a leader it is one, whatever the path says.
        assert_eq!(leader.post("/failover", body).await, refused(412, NOT_SYNC));
    }
    let silent = "switchover is not possible: no good candidates have been found";
    let answer = leader.post("/switchover", json!({"leader": "n1"})).await;
    assert_eq!(answer, refused(412, silent), "n2 is able, but is not asked");
    leader.put(&leader.keys.sync(), r#"{"leader":"n1","sync_standby":null,"quorum":0}"#);
    let answer = leader.post("/switchover", json!({"leader": "n1"})).await;
    assert_eq!(answer, refused(412, NO_SYNC));
    assert_eq!(leader.stored(&leader.keys.failover()), None);
    leader.put(&leader.keys.sync(), r#"{"leader":"n1","sync_standby":"N2","quorum":0}"#);
    let (request, answer) = moved(&mut leader, "/switchover", json!({"leader": "n1"})).await;
    assert_eq!(request.as_deref(), Some(r#"{"leader":"n1"}"#));
    assert_eq!(answer, ok(r#"Successfully switched over to "n2""#));
}

#[tokio::test]
async fn a_failover_goes_to_the_member_that_was_named() {
    let (mut leader, _replica) = group(ON).await;
    let (request, answer) = moved(&mut leader, "/failover", json!({"candidate": "n2"})).await;
    assert_eq!(request.as_deref(), Some(r#"{"member":"n2"}"#));
    assert_eq!(answer, ok(r#"Successfully failed over to "n2""#));
    let answer = leader.post("/failover", json!({"candidate": "n3"})).await;
    let silent = "failover is not possible: no good candidates have been found";
    assert_eq!(answer, refused(412, silent), "a name does not make it able");
}

/// There the leader counts itself who is able.
#[tokio::test]
async fn in_quorum_mode_and_in_a_group_that_follows_all_members_are_looked_at() {
    let body = || json!({"leader": "n1", "candidate": "n2"});
    let (mut leader, _replica) = group(QUORUM).await;
    assert_eq!(moved(&mut leader, "/switchover", body()).await.1.0, 200);
    let section = r#"{"synchronous_mode":true,"standby_cluster":{"host":"far"}}"#;
    let (mut leader, _replica) = group(section).await;
    assert_eq!(moved(&mut leader, "/switchover", body()).await.1.0, 200);
    let (mut leader, _replica) = group(ON).await;
    let me = Published { standby_group: true, ..published("n1") };
    leader.publish.send_replace(Arc::new(me));
    assert_eq!(moved(&mut leader, "/switchover", body()).await.1.0, 200);
}

#[tokio::test]
async fn a_scheduled_move_is_judged_when_it_is_due() {
    let (leader, _replica) = group(ON).await;
    let body = json!({"leader": "n1", "candidate": "n2", "scheduled_at": "2099-06-01T12:30Z"});
    assert_eq!(leader.post("/switchover", body).await, refused(202, "Switchover scheduled"));
}
