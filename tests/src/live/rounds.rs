//! Rounds of faults under each way to commit: the leader's node is killed, its store and its
//! replicas are cut off from it, its replicas are far behind when it dies. Every acknowledged row is
//! counted.
//!
//! `MATRIARCH_ROUNDS`: how many rounds; 20 for the table in docs/reliability.md.

use super::net::Net;
use super::slow_link::SlowLink;
use super::stage::{LONG, SHORT, Stage, ask_sql};
use ctl::field::{MemberPlan, Writer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const STORE: &str = "etcd-local";
const TTL: Duration = Duration::from_secs(5);
const LOOP_WAIT: Duration = Duration::from_secs(1);
/// `maximum_lag_on_failover`.
const LAG_MAX: u64 = 1 << 20;
/// Of a slow link, each way.
const DELAY: Duration = Duration::from_millis(400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// `kill -9` of the leader's daemon and server.
    Kill,
    /// The leader reaches neither the store nor its replicas, until another one leads.
    Cut,
    /// The links to the leader's server are slow, then its node is killed.
    Slow,
}

const BLOWS: [Blow; 3] = [Blow::Kill, Blow::Cut, Blow::Slow];

/// The network of the group: a namespace for each node, and a slow way to each server.
struct Links {
    net: Net,
    servers: BTreeMap<String, SlowLink>,
}

impl Links {
    /// From the store and all other members.
    fn cut(&self, name: &str) {
        let all = [STORE, "n1", "n2", "n3"];
        all.iter().filter(|other| **other != name).for_each(|other| self.net.cut_both(name, other));
        // What goes through the proxies does not come from a member's address.
        self.servers.values().for_each(SlowLink::cut);
    }

    fn heal(&self) {
        self.net.heal();
        self.servers.values().for_each(SlowLink::heal);
        self.slow(Duration::ZERO);
    }

    fn slow(&self, delay: Duration) {
        self.servers.values().for_each(|link| link.delay(delay));
    }
}

/// `mode`: `synchronous_mode` of the cluster; `first`: which fault the first round has.
pub async fn of_mode(mode: Value, first: usize) {
    let rounds = std::env::var("MATRIARCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(1);
    let (mut stage, links) = raise(&mode).await;
    let writer = stage.writer("rounds").await;
    let mut bound = 0;
    for round in 0..rounds {
        let blow = BLOWS[(first + round) % BLOWS.len()];
        bound += strike(&mut stage, &links, &writer, blow).await;
    }
    let count = stage.settle(writer).await;
    let is_safe = mode != json!(false);
    let bound = if is_safe { 0 } else { bound };
    println!(
        "  synchronous_mode {mode}: {rounds} rounds, {} rows acknowledged, {} lost, at most {bound}",
        count.acknowledged, count.lost
    );
    assert!(count.lost as u64 <= bound, "{} rows are lost, {bound} may be", count.lost);
    stage.one_writer();
    stage.end();
}

async fn raise(mode: &Value) -> (Stage, Links) {
    let net = Net::lay(&[STORE, "n1", "n2", "n3"]);
    let mut servers = BTreeMap::new();
    let mut stage = Stage::prepare_in(3, |plan| {
        plan.dcs["ttl"] = json!(TTL.as_secs());
        plan.dcs["loop_wait"] = json!(LOOP_WAIT.as_secs());
        plan.dcs["retry_timeout"] = json!(2);
        plan.dcs["maximum_lag_on_failover"] = json!(LAG_MAX);
        plan.dcs["synchronous_mode"] = mode.clone();
        let region = &mut plan.regions[0];
        region.store_host = net.address(STORE);
        region.members.iter_mut().for_each(|m| m.host = net.address(&m.name));
        for name in [STORE, "n1", "n2", "n3"] {
            plan.namespaces.insert(name.into(), net.space(name));
        }
        let members: Vec<MemberPlan> = plan.members().cloned().collect();
        for member in members {
            let address = format!("{}:{}", member.host, member.pg_port);
            let link = SlowLink::to(address.parse::<SocketAddr>().expect("an address"));
            let outside = format!("{}:{}", net.outside(), link.port);
            let overlay = json!({
                "minimum_ttl": TTL.as_secs(),
                "postgresql": {"connect_address": outside, "listen": address},
            });
            plan.overlays.insert(member.name.clone(), overlay);
            servers.insert(member.name.clone(), link);
        }
    });
    stage.stand_up().await;
    (stage, Links { net, servers })
}

/// One fault, until all is well again; how many rows it may cost without a synchronous mode.
async fn strike(stage: &mut Stage, links: &Links, writer: &Writer, blow: Blow) -> u64 {
    let leader = stage.healthy(LONG).await;
    let since = Instant::now();
    let rate = rows_a_second(stage, writer, &leader).await;
    match blow {
        Blow::Kill => stage.field.kill_node(&leader),
        Blow::Cut => links.cut(&leader.name),
        Blow::Slow => {
            links.slow(DELAY);
            tokio::time::sleep(2 * DELAY + Duration::from_millis(500)).await;
            stage.field.kill_node(&leader);
        }
    }
    let new = stage.new_leader(&leader, TTL + SHORT).await;
    let outage = stage.writes_go_on(writer, since, SHORT).await;
    links.heal();
    if blow != Blow::Cut {
        stage.start(&leader);
    }
    stage.healthy(LONG).await;
    let may_lose = rate.bound(blow);
    println!("  {blow:?}: {} leads after {outage:.1?} without a row", new.name);
    may_lose
}

/// What one second of writes is.
struct Rate {
    rows: u64,
    bytes: u64,
}

impl Rate {
    /// A candidate has everything up to `maximum_lag_on_failover` before the position that the
    /// leader reported last, which it does in every loop. One that is cut off goes on until its
    /// lock is over.
    fn bound(&self, blow: Blow) -> u64 {
        let in_lag = LAG_MAX * self.rows / self.bytes.max(1);
        let seconds = match blow {
            Blow::Cut => TTL.as_secs(),
            Blow::Kill | Blow::Slow => LOOP_WAIT.as_secs() + 1,
        };
        in_lag + seconds * self.rows
    }
}

async fn rows_a_second(stage: &Stage, writer: &Writer, leader: &MemberPlan) -> Rate {
    let end = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint::text";
    let at = async || {
        let text = ask_sql(leader, end).await.expect("the leader answers");
        text.parse::<u64>().expect("a number")
    };
    let since = Instant::now();
    stage.until("rows", SHORT, async || writer.wrote_since(since)).await;
    let (rows, bytes) = (writer.acknowledged() as u64, at().await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    Rate { rows: writer.acknowledged() as u64 - rows, bytes: at().await - bytes }
}
