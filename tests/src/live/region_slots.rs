//! Permanent logical slots of two plain regions: readers go on through moves there and back.

use super::ground;
use super::logical::{decode, definition, has_slot, is_ready};
use super::readers::{READY, Reader, client, plugins, subscription};
use super::slots::run_sql;
use super::stage::{LONG, SHORT, Stage};
use super::versions::programs;
use ctl::field::{MemberPlan, Plan};
use serde_json::{Map, json};
use std::time::Duration;

const NORTH: &str = "north";
const SOUTH: &str = "south";
/// A move and the checks before it.
const MOVE: Duration = Duration::from_secs(120);

/// A move there and one back, under load. More by `MATRIARCH_ROUNDS`.
pub async fn go_on(major: u32) {
    let rounds = std::env::var("MATRIARCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: u32 = rounds.unwrap_or(2);
    let plugins = plugins(major);
    let names: Vec<&str> = plugins.iter().map(|(slot, _)| *slot).chain(["sub"]).collect();
    let stage = two_regions(major, &names, &plugins).await;
    let mut leader = stage.leader().await;
    let members = stage.members();
    for round in 1..=rounds {
        run_sql(&leader, &format!("CREATE TABLE round_{round} (id bigint PRIMARY KEY)")).await;
    }
    run_sql(&leader, "CREATE PUBLICATION everything FOR ALL TABLES").await;
    for name in &names {
        has_slot(&stage, &leader, name, true).await;
    }
    let mut readers: Vec<Reader> = Vec::new();
    for (slot, plugin) in plugins {
        readers.push(client(&stage, &members, slot, plugin, major));
    }
    readers.push(subscription(&stage, &members, rounds, major));
    let mut twice = 0;
    for round in 1..=rounds {
        let table = format!("round_{round}");
        leader = move_away(&stage, &leader, &names, &table).await;
        for reader in &mut readers {
            twice += reader.has_all(&stage, &leader, &table).await;
        }
    }
    println!("  PostgreSQL {major}: {rounds} moves, 0 rows missing, {twice} twice");
    for reader in &mut readers {
        reader.end(&stage);
    }
    a_slot_without_a_copy_keeps_the_formation_here(&stage, &leader).await;
    stage.one_writer();
    stage.end();
}

/// Two regions of two members; both define the slots.
async fn two_regions(major: u32, names: &[&str], plugins: &[(&str, &str)]) -> Stage {
    let plugin = |name: &str| plugins.iter().find(|(slot, _)| *slot == name).map(|(_, p)| *p);
    let slots: Map<_, _> = names
        .iter()
        .map(|name| (name.to_string(), definition(plugin(name).unwrap_or("pgoutput"))))
        .collect();
    let mut stage = Stage::prepare_plan(2, &programs(major), |plan, _| {
        let regions = Plan::new(&[NORTH, SOUTH], &[None], 2, plan.pg_bin.clone());
        plan.regions = regions.expect("free ports").regions;
        decode(plan);
        plan.dcs["slots"] = json!(slots);
        let parameters = &mut plan.dcs["postgresql"]["parameters"];
        parameters["wal_log_hints"] = json!("on");
        // A standby keeps no WAL for copies that it has not got yet (docs/slots.md, "Limits").
        parameters["wal_keep_size"] = json!("512MB");
    });
    for region in stage.field.plan.regions.clone() {
        stage.field.start_store(&region).expect("etcd starts");
    }
    for member in stage.members() {
        stage.start(&member);
    }
    stands(&stage, NORTH).await;
    stands(&stage, SOUTH).await;
    stage
}

fn of_region(stage: &Stage, region: &str) -> Vec<MemberPlan> {
    stage.members().into_iter().filter(|member| member.region == region).collect()
}

async fn stands(stage: &Stage, region: &str) {
    let members = of_region(stage, region);
    let members: Vec<&MemberPlan> = members.iter().collect();
    let what = format!("a healthy group in {region}");
    stage.until(&what, 2 * LONG, async || stage.ask.is_healthy(&members).await).await;
}

/// The standby leader of the other region.
async fn standby_leader(stage: &Stage, region: &str) -> MemberPlan {
    for member in of_region(stage, region) {
        let role = stage.get(&member, "/patroni").await.body["role"].clone();
        if role == "standby_leader" {
            return member;
        }
    }
    panic!("{region} has no standby leader");
}

/// Moves the formation under load once all copies are ready; gives the new leader.
async fn move_away(stage: &Stage, from: &MemberPlan, names: &[&str], table: &str) -> MemberPlan {
    let to = if from.region == NORTH { SOUTH } else { NORTH };
    let next = standby_leader(stage, to).await;
    for name in names {
        is_ready(stage, &next, name, READY).await;
    }
    // The other side goes by the member's record, which follows a beat later.
    let check = ["region", "check", "--to", to];
    stage.until("no finding", READY, async || ctl(stage, from, &check).await.0).await;
    let writer = stage.writer(table).await;
    stage.until("some rows", SHORT, async || writer.acknowledged() >= 200).await;
    let (done, said) = ctl(stage, from, &["region", "switch", "--to", to, "--force"]).await;
    assert!(done, "the move to {to}: {said}");
    println!("  {}", said.lines().last().unwrap_or_default());
    let count = stage.settle(writer).await;
    assert_eq!(count.lost, 0, "rows of {table} that were acknowledged are lost");
    stands(stage, to).await;
    stands(stage, &from.region).await;
    let leader = stage.leader().await;
    assert_eq!(leader.region, to);
    leader
}

/// The other region does not define it.
async fn a_slot_without_a_copy_keeps_the_formation_here(stage: &Stage, leader: &MemberPlan) {
    let to = if leader.region == NORTH { SOUTH } else { NORTH };
    stage.patch_by(leader, json!({"slots": {"only_here": definition("pgoutput")}})).await;
    has_slot(stage, leader, "only_here", true).await;
    let (done, said) = ctl(stage, leader, &["region", "check", "--to", to]).await;
    assert!(!done && said.contains("`only_here` is not ready"), "{said}");
}

/// `matriarchctl` with the configuration of a member; whether it succeeded, and its words.
async fn ctl(stage: &Stage, member: &MemberPlan, args: &[&str]) -> (bool, String) {
    let program = ground::daemon().with_file_name("matriarchctl");
    let mut command = tokio::process::Command::new(program);
    command.arg("-c").arg(stage.field.config_path(member)).args(args);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(MOVE, command.output()).await;
    let output = output.expect("it ends in time").expect("it starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
