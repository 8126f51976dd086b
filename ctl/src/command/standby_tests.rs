//! Conversations about a cluster that changes its place; the members are played by the test.

use super::*;
use crate::fixture::{move_apis, put, world};
use crate::made_up::TakeSample;
use crate::rest::answering::{Asked, serve};
use node::dcs::by_hand::Edit;

/// A primary with two replicas.
const PRIMARY: &str = "02-three-nodes-default";
/// Clusters of the scope `golden-dr`, with the leaders n4 and n5.
const STANDBY: &str = "18-standby-cluster";
const PROMOTED: &str = "19-standby-cluster-promoted";

fn demotion(host: &str) -> DemoteCluster {
    let host = Some(host.to_string()).filter(|host| !host.is_empty());
    DemoteCluster { host, force: true, ..DemoteCluster::default() }
}

fn promotion() -> PromoteCluster {
    let of = OneCluster { cluster: Some("golden-dr".into()), group: None };
    PromoteCluster { of, force: true }
}

/// The members do as they are told: their records change once the request has come.
fn obey(world: &World, asked: &Asked, keys: Vec<(String, String)>) {
    let (store, asked) = (world.memory.clone(), asked.clone());
    tokio::spawn(async move {
        while asked.all().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        for (key, value) in keys {
            store.edit_now([Edit::put(key, value)]).expect("a store in memory");
        }
    });
}

fn record(role: &str, state: &str) -> String {
    json!({ "role": role, "state": state }).to_string()
}

#[tokio::test]
async fn a_primary_is_demoted_and_the_command_waits_for_its_new_role() {
    let (url, asked) = serve(vec![("PATCH /config", 200, "{}".into())]).await;
    let (mut world, screen) = world(PRIMARY, "y\n");
    move_apis(&world, &url).await;
    let leader = "/service/golden/members/n1".to_string();
    obey(&world, &asked, vec![(leader, record("standby_leader", "running"))]);
    let args = DemoteCluster {
        port: Some("5433".into()),
        primary_slot_name: Some("dr".into()),
        force: false,
        ..demotion("far")
    };
    demote(&mut world, &args).await.unwrap();
    let section = r#"{"host":"far","port":5433,"primary_slot_name":"dr"}"#;
    assert_eq!(asked.all(), [format!(r#"PATCH /config {{"standby_cluster":{section}}}"#)]);
    let text = screen.text();
    assert!(text.starts_with("Current cluster topology\n+ Cluster: golden "), "{text}");
    assert!(text.contains("Are you sure you want to demote cluster golden? [y/N]: "), "{text}");
    let waiting = " waiting: the leader n1 is primary, running\n";
    assert_eq!(text.matches(waiting).count(), 1, "a line a second: {text}");
    let (_, after) = text.split_once("Success: cluster golden is demoted\n").expect("an end");
    assert!(after.contains("| Standby Leader | running "), "{text}");
}

#[tokio::test]
async fn a_standby_cluster_is_promoted_and_the_command_waits_for_a_primary() {
    let (url, asked) = serve(vec![("PATCH /config", 200, "{}".into())]).await;
    let (mut world, screen) = world(STANDBY, "");
    move_apis(&world, &url).await;
    let keys = [("config", "{}".to_string()), ("members/n4", record("primary", "running"))];
    let keys = keys.map(|(key, value)| (format!("/service/golden-dr/{key}"), value));
    obey(&world, &asked, keys.to_vec());
    promote(&mut world, &promotion()).await.unwrap();
    assert_eq!(asked.all(), [r#"PATCH /config {"standby_cluster":null}"#]);
    let text = screen.text();
    assert!(!text.contains("Are you sure"), "{text}");
    assert!(text.contains(" waiting: the leader n4 is standby_leader, "), "{text}");
    let (_, after) = text.split_once("Success: cluster golden-dr is promoted\n").expect("an end");
    assert!(after.contains("| Leader  | running "), "{text}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_any_change() {
    async fn refused(moment: &str, change: impl AsyncFn(&mut World) -> Result<()>) -> String {
        let (url, asked) = serve(vec![("PATCH /config", 200, "{}".into())]).await;
        let (mut world, _) = world(moment, "n\n");
        move_apis(&world, &url).await;
        let error = change(&mut world).await.expect_err("a refusal");
        assert!(asked.all().is_empty(), "{:?}", asked.all());
        error.to_string()
    }
    let to = |host: &'static str, scope: &'static str, force: bool| {
        let of = OneCluster { cluster: Some(scope.into()), group: None };
        DemoteCluster { of, force, primary_slot_name: Some("s".into()), ..demotion(host) }
    };
    let told = refused(PRIMARY, async |w| demote(w, &to("", "golden", true)).await).await;
    assert_eq!(told, "at least one of --host, --port and --restore-command is needed");
    let told = refused(PRIMARY, async |w| demote(w, &to("far", "golden", false)).await).await;
    assert_eq!(told, "Aborted!");
    let told = refused(PRIMARY, async |w| demote(w, &to("far", "nosuch", true)).await).await;
    assert_eq!(told, "cluster nosuch has no leader: it cannot be demoted");
    let told = refused(STANDBY, async |w| demote(w, &to("far", "golden-dr", true)).await).await;
    let text = "cluster golden-dr follows another one already: its leader n4 is standby_leader";
    assert_eq!(told, text);
    let told = refused(PROMOTED, async |w| promote(w, &promotion()).await).await;
    assert_eq!(told, "cluster golden-dr is no standby cluster: its leader n5 is primary");
    let told = refused("11-paused", async |w| demote(w, &to("far", "golden", true)).await).await;
    assert_eq!(told, "cluster golden is paused, and nothing would happen: resume it first");
    let told = refused(STANDBY, async |w| {
        put(w, "/service/golden-dr/config".into(), "{}");
        promote(w, &promotion()).await
    });
    assert!(told.await.contains("`matriarchctl region switch`"));
}

#[tokio::test]
async fn a_leader_that_refuses_or_is_silent_is_an_error() {
    let (url, _) =
        serve(vec![("PATCH /config", 400, "`standby_cluster.port` is wrong".into())]).await;
    let (mut world, _) = world(PRIMARY, "");
    move_apis(&world, &url).await;
    let args = DemoteCluster { port: Some("x".into()), ..demotion("far") };
    let error = demote(&mut world, &args).await.unwrap_err().to_string();
    assert_eq!(error, "the leader n1 refused it: 400, `standby_cluster.port` is wrong");
    move_apis(&world, "http://127.0.0.1:1/patroni").await;
    let error = demote(&mut world, &demotion("far")).await.unwrap_err().to_string();
    assert!(error.starts_with("http://127.0.0.1:1/config gave no answer"), "{error}");
}

#[test]
fn a_demotion_is_done_once_the_former_leader_runs_again() {
    let mut view = GroupView::default();
    let mut shown = |key: &str, text: &str| {
        view.take_sample(key, text, 1, 1);
        missing(Action::Demote, &view, &MemberName::new("a"))
    };
    assert_eq!(shown("members/a", &record("demoted", "stopped")).unwrap(), "there is no leader");
    assert_eq!(shown("leader", "b").unwrap(), "the leader b has no record");
    let told = shown("members/b", &record("standby_leader", "starting")).unwrap();
    assert_eq!(told, "the leader b is standby_leader, starting");
    let told = shown("members/b", &record("standby_leader", "running")).unwrap();
    assert_eq!(told, "a is demoted, stopped");
    assert_eq!(shown("members/a", &record("replica", "running")), None);
}

#[tokio::test]
async fn the_owner_of_regions_is_not_demoted_by_its_configuration() {
    let (mut world, _) = world(PRIMARY, "");
    put(&world, "/service/golden/topology/register".to_string(), "{}");
    let error = demote(&mut world, &demotion("far")).await.unwrap_err().to_string();
    assert!(error.contains("`matriarchctl region switch`"), "{error}");
}

#[test]
fn a_section_that_no_server_goes_by_is_taken_out_by_a_promotion() {
    let mut view = GroupView::default();
    view.take_sample("leader", "a", 1, 1);
    view.take_sample("members/a", &record("primary", "running"), 1, 1);
    assert!(leader_to_change(Action::Promote, "c", &view).is_err(), "there is none");
    view.take_sample("config", r#"{"standby_cluster":{"host":"far"}}"#, 1, 1);
    assert!(leader_to_change(Action::Promote, "c", &view).is_ok());
}
