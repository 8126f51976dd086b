//! May a lock holder open for writes in a region that has just become owner?
//!
//! Invariant *fence before open*: no member opens without everything up to the token.
//! Absent here: whether the region is the owner, which the caller has read.

use super::NotYet;
use topology::region::Token;
use topology::{Lsn, SystemId, Timeline};

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
    not_before(token, timeline, lsn)
}

/// Has a log of the token's system that ends there passed the token?
pub(super) fn not_before(
    token: &Token,
    timeline: Option<Timeline>,
    lsn: Lsn,
) -> Result<(), NotYet> {
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
