//! `GET /cluster`: the group as one document. Pure.
//!
//! The order of keys, down to "lag before LSN unless both are unknown", is
//! that of the golden dumps.

use super::status::Duty;
use serde_json::{Map, Value, json};
use topology::member::split_url;
use topology::{GroupView, Lsn, MemberName, MemberRecord, MemberRole};

pub fn cluster_json(view: &GroupView, scope: &str) -> Value {
    let members = view.members.iter().map(|(name, record)| member(view, name, &record.value));
    let mut out = Map::new();
    out.insert("members".into(), members.collect());
    if view.is_paused() {
        out.insert("pause".into(), true.into());
    }
    if let Some(switchover) = scheduled_switchover(view) {
        out.insert("scheduled_switchover".into(), switchover);
    }
    out.insert("scope".into(), scope.into());
    Value::Object(out)
}

fn scheduled_switchover(view: &GroupView) -> Option<Value> {
    let request = view.request()?;
    let mut out = Map::new();
    out.insert("at".into(), request.scheduled_at.clone()?.into());
    for (key, name) in [("from", &request.leader), ("to", &request.candidate)] {
        if let Some(name) = name {
            out.insert(key.into(), json!(name));
        }
    }
    Some(Value::Object(out))
}

fn member(view: &GroupView, name: &MemberName, record: &MemberRecord) -> Value {
    let role = role(view, name, record);
    let mut out = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(key.to_string(), value);
        }
    };
    put("name", Some(json!(name)));
    put("role", Some(role.into()));
    let streams = record.replication_state.clone().filter(|_| role != "leader");
    put("state", Some(streams.unwrap_or_else(|| record.state.clone()).into()));
    put("api_url", record.api_url.clone().map(Value::from));
    let address = record.conn_url.as_deref().and_then(split_url);
    put("host", address.as_ref().map(|a| a.0.clone().into()));
    put("port", address.as_ref().map(|a| a.1.into()));
    put("timeline", record.timeline.map(|t| json!(t)));
    put("pending_restart", record.pending_restart.then_some(true.into()));
    put("pending_restart_reason", record.pending_restart_reason.clone());
    put("scheduled_restart", record.scheduled_restart.clone());
    put("reason", record.reason.clone().map(Value::from));
    let tags = record.tags.published();
    put("tags", (!tags.is_empty()).then_some(Value::Object(tags)));
    if !matches!(role, "leader" | "standby_leader") {
        add_position(view, "receive_lsn", "receive_lag", record.receive_lsn, &mut out);
        add_position(view, "replay_lsn", "replay_lag", record.replay_lsn, &mut out);
        add_position(view, "lsn", "lag", record.xlog_location, &mut out);
    }
    Value::Object(out)
}

fn add_position(
    view: &GroupView,
    lsn_key: &str,
    lag_key: &str,
    lsn: Option<Lsn>,
    out: &mut Map<String, Value>,
) {
    match lsn.filter(|lsn| lsn.0 > 0) {
        Some(lsn) => {
            out.insert(lag_key.into(), lsn.behind(view.optime()).into());
            out.insert(lsn_key.into(), lsn.to_string().into());
        }
        None => {
            out.insert(lsn_key.into(), "unknown".into());
            out.insert(lag_key.into(), "unknown".into());
        }
    }
}

fn role(view: &GroupView, name: &MemberName, record: &MemberRecord) -> &'static str {
    if view.leader_name() == Some(name) {
        let config = view.config.as_ref();
        let standby = record.role == MemberRole::StandbyLeader
            || config.is_some_and(|c| c.value.standby_cluster.is_some());
        return if standby { "standby_leader" } else { "leader" };
    }
    let sync = view.sync.as_ref().map(|s| &s.value);
    if sync.is_some_and(|s| s.is_active() && s.is_standby(name)) {
        let mode = view.config.as_ref().and_then(|c| c.value.raw.get("synchronous_mode"));
        return Duty::of_mode(mode).text();
    }
    "replica"
}
