//! Replication slots: SQL with given names, no decisions.
//!
//! Every call may be repeated: creating what is there and dropping what is not
//! are successes.

use super::error::Error;
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

/// A logical slot in the session's own database.
pub async fn create_logical(session: &Session, name: &str, plugin: &str) -> Result<(), Error> {
    const SQL: &str = "SELECT slot_name \
        FROM pg_catalog.pg_create_logical_replication_slot($1::text, $2::text)";
    let done = session.rows("create logical slot", SQL, &[&name, &plugin]).await;
    unless(done, &SqlState::DUPLICATE_OBJECT)
}

/// Fails while a client streams from it.
pub async fn drop(session: &Session, name: &str) -> Result<(), Error> {
    const SQL: &str = "SELECT pg_catalog.pg_drop_replication_slot($1::text)";
    let done = session.rows("drop slot", SQL, &[&name]).await;
    unless(done, &SqlState::UNDEFINED_OBJECT)
}

/// Moves a physical slot forward; one that is further already, or reserves no WAL, stays.
pub async fn advance(session: &Session, name: &str, to: Lsn) -> Result<(), Error> {
    const SQL: &str = "SELECT pg_catalog.pg_replication_slot_advance($1::text, $2::text::pg_lsn) \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text \
         AND restart_lsn < $2::text::pg_lsn";
    let to = to.to_string();
    session.rows("advance slot", SQL, &[&name, &to]).await.map(std::mem::drop)
}

/// The server has no place for another slot.
pub fn is_full(error: &Error) -> bool {
    let full = &SqlState::CONFIGURATION_LIMIT_EXCEEDED;
    matches!(error, Error::Sql { source, .. } if source.code() == Some(full))
}

fn unless<T>(done: Result<T, Error>, fine: &SqlState) -> Result<(), Error> {
    match done {
        Err(Error::Sql { source, .. }) if source.code() == Some(fine) => Ok(()),
        other => other.map(std::mem::drop),
    }
}
