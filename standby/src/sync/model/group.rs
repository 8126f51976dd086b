//! A group in the model: what is true, beside what its leader sees.

use super::{Flaw, rank};
use crate::made_up::TakeSample;
use crate::sync::{
    Confirmations, Names, Policy, Replication, Sender, Situation, Step, before_opening, next,
};
use std::fmt;
use std::sync::Mutex;
use topology::{GroupView, Lsn, MemberName, Millis, SyncState, Version, Versioned};

pub(super) const LETTERS: [&str; 4] = ["a", "b", "c", "d"];

/// `/sync`, as bits of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub leader: usize,
    pub standbys: u8,
    pub quorum: u64,
}

/// What stays the same.
pub(super) struct Setting {
    pub policies: Vec<Policy>,
    /// The guard that is taken out.
    pub flaw: Option<Flaw>,
    /// All run; only `/sync` is exchanged.
    view: Mutex<GroupView>,
}

impl Setting {
    pub(super) fn new(members: usize, policies: &[Policy], flaw: Option<Flaw>) -> Setting {
        let mut view = GroupView::default();
        for letter in LETTERS.iter().take(members) {
            view.take_sample(&format!("members/{letter}"), r#"{"state":"running"}"#, 1, 1);
        }
        Setting { policies: policies.to_vec(), flaw, view: Mutex::new(view) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Group {
    pub members: usize,
    pub policy: usize,
    pub leader: usize,
    /// Chosen, but does not acknowledge anything yet.
    pub opening: bool,
    /// The end of each member's log.
    pub log: [u8; 4],
    /// Who streams from the leader.
    pub streams: u8,
    pub acknowledged: u8,
    pub record: Option<Record>,
    pub names: Names,
    pub memory: Confirmations,
}

/// Later than any wait.
const NOW: Millis = Millis(1_000_000);

impl Group {
    pub(super) fn new(members: usize) -> Group {
        Group {
            members,
            policy: 0,
            leader: 0,
            opening: false,
            log: [1; 4],
            streams: 0,
            acknowledged: 1,
            record: None,
            names: Names::none(),
            memory: Confirmations::default(),
        }
    }

    pub(super) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let leader = self.leader;
        (0..self.members).filter(move |at| *at != leader)
    }

    pub(super) fn is_streaming(&self, at: usize) -> bool {
        self.streams & (1 << at) != 0
    }

    pub(super) fn sync(&self) -> Option<SyncState> {
        let record = self.record?;
        let is_in = |at: &usize| record.standbys & (1 << at) != 0;
        Some(SyncState {
            leader: Some(LETTERS[record.leader].into()),
            standbys: (0..self.members).filter(is_in).map(|at| LETTERS[at].into()).collect(),
            quorum: record.quorum,
        })
    }

    /// What its leader would see now.
    pub(super) fn seen(&self) -> Replication {
        let mut counted = 0;
        let mut senders = Vec::new();
        for at in self.others().filter(|at| self.is_streaming(*at)) {
            let name = MemberName::from(LETTERS[at]);
            let is_named = self.names.names.contains(&name);
            counted += u64::from(is_named);
            let sync = rank(self.names.method, is_named, counted <= self.names.count);
            let log = Some(Lsn(self.log[at].into()));
            let (write, flush, replay) = (log, log, log);
            senders.push(Sender { name, streaming: true, sync, write, flush, replay });
        }
        Replication {
            is_acting: true,
            lsn: Lsn(self.log[self.leader].into()),
            names: self.names.write(),
            commit: "on".into(),
            senders,
        }
    }

    /// What the leader does next, and the group after it.
    pub(super) fn step(&self, setting: &Setting) -> (Option<Step>, Group) {
        let policy = &setting.policies[self.policy];
        let mut after = self.clone();
        let (me, sync) = (MemberName::from(LETTERS[self.leader]), self.sync());
        if self.opening {
            let step = before_opening(&me, sync.as_ref(), &self.names, policy);
            let step = step.filter(|_| setting.flaw != Some(Flaw::OpensUnprepared));
            match &step {
                Some(step) => after.take(step),
                None => after.open(),
            }
            return (step, after);
        }
        if setting.flaw == Some(Flaw::DropsNamesFirst) && after.drops_names() {
            return (None, after);
        }
        let seen = self.seen();
        let mut view = setting.view.lock().expect("no run has failed");
        let no_state = SyncState::default();
        after.memory.look(&seen, sync.as_ref().unwrap_or(&no_state), policy, Millis(0));
        if setting.flaw == Some(Flaw::TrustsWithoutProof) {
            // Every position lies past this change point.
            after.memory.point_mut().into_iter().for_each(|point| *point = Lsn(0));
            after.memory.look(&seen, sync.as_ref().unwrap_or(&no_state), policy, Millis(0));
        }
        view.sync =
            sync.map(|value| Versioned { value, version: Version::of_store(1), session: None });
        let situation = Situation {
            me: &me,
            now: NOW,
            view: &view,
            seen: &seen,
            confirmed: &after.memory,
            policy,
        };
        let step = next(&situation);
        after.memory.nudged();
        if let Some(step) = &step {
            after.take(step);
        }
        (step, after)
    }

    /// Whether the leader forgot names of standbys that do not stream, whatever `/sync` says.
    fn drops_names(&mut self) -> bool {
        let Some(at) = self.others().find(|at| !self.is_streaming(*at) && self.is_named(*at))
        else {
            return false;
        };
        self.names.names.retain(|name| name.as_str() != LETTERS[at]);
        self.names.count = self.names.count.min(self.names.names.len() as u64);
        self.settle();
        true
    }

    fn is_named(&self, at: usize) -> bool {
        self.names.names.iter().any(|name| name.as_str() == LETTERS[at])
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Record(sync) => {
                let bit = |name: &MemberName| LETTERS.iter().position(|l| *l == name.as_str());
                let leader = sync.leader.as_ref().and_then(bit).expect("a leader");
                let standbys =
                    sync.standbys.iter().filter_map(bit).fold(0, |set, at| set | 1 << at);
                self.record = Some(Record { leader, standbys, quorum: sync.quorum });
            }
            // As the server reads what was written.
            Step::Names(names) => self.names = Names::parse(&names.write()),
            Step::Wait { .. } => {}
        }
        self.settle();
    }

    /// It serves from here on, and the others cut their logs to its own.
    fn open(&mut self) {
        self.opening = false;
        for at in 0..self.members {
            self.log[at] = self.log[at].min(self.log[self.leader]);
        }
        self.memory = Confirmations::default();
        self.streams = 0;
        self.settle();
    }

    /// Acknowledges what may be, and keeps positions small.
    pub(super) fn settle(&mut self) {
        if !self.opening {
            self.acknowledge();
        }
        let mut point = self.memory.point_mut().map(|point| point.0 as u8);
        let mut all: Vec<u8> = self.log[..self.members].to_vec();
        all.extend(point.iter().chain([&self.acknowledged]));
        all.sort_unstable();
        all.dedup();
        let small = |at: u8| all.iter().position(|other| *other == at).map_or(0, |at| at as u8 + 1);
        for at in 0..self.members {
            self.log[at] = small(self.log[at]);
        }
        self.acknowledged = small(self.acknowledged);
        if let (Some(place), Some(point)) = (self.memory.point_mut(), point.as_mut()) {
            *place = Lsn(small(*point).into());
        }
    }

    /// Whatever enough of the named ones have that stream.
    fn acknowledge(&mut self) {
        let mut at: Vec<u8> = self
            .others()
            .filter(|at| self.is_streaming(*at))
            .filter(|at| self.is_named(*at))
            .map(|at| self.log[at])
            .collect();
        at.sort_unstable_by(|a, b| b.cmp(a));
        let own = self.log[self.leader];
        let reached = match usize::try_from(self.names.count).unwrap_or(usize::MAX) {
            0 => own,
            count => at.get(count - 1).copied().unwrap_or(0).min(own),
        };
        self.acknowledged = self.acknowledged.max(reached);
    }

    /// Whether `/sync` allows this member to lead, by the votes that it asks for.
    pub(super) fn may_lead(&self, at: usize, setting: &Setting) -> bool {
        let Some(record) = self.record else { return false };
        let voters = record.standbys | 1 << record.leader;
        let is_voter = voters & (1 << at) != 0;
        let votes = (0..self.members)
            .filter(|v| *v != at && voters & (1 << v) != 0 && self.log[*v] <= self.log[at])
            .count() as u64;
        let is_quorum = setting.policies[self.policy].mode == topology::SyncMode::Quorum;
        match (is_quorum || record.quorum > 0) && setting.flaw != Some(Flaw::LeadsWithoutVotes) {
            true => at == record.leader || votes >= record.quorum + u64::from(!is_voter),
            false => is_voter,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Group { leader, opening, log, streams, acknowledged, record, policy, .. } = self;
        let (leader, names) = (LETTERS[*leader], self.names.write());
        write!(
            f,
            "leader {leader} opening {opening} log {log:?} streams {streams:04b} \
             ack {acknowledged} sync {record:?} names `{names}` policy {policy}\n    {:?}",
            self.memory
        )
    }
}
