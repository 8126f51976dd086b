//! Situations that need so much at once that they would hardly ever come about by
//! themselves: they are laid over an observation.

use super::{Generator, NOW, following, system, versioned};
use crate::ha::facts::Facts;
use crate::ha::observation::{
    Bootstrapping, DataDir, Disk, Divergence, End, Failed, Job, Lock, Observation, Postgres,
    Process, Running, Server, ServerRole, Shut, ShutdownState, StopHow,
};
use crate::made_up::TakeSample;
use standby::promotion::{PeerAnswer, PeerStatus};
use standby::switch::ownership::Ownership;
use standby::sync::{Confirmations, Replication, Sender, SyncRank};
use topology::dynamic::StandbyCluster;
use topology::{Failover, Lsn, MemberName, Millis, Seen, SyncMode, SyncState, Timeline};

impl Generator {
    /// A leader that has just named a standby, which has confirmed nothing yet.
    pub(super) fn name_a_standby(&mut self, o: &mut Observation) {
        let lsn = Some(Lsn(900));
        let sync = SyncRank::Sync;
        let sender =
            Sender { name: "a".into(), streaming: true, sync, write: lsn, flush: lsn, replay: lsn };
        let replication = Replication {
            is_acting: true,
            lsn: Lsn(1_000),
            names: "a".into(),
            commit: "on".into(),
            senders: vec![sender],
        };
        o.dynamic.synchronous_mode = SyncMode::On;
        o.dynamic.standby_cluster = None;
        o.ownership = Ownership::NoRegions;
        let alone = SyncState::alone("me".into());
        o.memory.confirmed = Confirmations::default();
        let policy = Facts::of(o).sync_policy();
        o.memory.confirmed.look(&replication, &alone, &policy, Millis(NOW));
        if self.percent(50) {
            o.memory.confirmed.nudged();
        }
        o.postgres.data = DataDir::Valid { system: system(1) };
        o.postgres.process = Process::Running(Server {
            role: Seen::Known(ServerRole::Primary),
            timeline: Some(Timeline(1)),
            lsn: Lsn(1_000),
            replay_paused: false,
            restart_due: None,
            replication: Some(replication),
        });
        o.job = None;
        o.lock = Lock::Mine { renewed: Millis(NOW), deadline: Millis(NOW + 29_000) };
        let Seen::Known(view) = &mut o.store else { return };
        view.leader = versioned("me".into());
        view.sync = versioned(alone);
        view.failover = None;
    }

    /// A former primary beside a leader that it could not be compared with in time. The
    /// last try to make it fit failed: pg_rewind, or a start as a standby before it.
    pub(super) fn give_a_log_up(&mut self, o: &mut Observation) {
        const LEADER: &str = r#"{"conn_url":"postgres://a:5432/postgres","role":"primary",
            "state":"running"}"#;
        let Seen::Known(view) = &mut o.store else { return };
        view.leader = versioned("a".into());
        view.take_sample("members/a", LEADER, 1, 7);
        view.initialize = versioned(Some(system(1)));
        (o.lock, o.job, o.order) = (Lock::Other("a".into()), None, None);
        o.ownership = Ownership::NoRegions;
        o.dynamic.standby_cluster = None;
        o.postgres.data = DataDir::Valid { system: system(1) };
        let (end, timeline, lsn) = (End::Clean, Timeline(1), Lsn(900));
        let shutdown_state =
            ShutdownState { end, timeline, lsn, copied: false, shut: Shut::Orderly };
        o.postgres.process = Process::Stopped(Seen::Known(shutdown_state));
        let (why, at) = ("it ended with 1".to_string(), Millis(NOW - 40_000));
        let from = following("a");
        let start = Job::StartStandby { follow: Some(from.clone()), target: None };
        let job = self.pick(&[Job::Rewind { from }, start]);
        o.memory.failed = Some(Failed { job, at, times: 2, why });
        o.memory.divergence = Divergence::Unchecked;
        o.memory.compared_with = Some("a".into());
        o.memory.compared_at = Millis(NOW - 10);
        o.memory.uncompared_since = Some(Millis(NOW - 4_000_000));
    }

    /// Alone with a log that PostgreSQL does not replay as a standby's.
    pub(super) fn reset_the_log_of_a_lone_member(&mut self, o: &mut Observation) {
        let Seen::Known(view) = &mut o.store else { return };
        view.members.retain(|name, _| name.as_str() == "me");
        (view.leader, view.sync, view.failover) = (None, None, None);
        view.initialize = versioned(Some(system(1)));
        (o.lock, o.job, o.order) = (Lock::Free, None, None);
        o.ownership = Ownership::NoRegions;
        o.dynamic.standby_cluster = None;
        o.postgres.data = DataDir::Valid { system: system(1) };
        let (end, timeline, lsn) = (End::Clean, Timeline(9), Lsn(900));
        let shut = self.pick(&[Shut::Orderly, Shut::Minimal, Shut::Minimal]);
        let shutdown_state = ShutdownState { end, timeline, lsn, copied: false, shut };
        o.postgres.process = Process::Stopped(Seen::Known(shutdown_state));
    }

    /// A new standby cluster that has an archive and no server to stream from.
    pub(super) fn begin_from_an_archive(&mut self, o: &mut Observation) {
        o.ownership = Ownership::NoRegions;
        o.dynamic.standby_cluster =
            Some(StandbyCluster { host: None, port: 5432, primary_slot_name: None });
        o.postgres = Postgres { data: DataDir::Empty, process: Process::Stopped(Seen::Unknown) };
        o.memory.bootstrap = Bootstrapping::Claimed;
    }

    /// A request to a leader that is well needs so much at once that it would
    /// hardly ever come about by itself.
    pub(super) fn ask_a_leader(&mut self, o: &mut Observation) {
        let (Seen::Known(view), Lock::Mine { deadline, .. }) = (&mut o.store, &mut o.lock) else {
            return;
        };
        *deadline = Millis(NOW + 29_000);
        view.failover = versioned(Failover {
            leader: Some("me".into()),
            candidate: self.pick(&[None, Some("a")]).map(MemberName::from),
            scheduled_at: None,
        });
        o.dynamic.pause = self.percent(30);
        o.memory.stopping = false;
        o.memory.asked = None;
        o.memory.lease_renewed = Millis(NOW);
        o.job = None;
        let role = Seen::Known(ServerRole::Primary);
        o.postgres.data = DataDir::Valid { system: system(1) };
        let (timeline, lsn) = (Some(Timeline(2)), self.lsn());
        o.postgres.process = Process::Running(Server {
            role,
            timeline,
            lsn,
            replay_paused: false,
            restart_due: None,
            replication: None,
        });
        if self.percent(30) {
            // It wrote more since its successor last said what it has.
            o.memory.request_seen = Some((Millis(NOW - 400), Lsn(u64::MAX >> 8)));
        }
        if self.percent(30) {
            // It stopped for it.
            o.memory.handover = Some(Millis(NOW - 1_000));
            let (end, timeline) = (End::Clean, Timeline(1));
            o.postgres.process = Process::Stopped(Seen::Known(ShutdownState {
                end,
                timeline,
                lsn,
                copied: false,
                shut: Shut::Orderly,
            }));
        }
    }

    /// An operator's word is all that makes a leader in pause.
    pub(super) fn name_a_standby_in_pause(&mut self, o: &mut Observation) {
        let (Seen::Known(view), Lock::Free) = (&mut o.store, &o.lock) else { return };
        let candidate = Some(MemberName::from("me"));
        view.failover = versioned(Failover { leader: None, candidate, scheduled_at: None });
        view.initialize = versioned(Some(system(1)));
        o.dynamic.pause = true;
        o.memory.stopping = false;
        o.memory.asked = None;
        o.job = None;
        o.ownership = Ownership::NoRegions;
        o.dynamic.standby_cluster = None;
        o.postgres.data = DataDir::Valid { system: system(1) };
        let role = Seen::Known(ServerRole::Standby { follows: None, streaming: false });
        let (timeline, lsn) = (Some(Timeline(2)), self.lsn());
        o.postgres.process = Process::Running(Server {
            role,
            timeline,
            lsn,
            replay_paused: false,
            restart_due: None,
            replication: None,
        });
    }

    /// A leader that stops, or has stopped, to give its lock away.
    pub(super) fn stop_a_leader(&mut self, o: &mut Observation) {
        self.ask_a_leader(o);
        o.memory.handover = Some(self.past());
        o.memory.stopping = self.percent(40);
        let (end, timeline) = (End::Clean, Timeline(1));
        let closed =
            ShutdownState { end, timeline, lsn: Lsn(900), copied: false, shut: Shut::Orderly };
        if self.percent(50) {
            o.postgres.process = Process::Stopped(Seen::Known(closed));
            if self.percent(30) {
                let why = "the disk of /data takes no files".into();
                o.disk = Disk::Failing { since: Millis(NOW - 2_000), why };
                o.memory.stopping = false;
                o.memory.handover = Some(Millis(NOW - 500));
                (o.ownership, o.order) = (Ownership::NoRegions, None);
                o.dynamic.standby_cluster = None;
                let status = PeerStatus {
                    in_recovery: true,
                    lsn: self.pick(&[Lsn(900), Lsn(901)]),
                    timeline: Some(timeline),
                    ..self.peer()
                };
                o.peers = self
                    .percent(80)
                    .then(|| vec![PeerAnswer { name: "a".into(), status: Some(status) }]);
                let Seen::Known(view) = &mut o.store else { return };
                view.failover = None;
            }
            return;
        }
        let job = Job::Stop { how: StopHow::Planned };
        o.job =
            Some(Running { job, since: self.past(), closed: Some(closed), ending: self.ending() });
        let (role, timeline) = (Seen::Unknown, None);
        let lsn = Lsn(0);
        o.postgres.process = Process::Running(Server {
            role,
            timeline,
            lsn,
            replay_paused: false,
            restart_due: None,
            replication: None,
        });
    }
}
