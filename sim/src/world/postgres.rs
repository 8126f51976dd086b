//! One PostgreSQL server as a value: its log, its process, its control file.
//!
//! A log is a list of records with positions, timelines and identities. The
//! identities are what only the checker may look at: they tell whether two
//! logs truly agree where their timelines and positions only say so.

use super::logical::Incoming;
use super::slots::Wal;
use super::synchrony::Sender;
use member::ha::observation::{End, Following, Shut, ShutdownState};
use member::overrides::Overrides;
use serde_json::Value;
use topology::timeline::Fork;
use topology::{History, Lsn, SystemId, Timeline};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Begin,
    Commit,
    /// The shutdown checkpoint.
    Shutdown,
    /// The first record of a new timeline.
    Promoted,
    Citus(Mark),
    /// Dead rows of catalogues are removed: who reads an older log finds none.
    Vacuum(u64),
}

/// What the tables of Citus hold from a record on; transactions by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Another content of `pg_dist_node`.
    Nodes,
    Prepared(u32),
    Committed(u32),
    RolledBack(u32),
    /// The group that began it commits it.
    Decided(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: u64,
    pub timeline: u32,
    pub start: u64,
    pub end: u64,
    pub kind: Kind,
}

/// The write-ahead log of one server, oldest record first; never empty.
#[derive(Clone, Debug, Default)]
pub struct Log {
    records: Vec<Record>,
    /// Where a timeline was left for the next one.
    turns: Vec<(u32, u64)>,
    /// The records that Citus wrote.
    marks: Vec<(u64, Mark)>,
    /// Catalogues as they were before this position are gone.
    horizon: u64,
}

impl Log {
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What Citus wrote, with the records' identities.
    pub fn marks(&self) -> &[(u64, Mark)] {
        &self.marks
    }

    pub fn push(&mut self, record: Record) {
        if let Kind::Citus(mark) = record.kind {
            self.marks.push((record.id, mark));
        }
        if let Kind::Vacuum(to) = record.kind {
            self.horizon = self.horizon.max(to);
        }
        if let Some(last) = self.records.last().filter(|l| l.timeline != record.timeline) {
            self.turns.push((last.timeline, record.start));
        }
        self.records.push(record);
    }

    pub fn horizon(&self) -> u64 {
        self.horizon
    }

    pub fn end(&self) -> u64 {
        self.records.last().map_or(0, |r| r.end)
    }

    pub fn timeline(&self) -> u32 {
        self.records.last().map_or(1, |r| r.timeline)
    }

    /// The truth: is this log the beginning of `other`?
    pub fn is_prefix_of(&self, other: &Log) -> bool {
        match (self.records.last(), self.records.len()) {
            (None, _) => true,
            (Some(last), len) => other.records.get(len - 1).is_some_and(|r| r.id == last.id),
        }
    }

    pub fn contains(&self, id: u64) -> bool {
        // Identities rise within one log.
        self.records.binary_search_by_key(&id, |r| r.id).is_ok()
    }

    /// What the history files of this server say.
    pub fn history(&self) -> History {
        let fork = |(parent, switch): &(u32, u64)| Fork {
            parent: Timeline(*parent),
            switch: Lsn(*switch),
            reason: "no recovery target specified".into(),
        };
        History { current: Timeline(self.timeline()), forks: self.turns.iter().map(fork).collect() }
    }

    /// What PostgreSQL checks before it streams to a standby that ends here.
    pub fn may_continue_with(&self, upstream: &Log) -> bool {
        let left = |turn: &&(u32, u64)| turn.0 == self.timeline();
        let limit = match upstream.turns.iter().find(left) {
            Some((_, switch)) => *switch,
            None if self.timeline() == upstream.timeline() => upstream.end(),
            None => return false,
        };
        self.end() <= limit
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Standby,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Down,
    Starting(Role),
    Up(Role),
    /// No more commits; clients are gone. `hard`: without a checkpoint.
    Stopping {
        role: Role,
        hard: bool,
    },
}

/// A commit that is in the log and not acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: u64,
    pub end: u64,
}

/// A server and its data directory.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// `None`: the data directory is empty.
    pub system: Option<SystemId>,
    pub log: Log,
    pub process: Process,
    /// When the process got into its state, on the true clock.
    pub since: u64,
    /// What the control file says while the process is down.
    pub end: End,
    /// It went down without a stop in order.
    pub abrupt: bool,
    /// A rewind was begun and has not come to its end.
    pub half: bool,
    /// When the checkpoint after its promotion is done, on the true clock.
    pub checkpoint_at: u64,
    pub follows: Option<Following>,
    /// The member this standby streams from at this moment.
    pub streams_from: Option<usize>,
    /// The highest timeline whose history file it has seen.
    pub newest_timeline: u32,
    /// Numbers up to this one are kept from being taken.
    pub reserved: u32,
    /// Changes whenever a planned change of the process must not happen any more.
    pub plan: u64,
    /// Answers no new connection; its clients go on.
    pub mute: bool,
    /// `synchronous_standby_names` as its files say; a copy takes them along.
    pub names_file: String,
    /// The same as it is in force for a session that asks.
    pub names: String,
    /// And for those who acknowledge: each of them reads its settings by itself.
    pub acting: String,
    /// The checkpointer writes until then, on the true clock, and reads no file meanwhile.
    pub checkpoints_until: u64,
    /// Who streams from this primary, and how far each has come.
    pub senders: Vec<Sender>,
    /// It stops, and its receivers were ended.
    pub has_ended_receivers: bool,
    /// Commits that wait for standbys.
    pub waiting: Vec<Waiting>,
    /// Slots, and the WAL that is still there.
    pub wal: Wal,
    /// `hot_standby_feedback`.
    pub feedback: bool,
    /// Copies of logical slots that the next start as a standby brings.
    pub incoming: Vec<Incoming>,
    /// Citus is in quarantine: as the files say it, and as it is in force.
    pub quarantine_file: bool,
    pub is_quarantined: bool,
    /// The copy of `/config` that its daemon has put into the data directory.
    pub kept_configuration: Option<Value>,
}

impl Postgres {
    pub fn empty() -> Postgres {
        Postgres {
            system: None,
            log: Log::default(),
            process: Process::Down,
            since: 0,
            end: End::Standby,
            abrupt: false,
            half: false,
            checkpoint_at: 0,
            follows: None,
            streams_from: None,
            newest_timeline: 1,
            reserved: 0,
            plan: 0,
            mute: false,
            names_file: String::new(),
            names: String::new(),
            acting: String::new(),
            checkpoints_until: 0,
            senders: Vec::new(),
            has_ended_receivers: false,
            waiting: Vec::new(),
            wal: Wal::default(),
            feedback: false,
            incoming: Vec::new(),
            quarantine_file: false,
            is_quarantined: false,
            kept_configuration: None,
        }
    }

    pub fn accepts_commits(&self) -> bool {
        self.process == Process::Up(Role::Primary)
    }

    pub fn is_down(&self) -> bool {
        self.process == Process::Down
    }

    pub fn is_standby(&self) -> bool {
        self.process == Process::Up(Role::Standby)
    }

    /// Serves its log to standbys; a stopping server does so to the last record.
    pub fn serves(&self) -> bool {
        let runs = matches!(self.process, Process::Up(_) | Process::Stopping { hard: false, .. });
        runs && !self.has_ended_receivers
    }

    /// They are read at the next start.
    pub fn write_files(&mut self, overrides: &Overrides) {
        self.names_file = overrides.names.clone().unwrap_or_default();
        self.quarantine_file = overrides.is_quarantined;
        self.feedback = overrides.feedback;
    }

    /// It waits for work, with its files read.
    pub fn checkpointer_rests(&self, now: u64) -> bool {
        now >= self.checkpoints_until
    }

    pub fn append(&mut self, id: u64, size: u64, kind: Kind) {
        let start = self.log.end();
        let timeline = match kind {
            Kind::Promoted => self.newest_timeline.max(self.log.timeline()).max(self.reserved) + 1,
            _ => self.log.timeline(),
        };
        self.newest_timeline = self.newest_timeline.max(timeline);
        self.log.push(Record { id, timeline, start, end: start + size, kind });
    }

    pub fn enter(&mut self, process: Process, now: u64) {
        self.process = process;
        self.since = now;
        self.plan += 1;
        self.has_ended_receivers = false;
        if !matches!(process, Process::Up(Role::Standby)) {
            self.streams_from = None;
        }
        if process != Process::Up(Role::Primary) {
            // Clients that wait get no answer any more.
            self.waiting.clear();
            self.senders.clear();
        }
    }

    pub fn go_down(&mut self, end: End, now: u64) {
        self.end = end;
        self.abrupt = !matches!(self.process, Process::Stopping { hard: false, .. });
        self.enter(Process::Down, now);
    }

    /// How a server ends that dies without a checkpoint.
    pub fn hard_end(&self) -> End {
        match self.process {
            Process::Stopping { role: Role::Primary, .. } if self.is_closed() => End::Clean,
            Process::Up(Role::Primary) | Process::Stopping { role: Role::Primary, .. } => {
                End::Crashed
            }
            Process::Starting(Role::Primary) | Process::Down => self.end,
            _ => End::Standby,
        }
    }

    /// The shutdown checkpoint is written, whatever still runs.
    fn is_closed(&self) -> bool {
        self.log.records.last().is_some_and(|last| last.kind == Kind::Shutdown)
    }

    /// What a primary that stops has closed with.
    pub fn closed(&self) -> Option<ShutdownState> {
        let stops = Process::Stopping { role: Role::Primary, hard: false };
        let last = self.log.records.last().filter(|_| self.process == stops && self.is_closed())?;
        let timeline = Timeline(self.log.timeline());
        Some(ShutdownState {
            end: End::Clean,
            timeline,
            lsn: Lsn(last.start),
            copied: false,
            shut: member::ha::observation::Shut::Orderly,
        })
    }

    pub fn shutdown_state(&self) -> ShutdownState {
        let last = self.log.records.last();
        let lsn = match (self.end, last) {
            (End::Clean, Some(last)) if last.kind == Kind::Shutdown => last.start,
            _ => self.log.end(),
        };
        let shut = match self.end {
            End::Crashed => Shut::Abrupt,
            End::Standby if self.abrupt => Shut::Abrupt,
            End::Clean | End::Standby | End::Half => Shut::Orderly,
        };
        let (end, timeline) = (if self.half { End::Half } else { self.end }, self.log.timeline());
        ShutdownState { end, timeline: Timeline(timeline), lsn: Lsn(lsn), copied: false, shut }
    }

    /// Replaces everything by a copy of another server, as a base backup does.
    pub fn copy_of(&mut self, source: &Postgres) {
        self.system = source.system.clone();
        self.log = source.log.clone();
        self.newest_timeline = source.newest_timeline;
        self.names_file = source.names_file.clone();
        self.quarantine_file = source.quarantine_file;
        self.kept_configuration = source.kept_configuration.clone();
        self.wal = Wal::copied(source.log.end());
        self.end = End::Standby;
        (self.abrupt, self.half) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(ids: &[u64]) -> Postgres {
        let mut server = Postgres::empty();
        for id in ids {
            server.append(*id, 100, Kind::Commit);
        }
        server
    }

    #[test]
    fn numbers_may_agree_where_logs_do_not() {
        let (mut one, mut two) = (server(&[1, 2]), server(&[1, 2]));
        one.append(3, 50, Kind::Promoted);
        two.append(4, 50, Kind::Promoted);
        two.append(5, 50, Kind::Commit);
        assert!(one.log.may_continue_with(&two.log));
        assert!(!one.log.is_prefix_of(&two.log));
    }

    #[test]
    fn no_standby_streams_past_a_fork() {
        let (old, mut new) = (server(&[1, 2, 3]), server(&[1, 2]));
        new.append(4, 500, Kind::Promoted);
        assert!(!old.log.may_continue_with(&new.log));
        assert!(server(&[1, 2]).log.may_continue_with(&new.log));
        assert_eq!(new.log.history().left_at(Timeline(1)), Some(Lsn(200)));
    }
}
