//! Keeping `pg_dist_node` right: running the statements that `citus` planned.
//!
//! The statements and their order are the citus crate's; this module connects,
//! sends them, and bounds their time. It runs beside the beat, because Citus
//! may hold a statement for long while the lock must still be renewed.

use crate::config::{Citus, Settings};
use crate::postgres::{Instance, Session, Target};
use citus::statement::Authinfo;
use citus::{Desired, GroupNow, Groups, NodeRow, Param, Statement, Terms, Wish};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::types::ToSql;
use topology::{Group, GroupView, MemberRole};

/// One statement; Citus' own cooldown of 10 s lies within.
const STATEMENT: Duration = Duration::from_secs(60);
/// The copies on the workers usually follow in a tenth of a second.
const DAEMON_TRIES: u32 = 50;
const SYNC_TRIES: u32 = 100;
const SYNC_PAUSE: Duration = Duration::from_millis(20);

/// Settings of a coordinator or worker while its region is not to be written.
///
/// A promoted coordinator whose rows still name the other region would decide
/// over that region's transactions, so recovery is off before it opens. New
/// sessions are read-only: clients that ask for a read-write server pass by.
pub(crate) fn quarantine(citus: &Citus) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut set = |name: &str, value: &str| settings.push((name.into(), value.into()));
    if !citus.stand_in {
        set("citus.recover_2pc_interval", "-1");
        set("citus.distributed_deadlock_detection_factor", "-1");
    }
    if citus.group == 0 {
        set("default_transaction_read_only", "on");
    }
    settings
}

/// What a region's own store says of the groups, as rows are made of it.
pub(crate) fn groups_now(views: &BTreeMap<Group, GroupView>) -> Groups {
    let group = |(group, view): (&Group, &GroupView)| {
        let record = view.leader_record()?;
        let leads = record.role == MemberRole::Primary && record.is_running();
        let leader = record.address().filter(|_| leads).map(Into::into);
        Some((group.0?, GroupNow { leader, secondaries: Vec::new() }))
    };
    views.iter().filter_map(group).collect()
}

pub(crate) fn desired(groups: &Groups) -> Desired {
    citus::desired(groups, &BTreeMap::new(), &Wish::default())
}

/// One connection for statements of Citus, which may wait for long.
pub(crate) struct CitusSession(Session);

const APPLICATION: &str = "Patroni citus";
/// A region at rest is read-only for clients, but not for these sessions.
const OPTIONS: &str = " -c idle_in_transaction_session_timeout=0 \
                       -c default_transaction_read_only=off";

impl CitusSession {
    pub(crate) async fn open(target: Target, own: &Citus) -> Result<CitusSession, String> {
        let statement_limit = Duration::ZERO;
        let search_path = citus::statement::schemas(own.stand_in);
        let target = Target { statement_limit, search_path, options: OPTIONS, ..target };
        let opened = Session::connect(&target).await.map(CitusSession);
        opened.map_err(|error| error.with_causes())
    }

    /// Runs one statement; its rows come back as they are.
    pub(crate) async fn run(
        &self,
        statement: &Statement,
    ) -> Result<Vec<tokio_postgres::Row>, String> {
        let owned: Vec<Box<dyn ToSql + Sync + Send>> =
            statement.params().into_iter().map(bind).collect();
        let params: Vec<&(dyn ToSql + Sync)> =
            owned.iter().map(|p| p.as_ref() as &(dyn ToSql + Sync)).collect();
        let sql = statement.sql();
        let query = self.0.client().query(sql.as_ref(), &params);
        let answer = tokio::time::timeout(STATEMENT, query).await;
        let answer = answer.map_err(|_| format!("`{sql}` was not done in {STATEMENT:?}"))?;
        answer.map_err(|e| format!("`{sql}`: {}", said(&e)))
    }

    pub(crate) async fn batch(&self, sql: &str) -> Result<(), String> {
        let answer = tokio::time::timeout(STATEMENT, self.0.client().batch_execute(sql)).await;
        answer.map_err(|_| "the batch was not done in time".to_string())?.map_err(|e| said(&e))
    }

    pub(crate) async fn rows(&self) -> Result<Vec<NodeRow>, String> {
        let rows = self.run(&Statement::ReadNodes).await?;
        let parse = |row: &tokio_postgres::Row| {
            let text: String = row.try_get(0).map_err(|e| e.to_string())?;
            serde_json::from_str(&text).map_err(|e| format!("pg_dist_node: {e}: {text}"))
        };
        rows.iter().map(parse).collect()
    }

    async fn count(&self, statement: &Statement) -> Result<i64, String> {
        let rows = self.run(statement).await?;
        let first = rows.first().ok_or("no row")?;
        first.try_get(0).map_err(|e| e.to_string())
    }
}

fn bind(param: Param) -> Box<dyn ToSql + Sync + Send> {
    match param {
        Param::Int(number) => Box::new(number),
        Param::Text(text) | Param::Secret(Authinfo(text)) => Box::new(text),
    }
}

fn said(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_string())
}

/// What one round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// Addresses were changed.
    pub moved: bool,
    /// Everything is as desired, on the coordinator and its copies.
    pub settled: bool,
}

/// Brings the coordinator's rows to `desired`. `opening`: the region has just
/// become owner, and in-doubt transactions are resolved before it opens.
pub(crate) async fn bring_about(
    settings: Arc<Settings>,
    instance: Instance,
    citus_settings: Citus,
    groups: Groups,
    opening: bool,
) -> Result<Round, String> {
    let here = instance.local_target(&citus_settings.database, APPLICATION);
    let session = CitusSession::open(here, &citus_settings).await?;
    let desired = desired(&groups);
    let rows = session.rows().await?;
    let plan = citus::diff(&desired, &rows, &Terms::default());
    for blocked in &plan.blocked {
        tracing::warn!("pg_dist_node: {blocked}");
    }
    let moved = !plan.in_one_transaction.is_empty();
    for statement in plan.transaction() {
        session.run(&statement).await?;
    }
    if moved {
        tracing::info!("pg_dist_node was brought up to date: {:?}", plan.in_one_transaction);
    }
    if moved || opening {
        synchronise(&session).await?;
        recover(&settings, &citus_settings, &session, &groups).await;
    }
    for statement in &plan.after {
        session.run(statement).await?;
        tracing::info!("pg_dist_node: {statement:?}");
    }
    Ok(Round { moved, settled: plan.blocked.is_empty() && plan.after.is_empty() })
}

/// The copies on the workers. The maintenance daemon was woken by the commit and
/// sends the changed rows only; a push sends the whole schema, so it comes second.
async fn synchronise(session: &CitusSession) -> Result<(), String> {
    if is_synchronised(session, DAEMON_TRIES).await? {
        return Ok(());
    }
    session.run(&Statement::SyncAllNodes).await?;
    if is_synchronised(session, SYNC_TRIES).await? {
        return Ok(());
    }
    Err("copies of pg_dist_node on the workers are behind".to_string())
}

async fn is_synchronised(session: &CitusSession, tries: u32) -> Result<bool, String> {
    for _ in 0..tries {
        if session.count(&Statement::CountUnsynced).await? == 0 {
            return Ok(true);
        }
        tokio::time::sleep(SYNC_PAUSE).await;
    }
    Ok(false)
}

/// In-doubt transactions hold row locks until they are resolved; each node
/// resolves those of its own group only, so every node is asked, all at once.
async fn recover(settings: &Arc<Settings>, own: &Citus, session: &CitusSession, groups: &Groups) {
    let mut workers = JoinSet::new();
    for (number, group) in groups.iter().filter(|(number, _)| **number != own.group) {
        let Some(leader) = group.leader.clone() else { continue };
        let (settings, own, number) = (settings.clone(), own.clone(), *number);
        workers.spawn(async move {
            let login = &settings.postgresql.superuser;
            let (host, port) = (&leader.host, leader.port);
            let there = Target::new(host, port, login, &own.database, APPLICATION);
            let recovered = match CitusSession::open(there, &own).await {
                Ok(there) => there.run(&Statement::RecoverPrepared).await.map(drop),
                Err(why) => Err(why),
            };
            if let Err(why) = recovered {
                tracing::warn!("in-doubt transactions of group {number}: {why}");
            }
        });
    }
    if let Err(why) = session.run(&Statement::RecoverPrepared).await {
        tracing::warn!("in-doubt transactions of the coordinator: {why}");
    }
    while workers.join_next().await.is_some() {}
}

/// Makes the database and the extension (or the stand-in) of a new group.
pub(crate) async fn create_database(
    settings: &Settings,
    instance: &Instance,
    own: &Citus,
) -> Result<(), String> {
    let pg = &settings.postgresql;
    if own.database != pg.database {
        let here = instance.local_target(&pg.database, APPLICATION);
        let session = CitusSession::open(here, own).await?;
        let name = own.database.clone();
        let there = session.run(&Statement::FindDatabase { name: name.clone() }).await?;
        if there.is_empty() {
            session.run(&Statement::CreateDatabase { name }).await?;
        }
    }
    let here = instance.local_target(&own.database, APPLICATION);
    let session = CitusSession::open(here, own).await?;
    if own.stand_in {
        return session.batch(citus::STAND_IN).await;
    }
    session.run(&Statement::CreateExtension).await.map_err(|why| {
        format!("{why}; install the Citus extension for this PostgreSQL on every member")
    })?;
    if let Some(password) = &pg.superuser.password {
        let quoted = password.0.replace('\\', "\\\\").replace('\'', "\\'");
        let authinfo = Authinfo(format!("password='{quoted}'"));
        session.run(&Statement::SetAuthinfo { authinfo }).await?;
    }
    Ok(())
}
