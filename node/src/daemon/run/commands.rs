//! Requests of the API: taken, remembered for the next beats, answered.
//!
//! Which is taken, the machine decides (`member/requests.rs`).

use crate::api::published::{Command, Reply};
use crate::api::restart;
use crate::daemon::{Daemon, Origin};
use member::ha::observation::{Asked, Job};
use member::job_terms::STILL_STARTING;
use member::planned_restart::RestartPlan;
use member::requests::{Request, Verdict};

impl Daemon {
    pub(super) async fn take(&mut self, command: Option<Command>, origin: &Origin) {
        match command {
            Some(Command::Wake) | None => {}
            Some(Command::Reload) => self.reload(origin).await,
            Some(Command::Restart { limit, reply }) => {
                let limit_ms = limit.map(|limit| limit.as_millis() as u64);
                self.ask_restart(Request::Restart { limit_ms }, reply);
            }
            Some(Command::ScheduleRestart { request, reply }) => {
                let plan = self.planned(*request);
                let _ = reply.send(self.member.plan_restart(plan));
            }
            Some(Command::ForgetRestart { reply }) => {
                let _ = reply.send(self.member.forget_planned_restart());
            }
            Some(Command::Reinitialize { from_leader, force, reply }) => {
                let asked = self.ask_reinitialize(Request::Reinitialize { from_leader, force });
                let _ = reply.send(asked);
            }
            // What the event tells is in the store as well, which is watched.
            Some(Command::CitusEvent { event, reply }) => self.take_citus_event(&event, reply),
        }
    }

    /// It is meant for the server that runs now.
    fn planned(&self, request: restart::Request) -> RestartPlan {
        let started = self.server.status().map(|s| s.postmaster_start_time.clone());
        RestartPlan {
            conditions: request.conditions,
            limit_ms: request.limit.map(|limit| limit.as_millis() as u64),
            at: request.schedule.unwrap_or_default(),
            body: request.body,
            postmaster_start_time: started.unwrap_or_default(),
        }
    }

    fn judge(&mut self, request: Request) -> Result<(), String> {
        let running = self.background.running().map(|running| &running.job);
        match self.member.judge_request(request, running) {
            Verdict::Refuse(why) => return Err(why),
            Verdict::TakeAfterCancel => self.cancel(),
            Verdict::Take => {}
        }
        self.member.take_request(request);
        Ok(())
    }

    /// Its caller waits for the end of the restart.
    fn ask_restart(&mut self, request: Request, reply: Reply) {
        match self.judge(request) {
            Ok(()) => self.replies.push((Asked::Restart, reply)),
            Err(why) => {
                let _ = reply.send(Err(why));
            }
        }
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
    fn ask_reinitialize(&mut self, request: Request) -> Result<String, String> {
        self.judge(request)?;
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
