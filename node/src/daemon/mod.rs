//! The daemon: performs what the member's machine asks for, on a real server and store.
//!
//! This is the only owner of the member's state. The API, the region agent and
//! the signals wake it; none of them changes anything here.

mod beside;
mod birth;
mod cache;
mod callback;
mod chores;
mod disk;
pub(crate) mod failsafe;
mod filling;
mod fresh;
mod heartbeat;
mod held_log;
mod in_doubt;
mod jobs;
mod local_end;
mod look;
mod metadata;
mod notice;
mod overrides;
mod pause_lock;
mod perform;
mod publish;
mod reload;
mod rewind_ability;
pub mod run;
mod running;
mod script;
mod server;
mod shutdown_state;
mod signals;
mod silent_source;
mod slot_warning;
mod slot_work;
mod start;
mod synchrony;
pub mod unwatched;
mod work;

use crate::api::published::Published;
use crate::background::Background;
use crate::config::{Environment, Settings};
use crate::dcs::counted::Writes;
use crate::dcs::keys::Keys;
use crate::dcs::mirror::{Changes, Mirror};
use crate::dcs::{DcsError, Session, Store, Write, Written};
use crate::deadman::Deadman;
use crate::peers::Peers;
use crate::watchdog::Watchdog;
use chores::Chores;
use member::Member;
use server::Server;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use topology::acceptor::Acceptor;

/// Kept for `GET /decisions` and post-mortems.
const DECISIONS_MAX: usize = 1_000;

/// Where the configuration came from: what a reload reads again.
#[derive(Clone)]
pub struct Origin {
    pub path: Option<PathBuf>,
    /// The `PATRONI_*` variables as they were at the start.
    pub env: Environment,
}

/// The last decisions, oldest first.
pub type Decisions = Arc<Mutex<VecDeque<serde_json::Value>>>;

/// One call to the store may take this long: well below the lock's ttl, so
/// that a frozen store leaves time to fence.
const STORE_CALL: Duration = Duration::from_millis(member::STORE_CALL_MS);

pub struct Daemon {
    settings: Arc<Settings>,
    store: Arc<dyn Store>,
    keys: Keys,
    /// Decides; the rest of this struct is what its effects are performed with.
    member: Member,
    mirror: Arc<Mirror>,
    changes: Changes,
    server: Server,
    peers: Peers,
    background: Background,
    beside: beside::Beside,
    slot_work: slot_work::SlotWork,
    disk: disk::Probe,
    slot_warning: slot_warning::SlotWarning,
    deadman: Deadman,
    watchdog: Watchdog,
    chores: Chores,
    failsafe: failsafe::FailsafeState,
    callbacks: callback::Callbacks,
    metadata: metadata::Metadata,
    in_doubt: in_doubt::InDoubt,
    decisions: Decisions,
    published: watch::Sender<Arc<Published>>,
    writes: Arc<Writes>,
    lease_out: watch::Sender<Option<Session>>,
    may_campaign: watch::Sender<bool>,
    /// What this host's disk knows of the region's store.
    region_memory: watch::Sender<Option<Arc<Acceptor>>>,
    /// It could not be written, and that was logged.
    memory_failed: bool,
    /// Who waits for the end of a job.
    replies: Vec<(member::ha::observation::Asked, run::Reply)>,
    last_rule: u16,
    /// The line of the last heartbeat.
    heartbeat: heartbeat::Heartbeat,
    /// It is proven that no other daemon uses this member's name.
    name_proven: bool,
    /// The REST API runs as long as this is kept.
    api: Arc<tokio::sync::Mutex<crate::api::ServerHandle>>,
}

impl Daemon {
    /// Performs a write and folds its answer into the local copy at once.
    async fn write(&self, write: &Write) -> Result<Written, DcsError> {
        self.mirror.write(&self.keys, write).await
    }

    fn remember(&self, decision: serde_json::Value) {
        let mut kept = self.decisions.lock().unwrap_or_else(|e| e.into_inner());
        if kept.len() == DECISIONS_MAX {
            kept.pop_front();
        }
        kept.push_back(decision);
    }
}
