//! When may a standby take the lock, and when may it open for writes?
//!
//! Two questions on purpose. `may_race` picks the healthiest member of a group
//! while nobody leads; `may_open` guards the step from which writes are
//! possible and holds also for a member that has the lock already.

use topology::region::Token;
use topology::{Failover, GroupView, Lsn, MemberName, SystemId, Tags, Timeline};

/// One member, asked directly in this beat.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerAnswer {
    pub name: MemberName,
    /// `None`: no answer. Never read as "dead"; the lock says who may lead.
    pub status: Option<PeerStatus>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PeerStatus {
    pub in_recovery: bool,
    /// The larger of what it received and what it replayed.
    pub lsn: Lsn,
    pub timeline: Option<Timeline>,
    pub nofailover: bool,
    pub failover_priority: i64,
    pub watchdog_failed: bool,
    /// Where its data lies no new file can be written.
    pub disk_failed: bool,
}

impl PeerStatus {
    /// Could this member lead at all?
    pub fn is_eligible(&self) -> bool {
        !self.nofailover && !self.watchdog_failed && !self.disk_failed
    }
}

/// The racer itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Racer<'a> {
    pub name: &'a MemberName,
    pub tags: &'a Tags,
    pub lsn: Lsn,
    pub timeline: Option<Timeline>,
    /// Who led before: its failover_priority does not count.
    pub former_leader: Option<&'a MemberName>,
}

/// Limits of the race, from `/config`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RaceLimits {
    pub maximum_lag: u64,
    pub check_timeline: bool,
    /// A leader whose store is away may lead on, by the word of those it asks.
    pub failsafe_mode: bool,
}

/// Why not, with what it would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    #[error("the tag nofailover keeps this member from leading")]
    Tagged,
    #[error("{bytes} bytes behind the last known position, {allowed} allowed")]
    Behind { bytes: u64, allowed: u64 },
    #[error("timeline {mine} is behind the group's timeline {group}")]
    OldTimeline { mine: Timeline, group: Timeline },
    #[error(
        "the own timeline has the number of the group's and another history; reinitialize this \
         member"
    )]
    OtherHistory,
    #[error("the own timeline is not known yet")]
    TimelineUnknown,
    #[error("{0} runs as a primary")]
    PrimaryExists(MemberName),
    #[error("{name} is on timeline {theirs}, here {mine}")]
    PeerNewer { name: MemberName, theirs: Timeline, mine: Timeline },
    #[error("{name} has received more ({theirs}, here {mine})")]
    PeerAhead { name: MemberName, theirs: Lsn, mine: Lsn },
    #[error("{0} has the same position and a higher failover_priority")]
    PeerPreferred(MemberName),
    #[error("{0} was asked for as the new leader and is able")]
    OtherCandidate(MemberName),
    #[error("the region's token ends at {wanted}, received up to {mine}")]
    TokenNotReached { wanted: Lsn, mine: Lsn },
    #[error("the region's token is of system {wanted}, this data is of {mine}")]
    OtherSystem { wanted: SystemId, mine: SystemId },
    #[error("the region's token is of timeline {wanted}, this data is on {mine}")]
    TokenTimeline { wanted: Timeline, mine: Timeline },
    #[error(
        "/failsafe does not name this member: a leader without a store would not have asked it"
    )]
    NotInFailsafe,
    #[error("workers that are not open yet: {0}")]
    WorkersFirst(String),
}

/// May this standby take the free lock?
///
/// `peers` are the answers of all other known members. A peer that did not
/// answer does not block: otherwise one dead member would end availability.
/// What protects acknowledged writes is the lag limit and the token.
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
    not_behind(me.lsn, me.timeline, view, limits)?;
    not_overtaken(me, asked(peers, view).into_iter())
}

/// A leader whose store is away asks only those whom `/failsafe` names. The map
/// counts also when the mode is off: that leader may not have heard of it.
fn is_asked(name: &MemberName, view: &GroupView) -> bool {
    let map = view.failsafe.as_ref().map(|map| &map.value);
    map.is_none_or(|map| map.is_empty() || map.contains_key(name))
}

/// Whoever may not lead is not waited for either: it would be for ever.
fn asked<'a>(peers: &'a [PeerAnswer], view: &GroupView) -> Vec<&'a PeerAnswer> {
    peers.iter().filter(|peer| is_asked(&peer.name, view) || runs_as_primary(peer)).collect()
}

fn runs_as_primary(peer: &PeerAnswer) -> bool {
    peer.status.as_ref().is_some_and(|status| !status.in_recovery)
}

/// Somebody asked for a new leader, and the lock is free.
///
/// A leader that handed the lock over published the end of its log: then only
/// those who have all of it may race. One that was asked and died did not, and
/// the race is a failover in which the named candidate goes first.
fn may_race_on_request(
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

fn not_behind(
    lsn: Lsn,
    timeline: Option<Timeline>,
    view: &GroupView,
    limits: RaceLimits,
) -> Result<(), NotYet> {
    let bytes = lsn.behind(view.optime());
    if bytes > limits.maximum_lag {
        return Err(NotYet::Behind { bytes, allowed: limits.maximum_lag });
    }
    if !limits.check_timeline {
        return Ok(());
    }
    current(timeline, view)
}

fn current(timeline: Option<Timeline>, view: &GroupView) -> Result<(), NotYet> {
    let group = view.timeline();
    match timeline {
        None => Err(NotYet::TimelineUnknown),
        Some(mine) if mine < group => Err(NotYet::OldTimeline { mine, group }),
        Some(_) => Ok(()),
    }
}

fn not_overtaken<'a>(
    me: &Racer,
    peers: impl Iterator<Item = &'a PeerAnswer>,
) -> Result<(), NotYet> {
    for peer in peers.filter(|p| &p.name != me.name) {
        let Some(status) = peer.status.as_ref().filter(|s| s.is_eligible()) else {
            continue;
        };
        if !status.in_recovery {
            return Err(NotYet::PrimaryExists(peer.name.clone()));
        }
        // Positions compare only within one history: the newer one goes on.
        if let (Some(theirs), Some(mine)) = (status.timeline, me.timeline)
            && theirs != mine
        {
            if theirs > mine {
                return Err(NotYet::PeerNewer { name: peer.name.clone(), theirs, mine });
            }
            continue;
        }
        if status.lsn > me.lsn {
            let name = peer.name.clone();
            return Err(NotYet::PeerAhead { name, theirs: status.lsn, mine: me.lsn });
        }
        let led = me.former_leader == Some(&peer.name);
        if !led && status.lsn == me.lsn && status.failover_priority > me.tags.failover_priority() {
            return Err(NotYet::PeerPreferred(peer.name.clone()));
        }
    }
    Ok(())
}

/// May a lock holder open for writes in a region that has just become owner?
///
/// Invariant *fence before open*: the token says where the old side ended; a
/// standby that has not passed the shutdown checkpoint would lose writes.
/// Past means strictly more than its beginning: the record itself was received.
pub fn may_open(
    token: Option<&Token>,
    system: &SystemId,
    timeline: Option<Timeline>,
    lsn: Lsn,
) -> Result<(), NotYet> {
    let Some(token) = token else { return Ok(()) };
    if &token.system_id != system {
        let wanted = token.system_id.clone();
        return Err(NotYet::OtherSystem { wanted, mine: system.clone() });
    }
    match timeline {
        None => return Err(NotYet::TimelineUnknown),
        Some(mine) if mine < token.timeline => {
            return Err(NotYet::TokenTimeline { wanted: token.timeline, mine });
        }
        Some(_) => {}
    }
    if lsn <= token.lsn {
        return Err(NotYet::TokenNotReached { wanted: token.lsn, mine: lsn });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(name: &str, lsn: u64) -> PeerAnswer {
        let status = PeerStatus {
            in_recovery: true,
            lsn: Lsn(lsn),
            timeline: Some(Timeline(1)),
            nofailover: false,
            failover_priority: 1,
            watchdog_failed: false,
            disk_failed: false,
        };
        PeerAnswer { name: name.into(), status: Some(status) }
    }

    fn view(optime: u64, failover: &str) -> GroupView {
        let mut view = GroupView::default();
        view.take("status", &format!("{{\"optime\":{optime}}}"), 1, 0);
        view.take("failover", failover, 2, 0);
        view
    }

    const LIMITS: RaceLimits =
        RaceLimits { maximum_lag: 100, check_timeline: false, failsafe_mode: false };

    fn race(lsn: u64, peers: &[PeerAnswer], view: &GroupView) -> Result<(), NotYet> {
        let (name, tags) = (MemberName::new("me"), Tags::default());
        let former_leader = None;
        let timeline = Some(Timeline(1));
        let me = Racer { name: &name, tags: &tags, lsn: Lsn(lsn), timeline, former_leader };
        may_race(&me, peers, view, LIMITS)
    }

    #[test]
    fn the_furthest_member_wins_and_the_others_say_why_not() {
        let peers = [answer("a", 900), answer("b", 950)];
        assert_eq!(race(1000, &peers, &view(1000, "{}")), Ok(()));
        assert!(matches!(race(940, &peers, &view(1000, "{}")), Err(NotYet::PeerAhead { .. })));
        let too_far = race(899, &[], &view(1000, "{}"));
        assert_eq!(too_far, Err(NotYet::Behind { bytes: 101, allowed: 100 }));
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
        // More than we have is more, whoever has it.
        old.status.as_mut().unwrap().lsn = Lsn(1001);
        assert!(matches!(may_race(&me, &[old], &view, LIMITS), Err(NotYet::PeerAhead { .. })));
    }

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

    #[test]
    fn whom_a_leader_without_a_store_does_not_ask_must_not_lead() {
        let mut view = view(1000, "{}");
        view.take("failsafe", r#"{"a":"http://a/patroni"}"#, 3, 0);
        assert_eq!(race(1000, &[], &view), Err(NotYet::NotInFailsafe));
        view.take("failsafe", r#"{"a":"http://a/patroni","me":"http://me"}"#, 4, 0);
        assert_eq!(race(1000, &[], &view), Ok(()));
        for nobody in ["{}", "nonsense"] {
            view.take("failsafe", nobody, 5, 0);
            assert_eq!(race(1000, &[], &view), Ok(()));
        }
        // An operator's word counts more.
        view.take("failsafe", r#"{"a":"http://a/patroni"}"#, 6, 0);
        view.take("failover", r#"{"member":"me"}"#, 7, 0);
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

    #[test]
    fn opening_needs_the_record_at_the_token_itself() {
        let system = SystemId("7710375988543033523".into());
        let token = Token { system_id: system.clone(), timeline: Timeline(2), lsn: Lsn(500) };
        let open = |tl, lsn| may_open(Some(&token), &system, Some(Timeline(tl)), Lsn(lsn));
        assert!(matches!(open(2, 500), Err(NotYet::TokenNotReached { .. })));
        assert!(matches!(open(1, 900), Err(NotYet::TokenTimeline { .. })));
        assert_eq!(open(2, 501), Ok(()));
        let other = SystemId("1111111111".into());
        let refused = may_open(Some(&token), &other, Some(Timeline(2)), Lsn(900));
        assert!(matches!(refused, Err(NotYet::OtherSystem { .. })));
        assert_eq!(may_open(None, &system, None, Lsn(0)), Ok(()));
    }
}
