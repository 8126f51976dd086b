//! A cascade of three steps below another cluster, and each of its links lost.

use super::stage::{LONG, SHORT, Stage, connect};
use super::standby_cluster::{arrives, copy_with, follows, shows, table, upstream};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use serde_json::json;

/// remote <- dr1 <- dr2 <- dr3; dr3 never leads.
pub async fn loses_each_link() {
    let main = Stage::raise(1).await;
    let remote = main.leader().await;
    table(&remote).await;
    let mut copy = copy_with(3, upstream(std::slice::from_ref(&remote)), |plan, _| {
        let members = &mut plan.regions[0].members;
        members[1].tags = json!({"clonefrom": true});
        members[2].tags = json!({"replicatefrom": "dr2", "nofailover": true});
    });
    let [first, second, third]: [MemberPlan; 3] = copy.members().try_into().expect("three");
    copy.start_store();
    copy.start(&first);
    let alone = [&first];
    copy.until("a standby leader", LONG, async || copy.ask.is_healthy(&alone).await).await;
    copy.start(&second);
    let pair = [&first, &second];
    copy.until("a pair", LONG, async || copy.ask.is_healthy(&pair).await).await;
    copy.start(&third);
    let ports = [remote.pg_port, first.pg_port, second.pg_port];
    stand(&copy, [&first, &second, &third], ports).await;
    let log = copy.field.log(&third.name);
    assert!(log.contains("trying to bootstrap from leader: dr2"), "it was not copied from dr2");
    let client = connect(&remote).await.expect("it answers");
    arrives(&copy, &client, 1).await;

    // The middle: the one behind it goes to the leader, and back again.
    copy.field.kill_node(&second);
    follows_within(&copy, &third, first.pg_port).await;
    client.execute("INSERT INTO kept VALUES (2)", &[]).await.expect("a row");
    shows(&copy, &third, 2).await;
    copy.start(&second);
    stand(&copy, [&first, &second, &third], ports).await;
    arrives(&copy, &client, 3).await;

    // The top: the middle leads.
    copy.field.kill_node(&first);
    follows_within(&copy, &second, remote.pg_port).await;
    follows(&copy, &third, second.pg_port).await;
    client.execute("INSERT INTO kept VALUES (4)", &[]).await.expect("a row");
    shows(&copy, &third, 4).await;
    copy.start(&first);
    stand(&copy, [&first, &second, &third], [second.pg_port, remote.pg_port, second.pg_port]).await;
    arrives(&copy, &client, 5).await;
    drop(client);

    // The remote side: the standby leader keeps its lock, and waits.
    let killed = main.field.postmaster_pid(&remote).expect("it runs");
    assert!(main.field.signal_postmaster(&remote, Signal::SIGKILL));
    main.restarted(&remote, killed).await;
    main.healthy(LONG).await;
    let client = connect(&remote).await.expect("it answers");
    arrives(&copy, &client, 6).await;
    for member in copy.members() {
        for word in ["running pg_rewind", "done: reinitialize"] {
            let log = copy.field.log(&member.name);
            assert!(!log.contains(word), "{} needed {word}", member.name);
        }
    }
    copy.end();
    main.end();
}

/// Each streams from the server with its port.
async fn stand(copy: &Stage, members: [&MemberPlan; 3], ports: [u16; 3]) {
    for (member, port) in members.into_iter().zip(ports) {
        follows_within(copy, member, port).await;
    }
}

/// A lease may have to run out before.
async fn follows_within(copy: &Stage, member: &MemberPlan, port: u16) {
    let sql = "SELECT sender_port::text FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    let what = format!("{} streams from port {port}", member.name);
    let wanted = port.to_string();
    copy.until(&what, LONG + SHORT, async || {
        super::stage::ask_sql(member, sql).await.is_ok_and(|sender| sender == wanted)
    })
    .await;
}
