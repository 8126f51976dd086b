//! Replication slots of members: kept for those that stream, moved, dropped, made anew.

use super::failsafe::turn_on;
use super::scripts::control;
use super::stage::{LONG, REGION, SHORT, Stage, TTL, ask_sql, connect};
use super::versions::programs;
use ctl::field::{MemberPlan, Plan};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};

/// Some loops, on busy cores.
const LOOPS: Duration = Duration::from_secs(40);
/// What a server may keep beside what the slowest of its readers needs: `wal_keep_size`, and two
/// segments.
const KEPT_MB_MAX: i64 = 16 + 2 * 16;
/// What a reader needs that has all of it, between two looks at its slot.
const NEEDED_MB_MAX: i64 = 16;

/// PostgreSQL keeps as little WAL as it can: what is kept is kept for slots.
fn keep_little_wal(plan: &mut Plan) {
    let parameters = &mut plan.dcs["postgresql"]["parameters"];
    parameters["wal_keep_size"] = json!("16MB");
    parameters["max_wal_size"] = json!("64MB");
    parameters["min_wal_size"] = json!("32MB");
}

const SLOTS: &str = "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) \
    FROM pg_replication_slots WHERE NOT temporary";

pub(super) async fn shows(stage: &Stage, member: &MemberPlan, what: &str, sql: &str, wanted: &str) {
    shows_one_of(stage, member, what, sql, &[wanted]).await;
}

async fn shows_one_of(stage: &Stage, member: &MemberPlan, what: &str, sql: &str, wanted: &[&str]) {
    let what = format!("{what} on {}", member.name);
    let mut last = String::new();
    let question = async || {
        last = ask_sql(member, sql).await.unwrap_or_else(|error| error.to_string());
        wanted.contains(&last.as_str())
    };
    let answer = stage.field.until(&what, LOOPS, question).await;
    answer.unwrap_or_else(|why| panic!("{why}: `{last}` instead of {wanted:?}"));
}

pub(super) async fn slots(stage: &Stage, member: &MemberPlan, wanted: &str) {
    shows(stage, member, "its slots", SLOTS, wanted).await;
}

pub(super) async fn run_sql(member: &MemberPlan, sql: &str) {
    let client = connect(member).await.expect("it takes connections");
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Writes about this much WAL, and a checkpoint behind it.
async fn write_wal(member: &MemberPlan, mb: u64) {
    run_sql(member, "CREATE TABLE IF NOT EXISTS bulk (t text)").await;
    for _ in 0..mb.div_ceil(20) {
        let rows = "INSERT INTO bulk SELECT repeat(md5(n::text), 30) \
                    FROM generate_series(1, 19000) n; TRUNCATE bulk";
        run_sql(member, rows).await;
    }
    run_sql(member, "CHECKPOINT").await;
}

/// The first member leads; the others have started behind it.
pub(super) async fn stand_up_behind_the_first(stage: &mut Stage) -> Vec<MemberPlan> {
    stage.start_store();
    let members = stage.members();
    stage.start(&members[0]);
    stage.until("a first leader", LONG, async || stage.primary().await.is_some()).await;
    for member in &members[1..] {
        stage.start(member);
    }
    assert_eq!(stage.healthy(LONG).await.name, members[0].name);
    members
}

/// The same, and each is copied when those before it stream: a member that is copied at the same
/// time as its upstream has no slot there yet, and could find the WAL that it needs removed.
async fn stand_up_one_by_one(stage: &mut Stage) -> Vec<MemberPlan> {
    stage.start_store();
    let members = stage.members();
    for (at, member) in members.iter().enumerate() {
        stage.start(member);
        let there: Vec<&MemberPlan> = members[..=at].iter().collect();
        let what = format!("{} members that stream", there.len());
        stage.until(&what, LONG, async || stage.ask.is_healthy(&there).await).await;
    }
    assert_eq!(stage.leader().await.name, members[0].name);
    members
}

/// All places for slots are taken: what cannot be made keeps nothing else from being
/// done, and a slot that no daemon has ever known makes room.
pub async fn steps_on_their_own() {
    let mut stage = Stage::prepare_in(3, |plan| {
        keep_little_wal(plan);
        plan.dcs["postgresql"]["parameters"]["max_replication_slots"] = json!(4);
        plan.dcs["ignore_slots"] = json!([{"name": "mine", "type": "physical"}]);
    });
    let members = stand_up_behind_the_first(&mut stage).await;
    let (leader, replica) = (&members[0], &members[1]);
    let mark = stage.mark(leader);
    stage.patch(json!({"slots": {"aaa": null, "aab": {}, "aac": {"type": "physical"}}})).await;
    slots(&stage, leader, "aaa aab n2 n3").await;
    slots(&stage, replica, "aaa aab n1 n3").await;
    let told = "creating the slot `aac`";
    let is_told = async || {
        let log = stage.log_since(leader, mark);
        log.contains(told) && log.contains("max_replication_slots")
    };
    stage.until("a word on the slot that cannot be made", SHORT, is_told).await;

    let mark = stage.mark(leader);
    let replaced = "SELECT pg_drop_replication_slot('aaa'), \
                    pg_create_physical_replication_slot('forgotten', true)";
    run_sql(leader, replaced).await;
    run_sql(
        replica,
        "SELECT pg_drop_replication_slot('aab'), \
        pg_create_physical_replication_slot('mine', true)",
    )
    .await;
    // Whichever of the two is tried first once there is room.
    let with_one_more = ["aaa aab n2 n3", "aab aac n2 n3"];
    shows_one_of(&stage, leader, "its slots", SLOTS, &with_one_more).await;
    let log = stage.log_since(leader, mark);
    assert!(log.contains("{\"name\": \"forgotten\"} to `ignore_slots`"), "{log}");
    slots(&stage, replica, "aaa mine n1 n3").await;

    // What advances is behind what fails on neither of them.
    write_wal(leader, 60).await;
    let behind = "SELECT (pg_wal_lsn_diff(pg_last_wal_replay_lsn(), restart_lsn) < 1000000)::text \
                  FROM pg_replication_slots WHERE slot_name = 'n3'";
    shows(&stage, replica, "the advanced slot", behind, "true").await;
    slots(&stage, replica, "aaa mine n1 n3").await;
    assert_eq!(stage.log_since(leader, 0).matches(told).count(), 1, "told once");
    stage.one_writer();
    stage.end();
}

/// A cascade (n3 from n2) that never leads, and a member that leaves: no server keeps
/// WAL for either. `MATRIARCH_WAL_MB`: how much is written.
pub async fn cascade() {
    let mut stage = Stage::prepare_in(4, |plan| {
        keep_little_wal(plan);
        let tags = json!({"tags": {"replicatefrom": "n2", "nofailover": true}});
        plan.overlays.insert("n3".into(), tags);
        plan.dcs["member_slots_ttl"] = json!(5);
    });
    let members = stand_up_one_by_one(&mut stage).await;
    slots(&stage, &members[0], "n2 n3 n4").await;
    slots(&stage, &members[1], "n1 n3 n4").await;
    slots(&stage, &members[3], "n1 n2 n3").await;
    let none = "SELECT count(*)::text FROM pg_replication_slots";
    shows(&stage, &members[2], "no slot", none, "0").await;
    let from_n2 = "SELECT active::text FROM pg_replication_slots WHERE slot_name = 'n3'";
    shows(&stage, &members[1], "the slot of the cascade", from_n2, "true").await;

    stage.field.kill_node(&members[3]);
    let mb = std::env::var("MATRIARCH_WAL_MB").ok().and_then(|text| text.parse().ok());
    write_wal(&members[0], mb.unwrap_or(300)).await;
    slots(&stage, &members[0], "n2 n3").await;
    slots(&stage, &members[1], "n1 n3").await;
    for member in &members[..3] {
        keeps_little(&stage, &members[0], member).await;
    }
    stage.one_writer();
    stage.end();
}

/// WAL of one server in MB: up to its end, and from the slot that is furthest behind on.
struct Kept {
    all: i64,
    needed: i64,
}

impl Kept {
    /// Segments beyond the end hold nothing: they are kept for reuse.
    async fn on(client: &tokio_postgres::Client) -> Option<Kept> {
        let sql = "SELECT \
            (SELECT 16 * count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' \
             AND ('x' || substr(name, 9, 8))::bit(32)::bigint * 256 \
             + ('x' || substr(name, 17, 8))::bit(32)::bigint <= trunc(bytes / 16777216)), \
            (SELECT coalesce(ceil(max(bytes - (restart_lsn - '0/0')) / 1048576), 0)::bigint \
             FROM pg_replication_slots) \
            FROM (SELECT CASE WHEN pg_is_in_recovery() \
             THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
             ELSE pg_current_wal_lsn() END - '0/0' AS bytes) AS here";
        let row = client.query_one(sql, &[]).await.ok()?;
        Some(Kept { all: row.get(0), needed: row.get(1) })
    }

    fn is_little(&self) -> bool {
        self.needed <= NEEDED_MB_MAX && self.all <= KEPT_MB_MAX + self.needed
    }
}

/// After a checkpoint here, for only then a slot's position is on disk and WAL removed. A
/// standby makes one only behind a new one of the leader.
async fn keeps_little(stage: &Stage, leader: &MemberPlan, member: &MemberPlan) {
    let mut kept = None;
    let what = format!("little WAL on {}", member.name);
    let question = async || {
        run_sql(leader, "CHECKPOINT").await;
        let Ok(client) = connect(member).await else { return false };
        if client.batch_execute("CHECKPOINT").await.is_err() {
            return false;
        }
        kept = Kept::on(&client).await;
        kept.as_ref().is_some_and(Kept::is_little)
    };
    let answer = stage.field.until(&what, LOOPS, question).await;
    let told = kept.map_or("nothing known".to_string(), |kept| {
        format!("{} MB of WAL kept, {} MB needed", kept.all, kept.needed)
    });
    answer.unwrap_or_else(|why| panic!("{why}: {told}"));
    println!("  {}: {told} (limit {KEPT_MB_MAX} MB and what is needed)", member.name);
}

/// A member is away for longer than `max_slot_wal_keep_size` lasts: its slot is lost,
/// and made anew, so that the member streams again as soon as it was copied again.
pub async fn lost(major: u32) {
    let mut stage = Stage::prepare_plan(2, &programs(major), |plan, _| {
        keep_little_wal(plan);
        plan.dcs["postgresql"]["parameters"]["max_slot_wal_keep_size"] = json!("32MB");
    });
    let members = stand_up_behind_the_first(&mut stage).await;
    let (leader, away) = (&members[0], &members[1]);
    stage.field.kill_node(away);
    let mark = stage.mark(leader);
    write_wal(leader, 200).await;
    let told = "dropping the slot `n2`: the WAL it needs is gone";
    let log = async || stage.log_since(leader, mark).contains(told);
    stage.until("the end of the lost slot", LOOPS, log).await;
    let state = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'n2'";
    shows(&stage, leader, "the slot made anew", state, "reserved").await;
    stage.start(away);
    let force = json!({"force": true});
    stage
        .until("a copy that begins", SHORT, async || {
            let reply = stage.ask.send(Method::POST, away, "/reinitialize", Some(&force)).await;
            reply.is_some_and(|reply| reply.status == 200)
        })
        .await;
    stage.healthy(LONG).await;
    let used = "SELECT active::text FROM pg_replication_slots WHERE slot_name = 'n2'";
    shows(&stage, leader, "a slot in use", used, "true").await;
    stage.one_writer();
    stage.end();
}

/// A slot of no member is on every candidate, never ahead of its reader, and gone with
/// its definition.
pub async fn permanent() {
    let mut stage = Stage::prepare_in(3, |plan| {
        keep_little_wal(plan);
        plan.overlays.insert("n3".into(), json!({"tags": {"nofailover": true}}));
        plan.dcs["slots"] = json!({"keep": {"type": "physical"}, "main": {"cluster_type": "primary"},
            "copy": {"cluster_type": "standby"}});
    });
    let members = stand_up_behind_the_first(&mut stage).await;
    slots(&stage, &members[2], "").await;
    let (mut leader, mut other) = (&members[0], &members[1]);
    let at = "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = 'keep'";
    for round in 1..=2 {
        slots(&stage, leader, &format!("keep main {} n3", other.name)).await;
        slots(&stage, other, &format!("keep main {} n3", leader.name)).await;
        write_wal(leader, 60).await;
        // As its reader does when it confirms what it has.
        let confirm = "SELECT pg_replication_slot_advance('keep', pg_current_wal_flush_lsn())";
        run_sql(leader, confirm).await;
        let confirmed = ask_sql(leader, at).await.expect("it is there");
        shows(&stage, other, "the position of the reader", at, &confirmed).await;
        write_wal(leader, 60).await;
        let body = json!({"leader": leader.name, "candidate": other.name});
        let reply = stage.send(Method::POST, leader, "/switchover", body).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(stage.healthy(LONG).await.name, other.name);
        assert_eq!(ask_sql(other, at).await.expect("it is there"), confirmed, "round {round}");
        (leader, other) = (other, leader);
    }
    let mark = stage.mark(leader);
    stage.patch(json!({"slots": {"keep": null}})).await;
    slots(&stage, leader, &format!("main {} n3", other.name)).await;
    slots(&stage, other, &format!("main {} n3", leader.name)).await;
    assert!(stage.log_since(leader, mark).contains("dropping the slot `keep`"));
    stage.one_writer();
    stage.end();
}

/// The store is away for a minute, and the leader leads on: neither it nor a replica keeps
/// the WAL of that time for members that have it.
pub async fn in_failsafe() {
    let mut stage = Stage::prepare_in(3, |plan| {
        keep_little_wal(plan);
        plan.overlays.insert("n3".into(), json!({"tags": {"replicatefrom": "n2"}}));
        plan.dcs["slots"] = json!({"keep": {"type": "physical"}});
    });
    let members = stand_up_behind_the_first(&mut stage).await;
    turn_on(&stage).await;
    slots(&stage, &members[0], "keep n2 n3").await;
    slots(&stage, &members[1], "keep n1 n3").await;
    slots(&stage, &members[2], "keep n1 n2").await;
    let began = Instant::now();
    assert!(stage.field.signal_store(REGION, Signal::SIGSTOP));
    tokio::time::sleep(TTL + Duration::from_secs(5)).await;
    write_wal(&members[0], 300).await;
    // The reader of the permanent slot confirms; its copies follow by what the leader says.
    let confirm = "SELECT pg_replication_slot_advance('keep', pg_current_wal_flush_lsn())";
    run_sql(&members[0], confirm).await;
    for member in &members {
        keeps_little(&stage, &members[0], member).await;
    }
    tokio::time::sleep(Duration::from_secs(60).saturating_sub(began.elapsed())).await;
    assert_eq!(stage.get(&members[0], "/primary").await.status, 200, "it leads on");
    assert!(stage.field.signal_store(REGION, Signal::SIGCONT));
    assert_eq!(stage.healthy(LONG).await.name, members[0].name);
    slots(&stage, &members[0], "keep n2 n3").await;
    stage.one_writer();
    stage.end();
}

/// Writes WAL in steps that are small beside the part of the limit in which a slot is warned of.
async fn write_until_near_the_limit(member: &MemberPlan, slot: &str) {
    let is_near = format!(
        "SELECT (safe_wal_size < 20000000)::text FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    run_sql(member, "CREATE TABLE bulk (t text)").await;
    for _ in 0..60 {
        if ask_sql(member, &is_near).await.expect("the slot is there") == "true" {
            return;
        }
        let rows = "INSERT INTO bulk SELECT repeat(md5(n::text), 30) \
                    FROM generate_series(1, 4000) n";
        run_sql(member, rows).await;
    }
    panic!("the slot {slot} has room after all of the writing");
}

/// Each slot is shown with its holder and what it keeps, and warned of before it is lost.
pub async fn shown() {
    let mut stage = Stage::prepare_in(2, |plan| {
        keep_little_wal(plan);
        plan.dcs["postgresql"]["parameters"]["max_slot_wal_keep_size"] = json!("128MB");
        plan.dcs["slots"] = json!({"keep": {"type": "physical"}});
    });
    let members = stand_up_behind_the_first(&mut stage).await;
    slots(&stage, &members[0], "keep n2").await;
    let mark = stage.mark(&members[0]);
    let warning = "the slot keep (holder: permanent, not active) keeps ";
    write_until_near_the_limit(&members[0], "keep").await;
    let told = async || stage.log_since(&members[0], mark).contains(warning);
    stage.until("a warning of the slot", LOOPS, told).await;
    let log = stage.log_since(&members[0], mark);
    assert!(log.contains(warning) && log.contains("by max_slot_wal_keep_size"), "{log}");
    assert_eq!(log.matches(warning).count(), 1, "told once");

    let body = stage.get(&members[0], "/slots").await.body;
    let told = body["slots"].as_array().expect("a list");
    let of = |name: &str| told.iter().find(|slot| slot["name"] == name).expect(name).clone();
    assert_eq!((&of("n2")["holder"], &of("n2")["active"]), (&json!("n2"), &json!(true)));
    let keep = of("keep");
    assert!(keep["distance_bytes"].as_u64().is_some_and(|kept| kept > 50 << 20), "{keep}");
    assert!(keep["safe_bytes"].as_i64().is_some(), "{keep}");
    let metrics = stage.get(&members[0], "/metrics").await.body;
    let metrics = metrics.as_str().expect("a text");
    for name in ["active", "distance_bytes", "safe_bytes", "lost", "info"] {
        let name = format!("matriarch_slot_{name}{{");
        assert!(metrics.contains(&name), "{name}: {metrics}");
    }
    let listed = control(&stage, &["slots", "-f", "tsv"]).await;
    assert!(listed.contains("n1\tkeep\tphysical\tpermanent\t"), "{listed}");
    assert!(listed.contains("n2\tkeep\tphysical\tpermanent\t"), "{listed}");
    stage.one_writer();
    stage.end();
}
