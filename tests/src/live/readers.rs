//! Real readers of permanent logical slots, which go on wherever the primary is:
//! pg_recvlogical with a plugin of text and with pgoutput, and a subscription of another
//! cluster.
//!
//! Of each table every reader must have all rows that the last primary has, and none else; what
//! came twice is counted and printed.

use super::logical::{decode, definition, has_slot, is_ready, switch};
use super::slots::{run_sql, stand_up_behind_the_first};
use super::source::Source;
use super::stage::{LONG, SHORT, Stage, ask_sql};
use super::versions::programs;
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use serde_json::{Map, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Until a copy is ready: PostgreSQL starts its worker anew once a minute.
pub(super) const READY: Duration = Duration::from_secs(150);
/// A reader connects anew once in five seconds.
const RECEIVED: Duration = Duration::from_secs(60);

pub(super) enum Reader {
    Client { slot: &'static str, plugin: &'static str, file: PathBuf, child: Child },
    Subscription(Source),
}

/// Three rounds: two switchovers and a failover. More by `MATRIARCH_ROUNDS`.
pub async fn go_on(major: u32) {
    let mut stage = Stage::prepare_plan(3, &programs(major), |plan, _| {
        decode(plan);
        plan.dcs["primary_start_timeout"] = json!(0);
    });
    let members = stand_up_behind_the_first(&mut stage).await;
    let rounds = std::env::var("MATRIARCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: u32 = rounds.unwrap_or(3);
    let plugins = plugins(major);
    begin(&stage, &members, &plugins, rounds).await;
    let names: Vec<&str> = plugins.iter().map(|(slot, _)| *slot).chain(["sub"]).collect();
    let mut readers: Vec<Reader> = Vec::new();
    for (slot, plugin) in plugins {
        readers.push(client(&stage, &members, slot, plugin, major));
    }
    readers.push(subscription(&stage, &members, rounds, major));
    let (mut leader, mut twice) = (members[0].clone(), 0);
    for round in 1..=rounds {
        for member in stage.others(&leader) {
            for name in &names {
                is_ready(&stage, &member, name, READY).await;
            }
        }
        let table = format!("round_{round}");
        leader = change_the_leader(&stage, leader, round, major).await;
        for reader in &mut readers {
            twice += reader.has_all(&stage, &leader, &table).await;
        }
    }
    println!("  PostgreSQL {major}: {rounds} changes of the leader, 0 rows missing, {twice} twice");
    for reader in &mut readers {
        reader.end(&stage);
    }
    stage.one_writer();
    stage.end();
}

/// What this version brings along.
pub(super) fn plugins(major: u32) -> Vec<(&'static str, &'static str)> {
    let mut plugins = vec![("raw", "pgoutput")];
    if major < 16 {
        plugins.push(("text", "test_decoding"));
    }
    plugins
}

/// Tables, the publication, the slots; all before the first row.
async fn begin(
    stage: &Stage,
    members: &[MemberPlan],
    plugins: &[(&'static str, &'static str)],
    rounds: u32,
) {
    for round in 1..=rounds {
        let table = format!("CREATE TABLE round_{round} (id bigint PRIMARY KEY)");
        run_sql(&members[0], &table).await;
    }
    run_sql(&members[0], "CREATE PUBLICATION everything FOR ALL TABLES").await;
    let all = plugins.iter().copied().chain([("sub", "pgoutput")]);
    let slots: Map<_, _> =
        all.clone().map(|(slot, plugin)| (slot.into(), definition(plugin))).collect();
    stage.patch(json!({"slots": slots})).await;
    for (slot, _) in all {
        has_slot(stage, &members[0], slot, true).await;
    }
}

/// Before 17 a reader gets rows before a standby has them, so nothing is written at the moment
/// of a failover there.
async fn change_the_leader(
    stage: &Stage,
    leader: MemberPlan,
    round: u32,
    major: u32,
) -> MemberPlan {
    let table = format!("round_{round}");
    let is_switchover = !round.is_multiple_of(3);
    if !is_switchover && major < 17 {
        let next = fail_over(stage, &leader).await;
        let writer = stage.writer(&table).await;
        stage.settle_without_loss(writer).await;
        return next;
    }
    let writer = stage.writer(&table).await;
    stage.until("some rows", SHORT, async || writer.acknowledged() >= 200).await;
    let next = match is_switchover {
        true => {
            let next = stage.others(&leader)[round as usize % 2].clone();
            switch(stage, &leader, &next).await;
            next
        }
        false => fail_over(stage, &leader).await,
    };
    let count = stage.settle(writer).await;
    // Commits wait for no standby: a failover may lose the last of them.
    assert!(count.lost == 0 || !is_switchover, "rows of {table} that were acknowledged are lost");
    assert_eq!(stage.healthy(LONG).await.name, next.name);
    next
}

async fn fail_over(stage: &Stage, leader: &MemberPlan) -> MemberPlan {
    assert!(stage.field.signal_postmaster(leader, Signal::SIGKILL));
    stage.new_leader(leader, LONG).await
}

/// Whichever of them is the primary.
fn target(members: &[MemberPlan]) -> String {
    let hosts: Vec<&str> = members.iter().map(|m| m.host.as_str()).collect();
    let ports: Vec<String> = members.iter().map(|m| m.pg_port.to_string()).collect();
    format!(
        "dbname=postgres user=postgres host={} port={} target_session_attrs=read-write",
        hosts.join(","),
        ports.join(",")
    )
}

pub(super) fn client(
    stage: &Stage,
    members: &[MemberPlan],
    slot: &'static str,
    plugin: &'static str,
    major: u32,
) -> Reader {
    let file = stage.field.dir.join(format!("received_{slot}"));
    let program = match major {
        15 => programs(15),
        _ => stage.field.plan.pg_bin.clone(),
    };
    let mut command = stage.field.command(&program.join("pg_recvlogical"));
    command.args(["--dbname", &target(members), "--slot", slot, "--start"]);
    command.args(["--status-interval=1", "--fsync-interval=1", "--file"]).arg(&file);
    if plugin == "pgoutput" {
        command.args(["-o", "proto_version=1", "-o", "publication_names=everything"]);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Reader::Client { slot, plugin, file, child: child.expect("pg_recvlogical starts") }
}

/// Its tables have no key: a row that comes twice stands there twice.
pub(super) fn subscription(
    stage: &Stage,
    members: &[MemberPlan],
    rounds: u32,
    major: u32,
) -> Reader {
    let source = Source::begin(stage);
    source.set("wal_retrieve_retry_interval = '1s'\n");
    source.start(&stage.field);
    for round in 1..=rounds {
        source.ask(&stage.field, &format!("CREATE TABLE round_{round} (id bigint)"));
    }
    let failover = if major < 17 { "" } else { ", failover = true" };
    let made = format!(
        "CREATE SUBSCRIPTION sub CONNECTION '{}' PUBLICATION everything \
         WITH (create_slot = false, slot_name = 'sub', copy_data = false{failover})",
        target(members)
    );
    source.ask(&stage.field, &made);
    Reader::Subscription(source)
}

impl Reader {
    fn name(&self) -> String {
        match self {
            Reader::Client { plugin, .. } => format!("pg_recvlogical with {plugin}"),
            Reader::Subscription(_) => "a subscription".to_string(),
        }
    }

    /// In the order in which they came.
    fn received(&self, stage: &Stage, table: &str) -> Vec<i64> {
        match self {
            Reader::Client { plugin: "pgoutput", file, .. } => {
                let bytes = std::fs::read(file).unwrap_or_default();
                pgoutput::rows(&bytes).remove(table).unwrap_or_default()
            }
            Reader::Client { file, .. } => {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                let begin = format!("table public.{table}: INSERT: id[bigint]:");
                let lines = text.lines().filter_map(|line| line.strip_prefix(&begin));
                lines.filter_map(|id| id.parse().ok()).collect()
            }
            Reader::Subscription(source) => {
                let sql = format!("SELECT coalesce(string_agg(id::text, ' '), '') FROM {table}");
                let text = source.ask(&stage.field, &sql);
                text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
            }
        }
    }

    /// Waits until it has all rows of the leader; how many have come twice.
    pub(super) async fn has_all(
        &mut self,
        stage: &Stage,
        leader: &MemberPlan,
        table: &str,
    ) -> usize {
        let ids = ask_sql(leader, &format!("SELECT string_agg(id::text, ' ') FROM {table}")).await;
        let ids = ids.expect("rows");
        let wanted: BTreeSet<i64> = ids.split(' ').filter_map(|id| id.parse().ok()).collect();
        let (mut missing, mut more, mut twice) = (0, 0, 0);
        let what = format!("all {} rows of {table} at {}", wanted.len(), self.name());
        let answer = stage.field.until(&what, RECEIVED, async || {
            let all = self.received(stage, table);
            let seen: BTreeSet<i64> = all.iter().copied().collect();
            missing = wanted.difference(&seen).count();
            more = seen.difference(&wanted).count();
            twice = all.len() - seen.len();
            missing == 0
        });
        if let Err(why) = answer.await {
            panic!("{why}: {missing} are missing{}", self.said());
        }
        assert_eq!(more, 0, "{} has rows of {table} that no primary has", self.name());
        println!("  {table} at {}: {} rows, {twice} twice", self.name(), wanted.len());
        twice
    }

    fn said(&mut self) -> String {
        match self {
            Reader::Client { slot, child, .. } => match child.try_wait() {
                Ok(Some(status)) => format!("; the reader of {slot} has ended: {status}"),
                _ => String::new(),
            },
            Reader::Subscription(_) => String::new(),
        }
    }

    pub(super) fn end(&mut self, stage: &Stage) {
        match self {
            Reader::Client { child, .. } => {
                child.kill().expect("it runs");
                child.wait().expect("it ends");
            }
            Reader::Subscription(source) => source.stop(&stage.field),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Reader::Client { child, .. } = self {
            let _ = child.kill();
        }
    }
}

/// Messages of the plugin, as pg_recvlogical writes them: each with a newline behind it.
mod pgoutput {
    use std::collections::BTreeMap;

    /// Rows of tables whose first column is a number; the last message may be cut.
    pub(super) fn rows(bytes: &[u8]) -> BTreeMap<String, Vec<i64>> {
        let (mut rows, mut names) = (BTreeMap::<String, Vec<i64>>::new(), BTreeMap::new());
        let mut rest = Rest(bytes);
        while rest.message(&mut names, &mut rows).is_some() {}
        rows
    }

    struct Rest<'a>(&'a [u8]);

    impl<'a> Rest<'a> {
        fn message(
            &mut self,
            names: &mut BTreeMap<u32, String>,
            rows: &mut BTreeMap<String, Vec<i64>>,
        ) -> Option<()> {
            match self.take(1)?[0] {
                b'B' => {
                    self.take(20)?;
                }
                b'C' => {
                    self.take(25)?;
                }
                b'R' => {
                    let (id, _schema, name) = (self.number()?, self.text()?, self.text()?);
                    self.take(1)?;
                    for _ in 0..self.short()? {
                        self.take(1)?;
                        self.text()?;
                        self.take(8)?;
                    }
                    names.insert(id, name);
                }
                b'I' => {
                    let id = self.number()?;
                    self.take(1)?;
                    let columns: Vec<String> =
                        (0..self.short()?).map(|_| self.column()).collect::<Option<_>>()?;
                    let name = names.get(&id).expect("its table came before").clone();
                    rows.entry(name).or_default().push(columns[0].parse().expect("a number"));
                }
                other => panic!("an unknown message `{}`", other as char),
            }
            (self.take(1)? == b"\n").then_some(())
        }

        fn take(&mut self, count: usize) -> Option<&'a [u8]> {
            let (taken, rest) = self.0.split_at_checked(count)?;
            self.0 = rest;
            Some(taken)
        }

        fn number(&mut self) -> Option<u32> {
            self.take(4).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four")))
        }

        fn short(&mut self) -> Option<u16> {
            self.take(2).map(|bytes| u16::from_be_bytes(bytes.try_into().expect("two")))
        }

        fn text(&mut self) -> Option<String> {
            let end = self.0.iter().position(|byte| *byte == 0)?;
            let text = String::from_utf8_lossy(self.take(end + 1)?).into_owned();
            Some(text.trim_end_matches('\0').to_string())
        }

        fn column(&mut self) -> Option<String> {
            match self.take(1)?[0] {
                b't' => {
                    let length = self.number()? as usize;
                    Some(String::from_utf8_lossy(self.take(length)?).into_owned())
                }
                _ => Some(String::new()),
            }
        }
    }

    #[test]
    fn rows_are_read_and_what_is_cut_is_left() {
        let mut bytes = vec![b'B'];
        bytes.extend([0; 20]);
        bytes.extend(b"\nR\0\0\0\x07public\0t\0d\0\x01\x01id\0");
        bytes.extend([0; 8]);
        bytes.extend(b"\nI\0\0\0\x07N\0\x01t\0\0\0\x0210\nI\0\0\0\x07N\0\x01t\0\0\0\x01");
        assert_eq!(rows(&bytes), [("t".to_string(), vec![10])].into());
    }
}
