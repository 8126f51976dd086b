//! The files of a server: the names of synchronous standbys in them.
//!
//! What they are to be, and when they are written, the machine decides
//! (`member::overrides`, `member::chores`).

use super::call::Reply;
use super::postgres::Kind;
use super::{Event, World};
use member::Answer;
use member::ha::Outcome;
use member::overrides::Overrides;
use member::role::Role;
use standby::sync::{ActingNames, AwaitedNames, Names};

/// Between two questions whether a setting is in force.
const ASK_MS: u64 = 10;

impl World {
    /// Names other standbys, and asks the server until they act.
    pub fn name_sync(&mut self, member: usize, names: &Names) -> Option<Answer> {
        if !self.answers(member) {
            return Some(silent());
        }
        self.write_names(member, &names.write());
        let now = self.members[member].clock.read(self.now);
        self.ask_for_names(member, AwaitedNames::new(names.write(), now));
        None
    }

    pub fn ask_for_names(&mut self, member: usize, names: AwaitedNames) {
        let (life, sent) = (self.members[member].daemon.life, self.now);
        let reply = Box::new(Reply::Named(names));
        self.after(ASK_MS, Event::Reply { member, life, sent, reply });
    }

    /// `None`: the server is asked again.
    pub fn named(&mut self, member: usize, names: &AwaitedNames) -> Option<Answer> {
        if !self.answers(member) {
            return Some(silent());
        }
        let true_now = self.now;
        let m = &mut self.members[member];
        let (now, rests) = (m.clock.read(true_now), m.server.checkpointer_rests(true_now));
        let done = names.look(&mut m.daemon.names, &m.server.names, rests, now)?;
        Some(done.map_or_else(|why| Answer::Failed(why.to_string()), |()| Answer::Done))
    }

    /// As the daemon's monitoring question shows them.
    pub fn look_at_names(&mut self, member: usize) {
        let (answers, true_now) = (self.answers(member), self.now);
        let m = &mut self.members[member];
        if m.server.is_down() {
            m.daemon.names = ActingNames::default();
        }
        let (now, rests) = (m.clock.read(true_now), m.server.checkpointer_rests(true_now));
        m.daemon.names_act = answers && m.daemon.names.look(&m.server.names, rests, now);
    }

    pub fn answers(&self, member: usize) -> bool {
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

    /// A running server is told to read its files again when it is to follow another.
    pub fn reload_names(&mut self, member: usize, overrides: &Overrides) {
        self.write_quarantine(member, overrides.is_quarantined);
        let server = &mut self.members[member].server;
        server.feedback = overrides.feedback;
        let names = overrides.names.clone().unwrap_or_default();
        server.names_file = names.clone();
        if server.names != names {
            self.write_names(member, &names);
        }
    }

    /// Changed settings, and those of another role, for a server that runs.
    pub fn apply_settings(&mut self, member: usize, overrides: &Overrides) -> Answer {
        if !self.answers(member) {
            return Answer::Failed("PostgreSQL does not answer".into());
        }
        self.write_quarantine(member, overrides.is_quarantined);
        self.members[member].server.feedback = overrides.feedback;
        let names = overrides.names.clone().unwrap_or_default();
        let reloaded = self.members[member].server.names_file != names;
        if reloaded {
            self.note_of(member, &format!("the files say [{names}]"));
            self.write_names(member, &names);
        }
        Answer::Applied { reloaded }
    }

    /// As what the server runs, where it answers.
    pub fn runs_as(&self, member: usize) -> Option<Role> {
        let is_primary = self.members[member].server.accepts_commits();
        let role = if is_primary { Role::Primary } else { Role::Replica };
        self.answers(member).then_some(role)
    }
}

fn silent() -> Answer {
    Answer::Failed("PostgreSQL does not answer".into())
}
