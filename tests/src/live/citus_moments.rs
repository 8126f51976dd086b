//! Unlucky moments around the planned change of a worker's leader: two at once, an operator
//! who pauses, a coordinator or a worker whose daemon is gone in the middle.

use super::citus_bank::{Bank, COORDINATORS, Tale, WORKERS};
use super::citus_formation::{COORDINATOR, Formation, short_times};
use super::stage::{LONG, SHORT, TTL};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What the sessions may take beyond a deadline: a second of the server, and this machine.
const MARGIN: Duration = Duration::from_secs(3);
const CALM: Duration = Duration::from_secs(1);

struct Scene {
    formation: Formation,
    bank: Bank,
}

impl Scene {
    /// None without the extension.
    async fn raise(members: [usize; 3]) -> Option<Scene> {
        let mut formation = Formation::prepare(members, short_times);
        if !formation.is_real {
            return None;
        }
        formation.stand_up().await;
        let bank = Bank::open(&formation).await;
        Some(Scene { formation, bank })
    }

    /// Everything is well again, and the books are right.
    async fn settled(&self) {
        self.formation.healthy().await;
        self.formation.is_wired(LONG).await;
        self.bank.goes_on(&self.formation, Instant::now(), SHORT).await;
        self.bank.audit(&self.formation).await;
    }

    fn tell(&self, what: &str, since: Instant) -> [Tale; 2] {
        [COORDINATORS, WORKERS].map(|way| {
            let tale = self.bank.tale(way, since);
            println!("  {what}, through the {way}: {tale:?}");
            tale
        })
    }

    async fn sum_of_pauses(&self) -> (f64, f64) {
        let pauses = self.formation.metric("matriarch_citus_pauses_total").await;
        let given_up = self.formation.metric("matriarch_citus_pauses_given_up_total").await;
        (pauses, given_up)
    }

    async fn patch(&self, group: u32, change: Value) {
        let member = self.formation.members(group)[0].clone();
        let reply = self.formation.ask.send(Method::PATCH, &member, "/config", Some(&change)).await;
        assert_eq!(reply.expect("an answer").status, 200);
    }

    fn end(self) {
        self.bank.close();
        self.formation.end();
    }
}

/// Two workers hand over at once: the second waits for the end of the first one's pause. Then
/// an operator pauses in the middle of one. Errors are told and not counted: a record that says
/// for a moment that the stopped leader runs lets the writers of its group go too early.
pub async fn two_at_once_and_a_pause() {
    let Some(scene) = Scene::raise([1, 2, 2]).await else { return };
    tokio::time::sleep(CALM).await;
    let begin = Instant::now();
    tokio::join!(scene.formation.switchover(1), scene.formation.switchover(2));
    println!("  both workers have another leader after {:.1?}", begin.elapsed());
    scene.settled().await;
    let [coordinator, _] = scene.tell("two workers at once", begin);
    assert!(coordinator.longest < TTL, "{:?}", coordinator.longest);
    assert_eq!(scene.sum_of_pauses().await, (2.0, 0.0));

    paused_in_the_middle(&scene, &[1], Duration::from_millis(150)).await;
    paused_in_the_middle(&scene, &[1, COORDINATOR], Duration::from_millis(400)).await;
    scene.end();
}

/// The clusters of these groups pause some moments after a switchover of group 1 was asked for.
async fn paused_in_the_middle(scene: &Scene, groups: &[u32], after: Duration) {
    tokio::time::sleep(CALM).await;
    let begin = Instant::now();
    let (leader, standby) = (scene.formation.leader(1).await, scene.formation.standby(1).await);
    let body = json!({"leader": leader.name, "candidate": standby.name});
    let asked = scene.formation.ask.send(Method::POST, &leader, "/switchover", Some(&body));
    let paused = async {
        tokio::time::sleep(after).await;
        for group in groups {
            scene.patch(*group, json!({"pause": true})).await;
        }
    };
    let (reply, ()) = tokio::join!(asked, paused);
    let reply = reply.expect("an answer");
    println!("  paused in a switchover: {} {}", reply.status, reply.body);
    // Writers wait for the pause's deadline at most, whichever member leads then.
    scene.bank.goes_on(&scene.formation, Instant::now(), TTL + MARGIN).await;
    let what = format!("groups {groups:?} paused {after:?} after the request");
    let [coordinator, _] = scene.tell(&what, begin);
    assert!(coordinator.longest < TTL + MARGIN, "{:?}", coordinator.longest);
    for group in groups {
        scene.patch(*group, json!({"pause": null})).await;
    }
    scene.settled().await;
}

/// The coordinator's daemon freezes, then a worker is to hand over; later the worker's daemon
/// dies between the coordinator's answer and the stop of its server.
pub async fn a_daemon_is_gone_in_the_middle() {
    let Some(mut scene) = Scene::raise([2, 2, 1]).await else { return };
    frozen_coordinator(&mut scene).await;
    dead_worker(&mut scene).await;
    scene.end();
}

async fn frozen_coordinator(scene: &mut Scene) {
    tokio::time::sleep(CALM).await;
    let old = scene.formation.leader(COORDINATOR).await;
    let begin = Instant::now();
    scene.formation.is_away(&old);
    assert!(scene.formation.field.signal_daemon(&old.name, Signal::SIGSTOP));
    let (leader, standby) = (scene.formation.leader(1).await, scene.formation.standby(1).await);
    let body = json!({"leader": leader.name, "candidate": standby.name});
    // Its stop waits for an answer longer than the client does for one.
    let reply = scene.formation.send(&leader, "/switchover", body).await;
    println!("  a worker hands over beside a frozen coordinator: {} {}", reply.0, reply.1);
    let formation = &scene.formation;
    formation
        .until("the worker's new leader", SHORT, async || {
            formation.leader_if_any(1).await.is_some_and(|leads| leads.name == standby.name)
        })
        .await;
    println!("  it has handed over after {:.1?}", begin.elapsed());
    formation
        .until("another coordinator", TTL + SHORT, async || {
            formation.leader_if_any(COORDINATOR).await.is_some()
        })
        .await;
    formation.is_wired(SHORT).await;
    println!("  rows right after {:.1?}", begin.elapsed());
    scene.bank.goes_on(formation, Instant::now(), SHORT).await;
    assert!(scene.formation.field.signal_daemon(&old.name, Signal::SIGCONT));
    scene.formation.all_are_back();
    scene.settled().await;
    scene.tell("coordinator's daemon frozen", begin);
}

/// What the daemon would have sent; then it dies and its server runs on.
async fn dead_worker(scene: &mut Scene) {
    let seconds = 6;
    tokio::time::sleep(CALM).await;
    let worker = scene.formation.leader(1).await;
    let begin = Instant::now();
    before_demote(&scene.formation, &worker, seconds).await;
    println!("  the coordinator holds the writers after {:.2?}", begin.elapsed());
    scene.formation.field.kill_daemon(&worker.name);
    scene
        .bank
        .goes_on(&scene.formation, Instant::now(), Duration::from_secs(seconds) + MARGIN)
        .await;
    let tales = scene.tell("worker's daemon dead", begin);
    for tale in &tales {
        assert!(tale.longest < Duration::from_secs(seconds) + MARGIN, "{:?}", tale.longest);
        assert!(tale.errors.is_empty(), "{:?}", tale.errors);
    }
    let (_, given_up) = scene.sum_of_pauses().await;
    assert_eq!(given_up, 1.0);
    scene.formation.field.start_member(&worker).expect("the daemon starts");
    scene.settled().await;
}

async fn before_demote(formation: &Formation, worker: &MemberPlan, seconds: u64) {
    let coordinator = formation.leader(COORDINATOR).await;
    let event = json!({
        "type": "before_demote", "group": 1, "leader": worker.name,
        "timeout": seconds, "cooldown": 5,
    });
    let reply = formation.send(&coordinator, "/citus", event).await;
    assert_eq!(reply.0, 200, "{}", reply.1);
}
