//! What a running server says about itself, in one round trip.
//!
//! The statement is prepared once per session. Every part that only a primary
//! or only a standby may ask stands in a CASE; a server that is promoted in
//! the middle of it may answer with an error, which means "ask again".
//!
//! A standby's timeline is the newest that its receiver, its minimum recovery
//! point or its last restart point names: no SQL function tells the one it
//! replays. The last two lag behind by minutes, so a standby whose receiver has
//! gone with its upstream also looks at the log it has: a segment is named after
//! the timeline it was received on.

use super::error::Error;
use super::parameters::RECOVERY;
use super::session::Session;
use super::units::Nature;
use serde::{Deserialize, Deserializer, Serialize};
use standby::slots::{Kind, Xid};
use tokio_postgres::Row;
use topology::{Lsn, SystemId, Timeline};

const WHAT: &str = "monitoring query";

/// What `ServerStatus` is read from.
macro_rules! status_columns {
    () => {
        "\
SELECT in_recovery,
  CASE WHEN in_recovery THEN GREATEST(
      (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()),
      (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()), w.received_tli,
      CASE WHEN w.received_tli IS NULL THEN
        (SELECT pg_catalog.max(('x' || pg_catalog.left(name, 8))::bit(32)::int)
         FROM pg_catalog.pg_ls_dir('pg_wal') name WHERE name ~ '^[0-9A-F]{24}$') END)
    ELSE ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(
      pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END::bigint AS timeline,
  CASE WHEN in_recovery THEN NULL ELSE pg_catalog.pg_current_wal_flush_lsn() END::text
    AS flushed,
  CASE WHEN in_recovery THEN GREATEST(pg_catalog.pg_last_wal_receive_lsn(), w.written_lsn)
    END::text AS received,
  CASE WHEN in_recovery THEN pg_catalog.pg_last_wal_replay_lsn() END::text AS replayed,
  CASE WHEN in_recovery THEN pg_catalog.pg_is_wal_replay_paused() ELSE false END
    AS replay_paused,
  pg_catalog.to_char(CASE WHEN in_recovery THEN pg_catalog.pg_last_xact_replay_timestamp() END
    AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00:00' AS replayed_at,
  CASE WHEN in_recovery THEN GREATEST(0, EXTRACT(epoch FROM pg_catalog.clock_timestamp()
    - pg_catalog.pg_last_xact_replay_timestamp()) * 1000) END::bigint AS replay_age_ms,
  w.status AS receiver_state, w.latest_end_lsn::text AS latest_end,
  pg_catalog.to_char(pg_catalog.pg_postmaster_start_time() AT TIME ZONE 'UTC',
    'YYYY-MM-DD HH24:MI:SS.US') || '+00:00' AS started_at,
  pg_catalog.current_setting('server_version_num')::int AS server_version,
  (SELECT coalesce(pg_catalog.json_agg(pg_catalog.row_to_json(r)), '[]') FROM (
    SELECT usename, application_name, client_addr, state, sync_state, sync_priority,
      sent_lsn, write_lsn, flush_lsn, replay_lsn FROM pg_catalog.pg_stat_replication) r)::text
    AS replication"
    };
}

macro_rules! status_tables {
    () => {
        "
FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery) me
LEFT JOIN pg_catalog.pg_stat_wal_receiver w ON true"
    };
}

/// A tenth of the work of the whole question, for callers that come by the thousand.
const STATUS_SQL: &str = concat!(status_columns!(), status_tables!());

/// Where the log of a server ends that was a primary a moment ago. A third of the work
/// of `STATUS_SQL`.
const PRIMARY_SQL: &str = "\
SELECT CASE WHEN NOT in_recovery THEN ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(
    pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END::bigint AS timeline,
  CASE WHEN NOT in_recovery THEN pg_catalog.pg_current_wal_flush_lsn() END::text AS flushed
FROM pg_catalog.pg_is_in_recovery() in_recovery";

const SQL: &str = concat!(
    status_columns!(),
    ",
  CASE WHEN in_recovery THEN NULL ELSE pg_catalog.pg_current_wal_lsn() END::text AS written,
  w.received_tli::bigint AS receiver_timeline, w.sender_host, w.sender_port,
  (SELECT system_identifier::text FROM pg_catalog.pg_control_system()) AS system_id,
  pg_catalog.current_setting('primary_conninfo', true) AS primary_conninfo,
  pg_catalog.current_setting('primary_slot_name', true) AS primary_slot_name,
  pg_catalog.current_setting('synchronous_standby_names') AS synchronous_standby_names,
  pg_catalog.current_setting('synchronous_commit') AS synchronous_commit,
  pg_catalog.current_setting('wal_level') AS wal_level,
  EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE backend_type = 'checkpointer'
    AND wait_event IN ('CheckpointerMain', 'CheckpointWriteDelay')) AS checkpointer_rests,
  (SELECT coalesce(pg_catalog.json_agg(pg_catalog.row_to_json(s)), '[]')
    FROM pg_catalog.pg_replication_slots s)::text AS slots,
  (SELECT coalesce(pg_catalog.json_agg(pg_catalog.row_to_json(p)), '[]') FROM (
    SELECT name, vartype AS kind, unit, pg_catalog.current_setting(name) AS old_value,
      coalesce((SELECT f.setting FROM pg_catalog.pg_file_settings f
        WHERE pg_catalog.lower(f.name) = pg_catalog.lower(s.name)
        ORDER BY f.seqno DESC LIMIT 1), boot_val) AS new_value
      FROM pg_catalog.pg_settings s WHERE pending_restart AND name <> 'hot_standby') p)::text
    AS pending_restart",
    status_tables!()
);

/// One walsender, as the REST API prints it; the positions stay with us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Walsender {
    pub usename: Option<String>,
    pub application_name: String,
    pub client_addr: Option<String>,
    pub state: Option<String>,
    pub sync_state: Option<String>,
    pub sync_priority: Option<i64>,
    #[serde(skip_serializing, deserialize_with = "lsn")]
    pub sent_lsn: Option<Lsn>,
    #[serde(skip_serializing, deserialize_with = "lsn")]
    pub write_lsn: Option<Lsn>,
    #[serde(skip_serializing, deserialize_with = "lsn")]
    pub flush_lsn: Option<Lsn>,
    #[serde(skip_serializing, deserialize_with = "lsn")]
    pub replay_lsn: Option<Lsn>,
}

/// One replication slot: what every version shows of it, and what newer ones do.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Slot {
    #[serde(rename = "slot_name")]
    pub name: String,
    /// `physical` or `logical`.
    pub slot_type: String,
    pub active: bool,
    pub temporary: bool,
    #[serde(deserialize_with = "lsn")]
    pub restart_lsn: Option<Lsn>,
    #[serde(rename = "confirmed_flush_lsn", deserialize_with = "lsn")]
    pub confirmed_flush: Option<Lsn>,
    /// A transaction id; JSON has it as a text.
    pub xmin: Option<String>,
    pub catalog_xmin: Option<String>,
    pub database: Option<String>,
    pub plugin: Option<String>,
    /// `lost`: the WAL it needs is gone.
    pub wal_status: Option<String>,
    /// Bytes that can be written before it may be lost.
    #[serde(default)]
    pub safe_wal_size: Option<i64>,
    /// PostgreSQL 16: rows that it needs are gone.
    #[serde(default)]
    pub conflicting: Option<bool>,
    /// PostgreSQL 17.
    #[serde(default)]
    pub invalidation_reason: Option<String>,
    #[serde(default)]
    pub failover: Option<bool>,
    #[serde(default)]
    pub synced: Option<bool>,
}

impl Slot {
    /// What the rules read of it.
    pub fn seen(&self) -> standby::slots::Slot {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let kind = match self.slot_type.as_str() {
            "physical" => Kind::Physical,
            _ => Kind::Logical { database: text(&self.database), plugin: text(&self.plugin) },
        };
        standby::slots::Slot {
            name: self.name.clone(),
            catalog_xmin: self.catalog_xmin.as_deref().and_then(|id| id.parse().ok()).map(Xid),
            holds_rows: self.xmin.is_some() || self.catalog_xmin.is_some(),
            is_lost: self.wal_status.as_deref() == Some("lost")
                || self.conflicting == Some(true)
                || self.invalidation_reason.is_some(),
            kind,
            active: self.active,
            restart_lsn: self.restart_lsn,
            confirmed_flush: self.confirmed_flush,
            failover: self.failover == Some(true),
            synced: self.synced == Some(true),
        }
    }
}

/// A setting whose new value waits for a restart, as `SHOW` prints values.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Waiting")]
pub struct Pending {
    pub name: String,
    pub old_value: Option<String>,
    pub new_value: Option<String>,
}

/// The new value is what the files say, which is what the next start takes.
#[derive(Deserialize)]
struct Waiting {
    name: String,
    kind: String,
    unit: Option<String>,
    old_value: Option<String>,
    new_value: Option<String>,
}

impl From<Waiting> for Pending {
    fn from(row: Waiting) -> Pending {
        let nature = Nature::new(&row.kind, row.unit.as_deref());
        let new_value = row.new_value.map(|text| nature.shown(&text));
        Pending { name: row.name, old_value: row.old_value, new_value }
    }
}

/// What the REST API tells of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerStatus {
    pub in_recovery: bool,
    pub timeline: Option<Timeline>,
    /// A primary's end of WAL, safe on disk.
    pub flushed: Option<Lsn>,
    pub receive: Option<Lsn>,
    pub replay: Option<Lsn>,
    pub replay_paused: bool,
    pub replayed_at: Option<String>,
    /// Since the last replayed commit, by the clocks of both machines.
    pub replay_age_ms: Option<i64>,
    /// `streaming`, when it is.
    pub receiver_state: Option<String>,
    /// The upstream's end of WAL, as it last told.
    pub latest_end: Option<Lsn>,
    pub postmaster_start_time: String,
    pub server_version: i32,
    pub replication: Vec<Walsender>,
}

/// What a beat looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    pub status: ServerStatus,
    /// A primary's end of WAL, handed to the system.
    pub written: Option<Lsn>,
    pub receiver_timeline: Option<Timeline>,
    pub sender_host: Option<String>,
    pub sender_port: Option<u16>,
    pub system_id: SystemId,
    pub slots: Vec<Slot>,
    pub primary_conninfo: Option<String>,
    pub primary_slot_name: Option<String>,
    pub synchronous_standby_names: String,
    pub synchronous_commit: String,
    pub wal_level: String,
    /// The checkpointer waits, with its files read.
    pub checkpointer_rests: bool,
    pub pending_restart: Vec<Pending>,
    /// Settings of recovery that wait for a restart. Those of a standby are the
    /// daemon's to bring about and no operator's.
    pub recovery_waits: Vec<String>,
}

impl ServerStatus {
    /// How far this server's log goes: a primary's flushed end, a standby's
    /// received or replayed one, whichever is larger.
    pub fn position(&self) -> Option<Lsn> {
        if self.in_recovery { self.receive.max(self.replay) } else { self.flushed }
    }

    pub fn is_streaming(&self) -> bool {
        self.receiver_state.as_deref() == Some("streaming")
    }
}

/// Asks the server of `session`.
pub async fn read(session: &Session) -> Result<Monitor, Error> {
    let row = session.row(WHAT, SQL, &[]).await?;
    let row = Answer(&row);
    let (recovery, pending_restart) = apart(row.json("pending_restart")?);
    Ok(Monitor {
        status: row.status()?,
        written: row.lsn("written")?,
        receiver_timeline: row.timeline("receiver_timeline")?,
        sender_host: row.get("sender_host")?,
        sender_port: row.get::<Option<i32>>("sender_port")?.and_then(|p| p.try_into().ok()),
        system_id: SystemId(row.get("system_id")?),
        slots: row.json("slots")?,
        primary_conninfo: row.word("primary_conninfo")?,
        primary_slot_name: row.word("primary_slot_name")?,
        synchronous_standby_names: row.get("synchronous_standby_names")?,
        synchronous_commit: row.get("synchronous_commit")?,
        wal_level: row.get("wal_level")?,
        checkpointer_rests: row.get("checkpointer_rests")?,
        pending_restart,
        recovery_waits: recovery.into_iter().map(|pending| pending.name).collect(),
    })
}

/// Asks the server of `session` only for what the REST API tells.
pub async fn read_status(session: &Session) -> Result<ServerStatus, Error> {
    Answer(&session.row(WHAT, STATUS_SQL, &[]).await?).status()
}

/// The same of a server that was a primary when `before` was read, with nothing asked
/// but where its log ends. `None`: it is a primary no longer.
pub async fn read_primary(
    session: &Session,
    before: &ServerStatus,
) -> Result<Option<ServerStatus>, Error> {
    let row = session.row(WHAT, PRIMARY_SQL, &[]).await?;
    let row = Answer(&row);
    let (timeline, flushed) = (row.timeline("timeline")?, row.lsn("flushed")?);
    Ok(flushed.map(|end| ServerStatus { timeline, flushed: Some(end), ..before.clone() }))
}

/// Settings of recovery, and all others.
fn apart(pending: Vec<Pending>) -> (Vec<Pending>, Vec<Pending>) {
    pending.into_iter().partition(|pending| RECOVERY.contains(&pending.name.as_str()))
}

struct Answer<'a>(&'a Row);

impl<'a> Answer<'a> {
    fn status(&self) -> Result<ServerStatus, Error> {
        Ok(ServerStatus {
            in_recovery: self.get("in_recovery")?,
            timeline: self.timeline("timeline")?,
            flushed: self.lsn("flushed")?,
            receive: self.lsn("received")?,
            replay: self.lsn("replayed")?,
            replay_paused: self.get("replay_paused")?,
            replayed_at: self.get("replayed_at")?,
            replay_age_ms: self.get("replay_age_ms")?,
            receiver_state: self.get("receiver_state")?,
            latest_end: self.lsn("latest_end")?,
            postmaster_start_time: self.get("started_at")?,
            server_version: self.get("server_version")?,
            replication: self.json("replication")?,
        })
    }

    fn get<T: tokio_postgres::types::FromSql<'a>>(&self, field: &'static str) -> Result<T, Error> {
        self.0.try_get(field).map_err(|_| Error::Answer { what: WHAT, field })
    }

    fn lsn(&self, field: &'static str) -> Result<Option<Lsn>, Error> {
        let text: Option<&str> = self.get(field)?;
        let unclear = |_| Error::Answer { what: WHAT, field };
        text.map(|text| text.parse().map_err(unclear)).transpose()
    }

    fn timeline(&self, field: &'static str) -> Result<Option<Timeline>, Error> {
        let number: Option<i64> = self.get(field)?;
        let number = number.and_then(|number| u32::try_from(number).ok());
        Ok(number.filter(|number| *number > 0).map(Timeline))
    }

    /// An empty setting is no setting.
    fn word(&self, field: &'static str) -> Result<Option<String>, Error> {
        Ok(self.get::<Option<String>>(field)?.filter(|text| !text.is_empty()))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, field: &'static str) -> Result<T, Error> {
        let text: &str = self.get(field)?;
        serde_json::from_str(text).map_err(|_| Error::Answer { what: WHAT, field })
    }
}

fn lsn<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Lsn>, D::Error> {
    let text = Option::<String>::deserialize(input)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_value_is_shown_as_the_present_one() {
        let text = r#"{"name":"shared_buffers","kind":"integer","unit":"8kB",
            "old_value":"128MB","new_value":"32768"}"#;
        let pending: Pending = serde_json::from_str(text).unwrap();
        assert_eq!(pending.new_value.as_deref(), Some("256MB"));
        assert_eq!(pending.old_value.as_deref(), Some("128MB"));
    }

    /// As PostgreSQL 15 and 17 show a slot.
    #[test]
    fn a_slot_is_read_from_what_its_version_shows() {
        let old = r#"{"slot_name":"a","plugin":null,"slot_type":"physical","datoid":null,
            "database":null,"temporary":false,"active":false,"active_pid":null,"xmin":"741",
            "catalog_xmin":null,"restart_lsn":"0/3000060","confirmed_flush_lsn":null,
            "wal_status":"reserved","safe_wal_size":null,"two_phase":false}"#;
        let seen = serde_json::from_str::<Slot>(old).unwrap().seen();
        let is_there = standby::slots::Slot::physical("a", Lsn(0x3000060));
        assert_eq!(seen, standby::slots::Slot { holds_rows: true, ..is_there });
        let new = r#"{"slot_name":"l","plugin":"pgoutput","slot_type":"logical","datoid":5,
            "database":"d","temporary":false,"active":true,"active_pid":7,"xmin":null,
            "catalog_xmin":"741","restart_lsn":null,"confirmed_flush_lsn":"0/10",
            "wal_status":"lost","safe_wal_size":null,"two_phase":false,"inactive_since":null,
            "conflicting":false,"invalidation_reason":"wal_removed","failover":true,
            "synced":true}"#;
        let seen = serde_json::from_str::<Slot>(new).unwrap().seen();
        assert!(seen.is_lost && seen.failover && seen.synced && seen.active);
        assert_eq!(seen.kind, Kind::Logical { database: "d".into(), plugin: "pgoutput".into() });
        assert_eq!((seen.restart_lsn, seen.confirmed_flush), (None, Some(Lsn(16))));
    }

    #[test]
    fn settings_of_recovery_wait_apart() {
        let of = |name: &str| Pending { name: name.into(), old_value: None, new_value: None };
        let names = ["recovery_target_timeline", "max_connections", "restore_command"];
        let (recovery, others) = apart(names.map(of).into());
        assert_eq!(recovery, [of("recovery_target_timeline"), of("restore_command")]);
        assert_eq!(others, [of("max_connections")]);
    }

    #[test]
    fn a_walsender_is_printed_as_patroni_prints_it() {
        let text = r#"{"usename":"replicator","application_name":"n2",
            "client_addr":"127.0.0.1","state":"streaming","sync_state":"async",
            "sync_priority":0,"sent_lsn":"0/4000060","write_lsn":null,"flush_lsn":null,
            "replay_lsn":null}"#;
        let sender: Walsender = serde_json::from_str(text).unwrap();
        assert_eq!(sender.sent_lsn, Some(Lsn(67108960)));
        assert_eq!(
            serde_json::to_string(&sender).unwrap(),
            r#"{"usename":"replicator","application_name":"n2","client_addr":"127.0.0.1","#
                .to_string()
                + r#""state":"streaming","sync_state":"async","sync_priority":0}"#
        );
    }
}
