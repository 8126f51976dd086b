//! Performing what the machine asks for, on the real server and store.
//!
//! Nothing is decided here: each call is made once and its answer is brought back. A
//! limit of the machine ends the wait, not what was asked for.

use super::Daemon;
use super::beside::checkpoint;
use super::slot_work;
use crate::dcs::{DcsError, KeyValue, Renewal, Written};
use crate::postgres::timeline;
use crate::promises::{self, lock};
use crate::{clock, log};
use member::act::{LATE, is_in_time};
use member::chores::Work;
use member::ha::Observation;
use member::ha::observation::{Following, Job, Rewind};
use member::job_terms::JobTerms;
use member::overrides::Overrides;
use member::{Answer, Call, Effect, Level, Local, Reload, RemoteLog, Report};
use standby::slots::SlotStep;
use std::time::Duration;
use topology::region::Token;
use topology::{Dynamic, GroupView, Millis, Timeline, Write};

impl Daemon {
    /// One heartbeat: performs one effect after the other until the machine rests.
    pub(super) async fn beat(&mut self) -> Report {
        let mut effect = self.member.wake();
        loop {
            let answer = match effect {
                Effect::Rest(report) => return *report,
                Effect::Look(look) => Answer::Looked(Box::new(self.look(look).await)),
                Effect::Call { call, limit_ms } => self.call_within(call, limit_ms).await,
            };
            effect = {
                let promises = self.failsafe.promises.clone();
                self.member.answer(clock::now(), answer, &mut lock(&promises))
            };
            self.carry_out_local();
        }
    }

    /// After a beat: writes the record and a leader's documents.
    pub(super) async fn keep_documents(&mut self, seen: &Observation) {
        let about = self.particulars(seen);
        let mut next = self.member.begin_upkeep(clock::now(), seen, about);
        while let Some(Effect::Call { call, limit_ms }) = next {
            self.carry_out_local();
            let answer = self.call_within(call, limit_ms).await;
            next = self.member.go_on_with_upkeep(clock::now(), seen, answer);
        }
        self.carry_out_local();
    }

    pub(super) async fn call_within(&mut self, call: Call, limit_ms: Option<u64>) -> Answer {
        let Some(ms) = limit_ms else { return self.call(call).await };
        let limit = Duration::from_millis(ms);
        match tokio::time::timeout(limit, self.call(call)).await {
            Ok(answer) => answer,
            Err(_) => unanswered(limit),
        }
    }

    async fn call(&mut self, call: Call) -> Answer {
        match call {
            Call::KeepAlive(lease) => match self.store.renew(lease).await {
                Ok(renewal) => Answer::Alive {
                    alive: renewal == Renewal::Alive,
                    is_lost: self.mirror.snapshot().is_none_or(|view| view.lost),
                },
                Err(error) => Answer::NoAnswer(error.to_string()),
            },
            Call::Grant { ttl_ms } => match self.store.grant(Duration::from_millis(ttl_ms)).await {
                Ok(lease) => Answer::Granted(lease),
                Err(error) => Answer::NoAnswer(error.to_string()),
            },
            Call::Write(write) => answer_of(self.write(&write).await),
            Call::Report { what, write } => self.report(what, write).await,
            Call::Sign { id, token } => self.sign(&id, &token).await,
            Call::Refresh => self.refresh().await,
            Call::AskPeers(addresses) => Answer::Peers(self.peers.statuses(&addresses).await),
            Call::AskAll { others, enough, ttl_ms, by } => {
                self.ask_members(&others, enough, ttl_ms, by).await
            }
            Call::History { with, asks_slot } => self.remote_history(&with, asks_slot).await,
            Call::LocalEnd { whole } => {
                let postgres = self.seen().postgres.clone();
                Answer::End(self.server.local_end(&postgres, whole).await.map(Box::new))
            }
            Call::EndBefore(lsn) => Answer::EndsAt(self.server.end_without_checkpoint(lsn).await),
            Call::MoveAside => done(self.server.move_aside().await),
            Call::Promote { mine, claimed, lock_until } => self.promote(mine, claimed, lock_until),
            Call::Follow { upstream, overrides } => {
                self.follow(upstream.as_ref(), &overrides).await
            }
            Call::ResumeReplay => done(self.server.resume_replay().await),
            Call::WakeRecovery => done(self.server.wake_recovery().await),
            Call::NameSync { names, overrides } => self.name_sync(&names, &overrides).await,
            Call::WriteWal => done(self.server.write_wal().await),
            Call::ArmWatchdog => done(self.watchdog.arm(&self.member.dynamic, clock::now())),
            Call::RestWatchdog => {
                self.watchdog.rest();
                Answer::Done
            }
            Call::Begin { job, terms } => self.begin(job, *terms),
            Call::ChangeSlot(step) => done(self.server.change_slot(&step).await),
            Call::BeginSlotWork { step, leader } => {
                self.begin_slot_work(step, leader.map(|leader| *leader))
            }
            Call::EndSlotWork { drops } => {
                done(self.slot_work.end(self.server.session(), &drops).await)
            }
            Call::Cancel => Answer::Cancelled(self.background.cancel()),
            Call::EndReceivers(which) => {
                self.server.end_receivers(which);
                Answer::Done
            }
            Call::CutStop => {
                self.server.cut_stop();
                Answer::Done
            }
            Call::Checkpoint { timeline } => self.begin_checkpoint(timeline),
            Call::CompleteHistories { timeline } => self.begin_histories(timeline),
            Call::SaveConfiguration => done(self.server.save_dynamic(&self.member.dynamic.raw)),
            Call::KeepPgpass => done(self.server.keep_pgpass(&self.member.dynamic.raw)),
            Call::ApplySettings { overrides, reload } => {
                self.apply_settings(&overrides, reload).await
            }
        }
    }

    /// What the beat under way has seen.
    fn seen(&self) -> &Observation {
        self.member.seen().expect("the machine calls only after a look")
    }

    async fn report(&self, what: &'static str, write: Write) -> Answer {
        match self.mirror.news(&self.keys, write) {
            Some(write) => answer_of(self.write(&write).await),
            None => {
                tracing::debug!("{what} is not written again: the store holds it");
                Answer::Known
            }
        }
    }

    async fn sign(&self, id: &str, token: &Token) -> Answer {
        let local = &self.chores.local_topology;
        match standby::switch::write::sign(local, &self.settings.name, id, token) {
            Some(write) => answer_of(self.write(&write).await),
            None => Answer::Overtaken,
        }
    }

    async fn refresh(&self) -> Answer {
        let (key, me) = (self.keys.leader(), self.settings.name.as_str());
        let is_mine = |entry: &KeyValue| entry.key == key && entry.value == me;
        match self.mirror.refresh().await {
            Ok(read) => Answer::Refreshed { is_leader: read.entries.iter().any(is_mine) },
            Err(error) => Answer::NoAnswer(error.to_string()),
        }
    }

    async fn remote_history(&self, with: &Following, asks_slot: bool) -> Answer {
        let may_rewind = self.seen().me.rewind != Rewind::Off;
        let slot = with.slot.as_deref().filter(|_| asks_slot);
        match self.server.remote_log(with, slot, may_rewind).await {
            Ok(log) => {
                let lacks_slot = log.has_slot == Some(false);
                let (history, in_recovery) = (log.history, log.in_recovery);
                Answer::History(Box::new(RemoteLog { history, lacks_slot, in_recovery }))
            }
            Err(why) => Answer::NoAnswer(why),
        }
    }

    fn promote(&mut self, mine: Timeline, claimed: Timeline, lock_until: Millis) -> Answer {
        let data_dir = &self.settings.postgresql.data_dir;
        if let Err(error) = timeline::reserve(data_dir, mine, claimed) {
            return Answer::Failed(error.to_string());
        }
        if !is_in_time(clock::now(), lock_until) {
            return Answer::Failed(LATE.into());
        }
        if let Some(row) = self.member.event_of_promotion(self.seen()) {
            tokio::spawn(self.notice(row).send());
        }
        if let Err(why) = self.server.promote() {
            return Answer::Failed(why);
        }
        Answer::Done
    }

    async fn follow(&mut self, upstream: Option<&Following>, overrides: &Overrides) -> Answer {
        let values = self.values_of(overrides);
        match self.server.follow(upstream, &self.member.dynamic.raw, &values).await {
            Ok(()) => Answer::Done,
            Err(why) => Answer::Failed(why),
        }
    }

    async fn apply_settings(&mut self, overrides: &Overrides, reload: Reload) -> Answer {
        let values = self.values_of(overrides);
        match self.server.apply_settings(&self.member.dynamic.raw, &values, reload).await {
            Ok(reloaded) => Answer::Applied { reloaded },
            Err(why) => Answer::Failed(why),
        }
    }

    fn begin_checkpoint(&mut self, timeline: Timeline) -> Answer {
        let instance = self.server.instance();
        self.beside.begin(Work::Checkpoint, async move {
            checkpoint(&instance, timeline).await.map_err(|error| error.to_string())
        });
        Answer::Done
    }

    fn begin_histories(&mut self, timeline: Timeline) -> Answer {
        let (instance, dynamic) = (self.server.instance(), self.member.dynamic.raw.clone());
        self.beside.begin(Work::Histories, async move {
            let done = instance.complete_histories(timeline, &dynamic).await;
            done.map_err(|error| error.with_causes())
        });
        Answer::Done
    }

    fn begin_slot_work(&mut self, step: SlotStep, leader: Option<Following>) -> Answer {
        let work = slot_work::work(self.server.instance(), step.clone(), leader);
        self.slot_work.begin(step, self.beside.over_of_others(), work);
        Answer::Done
    }

    fn begin(&mut self, job: Job, terms: JobTerms) -> Answer {
        match &job {
            Job::Stop { .. } | Job::Restart { .. } => self.server.begin_stop(),
            Job::Clone { from } => tracing::info!("{}", copying(from, self.seen())),
            _ => {}
        }
        let work = self.work(&job, terms);
        self.background.begin(job, clock::now(), work);
        Answer::Done
    }

    /// Ends the job in the background slot outside of a beat.
    pub(super) fn cancel(&mut self) {
        let job = self.background.cancel();
        self.member.cancelled(job, clock::now());
        self.carry_out_local();
    }

    /// What the last step of the machine wants done at once.
    pub(super) fn carry_out_local(&mut self) {
        for local in self.member.take_local() {
            match local {
                Local::Arm(deadline) => self.deadman.arm(self.server.guarded(), deadline),
                Local::Disarm => self.deadman.disarm(),
                Local::FeedWatchdog { ttl_ms } => self.feed_watchdog(ttl_ms),
                Local::StopServer => self.server.stop_now(),
                Local::KeepProof(proof) => self.keep_proof(&proof),
                Local::ForgetProof => promises::remove_proof(&self.settings.postgresql.data_dir),
                Local::ForgetPromise => {
                    promises::remove_promise(&self.settings.postgresql.data_dir)
                }
                Local::ConfigChanged { ignored } => self.config_changed(&ignored),
                Local::LookAnew => self.server.look_anew(),
                Local::JobCancelled(job) => {
                    self.answer_restart(&job, &Err("cancelled".to_string()));
                }
                Local::CallBack(callback) => self.call_back(callback),
                Local::Decided { decision, outcome } => self.note(&decision, outcome.as_ref()),
                Local::Note(Level::Info, text) => tracing::info!("{text}"),
                Local::Note(Level::Warn, text) => log::warn(&text),
                Local::Note(Level::Error, text) => log::error(&text),
            }
        }
        // While a lease is replaced the agent keeps the last one.
        if let Some(lease) = self.member.lease.id {
            self.lease_out.send_if_modified(|told| told.replace(lease) != Some(lease));
        }
        self.answer_what_was_dropped();
    }

    fn feed_watchdog(&mut self, ttl_ms: u64) {
        match ttl_ms == self.member.dynamic.ttl_ms {
            true => self.watchdog.feed(&self.member.dynamic),
            false => {
                self.watchdog.feed(&Dynamic { ttl_ms, ..self.member.dynamic.clone() });
            }
        }
    }
}

fn answer_of(written: Result<Written, DcsError>) -> Answer {
    match written {
        Ok(result) => Answer::Written(result),
        Err(DcsError::LeaseGone) => Answer::LeaseGone,
        Err(error) => Answer::NoAnswer(error.to_string()),
    }
}

fn done(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => Answer::Done,
        Err(why) => Answer::Failed(why),
    }
}

fn unanswered(limit: Duration) -> Answer {
    Answer::NoAnswer(format!("the store did not answer within {}", topology::time::span(limit)))
}

fn copying(from: &Following, seen: &Observation) -> String {
    let leader = seen.view().and_then(GroupView::leader_name);
    let kind = if leader == Some(&from.member) { "leader" } else { "replica" };
    format!("trying to bootstrap from {kind} '{}'", from.member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples as sample;
    use member::ha::observation::Lock;
    use member::ha::{Action, Outcome, Step, decide};
    use std::time::Duration;
    use topology::Seen;

    /// "No leader", timeouts, refused connections, a store without space, a login that
    /// is refused: with the watch still alive, or not.
    #[test]
    fn known_bug_12_every_error_of_the_store_leads_to_the_question_to_all() {
        let why = || "why".to_string();
        let errors = [
            DcsError::Unreachable { waited: Duration::ZERO, reason: why() },
            DcsError::Denied(why()),
            DcsError::LeaseGone,
            DcsError::Compacted,
            DcsError::Settings(why()),
            DcsError::Refused(why()),
        ];
        for error in errors {
            let text = error.to_string();
            let outcome = answer_of(Err(error)).into_outcome();
            assert_eq!(outcome, Outcome::Unknown(text.clone()));
            for silent in [false, true] {
                let mut seen = sample::leader();
                let (renewed, deadline) = (seen.now - 11_000, seen.now + 19_000);
                seen.lock = Lock::Mine { renewed, deadline };
                seen.dynamic.failsafe_mode = true;
                seen.failsafe.is_ready = true;
                seen.memory.lease_renewed = renewed;
                seen.memory.lease_tried = seen.now;
                seen.memory.fold(&Action::Renew, &outcome, seen.now);
                if silent {
                    seen.store = Seen::Unknown;
                }
                assert_eq!(decide(&seen).step, Step::Do(Action::AskAll), "{text}");
            }
        }
    }
}
