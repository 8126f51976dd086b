//! Callbacks: the operator's commands for events of PostgreSQL.
//!
//! They are called with `<action> <role> <scope>` after their own arguments, and the
//! daemon does not wait for them. Never two at once: a newer event ends the command
//! of an older one; `on_reload` has a `Line` of its own.
//!
//! What is reported is what was seen: the role of a server that runs at rest, not
//! the role that it was intended to have. A change of the role replaces the event
//! that came with it.

mod line;

use super::Daemon;
use line::{Call, Line};
use member::ha::Observation;
use member::ha::observation::{Bootstrapping, Job};
use member::role_of;
use std::collections::BTreeMap;
use std::time::Duration;
use topology::MemberRole;

/// At the end of the daemon the last command gets this long to begin.
const BEGIN_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Start,
    Stop,
    Restart,
    Reload,
    RoleChange,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Event::Start => "on_start",
            Event::Stop => "on_stop",
            Event::Restart => "on_restart",
            Event::Reload => "on_reload",
            Event::RoleChange => "on_role_change",
        }
    }
}

/// What has been told so far, and what still must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Story {
    /// The role that was told last; none before the first event.
    told: Option<MemberRole>,
    due: Option<Event>,
}

impl Story {
    /// The server was started, restarted or reloaded: told when it is at rest.
    pub(super) fn expect(&mut self, event: Event) {
        if event != Event::Reload || self.due.is_none() {
            self.due = Some(event);
        }
    }

    /// The server runs, nothing is being done to it.
    pub(super) fn at_rest(&mut self, role: MemberRole) -> Option<(Event, MemberRole)> {
        let due = self.due.take();
        match self.told.replace(role) {
            None => Some((Event::Start, role)),
            Some(before) if before != role => Some((Event::RoleChange, role)),
            Some(_) => due.map(|event| (event, role)),
        }
    }

    /// A promotion was accepted: also of a former primary that was a standby for
    /// too short a time to be told as one.
    pub(super) fn promoted(&mut self) -> (Event, MemberRole) {
        self.due = None;
        self.told = Some(MemberRole::Primary);
        (Event::RoleChange, MemberRole::Primary)
    }

    /// A leader could not be kept running.
    pub(super) fn becomes(&mut self, role: MemberRole) -> Option<(Event, MemberRole)> {
        let changed = self.told.replace(role) != Some(role);
        changed.then_some((Event::RoleChange, role))
    }

    pub(super) fn stopped(&mut self) -> Option<(Event, MemberRole)> {
        self.due = None;
        self.told.map(|role| (Event::Stop, role))
    }

    pub(super) fn leads(&self) -> bool {
        matches!(self.told, Some(MemberRole::Primary | MemberRole::StandbyLeader))
    }
}

pub(super) struct Callbacks {
    pub story: Story,
    main: Line,
    reload: Line,
}

impl Callbacks {
    pub(super) fn new() -> Callbacks {
        Callbacks { story: Story::default(), main: Line::spawn(), reload: Line::spawn() }
    }

    /// Calls what is configured for the event.
    pub(super) fn tell(
        &self,
        commands: &BTreeMap<String, String>,
        scope: &str,
        event: Option<(Event, MemberRole)>,
    ) {
        let Some((event, role)) = event else { return };
        let Some(command) = commands.get(event.name()).filter(|c| !c.trim().is_empty()) else {
            return;
        };
        let words = [event.name(), spoken(role), scope].map(str::to_string).to_vec();
        tracing::info!("{} as {}: `{command}`", event.name(), spoken(role));
        let line = if event == Event::Reload { &self.reload } else { &self.main };
        line.call(Call { command: command.clone(), words });
    }

    /// What was called last has begun; it goes on without the daemon.
    pub(super) async fn farewell(&mut self) {
        let both = async { tokio::join!(self.main.has_begun(), self.reload.has_begun()) };
        let _ = tokio::time::timeout(BEGIN_MAX, both).await;
    }
}

impl Daemon {
    fn tell(&self, event: Option<(Event, MemberRole)>) {
        let commands = &self.settings.postgresql.callbacks;
        self.callbacks.tell(commands, &self.settings.scope, event);
    }

    /// What a job has done to the server, told now or when it is at rest.
    pub(super) fn expect_callback(&mut self, job: &Job) {
        let story = &mut self.callbacks.story;
        match job {
            Job::Stop { .. } => {
                let stopped = story.stopped();
                self.tell(stopped);
            }
            Job::StartPrimary | Job::StartStandby { .. } => story.expect(Event::Start),
            Job::Restart { .. } => story.expect(Event::Restart),
            Job::Bootstrap
            | Job::Clone { .. }
            | Job::Restore
            | Job::PrePromote
            | Job::Recover
            | Job::RecoverStandby { .. }
            | Job::Rewind { .. }
            | Job::Rebuild { .. } => {}
        }
    }

    pub(super) fn expect_reload_callback(&mut self) {
        self.callbacks.story.expect(Event::Reload);
    }

    /// The server runs and nothing is being done to it.
    pub(super) fn call_back(&mut self, seen: &Observation) {
        let unborn = self.member.memory.bootstrap != Bootstrapping::No;
        if unborn || self.member.memory.promoting.is_some() || role_of(seen).is_none() {
            return;
        }
        let role = self.member.role(seen);
        let event = self.callbacks.story.at_rest(role);
        self.tell(event);
    }

    pub(super) fn call_promoted(&mut self) {
        let event = self.callbacks.story.promoted();
        self.tell(Some(event));
    }

    /// The lock goes because PostgreSQL could not be kept running here.
    pub(super) fn call_demoted(&mut self) {
        if self.callbacks.story.leads() {
            let event = self.callbacks.story.becomes(MemberRole::Demoted);
            self.tell(event);
        }
    }
}

fn spoken(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Promoted => MemberRole::Primary.text(),
        role => role.text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemberRole::{Demoted, Primary, Replica, StandbyLeader};
    use std::path::Path;

    #[test]
    fn the_first_thing_told_is_a_start_and_a_new_role_replaces_what_came_with_it() {
        let mut story = Story::default();
        assert_eq!(story.stopped(), None);
        assert_eq!(story.at_rest(Replica), Some((Event::Start, Replica)));
        assert_eq!(story.at_rest(Replica), None);
        story.expect(Event::Restart);
        story.expect(Event::Reload);
        assert_eq!(story.at_rest(Replica), Some((Event::Restart, Replica)));
        story.expect(Event::Reload);
        assert_eq!(story.at_rest(StandbyLeader), Some((Event::RoleChange, StandbyLeader)));
        assert_eq!(story.at_rest(StandbyLeader), None);
    }

    #[test]
    fn a_handover_is_told_as_a_stop_and_a_new_role() {
        let mut story = Story::default();
        story.at_rest(Replica);
        assert_eq!(story.promoted(), (Event::RoleChange, Primary));
        assert!(story.leads());
        assert_eq!(story.stopped(), Some((Event::Stop, Primary)));
        story.expect(Event::Start);
        assert_eq!(story.at_rest(Replica), Some((Event::RoleChange, Replica)));
        assert_eq!(story.becomes(Demoted), Some((Event::RoleChange, Demoted)));
        assert_eq!(story.becomes(Demoted), None);
        story.expect(Event::Start);
        assert_eq!(story.promoted(), (Event::RoleChange, Primary));
        assert_eq!(story.at_rest(Primary), None);
    }

    fn commands(dir: &Path) -> BTreeMap<String, String> {
        let (log, slow) = (dir.join("log"), dir.join("slow"));
        let log = format!("sh -c 'echo $0 $1 $2 $3 >>{}' 'a b'", log.display());
        let slow = format!("sh -c '(sleep 1; touch {}) & wait'", slow.display());
        let text = |name: &str, command: &str| (name.to_string(), command.to_string());
        BTreeMap::from([
            text("on_role_change", &log),
            text("on_reload", &slow),
            text("on_start", &slow),
            text("on_stop", "exit-code-of-nothing"),
        ])
    }

    async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        for _ in 0..200 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not within 4 s: {what}");
    }

    #[tokio::test]
    async fn a_newer_event_ends_the_older_command_and_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, mut callbacks) = (commands(dir.path()), Callbacks::new());
        callbacks.tell(&commands, "shop", Some((Event::Start, Replica)));
        callbacks.farewell().await;
        callbacks.tell(&commands, "shop", Some((Event::Stop, Replica)));
        callbacks.tell(&commands, "shop", Some((Event::RoleChange, MemberRole::Promoted)));
        let log = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        until("the newest one runs", || log().ends_with('\n')).await;
        assert_eq!(log(), "a b on_role_change primary shop\n");
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert!(!dir.path().join("slow").exists(), "the child of on_start survived");
    }

    #[tokio::test]
    async fn a_reload_is_not_ended_by_other_events() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, mut callbacks) = (commands(dir.path()), Callbacks::new());
        callbacks.tell(&commands, "shop", Some((Event::Reload, Replica)));
        callbacks.farewell().await;
        callbacks.tell(&commands, "shop", Some((Event::RoleChange, Primary)));
        until("on_reload is done", || dir.path().join("slow").exists()).await;
    }
}
