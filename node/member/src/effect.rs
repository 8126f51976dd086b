//! What the machine asks for, and what it is answered.
//!
//! A call takes time and may get no answer: then the machine hears `NoAnswer`, and the
//! call may have happened. What is done on this machine at once and cannot fail is a
//! `Local`.

use super::Report;
use super::overrides::Overrides;
use super::start::KeptProof;
use crate::callbacks::Callback;
use crate::ha::failsafe::Asker;
use crate::ha::observation::{Disk, Following, Guarding, Job, Me, Postgres, Running};
use crate::ha::{Decision, Observation, Outcome, Receivers};
use crate::job_terms::JobTerms;
use serde_json::Value;
use standby::promotion::PeerAnswer;
use standby::rewind::LocalEnd;
use standby::slots::{Slot, SlotStep};
use standby::switch::ownership::{Order, Ownership};
use standby::sync::Names;
use std::collections::BTreeMap;
use topology::region::Token;
use topology::write::Written;
use topology::{
    Group, GroupView, History, Lsn, MemberName, Millis, RemoteEnd, Seen, Session, Timeline, Write,
};

/// The one thing to do next.
#[derive(Debug)]
pub enum Effect {
    Look(Look),
    /// `limit_ms`: the machine counts the call as unanswered after this; without one,
    /// the deadline of that kind of call applies.
    Call {
        call: Call,
        limit_ms: Option<u64>,
    },
    /// The beat is over.
    Rest(Box<Report>),
}

/// What to look at. Looking changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// At everything: a beat begins.
    All,
    /// At what the last action may have changed.
    Again { store: bool, server: bool },
}

#[derive(Clone, Debug)]
pub enum Call {
    KeepAlive(Session),
    Grant {
        ttl_ms: u64,
    },
    Write(Write),
    /// A write of the upkeep; what the store holds already is not sent again.
    Report {
        what: &'static str,
        write: Write,
    },
    /// Write this group's token of a region move.
    Sign {
        id: String,
        token: Token,
    },
    /// Read the store into the local copy.
    Refresh,
    AskPeers(Vec<(MemberName, String)>),
    /// Ask these members to let this one lead, or lead on, for `ttl_ms`. This many of them must
    /// agree.
    AskAll {
        others: Vec<(MemberName, String)>,
        enough: usize,
        ttl_ms: u64,
        by: Asker,
    },
    /// The timeline history of another server, and whether the slot to be used is there.
    History {
        with: Following,
        asks_slot: bool,
    },
    /// Where the own log ends. `whole`: also what lies in `pg_wal` and is not replayed yet.
    LocalEnd {
        whole: bool,
    },
    /// Where a stopped log ends but for its shutdown checkpoint.
    EndBefore(Lsn),
    /// Put the data of a failed bootstrap aside.
    MoveAside,
    /// Begin the timeline `claimed`, unless the lock ends too soon by now (`is_in_time`).
    Promote {
        mine: Timeline,
        claimed: Timeline,
        lock_until: Millis,
    },
    Follow {
        upstream: Option<Following>,
        overrides: Overrides,
    },
    ResumeReplay,
    /// Wake the process that recovers: it looks at once for WAL and for a request to leave recovery,
    /// instead of after `wal_retrieve_retry_interval`.
    WakeRecovery,
    /// Write these names into the server's files, and wait until they act.
    NameSync {
        names: Names,
        overrides: Overrides,
    },
    WriteWal,
    ArmWatchdog,
    RestWatchdog,
    /// Make, move or drop a slot of the own server.
    ChangeSlot(SlotStep),
    /// The same beside the beats, or ask this leader for its slots.
    BeginSlotWork {
        step: SlotStep,
        leader: Option<Box<Following>>,
    },
    /// End the work on slots that runs beside the beats, and then drop these.
    EndSlotWork {
        drops: Vec<String>,
    },
    Begin {
        job: Job,
        terms: Box<JobTerms>,
    },
    /// End the job in the background slot.
    Cancel,
    EndReceivers(Receivers),
    CutStop,
    /// Begin the checkpoint after a promotion beside the beats.
    Checkpoint {
        timeline: Timeline,
    },
    /// Begin, beside the beats, to complete the history files here and in the archive.
    CompleteHistories {
        timeline: Timeline,
    },
    /// Write the cluster-wide configuration into the data directory.
    SaveConfiguration,
    /// Write the password file of a standby if it is gone.
    KeepPgpass,
    /// Write the files of the running server for the role it has.
    ApplySettings {
        overrides: Overrides,
        reload: Reload,
    },
}

/// When a running server reads its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    IfChanged,
    /// An operator asked for it, or it is not known what the server has read.
    Always,
}

#[derive(Clone, Debug)]
pub enum Answer {
    Looked(Box<Sight>),
    Done,
    /// It did not happen, and why.
    Failed(String),
    /// It did not happen, for the world has changed.
    Overtaken,
    /// It is not known whether it happened.
    NoAnswer(String),
    /// The lease to write on is gone; nothing was written.
    LeaseGone,
    /// Whether the lease lives, and whether the watch of the store is down now.
    Alive {
        alive: bool,
        is_lost: bool,
    },
    Granted(Session),
    Written(Written),
    /// The store holds it already: nothing was sent.
    Known,
    /// The store was read; the leader key names this member.
    Refreshed {
        is_leader: bool,
    },
    Peers(Vec<PeerAnswer>),
    /// Enough members agreed; where those that said so stand.
    Agreed(BTreeMap<MemberName, Lsn>),
    History(Box<RemoteLog>),
    End(Result<Box<LocalEnd>, NoEnd>),
    EndsAt(Lsn),
    Cancelled(Option<Job>),
    /// The server's files are as they should be; it was told to read them, or need not.
    Applied {
        reloaded: bool,
    },
}

/// What another server says to a standby that would stream from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteLog {
    pub history: History,
    /// The slot that the standby leader should use is certainly not there.
    pub lacks_slot: bool,
    /// `None`: a version that does not tell.
    pub in_recovery: Option<bool>,
}

/// Why the end of the own log is not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoEnd {
    /// Ask again.
    NotNow(String),
    /// The log cannot be read.
    Unreadable(String),
}

/// What was seen. What was not looked at is `None`.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The wall clock, in milliseconds since 1970.
    pub unix_ms: u64,
    pub me: Me,
    pub store: Option<StoreSight>,
    pub postgres: Option<Postgres>,
    /// Of a disk that was looked at.
    pub disk: Option<Disk>,
    pub job: Option<Running>,
    /// The job that has ended since the last look.
    pub ended: Option<(Job, Result<(), String>)>,
    pub watchdog: Guarding,
    pub history: Option<History>,
    pub restart: RestartSight,
}

/// What a planned restart is judged by.
#[derive(Clone, Debug, Default)]
pub struct RestartSight {
    /// When the running server was started, in its own words; `None`: it does not answer.
    pub started: Option<String>,
    pub version: Option<i32>,
    /// Settings wait for a restart.
    pub is_pending: bool,
}

/// What a member's record and a leader's documents say beside what a beat has seen.
#[derive(Clone, Debug, Default)]
pub struct Particulars {
    /// The wall clock, in milliseconds since 1970.
    pub unix_ms: u64,
    pub conn_url: String,
    pub api_url: String,
    pub proxy_url: Option<String>,
    /// A new cluster is made by an operator's command.
    pub custom_bootstrap: bool,
    /// Settings that wait for a restart, and why.
    pub pending_restart: Option<Value>,
    pub replay: Option<Lsn>,
    pub receive: Option<Lsn>,
    pub replication_state: Option<String>,
    /// What the upstream server told last.
    pub remote: RemoteEnd,
    pub slots: Vec<Slot>,
    /// When the own timeline began, as `/history` shows it.
    pub timeline_began: String,
}

/// The local copy of the store.
#[derive(Clone, Debug)]
pub struct StoreSight {
    /// `Unknown` while the store is silent.
    pub group: Seen<GroupView>,
    pub ownership: Ownership,
    pub order: Option<Order>,
    pub closed_workers: Vec<Group>,
    /// The watch is down.
    pub is_lost: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// Done at once on this machine; none of it can fail.
#[derive(Debug)]
pub enum Local {
    /// The guard thread stops the server at this moment.
    Arm(Millis),
    Disarm,
    /// The lock was proven; the watchdog fires before it ends.
    FeedWatchdog {
        ttl_ms: u64,
    },
    /// End a server that may be opening, at once.
    StopServer,
    /// The agreement of all members lies on disk until it ends.
    KeepProof(Box<KeptProof>),
    ForgetProof,
    ForgetPromise,
    /// The cluster-wide configuration has changed; these values of it are ignored.
    ConfigChanged {
        ignored: Vec<String>,
    },
    /// After a pause: everything may have been changed by hand.
    LookAnew,
    JobCancelled(Job),
    /// An operator's command for an event of PostgreSQL.
    CallBack(Callback),
    Decided {
        decision: Decision,
        outcome: Option<Outcome>,
    },
    Note(Level, String),
}

impl Effect {
    pub(super) fn call(call: Call) -> Effect {
        Effect::Call { call, limit_ms: None }
    }
}

impl Sight {
    /// The first look of a beat.
    pub(super) fn into_observation(self, before: Seed) -> Observation {
        let store = self.store.expect("a beat begins with a look at everything");
        Observation {
            now: before.now,
            me: self.me,
            store: store.group,
            lock: crate::ha::observation::Lock::Unknown,
            postgres: self.postgres.expect("a beat begins with a look at everything"),
            job: self.job,
            peers: None,
            ownership: store.ownership,
            watchdog: self.watchdog,
            disk: Disk::Well,
            order: store.order,
            closed_workers: store.closed_workers,
            dynamic: before.dynamic,
            failsafe: Default::default(),
            history: self.history,
            memory: before.memory,
        }
    }
}

/// What an observation takes over from the machine.
pub(super) struct Seed {
    pub now: Millis,
    pub dynamic: topology::Dynamic,
    pub memory: crate::ha::observation::Memory,
}
