//! Every row of the chores and of the overrides, shown firing.

use super::chores::{CHORES, ChoreSight, Moment, Work};
use super::overrides::{OVERRIDES, Overrides};
use super::planned_restart::PLANNED_RESTART;
use super::{Answer, Call, Effect, Level, Local, Member, Reload};
use crate::ha::observation::{Job, Process, Running, ServerRole, StopHow};
use crate::ha::{Observation, sample};
use crate::lock::OwnLease;
use crate::made_up::TakeSample;
use crate::made_up_move;
use crate::role::Role;
use serde_json::json;
use standby::switch::LocalTopology;
use standby::switch::ownership::Ownership;
use standby::sync::Replication;
use topology::region::{Journal, Phase};
use topology::write::Written;
use topology::{
    Dynamic, Group, Lsn, Millis, Seen, Session, SyncMode, Timeline, Version, Versioned,
};

/// A member, and what it sees after its beats.
struct Stage {
    member: Member,
    seen: Observation,
    own: ChoreSight,
}

/// What a server says that answers, and that no standby streams from.
const NOTHING_STREAMS: Replication = Replication {
    lsn: Lsn(0),
    names: String::new(),
    is_acting: true,
    commit: String::new(),
    senders: Vec::new(),
};

const APPLIED: Answer = Answer::Applied { reloaded: true };

/// What a performer says of a call that it could carry out.
fn success(call: &Call) -> Answer {
    match call {
        Call::ApplySettings { .. } => APPLIED,
        _ => Answer::Done,
    }
}

impl Stage {
    fn of(mut seen: Observation, role: Role) -> Stage {
        if let Process::Running(server) = &mut seen.postgres.process {
            server.replication = Some(NOTHING_STREAMS);
        }
        let mut member = Member::new("me".into(), 20, Millis(1));
        member.dynamic = Dynamic::read(&json!({"ttl": 30})).expect("a good document");
        let ttl_ms = member.dynamic.ttl_ms;
        let id = Some(Session::of_store(7));
        member.lease = OwnLease { id, renewed: seen.now, ttl_ms, next: None };
        Stage { member, seen, own: ChoreSight { runs_as: Some(role), ..ChoreSight::default() } }
    }

    fn leader() -> Stage {
        Stage::of(sample::leader(), Role::Primary)
    }

    fn follower() -> Stage {
        Stage::of(sample::follower(), Role::Replica)
    }

    /// All calls of one time after a beat, each answered in the same way.
    fn calls(&mut self, answer: impl Fn(&Call) -> Answer) -> Vec<Call> {
        let mut calls = Vec::new();
        for moment in [Moment::First, Moment::Last] {
            let own = std::mem::take(&mut self.own);
            self.own.runs_as = own.runs_as;
            let now = self.seen.now;
            let mut next = self.member.begin_chores(now, &self.seen, moment, own);
            while let Some(Effect::Call { call, limit_ms }) = next {
                assert!(limit_ms.is_some_and(|ms| ms > 0), "every chore has an end");
                let answer = answer(&call);
                calls.push(call);
                next = self.member.go_on_with_chores(now, &self.seen, answer);
            }
        }
        calls
    }

    fn done(&mut self) -> Vec<Call> {
        self.calls(success)
    }

    fn applied(&mut self, answer: Answer) -> Option<(Overrides, Reload)> {
        let calls = self.calls(|_| answer.clone()).into_iter();
        let mut applied = calls.filter_map(|call| match call {
            Call::ApplySettings { overrides, reload } => Some((overrides, reload)),
            _ => None,
        });
        applied.next()
    }

    fn told(&mut self, level: Level) -> Vec<String> {
        let local = self.member.take_local().into_iter();
        let told = local.filter_map(|local| match local {
            Local::Note(at, text) if at == level => Some(text),
            _ => None,
        });
        told.collect()
    }
}

fn has(calls: &[Call], is_wanted: impl Fn(&Call) -> bool) -> bool {
    calls.iter().any(is_wanted)
}

fn busy(seen: &mut Observation, job: Job) {
    let (since, ending) = (seen.now, Default::default());
    seen.job = Some(Running { job, since, closed: None, ending });
}

#[test]
fn ids_rise_from_table_to_table() {
    let chores = CHORES.iter().map(|row| row.id);
    let overrides = OVERRIDES.iter().map(|row| row.id);
    let restarts = PLANNED_RESTART.iter().map(|row| row.id);
    let ids: Vec<u16> = chores.chain(overrides).chain(restarts).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(ids.first() > Some(&1300) && ids.last() < Some(&1600), "{ids:?}");
}

#[test]
fn row_1310_rests_the_watchdog_of_a_member_that_certainly_does_not_write() {
    let rests = |stage: &mut Stage| has(&stage.done(), |call| matches!(call, Call::RestWatchdog));
    assert!(!rests(&mut Stage::leader()));
    assert!(rests(&mut Stage::follower()));
    let mut paused = Stage::leader();
    paused.member.dynamic.pause = true;
    assert!(rests(&mut paused));
    let mut stops = Stage::leader();
    busy(&mut stops.seen, Job::Stop { how: StopHow::Fast });
    assert!(!rests(&mut stops), "its clients may commit still");
    stops.own.is_quiet = true;
    assert!(rests(&mut stops));
}

#[test]
fn row_1320_asks_for_a_checkpoint_until_its_end_is_told() {
    let asks = |stage: &mut Stage| {
        has(&stage.done(), |call| matches!(call, Call::Checkpoint { timeline: Timeline(2) }))
    };
    let says = |stage: &Stage| {
        let about = Default::default();
        stage.member.record(&stage.seen, &about).checkpoint_after_promote
    };
    let mut stage = Stage::leader();
    assert!(asks(&mut stage) && !asks(&mut stage));
    assert_eq!(says(&stage), Some(false));
    stage.own.ended = vec![(Work::Checkpoint, Err("no answer".into()))];
    assert!(!asks(&mut stage), "it failed just now");
    assert_eq!(
        stage.told(Level::Warn),
        ["the checkpoint after the promotion failed: no answer; it is tried again"]
    );
    assert!(stage.member.sleep_ms(&stage.seen, None, stage.seen.now) <= 1_000);
    stage.seen.now = stage.seen.now + 1_000;
    assert!(asks(&mut stage));
    stage.own.ended = vec![(Work::Checkpoint, Ok(()))];
    assert!(!asks(&mut stage));
    assert_eq!(says(&stage), None);
}

#[test]
fn row_1330_completes_the_histories_of_a_leader() {
    let asks = |stage: &mut Stage| {
        has(&stage.done(), |call| matches!(call, Call::CompleteHistories { .. }))
    };
    assert!(!asks(&mut Stage::follower()));
    let mut stage = Stage::leader();
    assert!(asks(&mut stage));
    stage.own.ended = vec![(Work::Histories, Ok(()))];
    assert!(!asks(&mut stage));
}

#[test]
fn row_1340_saves_the_configuration_into_data_of_this_cluster() {
    let is_save = |call: &Call| matches!(call, Call::SaveConfiguration);
    let mut stage = Stage::follower();
    busy(&mut stage.seen, Job::Stop { how: StopHow::Fast });
    assert!(!has(&stage.done(), is_save), "something may fill the data");
    stage.seen.job = None;
    assert!(has(&stage.calls(|_| Answer::Failed("no room".into())), is_save));
    assert!(stage.told(Level::Warn).contains(&"no room".to_string()));
    assert!(has(&stage.done(), is_save), "what failed is tried again");
    assert!(!has(&stage.done(), is_save));
    stage.member.dynamic.raw = json!({"ttl": 40});
    view_of(&mut stage.seen).take_sample("initialize", "1234567890123456789", 2, 0);
    assert!(!has(&stage.done(), is_save), "the data are of another cluster");
    view_of(&mut stage.seen).take_sample("initialize", sample::SYSTEM, 3, 0);
    assert!(has(&stage.done(), is_save));
}

fn view_of(seen: &mut Observation) -> &mut topology::GroupView {
    let topology::Seen::Known(view) = &mut seen.store else { panic!("the store is known") };
    view
}

/// A coordinator whose region has just become the owner.
fn opening() -> Stage {
    let mut stage = Stage::leader();
    stage.seen.me.group = Group(Some(0));
    stage.seen.ownership = Ownership::Owner { epoch: 3, token: None, opening: true };
    let journal = Journal {
        epoch: 2,
        groups: vec![Group(Some(0)), Group(Some(1))],
        driver: "b/me".into(),
        ..made_up_move::journal(Phase::Rewire)
    };
    let switch = Versioned { value: journal, version: Version::of_store(5), session: None };
    let local = LocalTopology { switch: Some(switch), ..LocalTopology::default() };
    stage.member.look_at_region(&local, &"b".into(), Group(Some(0)));
    stage
}

#[test]
fn row_1350_tells_the_end_of_the_rewiring_once() {
    let is_end = |call: &Call| matches!(call, Call::Report { .. });
    let written = |succeeded| {
        move |call: &Call| match call {
            Call::Report { .. } => {
                Answer::Written(Written { succeeded, version: Version::of_store(9) })
            }
            call => success(call),
        }
    };
    let mut stage = opening();
    assert!(!has(&stage.done(), is_end), "the rows were not looked at");
    stage.own.has_rewired = true;
    assert!(has(&stage.calls(written(false)), is_end));
    assert!(!stage.member.is_rewired(), "another program was faster");
    stage.own.has_rewired = true;
    assert!(has(&stage.calls(written(true)), is_end));
    assert!(stage.member.is_rewired());
    stage.own.has_rewired = true;
    assert!(!has(&stage.calls(written(true)), is_end));
}

#[test]
fn row_1360_keeps_the_password_file_of_a_standby_at_rest() {
    let is_kept = |call: &Call| matches!(call, Call::KeepPgpass);
    assert!(!has(&Stage::leader().done(), is_kept));
    let mut stage = Stage::follower();
    assert!(has(&stage.done(), is_kept));
    busy(&mut stage.seen, Job::Restart { as_primary: false });
    assert!(!has(&stage.done(), is_kept));
}

#[test]
fn row_1370_applies_settings_that_have_changed() {
    let mut stage = Stage::leader();
    let found = stage.applied(APPLIED);
    let is_forced = |applied: &Option<(Overrides, Reload)>| {
        applied.as_ref().map(|(_, reload)| *reload == Reload::Always)
    };
    assert_eq!(is_forced(&found), Some(true), "it is not known what a found server has read");
    assert_eq!(stage.applied(APPLIED), None);
    stage.member.dynamic.raw = json!({"ttl": 30, "loop_wait": 5});
    assert_eq!(is_forced(&stage.applied(APPLIED)), Some(false));
    stage.own.runs_as = Some(Role::StandbyLeader);
    assert_eq!(is_forced(&stage.applied(APPLIED)), Some(false));
    stage.member.settings_read();
    assert_eq!(is_forced(&stage.applied(APPLIED)), Some(true), "an operator asked for it");
}

#[test]
fn row_1370_goes_on_with_what_failed_and_waits_for_a_server_that_answers() {
    let mut stage = Stage::leader();
    assert!(stage.applied(Answer::Failed("no room".into())).is_some());
    let told = stage.told(Level::Error);
    assert_eq!(told, ["the changed settings could not be applied: no room"]);
    assert!(stage.applied(Answer::NoAnswer("late".into())).is_some());
    assert!(stage.applied(APPLIED).is_some());
    stage.member.settings_read();
    stage.own.runs_as = None;
    assert_eq!(stage.applied(APPLIED), None, "it does not answer");
    stage.own.runs_as = Some(Role::Primary);
    let (_, reload) = stage.applied(APPLIED).expect("it answers again");
    assert_eq!(reload, Reload::Always, "what was asked for is not lost");
}

#[test]
fn row_1370_waits_for_a_look_that_the_server_answered() {
    let mut stage = Stage::leader();
    let seen = stage.seen.clone();
    let Process::Running(server) = &mut stage.seen.postgres.process else { panic!("it runs") };
    server.replication = None;
    assert_eq!(stage.applied(APPLIED), None, "its names of synchronous standbys are not known");
    stage.seen = seen;
    assert!(stage.applied(APPLIED).is_some());
}

fn overrides(change: impl Fn(&mut Stage), job: Option<Job>) -> Overrides {
    let mut stage = Stage::follower();
    change(&mut stage);
    match job {
        Some(job) => stage.member.overrides_of(&stage.seen, &job),
        None => stage.member.overrides(&stage.seen),
    }
}

#[test]
fn row_1410_quarantines_citus_where_the_region_is_not_to_be_written() {
    let in_region = |ownership: Ownership, group: Group| {
        let set = overrides(
            |stage| {
                stage.seen.ownership = ownership.clone();
                stage.seen.me.group = group;
            },
            None,
        );
        set.is_quarantined
    };
    let citus = Group(Some(1));
    let owner = |opening| Ownership::Owner { epoch: 1, token: None, opening };
    assert!(in_region(Ownership::Standby { epoch: 1, upstream: None }, citus));
    assert!(in_region(Ownership::Doubtful("no answer".into()), citus));
    assert!(in_region(owner(true), citus));
    assert!(!in_region(owner(false), citus));
    assert!(!in_region(Ownership::NoRegions, citus));
    assert!(!in_region(owner(true), Group::PLAIN), "a group without Citus has no rows");
    let mut stage = opening();
    stage.own.has_rewired = true;
    assert!(stage.member.overrides(&stage.seen).is_quarantined);
    stage.calls(|call| match call {
        Call::Report { .. } => Answer::Known,
        call => success(call),
    });
    assert!(!stage.member.overrides(&stage.seen).is_quarantined);
}

#[test]
fn row_1420_names_the_standbys_that_commits_wait_for() {
    let with_mode = |stage: &mut Stage| {
        stage.seen.dynamic.synchronous_mode = SyncMode::On;
        stage.seen.dynamic.is_synchronous = true;
        stage.seen.memory.names = Some("a".into());
    };
    assert_eq!(overrides(with_mode, None).names.as_deref(), Some("a"));
    assert_eq!(overrides(|_| {}, None).names, None);
}

#[test]
fn row_1430_pins_a_standby_and_no_primary() {
    let pinned = |stage: &mut Stage| stage.seen.memory.pinned = Some(Timeline(1));
    assert_eq!(overrides(pinned, None).target, Some(Timeline(1)));
    assert_eq!(overrides(pinned, Some(Job::StartPrimary)).target, None);
}

#[test]
fn row_1440_starts_a_standby_for_the_timeline_that_its_rule_names() {
    let pinned = |stage: &mut Stage| stage.seen.memory.pinned = Some(Timeline(1));
    let start = |target| Job::StartStandby { follow: None, target };
    assert_eq!(overrides(pinned, Some(start(Some(Timeline(4))))).target, Some(Timeline(4)));
    assert_eq!(overrides(pinned, Some(start(None))).target, None);
}

#[test]
fn row_1450_keeps_the_log_of_a_crashed_standby_that_is_recovered() {
    let job = Job::RecoverStandby { timeline: Timeline(5) };
    let set = overrides(|_| {}, Some(job));
    assert_eq!((set.target, set.keeps_log), (Some(Timeline(5)), true));
    assert!(!overrides(|_| {}, None).keeps_log);
}

#[test]
fn a_standby_whose_leader_runs_again_tries_at_once_and_once_for_each_record() {
    let mut stage = Stage::follower();
    let retries = |stage: &mut Stage| has(&stage.done(), |call| matches!(call, Call::WakeRecovery));
    assert!(!retries(&mut stage), "it streams");
    let Process::Running(server) = &mut stage.seen.postgres.process else { panic!("it runs") };
    let Seen::Known(ServerRole::Standby { streaming, .. }) = &mut server.role else {
        panic!("a standby")
    };
    *streaming = false;
    let write = |stage: &mut Stage, state: &str, version: i64| {
        let Seen::Known(view) = &mut stage.seen.store else { panic!("it is known") };
        let record = view.members.get_mut(&"a".into()).expect("the leader's");
        record.value.state = state.into();
        record.version = Version::of_store(version);
    };
    write(&mut stage, "crashed", 2);
    assert!(!retries(&mut stage), "its leader is down");
    write(&mut stage, "running", 3);
    assert!(retries(&mut stage));
    assert!(!retries(&mut stage), "once for a record");
    write(&mut stage, "running", 4);
    assert!(retries(&mut stage), "a loop later it still does not stream");
    let Process::Running(server) = &mut stage.seen.postgres.process else { panic!("it runs") };
    server.role = Seen::Known(ServerRole::Standby { follows: None, streaming: false });
    write(&mut stage, "running", 5);
    assert!(!retries(&mut stage), "it is detached on purpose");
}

#[test]
fn row_1356_wakes_a_server_that_does_not_leave_recovery_ever_more_seldom() {
    let mut stage = Stage::follower();
    let since = stage.seen.now;
    let mut woken_at = |promoting: bool, age: u64| {
        stage.seen.memory.promoting = promoting.then_some(since);
        stage.seen.now = since + age;
        has(&stage.done(), |call| matches!(call, Call::WakeRecovery))
    };
    assert!(!woken_at(false, 500), "it was not told to");
    let woken = (0..2_000).step_by(10).filter(|age| woken_at(true, *age));
    assert_eq!(woken.collect::<Vec<u64>>(), [100, 200, 400, 800, 1_600]);
}
