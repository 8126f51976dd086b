//! A coordinator, a worker of three members and one of a single member, on the real Citus
//! extension or on the project's SQL stand-in.

use super::stage::{LONG, SHORT};
use ctl::demo::has_citus;
use ctl::field::ask::Asker;
use ctl::field::process::find_postgres;
use ctl::field::{Field, MemberPlan, Plan};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

pub const COORDINATOR: u32 = 0;
const GROUPS: [Option<u32>; 3] = [Some(0), Some(1), Some(2)];
const REGION: &str = "local";

pub struct Formation {
    pub field: Field,
    pub ask: Asker,
    /// The extension is there; else the stand-in, which has no shards.
    pub is_real: bool,
    dir: Option<tempfile::TempDir>,
}

impl Formation {
    /// With the times that a configuration without any has.
    pub async fn raise() -> Formation {
        Formation::raise_with(|_| {}).await
    }

    pub async fn raise_with(change: impl FnOnce(&mut Plan)) -> Formation {
        let pg_bin = find_postgres().expect("PostgreSQL 13 or later: apt-get install postgresql");
        let forced = std::env::var("MATRIARCH_STAND_IN").is_ok_and(|v| v == "1");
        let is_real = !forced && has_citus(&pg_bin);
        println!("  Citus: {}", if is_real { "the real extension" } else { "the SQL stand-in" });
        let dir = tempfile::Builder::new().prefix("matriarch-citus-").tempdir();
        let dir = dir.expect("a temporary directory");
        let mut plan = plan(pg_bin, is_real);
        change(&mut plan);
        let mut field = Field::prepare(dir.path(), plan, &super::stage::daemon()).expect("a field");
        let region = field.plan.regions[0].clone();
        field.start_store(&region).expect("etcd starts");
        for member in &region.members {
            field.start_member(member).expect("the daemon starts");
        }
        let formation = Formation { field, ask: Asker::new(), is_real, dir: Some(dir) };
        formation.healthy().await;
        formation.is_wired(LONG).await;
        formation
    }

    pub fn members(&self, group: u32) -> Vec<MemberPlan> {
        self.field.plan.site(REGION, Some(group)).into_iter().cloned().collect()
    }

    pub async fn until<F: AsyncFnMut() -> bool>(
        &self,
        what: &str,
        limit: Duration,
        question: F,
    ) -> Duration {
        self.field.until(what, limit, question).await.unwrap_or_else(|why| panic!("{why}"))
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

    pub async fn leader(&self, group: u32) -> MemberPlan {
        let members = self.members(group);
        let members: Vec<&MemberPlan> = members.iter().collect();
        self.ask.primary(&members).await.cloned().expect("the group has a leader")
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
        let mut wanted = Vec::new();
        for group in GROUPS.into_iter().flatten() {
            let members = self.members(group);
            let members: Vec<&MemberPlan> = members.iter().collect();
            let Some(leader) = self.ask.primary(&members).await else { return false };
            wanted.push((i32::try_from(group).expect("small"), i32::from(leader.pg_port)));
        }
        for group in GROUPS.into_iter().flatten() {
            if group != COORDINATOR && !self.is_real {
                continue;
            }
            let leader = self.leader(group).await;
            if self.primary_rows(&leader).await.ok().as_ref() != Some(&wanted) {
                return false;
            }
        }
        true
    }

    async fn primary_rows(
        &self,
        at: &MemberPlan,
    ) -> Result<Vec<(i32, i32)>, tokio_postgres::Error> {
        let sql = "SELECT groupid, nodeport FROM pg_dist_node \
                   WHERE noderole = 'primary' AND isactive ORDER BY groupid";
        let rows = connect(at).await?.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
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

    /// Ends everything; no daemon may have panicked.
    pub fn end(mut self) {
        let members: Vec<MemberPlan> = self.field.plan.members().cloned().collect();
        for member in &members {
            self.field.kill_node(member);
        }
        self.field.stop();
        for member in &members {
            assert!(!self.log(member).contains("panicked at"), "{} panicked", member.name);
        }
    }

    pub async fn soon(&self, what: &str, question: impl AsyncFnMut() -> bool) -> Duration {
        self.until(what, SHORT, question).await
    }
}

impl Drop for Formation {
    /// A failed test leaves its directory, as does one with `MATRIARCH_KEEP=1`.
    fn drop(&mut self) {
        let is_asked = std::env::var_os("MATRIARCH_KEEP").is_some();
        if (is_asked || std::thread::panicking())
            && let Some(dir) = self.dir.take()
        {
            eprintln!("---- everything is kept in {}", dir.keep().display());
        }
    }
}

pub async fn connect(member: &MemberPlan) -> Result<Client, tokio_postgres::Error> {
    let (host, port) = (&member.host, member.pg_port);
    // What the owner of the database sets for it does not hold here.
    let options = "-c role=none -c search_path=public";
    let dsn = format!(
        "host={host} port={port} user=postgres dbname=app connect_timeout=2 options='{options}'"
    );
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Small servers: five of them run on two cores. With three members the commits of group 1
/// need not wait until its old leader has come back.
fn plan(pg_bin: PathBuf, is_real: bool) -> Plan {
    let mut plan = Plan::new(&[REGION], &GROUPS, 3, pg_bin).expect("free ports");
    let of_one = |m: &MemberPlan| m.group != Some(1) && !m.name.ends_with('1');
    plan.regions[0].members.retain(|m| !of_one(m));
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
        plan.parameters["citus.node_conninfo"] = "sslmode=prefer tcp_user_timeout=5000".into();
        plan.parameters["citus.node_connection_timeout"] = "5s".into();
    }
    plan
}
