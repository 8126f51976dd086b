//! Performing what the registrar asks for: rounds of `pg_dist_node`, and pauses.
//!
//! When each is due, the registrar decides (`citus/src/registrar`). One step runs at a
//! time, beside the beats; its end wakes the beat.

use super::Daemon;
use super::pause_lock::PauseLock;
use crate::act::citus::{self, Cut, HeldGroup, Reach};
use crate::api::published::CitusNumbers;
use crate::clock;
use ::citus::registrar::event::Event;
use ::citus::registrar::{Ended, Hold, Registrar, Sight, Step};
use ::citus::{Address, Known};
use member::ha::Observation;
use member::keeps_rows;
use std::future::Future;
use tokio::sync::oneshot;

/// How a step ended; a pause that was opened brings its sessions.
type Outcome = (Ended, Option<HeldGroup>);

#[derive(Default)]
pub(super) struct Metadata {
    pub registrar: Registrar,
    running: Option<oneshot::Receiver<Outcome>>,
    held: Option<HeldGroup>,
    /// Of the round under way.
    cut: Option<Cut>,
    /// Workers that wait until their writers are held, by group.
    senders: Vec<(u32, oneshot::Sender<()>)>,
}

impl Metadata {
    /// Waits for the end of the running step; for ever when none runs.
    pub(super) async fn over(&mut self) -> Outcome {
        match &mut self.running {
            Some(outcome) => {
                let failed = || (Ended::Failed("its task was ended".to_string()), None);
                let outcome = outcome.await.unwrap_or_else(|_| failed());
                self.running = None;
                outcome
            }
            None => std::future::pending().await,
        }
    }

    fn spawn(&mut self, step: impl Future<Output = Outcome> + Send + 'static) {
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            // The receiver is gone only when the daemon ends.
            let _ = tell.send(step.await);
        });
        self.running = Some(told);
    }

    /// Of groups whose request is met, declined or forgotten.
    fn answer_senders(&mut self) {
        let waits = |group: u32| self.registrar.waits(group);
        let (kept, answered) =
            std::mem::take(&mut self.senders).into_iter().partition(|(group, _)| waits(*group));
        self.senders = kept;
        let answered: Vec<(u32, oneshot::Sender<()>)> = answered;
        for (_, sender) in answered {
            // One that waits no longer goes on without.
            let _ = sender.send(());
        }
    }
}

impl Daemon {
    pub(super) fn keep_citus(&mut self, seen: &Observation) {
        let Some(own) = self.settings.citus.clone().filter(|own| own.group == 0) else { return };
        let sight = self.citus_sight(seen, own.group);
        loop {
            match self.metadata.registrar.step(&sight) {
                Step::Rest => break,
                Step::Decline { .. } => {}
                step => {
                    self.perform_step(step);
                    break;
                }
            }
        }
        self.tell_citus();
    }

    fn citus_sight(&self, seen: &Observation, own: u32) -> Sight {
        let (host, port) = self.server.served_at();
        let moved = self.chores.local_topology.journal().map(|journal| journal.groups.as_slice());
        let here = Address::new(&host, port);
        let may_act = keeps_rows(seen);
        let (groups, whole) = Known { views: &self.chores.groups, own, here, moved }.shown(may_act);
        Sight {
            now: seen.now,
            may_act,
            opening: self.member.must_rewire(seen),
            whole,
            is_lock_left: self.pause_lock().is_left(),
            in_tail: self.metadata.cut.as_ref().is_some_and(Cut::in_tail),
            has_copies: self.settings.citus.as_ref().is_some_and(|own| !own.stand_in),
            groups,
            loop_wait_ms: self.member.dynamic.loop_wait_ms,
            retry_timeout_ms: self.member.dynamic.retry_timeout_ms,
        }
    }

    fn perform_step(&mut self, step: Step) {
        let Some(own) = self.settings.citus.clone() else { return };
        let wish = own.wish();
        let reach = Reach {
            settings: self.settings.clone(),
            instance: (*self.server.instance()).clone(),
            own,
            wish,
        };
        let lock = self.pause_lock();
        match step {
            Step::Rest | Step::Decline { .. } => {}
            Step::Interrupt => {
                if let Some(cut) = &self.metadata.cut {
                    cut.ask();
                }
            }
            Step::Round(round) => {
                let cut = Cut::default();
                self.metadata.cut = Some(cut.clone());
                let round = citus::bring_about(reach, round, cut);
                self.metadata.spawn(async move { (round.await, None) })
            }
            Step::Pause(hold) => self.metadata.spawn(open(lock, reach, hold)),
            Step::Resume { groups, .. } => {
                let held = self.metadata.held.take();
                self.metadata.spawn(async move {
                    let ended = match held {
                        Some(held) => citus::resume(held, groups).await,
                        None => Err("its sessions are gone".to_string()),
                    };
                    lock.free().await;
                    (ended.map_or_else(Ended::Failed, |()| Ended::Resumed), None)
                });
            }
            Step::Release { .. } => {
                let held = self.metadata.held.take();
                self.metadata.spawn(async move {
                    if let Some(held) = held {
                        citus::release(held).await;
                    }
                    lock.free().await;
                    (Ended::Released, None)
                });
            }
            Step::FreeLock => self.metadata.spawn(async move {
                lock.free().await;
                (Ended::Released, None)
            }),
        }
    }

    /// A step is over.
    pub(super) fn take_step(&mut self, (ended, held): Outcome) {
        self.metadata.held = held;
        self.metadata.cut = None;
        self.metadata.registrar.ended(clock::now(), ended);
        self.tell_citus();
    }

    pub(super) fn citus_numbers(&self, seen: &Observation) -> Option<CitusNumbers> {
        let leads = self.settings.group().is_coordinator() && seen.holds_lock();
        let registrar = &self.metadata.registrar;
        leads.then(|| CitusNumbers {
            is_settled: registrar.is_settled(),
            paused_since: registrar.paused().map(|(_, since)| since),
            counts: registrar.counts(),
        })
    }

    fn tell_citus(&mut self) {
        for text in self.metadata.registrar.take_told() {
            crate::log::warn(&text);
        }
        self.metadata.answer_senders();
    }

    /// `reply` is answered when the writers are held, or dropped when they will not be.
    pub(super) fn take_citus_event(&mut self, event: &Event, reply: oneshot::Sender<()>) {
        let local = self.mirror.snapshot();
        let entries = local.as_ref().map_or(&[][..], |view| &view.snapshot.entries);
        let views = crate::dcs::keys::split_groups(&self.keys.scope_prefix(), entries);
        if !event.is_believed(&views) {
            tracing::debug!("{} of group {} is not believed", event.kind.text(), event.group);
            return;
        }
        let dynamic = &self.member.dynamic;
        let event = event.within(dynamic.ttl_ms, dynamic.retry_timeout_ms);
        if self.metadata.registrar.take_event(&event, clock::now()) {
            self.metadata.senders.push((event.group, reply));
        }
    }

    fn pause_lock(&self) -> PauseLock {
        let entry = self.mirror.snapshot().and_then(|view| {
            let key = self.keys.pause();
            view.snapshot.entries.iter().find(|entry| entry.key == key).cloned()
        });
        PauseLock {
            mirror: self.mirror.clone(),
            keys: self.keys.clone(),
            me: self.settings.name.clone(),
            session: self.member.lease.id,
            entry,
        }
    }
}

async fn open(lock: PauseLock, reach: Reach, hold: Hold) -> Outcome {
    if let Err(why) = lock.take(hold.group).await {
        return (Ended::Failed(why), None);
    }
    match citus::open(reach, hold).await {
        Ok(held) => (Ended::Paused, Some(held)),
        Err(why) => {
            lock.free().await;
            (Ended::Failed(why), None)
        }
    }
}
