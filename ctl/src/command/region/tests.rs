//! Formations of two regions for tests: two stores in memory, one group each,
//! or a coordinator and a worker.

use super::sites::Regions;
use crate::made_up_move;
use citus::NodeRow;
use node::dcs::Store;
use node::dcs::by_hand::Edit;
use node::dcs::keys::Keys;
use node::dcs::memory::MemoryStore;
use node::region::group_servers::{Done, GroupServers, Held};
use node::region::ownership::read_site;
use standby::switch::preflight::{Probe, STANDBY_SETTINGS};
use standby::switch::publisher::observed_region;
use standby::switch::register::first;
use standby::switch::write;
use standby::switch::{Replayed, Site, Target};
use std::sync::Arc;
use std::time::Duration;
use topology::Group;
use topology::region::{Journal, Phase, Policy};

const SYSTEM: &str = "7710375988543033523";

#[derive(Clone)]
pub(super) struct Formation {
    pub regions: Arc<Regions>,
    pub a: MemoryStore,
    pub b: MemoryStore,
}

/// Sound servers, or such that do not stream.
struct Answers {
    is_streaming: bool,
    /// `pg_dist_node` of the host that leads the coordinator of the owner.
    rows: Vec<NodeRow>,
}

impl GroupServers for Answers {
    fn probe(&self, target: Target) -> Done<'_, Probe> {
        let in_recovery = target.host == "b";
        Box::pin(async move {
            Ok(Probe {
                in_recovery,
                version: 150004,
                system_id: SYSTEM.into(),
                settings: STANDBY_SETTINGS.iter().map(|s| (s.to_string(), 100)).collect(),
                checksums: true,
                is_streaming: self.is_streaming,
                ..Probe::default()
            })
        })
    }

    fn nodes(&self, target: Target) -> Done<'_, Vec<NodeRow>> {
        Box::pin(async move {
            let is_asked = (target.host.as_str(), target.group) == ("a0", Group::COORDINATOR);
            if is_asked { Ok(self.rows.clone()) } else { Err("refused".to_string()) }
        })
    }

    fn checkpoint(&self, _: Target) -> Done<'_, Duration> {
        Box::pin(async { Err("not asked for".to_string()) })
    }

    fn hold(&self, _: Vec<Target>, _: u64) -> Done<'_, Held> {
        Box::pin(async { Err("not asked for".to_string()) })
    }

    fn replayed(&self, _: Target) -> Done<'_, Replayed> {
        Box::pin(async { Err("not asked for".to_string()) })
    }
}

fn keys() -> Keys {
    Keys::new("/service/", "shop", Group::PLAIN)
}

pub(super) fn formation() -> Formation {
    let (a, b) = (MemoryStore::new(), MemoryStore::new());
    fill(&a, "a", "primary", 1_000);
    fill(&b, "b", "standby_leader", 960);
    let answers = Answers { is_streaming: true, rows: vec![] };
    Formation { regions: Arc::new(regions(&a, &b, answers)), a, b }
}

/// Members are named like their hosts: `a0` leads the coordinator of region a,
/// `a1` its worker. `worker` is where `pg_dist_node` finds the worker.
pub(super) fn citus(worker: &str) -> Formation {
    let (a, b) = (MemoryStore::new(), MemoryStore::new());
    for number in [0, 1] {
        let keys = keys().for_group(Group(Some(number)));
        fill_group(&a, &keys, &format!("a{number}"), &record(&format!("a{number}"), "primary", 9));
        let standby = record(&format!("b{number}"), "standby_leader", 9);
        fill_group(&b, &keys, &format!("b{number}"), &standby);
    }
    fill_topology(&a, "a/a0");
    fill_topology(&b, "b/b0");
    let row = |group: u32, host: &str| {
        let row = serde_json::json!({"nodeid": group + 1, "groupid": group, "nodename": host,
            "nodeport": 5432, "noderole": "primary", "nodecluster": "default", "isactive": true,
            "hasmetadata": true, "metadatasynced": true, "shouldhaveshards": true,
            "poolinfo": null});
        serde_json::from_value(row).unwrap()
    };
    let answers = Answers { is_streaming: true, rows: vec![row(0, "a0"), row(1, worker)] };
    Formation { regions: Arc::new(regions(&a, &b, answers)), a, b }
}

fn regions(a: &MemoryStore, b: &MemoryStore, answers: Answers) -> Regions {
    let store = |store: &MemoryStore| Arc::new(store.clone()) as Arc<dyn Store>;
    Regions {
        formation: "shop".into(),
        policy: policy(),
        keys: keys(),
        stores: [("a".into(), store(a)), ("b".into(), store(b))].into(),
        servers: Some(Arc::new(answers)),
    }
}

fn policy() -> Policy {
    serde_json::from_str(
        r#"{"formation":"shop","regions":[
        {"name":"a","endpoints":["a:1"]},{"name":"b","endpoints":["b:1"]}]}"#,
    )
    .unwrap()
}

fn record(host: &str, role: &str, lsn: u64) -> String {
    format!(
        r#"{{"conn_url":"postgres://{host}:5432/x","state":"running","role":"{role}","xlog_location":{lsn},"timeline":1}}"#
    )
}

fn fill(store: &MemoryStore, region: &str, role: &str, lsn: u64) {
    fill_group(store, &keys(), "n1", &record(region, role, lsn));
    fill_topology(store, &format!("{region}/n1"));
}

fn fill_group(store: &MemoryStore, keys: &Keys, leader: &str, record: &str) {
    let edits = [
        Edit::put(keys.leader(), leader),
        Edit::put(keys.initialize(), SYSTEM),
        Edit::put(keys.member(&leader.into()), record),
    ];
    store.edit_now(edits).unwrap();
}

fn fill_topology(store: &MemoryStore, agent: &str) {
    let policy = policy();
    store.edit_now([Edit::put(keys().topology("agent"), agent)]).unwrap();
    store.write_now(&keys(), &write::policy(&policy)).unwrap();
    let certificate = first(&policy, &"a".into(), "now");
    let first = write::create_first(&site(store).topology, &certificate).unwrap();
    assert!(store.write_now(&keys(), &first).unwrap().succeeded);
}

fn site(store: &MemoryStore) -> Site {
    read_site(&keys(), &store.read_now(&[keys().scope_prefix()]).unwrap().entries)
}

pub(super) fn journal(phase: Phase) -> Journal {
    Journal { groups: vec![Group::PLAIN], ..made_up_move::journal(phase) }
}

impl Formation {
    /// Writes the owner's copy, as its agent would.
    pub(super) fn write_journal(&self, journal: &Journal) {
        let write = write::write_journal(&site(&self.a).topology, journal);
        assert!(self.a.write_now(&keys(), &write).unwrap().succeeded);
    }

    /// Lets the agent of `a` remember `b` as it is now.
    pub(super) fn remember_b(&self) {
        let seen = observed_region(&"b".into(), &site(&self.b));
        let seen = Edit::put(keys().topology("peers/b"), serde_json::to_string(&seen).unwrap());
        self.a.edit_now([seen]).unwrap();
    }

    pub(super) fn without_hands(&self) -> Regions {
        let answers = Answers { is_streaming: true, rows: vec![] };
        Regions { servers: None, ..regions(&self.a, &self.b, answers) }
    }

    pub(super) async fn wait_for_request(&self) -> Journal {
        self.wait_for(|_| true).await
    }

    /// The owner's copy of the journal, once it is as wished.
    pub(super) async fn wait_for(&self, wished: impl Fn(&Journal) -> bool) -> Journal {
        for _ in 0..2_000 {
            if let Some(journal) = site(&self.a).topology.journal().filter(|j| wished(j)) {
                return journal.clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("nobody asked for a move");
    }

    pub(super) fn break_replication(&mut self) {
        let answers = Answers { is_streaming: false, rows: vec![] };
        self.regions = Arc::new(regions(&self.a, &self.b, answers));
    }
}
