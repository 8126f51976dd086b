//! The race for a free lock when an operator asked for a new leader.
//!
//! Invariant: after a handover only members that have everything the old leader
//! wrote race, as long as the old leader's record is there.
//!
//! In three places this is stricter than Patroni, whose behaviour there may lose
//! writes. A candidate of a switchover whose leader died is judged as in a failover:
//! being named does not make up for what it lacks, and in quorum mode it needs its
//! votes. No member is exempt from `maximum_lag_on_failover` but the candidate that
//! an operator named for a failover. And a member that lacks the end of a log that
//! was handed over does not race.

use super::condition::{
    asked, current, elected, is_asked, not_behind, not_on_older, not_overtaken,
};
use super::electorate::{Electorate, Stand, stand};
use super::open::not_before;
use super::{NotYet, PeerAnswer, RaceLimits, Racer};
use topology::{Failover, GroupView, Lsn, MemberName, Timeline};

/// How far a member is that may lead.
#[derive(Clone, Copy, PartialEq)]
enum Fit {
    /// It has everything that the old leader wrote: no member has more.
    Whole,
    /// Within the limits of a failover.
    Near,
}

/// An operator asked for a new leader, and the lock is free.
///
/// A leader that handed the lock over published the end of its log: then only
/// members that have all of it may race. A leader that was asked and died did not,
/// and the race is a failover in which the named candidate goes first.
pub(super) fn may_race_on_request(
    me: &Racer,
    peers: &[PeerAnswer],
    request: &Failover,
    limits: RaceLimits,
    view: &GroupView,
) -> Result<(), NotYet> {
    let case = Case { request, limits, view, electorate: Electorate::of(view, limits.mode) };
    if case.by_word(me.name) {
        return Ok(());
    }
    if !is_asked(me.name, view) {
        return Err(NotYet::NotInFailsafe);
    }
    let is_candidate = request.candidate.as_ref() == Some(me.name);
    if is_candidate && request.leader.is_none() {
        return Ok(());
    }
    if !case.admits(me.name) {
        return Err(NotYet::NotSynchronous);
    }
    let fit = case.fits(me.lsn, me.timeline)?;
    let electorate = case.electorate.filter(|_| fit == Fit::Near);
    if is_candidate {
        return elected(me, peers, view, electorate);
    }
    if let Some(first) = case.goes_first(me, peers) {
        return Err(NotYet::OtherCandidate(first.clone()));
    }
    // The leader that is to be left does not compete.
    let others = asked(peers, view).into_iter();
    let others = others.filter(|peer| Some(&peer.name) != request.leader.as_ref());
    not_overtaken(me, others, case.electorate)?;
    elected(me, peers, view, electorate)
}

struct Case<'a> {
    request: &'a Failover,
    limits: RaceLimits<'a>,
    view: &'a GroupView,
    electorate: Option<Electorate<'a>>,
}

impl Case<'_> {
    /// The operator's word counts for more than the map of failsafe mode, unless a
    /// leader that does not see the request may lead on by it.
    fn by_word(&self, name: &MemberName) -> bool {
        let is_forced = self.request.leader.is_none() && !self.limits.failsafe_mode;
        is_forced && self.request.candidate.as_ref() == Some(name)
    }

    /// A switchover promises to lose nothing: only members of `/sync` take part,
    /// in quorum mode too. A failover may name anybody.
    fn admits(&self, name: &MemberName) -> bool {
        let switchover = self.request.leader.is_some();
        self.electorate.is_none_or(|e| if switchover { e.is_member(name) } else { e.admits(name) })
    }

    /// The member that this one waits for. The old leader comes last: any able member
    /// goes before it. Members that may not lead are left out: the wait would never end.
    fn goes_first<'p>(&self, me: &Racer, peers: &'p [PeerAnswer]) -> Option<&'p MemberName> {
        let anybody = self.request.leader.as_ref() == Some(me.name);
        let others = peers.iter().filter(|peer| &peer.name != me.name);
        let mut able = others.filter(|peer| {
            let name = &peer.name;
            let is_named = self.request.candidate.as_ref() == Some(name);
            (anybody || is_named)
                && (is_asked(name, self.view) || self.by_word(name))
                && stand(peer).is_some_and(|one| {
                    let first = is_named || self.is_first(one, peers);
                    first && self.is_able(one, me, peers) && self.may_open(one)
                })
        });
        able.next().map(|peer| &peer.name)
    }

    /// No standby keeps this one from the race: waiting for one that itself waits for a third
    /// would never end.
    fn is_first(&self, one: Stand, peers: &[PeerAnswer]) -> bool {
        let is_left = |other: &Stand| self.request.leader.as_ref() == Some(other.name);
        let others = peers.iter().filter_map(stand).filter(|other| !is_left(other));
        let mut others = others.filter(|other| self.admits(other.name));
        !others.any(|other| {
            let is_newer = other.timeline > one.timeline;
            is_newer || other.timeline == one.timeline && other.lsn > one.lsn
        })
    }

    fn is_able(&self, one: Stand, me: &Racer, peers: &[PeerAnswer]) -> bool {
        if self.request.leader.is_none() {
            return true;
        }
        let mine = Stand { name: me.name, lsn: me.lsn, timeline: me.timeline };
        let others = peers.iter().filter_map(stand).chain([mine]);
        let is_elected = || self.electorate.is_none_or(|e| e.elects(one, others).is_ok());
        self.admits(one.name)
            && self.fits(one.lsn, one.timeline).is_ok_and(|fit| fit == Fit::Whole || is_elected())
    }

    /// One that lacks the region's token does not race.
    fn may_open(&self, one: Stand) -> bool {
        self.limits.token.is_none_or(|token| not_before(token, one.timeline, one.lsn).is_ok())
    }

    /// Far enough to lead: after a handover with everything the old leader wrote,
    /// else within the limits of a failover. So is a handover judged once the old
    /// leader's record is gone, a ttl after its end: who had everything may have
    /// died, and it cannot come back to lead itself.
    fn fits(&self, lsn: Lsn, timeline: Option<Timeline>) -> Result<Fit, NotYet> {
        let view = self.view;
        let old = self.request.leader.as_ref();
        let is_there = old.is_some_and(|old| view.members.contains_key(old));
        if view.is_handed_over() {
            // `/history` may not name that leader's timeline yet.
            let ended = view.status.as_ref().and_then(|status| status.value.ended_timeline);
            not_on_older(timeline, ended.unwrap_or_default())?;
        }
        if !(view.is_handed_over() && is_there) {
            not_behind(lsn, timeline, view, self.limits)?;
            return Ok(Fit::Near);
        }
        current(timeline, view)?;
        // Past the beginning of the shutdown checkpoint: the record is there.
        if lsn <= view.optime() {
            return Err(NotYet::Behind { bytes: lsn.behind(view.optime()).max(1), allowed: 0 });
        }
        Ok(Fit::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use crate::promotion::sample::{answer, race, race_in, view};
    use topology::SyncMode::{On, Quorum};

    /// `status` and `failover` written in one transaction.
    fn handed_over(optime: u64, failover: &str) -> GroupView {
        let mut view = view(optime, failover);
        view.take_sample("failover", failover, 1, 0);
        view.take_sample("members/old", "{}", 1, 7);
        view
    }

    #[test]
    fn a_handover_ends_with_the_record_of_the_old_leader() {
        let mut view = handed_over(1000, r#"{"leader":"old"}"#);
        assert!(matches!(race(950, &[], &view), Err(NotYet::Behind { .. })));
        view.members.clear();
        assert_eq!(race(950, &[], &view), Ok(()));
        assert!(matches!(race(899, &[], &view), Err(NotYet::Behind { .. })));
    }

    #[test]
    fn no_member_waits_for_a_candidate_that_failsafe_leaves_out() {
        let mut named = view(1000, r#"{"leader":"old","member":"a"}"#);
        named.take_sample("failsafe", r#"{"me":"http://me/patroni"}"#, 3, 0);
        assert_eq!(race(2000, &[answer("a", 2000)], &named), Ok(()));
        let mut free = view(1000, "{}");
        free.take_sample("failsafe", r#"{"me":"http://me/patroni"}"#, 3, 0);
        assert_eq!(race(2000, &[answer("a", 3000)], &free), Ok(()));
    }

    #[test]
    fn a_named_candidate_goes_first_if_it_is_able() {
        let named = view(1000, r#"{"leader":"old","member":"a"}"#);
        let refused = race(2000, &[answer("a", 900)], &named);
        assert_eq!(refused, Err(NotYet::OtherCandidate("a".into())));
        // A candidate that may not lead itself keeps no other member from it.
        assert_eq!(race(2000, &[answer("a", 100)], &named), Ok(()));
        let mine = view(1000, r#"{"leader":"old","member":"me"}"#);
        assert_eq!(race(900, &[answer("a", 1000)], &mine), Ok(()));
        let too_far = Err(NotYet::Behind { bytes: 101, allowed: 100 });
        assert_eq!(race(899, &[], &mine), too_far);
        assert_eq!(race(1, &[], &view(1000, r#"{"member":"me"}"#)), Ok(()));
    }

    /// `a` is within the limits and gives way to `b`, which is not.
    #[test]
    fn the_old_leader_waits_for_no_member_that_gives_way_to_a_third() {
        let view = view(1000, r#"{"leader":"me"}"#);
        let mut older = answer("a", 950);
        older.status.as_mut().expect("it answers").timeline = Some(Timeline(0));
        let waits = Err(NotYet::OtherCandidate("a".into()));
        assert_eq!(race(1000, &[older.clone()], &view), waits);
        assert_eq!(race(1000, &[older, answer("b", 100)], &view), Ok(()));
        let (a, ahead) = (answer("a", 950), answer("b", 960));
        let first = Err(NotYet::OtherCandidate("b".into()));
        assert_eq!(race(1000, &[a, ahead], &view), first);
    }

    #[test]
    fn after_a_handover_only_those_race_who_have_everything() {
        for member in ["", r#","member":"me""#, r#","member":"a""#] {
            let view = handed_over(1000, &format!(r#"{{"leader":"old"{member}}}"#));
            assert_eq!(race(1000, &[], &view), Err(NotYet::Behind { bytes: 1, allowed: 0 }));
            assert_eq!(race(1001, &[answer("a", 1000)], &view), Ok(()));
        }
        let mut other = handed_over(1000, r#"{"leader":"old"}"#);
        other.take_sample("status", r#"{"optime":1000,"ended_timeline":2}"#, 1, 0);
        assert!(matches!(race(5000, &[], &other), Err(NotYet::OldTimeline { .. })));
        let mut newer = handed_over(1000, r#"{"leader":"old"}"#);
        newer.take_sample("history", r#"[[1,500,"x"]]"#, 1, 0);
        assert!(matches!(race(5000, &[], &newer), Err(NotYet::OldTimeline { .. })));
    }

    fn with_sync(mut view: GroupView, sync: &str) -> GroupView {
        view.take_sample("sync", sync, 1, 0);
        view
    }

    const PRIORITY: &str = r#"{"leader":"old","sync_standby":"me,a","quorum":0}"#;
    const WITHOUT_ME: &str = r#"{"leader":"old","sync_standby":"a","quorum":0}"#;
    const VOTES: &str = r#"{"leader":"old","sync_standby":"me,a","quorum":1}"#;

    #[test]
    fn a_switchover_goes_to_members_of_sync_and_a_failover_to_the_member_that_was_named() {
        let switchover = |mode, sync| {
            let named = with_sync(view(1000, r#"{"leader":"old","member":"me"}"#), sync);
            race_in(mode, 1000, &[answer("a", 1000)], &named)
        };
        assert_eq!(switchover(On, PRIORITY), Ok(()));
        assert_eq!(switchover(On, WITHOUT_ME), Err(NotYet::NotSynchronous));
        assert_eq!(switchover(Quorum, WITHOUT_ME), Err(NotYet::NotSynchronous));
        assert_eq!(switchover(On, r#"{"leader":null}"#), Ok(()), "no mode is in force");
        // An operator takes the loss upon himself.
        let failover = with_sync(view(1000, r#"{"member":"me"}"#), WITHOUT_ME);
        assert_eq!(race_in(On, 1, &[answer("a", 1000)], &failover), Ok(()));
        assert_eq!(race_in(Quorum, 1, &[answer("a", 1000)], &failover), Ok(()));
        // Another one was named and does not come: only members of `/sync` race.
        let named = with_sync(view(1000, r#"{"member":"gone"}"#), WITHOUT_ME);
        assert_eq!(race_in(On, 1000, &[], &named), Err(NotYet::NotSynchronous));
        let named = with_sync(view(1000, r#"{"member":"gone"}"#), PRIORITY);
        assert_eq!(race_in(On, 1000, &[], &named), Ok(()));
    }

    #[test]
    fn no_member_waits_for_a_candidate_that_may_not_race() {
        let only_me = r#"{"leader":"old","sync_standby":"me","quorum":0}"#;
        let named = view(1000, r#"{"leader":"old","member":"a"}"#);
        let refused = race_in(On, 1000, &[answer("a", 1000)], &named);
        assert_eq!(refused, Err(NotYet::OtherCandidate("a".into())));
        let named = with_sync(named, only_me);
        assert_eq!(race_in(On, 1000, &[answer("a", 1000)], &named), Ok(()));
        // It is a member, but others are known to have more.
        let named = with_sync(named, r#"{"leader":"old","sync_standby":"a,b,me","quorum":1}"#);
        let all = [answer("a", 950), answer("b", 1000)];
        assert_eq!(race_in(Quorum, 1000, &all, &named), Ok(()));
        let all = [answer("a", 1000), answer("b", 1000)];
        assert_eq!(race_in(Quorum, 1000, &all, &named), Err(NotYet::OtherCandidate("a".into())));
    }

    /// Why a switchover is judged more strictly than by its name: the leader died
    /// before it handed over, and one voter alone may lack what was acknowledged.
    #[test]
    fn the_candidate_of_a_dead_leader_needs_its_votes_and_the_limit_of_the_lag() {
        let named = with_sync(view(1000, r#"{"leader":"old","member":"me"}"#), VOTES);
        assert_eq!(race_in(Quorum, 950, &[answer("a", 950)], &named), Ok(()));
        let lacking = Err(NotYet::TooFewVotes { votes: 0, needed: 1 });
        assert_eq!(race_in(Quorum, 950, &[answer("a", 1000)], &named), lacking);
        assert_eq!(race_in(Quorum, 950, &[], &named), lacking);
        let too_far = Err(NotYet::Behind { bytes: 101, allowed: 100 });
        assert_eq!(race_in(Quorum, 899, &[answer("a", 800)], &named), too_far);
        // What was handed over is proof enough: the record is there.
        let whole = with_sync(handed_over(1000, r#"{"leader":"old","member":"me"}"#), VOTES);
        assert_eq!(race_in(Quorum, 1001, &[], &whole), Ok(()));
        assert!(matches!(race_in(Quorum, 1000, &[], &whole), Err(NotYet::Behind { .. })));
    }

    /// 3.4 of the rules: the leader that was to be left leads again if no other member can.
    #[test]
    fn the_old_leader_comes_last() {
        let old = with_sync(
            view(1000, r#"{"leader":"me","member":"gone"}"#),
            r#"{"leader":"me","sync_standby":"a,b","quorum":1}"#,
        );
        let both = [answer("a", 1000), answer("b", 1000)];
        let refused = race_in(Quorum, 1000, &both, &old);
        assert!(matches!(refused, Err(NotYet::OtherCandidate(_))), "{refused:?}");
        let free = [answer("z", 1000)];
        assert_eq!(race_in(Quorum, 1000, &free, &old), Ok(()), "it is no standby of /sync");
        assert_eq!(race_in(Quorum, 1000, &[], &old), Ok(()), "nobody answers");
    }
}
