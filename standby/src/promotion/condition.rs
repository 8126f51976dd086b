//! Conditions that every candidate must meet, asked by an operator or not.
//!
//! Invariant: positions compare only within one history.

use super::electorate::{Electorate, Lacking, Stand, stand};
use super::{NotYet, PeerAnswer, RaceLimits, Racer};
use topology::{GroupView, Lsn, MemberName, Timeline};

/// Enough voters have no more than this member. Every voter counts, also one that
/// may not lead itself by the map of failsafe mode.
pub(super) fn elected(
    me: &Racer,
    peers: &[PeerAnswer],
    view: &GroupView,
    electorate: Option<Electorate>,
) -> Result<(), NotYet> {
    let Some(electorate) = electorate.filter(|e| !e.led_last(me, view)) else { return Ok(()) };
    let mine = Stand { name: me.name, lsn: me.lsn, timeline: me.timeline };
    let elected = electorate.elects(mine, peers.iter().filter_map(stand));
    elected.map_err(|Lacking { votes, needed }| NotYet::TooFewVotes { votes, needed })
}

/// A leader whose store is away asks only the members that `/failsafe` names. The
/// map counts also when the mode is off: that leader may not know of it yet.
pub(super) fn is_asked(name: &MemberName, view: &GroupView) -> bool {
    let map = view.failsafe.as_ref().map(|map| &map.value);
    map.is_none_or(|map| map.is_empty() || map.contains_key(name))
}

/// The peers to wait for. Standbys that may not lead are left out: the wait would never end.
pub(super) fn asked<'a>(peers: &'a [PeerAnswer], view: &GroupView) -> Vec<&'a PeerAnswer> {
    peers.iter().filter(|peer| is_asked(&peer.name, view) || runs_as_primary(peer)).collect()
}

fn runs_as_primary(peer: &PeerAnswer) -> bool {
    peer.status.as_ref().is_some_and(|status| !status.in_recovery)
}

pub(super) fn not_behind(
    lsn: Lsn,
    timeline: Option<Timeline>,
    view: &GroupView,
    limits: RaceLimits,
) -> Result<(), NotYet> {
    let bytes = lsn.behind(view.optime());
    // A leader that ended in order loses nothing: then no lag is small enough.
    let ended = view.status.as_ref().map(|status| &status.value);
    if let Some(leader) = ended.and_then(|status| status.ended.clone()) {
        let group = ended.and_then(|status| status.ended_timeline).unwrap_or_default();
        not_on_older(timeline, group)?;
        if bytes > 0 {
            return Err(NotYet::LacksTheEnd { leader, end: view.optime(), mine: lsn });
        }
    }
    if bytes > limits.maximum_lag {
        return Err(NotYet::Behind { bytes, allowed: limits.maximum_lag });
    }
    if !limits.check_timeline {
        return Ok(());
    }
    current(timeline, view)
}

pub(super) fn current(timeline: Option<Timeline>, view: &GroupView) -> Result<(), NotYet> {
    not_on_older(timeline, view.timeline())
}

pub(super) fn not_on_older(timeline: Option<Timeline>, group: Timeline) -> Result<(), NotYet> {
    match timeline {
        None => Err(NotYet::TimelineUnknown),
        Some(mine) if mine < group => Err(NotYet::OldTimeline { mine, group }),
        Some(_) => Ok(()),
    }
}

/// While a synchronous mode is in force, only members that `/sync` names are waited
/// for, and what its leader has beyond the others was not acknowledged.
pub(super) fn not_overtaken<'a>(
    me: &Racer,
    peers: impl Iterator<Item = &'a PeerAnswer>,
    electorate: Option<Electorate>,
) -> Result<(), NotYet> {
    for peer in peers.filter(|p| &p.name != me.name) {
        let Some(status) = peer.status.as_ref().filter(|s| s.is_eligible()) else {
            continue;
        };
        if !status.in_recovery {
            return Err(NotYet::PrimaryExists(peer.name.clone()));
        }
        if electorate.is_some_and(|e| !e.is_member(&peer.name)) {
            continue;
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
        let led = match electorate {
            Some(electorate) => electorate.led(&peer.name),
            None => me.former_leader == Some(&peer.name),
        };
        if status.lsn > me.lsn && !(led && electorate.is_some()) {
            let name = peer.name.clone();
            return Err(NotYet::PeerAhead { name, theirs: status.lsn, mine: me.lsn });
        }
        if !led && status.lsn == me.lsn && status.failover_priority > me.tags.failover_priority() {
            return Err(NotYet::PeerPreferred(peer.name.clone()));
        }
    }
    Ok(())
}
