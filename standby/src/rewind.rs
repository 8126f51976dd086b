//! Has a local log left the history that the group went on with?
//!
//! Invariant *no regress*: a member joins a history only if its own log is a
//! prefix of it. What is not known keeps a former primary down; it never
//! attaches in silence.

use topology::{History, Lsn, Timeline};

/// Where a local log ends, and what kind of end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalEnd {
    pub timeline: Timeline,
    /// A standby: everything replayed. A former primary: the beginning of its
    /// shutdown checkpoint record.
    pub lsn: Lsn,
    pub was_primary: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The local log is a prefix of the leader's history: just follow.
    Prefix,
    /// The local log has records the group does not: rewind or rebuild.
    Diverged(String),
}

/// Compares a local end with the leader's history.
///
/// On one timeline there is one writer at a time, each behind the lock, so an
/// end on the leader's own timeline is a prefix of it. The shutdown checkpoint
/// is the last record of a clean stop: a former primary whose checkpoint begins
/// before the fork had it received, and has nothing behind it.
pub fn judge(local: LocalEnd, leader: &History) -> Verdict {
    if local.timeline == leader.current {
        return Verdict::Prefix;
    }
    if local.timeline > leader.current {
        return Verdict::Diverged(format!(
            "local timeline {} is newer than the leader's {}",
            local.timeline, leader.current
        ));
    }
    let Some(switch) = leader.left_at(local.timeline) else {
        return Verdict::Diverged(format!(
            "local timeline {} is not in the history of the leader's timeline {}",
            local.timeline, leader.current
        ));
    };
    let is_prefix = if local.was_primary { local.lsn < switch } else { local.lsn <= switch };
    if is_prefix {
        return Verdict::Prefix;
    }
    Verdict::Diverged(format!(
        "the group left timeline {} at {switch}, the local log goes to {}",
        local.timeline, local.lsn
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader() -> History {
        History::parse(Timeline(3), "1\t0/3000\tx\n2\t0/5000\ty\n").unwrap()
    }

    fn end(timeline: u32, lsn: u64, was_primary: bool) -> LocalEnd {
        LocalEnd { timeline: Timeline(timeline), lsn: Lsn(lsn), was_primary }
    }

    #[test]
    fn a_standby_is_a_prefix_up_to_the_fork() {
        assert_eq!(judge(end(2, 0x5000, false), &leader()), Verdict::Prefix);
        assert!(matches!(judge(end(2, 0x5001, false), &leader()), Verdict::Diverged(_)));
        assert_eq!(judge(end(3, 0x9000, false), &leader()), Verdict::Prefix);
    }

    #[test]
    fn a_former_primary_must_have_ended_before_the_fork() {
        assert_eq!(judge(end(2, 0x5000 - 120, true), &leader()), Verdict::Prefix);
        assert!(matches!(judge(end(2, 0x5000, true), &leader()), Verdict::Diverged(_)));
        assert!(matches!(judge(end(2, 0x6000, true), &leader()), Verdict::Diverged(_)));
    }

    #[test]
    fn foreign_and_newer_timelines_have_diverged() {
        assert!(matches!(judge(end(4, 1, false), &leader()), Verdict::Diverged(_)));
        let short = History::parse(Timeline(3), "1\t0/3000\tx\n").unwrap();
        assert!(matches!(judge(end(2, 1, false), &short), Verdict::Diverged(_)));
    }
}
