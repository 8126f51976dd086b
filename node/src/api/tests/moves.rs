//! Moving the leader, restarting, rebuilding: what is refused, what is written
//! and when the answer comes.

use super::member::{Member, ok, pair, refused, said};
use super::*;
use crate::api::Command;
use citus::registrar::event::EventKind;
use reqwest::Method;
use std::time::Duration;

#[tokio::test]
async fn impossible_moves_are_refused_with_the_texts_that_tools_print() {
    let (leader, _replica) = pair().await;
    for (path, body, code, text) in [
        ("switchover", json!({"leader": "n2"}), 412, "leader name does not match"),
        (
            "switchover",
            json!({"leader": "n1", "candidate": "n1"}),
            400,
            "Switchover target and source are the same",
        ),
        (
            "switchover",
            json!({"leader": "n1", "candidate": "nosuch"}),
            412,
            "candidate does not exists",
        ),
        (
            "switchover",
            json!({"leader": "n1", "member": "n3"}),
            412,
            "switchover is not possible: no good candidates have been found",
        ),
        (
            "switchover",
            json!({"leader": "n1", "scheduled_at": "2020-01-01T10:00:00"}),
            400,
            "Timezone information is mandatory for the scheduled switchover",
        ),
        (
            "switchover",
            json!({"leader": "n1", "scheduled_at": "2020-01-01T10:00:00+00:00"}),
            422,
            "Cannot schedule switchover in the past",
        ),
        (
            "failover",
            json!({"leader": "n1"}),
            400,
            "Failover could be performed only to a specific candidate",
        ),
        ("failover", json!({"candidate": "nosuch"}), 412, "candidate does not exists"),
        ("failover", json!({"candidate": "n1"}), 503, "Failover failed"),
        (
            "failover",
            json!({"candidate": "n2", "scheduled_at": "2030-01-01T00:00:00+00:00"}),
            400,
            "Failover can't be scheduled",
        ),
    ] {
        let answer = leader.post(&format!("/{path}"), body.clone()).await;
        assert_eq!(answer, refused(code, text), "{path} {body}");
    }
    assert_eq!(leader.stored(&leader.keys.failover()), None);
}

#[tokio::test]
async fn sync_standbys_go_first_and_pause_needs_a_name() {
    let (leader, _replica) = pair().await;
    leader.put(&leader.keys.config(), r#"{"synchronous_mode":true}"#);
    leader.put(&leader.keys.sync(), r#"{"leader":"n1","sync_standby":"n3"}"#);
    let answer = leader.post("/switchover", json!({"leader": "n1", "candidate": "n2"})).await;
    assert_eq!(answer, refused(412, "candidate name does not match with sync_standby"));
    leader.put(&leader.keys.sync(), r#"{"leader":"n1","sync_standby":""}"#);
    let answer = leader.post("/switchover", json!({"leader": "n1"})).await;
    let text = "switchover is not possible: can not find sync_standby";
    assert_eq!(answer, refused(412, text));
    leader.put(&leader.keys.config(), r#"{"pause":true}"#);
    let answer = leader.post("/switchover", json!({"leader": "n1"})).await;
    let text = "Switchover is possible only to a specific candidate in a paused state";
    assert_eq!(answer, refused(400, text));
    let at = json!({"leader": "n1", "candidate": "n2", "scheduled_at": "2099-01-01T00:00Z"});
    let answer = leader.post("/switchover", at).await;
    assert_eq!(answer, refused(400, "Can't schedule switchover in the paused state"));
}

#[tokio::test]
async fn a_leader_alone_cannot_switch() {
    let leader = Member::leader().await;
    leader.settle(&[("n1", leader.url("/patroni"))]);
    let answer = leader.post("/switchover", json!({"leader": "n1"})).await;
    let text = "switchover is not possible: cluster does not have members except leader";
    assert_eq!(answer, refused(412, text));
}

#[tokio::test]
async fn a_switchover_is_answered_when_the_new_leader_holds_the_key() {
    let (mut leader, _replica) = pair().await;
    leader.publish_store();
    let url = leader.url("/switchover");
    let body = json!({"leader": "n1", "candidate": "n2"}).to_string();
    let asked = tokio::spawn(leader.client.post(url).body(body).send());
    assert!(matches!(leader.command().await, Command::Wake));
    let request = leader.stored(&leader.keys.failover());
    assert_eq!(request.as_deref(), Some(r#"{"leader":"n1","member":"n2"}"#));
    leader.publish_store();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!asked.is_finished());
    leader.put(&leader.keys.leader(), "n2");
    leader.put(&leader.keys.failover(), "{}");
    leader.publish_store();
    let answer = said(asked.await.unwrap().unwrap()).await;
    assert_eq!(answer, ok(r#"Successfully switched over to "n2""#));
}

#[tokio::test]
async fn a_move_that_was_taken_back_failed_and_another_winner_is_named() {
    let (mut leader, _replica) = pair().await;
    // An old, empty request must not look like an answer to the new one.
    leader.put(&leader.keys.failover(), "{}");
    leader.publish_store();
    let url = leader.url("/failover");
    let body = json!({"candidate": "n2"}).to_string();
    let ask = || tokio::spawn(leader.client.post(&url).body(body.clone()).send());
    let asked = ask();
    assert!(matches!(leader.commands.recv().await, Some(Command::Wake)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!asked.is_finished());
    leader.put(&leader.keys.failover(), "{}");
    leader.publish_store();
    assert_eq!(said(asked.await.unwrap().unwrap()).await, refused(503, "Failover failed"));

    let asked = tokio::spawn(leader.client.post(&url).body(body.clone()).send());
    assert!(matches!(leader.commands.recv().await, Some(Command::Wake)));
    leader.put(&leader.keys.leader(), "n3");
    leader.publish_store();
    let text = r#"Successfully failed over to "n3" instead of "n2""#;
    assert_eq!(said(asked.await.unwrap().unwrap()).await, ok(text));
}

#[tokio::test]
async fn a_switchover_can_be_scheduled_and_taken_back() {
    let (leader, _replica) = pair().await;
    let delete = || leader.ask(Method::DELETE, "/switchover", None);
    let none = refused(404, "no switchover is scheduled");
    assert_eq!(said(delete().await).await, none);
    let body = json!({"leader": "n1", "scheduled_at": "2099-06-01T12:30Z"});
    assert_eq!(leader.post("/switchover", body).await, refused(202, "Switchover scheduled"));
    let request = r#"{"leader":"n1","scheduled_at":"2099-06-01T12:30:00+00:00"}"#;
    assert_eq!(leader.stored(&leader.keys.failover()).as_deref(), Some(request));
    assert_eq!(said(delete().await).await.0, 200);
    assert_eq!(leader.stored(&leader.keys.failover()).as_deref(), Some("{}"));
    assert_eq!(said(delete().await).await, none);
}

#[tokio::test]
async fn restarts_are_the_daemons_work() {
    let mut member = Member::leader().await;
    let answer = member.post("/restart", json!({"role": "replica"})).await;
    assert_eq!(answer, refused(503, "restart conditions are not satisfied"));
    let answer = member.post("/restart", json!({"restart_pending": true})).await;
    assert_eq!(answer, refused(503, "restart conditions are not satisfied"));
    let answer = member.post("/restart", json!({"postgres_version": "15.0"})).await;
    assert_eq!(answer, refused(503, "restart conditions are not satisfied"));
    let asked = tokio::spawn(member.client.post(member.url("/restart")).send());
    let Command::Restart { limit: None, reply } = member.command().await else {
        panic!("a restart")
    };
    reply.send(Ok("restarted successfully".to_string())).unwrap();
    assert_eq!(said(asked.await.unwrap().unwrap()).await, ok("restarted successfully"));
}

#[tokio::test]
async fn a_restart_can_be_scheduled_once_and_taken_back() {
    let mut member = Member::leader().await;
    let text = r#"{"schedule":"2099-01-01T00:00Z","timeout":30}"#;
    for (said_by_daemon, status) in [(Ok("Restart scheduled"), 202), (Err("there is one"), 409)] {
        let asked =
            tokio::spawn(member.client.post(member.url("/restart")).body(text.to_string()).send());
        let Command::ScheduleRestart { request, reply } = member.command().await else {
            panic!("a scheduled restart")
        };
        assert_eq!(request.schedule.as_deref(), Some("2099-01-01T00:00:00+00:00"));
        assert_eq!(request.limit, Some(Duration::from_secs(30)));
        let words = said_by_daemon.map(str::to_string).map_err(str::to_string);
        reply.send(words).unwrap();
        assert_eq!(said(asked.await.unwrap().unwrap()).await.0, status);
    }
    for (said_by_daemon, status) in [(Ok("deleted"), 200), (Err("none"), 404)] {
        let asked = tokio::spawn(member.client.delete(member.url("/restart")).send());
        let Command::ForgetRestart { reply } = member.command().await else { panic!("no plan") };
        reply.send(said_by_daemon.map(str::to_string).map_err(str::to_string)).unwrap();
        assert_eq!(said(asked.await.unwrap().unwrap()).await.0, status);
    }
    let end = member.post("/sigterm", json!({})).await;
    assert_eq!(end, refused(202, "shutdown scheduled"));
}

#[tokio::test]
async fn only_a_replica_of_a_led_group_is_rebuilt() {
    let leader = Member::leader().await;
    let answer = leader.post("/reinitialize", json!({"force": true})).await;
    assert_eq!(answer, refused(503, "I am the leader, can not reinitialize"));
    let mut replica = Member::start(published("n2"), standby(), RestApi::default()).await;
    let body = json!({"force": true, "bogus": 1}).to_string();
    let asked = tokio::spawn(replica.client.post(replica.url("/reinitialize")).body(body).send());
    let Command::Reinitialize { from_leader: false, force: true, reply } = replica.command().await
    else {
        panic!("a reinitialization")
    };
    reply.send(Ok("reinitialize started".to_string())).unwrap();
    assert_eq!(said(asked.await.unwrap().unwrap()).await, ok("reinitialize started"));
}

#[tokio::test]
async fn only_the_coordinators_leader_hears_of_workers() {
    let event = json!({"type": "before_demote", "group": 1, "leader": "w1", "timeout": 0.05,
        "cooldown": 10});
    let citus = |group| crate::config::Citus { group, ..crate::config::Citus::default() };
    for (name, group, heard) in [("n1", 0, true), ("n2", 0, false), ("n1", 1, false)] {
        let mut settings = settings(RestApi::default());
        settings.citus = Some(citus(group));
        let mut member = Member::start_with(settings, published(name), primary()).await;
        assert_eq!(member.post("/mpp", event.clone()).await, ok("OK"));
        match member.commands.try_recv() {
            Ok(Command::CitusEvent { event, .. }) => {
                assert!(heard);
                assert_eq!((event.kind, event.group), (EventKind::BeforeDemote, 1));
                assert_eq!((event.timeout_ms, event.cooldown_ms), (50, Some(10_000)));
            }
            other => assert!(!heard && other.is_err(), "{name} {group}"),
        }
    }
}
