//! Requests of the API: taken, remembered for the next beats, answered.
//!
//! Invariant: a restart or a reinitialize is remembered, one at a time, and the
//! tables decide what comes of it; any other caller gets "already in progress".

use crate::api::published::{Command, Reply};
use crate::api::restart::Request;
use crate::daemon::{Daemon, Origin};
use member::ha::observation::{Asked, Job};
use member::job_terms::STILL_STARTING;
use member::planned_restart::RestartPlan;

impl Daemon {
    pub(super) async fn take(&mut self, command: Option<Command>, origin: &Origin) {
        match command {
            Some(Command::Wake) | None => {}
            Some(Command::Reload) => self.reload(origin).await,
            Some(Command::Restart { limit, reply }) => {
                if self.ask(Asked::Restart, reply) {
                    self.member.memory.start_limit_ms = limit.map(|limit| limit.as_millis() as u64);
                }
            }
            Some(Command::ScheduleRestart { request, reply }) => {
                let plan = self.planned(*request);
                let _ = reply.send(self.member.plan_restart(plan));
            }
            Some(Command::ForgetRestart { reply }) => {
                let _ = reply.send(self.member.forget_planned_restart());
            }
            Some(Command::Reinitialize { from_leader, force, reply }) => {
                let asked = self.ask_reinitialize(from_leader, force).await;
                let _ = reply.send(asked);
            }
            // What the event tells is in the store as well, which is watched.
            Some(Command::CitusEvent { event, reply }) => self.take_citus_event(&event, reply),
        }
    }

    /// It is meant for the server that runs now.
    fn planned(&self, request: Request) -> RestartPlan {
        let started = self.server.status().map(|s| s.postmaster_start_time.clone());
        RestartPlan {
            conditions: request.conditions,
            limit_ms: request.limit.map(|limit| limit.as_millis() as u64),
            at: request.schedule.unwrap_or_default(),
            body: request.body,
            postmaster_start_time: started.unwrap_or_default(),
        }
    }

    /// Whether it was accepted. A request that is refused changes nothing.
    fn ask(&mut self, what: Asked, reply: Reply) -> bool {
        let job = self.background.running().map(|running| running.job.title());
        if let Some(title) = job.or(self.member.memory.asked.map(Asked::title)) {
            let _ = reply.send(Err(format!("{title} already in progress")));
            return false;
        }
        self.member.memory.asked = Some(what);
        self.replies.push((what, reply));
        true
    }

    /// A restart that could not begin in time is no longer wanted: the caller gets the
    /// reason, and the restart does not come hours later.
    pub(in crate::daemon) fn answer_what_was_dropped(&mut self) {
        let Some(why) = self.member.memory.dropped.take() else { return };
        tracing::warn!("{why}");
        for (_, reply) in self.replies.extract_if(.., |(what, _)| *what == Asked::Restart) {
            let _ = reply.send(Err(why.clone()));
        }
    }

    /// Answers when it is sure to begin; how it goes on is the member's state.
    async fn ask_reinitialize(&mut self, from_leader: bool, force: bool) -> Result<String, String> {
        if self.member.held {
            return Err("I am the leader, can not reinitialize".into());
        }
        if let Some(running) = self.background.running() {
            // Half a rewind is worse than what was there before.
            let may_cancel = !matches!(running.job, Job::Rewind { .. });
            if !(force && may_cancel) {
                return Err(format!("{} already in progress", running.job.title()));
            }
            self.cancel();
        }
        self.member.memory.asked = Some(match from_leader {
            true => Asked::ReinitializeFromLeader,
            false => Asked::Reinitialize,
        });
        for (_, reply) in std::mem::take(&mut self.replies) {
            let _ = reply.send(Err("reinitialize already in progress".into()));
        }
        Ok("reinitialize started".into())
    }

    /// Answers the callers that asked for the restart that has just ended.
    pub(in crate::daemon) fn answer_restart(&mut self, job: &Job, result: &Result<(), String>) {
        let Job::Restart { .. } = job else { return };
        let ended = Asked::Restart;
        for (what, reply) in std::mem::take(&mut self.replies) {
            if what != ended {
                self.replies.push((what, reply));
                continue;
            }
            let answer = match result {
                Ok(()) => Ok("restarted successfully".to_string()),
                Err(why) if why == STILL_STARTING => Err(why.clone()),
                Err(why) => Err(format!("restart failed: {why}")),
            };
            let _ = reply.send(answer);
        }
    }
}
