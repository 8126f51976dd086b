//! A scheduled restart, which this daemon keeps, becomes a request when its time has
//! come.

use super::Daemon;
use crate::api::restart::Request;
use crate::clock;
use crate::ha::observation::{Asked, Postgres, Process, ServerRole};
use crate::member::schedule::{Due, due};
use serde_json::Value;
use topology::MemberRole;

/// A restart that was asked for later. It is meant for the server that ran then.
pub(super) struct RestartPlan {
    request: Request,
    postmaster_start_time: String,
}

impl RestartPlan {
    /// As the member record shows it.
    pub fn shown(&self) -> Value {
        let mut shown = self.request.body.clone();
        let started = self.postmaster_start_time.clone();
        shown.insert("postmaster_start_time".to_string(), started.into());
        Value::Object(shown)
    }
}

impl Daemon {
    pub(super) fn schedule_restart(&mut self, request: Request) -> Result<String, String> {
        if self.restart_plan.is_some() {
            return Err("Another restart is already scheduled".into());
        }
        let started = self.server.status().map(|s| s.postmaster_start_time.clone());
        let postmaster_start_time = started.unwrap_or_default();
        self.restart_plan = Some(RestartPlan { request, postmaster_start_time });
        Ok("Restart scheduled".into())
    }

    pub(super) fn forget_restart(&mut self) -> Result<String, String> {
        match self.restart_plan.take() {
            Some(_) => Ok("scheduled restart deleted".into()),
            None => Err("no restarts are scheduled".into()),
        }
    }

    /// A scheduled restart is forgotten, or asked for, or waits. `postgres`: as it was
    /// just seen.
    pub(super) fn apply_restart_plan(&mut self, postgres: &Postgres) {
        self.restart_in = None;
        let Some(plan) = &self.restart_plan else { return };
        let started = self.server.status().map(|s| &s.postmaster_start_time);
        if started.is_some_and(|started| *started != plan.postmaster_start_time) {
            tracing::info!("PostgreSQL was restarted meanwhile: the scheduled restart is dropped");
            self.restart_plan = None;
            return;
        }
        if self.member.dynamic.pause {
            return;
        }
        let at = plan.request.schedule.as_deref().unwrap_or_default();
        match due(at, clock::unix_ms(), self.member.dynamic.loop_wait_ms) {
            Due::In(ms) => self.restart_in = Some(ms),
            Due::TooOld | Due::Unreadable => {
                tracing::warn!("the scheduled restart is out of date and is dropped");
                self.restart_plan = None;
            }
            // A server that is busy is waited for, as long as the window lasts.
            Due::Now if self.background.running().is_some() => {}
            Due::Now if !matches!(postgres.process, Process::Running(_)) => {}
            Due::Now => self.take_up_restart(postgres),
        }
    }

    fn take_up_restart(&mut self, postgres: &Postgres) {
        let Some(plan) = self.restart_plan.take() else { return };
        let version = self.server.status().map(|s| s.server_version);
        let pending = self.server.pending_restart().is_some();
        let role = role_now(postgres, self.published.borrow().role);
        if !plan.request.conditions.hold_for(role, version, pending) {
            tracing::info!("the conditions of the scheduled restart are not satisfied");
            return;
        }
        tracing::info!("the scheduled restart is due");
        if let Some(asked) = self.member.memory.asked {
            tracing::warn!("the scheduled restart is dropped: {} is under way", asked.title());
            return;
        }
        self.member.memory.asked = Some(Asked::Restart);
        self.member.memory.start_limit_ms =
            plan.request.limit.map(|limit| limit.as_millis() as u64);
    }
}

/// `published`: as of the last beat. A server that has just become a primary, or a
/// standby, is what it is now.
fn role_now(postgres: &Postgres, published: MemberRole) -> MemberRole {
    let Process::Running(server) = &postgres.process else { return published };
    match server.role.known() {
        Some(ServerRole::Primary) => MemberRole::Primary,
        Some(ServerRole::Standby { .. }) if published == MemberRole::Primary => MemberRole::Replica,
        _ => published,
    }
}
