//! The life of a daemon: set up, beat, end.
//!
//! Events wake the beat, they carry no commands: a change in the store, the
//! postmaster's exit, the end of a job, a request of the API, a signal, the
//! time. `loop_wait` is only the longest sleep.

mod commands;
mod set_up;
mod wake;

use super::server::Server;
use super::signals::{Signals, Wish};
use super::{Daemon, Origin, STORE_CALL, start};
use crate::api::decisions;
use crate::api::published::Command;
use crate::config::Settings;
use crate::dcs::counted::CountedStore;
use crate::dcs::{self, Store};
use crate::peers::Peers;
use crate::{clock, log, notify};
use member::ha::observation::Job;
use member::ha::{Decision, Outcome};
use member::{Farewell, Report};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use wake::changed;

/// Requests whose answer comes when the action is over.
pub(super) use crate::api::published::Reply;

/// Runs until the daemon is told to end; gives the exit code.
pub async fn run(settings: Settings, origin: Origin) -> anyhow::Result<i32> {
    let settings = Arc::new(settings);
    let mut signals = Signals::catch()?;
    let keys = settings.keys();
    let store = CountedStore::new(dcs::open(&settings.store, STORE_CALL)?, &keys);
    let writes = store.writes();
    let store: Arc<dyn Store> = Arc::new(store);
    let server = Server::new(settings.clone())?;
    let group = tokio::select! {
        group = start::await_store(&*store, &keys, start::STORE_AGAIN, || server.may_run()) => group?,
        () = signals.end() => return Ok(0),
    };
    if let Some(group) = &group {
        let told = start::refuse_namesake(&settings, &Peers::new(&settings)?, group).await;
        told.map_err(anyhow::Error::msg)?;
    }
    let (mut daemon, mut commands) =
        Daemon::set_up(settings, (store, writes), keys, server).await?;
    daemon.name_proven = group.is_some();
    notify::ready();
    let code = daemon.live(&mut signals, &mut commands, &origin).await;
    notify::stopping();
    daemon.farewell().await;
    code.map_err(anyhow::Error::msg)
}

impl Daemon {
    async fn live(
        &mut self,
        signals: &mut Signals,
        commands: &mut mpsc::Receiver<Command>,
        origin: &Origin,
    ) -> Result<i32, String> {
        loop {
            self.prove_name().await?;
            let report = self.beat().await;
            // The member record is published before the chores, which may be slow, and again
            // with what they have learned.
            self.publish(&report);
            self.keep_up(&report).await;
            self.publish(&report);
            self.log_heartbeat(&report);
            if let Some(code) = report.exit {
                tracing::info!("{}", report.why);
                return Ok(code);
            }
            let sleep = self.longest_sleep(&report);
            let mut closing = self.server.watch_closing();
            let mut quiet = self.server.watch_quiet();
            let job = report.seen.job.as_ref();
            let stops =
                job.is_some_and(|j| matches!(j.job, Job::Stop { .. }) && j.closed.is_none());
            let is_loud = stops && !self.server.is_quiet();
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = changed(&mut self.changes, &self.member) => {}
                () = self.background.over() => {}
                outcome = self.metadata.over() => self.take_step(outcome),
                () = self.server.ended() => {}
                () = self.beside.over() => {}
                _ = closing.wait_for(Option::is_some), if stops => {}
                _ = quiet.wait_for(Option::is_some), if is_loud => {}
                command = commands.recv() => self.take(command, origin).await,
                wish = signals.next() => match wish {
                    Wish::End => self.begin_to_end(),
                    Wish::Reload => self.reload(origin).await,
                },
            }
        }
    }

    fn longest_sleep(&self, report: &Report) -> Duration {
        let ms = self.member.sleep_ms(&report.seen, report.at_most_ms, clock::now());
        let ms = self.metadata.registrar.wake_in_ms(clock::now()).map_or(ms, |due| due.min(ms));
        Duration::from_millis(ms)
    }

    /// What is left to do, the next beats decide.
    fn begin_to_end(&mut self) {
        if self.member.begin_to_end() {
            tracing::info!("the daemon was told to end");
            notify::stopping();
        }
    }

    /// The last thing before the process ends.
    async fn farewell(&mut self) {
        self.callbacks.farewell().await;
        let Farewell { rests_watchdog, renews } = self.member.farewell();
        if rests_watchdog {
            self.watchdog.rest();
        }
        if let Some(lease) = renews {
            let _ = self.store.renew(lease).await;
        }
    }
}

/// A decision that repeats is logged once a minute.
fn say(line: &str) {
    match log::is_news(line) {
        true => tracing::info!("{line}"),
        false => tracing::debug!("{line}"),
    }
}

impl Daemon {
    /// Keeps a decision, and writes into the log what is new in it.
    pub(super) fn note(&mut self, decision: &Decision, outcome: Option<&Outcome>) {
        let changed = std::mem::replace(&mut self.last_rule, decision.rule) != decision.rule;
        let line = format!("rule {}: {}", decision.rule, decision.line());
        match outcome {
            Some(Outcome::Failed(why)) => log::error(&format!("{}: {why}", decision.line())),
            Some(_) if decision.rule == member::ha::gate::RENEW => {
                tracing::debug!("{line}");
                return;
            }
            Some(outcome) => say(&format!("{line} -> {outcome:?}")),
            // The heartbeat's line says the same.
            None if changed && decision.why.starts_with("no action") => tracing::debug!("{line}"),
            None if changed => say(&line),
            None => return,
        }
        self.remember(decisions::entry(clock::unix_ms(), decision, outcome));
    }
}
