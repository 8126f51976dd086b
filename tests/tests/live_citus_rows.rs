//! The rows of `pg_dist_node` on the real Citus extension: drift, secondaries, groups that
//! come and go, shard moves. Without the extension nothing is shown, and the tests say so.

use ctl::field::Plan;
use serde_json::json;
use std::time::{Duration, Instant};
use tests::live::citus_lab::{LOOP_WAIT, Lab, Row, connect};
use tests::live::run_alone;

const LIMIT: Duration = Duration::from_secs(300);
/// Beyond a beat: the machine may have other work.
const ROOM: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(30);

fn primaries(rows: &[Row]) -> Vec<(i32, u32, u16)> {
    let primaries = rows.iter().filter(|row| row.role == "primary");
    primaries.map(|row| (row.nodeid, row.group, row.port)).collect()
}

/// Rows that are not the daemon's to arrange: a clone, a disabled node, another cluster.
const OTHERS: &str = "\
    INSERT INTO pg_dist_node (nodeid, groupid, nodename, nodeport, noderole, nodecluster, \
                              isactive, nodeisclone, nodeprimarynodeid) VALUES \
    (101, 1, 'clone', 5432, 'secondary', 'default', false, true, 2), \
    (102, 1, 'disabled', 5432, 'secondary', 'default', false, false, 0), \
    (103, 1, 'elsewhere', 5432, 'secondary', 'reports', true, false, 0)";

#[test]
fn r1_drift_is_repaired_within_a_beat_and_what_is_not_ours_stays() {
    run_alone("drift is repaired within a beat", LIMIT, async {
        let Some(mut lab) = Lab::prepare(&[(0, 1), (1, 1), (2, 1)], two_databases) else { return };
        lab.start(&[0, 1, 2]).await;
        lab.wired(&[0, 1, 2]).await;
        every_database_and_every_node_has_its_rows(&lab).await;
        let (coordinator, worker) = (lab.leader(0).await, lab.leader(2).await);
        let before = primaries(&lab.rows(&coordinator).await);
        lab.must(&coordinator, OTHERS).await;
        let repairs = lab.metric(&coordinator, "matriarch_citus_repairs_total").await;

        let wrong =
            "UPDATE pg_dist_node SET nodeport = 1 WHERE groupid = 1 AND noderole = 'primary'";
        for (count, what, at) in [(1.0, "a row", &coordinator), (2.0, "a worker's copy", &worker)] {
            lab.must(at, wrong).await;
            let changed = Instant::now();
            let right = async || lab.has_primaries(&[0, 1, 2]).await;
            lab.until(&format!("{what} that is right again"), SOON, right).await;
            let took = changed.elapsed();
            println!("  {what} that another program changed is right after {took:.2?}");
            assert!(took < LOOP_WAIT + ROOM, "{took:?}");
            // One round may repair both: the next fault comes after the end of this one.
            lab.soon("the repair in the metrics", async || {
                lab.metric(&coordinator, "matriarch_citus_repairs_total").await >= repairs + count
            })
            .await;
        }
        let named = "the copy of pg_dist_node on group 2: row";
        assert!(lab.field.log(&coordinator.name).contains(named));

        let rows = lab.rows(&coordinator).await;
        assert_eq!(primaries(&rows), before, "primary rows keep their nodeids");
        for nodeid in [101, 102, 103] {
            assert!(rows.iter().any(|row| row.nodeid == nodeid), "row {nodeid} is gone");
        }
        let copy = lab.rows(&worker).await;
        assert_eq!(copy, rows, "the worker's copy has them too");
        lab.end();
    });
}

/// A second database, and a name of their own for connections to group 1.
fn two_databases(plan: &mut Plan) {
    let members: Vec<_> = plan.members().cloned().collect();
    let one = members.iter().find(|member| member.group == Some(1)).expect("a worker");
    let pooler = format!("localhost:{}", one.pg_port);
    for member in &members {
        let citus = json!({"citus": {"databases": ["more"], "poolers": {"1": pooler}}});
        plan.overlays.insert(member.name.clone(), citus);
    }
}

async fn every_database_and_every_node_has_its_rows(lab: &Lab) {
    let (coordinator, worker) = (lab.leader(0).await, lab.leader(2).await);
    let rows = "SELECT count(*) FROM pg_dist_node WHERE noderole = 'primary' AND metadatasynced";
    lab.soon("rows in the second database", async || {
        lab.sql_in(&coordinator, "more", rows).await == Some(vec![vec!["3".to_string()]])
    })
    .await;
    let poolers = "SELECT poolinfo FROM pg_dist_poolinfo JOIN pg_dist_node USING (nodeid) \
                   WHERE groupid = 1";
    for (at, database) in [(&coordinator, "app"), (&worker, "app"), (&worker, "more")] {
        lab.soon("the pooler of group 1", async || {
            let found = lab.sql_in(at, database, poolers).await.unwrap_or_default();
            found.len() == 1 && found[0][0].contains("localhost")
        })
        .await;
    }
}

#[test]
fn r2_secondaries_serve_readers_trade_places_and_follow_their_tags() {
    run_alone("secondaries serve readers and trade places", LIMIT, async {
        let Some(mut lab) = Lab::prepare(&[(0, 2), (1, 2), (2, 2)], |_| {}) else { return };
        lab.start(&[0, 1, 2]).await;
        lab.wired(&[0, 1, 2]).await;
        has_secondaries(&lab, 3).await;
        let coordinator = lab.leader(0).await;
        let table = "CREATE TABLE t (k int PRIMARY KEY); SET citus.shard_count = 4; \
                     SELECT create_distributed_table('t', 'k'); \
                     INSERT INTO t SELECT generate_series(1, 100)";
        lab.must(&coordinator, table).await;
        readers_are_served_by_standbys(&lab).await;

        // A standby that becomes the leader trades places with the old one.
        let before = lab.rows(&coordinator).await;
        let of_one = |rows: &[Row]| -> Vec<(i32, String)> {
            let rows = rows.iter().filter(|row| row.group == 1);
            rows.map(|row| (row.nodeid, row.role.clone())).collect()
        };
        lab.switchover(1).await;
        lab.healthy(1).await;
        lab.wired(&[0, 1, 2]).await;
        has_secondaries(&lab, 3).await;
        let after = lab.rows(&coordinator).await;
        assert_eq!(of_one(&before), of_one(&after), "all rows keep their nodeids");
        let ports = |rows: &[Row]| -> Vec<u16> {
            let rows = rows.iter().filter(|row| row.group == 1);
            rows.map(|row| row.port).collect()
        };
        let mut swapped = ports(&after);
        swapped.reverse();
        assert_eq!(ports(&before), swapped);
        readers_are_served_by_standbys(&lab).await;

        tags_and_loss(&mut lab).await;
        lab.end();
    });
}

async fn has_secondaries(lab: &Lab, count: usize) {
    let coordinator = lab.leader(0).await;
    let what = format!("{count} secondaries");
    lab.until(&what, 2 * SOON, async || {
        let rows = lab.rows(&coordinator).await;
        rows.iter().filter(|row| row.role == "secondary").count() == count
    })
    .await;
}

async fn readers_are_served_by_standbys(lab: &Lab) {
    let coordinator = lab.leader(0).await;
    let count = "SET citus.use_secondary_nodes = 'never'; SELECT 1";
    // The setting holds from the start of a session only.
    assert!(lab.sql(&coordinator, count).await.is_none());
    let read = "SELECT pg_is_in_recovery(), count(*) FROM t GROUP BY 1";
    assert_eq!(lab.must(&coordinator, read).await, [["f", "100"]]);
    let always = connect(&coordinator, "app", "-c citus.use_secondary_nodes=always").await;
    let client = always.expect("a session");
    let row = client.query_one(read, &[]).await.expect("readers are served");
    let (on_standby, rows): (bool, i64) = (row.get(0), row.get(1));
    assert!(on_standby && rows == 100, "{on_standby} {rows}");
    assert!(client.execute("INSERT INTO t VALUES (-1)", &[]).await.is_err(), "they cannot write");
}

async fn tags_and_loss(lab: &mut Lab) {
    let standby = lab.standby(2).await;
    for (noloadbalance, count) in [(true, 2), (false, 3)] {
        let tags = json!({"tags": {"noloadbalance": noloadbalance}});
        lab.field.reconfigure(&standby, &tags).expect("a file");
        lab.field.signal_daemon(&standby.name, nix::sys::signal::Signal::SIGHUP);
        has_secondaries(lab, count).await;
    }
    lab.field.kill_node(&standby);
    has_secondaries(lab, 2).await;
    lab.field.start_member(&standby).expect("it starts");
    has_secondaries(lab, 3).await;
}

#[test]
fn r3_groups_with_gaps_come_before_the_coordinator_and_go_by_command() {
    run_alone("groups come before the coordinator and go by command", LIMIT, async {
        let groups = [(3, 1), (7, 2), (9, 1), (0, 1)];
        let Some(mut lab) = Lab::prepare(&groups, |_| {}) else { return };
        lab.start(&[3, 7]).await;
        lab.start(&[0]).await;
        let took = lab.wired(&[0, 3, 7]).await;
        println!("  rows of groups 3 and 7 {took:.2?} after the coordinator, which came last");
        let coordinator = lab.leader(0).await;
        let table = "CREATE TABLE t (k int PRIMARY KEY); SET citus.shard_count = 4; \
                     SELECT create_distributed_table('t', 'k'); \
                     INSERT INTO t SELECT generate_series(1, 1000)";
        lab.must(&coordinator, table).await;
        lab.start(&[9]).await;
        lab.wired(&[0, 3, 7, 9]).await;
        move_survives_a_failover(&mut lab).await;

        remove_group(&lab).await;
        anew(&mut lab).await;
        lab.end();
    });
}

/// A transaction on the source keeps the move waiting for its slot.
async fn move_survives_a_failover(lab: &mut Lab) {
    let (coordinator, source, target) =
        (lab.leader(0).await, lab.leader(3).await, lab.leader(9).await);
    let shard = "SELECT shardid FROM pg_dist_placement WHERE groupid = 3 ORDER BY 1 LIMIT 1";
    let shard = lab.must(&coordinator, shard).await[0][0].clone();
    let open = connect(&source, "app", "").await.expect("a session");
    open.batch_execute("BEGIN; SELECT txid_current()").await.expect("a transaction");
    let client = connect(&coordinator, "app", "").await.expect("a session");
    let sql = format!(
        "SELECT citus_move_shard_placement({shard}, '{}', {}, '{}', {}, 'force_logical')",
        source.host, source.pg_port, target.host, target.pg_port
    );
    let moving = tokio::spawn(async move { client.batch_execute(&sql).await });
    let slots =
        "SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'citus_shard_move%'";
    lab.soon("a slot of the move", async || !lab.must(&source, slots).await.is_empty()).await;
    let said = lab.ctl(&coordinator, &["citus", "check"], "").await;
    assert!(said.1.contains("shard move"), "{}", said.1);

    let lost = lab.leader(7).await;
    let begin = Instant::now();
    lab.field.kill_node(&lost);
    let others: Vec<_> = lab.members(7).into_iter().filter(|m| m.name != lost.name).collect();
    let heir = &others[0];
    lab.until("the row of the new leader", 2 * SOON, async || {
        let rows = lab.rows(&coordinator).await;
        rows.iter().any(|row| row.group == 7 && row.role == "primary" && row.port == heir.pg_port)
    })
    .await;
    println!("  an uninvolved group failed over in {:.2?}", begin.elapsed());
    assert!(!moving.is_finished(), "the move ended: {:?}", moving.await);
    assert!(!lab.must(&source, slots).await.is_empty(), "the slot of the move is gone");
    open.batch_execute("COMMIT").await.expect("it ends");
    let moved = tokio::time::timeout(SOON, moving).await.expect("in time").expect("no panic");
    moved.unwrap_or_else(|why| panic!("the move failed: {why:?}"));
    let at = format!("SELECT groupid FROM pg_dist_placement WHERE shardid = {shard}");
    assert_eq!(lab.must(&coordinator, &at).await, [["9"]]);
    assert_eq!(lab.must(&coordinator, "SELECT count(*) FROM t").await, [["1000"]]);
    lab.field.start_member(&lost).expect("it starts");
    lab.healthy(7).await;
    lab.wired(&[0, 3, 7, 9]).await;
}

/// Only a person's word removes a group, and the daemon does not bring it back.
async fn remove_group(lab: &Lab) {
    let (coordinator, worker) = (lab.leader(0).await, lab.leader(9).await);
    let (done, said) = lab.ctl(&coordinator, &["citus", "remove-group", "9"], "9\nno\n").await;
    assert!(!done, "{said}");
    assert!(lab.has_primaries(&[0, 3, 7, 9]).await);
    let answers = "9\nYes I am aware\n";
    let (done, said) = lab.ctl(&coordinator, &["citus", "remove-group", "9"], answers).await;
    assert!(done, "{said}");
    println!("{}", said.lines().map(|line| format!("    {line}\n")).collect::<String>());
    for _ in 0..6 {
        assert!(lab.has_primaries(&[0, 3, 7]).await, "the group is back");
        tokio::time::sleep(LOOP_WAIT / 2).await;
    }
    assert_eq!(lab.must(&coordinator, "SELECT count(*) FROM t").await, [["1000"]]);
    let known = lab.must(&worker, "SELECT count(*) FROM pg_dist_node").await;
    assert_eq!(known, [["0"]], "the removed worker still knows the formation");
}

/// Removed from the store and made from nothing, it is a new group of the formation.
async fn anew(lab: &mut Lab) {
    let (coordinator, worker) = (lab.leader(0).await, lab.leader(9).await);
    lab.field.kill_node(&worker);
    let answers = format!("shop\nYes I am aware\n{}\n", worker.name);
    let args = ["remove", "shop", "--group", "9"];
    let (done, said) = lab.ctl(&coordinator, &args, &answers).await;
    assert!(done, "{said}");
    std::fs::remove_dir_all(lab.field.data_dir(&worker)).expect("our own directory");
    lab.start(&[9]).await;
    lab.wired(&[0, 3, 7, 9]).await;
    let group = lab.must(&worker, "SELECT groupid FROM pg_dist_local_group").await;
    assert_eq!(group, [["9"]]);
}
