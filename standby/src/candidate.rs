//! Is there a member that could take over, seen from the leader?
//!
//! A leader asks this before it gives the lock away: for a switchover, and
//! when its PostgreSQL died and may not be restarted in place.

use crate::promotion::PeerAnswer;
use topology::{GroupView, Lsn, MemberName, Timeline};

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
    let mut refused = NoCandidate::Alone;
    let mut best: Option<(Lsn, i64, &MemberName)> = None;
    let counts = |p: &&PeerAnswer| &p.name != me && wanted.candidate.is_none_or(|c| *c == p.name);
    for peer in peers.iter().filter(counts) {
        match judge(peer, view, wanted) {
            Ok((lsn, priority)) => {
                let ahead = best.is_none_or(|(l, p, _)| (lsn, priority) > (l, p));
                if ahead {
                    best = Some((lsn, priority, &peer.name));
                }
            }
            Err(why) => refused = why,
        }
    }
    best.map(|(_, _, name)| name.clone()).ok_or(refused)
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
            view.take(&format!("members/{name}"), "{}", 1, 1);
        }
        view.take("status", "1000", 1, 0);
        view
    }

    fn wanted() -> Wanted<'static> {
        Wanted { candidate: None, past: None, timeline: None, maximum_lag: 100 }
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
}
