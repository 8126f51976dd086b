//! What of a server's settings follows from its logical slots, and what is left to PostgreSQL 17.

use super::*;
use crate::ha::observation::Detour;
use crate::made_up::TakeSample;

#[test]
fn row_1460_keeps_rows_for_copies_here_and_below() {
    let on = |change: &dyn Fn(&mut Stage)| {
        let mut stage = Stage::standby();
        change(&mut stage);
        stage.beat();
        stage.overrides().feedback
    };
    assert!(on(&|_| {}));
    let without = Dynamic::read(&json!({"slots": {"x": null}})).expect("a good document");
    assert!(!on(&|stage| stage.member.dynamic = without.clone()));
    let never = |stage: &mut Stage, name: &str, tags: Value| {
        let record = json!({"tags": tags, "state": "running"}).to_string();
        stage.view().take_sample(&format!("members/{name}"), &record, 4, 1);
    };
    assert!(!on(&|stage| never(stage, "me", json!({"nofailover": true}))));
    // Its lease has ended; its copies are here all the same.
    let unlisted = |stage: &mut Stage| drop(stage.view().members.remove(&"me".into()));
    assert!(on(&unlisted));
    let tags: Tags = Tags([("nofailover".to_string(), true.into())].into_iter().collect());
    assert!(!on(&|stage| {
        unlisted(stage);
        stage.seen.me.tags = tags.clone();
    }));
    // One that cascades from this member keeps them.
    assert!(on(&|stage| {
        never(stage, "me", json!({"nofailover": true}));
        never(stage, "c", json!({"replicatefrom": "me"}));
    }));
}

/// Its lease has ended while the store was away, or its daemon is being restarted.
#[test]
fn row_1460_keeps_rows_for_a_standby_below_whose_record_is_gone() {
    let mut stage = Stage::standby();
    let record = |stage: &mut Stage, name: &str, tags: Value| {
        let record = json!({"tags": tags, "state": "running"}).to_string();
        stage.view().take_sample(&format!("members/{name}"), &record, 4, 1);
    };
    record(&mut stage, "me", json!({"nofailover": true}));
    record(&mut stage, "c", json!({"replicatefrom": "me"}));
    stage.seen.me.tags = Tags([("nofailover".to_string(), true.into())].into_iter().collect());
    stage.view().members.remove(&"c".into());
    assert!(stage.overrides().feedback, "which slots are here was not looked at yet");
    let mut keeps = |xmin: Option<u32>| {
        let slots = stage.sight.slots.iter_mut().filter(|slot| slot.name == "c");
        slots.for_each(|slot| slot.catalog_xmin = xmin.map(Xid));
        stage.beat();
        stage.overrides().feedback
    };
    assert!(keeps(Some(700)));
    assert!(!keeps(None), "it asks for none, or its slot was made anew");
    assert!(keeps(Some(700)));
    stage.member.dynamic.slots = Default::default();
    assert!(!stage.overrides().feedback, "nothing is defined");
}

#[test]
fn row_1470_has_the_server_copy_slots_on_a_standby_that_streams_from_the_primary() {
    let mut stage = Stage::standby();
    stage.beat();
    assert!(!stage.overrides().syncs_slots, "before 17 there is no such setting");
    stage.sight.major = 17;
    stage.beat();
    assert!(stage.overrides().syncs_slots);
    stage.has(&[Slot { failover: true, ..slot("x", 80, 700) }]);
    stage.beat();
    assert!(!stage.overrides().syncs_slots, "the worker would fail for it");
    stage.has(&[]);
    stage.beat();
    let below = Tags([("replicatefrom".to_string(), "c".into())].into_iter().collect());
    stage.seen.me.tags = below;
    let cascade = r#"{"role":"replica","state":"running","conn_url":"postgres://host-c:5432/d"}"#;
    stage.view().take_sample("members/c", cascade, 2, 1);
    assert!(!stage.overrides().syncs_slots);
    // No WAL arrives through c: the leader is followed meanwhile.
    stage.seen.memory.detour = Detour::taken("c");
    assert!(stage.overrides().syncs_slots);
    stage.seen.postgres.process = sample::standby_of(Some("c"));
    assert!(!stage.overrides().syncs_slots, "it does not yet");
    stage.seen.postgres.process = sample::standby_of(Some("b"));
    stage.seen.memory.detour = Detour::default();
    stage.view().members.remove(&"c".into());
    assert!(stage.overrides().syncs_slots, "c has no record: the leader is followed");
    stage.seen.me.tags = Tags::default();
    stage.member.dynamic.slots = Default::default();
    stage.beat();
    assert!(!stage.overrides().syncs_slots, "nothing is defined");
    stage.has(&[Slot { failover: true, synced: true, ..slot("x", 80, 700) }]);
    stage.beat();
    assert!(stage.overrides().syncs_slots, "the worker removes its copy");
    let mut leader = Stage::leader();
    leader.sight.major = 17;
    leader.beat();
    assert!(!leader.overrides().syncs_slots);
}

#[test]
fn row_1470_sets_nothing_that_a_server_without_logical_decoding_shuts_down_for() {
    let mut stage = Stage::standby();
    stage.sight.major = 17;
    stage.sight.decodes = false;
    stage.beat();
    assert!(!stage.overrides().syncs_slots, "wal_level is replica");
    stage.sight.decodes = true;
    stage.beat();
    assert!(stage.overrides().syncs_slots);
    let job = Job::StartStandby { follow: None, target: None };
    let started = stage.member.overrides_of(&stage.seen, &job);
    assert!(!started.syncs_slots, "its files may say another wal_level by now");
    stage.member.note_start(Some("then"));
    assert!(stage.overrides().syncs_slots, "it is the server that was looked at");
    stage.member.note_start(Some("later"));
    assert!(!stage.overrides().syncs_slots, "another one runs");
}

#[test]
fn definitions_that_cannot_be_read_any_more_keep_the_rows_that_copies_need() {
    let mut stage = Stage::standby();
    stage.beat();
    assert!(stage.overrides().feedback);
    let mut change = |slots: Value| {
        let mut config = stage.view().config.as_ref().expect("a document").value.raw.clone();
        config["slots"] = slots;
        stage.view().take_sample("config", &config.to_string(), 7, 0);
        let view = stage.view().clone();
        stage.member.update_dynamic(&view);
        stage.seen.dynamic = stage.member.dynamic.clone();
        stage.beat();
        stage.overrides().feedback
    };
    assert!(change(json!(["x"])), "a list is no map");
    assert!(!change(json!({})), "this can be read");
}

#[test]
fn row_1480_lets_readers_wait_for_standbys_that_may_lead() {
    let mut stage = Stage::leader();
    stage.beat();
    assert_eq!(stage.overrides().awaited_slots, None);
    stage.sight.major = 17;
    stage.beat();
    let awaited = stage.overrides().awaited_slots;
    assert_eq!(awaited, Some(vec!["b".to_string()]), "c was never seen to stream");
    stage.sight.slots.iter_mut().for_each(|slot| slot.active = false);
    stage.seen.now = stage.seen.now + 30_000;
    assert_eq!(stage.overrides().awaited_slots, Some(vec![]), "it is away for long");
    let own = json!({"postgresql": {"parameters": {"synchronized_standby_slots": "b"}}});
    stage.member.dynamic.raw = own;
    assert_eq!(stage.overrides().awaited_slots, None, "an operator has said which");
    let mut standby = Stage::standby();
    standby.sight.major = 17;
    standby.beat();
    assert_eq!(standby.overrides().awaited_slots, None);
}

#[test]
fn row_1480_lets_readers_wait_for_synchronous_standbys_as_commits_do() {
    let mut stage = Stage::leader();
    stage.sight.major = 17;
    stage.beat();
    let sync = |stage: &mut Stage, text: &str| stage.view().take_sample("sync", text, 5, 0);
    sync(&mut stage, r#"{"leader":"me","quorum":0,"sync_standby":"c"}"#);
    let asynchronous = stage.overrides().awaited_slots;
    assert_eq!(asynchronous, Some(vec!["b".to_string()]), "what is left of another mode");
    stage.seen.dynamic.is_synchronous = true;
    let awaited = stage.overrides().awaited_slots;
    assert_eq!(awaited, Some(vec!["c".to_string()]), "though it was never seen to stream");
    sync(&mut stage, r#"{"leader":"me","quorum":1,"sync_standby":"b,c"}"#);
    stage.sight.slots.iter_mut().for_each(|slot| slot.active = false);
    stage.seen.now = stage.seen.now + 60_000;
    let awaited = stage.overrides().awaited_slots;
    assert_eq!(awaited, Some(vec!["b".to_string(), "c".to_string()]), "away, and not taken out");
    let never = r#"{"tags":{"nofailover":true},"state":"running"}"#;
    stage.view().take_sample("members/c", never, 6, 1);
    assert_eq!(stage.overrides().awaited_slots, Some(vec!["b".to_string()]), "c never leads");
    sync(&mut stage, r#"{"leader":null,"sync_standby":null}"#);
    assert_eq!(stage.overrides().awaited_slots, Some(vec![]), "no commit waits for anyone");
}

#[test]
fn rows_1185_and_1280_hand_slots_to_the_server() {
    let mut stage = Stage::standby();
    stage.sight.major = 17;
    stage.has(&[Slot { failover: true, ..slot("x", 80, 700) }]);
    let steps = stage.beat();
    assert!(steps[0].starts_with("dropping the slot `x`: PostgreSQL"), "{steps:?}");
    stage.has(&[Slot { failover: true, synced: true, ..slot("x", 80, 700) }]);
    stage.beat();
    assert_eq!(stage.words(), ["x ready", "y missing"]);
    let mut leader = Stage::leader();
    leader.sight.major = 17;
    leader.has(&[slot("x", 80, 700), Slot { failover: true, ..slot("y", 80, 700) }]);
    let wanted = SlotStep::SetFailover { name: "x".into() };
    assert_eq!(leader.beat(), [wanted.to_string()]);
    // A definition that goes takes its slot with it; one of a subscription stays.
    let native = |name| Slot { failover: true, ..slot(name, 80, 700) };
    leader.has(&[native("x"), native("y"), native("of_a_subscription")]);
    leader.beat();
    let less = json!({"ttl": 30, "slots": {"y": {"database": "d", "plugin": "p"}}});
    leader.member.dynamic = Dynamic::read(&less).expect("a good document");
    leader.beat();
    let steps = leader.beat();
    assert!(
        steps.len() == 1 && steps[0].starts_with("dropping the slot `x`: no member"),
        "{steps:?}"
    );
}

#[test]
fn row_1470_has_a_standby_leader_s_server_copy_the_slots_of_the_remote_side() {
    let mut stage = standby_leader(17);
    assert!(stage.overrides().syncs_slots && stage.overrides().feedback);
    assert!(!stage.told().iter().any(|text| text.contains("follows another one")));
    stage.has(&[Slot { failover: true, synced: true, ..slot("x", 80, 700) }]);
    assert!(stage.beat().is_empty());
    assert_eq!(stage.words(), ["x ready", "y missing"]);
    let mut before = standby_leader(15);
    assert!(!before.overrides().syncs_slots && !before.overrides().feedback);
    let told = before.told();
    assert!(
        told.iter().any(|text| text.starts_with("this cluster follows another one")),
        "{told:?}"
    );
}

/// Rows that the primary removes while the feedback is off do not come back.
#[test]
fn row_1460_keeps_rows_while_it_is_in_doubt_which_region_owns() {
    let doubt = |stage: &mut Stage| stage.seen.ownership = Ownership::Doubtful("a test".into());
    let mut stage = ready_standby();
    assert!(stage.overrides().feedback);
    doubt(&mut stage);
    assert!(stage.overrides().feedback);
    stage.beat();
    assert!(stage.overrides().feedback);
    assert_eq!(stage.words(), ["x ready", "y ready"]);
    let mut remote = standby_leader(17);
    doubt(&mut remote);
    remote.beat();
    assert!(remote.overrides().feedback);
    let mut fresh = Stage::standby();
    doubt(&mut fresh);
    assert!(fresh.overrides().feedback, "slots are defined");
    fresh.member.dynamic.slots = Default::default();
    assert!(!fresh.overrides().feedback);
}
