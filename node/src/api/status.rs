//! What this member is, for all callers: one set of facts, one document.
//!
//! Pure: `facts` joins what the daemon published with an answer of the
//! monitoring query; health checks, metrics and the status body are read off
//! the result, so they never contradict each other.
//!
//! The body's key order is that of the golden dumps; other programs compare.

use super::published::{Published, ServerStatus};
use serde_json::{Map, Value, json};
pub(crate) use topology::report::Duty;
use topology::report::RemoteLag;
use topology::{Lsn, MemberRole, MemberState, Millis};

/// Everything that answers are made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub published: &'a Published,
    pub monitor: Option<&'a ServerStatus>,
    pub now: Millis,
    pub role: MemberRole,
    /// The own lock is believed valid.
    pub is_leader: bool,
    /// `running`, and it answered.
    pub is_running: bool,
    pub duty: Option<Duty>,
}

/// How many lines wait for the thread that writes them when all is well.
const LOG_WAITING_USUAL: usize = 2;

/// Is there a server that could answer the monitoring query?
pub(crate) fn may_query(state: MemberState) -> bool {
    matches!(state, MemberState::Running | MemberState::Restarting | MemberState::Starting)
}

pub(crate) fn facts<'a>(
    published: &'a Published,
    monitor: Option<&'a ServerStatus>,
    now: Millis,
) -> Facts<'a> {
    let monitor = monitor.filter(|_| may_query(published.state));
    let is_leader = published.lock_until.is_some_and(|until| now < until);
    let role = match monitor {
        None => published.role,
        Some(m) if !m.in_recovery => MemberRole::Primary,
        Some(_) if leads_a_standby_group(published, is_leader) => MemberRole::StandbyLeader,
        Some(_) => MemberRole::Replica,
    };
    let is_standby = monitor.is_some_and(|m| m.in_recovery);
    Facts {
        published,
        monitor,
        now,
        role,
        is_leader,
        is_running: published.state == MemberState::Running && monitor.is_some(),
        duty: if is_standby { duty(published) } else { None },
    }
}

fn leads_a_standby_group(published: &Published, is_leader: bool) -> bool {
    published.standby_group && (is_leader || published.role == MemberRole::StandbyLeader)
}

fn duty(published: &Published) -> Option<Duty> {
    let view = published.view.as_ref()?;
    Duty::of_standby(view, &published.name, published.config.as_deref())
}

impl Facts<'_> {
    /// `unknown`: it runs, but did not answer.
    pub(crate) fn state_text(&self) -> &'static str {
        match self.published.state {
            MemberState::Running if !self.is_running => "unknown",
            state => state.text(),
        }
    }

    pub(crate) fn is_unlocked(&self) -> bool {
        self.published.view.as_ref().is_none_or(|view| view.leader.is_none())
    }

    pub(crate) fn is_failsafe_active(&self) -> bool {
        self.published.failsafe_until.is_some_and(|until| self.now < until)
    }

    pub(crate) fn replication_state(&self) -> Option<&'static str> {
        replication_state(self.monitor?, self.published.config.as_deref())
    }

    /// How far a standby leader is behind the remote side.
    pub(crate) fn remote_lag(&self) -> Option<RemoteLag> {
        let monitor = self.monitor.filter(|_| self.role == MemberRole::StandbyLeader)?;
        let end = monitor.latest_end.filter(|_| monitor.is_streaming());
        let age = monitor.replay_age_ms.and_then(|ms| u64::try_from(ms).ok());
        Some(RemoteLag::of(end, monitor.receive, monitor.replay, age))
    }

    /// The end of the group's log, as far as this member has heard of it.
    pub(crate) fn known_end(&self) -> Option<Lsn> {
        let in_store = self.published.view.as_ref().map(|view| view.optime());
        let heard = self.monitor.and_then(|m| m.latest_end);
        in_store.into_iter().chain(heard).max()
    }
}

/// Where `/config` may name an archive.
const RESTORE_COMMANDS: [&str; 3] = [
    "/postgresql/recovery_conf/restore_command",
    "/postgresql/parameters/restore_command",
    "/standby_cluster/restore_command",
];

/// How a standby gets its log, in the words of member keys and status bodies.
///
/// A server without a stream replays from the archive if it has one; `config`
/// is the document in the store, where the archive is named.
pub(crate) fn replication_state(
    monitor: &ServerStatus,
    config: Option<&Value>,
) -> Option<&'static str> {
    let is_command = |value: &Value| value.as_str().is_some_and(|command| !command.is_empty());
    let has_archive = config.is_some_and(|config| {
        let mut named = RESTORE_COMMANDS.iter().filter_map(|path| config.pointer(path));
        named.any(is_command)
    });
    match monitor.in_recovery {
        true if monitor.is_streaming() => Some("streaming"),
        true if has_archive => Some("in archive recovery"),
        _ => None,
    }
}

/// The body of `GET /patroni` and of every health check.
pub fn status_json(published: &Published, monitor: Option<&ServerStatus>, now: Millis) -> Value {
    body(&facts(published, monitor, now))
}

/// The same, from facts that are there already.
pub(crate) fn body(facts: &Facts) -> Value {
    let mut out = Map::new();
    out.insert("state".into(), facts.state_text().into());
    match facts.monitor {
        Some(monitor) => add_query(facts, monitor, &mut out),
        None => {
            out.insert("role".into(), facts.role.text().into());
        }
    }
    add_group(facts, &mut out);
    Value::Object(out)
}

fn add_query(facts: &Facts, monitor: &ServerStatus, out: &mut Map<String, Value>) {
    out.insert("postmaster_start_time".into(), monitor.postmaster_start_time.clone().into());
    out.insert("role".into(), facts.role.text().into());
    out.insert("server_version".into(), monitor.server_version.into());
    out.insert("xlog".into(), positions(monitor));
    if let Some(duty) = facts.duty {
        out.insert(duty.text().into(), true.into());
    }
    out.insert("timeline".into(), json!(monitor.timeline));
    if let Some(state) = facts.replication_state() {
        out.insert("replication_state".into(), state.into());
    }
    if !monitor.replication.is_empty() {
        out.insert("replication".into(), json!(monitor.replication));
    }
}

fn positions(monitor: &ServerStatus) -> Value {
    if !monitor.in_recovery {
        return json!({ "location": monitor.flushed });
    }
    json!({
        "received_location": monitor.receive.or(monitor.replay),
        "replayed_location": monitor.replay,
        "replayed_timestamp": monitor.replayed_at,
        "paused": monitor.replay_paused,
    })
}

/// Ours alone; nothing where nothing is known.
fn shown_lag(lag: RemoteLag) -> Option<Value> {
    let mut out = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(key.to_string(), value);
        }
    };
    put("lsn", lag.end.map(|end| json!(end)));
    put("receive_lag", lag.receive_bytes.map(Value::from));
    put("replay_lag", lag.replay_bytes.map(Value::from));
    put("replay_lag_seconds", lag.replay_seconds().map(Value::from));
    (!out.is_empty()).then_some(Value::Object(out))
}

/// Without what only the daemon that keeps it needs.
fn shown_plan(plan: &Value) -> Value {
    let mut plan = plan.clone();
    if let Some(plan) = plan.as_object_mut() {
        plan.remove("postmaster_start_time");
    }
    plan
}

fn add_group(facts: &Facts, out: &mut Map<String, Value>) {
    let published = facts.published;
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(key.to_string(), value);
        }
    };
    put("pause", published.paused.then_some(true.into()));
    put("cluster_unlocked", facts.is_unlocked().then_some(true.into()));
    put("failsafe_mode_is_active", facts.is_failsafe_active().then_some(true.into()));
    put("dcs_last_seen", Some(published.dcs_last_seen.into()));
    let tags = published.tags.published();
    put("tags", (!tags.is_empty()).then_some(Value::Object(tags)));
    put("database_system_identifier", published.system_id.as_ref().map(|id| json!(id)));
    put("pending_restart", published.pending_restart.as_ref().map(|_| true.into()));
    put("pending_restart_reason", published.pending_restart.clone());
    put("watchdog_failed", published.watchdog_failed.then_some(true.into()));
    put("disk_failed", published.disk_failed.then_some(true.into()));
    put("reason", published.reason.clone().map(Value::from));
    let slots = &published.logical_slots;
    put("logical_slots", (!slots.is_empty()).then(|| json!(slots)));
    let version = topology::member::PATRONI_VERSION;
    let about = json!({"version": version, "scope": published.scope, "name": published.name});
    put("patroni", Some(about));
    put("scheduled_restart", published.scheduled_restart.as_ref().map(shown_plan));
    put("remote", facts.remote_lag().and_then(shown_lag));
    let log = published.log;
    put("logger_queue_size", (log.waiting > LOG_WAITING_USUAL).then(|| log.waiting.into()));
    put("logger_records_lost", (log.lost > 0).then(|| log.lost.into()));
}
