//! `GET /metrics`: numbers for Prometheus under the names dashboards know.
//!
//! Metrics are rows: name, type, help, value. A row without a value is left
//! out.

use super::slots::SlotReport;
use super::status::{Duty, Facts};
use jiff::Timestamp;
use std::fmt::Write;
use topology::MemberRole;

pub(crate) struct Metric {
    pub name: &'static str,
    pub kind: &'static str,
    pub help: &'static str,
    pub value: fn(&Facts) -> Option<String>,
}

/// From this version on a standby says how it gets its log.
const STREAMING_KNOWN_FROM: i32 = 90_600;

const STATES_NOTE: &str = "# Values: 0=initdb, 1=initdb_failed, 2=custom_bootstrap, \
    3=custom_bootstrap_failed, 4=creating_replica, 5=running, 6=starting, \
    7=bootstrap_starting, 8=start_failed, 9=restarting, 10=restart_failed, 11=stopping, \
    12=stopped, 13=stop_failed, 14=crashed\n";

const fn gauge(
    name: &'static str,
    help: &'static str,
    value: fn(&Facts) -> Option<String>,
) -> Metric {
    Metric { name, kind: "gauge", help, value }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    value: fn(&Facts) -> Option<String>,
) -> Metric {
    Metric { name, kind: "counter", help, value }
}

pub(crate) const METRICS: &[Metric] = &[
    gauge("patroni_version", "Patroni semver without periods.", |_| Some(version())),
    gauge("patroni_postgres_running", "Value is 1 if Postgres is running, 0 otherwise.", |f| {
        flag(f.is_running)
    }),
    gauge("patroni_postmaster_start_time", "Epoch seconds since Postgres started.", |f| {
        Some(seconds(f.monitor.map(|m| m.postmaster_start_time.as_str())))
    }),
    gauge("patroni_primary", "Value is 1 if this node is the leader, 0 otherwise.", |f| {
        flag(f.role == MemberRole::Primary)
    }),
    counter(
        "patroni_xlog_location",
        "Current location of the Postgres transaction log, 0 if this node is not the leader.",
        |f| number(f.monitor.filter(|m| !m.in_recovery).and_then(|m| m.flushed).map_or(0, |l| l.0)),
    ),
    gauge(
        "patroni_standby_leader",
        "Value is 1 if this node is the standby_leader, 0 otherwise.",
        |f| flag(f.role == MemberRole::StandbyLeader),
    ),
    gauge("patroni_replica", "Value is 1 if this node is a replica, 0 otherwise.", |f| {
        flag(f.role == MemberRole::Replica)
    }),
    gauge("patroni_sync_standby", "Value is 1 if this node is a sync standby, 0 otherwise.", |f| {
        flag(f.duty == Some(Duty::Sync))
    }),
    gauge(
        "patroni_quorum_standby",
        "Value is 1 if this node is a quorum standby, 0 otherwise.",
        |f| flag(f.duty == Some(Duty::Quorum)),
    ),
    counter(
        "patroni_xlog_received_location",
        "Current location of the received Postgres transaction log, \
         0 if this node is not a replica.",
        |f| number(standby(f).and_then(|m| m.receive.or(m.replay)).map_or(0, |l| l.0)),
    ),
    counter(
        "patroni_xlog_replayed_location",
        "Current location of the replayed Postgres transaction log, \
         0 if this node is not a replica.",
        |f| number(standby(f).and_then(|m| m.replay).map_or(0, |l| l.0)),
    ),
    gauge(
        "patroni_xlog_replayed_timestamp",
        "Current timestamp of the replayed Postgres transaction log, 0 if null.",
        |f| Some(seconds(standby(f).and_then(|m| m.replayed_at.as_deref()))),
    ),
    gauge("patroni_xlog_paused", "Value is 1 if the Postgres xlog is paused, 0 otherwise.", |f| {
        flag(standby(f).is_some_and(|m| m.replay_paused))
    }),
    gauge("patroni_postgres_streaming", "Value is 1 if Postgres is streaming, 0 otherwise.", |f| {
        replicates(f, "streaming")
    }),
    gauge(
        "patroni_postgres_in_archive_recovery",
        "Value is 1 if Postgres is replicating from archive, 0 otherwise.",
        |f| replicates(f, "in archive recovery"),
    ),
    gauge(
        "patroni_postgres_server_version",
        "Version of Postgres (if running), 0 otherwise.",
        |f| Some(f.monitor.map_or(0, |m| m.server_version).to_string()),
    ),
    gauge("patroni_cluster_unlocked", "Value is 1 if the cluster is unlocked, 0 if locked.", |f| {
        flag(f.is_unlocked())
    }),
    gauge(
        "patroni_failsafe_mode_is_active",
        "Value is 1 if failsafe mode is active, 0 if inactive.",
        |f| flag(f.is_failsafe_active()),
    ),
    gauge(
        "patroni_postgres_timeline",
        "Postgres timeline of this node (if running), 0 otherwise.",
        |f| number(f.monitor.and_then(|m| m.timeline).map_or(0, |t| t.0.into())),
    ),
    gauge(
        "patroni_dcs_last_seen",
        "Epoch timestamp when DCS was last contacted successfully by Patroni.",
        |f| number(f.published.dcs_last_seen),
    ),
    gauge("patroni_pending_restart", "Value is 1 if the node needs a restart, 0 otherwise.", |f| {
        flag(f.published.pending_restart.is_some())
    }),
    gauge("patroni_is_paused", "Value is 1 if auto failover is disabled, 0 otherwise.", |f| {
        flag(f.published.paused)
    }),
    gauge("patroni_postgres_state", "Numeric representation of Postgres state.", |f| {
        let unknown = f.state_text() == "unknown";
        Some(if unknown { "-1".into() } else { f.published.state.number().to_string() })
    }),
    gauge("patroni_failover_priority", "Failover priority of this node.", |f| {
        Some(f.published.tags.failover_priority().to_string())
    }),
    gauge(
        "matriarch_watchdog_usable",
        "Value is 1 if a watchdog can reset this machine when its daemon hangs, 0 otherwise.",
        |f| flag(f.published.has_watchdog),
    ),
    gauge(
        "matriarch_remote_receive_lag_bytes",
        "WAL of the remote cluster that this standby leader has yet to receive.",
        |f| number(f.remote_lag()?.receive_bytes?),
    ),
    gauge(
        "matriarch_remote_replay_lag_bytes",
        "WAL of the remote cluster that this standby leader has yet to replay.",
        |f| number(f.remote_lag()?.replay_bytes?),
    ),
    gauge(
        "matriarch_remote_replay_lag_seconds",
        "Age of the last commit that this standby leader has replayed, 0 if it has replayed all.",
        |f| Some(f.remote_lag()?.replay_seconds()?.to_string()),
    ),
    gauge(
        "matriarch_citus_settled",
        "Value is 1 if pg_dist_node and its copies are as the store wants them, 0 otherwise.",
        |f| flag(f.published.citus?.is_settled),
    ),
    counter(
        "matriarch_citus_repairs_total",
        "Rounds of the coordinator's leader that had to change pg_dist_node.",
        |f| number(f.published.citus?.counts.repairs),
    ),
    counter(
        "matriarch_citus_pauses_total",
        "How often the writers of a group were held while its leader changed.",
        |f| number(f.published.citus?.counts.pauses),
    ),
    counter(
        "matriarch_citus_pauses_given_up_total",
        "Pauses that ended without a new leader of their group.",
        |f| number(f.published.citus?.counts.given_up),
    ),
    gauge(
        "matriarch_citus_pause_seconds",
        "For how long the writers of a group have been held, 0 if none are.",
        |f| {
            let since = f.published.citus?.paused_since;
            Some(since.map_or(0.0, |since| f.now.since(since) as f64 / 1e3).to_string())
        },
    ),
];

/// All rows as Prometheus reads them.
pub(crate) fn render(facts: &Facts) -> String {
    let mut out = String::new();
    let labels = format!(
        "{{scope=\"{}\",name=\"{}\"}}",
        escape(&facts.published.scope),
        escape(facts.published.name.as_str())
    );
    for metric in METRICS {
        let Some(value) = (metric.value)(facts) else {
            continue;
        };
        let (name, kind, help) = (metric.name, metric.kind, metric.help);
        let note = if name == "patroni_postgres_state" { STATES_NOTE } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "# HELP {name} {help}\n{note}# TYPE {name} {kind}\n{name}{labels} {value}\n"
        );
    }
    write_counts(facts, &mut out);
    write_readiness(facts, &mut out);
    for metric in SLOT_METRICS {
        write_slots(facts, metric, &mut out);
    }
    write_holders(facts, &mut out);
    out
}

struct SlotMetric {
    name: &'static str,
    help: &'static str,
    value: fn(&SlotReport) -> Option<String>,
}

const SLOT_METRICS: &[SlotMetric] = &[
    SlotMetric {
        name: "matriarch_slot_active",
        help: "Value is 1 if this replication slot is in use, 0 otherwise.",
        value: |slot| flag(slot.active),
    },
    SlotMetric {
        name: "matriarch_slot_distance_bytes",
        help: "WAL that this replication slot keeps: from its restart_lsn to the end of the log.",
        value: |slot| number(slot.distance_bytes?),
    },
    SlotMetric {
        name: "matriarch_slot_safe_bytes",
        help: "WAL that can be written before this replication slot may be lost by \
               max_slot_wal_keep_size.",
        value: |slot| Some(slot.safe_bytes?.to_string()),
    },
    SlotMetric {
        name: "matriarch_slot_lost",
        help: "Value is 1 if the WAL that this replication slot needs is gone, 0 otherwise.",
        value: |slot| flag(slot.wal_status.as_deref() == Some("lost")),
    },
];

/// Ours alone: one line for each slot of the own server.
fn write_slots(facts: &Facts, metric: &SlotMetric, out: &mut String) {
    let published = facts.published;
    let known = published.slots.iter().filter_map(|slot| Some((slot, (metric.value)(slot)?)));
    let (scope, member) = (escape(&published.scope), escape(published.name.as_str()));
    let name = metric.name;
    for (index, (slot, value)) in known.enumerate() {
        if index == 0 {
            // Writing to a string cannot fail.
            let _ = write!(out, "# HELP {name} {}\n# TYPE {name} gauge\n", metric.help);
        }
        let labels = [("slot", &slot.name), ("type", &slot.kind)];
        let labels = labels.map(|(key, value)| format!("{key}=\"{}\"", escape(value))).join(",");
        let _ = writeln!(out, "{name}{{scope=\"{scope}\",name=\"{member}\",{labels}}} {value}");
    }
}

/// Ours alone: words of each slot, as labels.
fn write_holders(facts: &Facts, out: &mut String) {
    const NAME: &str = "matriarch_slot_info";
    let published = facts.published;
    let (scope, member) = (escape(&published.scope), escape(published.name.as_str()));
    let help =
        "Value is always 1: the holder of this replication slot, and its wal_status, as labels.";
    for (index, slot) in published.slots.iter().enumerate() {
        if index == 0 {
            // Writing to a string cannot fail.
            let _ = write!(out, "# HELP {NAME} {help}\n# TYPE {NAME} gauge\n");
        }
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        let labels = [
            ("slot", slot.name.clone()),
            ("type", slot.kind.clone()),
            ("holder", word(&slot.holder)),
            ("wal_status", word(&slot.wal_status)),
        ];
        let labels = labels.map(|(key, value)| format!("{key}=\"{}\"", escape(&value))).join(",");
        let _ = writeln!(out, "{NAME}{{scope=\"{scope}\",name=\"{member}\",{labels}}} 1");
    }
}

/// Ours alone, where permanent logical slots are kept.
fn write_readiness(facts: &Facts, out: &mut String) {
    const NAME: &str = "matriarch_logical_slot_ready";
    let published = facts.published;
    if published.logical_slots.is_empty() {
        return;
    }
    let (scope, name) = (escape(&published.scope), escape(published.name.as_str()));
    let help = "Value is 1 if a reader of this permanent logical slot can go on here, 0 otherwise.";
    // Writing to a string cannot fail.
    let _ = write!(out, "# HELP {NAME} {help}\n# TYPE {NAME} gauge\n");
    for (slot, word) in &published.logical_slots {
        let is_ready = u8::from(word == "ready");
        let slot = escape(slot);
        let _ =
            writeln!(out, "{NAME}{{scope=\"{scope}\",name=\"{name}\",slot=\"{slot}\"}} {is_ready}");
    }
}

/// Ours alone: what this daemon writes to the store, for each document.
fn write_counts(facts: &Facts, out: &mut String) {
    const NAME: &str = "matriarch_store_writes_total";
    let (scope, name) = (&facts.published.scope, facts.published.name.as_str());
    let labels = format!("scope=\"{}\",name=\"{}\"", escape(scope), escape(name));
    let help = "Writes of this daemon that the store has taken, by document.";
    // Writing to a string cannot fail.
    let _ = write!(out, "# HELP {NAME} {help}\n# TYPE {NAME} counter\n");
    for (document, count) in facts.published.writes.rows() {
        let _ = writeln!(out, "{NAME}{{{labels},document=\"{document}\"}} {count}");
    }
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn standby<'a>(facts: &'a Facts) -> Option<&'a super::published::ServerStatus> {
    facts.monitor.filter(|m| m.in_recovery)
}

fn replicates(facts: &Facts, how: &str) -> Option<String> {
    let known = facts.monitor.is_some_and(|m| m.server_version >= STREAMING_KNOWN_FROM);
    if known { flag(facts.replication_state() == Some(how)) } else { None }
}

fn flag(value: bool) -> Option<String> {
    number(value.into())
}

fn number(value: u64) -> Option<String> {
    Some(value.to_string())
}

/// `4.1.5` as `040105`.
fn version() -> String {
    topology::member::PATRONI_VERSION.split('.').map(|part| format!("{part:0>2}")).collect()
}

/// A time as PostgreSQL prints it, in seconds since 1970; 0 when unknown.
fn seconds(text: Option<&str>) -> String {
    let read = text.and_then(|t| t.parse::<Timestamp>().ok());
    match read.map(|t| t.as_microsecond()) {
        None => "0".to_string(),
        Some(micros) => (micros as f64 / 1e6).to_string(),
    }
}
