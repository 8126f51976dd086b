//! The race while a synchronous mode is in force: which members may lead, and that
//! each has everything that was acknowledged, whichever peers are silent.

use super::sample::{answer, race, race_in, view};
use super::*;
use crate::made_up::TakeSample;
use proptest::prelude::*;
use topology::GroupView;
use topology::SyncMode::{On, Quorum};

fn in_sync(sync: &str) -> GroupView {
    let mut view = view(1000, "{}");
    view.take_sample("sync", sync, 1, 0);
    view
}

#[test]
fn in_priority_mode_members_of_sync_race_against_each_other() {
    let with_me = in_sync(r#"{"leader":"old","sync_standby":"a,ME","quorum":0}"#);
    let without_me = in_sync(r#"{"leader":"old","sync_standby":"a","quorum":0}"#);
    assert_eq!(race_in(On, 1000, &[], &with_me), Ok(()));
    assert_eq!(race_in(On, 1000, &[], &without_me), Err(NotYet::NotSynchronous));
    // What a member outside `/sync` has beyond the others was not acknowledged: no wait for it.
    assert_eq!(race_in(On, 1000, &[answer("z", 1001)], &with_me), Ok(()));
    let refused = race_in(On, 1000, &[answer("a", 1001)], &with_me);
    assert!(matches!(refused, Err(NotYet::PeerAhead { .. })), "{refused:?}");
    let mut primary = answer("z", 10);
    primary.status.as_mut().unwrap().in_recovery = false;
    let refused = race_in(On, 1000, &[primary], &with_me);
    assert_eq!(refused, Err(NotYet::PrimaryExists("z".into())));
    // Deleting the key, or its leader, makes the failover an asynchronous one.
    assert_eq!(race_in(On, 1000, &[], &in_sync(r#"{"leader":null}"#)), Ok(()));
    assert_eq!(race_in(On, 1000, &[], &in_sync("nonsense")), Ok(()));
    assert_eq!(race_in(On, 1000, &[], &view(1000, "{}")), Ok(()));
    assert_eq!(race(1000, &[], &without_me), Ok(()), "the mode is off");
    let too_far = Err(NotYet::Behind { bytes: 101, allowed: 100 });
    assert_eq!(race_in(On, 899, &[], &with_me), too_far);
}

#[test]
fn what_the_leader_of_sync_has_beyond_the_others_does_not_count() {
    let view = in_sync(r#"{"leader":"old","sync_standby":"a,me","quorum":0}"#);
    let mut old = answer("old", 1500);
    old.status.as_mut().unwrap().failover_priority = 5;
    assert_eq!(race_in(On, 1000, std::slice::from_ref(&old), &view), Ok(()));
    old.status.as_mut().unwrap().lsn = Lsn(1000);
    assert_eq!(race_in(On, 1000, std::slice::from_ref(&old), &view), Ok(()));
    // A newer history is another matter: there it leads itself.
    old.status.as_mut().unwrap().timeline = Some(Timeline(2));
    let refused = race_in(On, 1000, &[old], &view);
    assert!(matches!(refused, Err(NotYet::PeerNewer { .. })), "{refused:?}");
    let mut preferred = answer("a", 1000);
    preferred.status.as_mut().unwrap().failover_priority = 5;
    let refused = race_in(On, 1000, &[preferred], &view);
    assert_eq!(refused, Err(NotYet::PeerPreferred("a".into())));
}

#[test]
fn known_bug_06_failover_priority_counts_among_several_synchronous_standbys() {
    let view = in_sync(r#"{"leader":"old","sync_standby":"a,b,me","quorum":0}"#);
    let of = |priority: i64, lsn: u64| {
        let mut b = answer("b", lsn);
        b.status.as_mut().unwrap().failover_priority = priority;
        race_in(On, 1000, &[answer("a", 1000), b], &view)
    };
    assert_eq!(of(1, 1000), Ok(()));
    assert_eq!(of(2, 1000), Err(NotYet::PeerPreferred("b".into())));
    assert_eq!(of(2, 900), Ok(()), "only among those that have the same");
}

#[test]
fn in_quorum_mode_votes_decide_and_a_member_outside_needs_one_more() {
    let view = in_sync(r#"{"leader":"old","sync_standby":"a,b,me","quorum":1}"#);
    let short = |votes, needed| Err(NotYet::TooFewVotes { votes, needed });
    assert_eq!(race_in(Quorum, 1000, &[], &view), short(0, 1), "the lag alone is no reason");
    assert_eq!(race_in(Quorum, 1000, &[answer("z", 900)], &view), short(0, 1));
    assert_eq!(race_in(Quorum, 1000, &[answer("a", 1000)], &view), Ok(()));
    assert_eq!(race_in(Quorum, 1000, &[answer("old", 990)], &view), Ok(()));
    // The old leader ahead gives no vote and refuses none.
    let both = [answer("old", 1100), answer("b", 1000)];
    assert_eq!(race_in(Quorum, 1000, &both[..1], &view), short(0, 1));
    assert_eq!(race_in(Quorum, 1000, &both, &view), Ok(()));
    let ahead = [answer("a", 1000), answer("b", 1001)];
    let refused = race_in(Quorum, 1000, &ahead, &view);
    assert!(matches!(refused, Err(NotYet::PeerAhead { .. })), "{refused:?}");
    // One that may not lead gives no vote.
    let mut tagged = answer("a", 1000);
    tagged.status.as_mut().unwrap().nofailover = true;
    assert_eq!(race_in(Quorum, 1000, &[tagged], &view), short(0, 1));
    let outside = in_sync(r#"{"leader":"old","sync_standby":"a,b","quorum":1}"#);
    assert_eq!(race_in(Quorum, 1000, &[answer("a", 1000)], &outside), short(1, 2));
    let two = [answer("a", 1000), answer("b", 990)];
    assert_eq!(race_in(Quorum, 1000, &two, &outside), Ok(()));
}

/// In quorum mode a new leader has acknowledged before it writes `/sync`.
#[test]
fn the_last_leader_needs_no_votes_unless_another_may_have_led_since() {
    let mut view = in_sync(r#"{"leader":"me","sync_standby":"a,b","quorum":1}"#);
    assert_eq!(race_in(Quorum, 1000, &[], &view), Ok(()));
    let refused = race_in(Quorum, 1000, &[answer("a", 1001)], &view);
    assert!(matches!(refused, Err(NotYet::PeerAhead { .. })), "{refused:?}");
    view.take_sample("claim", "2 me", 5, 0);
    assert_eq!(race_in(Quorum, 1000, &[], &view), Ok(()));
    view.take_sample("claim", "2 a", 6, 0);
    let short = Err(NotYet::TooFewVotes { votes: 0, needed: 1 });
    assert_eq!(race_in(Quorum, 1000, &[], &view), short);
    view.claim = None;
    view.take_sample("history", r#"[[1,900,"x"]]"#, 7, 0);
    assert_eq!(race_in(Quorum, 1000, &[], &view), short);
    assert_eq!(race_in(Quorum, 1000, &[answer("b", 900)], &view), Ok(()));
}

/// A leader, its voters, and one member outside.
const NAMES: [&str; 6] = ["l", "v1", "v2", "v3", "v4", "z"];

/// The number of voters, how many of them each commit waited for, where the last
/// acknowledged commit ends, for each member its log and whether it answers, and last
/// the first of the voters that commits waited for.
fn worlds() -> impl Strategy<Value = (usize, usize, u64, Vec<(u64, bool)>, usize)> {
    (1usize..5).prop_flat_map(|voters| {
        let members = proptest::collection::vec((1u64..40, any::<bool>()), NAMES.len());
        (Just(voters), 1..=voters, 10u64..30, members, 0..voters)
    })
}

/// `commits` voters, counted from `first` on, and the leader have all of it.
fn logs(voters: usize, commits: usize, acknowledged: u64, first: usize, drawn: &mut [(u64, bool)]) {
    drawn[0].0 = drawn[0].0.max(acknowledged);
    for n in 0..commits {
        let has = &mut drawn[1 + (first + n) % voters].0;
        *has = (*has).max(acknowledged);
    }
}

fn race_of(who: usize, mode: SyncMode, members: &[(u64, bool)], view: &GroupView) -> bool {
    let others = (0..members.len()).filter(|n| *n != who);
    let peers: Vec<PeerAnswer> = others
        .map(|n| match members[n] {
            (lsn, true) => answer(NAMES[n], lsn),
            (_, false) => PeerAnswer { name: NAMES[n].into(), status: None },
        })
        .collect();
    let (name, tags) = (MemberName::new(NAMES[who]), Tags::default());
    let (lsn, timeline) = (Lsn(members[who].0), Some(Timeline(1)));
    let me = Racer { name: &name, tags: &tags, lsn, timeline, former_leader: None };
    let limits = RaceLimits { maximum_lag: 1_000, mode, ..super::sample::LIMITS };
    may_race(&me, &peers, view, limits).is_ok()
}

fn state(voters: usize, quorum: usize) -> GroupView {
    let names = NAMES[1..=voters].join(",");
    in_sync(&format!(r#"{{"leader":"l","sync_standby":"{names}","quorum":{quorum}}}"#))
}

proptest! {
    #[test]
    fn a_leader_by_votes_has_what_was_acknowledged(
        (voters, commits, acknowledged, mut members, first) in worlds()
    ) {
        logs(voters, commits, acknowledged, first, &mut members);
        let mut view = state(voters, voters - commits);
        view.status = None;
        // A change of the mode is no gap: the number in `/sync` counts in both.
        for mode in [On, Quorum] {
            for who in 0..NAMES.len() {
                if race_of(who, mode, &members, &view) {
                    prop_assert!(members[who].0 >= acknowledged, "{} leads", NAMES[who]);
                }
            }
        }
    }

    #[test]
    fn when_all_voters_answer_one_of_them_leads(
        (voters, commits, acknowledged, mut members, first) in worlds()
    ) {
        logs(voters, commits, acknowledged, first, &mut members);
        members[1..=voters].iter_mut().for_each(|member| member.1 = true);
        let mut view = state(voters, voters - commits);
        view.status = None;
        for mode in [On, Quorum] {
            let leads = (1..=voters).any(|who| race_of(who, mode, &members, &view));
            prop_assert!(leads, "{members:?}");
        }
    }
}
