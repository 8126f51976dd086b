//! The race for a free lock when an operator asked for a new leader.
//!
//! Invariant: after a handover only those race who have everything the old leader
//! wrote, as long as its record is there.

use super::race::{asked, current, is_asked, not_behind, not_overtaken};
use super::{NotYet, PeerAnswer, RaceLimits, Racer};
use topology::{Failover, GroupView, Lsn, MemberName, Timeline};

/// Somebody asked for a new leader, and the lock is free.
///
/// A leader that handed the lock over published the end of its log: then only
/// those who have all of it may race. One that was asked and died did not, and
/// the race is a failover in which the named candidate goes first.
pub(super) fn may_race_on_request(
    me: &Racer,
    peers: &[PeerAnswer],
    request: &Failover,
    limits: RaceLimits,
    view: &GroupView,
) -> Result<(), NotYet> {
    // The operator's word counts for more than the map, unless a leader that
    // does not see the request may lead on by it.
    let is_forced = request.leader.is_none() && !limits.failsafe_mode;
    let by_word = |name: &MemberName| is_forced && request.candidate.as_ref() == Some(name);
    if by_word(me.name) {
        return Ok(());
    }
    if !is_asked(me.name, view) {
        return Err(NotYet::NotInFailsafe);
    }
    if request.candidate.as_ref() == Some(me.name) && request.leader.is_none() {
        return Ok(());
    }
    fits(me.lsn, me.timeline, view, limits)?;
    if request.candidate.as_ref() == Some(me.name) {
        return Ok(());
    }
    let able = |peer: &&PeerAnswer| {
        let status = peer.status.as_ref().filter(|s| s.is_eligible() && s.in_recovery);
        status.is_some_and(|s| {
            request.leader.is_none() || fits(s.lsn, s.timeline, view, limits).is_ok()
        })
    };
    let may_lead = |p: &&PeerAnswer| is_asked(&p.name, view) || by_word(&p.name);
    let others = peers.iter().filter(|p| &p.name != me.name).filter(may_lead).filter(able);
    let mut first = others.filter(|p| match &request.candidate {
        // The old leader comes last: anybody able goes first.
        _ if request.leader.as_ref() == Some(me.name) => true,
        candidate => candidate.as_ref() == Some(&p.name),
    });
    if let Some(peer) = first.next() {
        return Err(NotYet::OtherCandidate(peer.name.clone()));
    }
    let others = asked(peers, view).into_iter();
    not_overtaken(me, others.filter(|p| Some(&p.name) != request.leader.as_ref()))
}

/// Far enough to lead: after a handover with everything the old leader wrote,
/// else within the limits of a failover. So is a handover judged once the old
/// leader's record is gone, a ttl after its end: who had everything may have
/// died, and it cannot come back to lead itself.
fn fits(
    lsn: Lsn,
    timeline: Option<Timeline>,
    view: &GroupView,
    limits: RaceLimits,
) -> Result<(), NotYet> {
    let old = view.request().and_then(|r| r.leader.as_ref());
    let is_there = old.is_some_and(|old| view.members.contains_key(old));
    if !(view.is_handed_over() && is_there) {
        return not_behind(lsn, timeline, view, limits);
    }
    current(timeline, view)?;
    // Past the beginning of the shutdown checkpoint: the record is there.
    if lsn <= view.optime() {
        return Err(NotYet::Behind { bytes: lsn.behind(view.optime()).max(1), allowed: 0 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promotion::sample::{answer, race, view};

    /// `status` and `failover` written in one transaction.
    fn handed_over(optime: u64, failover: &str) -> GroupView {
        let mut view = view(optime, failover);
        view.take("failover", failover, 1, 0);
        view.take("members/old", "{}", 1, 7);
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
    fn nobody_waits_for_a_candidate_that_failsafe_leaves_out() {
        let mut named = view(1000, r#"{"leader":"old","member":"a"}"#);
        named.take("failsafe", r#"{"me":"http://me/patroni"}"#, 3, 0);
        assert_eq!(race(2000, &[answer("a", 2000)], &named), Ok(()));
        let mut free = view(1000, "{}");
        free.take("failsafe", r#"{"me":"http://me/patroni"}"#, 3, 0);
        assert_eq!(race(2000, &[answer("a", 3000)], &free), Ok(()));
    }

    #[test]
    fn a_named_candidate_goes_first_if_it_is_able() {
        let named = view(1000, r#"{"leader":"old","member":"a"}"#);
        let refused = race(2000, &[answer("a", 900)], &named);
        assert_eq!(refused, Err(NotYet::OtherCandidate("a".into())));
        // One that may not lead itself keeps nobody else from it.
        assert_eq!(race(2000, &[answer("a", 100)], &named), Ok(()));
        let mine = view(1000, r#"{"leader":"old","member":"me"}"#);
        assert_eq!(race(900, &[answer("a", 1000)], &mine), Ok(()));
        let too_far = Err(NotYet::Behind { bytes: 101, allowed: 100 });
        assert_eq!(race(899, &[], &mine), too_far);
        assert_eq!(race(1, &[], &view(1000, r#"{"member":"me"}"#)), Ok(()));
    }

    #[test]
    fn after_a_handover_only_those_race_who_have_everything() {
        for member in ["", r#","member":"me""#, r#","member":"a""#] {
            let view = handed_over(1000, &format!(r#"{{"leader":"old"{member}}}"#));
            assert_eq!(race(1000, &[], &view), Err(NotYet::Behind { bytes: 1, allowed: 0 }));
            assert_eq!(race(1001, &[answer("a", 1000)], &view), Ok(()));
        }
        let mut newer = handed_over(1000, r#"{"leader":"old"}"#);
        newer.take("history", r#"[[1,500,"x"]]"#, 1, 0);
        assert!(matches!(race(5000, &[], &newer), Err(NotYet::OldTimeline { .. })));
    }
}
