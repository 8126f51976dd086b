//! Long actions: how long they take, how they fail, what they leave behind.
//!
//! The work goes on while the daemon is frozen (it is done by other processes)
//! and, for a server that starts or stops, when the daemon dies.

use super::links::Wire;
use super::postgres::{Kind, Postgres, Process, Role};
use super::slots::Wal;
use super::{Event, World};
use crate::check;
use member::ha::observation::{End, Following, Job, Shut};
use member::job_terms::JobTerms;
use member::stop::OrderlyStop;
use topology::{Millis, SystemId};

/// `pg_ctl_timeout` of every member.
const PG_CTL_TIMEOUT_MS: u64 = 60_000;

/// What runs in the background slot.
#[derive(Clone, Debug)]
pub struct Work {
    pub job: Job,
    pub since: Millis,
    pub number: u64,
    pub terms: JobTerms,
    /// Its stop, once that was asked for, and whether a rule has ended its wait.
    pub stop: Option<OrderlyStop>,
    pub is_cut: bool,
    /// It has asked the server to start.
    starts: bool,
    result: Option<Result<(), String>>,
}

/// Until it ends there are no data that could be used.
pub fn replaces_data(job: &Job) -> bool {
    matches!(job, Job::Clone { .. } | Job::Rebuild { .. })
}

impl World {
    pub fn begin_job(&mut self, member: usize, job: Job, terms: JobTerms) {
        self.note_of(member, &format!("begins {job:?}"));
        let m = &mut self.members[member];
        m.jobs += 1;
        m.is_by_hand = false;
        m.daemon.job = Some(Work {
            job: job.clone(),
            since: m.clock.read(self.now),
            number: m.jobs,
            terms,
            stop: None,
            is_cut: false,
            starts: false,
            result: None,
        });
        match job {
            Job::Stop { .. } => self.begin_stop(member),
            Job::Restart { .. } => self.begin_restart(member),
            Job::PrePromote => self.work_for(member, 20, 6_000),
            Job::StartPrimary => self.start_of_job(member, Role::Primary, None),
            Job::StartStandby { follow, .. } => {
                self.read_copies(member);
                self.start_of_job(member, Role::Standby, follow);
            }
            Job::Bootstrap => self.work_for(member, 300, 1_500),
            Job::Clone { .. } | Job::Restore => {
                self.work_for(member, 300, self.plan.clone_max);
            }
            Job::Recover | Job::RecoverStandby { .. } => {
                self.work_for(member, 100, self.plan.recovery_max.max(200));
            }
            Job::Rewind { .. } => self.work_for(member, 200, self.plan.clone_max),
            Job::Rebuild { from, .. } => self.begin_rebuild(member, &from),
        }
    }

    fn begin_restart(&mut self, member: usize) {
        let read = self.read_copies(member);
        let work = self.members[member].daemon.job.as_ref().expect("it has just begun");
        match work.terms.copies.as_ref().and_then(|copies| copies.refusal(read)) {
            Some(why) => self.job_over(member, Err(why.to_string())),
            None => self.begin_stop(member),
        }
    }

    /// Files are written before the server starts.
    fn start_of_job(&mut self, member: usize, role: Role, follow: Option<Following>) {
        let m = &mut self.members[member];
        let work = m.daemon.job.as_mut().expect("its job runs");
        work.starts = true;
        let (number, limit_ms) = (work.number, work.terms.start.ms(PG_CTL_TIMEOUT_MS));
        m.server.write_files(&work.terms.overrides);
        if role == Role::Standby {
            m.server.follows = follow;
        }
        self.after(limit_ms, Event::StartLate { member, number });
        self.start(member, role);
    }

    /// The daemon does not wait for the server any longer.
    pub fn on_start_late(&mut self, member: usize, number: u64) {
        let m = &self.members[member];
        let starts = matches!(m.server.process, Process::Starting(_));
        let work = m.daemon.job.as_ref().filter(|work| starts && work.number == number);
        if let Some(result) = work.map(|work| work.terms.late_start(&work.job)) {
            self.job_over(member, result);
        }
    }

    /// The source is asked once more before anything is removed.
    fn begin_rebuild(&mut self, member: usize, from: &Following) {
        let is_good = self.source(member, from).map(drop);
        if is_good.is_ok() {
            check::destroyed(self, member);
            self.move_data_aside(member);
        }
        let work = self.members[member].daemon.job.as_mut().expect("it has just begun");
        work.result = is_good.is_err().then_some(is_good);
        self.work_for(member, 500, self.plan.clone_max);
    }

    fn work_for(&mut self, member: usize, low: u64, high: u64) {
        let number = self.members[member].jobs;
        let ms = self.rng.range(low, high.max(low));
        self.after(ms, Event::JobEnd { member, number });
    }

    /// The work is done; the daemon hears of it unless it is frozen.
    pub fn on_job_end(&mut self, member: usize, number: u64) {
        let Some(work) = self.members[member].daemon.job.clone() else {
            return;
        };
        if work.number != number {
            return;
        }
        let result = work.result.clone().unwrap_or_else(|| self.effect(member, &work.job));
        let daemon = &mut self.members[member].daemon;
        if daemon.frozen {
            daemon.job.as_mut().expect("just seen").result = Some(result);
            daemon.deferred.push(Event::JobEnd { member, number });
            return;
        }
        daemon.job = None;
        daemon.ended = Some((work.job.clone(), result.clone()));
        self.note_of(member, &format!("{} ended: {result:?}", work.job.title()));
        self.wake_now(member);
    }

    /// A start, stop or restart is over because of what the server did.
    pub fn job_over(&mut self, member: usize, result: Result<(), String>) {
        let Some(work) = &mut self.members[member].daemon.job else {
            return;
        };
        let of_server = matches!(
            work.job,
            Job::Stop { .. } | Job::StartPrimary | Job::StartStandby { .. } | Job::Restart { .. }
        );
        if of_server && work.result.is_none() {
            work.result = Some(result);
            let number = work.number;
            self.after(1, Event::JobEnd { member, number });
        }
    }

    /// The server is down, however that came.
    pub fn server_is_down(&mut self, member: usize) {
        let Some(work) = &self.members[member].daemon.job else { return };
        let follow = work.terms.follow.clone();
        match work.job {
            Job::Stop { .. } => self.job_over(member, Ok(())),
            Job::Restart { as_primary } if !work.starts && work.result.is_none() => {
                let role = if as_primary { Role::Primary } else { Role::Standby };
                self.start_of_job(member, role, follow);
            }
            _ => self.job_over(member, Err("the server went down".into())),
        }
    }

    /// Gives the job that was ended, also one whose end the daemon has not heard of. What it
    /// was about to do to its server does not happen: a server that starts ends with it, and a
    /// checkpoint before a stop is given up. A stop goes on.
    pub fn cancel_job(&mut self, member: usize) -> Option<Job> {
        let daemon = &mut self.members[member].daemon;
        if let Some((job, _)) = daemon.ended.take() {
            return Some(job);
        }
        let work = daemon.job.take()?;
        let server = &mut self.members[member].server;
        match server.process {
            Process::Starting(_) => {
                let end = server.hard_end();
                server.go_down(end, self.now);
            }
            Process::Up(_) => server.plan += 1,
            Process::Stopping { .. } | Process::Down => {}
        }
        Some(work.job)
    }

    fn effect(&mut self, member: usize, job: &Job) -> Result<(), String> {
        if self.rng.percent(self.plan.job_fails) || self.disk_fails(member) {
            self.leave_half(member, job);
            return Err("it ended with 1".into());
        }
        match job {
            Job::Bootstrap => {
                self.initdb(member);
                Ok(())
            }
            Job::Clone { from } | Job::Rebuild { from, .. } => {
                let source = self.source(member, from)?;
                let source = self.members[source].server.clone();
                self.members[member].server.copy_of(&source);
                Ok(())
            }
            Job::Recover => {
                self.recover(member);
                Ok(())
            }
            Job::RecoverStandby { .. } => {
                // It runs too shortly for the model to show it.
                self.members[member].server.abrupt = false;
                Ok(())
            }
            Job::Rewind { from } => {
                self.counts.rewinds += 1;
                self.rewind(member, from)
            }
            _ => Ok(()),
        }
    }

    fn initdb(&mut self, member: usize) {
        let (id, number) = (self.record_id(), self.rng.range(1_000_000_000, 9_999_999_999));
        let server = &mut self.members[member].server;
        *server = Postgres::empty();
        server.system = Some(SystemId(number.to_string()));
        server.append(id, 1_000_000, Kind::Begin);
        server.enter(Process::Up(Role::Primary), self.now);
    }

    fn rewind(&mut self, member: usize, from: &Following) -> Result<(), String> {
        let source = self.source(member, from)?;
        let source = self.members[source].server.clone();
        let server = &mut self.members[member].server;
        if server.process != Process::Down {
            return Err("the server runs".into());
        }
        if server.shutdown_state().shut != Shut::Orderly {
            return Err("the target was not shut down in order".into());
        }
        if source.checkpoint_at > self.now {
            return Err("the source shows the timeline before".into());
        }
        // On one timeline pg_rewind finds nothing to do, and says so.
        if server.log.timeline() != source.log.timeline() {
            server.copy_of(&source);
            server.wal = Wal::rewound(&source.wal);
        }
        server.half = false;
        Ok(())
    }

    /// A rewind that ends early may have changed something already.
    pub fn leave_half(&mut self, member: usize, job: &Job) {
        let changed = matches!(job, Job::Rewind { .. }) && self.rng.percent(50);
        self.members[member].server.half |= changed;
    }

    /// Crash recovery in single-user mode ends with a checkpoint of its own.
    fn recover(&mut self, member: usize) {
        let id = self.record_id();
        let server = &mut self.members[member].server;
        if server.process == Process::Down && server.system.is_some() {
            server.append(id, 104, Kind::Shutdown);
            server.end = End::Clean;
        }
    }

    fn source(&self, member: usize, from: &Following) -> Result<usize, String> {
        let source = self.member_at(from).ok_or("there is no such host")?;
        let up = matches!(self.members[source].server.process, Process::Up(_));
        if up && self.links.between(Wire::Replication, member, source) {
            Ok(source)
        } else {
            Err("the source does not answer".into())
        }
    }

    pub fn move_data_aside(&mut self, member: usize) {
        let server = &mut self.members[member].server;
        let plan = server.plan;
        *server = Postgres::empty();
        server.plan = plan + 1;
    }
}
