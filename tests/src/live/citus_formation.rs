//! A coordinator, a worker of three members and one of a single member, on the real Citus
//! extension or on the project's SQL stand-in.

use super::ground;
use super::stage::{LONG, SHORT, TTL};
use ctl::demo::has_citus;
use ctl::field::ask::Asker;
use ctl::field::{Field, MemberPlan, Plan};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

pub const COORDINATOR: u32 = 0;
const GROUPS: [Option<u32>; 3] = [Some(0), Some(1), Some(2)];
const REGION: &str = "local";
/// What a node of Citus has by default, without the demand for TLS.
pub const NODE_CONNINFO: &str = "sslmode=prefer keepalives_idle=5 keepalives_interval=2 \
    keepalives_count=3 tcp_user_timeout=5000";
/// A server that is frozen takes a connection and says nothing.
const PATIENCE: Duration = Duration::from_secs(3);

/// Small servers: five of them run on two cores. With three members the commits of group 1
/// need not wait until its old leader has come back.
const SMALL: [usize; 3] = [1, 3, 1];

pub struct Formation {
    pub field: Field,
    pub ask: Asker,
    /// The extension is there; else the stand-in, which has no shards.
    pub is_real: bool,
    /// Members that are not asked: they are frozen or cut off.
    away: Mutex<BTreeSet<String>>,
    dir: Option<TempDir>,
}

/// A row of `pg_dist_node`: group, host, port.
pub type PrimaryRow = (i32, String, i32);

impl Formation {
    /// With the times that a configuration without any has.
    pub async fn raise() -> Formation {
        let mut formation = Formation::prepare(SMALL, |_| {});
        formation.stand_up().await;
        formation
    }

    /// Directory and configurations only; `members` of groups 0, 1 and 2.
    pub fn prepare(members: [usize; 3], change: impl FnOnce(&mut Plan)) -> Formation {
        let pg_bin = ground::programs();
        let forced = std::env::var("MATRIARCH_STAND_IN").is_ok_and(|v| v == "1");
        let is_real = !forced && has_citus(&pg_bin);
        println!("  Citus: {}", if is_real { "the real extension" } else { "the SQL stand-in" });
        let dir = ground::directory("citus");
        let mut plan = plan(members, pg_bin, is_real);
        change(&mut plan);
        let field = Field::prepare(dir.path(), plan, &ground::daemon()).expect("a field");
        let (ask, away) = (Asker::new(), Mutex::default());
        Formation { field, ask, is_real, away, dir: Some(dir) }
    }

    /// Starts what was prepared; waits until all stream and all rows are right.
    pub async fn stand_up(&mut self) {
        ground::start_store(&mut self.field);
        let members: Vec<MemberPlan> = self.field.plan.members().cloned().collect();
        for member in &members {
            self.field.start_member(member).expect("the daemon starts");
        }
        self.healthy().await;
        self.is_wired(LONG).await;
    }

    /// All that are not away.
    pub fn members(&self, group: u32) -> Vec<MemberPlan> {
        let away = self.away.lock().expect("no panic");
        let members = self.field.plan.site(REGION, Some(group)).into_iter();
        members.filter(|member| !away.contains(&member.name)).cloned().collect()
    }

    /// Until all are back this member is not asked, and not waited for.
    pub fn is_away(&self, member: &MemberPlan) {
        self.away.lock().expect("no panic").insert(member.name.clone());
    }

    pub fn all_are_back(&self) {
        self.away.lock().expect("no panic").clear();
    }

    pub async fn until<F: AsyncFnMut() -> bool>(
        &self,
        what: &str,
        limit: Duration,
        question: F,
    ) -> Duration {
        ground::until(&self.field, what, limit, question).await
    }

    /// Every group has one leader, and all others stream from it.
    pub async fn healthy(&self) {
        for group in GROUPS.into_iter().flatten() {
            let members = self.members(group);
            let members: Vec<&MemberPlan> = members.iter().collect();
            let what = format!("a healthy group {group}");
            self.until(&what, LONG, async || self.ask.is_healthy(&members).await).await;
        }
    }

    /// In a synchronous mode only a standby that is counted on may be handed the lock.
    pub async fn is_counted_on(&self, group: u32) {
        let leader = self.leader(group).await;
        let what = format!("a standby of group {group} that commits wait for");
        self.until(&what, LONG, async || {
            let Some(reply) = self.ask.get(&leader, "/cluster").await else { return false };
            let members = reply.body["members"].as_array().cloned().unwrap_or_default();
            members.iter().any(|m| m["role"] == "sync_standby" || m["role"] == "quorum_standby")
        })
        .await;
    }

    pub async fn leader(&self, group: u32) -> MemberPlan {
        self.leader_if_any(group).await.expect("the group has a leader")
    }

    pub async fn leader_if_any(&self, group: u32) -> Option<MemberPlan> {
        let members = self.members(group);
        let members: Vec<&MemberPlan> = members.iter().collect();
        self.ask.primary(&members).await.cloned()
    }

    pub async fn standby(&self, group: u32) -> MemberPlan {
        let leader = self.leader(group).await;
        let mut members = self.members(group).into_iter();
        members.find(|member| member.name != leader.name).expect("the group has a standby")
    }

    /// A metric of the coordinator's leader.
    pub async fn metric(&self, name: &str) -> f64 {
        let leader = self.leader(COORDINATOR).await;
        let reply = self.ask.get(&leader, "/metrics").await.expect("metrics");
        let text = reply.body.as_str().unwrap_or_default().to_string();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not there"))
    }

    /// The rows of every metadata node name the leaders, and all copies are in step.
    pub async fn is_wired(&self, limit: Duration) {
        self.until("the right rows everywhere", limit, async || self.has_right_rows().await).await;
    }

    pub async fn has_right_rows(&self) -> bool {
        for group in GROUPS.into_iter().flatten() {
            let has_copy = group == COORDINATOR || self.is_real;
            if has_copy && !self.has_right_rows_on(group).await {
                return false;
            }
        }
        true
    }

    /// The leader of this group names the leaders of all.
    pub async fn has_right_rows_on(&self, group: u32) -> bool {
        let Some(wanted) = self.wanted_rows().await else { return false };
        let Some(leader) = self.leader_if_any(group).await else { return false };
        let rows = tokio::time::timeout(PATIENCE, self.primary_rows(&leader)).await;
        rows.ok().and_then(Result::ok) == Some(wanted)
    }

    async fn wanted_rows(&self) -> Option<Vec<PrimaryRow>> {
        let mut wanted = Vec::new();
        for group in GROUPS.into_iter().flatten() {
            let leader = self.leader_if_any(group).await?;
            let group = i32::try_from(group).expect("small");
            wanted.push((group, leader.host.clone(), i32::from(leader.pg_port)));
        }
        Some(wanted)
    }

    async fn primary_rows(
        &self,
        at: &MemberPlan,
    ) -> Result<Vec<PrimaryRow>, tokio_postgres::Error> {
        let sql = "SELECT groupid, nodename, nodeport FROM pg_dist_node \
                   WHERE noderole = 'primary' AND isactive ORDER BY groupid";
        let rows = connect(at).await?.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    /// A group's primary row keeps its number whatever becomes of its leader.
    pub async fn numbers(&self) -> Vec<(i32, i32)> {
        let sql = "SELECT groupid, nodeid FROM pg_dist_node \
                   WHERE noderole = 'primary' ORDER BY groupid";
        let leader = self.leader(COORDINATOR).await;
        let rows = connect(&leader).await.expect("it takes connections").query(sql, &[]).await;
        rows.expect("rows").iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    pub async fn switchover(&self, group: u32) -> MemberPlan {
        let (leader, standby) = (self.leader(group).await, self.standby(group).await);
        let body = json!({"leader": leader.name, "candidate": standby.name});
        let reply = self.send(&leader, "/switchover", body).await;
        assert_eq!(reply.0, 200, "{}", reply.1);
        standby
    }

    pub async fn send(&self, to: &MemberPlan, path: &str, body: Value) -> (u16, Value) {
        let answer = self.ask.send(Method::POST, to, path, Some(&body)).await;
        let answer = answer.unwrap_or_else(|| panic!("{} does not answer POST {path}", to.name));
        (answer.status, answer.body)
    }

    pub async fn sql(&self, at: &MemberPlan, sql: &str) {
        let client = connect(at).await.expect("it takes connections");
        client.batch_execute(sql).await.unwrap_or_else(|why| panic!("`{sql}`: {why:?}"));
    }

    pub fn log(&self, member: &MemberPlan) -> String {
        self.field.log(&member.name)
    }

    pub fn end(mut self) {
        ground::end(&mut self.field);
    }

    pub async fn soon(&self, what: &str, question: impl AsyncFnMut() -> bool) -> Duration {
        self.until(what, SHORT, question).await
    }
}

impl Drop for Formation {
    fn drop(&mut self) {
        ground::keep_if_asked(&mut self.dir);
    }
}

pub async fn connect(member: &MemberPlan) -> Result<Client, tokio_postgres::Error> {
    let (host, port) = (&member.host, member.pg_port);
    // What the owner of the database sets for it does not hold here; the stand-in has a schema.
    let options = "-c role=none -c search_path=public,citus_stand_in";
    let dsn = format!(
        "host={host} port={port} user=postgres dbname=app connect_timeout=2 options='{options}'"
    );
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The shortest times that are allowed, so that a lost leader is soon followed.
pub fn short_times(plan: &mut Plan) {
    let times = [("ttl", TTL.as_secs()), ("loop_wait", 5), ("retry_timeout", 5)];
    times.into_iter().for_each(|(name, seconds)| plan.dcs[name] = seconds.into());
}

fn plan(members: [usize; 3], pg_bin: PathBuf, is_real: bool) -> Plan {
    let most = members.into_iter().max().unwrap_or_default();
    let mut plan = Plan::new(&[REGION], &GROUPS, most, pg_bin).expect("free ports");
    let mut left = members;
    plan.regions[0].members.retain(|member| {
        let left = &mut left[member.group.expect("a group of Citus") as usize];
        let is_one = *left > 0;
        *left = left.saturating_sub(1);
        is_one
    });
    plan.stand_in = !is_real;
    plan.dcs = json!({
        "postgresql": {"use_pg_rewind": true, "parameters": {
            "max_connections": 60, "max_worker_processes": 12, "max_wal_senders": 8,
            "max_prepared_transactions": 120, "wal_level": "logical", "wal_keep_size": "64MB",
        }},
    });
    plan.parameters =
        json!({"shared_buffers": "8MB", "min_wal_size": "48MB", "max_wal_size": "256MB"});
    if is_real {
        plan.parameters["citus.node_conninfo"] = NODE_CONNINFO.into();
        plan.parameters["citus.node_connection_timeout"] = "5s".into();
    }
    plan
}
