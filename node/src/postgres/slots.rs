//! Replication slots: SQL with given names, no decisions.
//!
//! Every call may be repeated: creating what is there and dropping what is not
//! are successes.

use super::error::Error;
use super::monitor;
use super::session::Session;
use tokio_postgres::error::SqlState;
use topology::Lsn;

/// A physical slot that keeps WAL from this moment on.
pub async fn create_physical(session: &Session, name: &str) -> Result<(), Error> {
    const SQL: &str = "SELECT slot_name \
        FROM pg_catalog.pg_create_physical_replication_slot($1::text, true)";
    let done = session.rows("create physical slot", SQL, &[&name]).await;
    unless(done, &SqlState::DUPLICATE_OBJECT)
}

/// A logical slot in the session's own database. It waits for the transactions that run.
pub async fn create_logical(session: &Session, name: &str, plugin: &str) -> Result<(), Error> {
    const SQL: &str = "SELECT slot_name \
        FROM pg_catalog.pg_create_logical_replication_slot($1::text, $2::text)";
    let done = session.rows("create logical slot", SQL, &[&name, &plugin]).await;
    unless(done, &SqlState::DUPLICATE_OBJECT)
}

/// The same with `failover`, from PostgreSQL 17 on.
pub async fn create_failover(session: &Session, name: &str, plugin: &str) -> Result<(), Error> {
    const SQL: &str = "SELECT slot_name FROM pg_catalog.pg_create_logical_replication_slot(\
        $1::text, $2::text, false, false, true)";
    let done = session.rows("create logical slot", SQL, &[&name, &plugin]).await;
    unless(done, &SqlState::DUPLICATE_OBJECT)
}

/// The libraries that may be used as plugins; `None`: the server knows no such list.
pub async fn allowed_plugins(session: &Session) -> Result<Option<String>, Error> {
    const WHAT: &str = "output_plugin_libraries";
    const SQL: &str = "SELECT pg_catalog.current_setting('output_plugin_libraries', true)";
    let row = session.row(WHAT, SQL, &[]).await?;
    row.try_get(0).map_err(|_| Error::Answer { what: WHAT, field: WHAT })
}

/// Fails while a client streams from it.
pub async fn drop(session: &Session, name: &str) -> Result<(), Error> {
    const SQL: &str = "SELECT pg_catalog.pg_drop_replication_slot($1::text)";
    let done = session.rows("drop slot", SQL, &[&name]).await;
    unless(done, &SqlState::UNDEFINED_OBJECT)
}

/// The same, and the session that uses it is ended first.
pub async fn take(session: &Session, name: &str) -> Result<(), Error> {
    const WHAT: &str = "end of the reader of a slot";
    const SQL: &str = "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(active_pid)) \
        FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text AND active_pid IS NOT NULL";
    for _ in 0..LOOKS_MAX {
        let row = session.row(WHAT, SQL, &[&name]).await?;
        let used: i64 = row.try_get(0).map_err(|_| Error::Answer { what: WHAT, field: "count" })?;
        if used == 0 {
            break;
        }
        tokio::time::sleep(ENDING_PACE).await;
    }
    drop(session, name).await
}

/// Moves a physical slot forward; one that is further already, or reserves no WAL, stays.
pub async fn advance(session: &Session, name: &str, to: Lsn) -> Result<(), Error> {
    const SQL: &str = "SELECT pg_catalog.pg_replication_slot_advance($1::text, $2::text::pg_lsn) \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text \
         AND restart_lsn < $2::text::pg_lsn";
    let to = to.to_string();
    session.rows("advance slot", SQL, &[&name, &to]).await.map(std::mem::drop)
}

/// Moves a standby's copy of a logical slot of the session's own database, by decoding. One
/// that is further already stays: PostgreSQL would take that for an error.
pub async fn advance_logical(session: &Session, name: &str, to: Lsn) -> Result<(), Error> {
    const SQL: &str = "SELECT pg_catalog.pg_replication_slot_advance($1::text, $2::text::pg_lsn) \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text \
         AND confirmed_flush_lsn < $2::text::pg_lsn \
         AND pg_catalog.pg_last_wal_replay_lsn() >= $2::text::pg_lsn";
    let to = to.to_string();
    session.rows("advance logical slot", SQL, &[&name, &to]).await.map(std::mem::drop)
}

/// All slots of a primary; a standby is asked in vain.
pub async fn of_primary(session: &Session) -> Result<Vec<monitor::Slot>, Error> {
    const WHAT: &str = "slots of the leader";
    const SQL: &str = "SELECT pg_catalog.json_agg(pg_catalog.row_to_json(s))::text \
        FROM pg_catalog.pg_replication_slots s WHERE NOT pg_catalog.pg_is_in_recovery()";
    let row = session.row(WHAT, SQL, &[]).await?;
    let unclear = || Error::Answer { what: WHAT, field: "slots" };
    let text: Option<String> = row.try_get(0).map_err(|_| unclear())?;
    serde_json::from_str(&text.ok_or_else(unclear)?).map_err(|_| unclear())
}

/// Has a primary write which transactions run, for slots that standbys make: PostgreSQL 16.
pub async fn log_snapshot(session: &Session) -> Result<(), Error> {
    const SQL: &str = "SELECT pg_catalog.pg_log_standby_snapshot()::text";
    session.rows("running transactions", SQL, &[]).await.map(std::mem::drop)
}

/// Ends all sessions of this name, and waits until they are gone.
pub async fn end_sessions(session: &Session, name: &str) -> Result<(), Error> {
    const WHAT: &str = "end of work on slots";
    const SQL: &str = "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) \
        FROM pg_catalog.pg_stat_activity WHERE application_name = $1::text \
        AND usename = current_user AND pid <> pg_catalog.pg_backend_pid()";
    loop {
        let row = session.row(WHAT, SQL, &[&name]).await?;
        let left: i64 = row.try_get(0).map_err(|_| Error::Answer { what: WHAT, field: "count" })?;
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(ENDING_PACE).await;
    }
}

/// How many times it is looked whether a reader has ended.
const LOOKS_MAX: usize = 20;
/// How often it is looked whether a session has ended.
const ENDING_PACE: std::time::Duration = std::time::Duration::from_millis(10);

/// The server has no place for another slot.
pub fn is_full(error: &Error) -> bool {
    has_code(error, &[SqlState::CONFIGURATION_LIMIT_EXCEEDED])
}

/// WAL that the copy of a slot needs is not there, or the copy cannot be moved at all.
pub fn is_useless(error: &Error) -> bool {
    has_code(error, &[SqlState::UNDEFINED_FILE, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE])
}

fn has_code(error: &Error, codes: &[SqlState]) -> bool {
    matches!(error, Error::Sql { source, .. } if source.code().is_some_and(|c| codes.contains(c)))
}

fn unless<T>(done: Result<T, Error>, fine: &SqlState) -> Result<(), Error> {
    match done {
        Err(Error::Sql { source, .. }) if source.code() == Some(fine) => Ok(()),
        other => other.map(std::mem::drop),
    }
}
