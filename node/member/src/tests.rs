//! The machine without a world: what it asks for, and what it makes of the answers.

use super::{Answer, Call, Effect, Local, Look, Member, Sight, StoreSight};
use crate::ha::failsafe::PromiseStore;
use crate::ha::observation::{End, Job, Process, Shut, ShutdownState, StopHow};
use crate::ha::{Observation, sample};
use crate::lock::OwnLease;
use crate::made_up::TakeSample;
use serde_json::json;
use topology::write::{LeaderWrite, Written};
use topology::{Dynamic, Lsn, Millis, Seen, Session, Timeline, Version, Write};

const LEASE: Session = Session::of_store(7);
const NEXT: Session = Session::of_store(8);

/// A member, its promises, and what it sees.
struct Stage {
    member: Member,
    promises: PromiseStore,
    seen: Observation,
    now: Millis,
}

impl Stage {
    /// `me` holds the lock on its lease, which is due for renewal.
    fn leader() -> Stage {
        let seen = sample::leader();
        let started = seen.now - 100_000;
        let mut member = Member::new("me".into(), 20, started);
        member.dynamic = seen.dynamic.clone();
        member.held = true;
        let renewed = seen.now - 11_000;
        let ttl_ms = member.dynamic.ttl_ms;
        member.lease = OwnLease { id: Some(LEASE), renewed, ttl_ms, next: None };
        (member.memory.lease_renewed, member.memory.lease_tried) = (renewed, renewed);
        Stage { member, promises: PromiseStore::default(), now: seen.now, seen }
    }

    /// `me` is a standby, and no member leads.
    fn candidate() -> Stage {
        let mut stage = Stage::leader();
        let follower = sample::follower();
        stage.seen = follower;
        stage.member.held = false;
        let Seen::Known(view) = &mut stage.seen.store else { panic!("the store is known") };
        view.leader = None;
        stage.member.memory.lease_renewed = stage.now;
        stage
    }

    fn sight(&self, look: Look) -> Sight {
        let (store, server) = match look {
            Look::All => (true, true),
            Look::Again { store, server } => (store, server),
        };
        Sight {
            unix_ms: 1_800_000_000_000,
            me: self.seen.me.clone(),
            store: store.then(|| StoreSight {
                group: self.seen.store.clone(),
                ownership: self.seen.ownership.clone(),
                order: None,
                closed_workers: Vec::new(),
                is_lost: self.seen.store == Seen::Unknown,
            }),
            postgres: server.then(|| self.seen.postgres.clone()),
            disk: None,
            job: None,
            ended: None,
            watchdog: Default::default(),
            history: None,
            restart: Default::default(),
        }
    }

    /// The first call of a beat.
    fn wake(&mut self) -> Call {
        let effect = self.member.wake();
        self.until_call(effect).expect("there is something to do")
    }

    /// The next call; `None`: the beat is over.
    fn answer(&mut self, answer: Answer) -> Option<Call> {
        let effect = self.member.answer(self.now, answer, &mut self.promises);
        self.until_call(effect)
    }

    fn until_call(&mut self, mut effect: Effect) -> Option<Call> {
        loop {
            effect = match effect {
                Effect::Call { call, .. } => return Some(call),
                Effect::Rest(_) => return None,
                Effect::Look(look) => {
                    let sight = Answer::Looked(Box::new(self.sight(look)));
                    self.member.answer(self.now, sight, &mut self.promises)
                }
            }
        }
    }

    fn arms(&mut self) -> Vec<Millis> {
        let local = self.member.take_local().into_iter();
        local.filter_map(|l| if let Local::Arm(at) = l { Some(at) } else { None }).collect()
    }
}

fn written(succeeded: bool) -> Answer {
    Answer::Written(Written { succeeded, version: Version::of_store(99) })
}

fn alive() -> Answer {
    Answer::Alive { alive: true, is_lost: false }
}

fn gone() -> Answer {
    Answer::Alive { alive: false, is_lost: false }
}

fn silence() -> Answer {
    Answer::NoAnswer("no answer".into())
}

#[test]
fn a_renewal_counts_from_before_it_was_sent() {
    let mut stage = Stage::leader();
    let sent = stage.now;
    assert!(matches!(stage.wake(), Call::KeepAlive(LEASE)));
    stage.now = sent + 1_500;
    stage.answer(alive());
    assert_eq!(stage.member.lease.renewed, sent);
    assert!(stage.member.status_due);
    assert_eq!(stage.arms().last(), Some(&(sent + stage.member.dynamic.ttl_ms)));
}

/// Else a server that has just stopped counts as one that runs and says nothing.
#[test]
fn the_end_of_a_job_within_a_beat_comes_with_a_look_at_what_it_did() {
    let mut stage = Stage::leader();
    assert!(matches!(stage.wake(), Call::KeepAlive(LEASE)));
    let mut answer = alive();
    for (look, is_over) in [(Look::Again { store: true, server: false }, true), (SERVER, false)] {
        let effect = stage.member.answer(stage.now, answer, &mut stage.promises);
        let Effect::Look(asked) = effect else { panic!("{effect:?}") };
        assert_eq!(asked, look);
        let mut sight = stage.sight(asked);
        sight.ended = is_over.then_some((Job::Stop { how: StopHow::Planned }, Ok(())));
        answer = Answer::Looked(Box::new(sight));
    }
    let effect = stage.member.answer(stage.now, answer, &mut stage.promises);
    assert!(!matches!(effect, Effect::Look(_)), "{effect:?}");
}

const SERVER: Look = Look::Again { store: false, server: true };

#[test]
fn a_renewal_without_an_answer_keeps_the_deadline() {
    let mut stage = Stage::leader();
    let deadline = stage.member.lease.deadline();
    stage.wake();
    stage.answer(silence());
    assert_eq!(stage.member.lease.deadline(), deadline);
    assert!(stage.member.held);
    assert_eq!(stage.member.memory.lease_misses, 1);
}

#[test]
fn a_lease_that_is_gone_is_replaced_and_the_key_moved_onto_the_new_one() {
    let mut stage = Stage::leader();
    stage.wake();
    let ttl_ms = stage.member.dynamic.ttl_ms;
    let grant = stage.answer(gone());
    assert!(matches!(grant, Some(Call::Grant { ttl_ms: asked }) if asked == ttl_ms));
    let asked = stage.now;
    stage.now = asked + 40;
    let Some(Call::Write(write)) = stage.answer(Answer::Granted(NEXT)) else { panic!("a write") };
    assert_eq!(write, Write::AdoptLock { me: "me".into(), session: NEXT });
    assert_eq!(
        stage.member.lease.next.map(|next| next.id),
        Some(NEXT),
        "it may hang on it already"
    );
    stage.answer(written(true));
    let lease = stage.member.lease;
    assert_eq!((lease.id, lease.renewed, lease.next), (Some(NEXT), asked, None));
}

#[test]
fn a_key_that_is_no_longer_ours_is_not_moved() {
    let mut stage = Stage::leader();
    stage.wake();
    stage.answer(gone());
    stage.answer(Answer::Granted(NEXT));
    assert!(matches!(stage.answer(written(false)), Some(Call::Refresh)));
    assert!(!stage.member.held);
}

#[test]
fn a_replacement_for_another_ttl_that_fails_takes_nothing_away() {
    let mut stage = Stage::leader();
    stage.member.lease.ttl_ms = 20_000;
    stage.wake();
    assert!(matches!(stage.answer(alive()), Some(Call::Grant { .. })));
    stage.answer(silence());
    assert_eq!(stage.member.lease.renewed, stage.now);
    assert_eq!(stage.member.memory.lease_misses, 0, "the lease in use was renewed");
}

#[test]
fn a_key_that_may_hang_on_an_unanswered_replacement_is_renewed_again_soon() {
    let mut stage = Stage::leader();
    stage.member.lease.ttl_ms = 20_000;
    stage.wake();
    stage.answer(alive());
    assert!(matches!(stage.answer(Answer::Granted(NEXT)), Some(Call::Write(_))));
    stage.answer(silence());
    assert_eq!(stage.member.memory.lease_misses, 1);
    assert_eq!(stage.member.lease.next.map(|next| next.id), Some(NEXT));
}

#[test]
fn a_promotion_is_not_signalled_when_the_lock_is_about_to_end() {
    let until = Millis(50_000);
    assert!(super::act::is_in_time(Millis(48_999), until));
    assert!(!super::act::is_in_time(Millis(49_000), until));
    assert!(!super::act::is_in_time(Millis(60_000), until));
}

#[test]
fn a_silent_watch_makes_a_leader_compare_its_key() {
    let mut stage = Stage::leader();
    stage.wake();
    // It broke while the lease was renewed.
    let broken = Answer::Alive { alive: true, is_lost: true };
    let Some(Call::Write(write)) = stage.answer(broken) else { panic!("a write") };
    assert_eq!(write, Write::ProveLock { me: "me".into(), session: LEASE });
    stage.seen.store = Seen::Unknown;
    stage.answer(written(false));
    assert!(!stage.member.held, "another member has it");
}

#[test]
fn the_lock_is_taken_on_a_new_lease_when_the_old_one_is_gone() {
    let mut stage = Stage::candidate();
    assert!(matches!(stage.wake(), Call::AskPeers(_)));
    let take = stage.answer(Answer::Peers(Vec::new()));
    assert!(matches!(take, Some(Call::Write(_))), "{take:?}");
    assert!(matches!(stage.answer(Answer::LeaseGone), Some(Call::Grant { .. })));
    assert!(matches!(stage.answer(Answer::Granted(NEXT)), Some(Call::Write(_))));
    stage.answer(written(true));
    assert_eq!(stage.member.lease.id, Some(NEXT));
}

#[test]
fn the_store_is_read_when_the_answer_to_a_taken_lock_is_lost() {
    let mut stage = Stage::candidate();
    stage.wake();
    stage.answer(Answer::Peers(Vec::new()));
    assert!(matches!(stage.answer(silence()), Some(Call::Refresh)));
    assert!(stage.answer(silence()).is_none(), "the beat is over, and decides again soon");
    assert!(!stage.member.held);
}

#[test]
fn a_job_that_ended_is_remembered_by_the_next_look() {
    let mut stage = Stage::leader();
    let effect = stage.member.wake();
    assert!(matches!(effect, Effect::Look(Look::All)));
    let ended = Some((Job::PrePromote, Err("it ended with 1".to_string())));
    let sight = Sight { ended, ..stage.sight(Look::All) };
    stage.answer(Answer::Looked(Box::new(sight)));
    let failed = crate::ha::observation::Gate::Failed(stage.now);
    assert_eq!(stage.member.memory.gate, failed);
}

#[test]
fn the_disk_that_takes_files_again_ends_the_wait_after_a_failure() {
    use crate::ha::observation::{Disk, Failed};
    let mut stage = Stage::leader();
    let look = |stage: &mut Stage, disk| {
        stage.member.wake();
        let sight = Sight { disk: Some(disk), ..stage.sight(Look::All) };
        stage.answer(Answer::Looked(Box::new(sight)));
    };
    let (since, why) = (stage.now, "full".to_string());
    look(&mut stage, Disk::Failing { since, why });
    let (at, why) = (stage.now, "no room".to_string());
    stage.member.memory.failed = Some(Failed { job: Job::Recover, at, times: 1, why });
    look(&mut stage, Disk::Well);
    assert_eq!(stage.member.memory.failed, None);
}

#[test]
fn known_settings_hold_while_the_configuration_cannot_be_read() {
    let mut stage = Stage::leader();
    stage.wake();
    let before = stage.member.dynamic.clone();
    stage.member.take_local();
    let Seen::Known(view) = &mut stage.seen.store else { panic!("the store is known") };
    view.take_sample("config", "no JSON", 5, 0);
    for times in [1, 0] {
        stage.member.wake();
        let sight = stage.sight(Look::All);
        stage.answer(Answer::Looked(Box::new(sight)));
        let is_told = |l: &Local| matches!(l, Local::Note(super::Level::Error, _));
        assert_eq!(stage.member.take_local().iter().filter(|l| is_told(l)).count(), times);
    }
    assert_eq!(stage.member.dynamic, before);
}

/// What is written after a beat.
fn written_after(stage: &mut Stage) -> Vec<Write> {
    let (now, seen) = (stage.now, stage.seen.clone());
    let mut next = stage.member.begin_upkeep(now, &seen, super::Particulars::default());
    let mut all = Vec::new();
    while let Some(Effect::Call { call, .. }) = next {
        if let Call::Write(write) | Call::Report { write, .. } = call {
            all.push(write);
        }
        next = stage.member.go_on_with_upkeep(now, &seen, written(true));
    }
    all
}

/// Its `pre_promote` or its start may fail; then the next one must still have that end.
#[test]
fn the_end_of_an_orderly_stop_stays_until_a_member_has_opened() {
    let reports = |stage: &mut Stage| {
        stage.member.status_due = true;
        let is_status = |write: &Write| format!("{write:?}").contains("PutStatus");
        written_after(stage).iter().any(is_status)
    };
    let mut stage = Stage::leader();
    let Seen::Known(view) = &mut stage.seen.store else { panic!("the store is known") };
    view.take_sample("status", r#"{"optime":1000,"ended":"a","ended_timeline":1}"#, 7, 0);
    let primary = std::mem::replace(&mut stage.seen.postgres, sample::follower().postgres);
    assert!(!reports(&mut stage));
    stage.seen.postgres = primary;
    assert!(reports(&mut stage));
}

/// The leader hands its lock over; the member that takes it releases it before it opens.
#[test]
fn an_end_that_was_handed_over_outlives_a_member_that_took_the_lock_and_never_opened() {
    let mut stage = Stage::candidate();
    let Seen::Known(view) = &mut stage.seen.store else { panic!("the store is known") };
    view.take_sample("status", r#"{"optime":400}"#, 7, 0);
    view.take_sample("failover", r#"{"leader":"a"}"#, 7, 0);
    stage.wake();
    let call = stage.answer(Answer::Peers(Vec::new()));
    let Some(Call::Write(Write::AcquireLock(acquisition))) = call else { panic!("{call:?}") };
    let kept = acquisition.status.expect("the end that was handed over");
    assert_eq!((kept.optime.0, kept.ended.clone()), (400, Some("a".into())));
    assert_eq!(kept.ended_timeline, Some(Timeline(2)));
    stage.answer(written(true));

    let Seen::Known(view) = &mut stage.seen.store else { panic!("the store is known") };
    view.take_sample("status", &kept.write(), 8, 0);
    view.take_sample("failover", "{}", 8, 0);
    view.take_sample("leader", "me", 8, 7);
    stage.seen.lock =
        crate::ha::observation::Lock::Mine { renewed: stage.now, deadline: stage.now };
    stage.member.status_due = true;
    let reported = written_after(&mut stage).iter().any(|w| format!("{w:?}").contains("PutStatus"));
    assert!(!reported, "it does not report before it is open");

    stage.member.begin_to_end();
    stage.seen.postgres.process = stopped_standby();
    let Call::Write(Write::ReleaseLock(release)) = stage.wake() else { panic!("a release") };
    assert_eq!(release.status, None, "what it wrote with the lock stays");
}

fn stopped_standby() -> Process {
    let (end, timeline, lsn, shut) = (End::Standby, Timeline(2), Lsn(1_000), Shut::Orderly);
    Process::Stopped(Seen::Known(ShutdownState { end, timeline, copied: false, lsn, shut }))
}

/// If it ends before its first report, the other members still know what counts.
#[test]
fn a_member_that_an_operator_names_gives_up_what_lies_beyond_its_own_end() {
    let taken = |failover: &str, optime: u64| {
        let mut stage = Stage::candidate();
        let Seen::Known(view) = &mut stage.seen.store else { panic!("the store is known") };
        view.take_sample("status", &format!(r#"{{"optime":{optime},"slots":{{"x":5}}}}"#), 7, 0);
        view.take_sample("failover", failover, 8, 0);
        let mut call = stage.wake();
        if matches!(call, Call::AskPeers(_)) {
            call = stage.answer(Answer::Peers(Vec::new())).expect("the lock is taken");
        }
        let Call::Write(Write::AcquireLock(acquisition)) = call else { panic!("{call:?}") };
        acquisition.status
    };
    let given_up = taken(r#"{"member":"me"}"#, 90_000_000).expect("it is behind");
    assert_eq!((given_up.optime, given_up.slots.len()), (Lsn(1_000), 1));
    assert_eq!(taken(r#"{"member":"me"}"#, 900), None, "it has everything");
    assert_eq!(taken("{}", 1_001), None, "within the limits, and no operator was asked");
}

/// Its own copies may be behind their readers, which the next leader has to know.
#[test]
fn what_readers_have_confirmed_stays_until_a_member_has_opened_and_refusals_are_told_at_once() {
    let reported = |stage: &mut Stage| {
        let told = |write: Write| match write {
            Write::AsLeader { write: LeaderWrite::PutStatus { status, .. }, .. } => status,
            _ => None,
        };
        written_after(stage).into_iter().find_map(told)
    };
    let mut stage = Stage::leader();
    let config = json!({"slots": {"x": {"database": "d", "plugin": "p"}}});
    stage.member.dynamic = Dynamic::read(&config).expect("a good document");
    let Seen::Known(view) = &mut stage.seen.store else { panic!("the store is known") };
    view.take_sample("status", r#"{"optime":900,"slots":{"x":800}}"#, 7, 0);
    let primary = std::mem::replace(&mut stage.seen.postgres, sample::follower().postgres);
    stage.member.status_due = true;
    let status = reported(&mut stage).expect("a report");
    assert_eq!((status.slots["x"], status.refused_slots.len()), (Lsn(800), 0));
    // It opens without the slot: no renewal is waited for.
    stage.seen.postgres = primary;
    stage.member.status_due = false;
    let status = reported(&mut stage).expect("a report");
    assert_eq!((status.slots.get("x"), status.refused_slots["x"]), (None, Lsn(800)));
    let Seen::Known(view) = &mut stage.seen.store else { panic!("the store is known") };
    view.take_sample("status", &status.write(), 8, 0);
    assert!(reported(&mut stage).is_none());
}
