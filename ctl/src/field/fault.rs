//! What may happen to the processes of a field: killed, frozen, thawed, started
//! again with another configuration.
//!
//! Every fault hits processes that the field started, found by their pid; a
//! backend is found among the children of its postmaster by its title.

use super::plan::MemberPlan;
use super::process::{Field, FieldError, family};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

impl Field {
    /// The daemon alone dies, PostgreSQL runs on.
    pub fn kill_daemon(&mut self, name: &str) {
        self.signal_daemon(name, Signal::SIGKILL);
        self.forget(name);
    }

    pub fn signal_store(&mut self, region: &str, signal: Signal) -> bool {
        self.signal_daemon(&format!("etcd-{region}"), signal)
    }

    pub fn signal_postmaster(&self, member: &MemberPlan, signal: Signal) -> bool {
        let pid = self.postmaster_pid(member);
        pid.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }

    /// The whole node: daemon, postmaster and all its children.
    pub fn signal_node(&mut self, member: &MemberPlan, signal: Signal) -> bool {
        let server: Vec<i32> = self.postmaster_pid(member).into_iter().flat_map(family).collect();
        let told = self.signal_daemon(&member.name, signal);
        let server_told = server.iter().filter(|pid| kill(Pid::from_raw(**pid), signal).is_ok());
        server_told.count() > 0 && told
    }

    /// Backends of a member whose title says so, as in `walsender`.
    pub fn backends(&self, member: &MemberPlan, title: &str) -> Vec<i32> {
        let Some(postmaster) = self.postmaster_pid(member) else { return Vec::new() };
        let children = family(postmaster).into_iter().filter(|pid| *pid != postmaster);
        children.filter(|pid| title_of(*pid).contains(title)).collect()
    }

    /// How many backends got the signal.
    pub fn signal_backends(&self, member: &MemberPlan, title: &str, signal: Signal) -> usize {
        let found = self.backends(member, title);
        found.iter().filter(|pid| kill(Pid::from_raw(**pid), signal).is_ok()).count()
    }

    /// Lays `overlay` over a member's configuration and writes the file anew;
    /// the daemon reads it when it is told to, or at its next start.
    pub fn reconfigure(
        &mut self,
        member: &MemberPlan,
        overlay: &serde_json::Value,
    ) -> Result<(), FieldError> {
        let nothing = || serde_json::json!({});
        let laid = self.plan.overlays.entry(member.name.clone()).or_insert_with(nothing);
        topology::document::patch(laid, overlay);
        self.write_config(member)
    }

    /// A program that runs as the servers do, in the field's directory.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir).env("LC_ALL", "C.UTF-8").env("HOME", &self.dir);
        if let Some(user) = self.user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// What a daemon (or PostgreSQL beside it) has written so far.
    pub fn log(&self, name: &str) -> String {
        let bytes = fs::read(self.log_path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn title_of(pid: i32) -> String {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&title).into_owned()
}
