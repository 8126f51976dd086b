//! The life of a daemon: set up, beat, end.
//!
//! Events wake the beat, they carry no commands: a change in the store, the
//! postmaster's exit, the end of a job, a request of the API, a signal, the
//! time. `loop_wait` is only the longest sleep.

use super::server::Server;
use super::signals::{Signals, Wish};
use super::{Daemon, Origin, start};
use crate::api::published::{ApiContext, Command, Published};
use crate::api::{self, client::Peers};
use crate::beat::{Report, World, beat};
use crate::clock;
use crate::config::Settings;
use crate::dcs::Store;
use crate::dcs::etcd::EtcdStore;
use crate::dcs::keys::Keys;
use crate::dcs::mirror::{Change, Changes, Mirror};
use crate::deadman::Deadman;
use crate::ha::observation::{Asked, Job, Lock, Memory};
use crate::ha::{Action, Decision, Observation, Outcome};
use crate::{notify, region};
use anyhow::Context;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use topology::{Dynamic, Group};

/// One call to the store may take this long: well below the lock's ttl, so
/// that a frozen store leaves time to fence.
pub(super) const STORE_CALL: Duration = Duration::from_secs(3);
const COMMANDS_MAX: usize = 64;
/// So much longer than its leader a follower sleeps.
const FOLLOWER_YIELDS_MS: u64 = 500;

/// Requests whose answer comes when the action is over.
pub(super) use crate::api::published::Reply;

/// Runs until the daemon is told to end; gives the exit code.
pub async fn run(settings: Settings, origin: Origin) -> anyhow::Result<i32> {
    let settings = Arc::new(settings);
    let mut signals = Signals::catch()?;
    let store: Arc<dyn Store> = Arc::new(EtcdStore::new(&settings.store, STORE_CALL)?);
    let keys = Keys::of(&settings);
    let server = Server::new(settings.clone())?;
    let group = tokio::select! {
        group = start::await_store(&*store, &keys, start::STORE_AGAIN, || server.may_run()) => group?,
        () = signals.end() => return Ok(0),
    };
    if let Some(group) = &group {
        let told = start::refuse_namesake(&settings, &Peers::new(&settings)?, group).await;
        told.map_err(anyhow::Error::msg)?;
    }
    let (mut daemon, mut commands) = Daemon::set_up(settings, store, keys, server).await?;
    daemon.name_proven = group.is_some();
    notify::ready();
    let code = daemon.live(&mut signals, &mut commands, &origin).await;
    notify::stopping();
    daemon.farewell().await;
    Ok(code)
}

/// A coordinator sees all groups; others their own and the topology.
fn prefixes(keys: &Keys) -> Vec<String> {
    match keys.group {
        Group(Some(number)) if number > 0 => vec![keys.group_prefix(), keys.topology_prefix()],
        _ => vec![keys.scope_prefix()],
    }
}

impl Daemon {
    async fn set_up(
        settings: Arc<Settings>,
        store: Arc<dyn Store>,
        keys: Keys,
        mut server: Server,
    ) -> anyhow::Result<(Daemon, mpsc::Receiver<Command>)> {
        let mirror = Mirror::spawn(store.clone(), prefixes(&keys));
        let changes = mirror.subscribe();
        server.end_leftovers().await;
        let dynamic = server.first_dynamic();
        let settings = Arc::new(settings.with_cluster_wide_at_start(&dynamic.raw).0);
        server.take_settings(settings.clone());
        let (published, published_in) = watch::channel(Arc::new(unborn(&settings, &dynamic)));
        let (commands_out, commands) = mpsc::channel(COMMANDS_MAX);
        let lease_out = watch::Sender::new(None);
        let holds_lock_out = watch::Sender::new(false);
        let data_dir = &settings.postgresql.data_dir;
        let failsafe = super::failsafe::Keeper::new(data_dir, &settings.name, dynamic.ttl_ms);
        let decisions: super::Decisions = Arc::new(Mutex::new(Default::default()));
        let shown = decisions.clone();
        let context = ApiContext {
            settings: settings.clone(),
            store: store.clone(),
            keys: keys.clone(),
            published: published_in,
            commands: commands_out,
            fresh: Arc::new(server.fresh()),
            failsafe: failsafe.desk.clone(),
            decisions: Arc::new(move || {
                let kept = shown.lock().unwrap_or_else(|e| e.into_inner());
                serde_json::Value::Array(kept.iter().cloned().collect())
            }),
            now: clock::now,
        };
        let api = api::serve(context).await.context("the REST API cannot start")?;
        if settings.topology.is_some() {
            region::spawn(region::RegionContext {
                settings: settings.clone(),
                store: store.clone(),
                keys: keys.clone(),
                lease: lease_out.subscribe(),
                holds_lock: holds_lock_out.subscribe(),
            });
        }
        let daemon = Daemon {
            peers: Peers::new(&settings)?,
            deadman: Deadman::spawn(server.finder()).context("the guard thread cannot start")?,
            watchdog: crate::watchdog::Watchdog::new(settings.watchdog.clone()),
            memory: Memory { started: clock::now(), ..Memory::default() },
            settings,
            store,
            keys,
            mirror,
            changes,
            server,
            background: Default::default(),
            disk: Default::default(),
            lease: Default::default(),
            held: false,
            dynamic,
            chores: Default::default(),
            failsafe,
            callbacks: super::callback::Callbacks::new(),
            metadata: Default::default(),
            last_leader: None,
            epoch: None,
            decisions,
            published,
            lease_out,
            holds_lock_out,
            replies: Vec::new(),
            last_rule: 0,
            was_paused: false,
            scheduled_in: None,
            heartbeat: Default::default(),
            name_proven: false,
            api: Arc::new(tokio::sync::Mutex::new(api)),
            restart_plan: None,
            restart_in: None,
        };
        Ok((daemon, commands))
    }

    async fn live(
        &mut self,
        signals: &mut Signals,
        commands: &mut mpsc::Receiver<Command>,
        origin: &Origin,
    ) -> i32 {
        loop {
            if let Some(code) = self.prove_name().await {
                return code;
            }
            let report = beat(self).await;
            // What was seen is told first, for the chores may take long, and what
            // they have learned behind them.
            self.publish(&report);
            self.keep_up(&report).await;
            self.publish(&report);
            self.log_heartbeat(&report);
            if let Some(code) = report.exit {
                tracing::info!("{}", report.why);
                return code;
            }
            let sleep = self.longest_sleep(&report);
            let mut closing = self.server.watch_closing();
            let mut quiet = self.server.watch_quiet();
            let stops = report.seen.job.as_ref().is_some_and(|running| running.closed.is_none());
            let leads = report.seen.holds_lock();
            let is_loud = stops && !self.server.is_quiet();
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = changed(&mut self.changes, leads) => {}
                () = self.background.over() => {}
                round = self.metadata.over() => self.take_round(round).await,
                () = self.server.ended() => {}
                () = self.chores.checkpoint.over() => {}
                _ = closing.wait_for(Option::is_some), if stops => {}
                _ = quiet.wait_for(|quiet| *quiet), if is_loud => {}
                command = commands.recv() => self.take(command, origin).await,
                wish = signals.next() => match wish {
                    Wish::End => self.begin_to_end(),
                    Wish::Reload => self.reload(origin).await,
                },
            }
        }
    }

    fn longest_sleep(&self, report: &Report) -> Duration {
        let longest = self.dynamic.loop_wait_ms + yielded_ms(&report.seen.lock);
        let mut ms = report.at_most_ms.unwrap_or(u64::MAX).min(longest);
        if let Some(until) = report.seen.relied_until() {
            let fence = until.since(clock::now() + self.dynamic.fence_budget_ms());
            ms = ms.min(fence.max(20));
        }
        let scheduled = self.scheduled_in.into_iter().chain(self.restart_in).min();
        ms = ms.min(scheduled.unwrap_or(u64::MAX)).min(self.disk.again_ms());
        let due = self.memory.lease_renewed + longest;
        let again = self.memory.lease_tried + crate::ha::facts::RENEW_RETRY_MS;
        ms = ms.min(due.max(again).since(clock::now()).max(20));
        Duration::from_millis(ms)
    }

    /// What is left to do, the next beats decide.
    fn begin_to_end(&mut self) {
        if !self.memory.stopping {
            tracing::info!("the daemon was told to end");
            notify::stopping();
        }
        self.memory.stopping = true;
    }

    async fn take(&mut self, command: Option<Command>, origin: &Origin) {
        match command {
            Some(Command::Wake) | None => {}
            Some(Command::Reload) => self.reload(origin).await,
            Some(Command::Restart { limit, reply }) => {
                self.ask(Asked::Restart, reply);
                self.memory.start_limit_ms = limit.map(|limit| limit.as_millis() as u64);
            }
            Some(Command::ScheduleRestart { request, reply }) => {
                let _ = reply.send(self.schedule_restart(*request));
            }
            Some(Command::ForgetRestart { reply }) => {
                let _ = reply.send(self.forget_restart());
            }
            Some(Command::Reinitialize { from_leader, force, reply }) => {
                let asked = self.ask_reinitialize(from_leader, force).await;
                let _ = reply.send(asked);
            }
            // What the event tells is in the store as well, which is watched.
            Some(Command::CitusEvent(_)) => {}
        }
    }

    fn ask(&mut self, what: Asked, reply: Reply) {
        if let Some(running) = self.background.running() {
            let text = format!("{} already in progress", running.job.title());
            let _ = reply.send(Err(text));
            return;
        }
        if let Some(asked) = self.memory.asked {
            let _ = reply.send(Err(format!("{} already in progress", asked.title())));
            return;
        }
        self.memory.asked = Some(what);
        self.replies.push((what, reply));
    }

    /// Answers when it is sure to begin; how it goes on is the member's state.
    async fn ask_reinitialize(&mut self, from_leader: bool, force: bool) -> Result<String, String> {
        if self.held {
            return Err("I am the leader, can not reinitialize".into());
        }
        if let Some(running) = self.background.running() {
            // Half a rewind is worse than what was there before.
            let may_cancel = !matches!(running.job, Job::Rewind { .. });
            if !(force && may_cancel) {
                return Err(format!("{} already in progress", running.job.title()));
            }
            self.cancel().await;
        }
        self.memory.asked = Some(match from_leader {
            true => Asked::ReinitializeFromLeader,
            false => Asked::Reinitialize,
        });
        for (_, reply) in std::mem::take(&mut self.replies) {
            let _ = reply.send(Err("reinitialize already in progress".into()));
        }
        Ok("reinitialize started".into())
    }

    /// Whoever asked for the job that has just ended gets the answer.
    pub(super) fn answer_restart(&mut self, job: &Job, result: &Result<(), String>) {
        let Job::Restart { .. } = job else { return };
        let ended = Asked::Restart;
        for (what, reply) in std::mem::take(&mut self.replies) {
            if what != ended {
                self.replies.push((what, reply));
                continue;
            }
            let answer = match result {
                Ok(()) => Ok("restarted successfully".to_string()),
                Err(why) if why == super::work::STILL_STARTING => Err(why.clone()),
                Err(why) => Err(format!("restart failed: {why}")),
            };
            let _ = reply.send(answer);
        }
    }

    /// Ends what the store knows of this process.
    async fn farewell(&mut self) {
        self.callbacks.farewell().await;
        if self.dynamic.pause {
            self.watchdog.rest();
        }
        if let Some(lease) = self.lease.id
            && !self.dynamic.pause
            && !self.held
        {
            // The record goes with the lease in a ttl; until then it says so.
            let _ = self.store.renew(lease).await;
        }
    }
}

impl World for Daemon {
    async fn observe(&mut self) -> Observation {
        self.look().await
    }

    async fn act(&mut self, action: &Action, seen: &Observation) -> Outcome {
        self.carry_out(action, seen).await
    }

    async fn look_again(
        &mut self,
        seen: Observation,
        action: &Action,
        outcome: &Outcome,
    ) -> Observation {
        self.look_after(seen, action, outcome).await
    }

    fn note(&mut self, decision: &Decision, outcome: Option<&Outcome>) {
        let changed = std::mem::replace(&mut self.last_rule, decision.rule) != decision.rule;
        match outcome {
            Some(Outcome::Failed(why)) => tracing::error!("{}: {why}", decision.why),
            Some(_) if decision.rule == crate::ha::gate::RENEW => {
                tracing::debug!("rule {}: {}", decision.rule, decision.why);
                return;
            }
            Some(outcome) => {
                tracing::info!("rule {}: {} -> {outcome:?}", decision.rule, decision.why);
            }
            // The heartbeat's line says the same.
            None if changed && decision.why.starts_with("no action") => {
                tracing::debug!("rule {}: {}", decision.rule, decision.why);
            }
            None if changed => tracing::info!("rule {}: {}", decision.rule, decision.why),
            None => return,
        }
        self.remember(serde_json::json!({
            "at": clock::unix_ms(),
            "rule": decision.rule,
            "why": decision.why,
            "step": format!("{:?}", decision.step),
            "outcome": outcome.map(|o| format!("{o:?}")),
        }));
    }
}

/// A follower beats when its leader has reported; by itself only if that does
/// not come.
fn yielded_ms(lock: &Lock) -> u64 {
    if matches!(lock, Lock::Other(_)) { FOLLOWER_YIELDS_MS } else { 0 }
}

/// Waits for a change that somebody else made and that matters here.
async fn changed(changes: &mut Changes, leads: bool) {
    loop {
        match changes.next().await {
            Some(change) if wakes(&change, leads) => return,
            Some(_) => {}
            // The mirror lives as long as the daemon.
            None => std::future::pending().await,
        }
    }
}

/// A leader's report wakes its followers, whose slots go by it. Whoever leads
/// has nothing to learn from one.
fn wakes(change: &Change, leads: bool) -> bool {
    let is_report = |key: &String| key.ends_with("/status") || key.ends_with("/optime/leader");
    match change {
        Change::Keys { own: true, .. } => false,
        Change::Keys { keys, .. } => !(leads && keys.iter().all(is_report)),
        Change::Missed => true,
    }
}

fn unborn(settings: &Settings, dynamic: &Dynamic) -> Published {
    Published {
        name: settings.name.clone(),
        scope: settings.scope.clone(),
        state: topology::MemberState::Stopped,
        role: topology::MemberRole::Uninitialized,
        running: false,
        lock_until: None,
        monitor: None,
        view: None,
        groups: None,
        config: None,
        dcs_last_seen: 0,
        system_id: None,
        tags: settings.tags.clone(),
        pending_restart: None,
        scheduled_restart: None,
        paused: false,
        loop_wait_ms: dynamic.loop_wait_ms,
        ttl_ms: dynamic.ttl_ms,
        last_beat: clock::now(),
        standby_group: false,
        failsafe_until: None,
        failsafe: None,
        maximum_lag_on_failover: dynamic.maximum_lag_on_failover,
        watchdog_failed: false,
        disk_failed: false,
        log: Default::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::Millis;

    fn change(keys: &[&str], own: bool) -> Change {
        Change::Keys { keys: keys.iter().map(|key| format!("/service/shop/{key}")).collect(), own }
    }

    #[test]
    fn others_changes_wake_a_member_and_reports_only_those_who_follow() {
        for key in ["leader", "config", "failover", "sync", "members/n2", "history", "initialize"] {
            assert!(wakes(&change(&[key], false), true), "{key}");
            assert!(wakes(&change(&[key], false), false), "{key}");
            assert!(!wakes(&change(&[key], true), false), "own {key}");
        }
        for report in ["status", "optime/leader"] {
            assert!(wakes(&change(&[report], false), false));
            assert!(!wakes(&change(&[report], false), true));
        }
        assert!(wakes(&change(&["status", "leader"], false), true));
        assert!(wakes(&Change::Missed, true));
    }

    #[test]
    fn a_follower_waits_a_little_longer_than_its_leader() {
        let mine = Lock::Mine { renewed: Millis(1), deadline: Millis(2) };
        assert_eq!(yielded_ms(&mine), 0);
        assert_eq!((yielded_ms(&Lock::Free), yielded_ms(&Lock::Unknown)), (0, 0));
        assert_eq!(yielded_ms(&Lock::Other("n2".into())), FOLLOWER_YIELDS_MS);
    }

    /// The watch of the copy is what wakes: from a write by somebody else to the
    /// end of the sleep there is no poll.
    #[tokio::test]
    async fn a_leader_that_goes_wakes_a_follower_at_once() {
        use crate::dcs::memory::MemoryStore;
        use crate::dcs::{Op, Txn};
        let store = MemoryStore::new();
        let mirror = Mirror::spawn(Arc::new(store.client()), vec!["/service/shop/".into()]);
        mirror.ready(Duration::from_secs(5)).await.expect("a first read");
        let mut changes = mirror.subscribe();
        let put = |key: &str| Txn {
            when: vec![],
            then: vec![Op::Put { key: key.into(), value: "n1".into(), lease: None }],
        };
        store.txn_now(&put("/service/shop/leader")).expect("reachable");
        let woken = tokio::time::timeout(Duration::from_secs(5), changed(&mut changes, false));
        woken.await.expect("woken by the leader's key");
        store.txn_now(&put("/service/shop/status")).expect("reachable");
        let sleeps = tokio::time::timeout(Duration::from_millis(100), changed(&mut changes, true));
        assert!(sleeps.await.is_err(), "a leader's report woke a leader");
    }
}
