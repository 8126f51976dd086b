//! What the API is told and what it may ask for.
//!
//! The daemon publishes one value after every beat; health checks are answered
//! from it without touching the store or PostgreSQL. In the other direction
//! there are commands, which only wake the daemon or ask it for one thing:
//! nothing here writes to PostgreSQL.

use super::restart_request::Request;
use super::slots::SlotReport;
use crate::config::Settings;
use crate::dcs::Store;
use crate::dcs::counted::Writes;
use crate::dcs::keys::Keys;
use crate::dcs::mirror::Mirror;
pub(crate) use crate::postgres::ServerStatus;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use topology::{Group, GroupView, MemberName, MemberRole, MemberState, Millis, SystemId, Tags};

/// What the daemon tells the API after every beat. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Published {
    pub name: MemberName,
    pub scope: String,
    pub state: MemberState,
    pub role: MemberRole,
    /// A postmaster answers.
    pub running: bool,
    /// The own lock is believed valid until then, on the machine's steady clock.
    pub lock_until: Option<Millis>,
    /// The last answer of the monitoring query.
    pub monitor: Option<Arc<ServerStatus>>,
    /// The own group as last read.
    pub view: Option<Arc<GroupView>>,
    /// All groups; only a Citus coordinator has them.
    pub groups: Option<Arc<BTreeMap<Group, GroupView>>>,
    /// `/config` as it stands in the store.
    pub config: Option<Arc<serde_json::Value>>,
    /// When the store last answered, in seconds since 1970.
    pub dcs_last_seen: u64,
    /// The watchdog is required and cannot be used.
    pub watchdog_failed: bool,
    /// There is one that can reset this machine.
    pub has_watchdog: bool,
    /// Why PostgreSQL does not run, where a person must do something.
    pub reason: Option<String>,
    /// The data directory takes no new files.
    pub disk_failed: bool,
    /// Whether a reader of each permanent logical slot can go on here, in a word.
    pub logical_slots: BTreeMap<String, String>,
    /// The slots of the own server.
    pub slots: Arc<Vec<SlotReport>>,
    pub system_id: Option<SystemId>,
    pub tags: Tags,
    /// Settings that wait for a restart, by name.
    pub pending_restart: Option<serde_json::Value>,
    /// As in the member record.
    pub scheduled_restart: Option<serde_json::Value>,
    pub paused: bool,
    pub loop_wait_ms: u64,
    pub ttl_ms: u64,
    pub last_beat: Millis,
    /// A standby cluster, or a group of a standby region.
    pub standby_group: bool,
    /// A region that opens, or is not to be written: sessions are read-only (row 1410).
    pub quarantined: bool,
    /// Failsafe mode is active until then, on either side of it.
    pub failsafe_until: Option<Millis>,
    /// `/failsafe` as last known, also when the store is away.
    pub failsafe: Option<Arc<member::ha::failsafe::Map>>,
    pub maximum_lag_on_failover: u64,
    /// How the daemon's own log keeps up.
    pub log: crate::log::Counters,
    /// Of the coordinator's leader.
    pub citus: Option<CitusNumbers>,
    /// Writes to the store since the daemon began.
    pub writes: Arc<Writes>,
}

/// How the coordinator's metadata fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CitusNumbers {
    pub is_settled: bool,
    pub paused_since: Option<Millis>,
    pub counts: citus::registrar::Counts,
}

/// What to answer, and whether it was done.
pub(crate) type Reply = oneshot::Sender<Result<String, String>>;

/// What the API asks of the daemon.
#[derive(Debug)]
pub enum Command {
    /// Look at the world now.
    Wake,
    /// Read the configuration file again.
    Reload,
    Restart {
        /// How long the start may take.
        limit: Option<Duration>,
        reply: Reply,
    },
    /// `Err`: there is one already.
    ScheduleRestart {
        request: Box<Request>,
        reply: Reply,
    },
    /// `Err`: there is none.
    ForgetRestart {
        reply: Reply,
    },
    Reinitialize {
        from_leader: bool,
        force: bool,
        reply: Reply,
    },
    /// A worker's leader changes. The reply is dropped when nothing is to be waited for.
    CitusEvent {
        event: citus::registrar::event::Event,
        reply: oneshot::Sender<()>,
    },
}

/// What the server says of itself, now, on the API's own connection.
pub trait Fresh: Send + Sync {
    fn status(&self) -> Pin<Box<dyn Future<Output = Option<ServerStatus>> + Send + '_>>;
}

/// Everything the API works with.
pub struct ApiContext {
    pub settings: Arc<Settings>,
    pub store: Arc<dyn Store>,
    /// The copy that answers questions which change nothing.
    pub mirror: Arc<Mirror>,
    pub keys: Keys,
    pub published: watch::Receiver<Arc<Published>>,
    pub commands: mpsc::Sender<Command>,
    pub fresh: Arc<dyn Fresh>,
    /// Where promises of failsafe mode are given.
    pub failsafe: crate::promises::SharedPromises,
    /// The last decisions, newest last.
    pub decisions: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// The machine's steady clock.
    pub now: fn() -> Millis,
}
