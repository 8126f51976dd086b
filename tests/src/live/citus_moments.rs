//! Unlucky moments around the planned change of a worker's leader: two at once, an operator
//! who pauses, a coordinator or a worker whose daemon is gone in the middle.

use super::citus_bank::{Bank, COORDINATORS, Tale, WORKERS};
use super::citus_formation::{COORDINATOR, Formation, short_times};
use super::stage::{LONG, SHORT, TTL};
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
