//! The situation as the rules need it.

use super::candidates::{self, Candidate};
use super::record::Record;
use super::set::NameSet;
use super::situation::Situation;
use super::{CONFIRM_MS, Names, Policy, Step};
use topology::{GroupView, MemberName, SyncState};

/// What a rule is asked about.
pub(super) struct Facts<'a> {
    pub me: &'a MemberName,
    view: &'a GroupView,
    pub policy: &'a Policy,
    /// Best first: standbys that can be waited for.
    pub candidates: Vec<Candidate<'a>>,
    /// `/sync` is of my own time as leader.
    pub is_mine: bool,
    /// Who may lead beside me, as `/sync` has it.
    pub record: Record,
    /// The names in force.
    pub names: Names,
    /// Named standbys that have every commit acknowledged before they were named.
    pub ready: NameSet,
    /// Since the names last changed.
    pub elapsed_ms: u64,
}

impl Situation<'_> {
    pub(super) fn facts(&self) -> Facts<'_> {
        let sync = self.view.sync.as_ref().map(|sync| &sync.value);
        let same = |name: &MemberName| name.as_str().eq_ignore_ascii_case(self.me.as_str());
        let is_mine = sync.and_then(|sync| sync.leader.as_ref()).is_some_and(same);
        let record = sync.map(|sync| Record::read(sync, self.me)).unwrap_or_default();
        let (ready, since) = self.confirmed.about(self.seen, self.me);
        Facts {
            me: self.me,
            view: self.view,
            policy: self.policy,
            candidates: candidates::candidates(self),
            is_mine,
            record,
            names: Names::parse(&self.seen.names),
            ready,
            elapsed_ms: since.map_or(0, |since| self.now.since(since)),
        }
    }
}

impl Facts<'_> {
    /// `/sync` that names only this leader, which has everything.
    pub(super) fn alone(&self) -> Step {
        Step::Record(SyncState::alone(self.me.clone()))
    }

    /// A change of `/sync`, where it loses nothing.
    pub(super) fn write(&self, record: &Record) -> Option<Step> {
        if !self.may_write(record) {
            return None;
        }
        Some(Step::Record(SyncState {
            leader: Some(self.me.clone()),
            standbys: record.standbys.spelled_as(self.view.members.keys()).sorted(),
            quorum: record.quorum,
        }))
    }

    /// A change of the names, where it loses nothing and is one.
    pub(super) fn name(&self, names: Names) -> Option<Step> {
        if self.names.is_same(&names) || !self.may_name(&names) {
            return None;
        }
        let names_set = names.set().spelled_as(self.view.members.keys());
        Some(Step::Names(Names { names: names_set.sorted(), ..names }))
    }

    /// Standbys may be about to confirm; `at_most` before the next look.
    pub(super) fn wait(&self, at_most: u64) -> Option<Step> {
        let left = CONFIRM_MS.saturating_sub(self.elapsed_ms);
        (left > 0).then(|| Step::Wait { ms: left.min(at_most) })
    }
}
