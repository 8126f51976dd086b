//! The daemon's side of synchronous replication: the names it gives to its server,
//! and when.
//!
//! It mirrors `node::daemon::synchrony` and the chores around it; what the names are
//! to be is the daemon's own (`Facts::sync_names`).

use super::call::Reply;
use super::postgres::Kind;
use super::{Event, World};
use node::ha::facts::Facts;
use node::ha::observation::Job;
use node::ha::{Observation, Outcome};
use node::member::Answer;
use standby::sync::Names;

/// How long the daemon gives walsenders to read their settings.
const WALSENDERS_MS: u64 = 100;
/// Between two questions whether a setting is in force.
const ASK_MS: u64 = 10;

impl World {
    /// Names other standbys, and waits until the server says that it does.
    pub fn name_sync(&mut self, member: usize, names: &Names) -> Option<Answer> {
        self.members[member].daemon.applied_names = None;
        if !self.answers(member) {
            return Some(Answer::Failed("PostgreSQL does not answer".into()));
        }
        let reload = self.write_names(member, &names.write());
        let senders = if self.members[member].server.accepts_commits() { WALSENDERS_MS } else { 0 };
        let (life, sent) = (self.members[member].daemon.life, self.now);
        let reply = Box::new(Reply::Named(names.clone()));
        self.after(reload + ASK_MS + senders, Event::Reply { member, life, sent, reply });
        None
    }

    pub fn named(&mut self, member: usize, names: &Names) -> Answer {
        match self.answers(member) && self.members[member].server.names == names.write() {
            true => Answer::Done,
            false => Answer::Failed("the names are not in force".into()),
        }
    }

    fn answers(&self, member: usize) -> bool {
        let server = &self.members[member].server;
        (server.accepts_commits() || server.is_standby()) && !server.mute
    }

    /// Something small in the log, for standbys to confirm.
    pub fn write_wal(&mut self, member: usize) -> Outcome {
        if !self.answers(member) || self.disk_fails(member) {
            return Outcome::Failed("PostgreSQL does not answer".into());
        }
        let id = self.record_id();
        self.members[member].server.append(id, 40, Kind::Commit);
        Outcome::Done
    }

    /// Files are written before a server starts.
    pub fn apply_names_for(&mut self, member: usize, seen: &Observation, job: &Job) {
        match job {
            Job::StartPrimary | Job::Restart { as_primary: true } => {
                self.apply_names(member, seen, true);
            }
            Job::StartStandby { .. } | Job::Restart { .. } => self.apply_names(member, seen, false),
            _ => {}
        }
    }

    pub fn apply_names(&mut self, member: usize, seen: &Observation, opens: bool) {
        let names = Facts::of(seen).sync_names(opens).unwrap_or_default();
        self.members[member].server.names_file = names;
    }

    /// A running server is told to read its files again when it is to follow another.
    pub fn reload_names(&mut self, member: usize, seen: &Observation) {
        self.apply_names(member, seen, false);
        let server = &self.members[member].server;
        if server.names != server.names_file {
            let names = server.names_file.clone();
            self.write_names(member, &names);
        }
    }

    /// Changed settings, and those of another role, for a server that runs.
    pub fn keep_names(&mut self, member: usize, seen: &Observation) {
        let at_rest = seen.server().is_some() && self.members[member].daemon.job.is_none();
        if seen.view().is_none() || !at_rest || !self.answers(member) {
            return;
        }
        let names = Facts::of(seen).sync_names(false).unwrap_or_default();
        let primary = self.members[member].server.accepts_commits();
        let applied = Some((names.clone(), primary));
        if std::mem::replace(&mut self.members[member].daemon.applied_names, applied.clone())
            == applied
        {
            return;
        }
        if self.members[member].server.names_file != names {
            self.note_of(member, &format!("the files say [{names}]"));
            self.write_names(member, &names);
        }
    }
}
