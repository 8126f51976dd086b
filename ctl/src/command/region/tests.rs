//! A formation of two regions for tests: two stores in memory, one group each.

use super::sites::Regions;
use node::dcs::keys::Keys;
use node::dcs::memory::MemoryStore;
use node::dcs::{Op, Store, Txn};
use node::region::hands::{Done, Hands, Held, Replayed, Target};
use node::region::ownership::Site;
use node::region::txn;
use standby::switch::preflight::{Probe, STANDBY_SETTINGS};
use standby::switch::register::first;
use std::sync::Arc;
use std::time::Duration;
use topology::Group;
use topology::region::{Journal, Phase, Policy};

const SYSTEM: &str = "7710375988543033523";

#[derive(Clone)]
pub struct Formation {
    pub regions: Arc<Regions>,
    pub a: MemoryStore,
    pub b: MemoryStore,
}

/// Sound servers, or such that do not stream.
struct Answers {
    is_streaming: bool,
}

impl Hands for Answers {
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

    fn checkpoint(&self, _: Target) -> Done<'_, Duration> {
        Box::pin(async { Err("not asked for".to_string()) })
    }

    fn hold(&self, _: Vec<Target>) -> Done<'_, Held> {
        Box::pin(async { Err("not asked for".to_string()) })
    }

    fn replayed(&self, _: Target) -> Done<'_, Replayed> {
        Box::pin(async { Err("not asked for".to_string()) })
    }
}

fn keys() -> Keys {
    Keys::new("/service/", "shop", Group::PLAIN)
}

pub fn formation() -> Formation {
    let (a, b) = (MemoryStore::new(), MemoryStore::new());
    fill(&a, "a", "primary", 1_000);
    fill(&b, "b", "standby_leader", 960);
    Formation { regions: Arc::new(regions(&a, &b, true)), a, b }
}

fn regions(a: &MemoryStore, b: &MemoryStore, is_streaming: bool) -> Regions {
    let store = |store: &MemoryStore| Arc::new(store.clone()) as Arc<dyn Store>;
    Regions {
        formation: "shop".into(),
        keys: keys(),
        stores: [("a".into(), store(a)), ("b".into(), store(b))].into(),
        hands: Some(Arc::new(Answers { is_streaming })),
    }
}

fn fill(store: &MemoryStore, region: &str, role: &str, lsn: u64) {
    let policy: Policy = serde_json::from_str(
        r#"{"formation":"shop","regions":[
        {"name":"a","endpoints":["a:1"]},{"name":"b","endpoints":["b:1"]}]}"#,
    )
    .unwrap();
    let record = format!(
        r#"{{"conn_url":"postgres://{region}:5432/x","state":"running","role":"{role}","xlog_location":{lsn},"timeline":1}}"#
    );
    let put = |key: String, value: &str| Op::Put { key, value: value.into(), lease: None };
    let then = vec![
        put(keys().leader(), "n1"),
        put(keys().initialize(), SYSTEM),
        put(keys().member(&"n1".into()), &record),
        put(keys().topology("agent"), &format!("{region}/n1")),
    ];
    store.txn_now(&Txn { when: vec![], then }).unwrap();
    store.txn_now(&txn::policy(&keys(), &policy)).unwrap();
    let certificate = first(&policy, &"a".into(), "now");
    let first = txn::create_first(&keys(), &site(store).topology, &certificate).unwrap();
    assert!(store.txn_now(&first).unwrap().succeeded);
}

fn site(store: &MemoryStore) -> Site {
    Site::read(&keys(), &store.read_now(&[keys().scope_prefix()]).unwrap().entries)
}

pub fn journal(phase: Phase) -> Journal {
    Journal {
        id: "m".into(),
        from: "a".into(),
        to: "b".into(),
        epoch: 1,
        phase,
        groups: vec![Group::PLAIN],
        driver: String::new(),
        steps: vec![],
        tokens: Default::default(),
        error: None,
    }
}

impl Formation {
    /// Writes the owner's copy, as its agent would.
    pub fn write_journal(&self, journal: &Journal) {
        let txn = txn::write_journal(&keys(), &site(&self.a).topology, journal);
        assert!(self.a.txn_now(&txn).unwrap().succeeded);
    }

    pub async fn wait_for_request(&self) -> Journal {
        for _ in 0..2_000 {
            if let Some(journal) = site(&self.a).topology.journal() {
                return journal.clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("nobody asked for a move");
    }

    pub fn break_replication(&mut self) {
        self.regions = Arc::new(regions(&self.a, &self.b, false));
    }
}
