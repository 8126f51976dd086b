//! When the files of a running server are written anew, and when it has to read them.
//!
//! Invariant: a server that this process has neither started nor told to read its files
//! reads them once, whatever they say; after that only if a value in them is another.

use super::chore_sight::Sights;
use super::effect::{Answer, Call, Reload};
use super::overrides::Overrides;
use super::{Level, Member};
use crate::ha::facts::Facts;
use crate::ha::observation::Job;
use crate::role::Role;
use serde_json::Value;

/// What this process knows of the server's files.
#[derive(Debug, Default)]
pub(super) struct ServerFiles {
    /// What they were made from.
    applied: Option<Source>,
    /// What the call under way makes them from.
    applying: Option<Source>,
    /// The running server was started by this process, or told to read its files since.
    in_force: bool,
}

/// What decides about the files of a running server.
#[derive(Clone, Debug, PartialEq)]
struct Source {
    dynamic: Value,
    overrides: Overrides,
    role: Role,
}

impl ServerFiles {
    /// They are looked at again.
    pub(crate) fn forget(&mut self) {
        self.applied = None;
    }

    /// An operator asked for it: they are written and read anew.
    pub(crate) fn read_again(&mut self) {
        (self.applied, self.in_force) = (None, false);
    }

    /// The server's files were written by the job from what held then.
    pub(crate) fn job_ended(&mut self, job: &Job) {
        use Job::{Bootstrap, Restart, StartPrimary, StartStandby};
        if matches!(job, StartPrimary | StartStandby { .. } | Restart { .. } | Bootstrap) {
            (self.applied, self.in_force) = (None, true);
        }
    }
}

impl Member {
    /// A standby that is about to follow another server gets all of it with that step:
    /// for the upstream that it still shows, a standby leader would not be one.
    pub(super) fn files_due(&mut self, sights: &Sights) -> Option<Call> {
        let seen = sights.seen;
        if seen.is_standby() && Facts::of(seen).must_follow_another() {
            return None;
        }
        let role = sights.own.runs_as.filter(|_| sights.is_at_rest())?;
        let (dynamic, overrides) = (self.dynamic.raw.clone(), self.overrides(sights.seen));
        let wanted = Source { dynamic, overrides, role };
        let files = &mut self.chores.files;
        if files.applied.as_ref() == Some(&wanted) {
            return None;
        }
        let reload = if files.in_force { Reload::IfChanged } else { Reload::Always };
        let overrides = wanted.overrides.clone();
        files.applying = Some(wanted);
        Some(Call::ApplySettings { overrides, reload })
    }

    pub(super) fn files_applied(&mut self, answer: Answer) {
        let wanted = self.chores.files.applying.take();
        self.chores.files.in_force = matches!(answer, Answer::Applied { .. });
        let why = match answer {
            Answer::Applied { reloaded } => {
                if reloaded {
                    self.call_after_reload();
                }
                return self.chores.files.applied = wanted;
            }
            Answer::Failed(why) => why,
            _ => "no answer before the next renewal was due; it is tried again after the next beat"
                .to_string(),
        };
        self.note(Level::Error, format!("the changed settings could not be applied: {why}"));
    }

    /// The local configuration was read again.
    pub fn settings_read(&mut self) {
        self.chores.files.read_again();
    }
}
