//! May this standby take the free lock?
//!
//! Invariants: a candidate waits for no member that may not lead, and for none that
//! is silent; positions compare only within one history. While a synchronous mode is
//! in force, a member that races has everything that was acknowledged: the lag limit
//! alone then lets no member lead.

use super::condition::{asked, elected, is_asked, not_behind, not_overtaken};
use super::electorate::Electorate;
use super::request::may_race_on_request;
use super::{NotYet, PeerAnswer, RaceLimits, Racer};
use topology::GroupView;

/// May this standby take the free lock?
///
/// `peers` are the answers of all other known members. A peer that did not
/// answer does not block: otherwise one dead member would end availability.
/// What protects acknowledged writes is the lag limit and the token, and in the
/// synchronous modes `/sync`.
pub fn may_race(
    me: &Racer,
    peers: &[PeerAnswer],
    view: &GroupView,
    limits: RaceLimits,
) -> Result<(), NotYet> {
    if me.tags.nofailover() {
        return Err(NotYet::Tagged);
    }
    if let Some(request) = view.request().filter(|r| r.scheduled_at.is_none()) {
        return may_race_on_request(me, peers, request, limits, view);
    }
    if !is_asked(me.name, view) {
        return Err(NotYet::NotInFailsafe);
    }
    let electorate = Electorate::of(view, limits.mode);
    if electorate.is_some_and(|e| !e.admits(me.name)) {
        return Err(NotYet::NotSynchronous);
    }
    not_behind(me.lsn, me.timeline, view, limits)?;
    not_overtaken(me, asked(peers, view).into_iter(), electorate)?;
    elected(me, peers, view, electorate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use crate::promotion::sample::{LIMITS, answer, race, view};
    use serde_json::json;
    use topology::{Lsn, MemberName, Tags, Timeline};

    #[test]
    fn the_furthest_member_wins_and_the_others_say_why_not() {
        let peers = [answer("a", 900), answer("b", 950)];
        assert_eq!(race(1000, &peers, &view(1000, "{}")), Ok(()));
        assert!(matches!(race(940, &peers, &view(1000, "{}")), Err(NotYet::PeerAhead { .. })));
        let too_far = race(899, &[], &view(1000, "{}"));
        assert_eq!(too_far, Err(NotYet::Behind { bytes: 101, allowed: 100 }));
    }

    #[test]
    fn n1_what_a_leader_wrote_that_ended_in_order_is_not_given_up() {
        let mut ended = view(1000, "{}");
        ended.take_sample("status", r#"{"optime":1000,"ended":"old"}"#, 2, 0);
        let (leader, end) = (MemberName::new("old"), Lsn(1000));
        let lacks = |mine| Err(NotYet::LacksTheEnd { leader: leader.clone(), end, mine });
        assert_eq!(race(999, &[], &ended), lacks(Lsn(999)));
        assert_eq!(race(1000, &[], &ended), Ok(()));
        ended.take_sample("status", r#"{"optime":1000,"ended":"old","ended_timeline":2}"#, 2, 0);
        let older = NotYet::OldTimeline { mine: Timeline(1), group: Timeline(2) };
        assert_eq!(race(1001, &[], &ended), Err(older), "another log than that leader's");
        ended.take_sample("status", r#"{"optime":1000,"ended":"old","ended_timeline":1}"#, 2, 0);
        assert_eq!(race(1000, &[], &ended), Ok(()));
        // A switchover that was asked for before does not change that, an operator's
        // failover to a named member does.
        ended.take_sample("failover", r#"{"leader":"old","member":"me"}"#, 3, 0);
        assert_eq!(race(999, &[], &ended), lacks(Lsn(999)));
        ended.take_sample("failover", r#"{"member":"me"}"#, 4, 0);
        assert_eq!(race(999, &[], &ended), Ok(()));
        // The next leader's report ends it.
        ended.take_sample("failover", "{}", 5, 0);
        ended.take_sample("status", r#"{"optime":1000}"#, 6, 0);
        assert_eq!(race(999, &[], &ended), Ok(()));
    }

    #[test]
    fn a_silent_peer_does_not_block_but_a_primary_does() {
        let silent = PeerAnswer { name: "a".into(), status: None };
        assert_eq!(race(1000, &[silent], &view(1000, "{}")), Ok(()));
        let mut primary = answer("a", 10);
        primary.status.as_mut().unwrap().in_recovery = false;
        assert_eq!(
            race(1000, &[primary], &view(1000, "{}")),
            Err(NotYet::PrimaryExists("a".into()))
        );
    }

    #[test]
    fn priority_breaks_ties_only() {
        let mut preferred = answer("a", 1000);
        preferred.status.as_mut().unwrap().failover_priority = 5;
        let refused = race(1000, std::slice::from_ref(&preferred), &view(1000, "{}"));
        assert_eq!(refused, Err(NotYet::PeerPreferred("a".into())));
        assert_eq!(race(1001, &[preferred], &view(1000, "{}")), Ok(()));
    }

    #[test]
    fn the_former_leader_is_not_waited_for() {
        let mut old = answer("old", 1000);
        old.status.as_mut().unwrap().failover_priority = 5;
        let (name, tags, led) = (MemberName::new("me"), Tags::default(), MemberName::new("old"));
        let (lsn, timeline) = (Lsn(1000), Some(Timeline(1)));
        let former_leader = Some(&led);
        let me = Racer { name: &name, tags: &tags, lsn, timeline, former_leader };
        let view = view(1000, "{}");
        assert_eq!(may_race(&me, std::slice::from_ref(&old), &view, LIMITS), Ok(()));
        // A peer that has more is ahead, also the former leader.
        old.status.as_mut().unwrap().lsn = Lsn(1001);
        assert!(matches!(may_race(&me, &[old], &view, LIMITS), Err(NotYet::PeerAhead { .. })));
    }

    #[test]
    fn a_member_that_a_leader_without_a_store_does_not_ask_must_not_lead() {
        let mut view = view(1000, "{}");
        view.take_sample("failsafe", r#"{"a":"http://a/patroni"}"#, 3, 0);
        assert_eq!(race(1000, &[], &view), Err(NotYet::NotInFailsafe));
        view.take_sample("failsafe", r#"{"a":"http://a/patroni","me":"http://me"}"#, 4, 0);
        assert_eq!(race(1000, &[], &view), Ok(()));
        for map in ["{}", "nonsense"] {
            view.take_sample("failsafe", map, 5, 0);
            assert_eq!(race(1000, &[], &view), Ok(()));
        }
        // An operator's word counts more.
        view.take_sample("failsafe", r#"{"a":"http://a/patroni"}"#, 6, 0);
        view.take_sample("failover", r#"{"member":"me"}"#, 7, 0);
        assert_eq!(race(1000, &[], &view), Ok(()));
    }

    #[test]
    fn nofailover_never_leads() {
        let (name, tags) = (MemberName::new("me"), json!({"nofailover": true}));
        let tags = Tags(tags.as_object().unwrap().clone());
        let (lsn, timeline, former_leader) = (Lsn(9), None, None);
        let me = Racer { name: &name, tags: &tags, lsn, timeline, former_leader };
        assert_eq!(may_race(&me, &[], &view(0, "{}"), LIMITS), Err(NotYet::Tagged));
    }
}
