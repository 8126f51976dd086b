//! Questions to one server, each with a deadline.

use super::formation::{Formation, SOON};
use anyhow::{Context, Result};
use ctl::field::MemberPlan;
use std::time::Duration;
use tokio_postgres::{Client, NoTls, Row};

const CALL: Duration = Duration::from_secs(15);

/// One connection to exactly this member, whatever its role.
pub(crate) async fn connect(member: &MemberPlan) -> Result<Client> {
    let database = if member.group.is_some() { "app" } else { "postgres" };
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres password=super-secret dbname={database} \
         connect_timeout=3",
        member.pg_port
    );
    let (client, connection) = tokio::time::timeout(CALL, tokio_postgres::connect(&dsn, NoTls))
        .await
        .with_context(|| format!("{} did not answer", member.name))?
        .with_context(|| format!("{} refuses", member.name))?;
    // Ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) async fn rows(member: &MemberPlan, sql: &str) -> Result<Vec<Row>> {
    let client = connect(member).await?;
    let answer = tokio::time::timeout(CALL, client.query(sql, &[])).await;
    let answer = answer.with_context(|| format!("{}: `{sql}` takes too long", member.name))?;
    answer.with_context(|| format!("{}: `{sql}`", member.name))
}

pub(crate) async fn run(member: &MemberPlan, sql: &str) -> Result<()> {
    let client = connect(member).await?;
    let answer = tokio::time::timeout(CALL, client.batch_execute(sql)).await;
    let answer = answer.with_context(|| format!("{}: `{sql}` takes too long", member.name))?;
    answer.with_context(|| format!("{}: `{sql}`", member.name))
}

/// The first column of the only row.
pub(crate) async fn text(member: &MemberPlan, sql: &str) -> Result<String> {
    let rows = rows(member, sql).await?;
    let row = rows.first().with_context(|| format!("`{sql}` gives no row"))?;
    Ok(row.try_get::<_, Option<String>>(0)?.unwrap_or_default())
}

/// `pg_dist_node`: the row and the port of each group's primary.
pub(crate) async fn nodes(member: &MemberPlan) -> Result<Vec<(i32, u32, u16)>> {
    let sql = "SELECT nodeid::int4, groupid::int4, nodeport::int4 FROM pg_dist_node \
               WHERE noderole = 'primary' ORDER BY groupid";
    let rows = rows(member, sql).await?;
    let whole = |row: &Row| -> Result<_> {
        let (id, group, port): (i32, i32, i32) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok((id, u32::try_from(group)?, u16::try_from(port)?))
    };
    rows.iter().map(whole).collect()
}

pub(crate) async fn started(member: &MemberPlan) -> Result<String> {
    text(member, "SELECT pg_postmaster_start_time()::text").await
}

/// The port that a standby streams from; 0 while it does not.
pub(crate) async fn streams_from(member: &MemberPlan) -> Result<u16> {
    let sql = "SELECT sender_port::text FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    let rows = rows(member, sql).await?;
    let port: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
    Ok(port.and_then(|p| p.parse().ok()).unwrap_or(0))
}

/// Does this server take writes? An error when it does not answer.
pub(crate) async fn is_open(member: &MemberPlan) -> Result<bool> {
    let open = text(member, "SELECT (NOT pg_is_in_recovery())::text").await?;
    Ok(open == "true")
}

/// Waits until these standbys have replayed what the primary has written now.
pub(crate) async fn until_replayed(
    f: &Formation,
    from: &MemberPlan,
    by: &[&MemberPlan],
) -> Result<()> {
    let end = text(from, "SELECT pg_current_wal_flush_lsn()::text").await?;
    let sql = format!("SELECT (pg_last_wal_replay_lsn() >= '{end}')::text");
    for member in by {
        let there = async || text(member, &sql).await.is_ok_and(|yes| yes == "true");
        f.field.until(&format!("{} replays {end}", member.name), SOON, there).await?;
    }
    Ok(())
}
