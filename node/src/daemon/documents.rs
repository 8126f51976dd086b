//! Documents of a group that its leader keeps true: `/initialize`, `/history`.
//!
//! A store may forget everything (an operator's `del --prefix`, a new disk).
//! What it should hold is known here: the system id from the control file, the
//! history from its file with the times and names that were last seen. Every
//! write carries the lock.
//!
//! Absent on purpose: `/config` and `/status`, see `chores.rs`.

use super::Daemon;
use crate::act::txn;
use crate::ha::Observation;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::SystemTime;
use topology::cluster::write_history;
use topology::timeline::Fork;
use topology::{GroupView, History, HistoryEntry};

/// All fields of a line: timeline, position, reason, time, name.
fn is_whole(entry: &HistoryEntry) -> bool {
    entry.at.is_some() && entry.new_leader.is_some()
}

impl Daemon {
    /// `/initialize` names this system, whatever became of it.
    pub(super) async fn keep_initialize(&mut self, seen: &Observation, view: &GroupView) {
        let named = view.initialize.as_ref().is_some_and(|i| i.value.is_some());
        let (Some(system), Some(lease), false) = (seen.system(), self.member.lease.id, named)
        else {
            return;
        };
        let revision = view.initialize.as_ref().map(|i| i.revision);
        let (key, id) = (self.member.keys.initialize(), system.0.clone());
        let txn = txn::as_leader_on(&self.member.keys, lease, key, id, revision);
        self.keep("/initialize", txn).await;
    }

    /// `/history` tells the group's timeline to those who may lead next.
    pub(super) async fn keep_history(&mut self, seen: &Observation, view: &GroupView) {
        let Some(timeline) = seen.server().and_then(|s| s.timeline) else { return };
        let Some(history) = self.server.own_history().filter(|h| h.current == timeline) else {
            return;
        };
        if !seen.is_primary() || is_told(view, &history) {
            return;
        }
        let data_dir = self.settings.postgresql.data_dir.clone();
        let began = crate::postgres::history::local_time(&data_dir, timeline).ok();
        let me = self.settings.name.as_str();
        let max = self.member.dynamic.max_timelines_history;
        let entries = merged(&history, &self.chores.history, me, began, max);
        let Some(lease) = self.member.lease.id else { return };
        let (key, text) = (self.member.keys.history(), write_history(&entries));
        self.keep("/history", txn::as_leader(&self.member.keys, lease, key, text)).await;
    }

    /// The times and names of older timelines are nowhere else, and neither are
    /// the addresses of members whose records have ended.
    pub(super) fn note_history(&mut self, view: &GroupView) {
        if view.leader.is_some() {
            let urls = view.members.iter();
            let urls = urls.filter_map(|(n, m)| Some((n.clone(), m.value.api_url.clone()?)));
            self.member.seen_urls = urls.collect();
        }
        if let Some(history) = view.history.as_ref().filter(|h| !h.value.is_empty())
            && self.chores.history != history.value
        {
            self.chores.history = history.value.clone();
        }
    }
}

/// The key says what it should: its last line is the last turn, whole. A first
/// timeline has no history, and Patroni writes none.
fn is_told(view: &GroupView, history: &History) -> bool {
    let entries = view.history.as_ref().map_or(&[][..], |history| &history.value);
    match (entries.last(), history.forks.last()) {
        (None, fork) => fork.is_none(),
        (Some(_), None) => false,
        (Some(last), Some(fork)) => {
            (last.timeline, last.switch) == (fork.parent, fork.switch) && is_whole(last)
        }
    }
}

/// Older lines keep the time and name they had; the newest gets ours. Only the
/// last `max` are kept, unless that is 0.
fn merged(
    history: &History,
    known: &[HistoryEntry],
    me: &str,
    began: Option<SystemTime>,
    max: usize,
) -> Vec<HistoryEntry> {
    let last = history.forks.len().saturating_sub(1);
    let entry = |(index, fork): (usize, &Fork)| {
        let same = known.iter().find(|e| e.timeline == fork.parent && e.switch == fork.switch);
        if let Some(same) = same.filter(|same| index < last || is_whole(same)) {
            return same.clone();
        }
        let newest = index == last;
        // To the microsecond: readers in Python take no more digits.
        let at = Timestamp::try_from(began.unwrap_or_else(SystemTime::now)).unwrap_or_default();
        let at = at
            .to_zoned_datetime(TimeZone::system())
            .strftime("%Y-%m-%dT%H:%M:%S%.6f%:z")
            .to_string();
        HistoryEntry {
            timeline: fork.parent,
            switch: fork.switch,
            reason: fork.reason.clone(),
            at: newest.then_some(at),
            new_leader: newest.then(|| me.to_string()),
        }
    };
    let skip = if max == 0 { 0 } else { history.forks.len().saturating_sub(max) };
    history.forks.iter().enumerate().skip(skip).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
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
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let entries = merged(&history(), &[old()], "me", Some(began), 0);
        assert_eq!(entries[0], old());
        assert_eq!(entries[1].new_leader.as_deref(), Some("me"));
        let at: Timestamp = entries[1].at.as_ref().unwrap().parse().unwrap();
        assert_eq!(at.as_second(), 1_000_000_000);
        // A line of the same timeline with another end was of another history.
        let other = HistoryEntry { switch: Lsn(0x2000), ..old() };
        assert_eq!(merged(&history(), &[other], "me", None, 0)[0].new_leader, None);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let entries = merged(&history(), &[old()], "me", None, 1);
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
        view.take("history", &line(r#"20480,"y","2026-01-01T00:00:00+00:00","n1""#), 1, 0);
        assert!(is_told(&view, &later) && !is_told(&view, &first));
        view.take("history", &line(r#"20000,"y","2026-01-01T00:00:00+00:00","n1""#), 2, 0);
        assert!(!is_told(&view, &later), "another turn");
        view.take("history", &line(r#"20480,"y""#), 3, 0);
        assert!(!is_told(&view, &later), "without time and name");
    }
}
