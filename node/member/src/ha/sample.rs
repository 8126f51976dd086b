//! Well-known moments of a member, for tests: a leader and a follower at rest.
//!
//! A test changes the one thing that it is about; everything else stays as it
//! is in a group that is well.

use super::failsafe::Failsafe;
use super::observation::{
    DataDir, Following, Guarding, Lock, Me, Memory, Observation, Postgres, Process, Rewind, Server,
    ServerRole,
};
use crate::made_up::TakeSample;
use standby::promotion::{PeerAnswer, PeerStatus};
use standby::switch::ownership::Ownership;
use topology::id::slot_name;
use topology::{Dynamic, Group, GroupView, Lsn, Millis, Seen, SystemId, Tags, Timeline};

/// The moment at which everything was renewed.
pub(crate) const NOW: u64 = 1_000_000;
pub(crate) const SYSTEM: &str = "7710375988543033523";

/// `me`, `a` and `b` on timeline 2; `leader` leads.
pub(crate) fn view(leader: &str) -> GroupView {
    let mut view = GroupView::default();
    view.take_sample("initialize", SYSTEM, 1, 0);
    view.take_sample("config", r#"{"ttl":30}"#, 1, 0);
    view.take_sample("leader", leader, 1, 7);
    view.take_sample("history", r#"[[1,100,"no recovery target specified"]]"#, 1, 0);
    view.take_sample("status", r#"{"optime":1000}"#, 1, 0);
    for name in ["me", "a", "b"] {
        let role = if name == leader { "primary" } else { "replica" };
        let record = format!(
            r#"{{"conn_url":"postgres://host-{name}:5432/postgres","api_url":"http://host-{name}:8008/patroni","state":"running","role":"{role}","timeline":2}}"#
        );
        view.take_sample(&format!("members/{name}"), &record, 1, 7);
    }
    view
}

pub(crate) fn following(name: &str) -> Following {
    Following {
        host: format!("host-{name}"),
        port: 5432,
        slot: Some(slot_name("me")),
        database: Some("postgres".into()),
        member: name.into(),
    }
}

fn running(role: ServerRole) -> Process {
    Process::Running(Server {
        role: Seen::Known(role),
        timeline: Some(Timeline(2)),
        lsn: Lsn(1_000),
        replay_paused: false,
        restart_due: None,
        replication: None,
    })
}

/// A standby on timeline 2 answers that its log ends there.
pub(crate) fn answer(name: &str, lsn: u64) -> PeerAnswer {
    let status = PeerStatus {
        in_recovery: true,
        lsn: Lsn(lsn),
        timeline: Some(Timeline(2)),
        nofailover: false,
        failover_priority: 1,
        watchdog_failed: false,
        disk_failed: false,
    };
    PeerAnswer { name: name.into(), status: Some(status) }
}

pub(crate) fn primary() -> Process {
    running(ServerRole::Primary)
}

/// Its settings name no member.
pub(crate) fn standby_of(name: Option<&str>) -> Process {
    let set = |name: &str| Following { member: "".into(), ..following(name) };
    running(ServerRole::Standby { follows: name.map(set).map(Box::new), streaming: name.is_some() })
}

fn at_rest(lock: Lock, view: GroupView, process: Process) -> Observation {
    Observation {
        now: Millis(NOW),
        me: Me {
            name: "me".into(),
            group: Group::PLAIN,
            tags: Tags::default(),
            may_initialise: true,
            may_restore: false,
            rewind: Rewind::Off,
            has_gate: false,
            may_rebuild_diverged: false,
            may_rebuild_failed: false,
        },
        store: Seen::Known(view),
        lock,
        postgres: Postgres { data: DataDir::Valid { system: SystemId(SYSTEM.into()) }, process },
        job: None,
        peers: None,
        ownership: Ownership::NoRegions,
        watchdog: Guarding::Unwanted,
        order: None,
        closed_workers: Vec::new(),
        dynamic: Dynamic::default(),
        failsafe: Failsafe::default(),
        disk: Default::default(),
        history: None,
        memory: Memory { lease_renewed: Millis(NOW), ..Memory::default() },
    }
}

pub(crate) fn leader() -> Observation {
    let lock = Lock::Mine { renewed: Millis(NOW), deadline: Millis(NOW + 30_000) };
    at_rest(lock, view("me"), primary())
}

/// Streams from `a`, with which it was compared.
pub(crate) fn follower() -> Observation {
    let mut o = at_rest(Lock::Other("a".into()), view("a"), standby_of(Some("a")));
    o.memory.compared_with = Some("a".into());
    o.memory.compared_at = Millis(NOW);
    o
}
