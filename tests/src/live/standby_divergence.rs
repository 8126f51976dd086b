//! The remote cluster's failover loses what the standby cluster has.

use super::stage::{LONG, Stage, ask_sql, connect};
use super::standby_cluster::{copy_of, follows, shows, stand_by, standby_leader, table, upstream};
use ctl::field::MemberPlan;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// Standby leader and replica are rewound: the one against the remote side's new leader,
/// the other against the standby leader.
pub async fn from_the_remote() {
    let mut main = Stage::raise(2).await;
    let old = main.leader().await;
    table(&old).await;
    let other = main.others(&old)[0].clone();
    let mut copy = copy_of(2, upstream(&[old.clone(), other.clone()]));
    let leader = stand_by(&mut copy).await;
    follows(&copy, &leader, old.pg_port).await;
    let replica = copy.others(&leader)[0].clone();
    let client = connect(&old).await.expect("it answers");
    client.batch_execute("INSERT INTO kept VALUES (1); CHECKPOINT").await.expect("a row");
    shows(&main, &other, 1).await;

    let frozen = walsender_of(&old, &other).await;
    kill(frozen, Signal::SIGSTOP).expect("a walsender");
    client.batch_execute("INSERT INTO kept VALUES (2); CHECKPOINT").await.expect("a row");
    for member in copy.members() {
        shows(&copy, &member, 2).await;
    }
    drop(client);
    let marks = [copy.mark(&leader), copy.mark(&replica)];
    main.field.kill_node(&old);
    let new = main.new_leader(&old, LONG).await;
    let client = connect(&new).await.expect("it answers");
    client.batch_execute("INSERT INTO kept VALUES (3)").await.expect("a row");
    for member in copy.members() {
        shows(&copy, &member, 3).await;
    }
    assert_eq!(standby_leader(&copy).await.name, leader.name, "the lock went to another");
    for (member, mark) in [(&leader, marks[0]), (&replica, marks[1])] {
        let log = copy.log_since(member, mark);
        assert!(log.contains("done: running pg_rewind"), "{} was not rewound", member.name);
        assert!(!log.contains("done: reinitialize"), "{} was copied anew", member.name);
        let rows = ask_sql(member, "SELECT string_agg(id::text, ',' ORDER BY id) FROM kept").await;
        assert_eq!(rows.ok().as_deref(), Some("1,3"), "{} kept a lost row", member.name);
    }

    comes_back_as_it_was(&mut main, &copy, [&old, &new], &leader).await;
    copy.end();
    main.end();
}

async fn walsender_of(primary: &MemberPlan, standby: &MemberPlan) -> Pid {
    let sql = format!(
        "SELECT pid::text FROM pg_stat_replication WHERE application_name = '{}'",
        standby.name
    );
    let pid = ask_sql(primary, &sql).await.expect("it answers");
    Pid::from_raw(pid.parse().expect("a walsender"))
}

/// The first server of the list comes back with the lost history while the second one is
/// away: nothing is rewound to that.
async fn comes_back_as_it_was(
    main: &mut Stage,
    copy: &Stage,
    [old, new]: [&MemberPlan; 2],
    leader: &MemberPlan,
) {
    main.patch_by(new, json!({"pause": true})).await;
    let mark = copy.mark(leader);
    assert!(main.field.signal_postmaster(new, Signal::SIGKILL));
    // By hand, without its daemon: as a machine does that was cut off.
    let mut by_hand = main.field.command(&main.field.plan.pg_bin.join("pg_ctl"));
    by_hand.args(["start", "-w", "-l", "by_hand.log", "-D"]).arg(main.field.data_dir(old));
    assert!(by_hand.status().expect("pg_ctl runs").success());
    tokio::time::sleep(std::time::Duration::from_secs(15)).await;
    let log = copy.log_since(leader, mark);
    assert!(
        log.contains("the remote server is on timeline"),
        "the old server was not asked:\n{log}"
    );
    assert!(!log.contains("pg_rewind"), "{} was rewound to a history that was left", leader.name);
    let mut end = main.field.command(&main.field.plan.pg_bin.join("pg_ctl"));
    end.args(["stop", "-m", "immediate", "-D"]).arg(main.field.data_dir(old));
    assert!(end.status().expect("pg_ctl runs").success());
    main.patch_by(new, json!({"pause": false})).await;
    main.new_leader(old, LONG).await;
    let client = connect(new).await.expect("it answers");
    client.batch_execute("INSERT INTO kept VALUES (4)").await.expect("a row");
    for member in copy.members() {
        shows(copy, &member, 4).await;
    }
}
