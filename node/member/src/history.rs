//! `/history`: the lines of a group's timelines, with the times and names that only
//! the store has.

use topology::timeline::Fork;
use topology::{GroupView, History, HistoryEntry};

/// All fields of a line: timeline, position, reason, time, name.
fn is_whole(entry: &HistoryEntry) -> bool {
    entry.at.is_some() && entry.new_leader.is_some()
}

/// True if `/history` is up to date: its last line is the last timeline switch, with all
/// fields. A first timeline has no history, and Patroni writes none.
pub(super) fn is_told(view: &GroupView, history: &History) -> bool {
    let entries = view.history.as_ref().map_or(&[][..], |history| &history.value);
    match (entries.last(), history.forks.last()) {
        (None, fork) => fork.is_none(),
        (Some(_), None) => false,
        (Some(last), Some(fork)) => {
            (last.timeline, last.switch) == (fork.parent, fork.switch) && is_whole(last)
        }
    }
}

/// Older lines keep the time and name they had; the newest gets ours, and the time at
/// which it began. Only the last `max` are kept, unless that is 0.
pub(super) fn merged(
    history: &History,
    known: &[HistoryEntry],
    me: &str,
    began: &str,
    max: usize,
) -> Vec<HistoryEntry> {
    let last = history.forks.len().saturating_sub(1);
    let entry = |(index, fork): (usize, &Fork)| {
        let same = known.iter().find(|e| e.timeline == fork.parent && e.switch == fork.switch);
        if let Some(same) = same.filter(|same| index < last || is_whole(same)) {
            return same.clone();
        }
        let newest = index == last;
        HistoryEntry {
            timeline: fork.parent,
            switch: fork.switch,
            reason: fork.reason.clone(),
            at: newest.then(|| began.to_string()),
            new_leader: newest.then(|| me.to_string()),
        }
    };
    let skip = if max == 0 { 0 } else { history.forks.len().saturating_sub(max) };
    history.forks.iter().enumerate().skip(skip).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use topology::{Lsn, Timeline};

    fn history() -> History {
        History::parse(Timeline(3), "1\t0/3000\tx\n2\t0/5000\ty\n").unwrap()
    }

    fn old() -> HistoryEntry {
        HistoryEntry {
            timeline: Timeline(1),
            switch: Lsn(0x3000),
            reason: "x".into(),
            at: Some("2026-01-01T00:00:00+00:00".into()),
            new_leader: Some("n1".into()),
        }
    }

    #[test]
    fn older_lines_keep_their_names_and_the_newest_gets_the_files_time() {
        let began = "2001-09-09T01:46:40.000000+00:00";
        let entries = merged(&history(), &[old()], "me", began, 0);
        assert_eq!(entries[0], old());
        assert_eq!(entries[1].new_leader.as_deref(), Some("me"));
        assert_eq!(entries[1].at.as_deref(), Some(began));
        // A line of the same timeline with another end was of another history.
        let other = HistoryEntry { switch: Lsn(0x2000), ..old() };
        assert_eq!(merged(&history(), &[other], "me", began, 0)[0].new_leader, None);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let entries = merged(&history(), &[old()], "me", "t", 1);
        assert_eq!((entries.len(), entries[0].timeline), (1, Timeline(2)));
    }

    #[test]
    fn the_key_is_written_again_when_it_is_gone_old_or_not_whole() {
        let first = History { current: Timeline(1), forks: Vec::new() };
        // Numbers that others claimed in vain leave gaps.
        let later = History { current: Timeline(5), ..history() };
        let mut view = GroupView::default();
        assert!(is_told(&view, &first) && !is_told(&view, &later));
        let line = |end: &str| format!(r#"[[1,12288,"x","t","n1"],[2,{end}]]"#);
        view.take_sample("history", &line(r#"20480,"y","2026-01-01T00:00:00+00:00","n1""#), 1, 0);
        assert!(is_told(&view, &later) && !is_told(&view, &first));
        view.take_sample("history", &line(r#"20000,"y","2026-01-01T00:00:00+00:00","n1""#), 2, 0);
        assert!(!is_told(&view, &later), "another turn");
        view.take_sample("history", &line(r#"20480,"y""#), 3, 0);
        assert!(!is_told(&view, &later), "without time and name");
    }
}
