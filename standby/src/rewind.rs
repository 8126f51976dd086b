//! Has a local log left the history that the group went on with?
//!
//! Invariant *no regress*: a member joins a history only if its own log is a
//! prefix of it. What is not known keeps a former primary down; it never
//! attaches in silence.

use topology::{History, Lsn, Timeline};

/// Where a local log ends, and what kind of end it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEnd {
    pub timeline: Timeline,
    pub lsn: Lsn,
    pub tail: Tail,
    /// How the own timeline came to be, where its file is there.
    pub history: Option<History>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Everything a standby has replayed, or the last record of a primary that
    /// crashed: there is nothing behind `lsn`.
    Open,
    /// A primary that shut down cleanly: its checkpoint begins at `lsn`. `end`
    /// is where that record ends, unless the log could not be read.
    Closed { end: Option<Lsn> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The local log is a prefix of the leader's history: just follow.
    Prefix,
    /// The local log has records the group does not: rewind or rebuild.
    Diverged(String),
    /// It has, and on a timeline of the leader's own number: pg_rewind takes
    /// two logs on one timeline for the same. Only a new copy helps.
    Alien(String),
}

/// Compares a local end with the leader's history.
///
/// On one timeline there is one writer at a time, each behind the lock, so an
/// end on the leader's own timeline is a prefix of it, if that timeline began
/// at the same place here and there.
pub fn judge(local: &LocalEnd, leader: &History) -> Verdict {
    if local.timeline > leader.current {
        return Verdict::Diverged(format!(
            "local timeline {} is newer than the leader's {}",
            local.timeline, leader.current
        ));
    }
    let stranger = local.history.as_ref().and_then(|own| first_difference(own, leader));
    if local.timeline == leader.current {
        return stranger.map_or(Verdict::Prefix, Verdict::Alien);
    }
    if let Some(how) = stranger {
        return Verdict::Diverged(how);
    }
    let Some(switch) = leader.left_at(local.timeline) else {
        return Verdict::Diverged(format!(
            "local timeline {} is not in the history of the leader's timeline {}",
            local.timeline, leader.current
        ));
    };
    judge_on_a_branch(local, switch)
}

/// The group left the local timeline at `switch`.
///
/// The shutdown checkpoint is the last record of a clean stop. A group that
/// received it left the timeline exactly at its end. Where that end cannot be
/// read, a checkpoint that begins before the fork was received as a whole.
fn judge_on_a_branch(local: &LocalEnd, switch: Lsn) -> Verdict {
    let (is_prefix, end) = match local.tail {
        Tail::Open => (local.lsn <= switch, local.lsn),
        Tail::Closed { end: None } => (local.lsn < switch, local.lsn),
        Tail::Closed { end: Some(end) } => (local.lsn < switch && end == switch, end),
    };
    if is_prefix {
        return Verdict::Prefix;
    }
    let timeline = local.timeline;
    Verdict::Diverged(format!(
        "the group left timeline {timeline} at {switch}, the local log goes to {end}"
    ))
}

/// Two histories that went through one timeline must have left its ancestors
/// at the same places, and have the same ancestors.
fn first_difference(own: &History, leader: &History) -> Option<String> {
    let current = own.current;
    let mut known = leader.forks.iter().filter(|fork| fork.parent < current);
    let mut mine = own.forks.iter();
    loop {
        return match (mine.next(), known.next()) {
            (None, None) => None,
            (Some(m), Some(t)) if (m.parent, m.switch) == (t.parent, t.switch) => continue,
            (_, Some(theirs)) => Some(format!(
                "timeline {current} is another one here: the leader's history left timeline {} \
                 at {}",
                theirs.parent, theirs.switch
            )),
            (Some(mine), None) => Some(format!(
                "timeline {current} is another one here: it came by timeline {}, which the \
                 leader's history does not know",
                mine.parent
            )),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader() -> History {
        History::parse(Timeline(3), "1\t0/3000\tx\n2\t0/5000\ty\n").unwrap()
    }

    fn end(timeline: u32, lsn: u64, tail: Tail) -> LocalEnd {
        LocalEnd { timeline: Timeline(timeline), lsn: Lsn(lsn), tail, history: None }
    }

    fn closed(timeline: u32, lsn: u64) -> LocalEnd {
        end(timeline, lsn, Tail::Closed { end: None })
    }

    fn is_diverged(local: &LocalEnd, leader: &History) -> bool {
        matches!(judge(local, leader), Verdict::Diverged(_))
    }

    #[test]
    fn a_standby_is_a_prefix_up_to_the_fork() {
        assert_eq!(judge(&end(2, 0x5000, Tail::Open), &leader()), Verdict::Prefix);
        assert!(is_diverged(&end(2, 0x5001, Tail::Open), &leader()));
        assert_eq!(judge(&end(3, 0x9000, Tail::Open), &leader()), Verdict::Prefix);
    }

    #[test]
    fn a_former_primary_must_have_ended_before_the_fork() {
        assert_eq!(judge(&closed(2, 0x5000 - 120), &leader()), Verdict::Prefix);
        assert!(is_diverged(&closed(2, 0x5000), &leader()));
        assert!(is_diverged(&closed(2, 0x6000), &leader()));
    }

    #[test]
    fn its_shutdown_checkpoint_ends_exactly_where_the_group_went_on() {
        let ends = |at: u64| end(2, 0x5000 - 120, Tail::Closed { end: Some(Lsn(at)) });
        assert_eq!(judge(&ends(0x5000), &leader()), Verdict::Prefix);
        assert!(is_diverged(&ends(0x5000 - 8), &leader()));
        assert!(is_diverged(&ends(0x5000 + 8), &leader()));
    }

    #[test]
    fn foreign_and_newer_timelines_have_diverged() {
        assert!(is_diverged(&end(4, 1, Tail::Open), &leader()));
        let short = History::parse(Timeline(3), "1\t0/3000\tx\n").unwrap();
        assert!(is_diverged(&end(2, 1, Tail::Open), &short));
    }

    #[test]
    fn one_number_may_stand_for_two_timelines() {
        let own = |current: u32, text: &str| LocalEnd {
            history: Some(History::parse(Timeline(current), text).unwrap()),
            ..end(current, 0x4000, Tail::Open)
        };
        let same = own(3, "1\t0/3000\tx\n2\t0/5000\tanother reason\n");
        assert_eq!(judge(&same, &leader()), Verdict::Prefix);
        for text in ["1\t0/3000\tx\n2\t0/5008\ty\n", "1\t0/3000\tx\n", "2\t0/5000\ty\n"] {
            assert!(matches!(judge(&own(3, text), &leader()), Verdict::Alien(_)), "{text}");
        }
        let short = History::parse(Timeline(3), "1\t0/3000\tx\n").unwrap();
        let longer = own(3, "1\t0/3000\tx\n2\t0/5000\ty\n");
        assert!(matches!(judge(&longer, &short), Verdict::Alien(_)));
        assert_eq!(judge(&own(2, "1\t0/3000\tx\n"), &leader()), Verdict::Prefix);
        assert!(is_diverged(&own(2, "1\t0/2000\tx\n"), &leader()));
    }
}
