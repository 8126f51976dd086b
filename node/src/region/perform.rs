//! The effects of an agent, performed on the stores of all regions and on servers.
//!
//! Every call is a task of its own with the deadline that the agent gave it; its end
//! is the agent's answer. A call that the agent ends is aborted, and what it holds is
//! dropped.
//!
//! Invariant: the copies show what an answer has brought before the agent gets it.

use super::context::AgentContext;
use super::group_servers::{GroupServers, Held};
use super::ownership;
use super::region_store::{Changed, RegionStore};
use crate::clock;
use crate::dcs::DcsError;
use crate::dcs::keys::Keys;
use crate::dcs::mirror::Mirror;
use standby::switch::Site;
use standby::switch::effect::{
    Answer, Call, CallId, Effect, LocalCopy, Severity, Sight, StoreCopy, StoreWrite,
};
use standby::switch::write;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use topology::{Millis, RegionName};

pub(super) struct Performer {
    context: AgentContext,
    ports: Ports,
    changed: Changed,
    /// Counts changes of copies, lease and lock.
    changes: u64,
    tasks: JoinSet<Finished>,
    open: BTreeMap<CallId, AbortHandle>,
    held: BTreeMap<CallId, Held>,
}

/// What a call needs.
#[derive(Clone)]
struct Ports {
    keys: Keys,
    /// Only `topology/` of the own store: most daemons never become the agent.
    local: Arc<Mirror>,
    /// All stores, while this daemon is the agent.
    stores: BTreeMap<RegionName, Arc<RegionStore>>,
    servers: Arc<dyn GroupServers>,
}

struct Finished {
    id: CallId,
    answer: Answer,
    held: Option<Held>,
}

impl Performer {
    pub(super) fn new(context: AgentContext) -> Performer {
        let prefix = vec![context.keys.topology_prefix()];
        let local = Arc::new(Mirror::spawn(context.store.clone(), prefix));
        let ports = Ports {
            keys: context.keys.clone(),
            local,
            stores: BTreeMap::new(),
            servers: context.servers.clone(),
        };
        Performer {
            changed: ports.changed(),
            context,
            ports,
            changes: 0,
            tasks: JoinSet::new(),
            open: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    pub(super) fn sight(&self) -> Sight {
        let now = clock::now();
        Sight {
            now,
            unix_ms: clock::unix_ms(),
            date: date(),
            session: *self.context.lease.borrow(),
            holds_lock: *self.context.holds_lock.borrow(),
            memory: self.context.memory.borrow().clone(),
            local: self.ports.local_copy(),
            copies: self.ports.copies(now),
            changes: self.changes,
        }
    }

    /// Waits for the end of a call, or for a change (`None`). Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Option<(CallId, Answer)> {
        loop {
            let AgentContext { lease, holds_lock: lock, memory, .. } = &mut self.context;
            let done = tokio::select! {
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => done,
                () = self.changed.next() => break,
                Ok(()) = lease.changed() => break,
                Ok(()) = lock.changed() => break,
                Ok(()) = memory.changed() => break,
            };
            if let Some(answer) = self.finish(done) {
                return Some(answer);
            }
        }
        self.changes += 1;
        None
    }

    /// The answer of a task; `None`: the agent has given the call up.
    fn finish(&mut self, done: Result<Finished, JoinError>) -> Option<(CallId, Answer)> {
        match done {
            Ok(Finished { id, answer, held }) => {
                self.open.remove(&id)?;
                self.held.extend(held.map(|held| (id, held)));
                Some((id, answer))
            }
            Err(error) if error.is_cancelled() => None,
            Err(error) => {
                let (id, _) = self.open.iter().find(|(_, task)| task.id() == error.id())?;
                let id = *id;
                self.open.remove(&id);
                Some((id, Answer::Failed(format!("a call of the agent panicked: {error}"))))
            }
        }
    }

    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Call { id, within_ms, call } => self.call(id, within_ms, call),
                Effect::End(id) => self.end(id),
                Effect::OpenCopies => self.open_copies(),
                Effect::CloseCopies => self.close_copies(),
                Effect::Log(severity, text) => log(severity, &text),
            }
        }
    }

    fn call(&mut self, id: CallId, within_ms: u64, call: Call) {
        let ports = self.ports.clone();
        let within = Duration::from_millis(within_ms);
        let task = self.tasks.spawn(async move {
            let ended = tokio::time::timeout(within, ports.perform(call)).await;
            let late = |_| (Answer::Failed(format!("no answer within {within:?}")), None);
            let (answer, held) = ended.unwrap_or_else(late);
            Finished { id, answer, held }
        });
        self.open.insert(id, task);
    }

    fn end(&mut self, id: CallId) {
        self.held.remove(&id);
        if let Some(task) = self.open.remove(&id) {
            task.abort();
        }
    }

    /// The copies begin with a read that comes after this.
    fn open_copies(&mut self) {
        let context = &self.context;
        let own = std::iter::once((&context.region, &context.store));
        let all = own.chain(&context.others);
        let open = |(name, store): (&RegionName, &Arc<_>)| {
            (name.clone(), Arc::new(RegionStore::open(Arc::clone(store), &context.keys)))
        };
        self.ports.stores = all.map(open).collect();
        self.follow();
    }

    fn close_copies(&mut self) {
        self.tasks.abort_all();
        self.open.clear();
        self.held.clear();
        self.ports.stores.clear();
        self.follow();
    }

    /// A feed that is new has told nothing yet: that counts as a change.
    fn follow(&mut self) {
        self.changed = self.ports.changed();
        self.changes += 1;
    }
}

impl Ports {
    fn changed(&self) -> Changed {
        let copies = self.stores.values().map(|store| &store.mirror);
        Changed::of(std::iter::once(&*self.local).chain(copies))
    }

    fn local_copy(&self) -> Option<LocalCopy> {
        let view = self.local.snapshot().filter(|view| !view.lost)?;
        let topology = ownership::read(&self.keys, &view.snapshot.entries);
        let site = Arc::new(Site { topology, ..Site::default() });
        Some(LocalCopy { site, version: view.snapshot.version })
    }

    fn copies(&self, now: Millis) -> BTreeMap<RegionName, StoreCopy> {
        let copy = |(name, store): (&RegionName, &Arc<RegionStore>)| {
            Some((name.clone(), store.copy(now)?))
        };
        self.stores.iter().filter_map(copy).collect()
    }

    async fn perform(self, call: Call) -> (Answer, Option<Held>) {
        let servers = &self.servers;
        let answer = match call {
            Call::Campaign { on, key, claim } => {
                let write = write::campaign(&on.topology, &key, claim);
                written(self.local.write(&self.keys, &write).await.map(|result| result.succeeded))
            }
            Call::Read(region) => self.read(&region).await,
            Call::Write(write) => self.write(&write).await,
            Call::Probe(target) => {
                answer(servers.probe(target).await, |probe| Answer::Probed(Box::new(probe)))
            }
            Call::Checkpoint(target) => answer(servers.checkpoint(target).await, |took| {
                Answer::Took(took.as_millis() as u64)
            }),
            Call::Hold { targets, limit_ms } => match servers.hold(targets, limit_ms).await {
                Ok(held) => return (Answer::Done, Some(held)),
                Err(why) => Answer::Failed(why),
            },
            Call::Replayed(target) => answer(servers.replayed(target).await, Answer::Replayed),
            Call::WakeReplay(target) => {
                answer(servers.wake_replay(target).await, |()| Answer::Done)
            }
        };
        (answer, None)
    }

    async fn read(&self, region: &RegionName) -> Answer {
        let Some(store) = self.stores.get(region) else { return unknown(region) };
        match store.read().await {
            Ok(site) => Answer::Read(Arc::new(site)),
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    async fn write(&self, write: &StoreWrite) -> Answer {
        let Some(store) = self.stores.get(&write.region) else {
            return unknown(&write.region);
        };
        if let Some(lost) = write::lost_schedule(write) {
            tracing::error!("{lost}");
        }
        match write::of_agent(write) {
            Some(write) => written(store.write(&write).await),
            None => Answer::NothingToWrite,
        }
    }
}

fn unknown(region: &RegionName) -> Answer {
    Answer::Failed(format!("there is no way to the store of region {region}"))
}

fn answer<T>(result: Result<T, String>, make: impl FnOnce(T) -> Answer) -> Answer {
    result.map_or_else(Answer::Failed, make)
}

fn written(result: Result<bool, DcsError>) -> Answer {
    match result {
        Ok(true) => Answer::Written,
        Ok(false) => Answer::Conflict,
        Err(error) => Answer::Failed(error.to_string()),
    }
}

fn log(severity: Severity, text: &str) {
    match severity {
        Severity::Debug => tracing::debug!("{text}"),
        Severity::Info => tracing::info!("{text}"),
        Severity::Warn => tracing::warn!("{text}"),
        Severity::Error => tracing::error!("{text}"),
    }
}

/// The date as it stands in certificates; for people, never compared.
fn date() -> String {
    jiff::ZonedDateTime::now().strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()
}
