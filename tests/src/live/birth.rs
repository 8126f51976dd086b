//! A new group: one member wins, the others copy it, and all members report it.

use super::stage::{SHORT, Stage, ask_sql};
use ctl::field::MemberPlan;
use node::dcs::by_hand::{ByHand, Edit};
use node::dcs::keys::Keys;
use node::dcs::{KeyValue, Store};
use reqwest::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use topology::Status;

/// What Patroni writes at this moment; names apart, ours has the same shape.
const GOLDEN: &str = include_str!("../../../ctl/src/testdata/02-three-nodes-default.json");

/// Method, path, and the status of a leader and of a replica.
const HEALTH: &[(Method, &str, u16, u16)] = &[
    (Method::GET, "/", 200, 503),
    (Method::GET, "/primary", 200, 503),
    (Method::GET, "/master", 200, 503),
    (Method::GET, "/read-write", 200, 503),
    (Method::GET, "/leader", 200, 503),
    (Method::GET, "/standby-leader", 503, 503),
    (Method::GET, "/replica", 503, 200),
    (Method::GET, "/replica?lag=1MB", 503, 200),
    (Method::GET, "/replica?replication_state=streaming", 503, 200),
    (Method::GET, "/replica?tag_nosuch=true", 503, 503),
    (Method::GET, "/read-only", 200, 200),
    (Method::GET, "/async", 503, 200),
    (Method::GET, "/sync", 503, 503),
    (Method::GET, "/quorum", 503, 503),
    (Method::GET, "/health", 200, 200),
    (Method::GET, "/liveness", 200, 200),
    (Method::GET, "/readiness", 200, 200),
    (Method::GET, "/patroni", 200, 200),
    (Method::GET, "/cluster", 200, 200),
    (Method::GET, "/config", 200, 200),
    (Method::GET, "/history", 200, 200),
    (Method::GET, "/metrics", 200, 200),
    (Method::HEAD, "/", 200, 503),
    (Method::HEAD, "/replica", 503, 200),
    (Method::HEAD, "/health", 200, 200),
    (Method::OPTIONS, "/primary", 200, 503),
    (Method::OPTIONS, "/replica", 503, 200),
    (Method::OPTIONS, "/patroni", 503, 503),
];

/// Three daemons start at the same moment on empty directories.
pub async fn race() {
    let stage = Stage::raise(3).await;
    let leader = stage.leader().await;
    slots_of_all_others(&stage, &leader).await;
    copies_come_from_base_backups(&stage, &leader);
    keys_have_the_shape_that_tools_know(&stage, &leader).await;
    health(&stage, &leader).await;
    cluster(&stage, &leader).await;
    metrics(&stage, &leader).await;
    stage.one_writer();
    stage.end();
}

async fn slots_of_all_others(stage: &Stage, leader: &MemberPlan) {
    let wanted: Vec<String> = stage.others(leader).into_iter().map(|m| m.name).collect();
    let sql = "SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots \
               WHERE active AND slot_type = 'physical'";
    stage
        .until("an active slot for every replica", SHORT, async || {
            ask_sql(leader, sql).await.is_ok_and(|slots| slots == wanted.join(","))
        })
        .await;
}

fn copies_come_from_base_backups(stage: &Stage, leader: &MemberPlan) {
    for replica in stage.others(leader) {
        let log = stage.field.log(&replica.name);
        assert!(log.contains("bootstrap from leader"), "{} was not copied", replica.name);
        assert!(!log.contains("done: bootstrap\n"), "{} made a cluster of its own", replica.name);
    }
}

/// The store of the members, as they see it.
pub fn keys_and_store(stage: &Stage) -> (Keys, Arc<dyn Store>) {
    let path = stage.field.config_path(&stage.members()[0]);
    let loaded = node::config::load(Some(&path), &Default::default()).expect("our own file");
    let store = node::dcs::open(&loaded.settings.store, Duration::from_secs(3)).expect("a store");
    (loaded.settings.keys(), store)
}

/// Writes a key of the group past all daemons, or takes it away.
pub async fn meddle(stage: &Stage, key: &str, value: Option<&str>) {
    let (keys, store) = keys_and_store(stage);
    let key = format!("{}{key}", keys.scope_prefix());
    let edit = match value {
        Some(value) => Edit::put(key, value),
        None => Edit::delete(key),
    };
    by_hand(store.as_ref()).edit(vec![edit]).await.expect("the store answers");
}

/// The store as another program uses it.
pub fn by_hand(store: &dyn Store) -> &dyn ByHand {
    store.by_hand().expect("etcd lets other programs in")
}

pub async fn entries(stage: &Stage) -> BTreeMap<String, KeyValue> {
    let (keys, store) = keys_and_store(stage);
    let read = store.read(&[keys.scope_prefix()]).await.expect("the store answers");
    let short = |key: &str| key.trim_start_matches(&keys.scope_prefix()).to_string();
    read.entries.into_iter().map(|entry| (short(&entry.key), entry)).collect()
}

async fn keys_have_the_shape_that_tools_know(stage: &Stage, leader: &MemberPlan) {
    let golden: Vec<Value> = serde_json::from_str(GOLDEN).expect("the sample is JSON");
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_string();
    let name =
        |entry: &Value| text(entry, "key").trim_start_matches("/service/golden/").to_string();
    let samples: BTreeMap<String, String> =
        golden.iter().map(|entry| (name(entry), text(entry, "value"))).collect();
    // The first report of every member's position, and of the leader's.
    stage
        .until("all keys", SHORT, async || {
            let ours = entries(stage).await;
            ours.keys().eq(samples.keys()) && ours["status"].value.contains("retain_slots")
        })
        .await;
    let ours = entries(stage).await;
    assert_eq!(ours["leader"].value, leader.name);
    let digits = |c: char| c.is_ascii_digit();
    assert!(ours["initialize"].value.chars().all(digits), "{}", ours["initialize"].value);
    let fields = |text: &str| -> Vec<String> {
        let object: Value = serde_json::from_str(text).expect("JSON");
        object.as_object().expect("an object").keys().cloned().collect()
    };
    assert_eq!(fields(&ours["status"].value), fields(&samples["status"]));
    for member in stage.members() {
        let role = if member.name == leader.name { "members/n1" } else { "members/n2" };
        let key = format!("members/{}", member.name);
        assert_eq!(fields(&ours[&key].value), fields(&samples[role]), "{key}");
    }
    leases_are_right(stage, leader, &ours);
    every_member_is_reported(stage).await;
}

/// With every renewal of the lock: the position and the slots of all members.
async fn every_member_is_reported(stage: &Stage) {
    let names: Vec<String> = stage.members().into_iter().map(|m| m.name).collect();
    stage
        .until("a report that names all members", SHORT, async || {
            let status = Status::read(&entries(stage).await["status"].value);
            let positions = status.slots.values().all(|lsn| lsn.0 > 0);
            let told = names.iter().all(|name| status.slots.contains_key(name));
            let all = told && status.slots.len() == names.len() && status.retain_slots == names;
            all && positions && status.optime.0 > 0
        })
        .await;
}

/// What a dead member leaves behind goes with its own lease, the rest stays.
fn leases_are_right(stage: &Stage, leader: &MemberPlan, ours: &BTreeMap<String, KeyValue>) {
    let of = |member: &MemberPlan| ours[&format!("members/{}", member.name)].session;
    assert_eq!(ours["leader"].session, of(leader));
    for replica in stage.others(leader) {
        assert!(of(&replica).is_some() && of(&replica) != of(leader), "{}", replica.name);
    }
    for key in ["config", "initialize", "status"] {
        assert_eq!(ours[key].session, None, "{key} must outlive its writer");
    }
}

async fn health(stage: &Stage, leader: &MemberPlan) {
    for member in stage.members() {
        for (method, path, leads, follows) in HEALTH {
            let wanted = if member.name == leader.name { *leads } else { *follows };
            // Positions are published with a beat, a moment behind what SQL shows.
            let what = format!("{wanted} of {} for {method} {path}", member.name);
            stage
                .until(&what, SHORT, async || {
                    let reply = stage.ask.send(method.clone(), &member, path, None).await;
                    reply.is_some_and(|reply| reply.status == wanted)
                })
                .await;
        }
        let body = stage.get(&member, "/patroni").await.body;
        let role = if member.name == leader.name { "primary" } else { "replica" };
        assert_eq!((&body["state"], &body["role"]), (&"running".into(), &role.into()));
        assert_eq!(body["timeline"], 1);
        assert_eq!(body["patroni"]["scope"], "shop");
        assert_eq!(body["patroni"]["name"], member.name.as_str());
    }
}

async fn cluster(stage: &Stage, leader: &MemberPlan) {
    let body = stage.get(&stage.members()[2], "/cluster").await.body;
    let members = body["members"].as_array().expect("a list of members");
    let names: Vec<&str> = members.iter().filter_map(|m| m["name"].as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    assert_eq!(body["scope"], "shop");
    for (member, planned) in members.iter().zip(stage.members()) {
        let leads = planned.name == leader.name;
        let (role, state) = if leads { ("leader", "running") } else { ("replica", "streaming") };
        assert_eq!((&member["role"], &member["state"]), (&role.into(), &state.into()));
        assert_eq!(member["port"], planned.pg_port);
        assert_eq!(member["lag"].is_number(), !leads, "{member}");
    }
}

async fn metrics(stage: &Stage, leader: &MemberPlan) {
    for member in stage.members() {
        let body = stage.get(&member, "/metrics").await.body;
        let text = body.as_str().expect("metrics are plain text");
        let leads = u8::from(member.name == leader.name);
        let labels = format!("{{scope=\"shop\",name=\"{}\"}}", member.name);
        for (name, value) in [
            ("patroni_primary", leads),
            ("patroni_replica", 1 - leads),
            ("patroni_postgres_running", 1),
            ("patroni_postgres_streaming", 1 - leads),
            ("patroni_postgres_timeline", 1),
            ("patroni_cluster_unlocked", 0),
            ("patroni_is_paused", 0),
        ] {
            let line = format!("{name}{labels} {value}");
            assert!(text.lines().any(|l| l == line), "`{line}` is not in\n{text}");
        }
    }
}
