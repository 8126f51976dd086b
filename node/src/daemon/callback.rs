//! Callbacks: the operator's commands for events of PostgreSQL.
//!
//! They are called with `<action> <role> <scope>` after their own arguments, and the
//! daemon does not wait for them. Never two at once: a newer event ends the command
//! of an older one; `on_reload` has a `Line` of its own. Which event is reported, and as
//! which role, the machine decides (`member::callbacks`).

mod line;

use super::Daemon;
use line::{Call, Line};
use member::callbacks::{Callback, Event};
use std::collections::BTreeMap;
use std::time::Duration;
use topology::MemberRole;

/// At the end of the daemon the last command gets this long to begin.
const BEGIN_MAX: Duration = Duration::from_secs(2);

pub(super) struct Callbacks {
    main: Line,
    reload: Line,
}

impl Callbacks {
    pub(super) fn new() -> Callbacks {
        Callbacks { main: Line::spawn(), reload: Line::spawn() }
    }

    /// Calls what is configured for the event.
    pub(super) fn call(
        &self,
        commands: &BTreeMap<String, String>,
        scope: &str,
        callback: Callback,
    ) {
        let Callback { event, role } = callback;
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
    pub(super) fn call_back(&self, callback: Callback) {
        let commands = &self.settings.postgresql.callbacks;
        self.callbacks.call(commands, &self.settings.scope, callback);
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
    use MemberRole::{Primary, Replica};
    use std::path::Path;

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
        callbacks.call(&commands, "shop", Callback { event: Event::Start, role: Replica });
        callbacks.farewell().await;
        callbacks.call(&commands, "shop", Callback { event: Event::Stop, role: Replica });
        callbacks.call(
            &commands,
            "shop",
            Callback { event: Event::RoleChange, role: MemberRole::Promoted },
        );
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
        callbacks.call(&commands, "shop", Callback { event: Event::Reload, role: Replica });
        callbacks.farewell().await;
        callbacks.call(&commands, "shop", Callback { event: Event::RoleChange, role: Primary });
        until("on_reload is done", || dir.path().join("slow").exists()).await;
    }
}
