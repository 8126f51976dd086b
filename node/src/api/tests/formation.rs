//! `GET /topology` and `GET /region`.

use super::member::{Member, WAIT_MAX, context};
use super::store_copy::Counted;
use super::*;
use crate::api::serve;
use crate::config::{Citus, TopologySettings};
use crate::dcs::mirror::Mirror;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use topology::region::{PeerGroup, PeerMember, PeerRegion};
use topology::{Group, MemberRecord};

const POLICY: &str = r#"{"formation":"shop","regions":[
    {"name":"a","priority":2,"endpoints":["a:2379"]},{"name":"b","endpoints":["b:2379"]}]}"#;

fn certificate() -> String {
    let accepted = json!({"epoch": 3, "ballot": 7, "owner": "a", "kind": "planned",
        "previous_hash": "", "groups": {}, "proof": "", "policy_hash": "", "at": ""});
    json!({"promised": 7, "accepted": accepted}).to_string()
}

/// What region a's agent has noted of region b.
fn peer() -> String {
    let leader = PeerMember {
        name: "b1".into(),
        role: "standby_leader".into(),
        state: "running".into(),
        host: "b1".into(),
        port: 5432,
        api_url: None,
        timeline: Some(Timeline(1)),
        lsn: Some(Lsn(67108960)),
    };
    let group = PeerGroup { leader: Some("b1".into()), system_id: None, members: vec![leader] };
    let groups = BTreeMap::from([(Group::PLAIN, group)]);
    let peer = PeerRegion { region: "b".into(), epoch: Some(3), groups };
    serde_json::to_string(&peer).unwrap()
}

fn of_region(name: &str) -> Settings {
    let policy = serde_json::from_str(POLICY).unwrap();
    let section = TopologySettings { region: name.into(), policy, stores: BTreeMap::new() };
    Settings { topology: Some(section), ..settings(RestApi::default()) }
}

async fn member_of(region: &str) -> Member {
    let member = Member::start_with(of_region(region), published("n1"), primary()).await;
    member.settle(&[("n1", "http://127.0.0.1:1/patroni".to_string())]);
    member
}

async fn document(member: &Member, path: &str) -> Value {
    let (code, text) = member.get(path).await;
    assert_eq!(code, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_scope_without_regions_is_one_region_and_has_no_document_of_it() {
    let member = Member::leader().await;
    member.settle(&[("n1", member.url("/patroni")), ("n2", member.url("/patroni"))]);
    let member_2 = json!({"conn_url": "postgres://h2:5432/postgres", "state": "running",
        "role": "replica", "replication_state": "streaming", "receive_lsn": 67108950,
        "timeline": 1});
    member.put(&member.keys.member(&"n2".into()), &member_2.to_string());
    let seen = document(&member, "/topology").await;
    assert_eq!((&seen["formation"], &seen["owner"]), (&json!("golden"), &json!("local")));
    let group = &seen["regions"][0]["groups"][0];
    assert_eq!((&group["leader"], &group["optime"]), (&json!("n1"), &json!(67108960)));
    let n2 = json!({"name": "n2", "role": "replica", "state": "streaming", "host": "h2",
        "port": 5432, "timeline": 1, "lsn": 67108950, "lag_bytes": 10,
        "streams_from": "local/n1"});
    assert_eq!(group["members"][1], n2);
    assert_eq!((&seen["routes"], &seen["findings"]), (&json!([]), &json!([])));

    let (code, text) = member.get("/region").await;
    let why: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 404);
    assert!(why["error"].as_str().unwrap().starts_with("scope golden has no regions"), "{why}");
}

#[tokio::test]
async fn the_formation_has_the_own_region_and_what_the_agent_noted_of_the_other() {
    let member = member_of("a").await;
    member.put(&member.keys.topology("policy"), POLICY);
    member.put(&member.keys.topology("register"), &certificate());
    member.put(&member.keys.topology("peers/b"), &peer());
    let seen = document(&member, "/topology").await;
    assert_eq!((&seen["formation"], &seen["owner"]), (&json!("shop"), &json!("a")));
    let [a, b] = [&seen["regions"][0], &seen["regions"][1]];
    assert_eq!((&a["role"], &a["is_stale"]), (&json!("primary"), &json!(false)));
    assert_eq!((&b["role"], &b["is_stale"]), (&json!("standby"), &json!(true)));
    let standby = &b["groups"][0]["members"][0];
    assert_eq!(standby["streams_from"], "a/n1");
    assert_eq!(standby["lag_bytes"], Value::Null, "positions of two moments are not compared");
    let votes = json!([{"site": "a", "is_witness": false, "is_seen": true, "vote": "a"},
        {"site": "b", "is_witness": false, "is_seen": false, "vote": null}]);
    assert_eq!(seen["votes"], votes);
}

#[tokio::test]
async fn a_region_tells_its_owner_policy_and_running_move() {
    let member = member_of("b").await;
    let young = document(&member, "/region").await;
    assert_eq!((&young["region"], &young["owner"]), (&json!("b"), &Value::Null));
    member.put(&member.keys.topology("policy"), POLICY);
    member.put(&member.keys.topology("register"), &certificate());
    member.put(&member.keys.topology("agent"), "b/n1");
    let journal = json!({"id": "m", "from": "a", "to": "b", "epoch": 3, "phase": "hold",
        "groups": [Group::PLAIN], "driver": "a/n1", "steps": [{"phase": "requested", "at_ms": 5}]});
    member.put(&member.keys.topology("switch"), &journal.to_string());
    member.put(&member.keys.topology("verified"), "{");
    let seen = document(&member, "/region").await;
    assert_eq!((&seen["owner"], &seen["epoch"]), (&json!("a"), &json!(3)));
    assert_eq!((&seen["role"], &seen["agent"]), (&json!("standby"), &json!("b/n1")));
    assert_eq!(seen["policy"]["regions"][0]["priority"], 2);
    assert_eq!(
        (&seen["operation"]["phase"], &seen["operation"]["to"]),
        (&json!("hold"), &json!("b"))
    );
    assert_eq!(seen["verified_epoch"], Value::Null);
    assert!(seen["unreadable"]["verified"].is_string(), "{seen}");
}

#[tokio::test]
async fn without_the_store_neither_is_answered() {
    let mut me = published("n1");
    me.ttl_ms = 1;
    let member = Member::start_with(of_region("a"), me, primary()).await;
    member.settle(&[("n1", "http://127.0.0.1:1/patroni".to_string())]);
    document(&member, "/topology").await;
    member.store.set_unreachable(true);
    member.store.break_watches();
    let end = std::time::Instant::now() + WAIT_MAX;
    for path in ["/topology", "/region"] {
        while member.get(path).await.0 != 503 {
            assert!(std::time::Instant::now() < end, "{path}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// The copy of a worker has its own group alone.
#[tokio::test]
async fn a_worker_reads_the_other_groups_once_for_all_callers() {
    let citus = Some(Citus { group: 1, ..Citus::default() });
    let worker = Settings { citus, ..settings(RestApi::default()) };
    let member = Member::start_with(worker.clone(), published("n1"), primary()).await;
    for number in [0, 1] {
        let keys = member.keys.for_group(Group(Some(number)));
        let record = MemberRecord { state: "running".into(), ..MemberRecord::default() };
        member.put(&keys.leader(), "n1");
        member.put(&keys.member(&"n1".into()), &record.write());
    }
    let keys = worker.keys();
    let (mut context, _publish, _commands) =
        context(worker, published("n1"), &member.store, &member.server);
    let counted = Arc::new(Counted { store: member.store.client(), reads: AtomicUsize::new(0) });
    context.store = counted.clone();
    let own = vec![keys.group_prefix(), keys.topology_prefix()];
    context.mirror = Arc::new(Mirror::spawn(Arc::new(member.store.client()), own));
    let handle = serve(context).await.unwrap();
    let url = format!("http://{}/topology", handle.addresses[0]);
    let ask = async || member.client.get(&url).send().await.unwrap();
    for _ in 0..10 {
        let answer = ask().await;
        assert!(answer.headers().contains_key("age"));
        let seen: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let groups = seen["regions"][0]["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(seen["routes"], Value::Null, "no server was asked");
    }
    let reads = counted.reads.load(Ordering::SeqCst);
    assert!((1..=3).contains(&reads), "{reads} reads");

    counted.store.set_unreachable(true);
    let end = std::time::Instant::now() + WAIT_MAX;
    let refused = loop {
        match ask().await {
            answer if answer.status() == 503 => break answer.text().await.unwrap(),
            _ if std::time::Instant::now() < end => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            _ => panic!("what was read is shown for ever"),
        }
    };
    assert!(refused.starts_with("the configuration store cannot be used: "), "{refused}");
}
