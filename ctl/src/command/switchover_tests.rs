//! Conversations with an operator, from the first table to the answer.

use super::*;
use crate::fixture::{move_apis, transcript, world};
use crate::prompt::Aborted;
use crate::rest::answering::serve;
use node::dcs::by_hand::Edit;

const MOMENT: &str = "02-three-nodes-default";

fn switchover() -> args::Switchover {
    args::Switchover {
        of: args::OneCluster { cluster: Some("golden".into()), group: None },
        leader: None,
        candidate: None,
        scheduled: None,
        force: false,
    }
}

fn failover(candidate: &str, force: bool) -> args::Failover {
    let candidate = Some(candidate.to_string()).filter(|c| !c.is_empty());
    args::Failover { of: args::OneCluster::default(), candidate, force }
}

#[tokio::test]
async fn a_conversation_ends_in_a_request_to_the_leader() {
    let answer = "Successfully switched over to \"n2\"".to_string();
    let (url, asked) = serve(vec![("POST /switchover", 200, answer)]).await;
    let (mut world, screen) = world(MOMENT, "\nn2\n\ny\n");
    move_apis(&world, &url).await;
    run(&mut world, switchover().into()).await.unwrap();
    assert_eq!(asked.all(), [r#"POST /switchover {"candidate":"n2","leader":"n1"}"#]);
    let text = screen.text();
    let table = &transcript(MOMENT)[0].1;
    assert!(
        text.starts_with(&format!("Current cluster topology\n{table}Primary [n1]: ")),
        "{text}"
    );
    assert!(
        text.contains("Candidate ['n2', 'n3'] []: When should the switchover take place (e.g. ")
    );
    let question = " )  [now]: Are you sure you want to switchover cluster golden, demoting \
        current leader n1? [y/N]: 20";
    assert!(text.contains(question), "{text}");
    assert!(text.ends_with(&format!(" Successfully switched over to \"n2\"\n{table}")));
}

#[tokio::test]
async fn force_asks_nothing_and_a_refusal_is_printed() {
    let refusal = "Switchover is possible only to a specific candidate in a paused state";
    let (url, asked) = serve(vec![("POST /switchover", 400, refusal.into())]).await;
    let (mut world, screen) = world("12-paused-one-replica-stopped", "");
    move_apis(&world, &url).await;
    let forced = args::Switchover { leader: Some("n1".into()), force: true, ..switchover() };
    let error = run(&mut world, forced.into()).await.unwrap_err();
    assert_eq!(error.to_string(), "the switchover did not take place");
    assert_eq!(asked.all(), [r#"POST /switchover {"leader":"n1"}"#]);
    let line = format!("Switchover failed, details: 400, {refusal}\n");
    assert!(screen.text().ends_with(&format!(" Maintenance mode: on\n{line}")));
}

#[tokio::test]
async fn an_unknown_result_is_not_called_a_failure() {
    let (url, _) = serve(vec![("POST /failover", 503, "Failover status unknown".into())]).await;
    let (mut world, screen) = world(MOMENT, "");
    move_apis(&world, &url).await;
    let error = run(&mut world, failover("n3", true).into()).await.unwrap_err();
    assert_eq!(error.to_string(), "it may still take place: see `list`");
    assert!(
        screen.text().ends_with("Failover result unknown, details: 503, Failover status unknown\n")
    );
}

#[tokio::test]
async fn old_servers_are_asked_for_a_failover() {
    let answers =
        vec![("POST /switchover", 501, String::new()), ("POST /failover", 200, "ok".into())];
    let (url, asked) = serve(answers).await;
    let (mut world, _) = world(MOMENT, "");
    move_apis(&world, &url).await;
    let forced = args::Switchover { candidate: Some("n2".into()), force: true, ..switchover() };
    run(&mut world, forced.into()).await.unwrap();
    assert_eq!(asked.all().len(), 2);
}

#[tokio::test]
async fn a_schedule_keeps_its_zone_and_is_refused_in_pause() {
    let (url, asked) = serve(vec![("POST /switchover", 202, "Switchover scheduled".into())]).await;
    let (mut first, screen) = world(MOMENT, "");
    move_apis(&first, &url).await;
    let at = Some("2035-06-01T12:30:00+00:00".to_string());
    let forced = args::Switchover { scheduled: at, force: true, ..switchover() };
    let again = args::Switchover {
        of: forced.of.clone(),
        scheduled: forced.scheduled.clone(),
        ..switchover()
    };
    run(&mut first, forced.into()).await.unwrap();
    assert_eq!(
        asked.all(),
        [r#"POST /switchover {"leader":"n1","scheduled_at":"2035-06-01T12:30:00+00:00"}"#]
    );
    assert!(screen.text().contains(" Switchover scheduled\n+ Cluster"));
    let (mut paused, _) = world("11-paused", "");
    let error =
        run(&mut paused, args::Switchover { force: true, ..again }.into()).await.unwrap_err();
    assert_eq!(error.to_string(), "Can't schedule switchover in the paused state");
}

#[tokio::test]
async fn without_an_answer_the_request_goes_into_the_store() {
    let (mut world, screen) = world(MOMENT, "");
    move_apis(&world, "http://127.0.0.1:1/patroni").await;
    run(&mut world, failover("n2", true).into()).await.unwrap();
    assert!(screen.text().contains("gave no answer"));
    let cluster = world.read("golden", None).await.unwrap();
    let request = cluster.one().unwrap().view.failover.clone().unwrap().value;
    assert_eq!(request.write(), r#"{"member":"n2"}"#);
}

#[tokio::test]
async fn impossible_wishes_are_named() {
    let cases: [(Request, &str); 5] = [
        (
            args::Switchover { leader: Some("n2".into()), force: true, ..switchover() }.into(),
            "Member n2 is not the leader of cluster golden",
        ),
        (
            args::Switchover { candidate: Some("x".into()), force: true, ..switchover() }.into(),
            "Member x does not exist in cluster golden or is tagged as nofailover",
        ),
        (failover("n1", true).into(), "Member n1 is already the leader of cluster golden"),
        (failover("", true).into(), "Failover could be performed only to a specific candidate"),
        (
            args::Switchover { scheduled: Some("soon".into()), force: true, ..switchover() }.into(),
            "Unable to parse scheduled timestamp (soon). It should be in an unambiguous \
             format (e.g. ISO 8601)",
        ),
    ];
    for (request, expected) in cases {
        let (mut world, _) = world(MOMENT, "");
        assert_eq!(run(&mut world, request).await.unwrap_err().to_string(), expected);
    }
    let (mut stopped, _) = world("21-standby-cluster-all-stopped", "");
    let of = args::OneCluster { cluster: Some("golden-dr".into()), group: None };
    let request = args::Switchover { of, force: true, ..switchover() };
    let error = run(&mut stopped, request.into()).await.unwrap_err();
    assert_eq!(error.to_string(), "This cluster has no leader");
}

#[tokio::test]
async fn a_failover_to_an_asynchronous_member_needs_a_second_yes() {
    let (mut world, screen) = world("06-synchronous-mode", "n\n");
    let error = run(&mut world, failover("n2", false).into()).await.unwrap_err();
    assert!(error.is::<Aborted>());
    assert!(screen.text().contains("failover to the asynchronous node n2?"));
}

const SURE: &str = "Are you sure you want to failover to the asynchronous node";

/// Asks for a failover in a recorded moment: what was sent, and what was shown.
async fn fails_over(moment: &str, to: &str, force: bool, answers: &str) -> (Vec<String>, String) {
    let answer = format!("Successfully failed over to \"{to}\"");
    let (url, asked) = serve(vec![("POST /failover", 200, answer)]).await;
    let (mut world, screen) = world(moment, answers);
    move_apis(&world, &url).await;
    run(&mut world, failover(to, force).into()).await.unwrap();
    (asked.all(), screen.text())
}

#[tokio::test]
async fn only_a_failover_to_a_member_outside_of_sync_asks_twice() {
    let sent = |to: &str| [format!(r#"POST /failover {{"candidate":"{to}"}}"#)];
    for (moment, to, force, answers, twice) in [
        ("06-synchronous-mode", "n2", false, "y\ny\n", true),
        ("06-synchronous-mode", "n2", true, "", false),
        ("06-synchronous-mode", "n3", false, "y\n", false),
        ("07-quorum", "n2", false, "y\n", false),
        ("02-three-nodes-default", "n2", false, "y\n", false),
    ] {
        let (asked, text) = fails_over(moment, to, force, answers).await;
        assert_eq!(asked, sent(to), "{moment} {to}");
        assert_eq!(text.contains(SURE), twice, "{text}");
        let last = "Are you sure you want to failover cluster golden, demoting current leader n1?";
        assert_eq!(text.contains(last), !force, "{text}");
        assert!(text.contains(&format!(" Successfully failed over to \"{to}\"\n")), "{text}");
    }
}

/// The leader of `/sync` is no longer the leader; it has everything.
#[tokio::test]
async fn without_a_leader_the_candidate_is_asked_and_the_last_leader_is_no_risk() {
    let (url, asked) = serve(vec![("POST /failover", 200, "ok".into())]).await;
    let (mut world, screen) = world("06-synchronous-mode", "n1\ny\n");
    move_apis(&world, &url).await;
    let cluster = world.read("golden", None).await.unwrap();
    let key = cluster.one().unwrap().keys.leader();
    world.memory.edit_now([Edit::delete(key)]).unwrap();
    run(&mut world, failover("", false).into()).await.unwrap();
    assert_eq!(asked.all(), [r#"POST /failover {"candidate":"n1"}"#]);
    let text = screen.text();
    assert!(text.contains("Candidate ['n1', 'n2', 'n3'] []: "), "{text}");
    assert!(text.contains("Are you sure you want to failover cluster golden? [y/N]: "), "{text}");
    assert!(!text.contains(SURE), "{text}");
}

#[tokio::test]
async fn a_standby_leader_is_called_so() {
    let (mut world, screen) = world("18-standby-cluster", "");
    let of = args::OneCluster { cluster: Some("golden-dr".into()), group: None };
    let error = run(&mut world, args::Switchover { of, ..switchover() }.into()).await.unwrap_err();
    assert!(error.is::<Aborted>());
    assert!(screen.text().ends_with("Standby Leader [n4]: "));
}
