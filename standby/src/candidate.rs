//! Is there a member that could take over, seen from the leader?
//!
//! A leader asks this before it gives the lock away: for a switchover, and
//! when its PostgreSQL died and may not be restarted in place.
//!
//! While a synchronous mode is in force, only standbys of `/sync` count. In quorum mode,
//! if no candidate is named, at least `quorum + 1` of them must be able to take over, so
//! that one of them wins its votes. This is stricter than Patroni: a leader that hands
//! over in order asks for the end of its log, not for a lag that is small enough, so
//! that a planned move loses nothing in any mode.

use crate::promotion::{Electorate, PeerAnswer};
use topology::{GroupView, Lsn, MemberName, SyncMode, Timeline};

/// Who counts, and how far a candidate must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted<'a> {
    /// Only this member, when an operator named one.
    pub candidate: Option<&'a MemberName>,
    /// Strictly past this position: the beginning of the shutdown checkpoint.
    pub past: Option<Lsn>,
    /// Positions compare only within one history: the leader's timeline.
    pub timeline: Option<Timeline>,
    pub maximum_lag: u64,
    /// `Off` for a failover that an operator asked for: it may go to anybody.
    pub mode: SyncMode,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCandidate {
    #[error("there is no other member")]
    Alone,
    #[error("{0} is not a member")]
    Unknown(MemberName),
    #[error("{0} did not answer")]
    Silent(MemberName),
    #[error("{0} is tagged nofailover, or its watchdog or disk failed")]
    Limited(MemberName),
    #[error("{0} does not run as a standby")]
    NotAStandby(MemberName),
    #[error("{name} has {has}, but must be past {past}")]
    NotThere { name: MemberName, has: Lsn, past: Lsn },
    #[error("{0} does not follow the leader's timeline")]
    OtherTimeline(MemberName),
    #[error("{name} is {bytes} bytes behind, {allowed} allowed")]
    Behind { name: MemberName, bytes: u64, allowed: u64 },
    #[error("{0} is not a standby of /sync: it may lack what was acknowledged")]
    NotSynchronous(MemberName),
    #[error("{able} members can take over, {needed} are needed to lose nothing by a quorum")]
    TooFew { able: u64, needed: u64 },
}

/// The best member to take over, or why the last one looked at cannot.
pub fn best(
    me: &MemberName,
    peers: &[PeerAnswer],
    view: &GroupView,
    wanted: &Wanted,
) -> Result<MemberName, NoCandidate> {
    if let Some(name) = wanted.candidate
        && !view.members.contains_key(name)
    {
        return Err(NoCandidate::Unknown(name.clone()));
    }
    let electorate = Electorate::of(view, wanted.mode);
    let counts = |p: &&PeerAnswer| &p.name != me && wanted.candidate.is_none_or(|c| *c == p.name);
    let (named, others): (Vec<_>, Vec<_>) = peers
        .iter()
        .filter(counts)
        .partition(|peer| electorate.is_none_or(|e| e.is_standby(&peer.name)));
    let mut refused = others.last().map(|peer| NoCandidate::NotSynchronous(peer.name.clone()));
    let mut best: Option<(Lsn, i64, &MemberName)> = None;
    let mut able = 0;
    for peer in named {
        match judge(peer, view, wanted) {
            Ok((lsn, priority)) => {
                able += 1;
                let ahead = best.is_none_or(|(l, p, _)| (lsn, priority) > (l, p));
                if ahead {
                    best = Some((lsn, priority, &peer.name));
                }
            }
            Err(why) => refused = Some(why),
        }
    }
    let (_, _, name) = best.ok_or(refused.clone().unwrap_or(NoCandidate::Alone))?;
    let quorum = electorate.filter(|_| wanted.candidate.is_none()).map_or(0, |e| e.quorum());
    if able <= quorum {
        // One who is on its way there is waited for.
        let awaited = refused.filter(|why| matches!(why, NoCandidate::NotThere { .. }));
        return Err(awaited.unwrap_or(NoCandidate::TooFew { able, needed: quorum + 1 }));
    }
    Ok(name.clone())
}

/// Members that could take over if they had the end of the log: those that lack it,
/// with what they have, and those that did not say, with nothing.
pub fn awaited<'a>(
    me: &MemberName,
    peers: &'a [PeerAnswer],
    view: &GroupView,
    wanted: &Wanted,
) -> Vec<(&'a MemberName, Option<Lsn>)> {
    let electorate = Electorate::of(view, wanted.mode);
    let counts = |peer: &&PeerAnswer| {
        &peer.name != me
            && view.members.contains_key(&peer.name)
            && wanted.candidate.is_none_or(|c| *c == peer.name)
            && electorate.is_none_or(|e| e.is_standby(&peer.name))
    };
    let lacks = |peer: &'a PeerAnswer| match judge(peer, view, wanted) {
        Err(NoCandidate::NotThere { has, .. }) => Some((&peer.name, Some(has))),
        Err(NoCandidate::Silent(_)) => Some((&peer.name, None)),
        _ => None,
    };
    peers.iter().filter(counts).filter_map(lacks).collect()
}

fn judge(peer: &PeerAnswer, view: &GroupView, wanted: &Wanted) -> Result<(Lsn, i64), NoCandidate> {
    let name = || peer.name.clone();
    let status = peer.status.as_ref().ok_or_else(|| NoCandidate::Silent(name()))?;
    if !status.is_eligible() {
        return Err(NoCandidate::Limited(name()));
    }
    if !status.in_recovery {
        return Err(NoCandidate::NotAStandby(name()));
    }
    if wanted.timeline.is_some_and(|leaders| status.timeline != Some(leaders)) {
        return Err(NoCandidate::OtherTimeline(name()));
    }
    if let Some(past) = wanted.past {
        if status.lsn <= past {
            return Err(NoCandidate::NotThere { name: name(), has: status.lsn, past });
        }
        return Ok((status.lsn, status.failover_priority));
    }
    let bytes = status.lsn.behind(view.optime());
    if bytes > wanted.maximum_lag {
        let allowed = wanted.maximum_lag;
        return Err(NoCandidate::Behind { name: name(), bytes, allowed });
    }
    Ok((status.lsn, status.failover_priority))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use crate::promotion::PeerStatus;
    use topology::Timeline;

    fn peer(name: &str, lsn: u64, nofailover: bool) -> PeerAnswer {
        let status = PeerStatus {
            in_recovery: true,
            lsn: Lsn(lsn),
            timeline: Some(Timeline(1)),
            nofailover,
            failover_priority: 1,
            watchdog_failed: false,
            disk_failed: false,
        };
        PeerAnswer { name: name.into(), status: Some(status) }
    }

    fn view() -> GroupView {
        let mut view = GroupView::default();
        for name in ["me", "a", "b"] {
            view.take_sample(&format!("members/{name}"), "{}", 1, 1);
        }
        view.take_sample("status", "1000", 1, 0);
        view
    }

    fn wanted() -> Wanted<'static> {
        let (candidate, past, timeline, mode) = (None, None, None, SyncMode::Off);
        Wanted { candidate, past, timeline, maximum_lag: 100, mode }
    }

    #[test]
    fn the_furthest_able_member_is_best() {
        let peers = [peer("a", 1000, true), peer("b", 950, false)];
        assert_eq!(best(&"me".into(), &peers, &view(), &wanted()), Ok("b".into()));
    }

    #[test]
    fn a_handover_needs_the_shutdown_checkpoint() {
        let past = Wanted { past: Some(Lsn(1000)), ..wanted() };
        let refused = best(&"me".into(), &[peer("a", 1000, false)], &view(), &past);
        assert!(matches!(refused, Err(NoCandidate::NotThere { .. })));
        let there = best(&"me".into(), &[peer("a", 1001, false)], &view(), &past);
        assert_eq!(there, Ok("a".into()));
    }

    #[test]
    fn a_member_that_could_take_over_with_the_end_of_the_log_is_awaited() {
        let past = Wanted { past: Some(Lsn(1000)), ..wanted() };
        let (me, silent) = (MemberName::new("me"), PeerAnswer { name: "b".into(), status: None });
        let peers = [peer("a", 900, false), silent];
        let named = |peers, wanted: &Wanted| -> Vec<(String, Option<Lsn>)> {
            let awaited = awaited(&me, peers, &view(), wanted);
            awaited.into_iter().map(|(name, lsn)| (name.to_string(), lsn)).collect()
        };
        assert_eq!(named(&peers, &past), [("a".into(), Some(Lsn(900))), ("b".into(), None)]);
        let b = MemberName::new("b");
        let only = Wanted { candidate: Some(&b), ..past.clone() };
        assert_eq!(named(&peers, &only), [("b".into(), None)]);
        // One that has all, one that may not lead, and one that is no member.
        let peers = [peer("a", 1001, false), peer("b", 900, true), peer("x", 900, false)];
        assert_eq!(named(&peers, &past), []);
    }

    #[test]
    fn a_position_on_another_timeline_proves_nothing() {
        let past = Wanted { past: Some(Lsn(1000)), timeline: Some(Timeline(2)), ..wanted() };
        let refused = best(&"me".into(), &[peer("a", 5000, false)], &view(), &past);
        assert_eq!(refused, Err(NoCandidate::OtherTimeline("a".into())));
    }

    #[test]
    fn refusals_have_names() {
        let named = MemberName::new("zz");
        let unknown = Wanted { candidate: Some(&named), ..wanted() };
        let refused = best(&"me".into(), &[], &view(), &unknown);
        assert_eq!(refused, Err(NoCandidate::Unknown("zz".into())));
        assert_eq!(best(&"me".into(), &[], &view(), &wanted()), Err(NoCandidate::Alone));
        let silent = PeerAnswer { name: "a".into(), status: None };
        let refused = best(&"me".into(), &[silent], &view(), &wanted());
        assert_eq!(refused, Err(NoCandidate::Silent("a".into())));
    }

    fn in_sync(sync: &str) -> GroupView {
        let mut view = view();
        view.take_sample("sync", sync, 1, 0);
        view
    }

    #[test]
    fn only_standbys_of_sync_take_over_but_on_an_operators_word() {
        let view = in_sync(r#"{"leader":"me","sync_standby":"B","quorum":0}"#);
        let sync = Wanted { mode: SyncMode::On, ..wanted() };
        let peers = [peer("a", 1000, false), peer("b", 950, false)];
        let me = MemberName::new("me");
        assert_eq!(best(&me, &peers, &view, &sync), Ok("b".into()));
        let refused = Err(NoCandidate::NotSynchronous("a".into()));
        assert_eq!(best(&me, &peers[..1], &view, &sync), refused);
        let a = MemberName::new("a");
        let named = Wanted { candidate: Some(&a), ..sync.clone() };
        assert_eq!(best(&me, &peers, &view, &named), refused);
        // A failover that was asked for may go to anybody.
        let forced = Wanted { mode: SyncMode::Off, ..named };
        assert_eq!(best(&me, &peers, &view, &forced), Ok("a".into()));
        // Why the one that counts cannot is told, not that others do not count.
        let past = Wanted { past: Some(Lsn(1000)), ..sync };
        let refused = best(&me, &peers, &view, &past);
        assert!(matches!(refused, Err(NoCandidate::NotThere { .. })), "{refused:?}");
        let without = in_sync(r#"{"leader":null,"sync_standby":null,"quorum":0}"#);
        let sync = Wanted { mode: SyncMode::On, ..wanted() };
        assert_eq!(best(&me, &peers, &without, &sync), Ok("a".into()), "no mode is in force");
    }

    #[test]
    fn a_quorum_needs_as_many_as_one_needs_votes_unless_a_member_was_named() {
        let view = in_sync(r#"{"leader":"me","sync_standby":"a,b","quorum":1}"#);
        let quorum = Wanted { mode: SyncMode::Quorum, ..wanted() };
        let me = MemberName::new("me");
        let both = [peer("a", 1000, false), peer("b", 1001, false)];
        assert_eq!(best(&me, &both, &view, &quorum), Ok("b".into()));
        let one = [peer("a", 1000, false), peer("b", 1000, true)];
        let few = Err(NoCandidate::TooFew { able: 1, needed: 2 });
        assert_eq!(best(&me, &one, &view, &quorum), few);
        let a = MemberName::new("a");
        let named = Wanted { candidate: Some(&a), ..quorum.clone() };
        assert_eq!(best(&me, &one, &view, &named), Ok("a".into()));
        // The second one may be there in a moment.
        let past = Wanted { past: Some(Lsn(1000)), ..quorum };
        let refused = best(&me, &both, &view, &past);
        assert!(matches!(refused, Err(NoCandidate::NotThere { .. })), "{refused:?}");
    }
}
