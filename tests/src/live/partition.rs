//! Cuts in the network between real nodes.

use super::net::Net;
use super::stage::{LONG, SHORT, Stage, TTL};
use ctl::field::MemberPlan;
use std::time::{Duration, Instant};

const STORE: &str = "etcd-local";

struct Split {
    stage: Stage,
    /// Dropped after the stage: its processes live in these namespaces.
    net: Net,
}

impl Split {
    async fn raise() -> Split {
        let net = Net::lay(&[STORE, "n1", "n2", "n3"]);
        let mut stage = Stage::prepare_in(3, |plan| {
            let region = &mut plan.regions[0];
            region.store_host = net.address(STORE);
            region.members.iter_mut().for_each(|m| m.host = net.address(&m.name));
            for name in [STORE, "n1", "n2", "n3"] {
                plan.namespaces.insert(name.into(), net.space(name));
            }
        });
        stage.start_store();
        for member in stage.members() {
            stage.start(&member);
        }
        stage.healthy(LONG).await;
        Split { stage, net }
    }

    fn end(self) {
        self.stage.one_writer();
        self.stage.end();
        drop(self.net);
    }

    /// The old leader must stop accepting writes and another member must lead; no third
    /// member is writable before or after that.
    async fn replaced(&self, old: &MemberPlan, what: &str) -> MemberPlan {
        let since = Instant::now();
        let closed = self
            .stage
            .until("the end of the old primary", TTL, async || {
                !self.stage.watch.writable().contains(&old.name)
            })
            .await;
        let new = self.stage.new_leader(old, TTL + SHORT).await;
        println!(
            "  {what}: closed after {closed:.1?}, {} leads after {:.1?}",
            new.name,
            since.elapsed()
        );
        new
    }

    async fn healed(&self, leader: &MemberPlan) {
        self.net.heal();
        assert_eq!(self.stage.healthy(LONG).await.name, leader.name);
    }
}

/// What the leader sends does not reach the store; what the store sends does
/// reach the leader. Then it is cut off from the store and all members.
pub async fn leader_cut_off() {
    let split = Split::raise().await;
    let writer = split.stage.writer("cut").await;
    let old = split.stage.leader().await;
    split.net.cut(&old.name, STORE);
    let new = split.replaced(&old, "leader cannot reach the store").await;
    split.healed(&new).await;
    split.stage.settle_without_loss(writer).await;

    let old = new;
    for other in [STORE, "n1", "n2", "n3"].into_iter().filter(|name| *name != old.name) {
        split.net.cut_both(&old.name, other);
    }
    let new = split.replaced(&old, "leader cut off from everybody").await;
    split.healed(&new).await;
    split.end();
}

/// The leader keeps its store and loses its replicas: it goes on.
pub async fn replicas_cut_off() {
    let split = Split::raise().await;
    let writer = split.stage.writer("alone").await;
    let leader = split.stage.leader().await;
    let since = Instant::now();
    for other in split.stage.others(&leader) {
        split.net.cut_both(&leader.name, &other.name);
    }
    // Longer than any lease: no member may have taken over.
    tokio::time::sleep(TTL + Duration::from_secs(3)).await;
    assert_eq!(split.stage.leader().await.name, leader.name);
    let pause = split.stage.writes_go_on(&writer, since, SHORT).await;
    println!("  replicas cut off: {} leads on, no writes for {pause:.2?}", leader.name);
    assert!(pause < Duration::from_secs(2), "writes stood still for {pause:?}");
    split.healed(&leader).await;
    split.stage.settle_without_loss(writer).await;

    // Members that see the store and not each other still elect one.
    let others = split.stage.others(&leader);
    split.net.cut_both(&others[0].name, &others[1].name);
    let mut split = split;
    let lost = Instant::now();
    split.stage.field.kill_node(&leader);
    let new = split.stage.new_leader(&leader, TTL + SHORT).await;
    println!(
        "  voters that do not see each other: {} leads after {:.1?}",
        new.name,
        lost.elapsed()
    );
    assert!(lost.elapsed() < TTL + Duration::from_secs(5), "the election took too long");
    split.end();
}
