//! Every row fires, and pauses, rounds and events go together as they should.

use super::event::{Event, EventKind};
use super::rules::REGISTRAR;
use super::*;
use crate::model::row;
use crate::{GroupNow, Terms, Wish, desired, diff};
use std::collections::BTreeSet;

struct Bench {
    registrar: Registrar,
    sight: Sight,
    fired: BTreeSet<u16>,
}

fn at(host: &str) -> Address {
    Address::new(host, 5432)
}

fn groups(leaders: &[(u32, Option<&str>)]) -> Groups {
    let group = |(number, leader): &(u32, Option<&str>)| {
        (*number, GroupNow { leader: leader.map(at), ..GroupNow::default() })
    };
    leaders.iter().map(group).collect()
}

fn usual() -> Groups {
    groups(&[(0, Some("c")), (1, Some("w1")), (2, Some("w2"))])
}

fn event(kind: EventKind, group: u32, leader: &str) -> Event {
    Event { kind, group, leader: leader.into(), timeout_ms: 30_000, cooldown_ms: Some(7_000) }
}

impl Bench {
    fn new() -> Bench {
        let sight = Sight {
            now: Millis(1_000_000),
            may_act: true,
            groups: usual(),
            opening: false,
            whole: true,
            is_lock_left: false,
            in_tail: false,
            has_copies: true,
            loop_wait_ms: 10_000,
            retry_timeout_ms: 10_000,
        };
        Bench { registrar: Registrar::default(), sight, fired: BTreeSet::new() }
    }

    /// All rows are right and nothing is in doubt.
    fn at_rest() -> Bench {
        let mut bench = Bench::new();
        assert!(matches!(bench.step(), Step::Round(Round { resolve: true, .. })));
        bench.round_ends(true);
        assert_eq!(bench.step(), Step::Rest);
        bench
    }

    fn step(&mut self) -> Step {
        self.registrar.observe(&self.sight);
        let facts = rules::Facts { registrar: &self.registrar, sight: &self.sight };
        self.fired.insert(rules::first(&facts).id);
        self.registrar.step(&self.sight)
    }

    fn ends(&mut self, ended: Ended) {
        self.registrar.ended(self.sight.now, ended);
    }

    fn round_ends(&mut self, settled: bool) {
        let did = Did { repaired: false, settled, complete: settled, resolved: true };
        self.ends(Ended::Round(did));
    }

    fn tell(&mut self, kind: EventKind, group: u32, leader: &str) -> bool {
        self.registrar.take_event(&event(kind, group, leader), self.sight.now)
    }

    fn wait(&mut self, ms: u64) {
        self.sight.now = self.sight.now + ms;
    }

    /// The writers of group 1 are held.
    fn paused() -> Bench {
        let mut bench = Bench::at_rest();
        assert!(bench.tell(EventKind::BeforeDemote, 1, "w1"));
        assert!(matches!(bench.step(), Step::Pause(_)));
        bench.ends(Ended::Paused);
        bench
    }

    fn told(&mut self) -> String {
        self.registrar.take_told().join("; ")
    }
}

#[test]
fn ids_rise_and_the_last_row_always_matches() {
    assert!(REGISTRAR.windows(2).all(|two| two[0].id < two[1].id));
    let bench = Bench::new();
    let facts = rules::Facts { registrar: &bench.registrar, sight: &bench.sight };
    assert!((REGISTRAR.last().expect("rows").when)(&facts));
}

#[test]
fn a_switchover_is_held_from_the_request_to_the_new_leader() {
    let mut bench = Bench::at_rest();
    assert!(bench.tell(EventKind::BeforeDemote, 1, "w1"), "its sender waits");
    let Step::Pause(hold) = bench.step() else { panic!("no pause") };
    assert_eq!((hold.group, hold.cooldown_ms, hold.limit_ms), (1, 7_000, 30_000));
    assert_eq!(hold.elsewhere, BTreeMap::from([(2, at("w2"))]));
    assert!(bench.registrar.waits(1));
    bench.ends(Ended::Paused);
    assert!(!bench.registrar.waits(1), "it is answered");
    assert_eq!(bench.step(), Step::Rest, "the old leader still runs");
    bench.sight.groups = groups(&[(0, Some("c")), (1, None), (2, Some("w2"))]);
    assert_eq!(bench.step(), Step::Rest);
    bench.sight.groups = groups(&[(0, Some("c")), (1, Some("x1")), (2, Some("w2"))]);
    let mut groups = bench.sight.groups.clone();
    groups.get_mut(&1).expect("there").secondaries.push(at("w1"));
    assert_eq!(bench.step(), Step::Resume { group: 1, groups }, "the old one may come back");
    bench.ends(Ended::Resumed);
    let Step::Round(round) = bench.step() else { panic!("no round") };
    assert!(round.resolve, "what was in doubt is resolved at once");
    bench.round_ends(true);
    assert_eq!(bench.step(), Step::Rest);
    assert_eq!(bench.registrar.counts(), Counts { repairs: 0, pauses: 1, given_up: 0 });
}

#[test]
fn a_member_that_has_just_run_keeps_its_row_for_a_loop() {
    let mut bench = Bench::at_rest();
    bench.sight.groups = groups(&[(0, Some("c")), (1, Some("x1")), (2, Some("w2"))]);
    let Step::Round(round) = bench.step() else { panic!("no round") };
    assert_eq!(round.groups[&1].secondaries, [at("w1")]);
    bench.round_ends(true);
    bench.wait(bench.sight.loop_wait_ms - 1);
    assert_eq!(bench.step(), Step::Rest);
    bench.wait(1);
    let Step::Round(round) = bench.step() else { panic!("no round") };
    assert!(round.groups[&1].secondaries.is_empty());
}

#[test]
fn a_leader_that_comes_back_ends_the_pause_too() {
    let mut bench = Bench::paused();
    bench.sight.groups = groups(&[(0, Some("c")), (1, None), (2, Some("w2"))]);
    assert_eq!(bench.step(), Step::Rest);
    bench.sight.groups = usual();
    assert!(matches!(bench.step(), Step::Resume { group: 1, .. }));
    // So does its own word, where its absence was never seen.
    let mut bench = Bench::paused();
    assert!(!bench.tell(EventKind::AfterPromote, 1, "w1"));
    assert!(matches!(bench.step(), Step::Resume { group: 1, .. }));
}

#[test]
fn a_pause_ends_at_its_deadline_and_says_so() {
    let mut bench = Bench::paused();
    assert_eq!(bench.registrar.wake_in_ms(bench.sight.now), Some(30_000));
    bench.wait(29_999);
    assert_eq!(bench.step(), Step::Rest);
    bench.wait(1);
    assert_eq!(bench.step(), Step::Release { group: 1 });
    assert!(bench.told().contains("the pause of group 1 is given up: it reached its deadline"));
    bench.ends(Ended::Released);
    assert!(matches!(bench.step(), Step::Round(_)), "the rows are looked at");
    assert_eq!(bench.registrar.counts().given_up, 1);
}

#[test]
fn one_pause_at_a_time_and_the_second_waits() {
    let mut bench = Bench::paused();
    assert!(bench.tell(EventKind::BeforeDemote, 2, "w2"));
    assert_eq!(bench.step(), Step::Rest);
    assert!(bench.registrar.waits(2));
    assert!(!bench.tell(EventKind::AfterPromote, 1, "w1"));
    assert!(matches!(bench.step(), Step::Resume { group: 1, .. }));
    bench.ends(Ended::Resumed);
    assert!(matches!(bench.step(), Step::Round(_)));
    bench.round_ends(true);
    assert!(matches!(bench.step(), Step::Pause(Hold { group: 2, .. })));
}

#[test]
fn a_pause_does_not_keep_another_group_from_its_row_for_long() {
    let mut bench = Bench::paused();
    bench.sight.groups = groups(&[(0, Some("c")), (1, None), (2, Some("x2"))]);
    assert_eq!(bench.step(), Step::Rest);
    assert_eq!(bench.registrar.wake_in_ms(bench.sight.now), Some(OTHERS_MS));
    bench.wait(OTHERS_MS);
    assert_eq!(bench.step(), Step::Release { group: 1 });
    bench.ends(Ended::Released);
    assert!(matches!(bench.step(), Step::Round(_)));
}

#[test]
fn a_coordinator_that_stops_gives_its_pause_up() {
    let mut bench = Bench::paused();
    bench.sight.may_act = false;
    assert_eq!(bench.step(), Step::Release { group: 1 });
    bench.ends(Ended::Released);
    assert_eq!(bench.step(), Step::Rest);
    assert!(!bench.tell(EventKind::BeforeDemote, 1, "w1"), "nothing is known yet");
    bench.sight.may_act = true;
    let Step::Round(round) = bench.step() else { panic!("no round") };
    assert!(round.resolve, "a new leader resolves for every group");
}

#[test]
fn a_crash_in_place_is_resolved_though_no_row_changes() {
    let mut bench = Bench::at_rest();
    bench.sight.groups = groups(&[(0, Some("c")), (1, None), (2, Some("w2"))]);
    assert!(matches!(bench.step(), Step::Round(Round { resolve: false, .. })));
    bench.round_ends(true);
    assert_eq!(bench.step(), Step::Rest, "nothing can be resolved while it is away");
    bench.sight.groups = usual();
    assert!(matches!(bench.step(), Step::Round(Round { resolve: true, .. })));
    // Not every node has answered: it is tried again, after a moment.
    bench.ends(Ended::Round(Did {
        repaired: false,
        settled: true,
        complete: true,
        resolved: false,
    }));
    assert_eq!(bench.step(), Step::Rest);
    bench.wait(RETRY_MS);
    assert!(matches!(bench.step(), Step::Round(Round { resolve: true, .. })));
    bench.round_ends(true);
    assert_eq!(bench.step(), Step::Rest);
}

#[test]
fn a_round_knows_for_how_long_a_leader_has_been_gone() {
    let mut bench = Bench::at_rest();
    bench.sight.groups = groups(&[(0, Some("c")), (1, None), (2, Some("w2"))]);
    let Step::Round(round) = bench.step() else { panic!("no round") };
    assert_eq!(round.gone_ms, BTreeMap::from([(1, 0)]));
    bench.round_ends(true);
    bench.wait(4_000);
    bench.sight.groups = groups(&[(0, Some("c")), (1, Some("x1")), (2, Some("w2"))]);
    let Step::Round(round) = bench.step() else { panic!("no round") };
    assert_eq!(round.gone_ms, BTreeMap::from([(1, 4_000)]));
    bench.round_ends(true);
    bench.wait(bench.sight.loop_wait_ms);
    let Step::Round(round) = bench.step() else { panic!("no round") };
    assert!(round.gone_ms.is_empty());
}

/// Its leader may have been replaced before this coordinator looked, and the sessions of the one that
/// leads now be as old.
#[test]
fn a_new_coordinator_knows_only_that_its_own_former_leader_is_gone() {
    let mut bench = Bench::new();
    let Step::Round(round) = bench.step() else { panic!("no round") };
    assert_eq!(round.gone_ms, BTreeMap::from([(0, 0)]));
}

#[test]
fn what_was_told_of_a_crash_is_resolved_without_having_been_seen() {
    let mut bench = Bench::at_rest();
    assert!(!bench.tell(EventKind::AfterPromote, 2, "w2"));
    assert!(matches!(bench.step(), Step::Round(Round { resolve: true, .. })));
}

/// A round waits for a node that does not answer.
#[test]
fn what_waits_for_a_node_holds_up_neither_rows_nor_writers_of_others() {
    let moved = groups(&[(0, Some("c")), (1, Some("x1")), (2, Some("w2"))]);
    let mut bench = Bench::at_rest();
    bench.sight.groups = moved.clone();
    assert!(matches!(bench.step(), Step::Round(_)));
    bench.sight.groups.insert(2, groups(&[(2, Some("x2"))])[&2].clone());
    assert_eq!(bench.step(), Step::Rest, "its rows are not in");
    bench.sight.in_tail = true;
    assert_eq!(bench.step(), Step::Interrupt);
    assert_eq!(bench.step(), Step::Rest, "once");
    bench.sight.in_tail = false;
    let cut = Did { repaired: true, settled: false, complete: false, resolved: false };
    bench.ends(Ended::Round(cut));
    let Step::Round(round) = bench.step() else { panic!("no round") };
    let leader = |groups: &Groups, group| groups[&group].leader.clone();
    assert_eq!(leader(&round.groups, 2), leader(&bench.sight.groups, 2));
    assert!(round.resolve);

    bench.sight.in_tail = true;
    assert_eq!(bench.step(), Step::Rest, "no sender waits");
    assert!(bench.tell(EventKind::BeforeDemote, 1, "x1"));
    assert_eq!(bench.step(), Step::Interrupt);
    bench.sight.in_tail = false;
    bench.ends(Ended::Round(cut));
    assert!(matches!(bench.step(), Step::Pause(Hold { group: 1, .. })));
}

#[test]
fn a_round_that_failed_is_tried_again_after_a_second_and_holds_no_sender_up() {
    let mut bench = Bench::at_rest();
    bench.sight.groups = groups(&[(0, Some("c")), (1, Some("x1")), (2, Some("w2"))]);
    assert!(matches!(bench.step(), Step::Round(_)));
    bench.ends(Ended::Failed("no answer".into()));
    assert!(bench.told().contains("no answer"));
    assert_eq!(bench.step(), Step::Rest);
    assert_eq!(bench.registrar.wake_in_ms(bench.sight.now), Some(RETRY_MS));
    assert!(bench.tell(EventKind::BeforeDemote, 2, "w2"));
    assert_eq!(bench.step(), Step::Decline { group: 2 });
    assert!(!bench.registrar.waits(2) && bench.told().contains("group 2 are not held"));
    bench.wait(RETRY_MS);
    assert!(matches!(bench.step(), Step::Round(_)));
}

#[test]
fn a_pause_that_cannot_be_opened_answers_its_sender_and_is_forgotten() {
    let mut bench = Bench::at_rest();
    assert!(bench.tell(EventKind::BeforeDemote, 1, "w1"));
    assert!(matches!(bench.step(), Step::Pause(_)));
    bench.ends(Ended::Failed("another pause is open".into()));
    assert!(!bench.registrar.waits(1));
    assert!(bench.told().contains("group 1 are not held: another pause is open"));
    assert_eq!(bench.registrar.paused(), None);
}

#[test]
fn a_request_that_is_too_old_is_dropped() {
    let mut bench = Bench::paused();
    assert!(bench.tell(EventKind::BeforeDemote, 2, "w2"));
    bench.wait(30_000);
    bench.step();
    assert!(!bench.registrar.waits(2));
}

#[test]
fn a_region_opens_only_as_a_whole() {
    let mut bench = Bench::new();
    (bench.sight.opening, bench.sight.whole) = (true, false);
    assert_eq!(bench.step(), Step::Rest);
    bench.sight.whole = true;
    assert!(matches!(bench.step(), Step::Round(Round { opening: true, resolve: true, .. })));
}

/// What happens while a round runs is one more round, and that one transaction.
#[test]
fn changes_and_events_of_32_workers_in_a_second_are_one_transaction() {
    let formation = |worker: &str| {
        let worker = |group| GroupNow {
            leader: Some(at(&format!("{worker}{group}"))),
            ..GroupNow::default()
        };
        let workers = (1..=32).map(|group| (group, worker(group)));
        workers.chain([(0, groups(&[(0, Some("c"))])[&0].clone())]).collect::<Groups>()
    };
    let mut bench = Bench::new();
    bench.sight.groups = formation("old");
    assert!(matches!(bench.step(), Step::Round(_)));
    bench.round_ends(true);
    bench.wait(bench.sight.loop_wait_ms);
    assert!(matches!(bench.step(), Step::Round(_)));
    let (old, new) = (formation("old"), formation("new"));
    for group in 1..=32 {
        bench.wait(30);
        bench.sight.groups.insert(group, new[&group].clone());
        bench.tell(EventKind::AfterPromote, group, "w");
        assert_eq!(bench.step(), Step::Rest);
    }
    bench.round_ends(true);
    let Step::Round(round) = bench.step() else { panic!("no round") };
    bench.round_ends(true);
    assert_eq!(bench.step(), Step::Rest, "nothing is left for another one");

    let rows = (0..)
        .zip(old.iter())
        .map(|(nodeid, (group, now))| row(nodeid, *group, &now.leader.as_ref().expect("led").host));
    let rows: Vec<_> = rows.collect();
    let desired = desired(&round.groups, &BTreeMap::new(), &Wish::default());
    let plan = diff(&desired, &rows, &Terms::default());
    assert_eq!((plan.in_one_transaction.len(), plan.after.len()), (32, 0));
}

#[test]
fn rows_are_looked_at_once_a_loop() {
    let mut bench = Bench::at_rest();
    assert_eq!(bench.registrar.wake_in_ms(bench.sight.now), Some(10_000), "no beat has to come");
    bench.wait(bench.sight.loop_wait_ms);
    assert!(matches!(bench.step(), Step::Round(Round { resolve: false, .. })));
    bench.ends(Ended::Round(Did { repaired: true, settled: true, complete: true, resolved: true }));
    assert_eq!(bench.registrar.counts().repairs, 1);
}

#[test]
fn what_is_left_undone_is_tried_again_ever_more_seldom_and_holds_no_sender_up() {
    let mut bench = Bench::at_rest();
    bench.wait(bench.sight.loop_wait_ms);
    assert!(matches!(bench.step(), Step::Round(_)));
    for wait_ms in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        bench.round_ends(false);
        assert!(!bench.registrar.is_settled());
        bench.wait(wait_ms - 1);
        assert_eq!(bench.step(), Step::Rest, "{wait_ms}");
        bench.wait(1);
        assert!(matches!(bench.step(), Step::Round(_)), "{wait_ms}");
    }
    bench.round_ends(false);
    assert!(bench.tell(EventKind::BeforeDemote, 1, "w1"));
    assert!(matches!(bench.step(), Step::Pause(_)));
}

#[test]
fn a_region_does_not_wait_for_secondaries() {
    let mut bench = Bench::new();
    bench.step();
    let did = Did { repaired: true, settled: true, complete: false, resolved: true };
    bench.ends(Ended::Round(did));
    assert!(bench.registrar.take_settled() && !bench.registrar.is_settled());
    bench.wait(RETRY_MS);
    assert!(matches!(bench.step(), Step::Round(_)));
}

#[test]
fn every_row_fires() {
    let mut fired = BTreeSet::new();
    let mut bench = Bench::new();
    bench.sight.may_act = false;
    bench.step();
    bench.sight.is_lock_left = true;
    assert_eq!(bench.step(), Step::FreeLock);
    bench.ends(Ended::Released);
    bench.sight.is_lock_left = false;
    bench.sight.may_act = true;
    (bench.sight.opening, bench.sight.whole) = (true, false);
    bench.step();
    bench.sight.whole = true;
    bench.step();
    bench.step();
    bench.sight.opening = false;
    bench.ends(Ended::Failed("so".into()));
    bench.step();
    (bench.registrar.settled, bench.registrar.has_looked) = (Some(usual()), true);
    bench.tell(EventKind::BeforeDemote, 1, "w1");
    bench.step();
    bench.wait(RETRY_MS);
    bench.registrar.settled = None;
    bench.step();
    bench.ends(Ended::Round(Did {
        repaired: false,
        settled: false,
        complete: false,
        resolved: false,
    }));
    bench.step();
    bench.wait(RETRY_MS);
    bench.step();
    bench.round_ends(true);
    bench.step();
    bench.wait(bench.sight.loop_wait_ms);
    bench.step();
    bench.round_ends(true);
    bench.tell(EventKind::AfterPromote, 1, "w1");
    bench.step();
    bench.round_ends(true);
    bench.tell(EventKind::BeforePromote, 1, "w1");
    bench.step();
    fired.append(&mut bench.fired);
    let mut bench = Bench::paused();
    bench.step();
    bench.sight.groups = groups(&[(0, Some("c")), (1, None), (2, Some("x2"))]);
    bench.step();
    bench.wait(OTHERS_MS);
    bench.step();
    fired.append(&mut bench.fired);
    let mut bench = Bench::paused();
    bench.wait(30_000);
    bench.step();
    fired.append(&mut bench.fired);
    let mut bench = Bench::paused();
    bench.tell(EventKind::AfterPromote, 1, "w1");
    bench.step();
    fired.append(&mut bench.fired);
    let mut bench = Bench::paused();
    bench.sight.may_act = false;
    bench.step();
    fired.append(&mut bench.fired);
    let mut bench = Bench::new();
    bench.step();
    bench.registrar.has_looked = true;
    bench.tell(EventKind::BeforeDemote, 1, "w1");
    bench.sight.in_tail = true;
    bench.step();
    fired.append(&mut bench.fired);
    let all: BTreeSet<u16> = REGISTRAR.iter().map(|rule| rule.id).collect();
    assert_eq!(fired, all);
}

/// Nothing would end such a pause before its deadline.
#[test]
fn news_of_a_promotion_that_is_over_opens_no_pause() {
    let mut bench = Bench::at_rest();
    assert!(!bench.tell(EventKind::BeforePromote, 1, "w1"));
    assert_eq!(bench.step(), Step::Decline { group: 1 }, "its leader is known");
    assert!(bench.fired.contains(&1669) && bench.told().is_empty(), "its sender did not wait");
    assert_eq!(bench.step(), Step::Rest);
    bench.sight.groups = groups(&[(0, Some("c")), (1, None), (2, Some("w2"))]);
    bench.step();
    bench.round_ends(true);
    assert!(!bench.tell(EventKind::BeforePromote, 1, "w1"), "its sender does not wait");
    let mut steps = (0..3).map(|_| bench.step());
    assert!(steps.any(|step| matches!(step, Step::Pause(Hold { group: 1, .. }))));
}
