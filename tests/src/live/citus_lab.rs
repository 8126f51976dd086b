//! A formation of any groups on the real Citus extension, whose groups start one by one.

use super::stage::{LONG, SHORT};
use ctl::demo::has_citus;
use ctl::field::ask::Asker;
use ctl::field::process::find_postgres;
use ctl::field::{Field, MemberPlan, Plan};
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const REGION: &str = "local";
/// How often the coordinator looks at its rows here.
pub const LOOP_WAIT: Duration = Duration::from_secs(2);

pub struct Lab {
    pub field: Field,
    pub ask: Asker,
    dir: Option<tempfile::TempDir>,
}

/// A row of `pg_dist_node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub nodeid: i32,
    pub group: u32,
    pub port: u16,
    pub role: String,
    pub cluster: String,
}

impl Lab {
    /// Groups with the numbers of their members. None: the extension is not installed.
    pub fn prepare(groups: &[(u32, usize)], change: impl FnOnce(&mut Plan)) -> Option<Lab> {
        let pg_bin = find_postgres().expect("PostgreSQL 13 or later: apt-get install postgresql");
        if !has_citus(&pg_bin) {
            println!("  the citus extension is not installed: nothing is shown");
            return None;
        }
        let most = groups.iter().map(|(_, members)| *members).max().expect("groups");
        let numbers: Vec<Option<u32>> = groups.iter().map(|(group, _)| Some(*group)).collect();
        let mut plan = Plan::new(&[REGION], &numbers, most, pg_bin).expect("free ports");
        let wanted = |m: &MemberPlan| {
            let of_group = groups.iter().find(|(group, _)| Some(*group) == m.group);
            let number = m.name.chars().last().and_then(|c| c.to_digit(10)).expect("a number");
            of_group.is_some_and(|(_, members)| number as usize <= *members)
        };
        plan.regions[0].members.retain(wanted);
        plan.dcs = json!({
            "ttl": 20, "loop_wait": LOOP_WAIT.as_secs(), "retry_timeout": 5,
            "postgresql": {"use_pg_rewind": true, "parameters": {
                "max_connections": 60, "max_worker_processes": 12, "max_wal_senders": 8,
                "max_prepared_transactions": 120, "wal_keep_size": "64MB",
            }},
        });
        plan.parameters = json!({
            "shared_buffers": "8MB", "min_wal_size": "48MB", "max_wal_size": "256MB",
            "citus.node_conninfo": super::citus_formation::NODE_CONNINFO,
        });
        change(&mut plan);
        let dir = tempfile::Builder::new().prefix("matriarch-lab-").tempdir();
        let dir = dir.expect("a temporary directory");
        let mut field =
            Field::prepare(dir.path(), plan, &super::ground::daemon()).expect("a field");
        let region = field.plan.regions[0].clone();
        field.start_store(&region).expect("etcd starts");
        Some(Lab { field, ask: Asker::new(), dir: Some(dir) })
    }

    /// Starts the members of these groups and waits until each group is healthy.
    pub async fn start(&mut self, groups: &[u32]) {
        for group in groups {
            for member in self.members(*group) {
                self.field.start_member(&member).expect("the daemon starts");
            }
        }
        for group in groups {
            self.healthy(*group).await;
        }
    }

    pub fn members(&self, group: u32) -> Vec<MemberPlan> {
        self.field.plan.site(REGION, Some(group)).into_iter().cloned().collect()
    }

    pub async fn healthy(&self, group: u32) {
        let members = self.members(group);
        let members: Vec<&MemberPlan> = members.iter().collect();
        let what = format!("a healthy group {group}");
        self.until(&what, LONG, async || self.ask.is_healthy(&members).await).await;
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

    pub async fn until<F: AsyncFnMut() -> bool>(
        &self,
        what: &str,
        limit: Duration,
        question: F,
    ) -> Duration {
        self.field.until(what, limit, question).await.unwrap_or_else(|why| panic!("{why}"))
    }

    pub async fn soon(&self, what: &str, question: impl AsyncFnMut() -> bool) -> Duration {
        self.until(what, SHORT, question).await
    }

    /// `pg_dist_node` as this server has it; none while it does not answer.
    pub async fn rows(&self, at: &MemberPlan) -> Vec<Row> {
        let sql = "SELECT nodeid, groupid, nodeport, noderole, nodecluster FROM pg_dist_node \
                   ORDER BY groupid, noderole, nodeid";
        let lines = self.sql(at, sql).await.unwrap_or_default();
        let row = |line: &Vec<String>| Row {
            nodeid: line[0].parse().expect("a number"),
            group: line[1].parse().expect("a number"),
            port: line[2].parse().expect("a port"),
            role: line[3].clone(),
            cluster: line[4].clone(),
        };
        lines.iter().map(row).collect()
    }

    /// Exactly these groups have a primary row, and it names their leader; also in the copies.
    pub async fn has_primaries(&self, groups: &[u32]) -> bool {
        let mut wanted = Vec::new();
        for group in groups {
            let members = self.members(*group);
            let members: Vec<&MemberPlan> = members.iter().collect();
            let Some(leader) = self.ask.primary(&members).await else { return false };
            wanted.push((*group, leader.clone()));
        }
        let ports: Vec<(u32, u16)> =
            wanted.iter().map(|(g, leader)| (*g, leader.pg_port)).collect();
        for (_, leader) in &wanted {
            let rows = self.rows(leader).await;
            let primaries = rows.iter().filter(|row| row.role == "primary");
            if primaries.map(|row| (row.group, row.port)).collect::<Vec<_>>() != ports {
                return false;
            }
        }
        true
    }

    pub async fn wired(&self, groups: &[u32]) -> Duration {
        let what = format!("rows of groups {groups:?} everywhere");
        self.until(&what, LONG, async || self.has_primaries(groups).await).await
    }

    /// The rows of the last statement as text; None: an error, or no server.
    pub async fn sql(&self, at: &MemberPlan, sql: &str) -> Option<Vec<Vec<String>>> {
        self.sql_in(at, "app", sql).await
    }

    pub async fn sql_in(
        &self,
        at: &MemberPlan,
        database: &str,
        sql: &str,
    ) -> Option<Vec<Vec<String>>> {
        let client = connect(at, database, "-c role=none").await.ok()?;
        match client.simple_query(sql).await {
            Ok(messages) => Some(texts(&messages)),
            Err(why) => {
                println!("  {}: {why:?}", at.name);
                None
            }
        }
    }

    pub async fn must(&self, at: &MemberPlan, sql: &str) -> Vec<Vec<String>> {
        self.sql(at, sql).await.unwrap_or_else(|| panic!("{}: `{sql}`", at.name))
    }

    pub async fn metric(&self, at: &MemberPlan, name: &str) -> f64 {
        let reply = self.ask.get(at, "/metrics").await.expect("metrics");
        let text = reply.body.as_str().unwrap_or_default().to_string();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not there"))
    }

    pub async fn switchover(&self, group: u32) -> MemberPlan {
        let (leader, standby) = (self.leader(group).await, self.standby(group).await);
        let body: Value = json!({"leader": leader.name, "candidate": standby.name});
        let reply = self.ask.send(Method::POST, &leader, "/switchover", Some(&body)).await;
        assert_eq!(reply.map(|reply| reply.status), Some(200));
        standby
    }

    /// `matriarchctl` with the configuration of a member; whether it succeeded, and its words.
    pub async fn ctl(&self, member: &MemberPlan, args: &[&str], input: &str) -> (bool, String) {
        let us = std::env::current_exe().expect("where is this program?");
        let target = us.parent().and_then(std::path::Path::parent).expect("target/<profile>/deps");
        let mut ctl = tokio::process::Command::new(target.join("matriarchctl"));
        ctl.arg("-c").arg(self.field.config_path(member)).args(args).kill_on_drop(true);
        ctl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = ctl.spawn().expect("it starts");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(input.as_bytes()).await.expect("it reads");
        drop(pipe);
        let output = tokio::time::timeout(LONG, child.wait_with_output()).await.expect("in time");
        let output = output.expect("it ends");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Ends everything; no daemon may have panicked.
    pub fn end(mut self) {
        let members: Vec<MemberPlan> = self.field.plan.members().cloned().collect();
        for member in &members {
            self.field.kill_node(member);
        }
        self.field.stop();
        for member in &members {
            let log = self.field.log(&member.name);
            assert!(!log.contains("panicked at"), "{} panicked", member.name);
        }
    }
}

impl Drop for Lab {
    /// A failed test leaves its directory.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("---- everything is kept in {}", dir.keep().display());
        }
    }
}

/// With these options for the session.
pub async fn connect(
    member: &MemberPlan,
    database: &str,
    options: &str,
) -> Result<Client, tokio_postgres::Error> {
    let (host, port) = (&member.host, member.pg_port);
    let to = format!(
        "host={host} port={port} user=postgres dbname={database} connect_timeout=2 \
         options='{options}'"
    );
    let (client, connection) = tokio_postgres::connect(&to, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn texts(messages: &[SimpleQueryMessage]) -> Vec<Vec<String>> {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let text = |column| row.get(column).unwrap_or_default().to_string();
            Some((0..row.len()).map(text).collect())
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}
