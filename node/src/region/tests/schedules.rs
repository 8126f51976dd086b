//! Schedules and requests to give a move up, with agents as they are.

use super::*;
use crate::region::request::request_abort;
use crate::region::schedules::{cancel, create};
use topology::region::AbortRequest;
use topology::schedule::{Outcome, Schedule};

fn in_a_moment(id: &str, ms: u64) -> Schedule {
    Schedule::once(id, "a".into(), "b".into(), unix_ms() + ms)
}

/// The ways of an operator to the stores.
fn lines(world: &World) -> BTreeMap<RegionName, Arc<dyn Store>> {
    let line = |(name, store): (&&str, &MemoryStore)| {
        ((*name).into(), Arc::new(store.client()) as Arc<dyn Store>)
    };
    world.stores.iter().map(line).collect()
}

fn outcome(world: &World, region: &str, id: &str) -> Option<Outcome> {
    let known = world.site(region).topology.schedules.remove(id)?;
    known.last.map(|last| last.outcome)
}

async fn ask_abort(world: &World) -> Result<(), RequestError> {
    let id = world.site("a").topology.journal().expect("a move").id.clone();
    let request = AbortRequest { host: "desk".into(), at_ms: unix_ms() };
    request_abort(&world.stores["a"], &keys(), &id, &request).await
}

#[tokio::test]
async fn a_scheduled_move_begins_by_itself_and_both_stores_tell_so() {
    let world = World::with_agents(20);
    world.settled().await;
    create(&lines(&world), &keys(), &in_a_moment("s", 300)).await.expect("made");
    assert!(world.site("b").topology.schedules["s"].is_pending());
    assert_eq!(world.phase("a"), None, "its time has not come");
    world.until("the move is done", |w| w.phase("b") == Some(Phase::Done)).await;
    assert!(world.is_open("b"));
    let started = |w: &World, region| matches!(outcome(w, region, "s"), Some(Outcome::Started(_)));
    world.until("both know", |w| started(w, "a") && started(w, "b")).await;
    let id = world.site("b").topology.journal().map(|journal| journal.id.clone());
    assert_eq!(outcome(&world, "a", "s"), id.map(Outcome::Started));
}

#[tokio::test]
async fn a_schedule_that_one_store_does_not_take_is_taken_back_from_all() {
    let world = World::with_agents(20);
    world.settled().await;
    let mut lines = lines(&world);
    let cut = world.stores["b"].client();
    cut.set_unreachable(true);
    lines.insert("b".into(), Arc::new(cut.clone()));
    let made = create(&lines, &keys(), &in_a_moment("s", 60_000)).await;
    let why = made.expect_err("b was not written").to_string();
    assert!(why.contains("region b") && why.contains("left in the stores of b"), "{why}");
    let cancelled =
        |w: &World, region| matches!(outcome(w, region, "s"), Some(Outcome::Cancelled(_)));
    assert!(cancelled(&world, "a"));
    world.until("the agent tells b", |w| cancelled(w, "b")).await;
}

#[tokio::test]
async fn an_id_that_is_taken_is_no_schedule_that_was_made() {
    let world = World::new(20);
    let lines = lines(&world);
    create(&lines, &keys(), &in_a_moment("s", 60_000)).await.expect("made");
    let other = in_a_moment("s", 90_000);
    assert!(create(&lines, &keys(), &other).await.is_err());
    assert_ne!(world.site("a").topology.schedules["s"], other);
}

#[tokio::test]
async fn what_is_cancelled_at_the_owner_is_cancelled_everywhere_and_once() {
    let world = World::with_agents(20);
    world.settled().await;
    let schedule = in_a_moment("s", 60_000);
    create(&lines(&world), &keys(), &schedule).await.expect("made");
    cancel(&world.stores["a"], &keys(), &schedule, "by hand").await.expect("cancelled");
    let cancelled =
        |w: &World, region| matches!(outcome(w, region, "s"), Some(Outcome::Cancelled(_)));
    world.until("b knows", |w| cancelled(w, "a") && cancelled(w, "b")).await;
    let again = cancel(&world.stores["a"], &keys(), &schedule, "by hand").await;
    assert!(again.expect_err("it is over").to_string().contains("cancelled: by hand"));
}

#[tokio::test]
async fn a_move_is_aborted_on_request_and_the_old_side_serves_again() {
    let world = World::with_agents(20);
    world.settled().await;
    lock(&world.servers).is_replay_stuck = true;
    world.ask("a", "b").await.expect("asked");
    world.until("the old side is down", |w| w.phase("a") == Some(Phase::CatchUp)).await;
    ask_abort(&world).await.expect("written");
    world.until("the move is given up", |w| w.phase("a") == Some(Phase::Aborted)).await;
    world.until("the old side is open", |w| w.is_open("a")).await;
    assert_eq!((world.epoch("a"), world.roles("b")), (1, vec![Role::Standby; 3]));
    let why = world.site("a").topology.journal().and_then(|j| j.error.clone());
    assert_eq!(why.as_deref(), Some("an operator aborted it on host desk"));
}

#[tokio::test]
async fn a_request_to_abort_waits_for_the_next_driver() {
    let mut world = World::with_agents(20);
    world.settled().await;
    lock(&world.servers).is_replay_stuck = true;
    world.ask("a", "b").await.expect("asked");
    world.until("the old side is down", |w| w.phase("a") == Some(Phase::CatchUp)).await;
    world.kill_agent("a");
    ask_abort(&world).await.expect("written");
    lock(&world.servers).is_replay_stuck = false;
    assert_eq!(world.phase("a"), Some(Phase::CatchUp), "no driver lives");
    world.add_daemon("a", "n2");
    world.until("the move is given up", |w| w.phase("a") == Some(Phase::Aborted)).await;
    world.until("the old side is open", |w| w.is_open("a")).await;
    assert_eq!(world.epoch("a"), 1);
}

#[tokio::test]
async fn a_decided_move_is_not_taken_back() {
    let world = World::with_agents(20);
    world.settled().await;
    lock(&world.servers).is_replay_stuck = true;
    world.ask("a", "b").await.expect("asked");
    world.until("all have signed", |w| w.phase("a") == Some(Phase::CatchUp)).await;
    world.cut_regions(true);
    lock(&world.servers).is_replay_stuck = false;
    world.until("the decision is made", |w| w.epoch("a") == 2).await;
    let refused = ask_abort(&world).await.expect_err("it is decided");
    assert!(matches!(refused, RequestError::Decided { .. }), "{refused}");
    world.cut_regions(false);
    world.until("the move is done", |w| w.phase("a") == Some(Phase::Done)).await;
    let late = ask_abort(&world).await.expect_err("it is over");
    assert!(matches!(late, RequestError::NoMove), "{late}");
}
