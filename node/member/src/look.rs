//! Taking in what was seen: what follows from it, and what is remembered of it.
//!
//! Invariant: looking changes nothing in the world; what it means is written here.

use super::effect::{RestartSight, Seed};
use super::{Level, Local, Look, Member, Sight, StoreSight, schedule};
use crate::ha::failsafe::PromiseStore;
use crate::ha::observation::{DataDir, Disk, Job, Running};
use crate::ha::{Action, Observation};
use crate::lock;
use topology::{GroupView, Millis};

/// What an action that took longer saw of the server is old.
const STALE_MS: u64 = 200;

/// What an action may have changed, and what is old because it took time.
pub(super) fn look_after(action: &Action, seen: &Observation, now: Millis) -> Look {
    let slow = now.since(seen.now) > STALE_MS;
    Look::Again { store: *action != Action::AskPeers, server: slow || changes_server(action) }
}

fn changes_server(action: &Action) -> bool {
    matches!(
        action,
        Action::Promote
            | Action::Follow(_)
            | Action::ResumeReplay
            | Action::NameSync(_)
            | Action::WriteWal
    )
}

impl Member {
    /// The first look of a beat.
    pub(super) fn observe(
        &mut self,
        now: Millis,
        mut sight: Sight,
        promises: &mut PromiseStore,
    ) -> Observation {
        self.take_ended(&mut sight, now);
        self.store_lost = sight.store.as_ref().is_none_or(|store| store.is_lost);
        let (disk, unix_ms) = (sight.disk.take().unwrap_or_default(), sight.unix_ms);
        let restart = std::mem::take(&mut sight.restart);
        let (dynamic, memory) = (self.dynamic.clone(), self.memory.clone());
        let mut seen = sight.into_observation(Seed { now, dynamic, memory });
        self.take_disk(&mut seen, disk);
        self.derive(&mut seen, unix_ms, Some(&restart), promises);
        seen
    }

    /// After an action only what it may have changed was looked at.
    pub(super) fn observe_again(
        &mut self,
        now: Millis,
        mut sight: Sight,
        seen: &mut Observation,
        promises: &mut PromiseStore,
    ) {
        self.take_ended(&mut sight, now);
        if let Some(StoreSight { group, ownership, order, closed_workers, is_lost }) = sight.store {
            self.store_lost = is_lost;
            (seen.store, seen.ownership) = (group, ownership);
            (seen.order, seen.closed_workers) = (order, closed_workers);
        }
        let restart = sight.postgres.is_some().then_some(&sight.restart);
        if let Some(postgres) = sight.postgres {
            seen.postgres = postgres;
        }
        (seen.now, seen.job, seen.watchdog) = (now, sight.job, sight.watchdog);
        self.derive(seen, sight.unix_ms, restart, promises);
    }

    fn take_ended(&mut self, sight: &mut Sight, now: Millis) {
        if let Some((job, result)) = sight.ended.take() {
            self.memory.finish(&job, &result, now);
            self.chores.files.job_ended(&job);
            if result.is_ok() {
                self.call_after_job(&job);
            }
        }
    }

    /// A job that failed on a full disk is retried at once when the disk accepts files again.
    fn take_disk(&mut self, seen: &mut Observation, disk: Disk) {
        let fails = disk != Disk::Well;
        let is_known = matches!(seen.postgres.data, DataDir::Valid { .. });
        if is_known && self.disk_failed && !fails {
            self.memory.failed = None;
        }
        self.disk_failed = fails;
        seen.disk = disk;
    }

    /// Computes what follows from this look, and updates the memory.
    /// `restart`: of a server that was looked at.
    fn derive(
        &mut self,
        seen: &mut Observation,
        unix_ms: u64,
        restart: Option<&RestartSight>,
        promises: &mut PromiseStore,
    ) {
        if let Some(view) = seen.view() {
            self.update_dynamic(view);
        }
        seen.dynamic = self.dynamic.clone();
        self.scheduled_in = schedule::make_due(seen, unix_ms);
        self.apply_failsafe(seen, promises);
        seen.lock = lock::read(&self.name, &seen.store, &self.lease, self.held, seen.now);
        self.held = lock::is_relied_on(&seen.lock);
        self.update_proof(seen);
        if let Some(version) = restart.and_then(|server| server.version) {
            self.note_version(version);
        }
        if let Some(server) = restart {
            self.note_start(server.started.as_deref());
            self.judge_planned_restart(seen, unix_ms, server);
        }
        self.forget_what_is_over(seen);
        self.note_unseen_slots(seen);
        self.note_copies(seen);
        seen.memory = self.memory.clone();
    }

    /// The cluster-wide configuration, if it can be read; else the one before
    /// stays. What is wrong with it is told once.
    pub fn update_dynamic(&mut self, view: &GroupView) {
        let broken = view.unreadable.iter().find(|(key, _)| key == "config");
        let broken = broken.map(|(_, why)| why.clone());
        if let Some(why) = broken.as_ref().filter(|_| self.broken_config != broken) {
            let text = format!("the configuration is kept as it was: {why}");
            self.note(Level::Error, text);
        }
        self.broken_config = broken;
        let Some(config) = &view.config else { return };
        let mut wanted = config.value.with_minimum_ttl(self.minimum_ttl);
        if wanted.slots.is_empty() && standby::slots::are_unreadable(&wanted) {
            // Rows that a copy needs do not come back once they are removed.
            wanted.slots.clone_from(&self.dynamic.slots);
        }
        if self.dynamic != wanted {
            self.dynamic = wanted;
            let ignored = config.value.ignored.iter().map(ToString::to_string).collect();
            self.local.push(Local::ConfigChanged { ignored });
        }
    }

    fn forget_what_is_over(&mut self, seen: &Observation) {
        self.memory.quiet_since = match seen.is_streaming() || !seen.is_standby() {
            true => None,
            false => self.memory.quiet_since.or(Some(seen.now)),
        };
        if self.memory.quiet_since.is_none() {
            self.memory.upstream_trouble = None;
        }
        self.memory.update_from(seen);
        self.apply_end_of_pause();
        if seen.is_primary() {
            self.memory.promoting = None;
            self.memory.forget_comparison();
            self.memory.signed = None;
        }
        if seen.is_stopped() {
            self.memory.promoting = None;
        }
        if !seen.holds_lock() {
            self.memory.won_in_pause = false;
        }
    }

    /// By hand anything may have been changed.
    fn apply_end_of_pause(&mut self) {
        let ends = self.was_paused && !self.dynamic.pause;
        self.was_paused = self.dynamic.pause;
        if ends {
            self.note(Level::Info, "the pause is over: everything is looked at anew");
            self.local.push(Local::LookAnew);
            self.chores.files.forget();
            self.memory.forget_comparison();
        }
    }
}

/// The stop already takes longer than stops usually do.
pub fn is_slow_stop(running: &Running, now: Millis) -> bool {
    const STOPS_LONG_MS: u64 = 500;
    let ends = matches!(running.job, Job::Stop { .. } | Job::Restart { .. });
    ends && now.since(running.since) >= STOPS_LONG_MS
}
