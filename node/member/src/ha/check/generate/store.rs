//! What the store tells: lock, records, requests, history, regions.
//!
//! A lock that is ours is ours in the store's view too.

use super::{Generator, NAMES, NOW, system, versioned};
use crate::ha::observation::Lock;
use standby::switch::ownership::{Ownership, Upstream};
use topology::dynamic::StandbyCluster;
use topology::id::slot_name;
use topology::region::Token;
use topology::{
    Dynamic, Failover, GroupView, HistoryEntry, Lsn, MemberName, MemberRecord, MemberRole, Millis,
    Seen, Status, SyncMode, SyncState, SystemId, Tags, Timeline, Versioned,
};

/// Seldom another member: it keeps a candidate from most of what it would do.
const MAJORITY_LEADERS: [Option<&str>; 12] = {
    let mut all = [None; 12];
    all[0] = Some("a");
    all[1] = Some("me");
    all
};

impl Generator {
    pub(super) fn tags(&mut self) -> Tags {
        let mut tags = serde_json::Map::new();
        if self.percent(8) {
            tags.insert("nofailover".into(), true.into());
        }
        if self.percent(8) {
            tags.insert("clonefrom".into(), true.into());
        }
        if self.percent(8) {
            tags.insert("replicatefrom".into(), "b".into());
        }
        if self.percent(8) {
            tags.insert("failover_priority".into(), self.pick(&[0, 2]).into());
        }
        Tags(tags)
    }

    pub(super) fn lock(&mut self) -> Lock {
        match self.next() % 10 {
            0..=4 => {
                let renewed = self.past();
                let left = self.pick(&[0, 10, 2_000, 9_000, 29_000]);
                let deadlines = [0, NOW - 5_000, NOW + left, NOW + left, NOW + 29_000];
                Lock::Mine { renewed, deadline: Millis(self.pick(&deadlines)) }
            }
            5..=6 => Lock::Free,
            _ => Lock::Other(self.pick(&["a", "b"]).into()),
        }
    }

    pub(super) fn store(&mut self, lock: &Lock) -> Seen<GroupView> {
        if self.percent(12) {
            return Seen::Unknown;
        }
        let mut view = GroupView {
            initialize: self.initialize(),
            leader: match lock {
                Lock::Mine { .. } => versioned("me".into()),
                Lock::Other(name) => versioned(name.clone()),
                Lock::Free | Lock::Unknown => None,
            },
            failover: self.failover(),
            history: self.history(),
            sync: self.sync(),
            ..GroupView::default()
        };
        if self.percent(85) {
            view.status = versioned(Status {
                optime: Lsn(self.pick(&[1_000, 1_000, 4_000_000])),
                ended: self.percent(5).then(|| "a".into()),
                failsafe_majority: self.pick(&MAJORITY_LEADERS).map(MemberName::new),
                ..Status::default()
            });
        }
        for name in NAMES {
            if self.percent(85) {
                let record = self.record(name);
                view.members.insert(name.into(), versioned(record).expect("just made"));
            }
        }
        Seen::Known(view)
    }

    pub(super) fn initialize(&mut self) -> Option<Versioned<Option<SystemId>>> {
        match self.next() % 20 {
            0..=3 => None,
            4 => versioned(None),
            5 => versioned(Some(system(2))),
            _ => versioned(Some(system(1))),
        }
    }

    fn failover(&mut self) -> Option<Versioned<Failover>> {
        if self.percent(60) {
            return None;
        }
        let names: Vec<Option<MemberName>> =
            [None, Some("me"), Some("a"), Some("b")].map(|n| n.map(MemberName::from)).to_vec();
        versioned(Failover {
            leader: self.pick(&names),
            candidate: self.pick(&names),
            scheduled_at: self.percent(10).then(|| "2030-01-01T00:00+00:00".into()),
        })
    }

    /// Seldom without a leader in it: that is as if there were none.
    fn sync(&mut self) -> Option<Versioned<SyncState>> {
        if self.percent(50) {
            return None;
        }
        let leader = self.pick(&[Some("me"), Some("a"), Some("a"), Some("b"), None]);
        let standbys: [&[&str]; 5] = [&[], &["a"], &["me"], &["b", "me"], &["a", "b", "me"]];
        let standbys = self.pick(&standbys).iter().copied().map(MemberName::from);
        versioned(SyncState {
            leader: leader.map(MemberName::from),
            standbys: standbys.collect(),
            quorum: self.pick(&[0, 0, 1]),
        })
    }

    pub(super) fn history(&mut self) -> Option<Versioned<Vec<HistoryEntry>>> {
        let entries = self.pick(&[None, Some(0), Some(1), Some(2)])?;
        let entry = |n: u32| HistoryEntry {
            timeline: Timeline(n),
            switch: Lsn(u64::from(n) * 100),
            reason: "no recovery target specified".into(),
            at: None,
            new_leader: None,
        };
        versioned((1..=entries).map(entry).collect())
    }

    fn record(&mut self, name: &str) -> MemberRecord {
        let roles = [
            MemberRole::Primary,
            MemberRole::Primary,
            MemberRole::Replica,
            MemberRole::StandbyLeader,
        ];
        MemberRecord {
            conn_url: Some(format!("postgres://host-{name}:5432/postgres")),
            state: self.pick(&["running", "running", "running", "starting"]).into(),
            role: self.pick(&roles),
            tags: self.tags(),
            checkpoint_after_promote: self.percent(20).then_some(false),
            ..MemberRecord::default()
        }
    }

    pub(super) fn ownership(&mut self) -> Ownership {
        let upstream = Upstream {
            host: "host-remote".into(),
            port: 5432,
            slot: slot_name("me"),
            member: "remote".into(),
        };
        match self.next() % 10 {
            0..=4 => Ownership::NoRegions,
            5..=6 => Ownership::Owner {
                epoch: 3,
                token: self.percent(50).then(|| Token {
                    system_id: system(self.pick(&[1, 1, 2])),
                    timeline: Timeline(1),
                    lsn: Lsn(self.pick(&[900, 1_000])),
                }),
                opening: self.percent(50),
            },
            7..=8 => {
                Ownership::Standby { epoch: 3, upstream: self.percent(80).then_some(upstream) }
            }
            _ => Ownership::Doubtful("the registers were not read yet".into()),
        }
    }

    pub(super) fn dynamic(&mut self) -> Dynamic {
        let mut dynamic = self.dynamic.clone();
        dynamic.pause = self.percent(15);
        dynamic.check_timeline = self.percent(30);
        let (off, on) = (SyncMode::Off, SyncMode::On);
        dynamic.synchronous_mode = self.pick(&[off, off, on, SyncMode::Quorum]);
        dynamic.failsafe_mode = self.percent(50);
        dynamic.primary_race_backoff_ms = self.pick(&[0, 0, 0, 30_000]);
        dynamic.is_synchronous = dynamic.synchronous_mode != SyncMode::Off;
        dynamic.synchronous_mode_strict = self.percent(30);
        dynamic.primary_start_timeout_ms = self.pick(&[0, 10_000, 300_000]);
        if self.percent(5) {
            dynamic.standby_cluster = Some(StandbyCluster {
                host: self.percent(80).then(|| "host-remote".into()),
                port: 5432,
                primary_slot_name: Some("me".into()),
            });
        }
        dynamic
    }
}
