//! Every document of a group reads back as it was written.
//!
//! Whether a document is written again is decided by comparing what should stand
//! in the store with what was read from there. A field that is lost on the way
//! makes the two differ for ever, and the document is written in every beat.

use crate::cluster::{Claim, write_history};
use crate::made_up::TakeSample;
use crate::{
    Failover, GroupView, HistoryEntry, Lsn, MemberName, MemberRecord, MemberRole, RemoteEnd,
    Status, SyncState, Tags, Timeline,
};
use proptest::prelude::*;
use serde_json::{Map, Value};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z0-9_.:/-]{0,12}", 1 => "\\PC{0,12}", 1 => "[\\x00-\\x7f]{0,6}"]
}

/// What `/sync` and requests may hold: without commas, and without blanks around.
fn name() -> impl Strategy<Value = MemberName> {
    let is_whole = |text: &String| {
        !text.is_empty() && text.trim() == text && !text.contains(',') && !text.contains('/')
    };
    text().prop_filter("a name", is_whole).prop_map(MemberName::new)
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-99_999i64..99_999).prop_map(|number| Value::from(number as f64 / 100.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Tags that have a meaning, with every kind of value, among those a user made up.
fn tags() -> impl Strategy<Value = Tags> {
    let known = prop::sample::select(vec![
        "nosync",
        "sync_priority",
        "nofailover",
        "failover_priority",
        "noloadbalance",
        "clonefrom",
        "nostream",
        "replicatefrom",
    ]);
    let value = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-1i64..3).prop_map(Value::from),
        prop::sample::select(vec!["false", "on", "0", "2", ""]).prop_map(Value::from),
        json(),
    ];
    let key = prop_oneof![3 => known.prop_map(str::to_string), 1 => text()];
    prop::collection::vec((key, value), 0..6)
        .prop_map(|pairs| Tags(pairs.into_iter().collect::<Map<String, Value>>()))
}

fn role() -> impl Strategy<Value = MemberRole> {
    prop::sample::select(vec![
        MemberRole::Primary,
        MemberRole::Replica,
        MemberRole::StandbyLeader,
        MemberRole::Demoted,
        MemberRole::Promoted,
        MemberRole::Uninitialized,
    ])
}

fn lsn() -> impl Strategy<Value = Option<Lsn>> {
    prop::option::of(any::<u64>().prop_map(Lsn))
}

prop_compose! {
    fn record()(
        texts in prop::array::uniform2(text()),
        urls in prop::array::uniform4(prop::option::of(text())),
        role in role(),
        tags in tags(),
        checkpoint in any::<Option<bool>>(),
        flags in any::<(bool, bool)>(),
        values in prop::array::uniform2(prop::option::of(json())),
        lsns in prop::array::uniform3(lsn()),
        timeline in any::<Option<u32>>(),
        reason in prop::option::of(text()),
        remote in prop::option::of((lsn(), prop::option::of(text()))),
        logical_slots in prop::collection::btree_map(text(), text(), 0..3),
    ) -> MemberRecord {
        let [conn_url, api_url, proxy_url, replication_state] = urls;
        let [state, version] = texts;
        let [pending_restart_reason, scheduled_restart] = values;
        MemberRecord {
            conn_url, api_url, proxy_url, replication_state, state, version, role, tags,
            checkpoint_after_promote: checkpoint,
            pending_restart: flags.0,
            pause: flags.1,
            pending_restart_reason,
            scheduled_restart,
            xlog_location: lsns[0],
            replay_lsn: lsns[1],
            receive_lsn: lsns[2],
            timeline: timeline.map(Timeline),
            reason,
            remote: remote.map(|(lsn, replayed_at)| RemoteEnd { lsn, replayed_at }),
            logical_slots,
        }
    }
}

prop_compose! {
    fn entry()(
        timeline in any::<u32>(),
        switch in any::<u64>(),
        reason in text(),
        at in prop::option::of(text()),
        new_leader in prop::option::of(text()),
    ) -> HistoryEntry {
        HistoryEntry { timeline: Timeline(timeline), switch: Lsn(switch), reason, at, new_leader }
    }
}

fn view(key: &str, value: &str) -> GroupView {
    let mut view = GroupView::default();
    view.take_sample(key, value, 1, 0);
    assert!(view.unreadable.is_empty(), "{:?}", view.unreadable);
    view
}

proptest! {
    #[test]
    fn b6_a_member_record_reads_back_as_it_was_written(record in record()) {
        let known = view("members/n1", &record.write());
        prop_assert_eq!(known.member(&"n1".into()), Some(&record));
    }

    /// What is left out of a record for its readers stays out of it.
    #[test]
    fn b6_tags_that_are_shown_are_shown_whole(tags in tags()) {
        let shown = tags.shown();
        prop_assert_eq!(shown.shown(), shown.clone());
        prop_assert_eq!(shown.nosync(), tags.nosync());
        prop_assert_eq!(shown.sync_priority(), tags.sync_priority());
        prop_assert_eq!(shown.nofailover(), tags.nofailover());
        prop_assert_eq!(shown.failover_priority(), tags.failover_priority());
    }

    #[test]
    fn b6_a_status_reads_back_as_it_was_written(
        optime in any::<u64>(),
        slots in prop::collection::vec((text(), any::<u64>().prop_map(Lsn)), 0..5),
        retain_slots in prop::collection::vec(text(), 0..4),
        ended in prop::option::of((name(), prop::option::of(any::<u32>().prop_map(Timeline)))),
        refused in prop::collection::vec((text(), any::<u64>().prop_map(Lsn)), 0..3),
        skipping_slots in prop::collection::vec(text(), 0..3),
        failsafe_majority in prop::option::of(name()),
    ) {
        let refused_slots = refused.into_iter().collect();
        let slots = slots.into_iter().collect();
        let (ended, ended_timeline) = ended.map_or((None, None), |(name, on)| (Some(name), on));
        let optime = Lsn(optime);
        let status = Status {
            optime,
            slots,
            retain_slots,
            ended,
            ended_timeline,
            failsafe_majority,
            refused_slots,
            skipping_slots,
        };
        let known = view("status", &status.write());
        prop_assert_eq!(known.status.unwrap().value, status);
    }

    #[test]
    fn b6_a_sync_state_reads_back_as_it_was_written(
        leader in prop::option::of(name()),
        standbys in prop::collection::btree_set(name(), 0..4),
        quorum in any::<u32>(),
    ) {
        let standbys = standbys.into_iter().collect();
        let state = SyncState { leader, standbys, quorum: quorum.into() };
        let known = view("sync", &state.write());
        prop_assert_eq!(known.sync.unwrap().value, state);
    }

    #[test]
    fn b6_a_request_reads_back_as_it_was_written(
        leader in prop::option::of(name()),
        candidate in prop::option::of(name()),
        at in prop::option::of("[0-9T:+-]{1,25}"),
    ) {
        let request = Failover { leader, candidate, scheduled_at: at };
        let known = view("failover", &request.write());
        prop_assert_eq!(known.failover.unwrap().value, request);
    }

    #[test]
    fn b6_a_history_reads_back_as_it_was_written(entries in prop::collection::vec(entry(), 0..4)) {
        let known = view("history", &write_history(&entries));
        prop_assert_eq!(known.history.unwrap().value, entries);
    }

    #[test]
    fn b6_a_claim_reads_back_as_it_was_written(timeline in any::<u32>(), by in name()) {
        let claim = Claim { timeline: Timeline(timeline), by };
        let known = view("claim", &claim.write());
        prop_assert_eq!(known.claim.unwrap().value, claim);
    }

    /// Settings of others are kept whole, whatever they are.
    #[test]
    fn b6_a_configuration_reads_back_as_it_was_written(
        others in prop::collection::vec((text(), json()), 0..4),
    ) {
        let mut raw: Map<String, Value> =
            others.into_iter().map(|(key, value)| (format!("x_{key}"), value)).collect();
        raw.insert("ttl".into(), 40.into());
        let raw = Value::Object(raw);
        let known = view("config", &crate::document::compact(&raw));
        prop_assert_eq!(known.config.unwrap().value.raw, raw);
    }

    #[test]
    fn b6_the_leader_and_the_system_read_back(leader in name(), system in 1_000_000_000u64..) {
        prop_assert_eq!(view("leader", leader.as_str()).leader.unwrap().value, leader);
        let known = view("initialize", &system.to_string()).initialize.unwrap().value;
        prop_assert_eq!(known.map(|id| id.0), Some(system.to_string()));
    }
}
