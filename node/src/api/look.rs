//! What one request looks at: the last beat, the server, the store.
//!
//! Health checks come by the thousand: they use what a beat or another check
//! saw within the last second. Elections compare positions, so `/patroni` always
//! asks anew (`rounds.rs`).

use super::answer::Answer;
use super::auth::Gate;
use super::body_cache::BodyCache;
use super::health;
use super::published::{ApiContext, Command, Published, ServerStatus};
use super::rounds::Rounds;
use super::scope_read::{ScopeRead, cannot_be_used};
use super::status::may_query;
use crate::dcs::keys::split_groups;
use crate::dcs::{DcsError, KeyValue, Newest, Write};
use crate::peers::Peers;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;
use topology::{GroupView, Millis};

/// How old an answer of the monitoring query a health check may use.
const ANSWER_AGE_MS_MAX: u64 = 1_000;
/// How long the daemon's queue of commands may be full.
const COMMAND_WAIT_MAX: Duration = Duration::from_secs(5);

/// One running API.
pub(crate) struct Api {
    pub context: ApiContext,
    pub rules: RwLock<Arc<Rules>>,
    pub rounds: Rounds,
    pub last_answer: Mutex<Option<LastAnswer>>,
    pub last_scope_read: Mutex<Option<ScopeRead>>,
    /// The last body of a health check, and of `/patroni`.
    pub health_body: BodyCache,
    pub status_body: BodyCache,
    /// The newest version that a request was told of: the next caller is shown none
    /// that is older.
    pub newest_shown: Newest,
}

/// What the settings say about callers, and what a reload changes as a whole.
pub(crate) struct Rules {
    pub peers: Peers,
    pub gate: Gate,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What the server said to the last health check that asked it.
#[derive(Clone)]
pub(crate) struct LastAnswer {
    asked: Millis,
    /// The answer's age counts from here, so callers that wait behind a slow query share it.
    answered: Millis,
    monitor: Option<Arc<ServerStatus>>,
}

impl Api {
    pub(crate) fn published(&self) -> Arc<Published> {
        self.context.published.borrow().clone()
    }

    /// Those in force at this moment.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn now(&self) -> Millis {
        (self.context.now)()
    }

    /// Good enough for a health check.
    pub(crate) async fn recent_monitor(&self, published: &Published) -> Option<Arc<ServerStatus>> {
        if !may_query(published.state) {
            return None;
        }
        let young = |at| health::is_recent(at, self.now(), ANSWER_AGE_MS_MAX);
        if published.monitor.is_some() && young(published.last_beat) {
            return published.monitor.clone();
        }
        let mut last = self.last_answer.lock().await;
        if let Some(answer) = last.as_ref()
            && young(answer.answered)
            && answer.asked >= published.last_beat
        {
            return answer.monitor.clone();
        }
        let asked = self.now();
        let monitor = self.rounds.ask().await;
        let answered = self.now();
        *last = Some(LastAnswer { asked, answered, monitor: monitor.clone() });
        monitor
    }

    /// The answer of a query that is sent after this call.
    pub(crate) async fn fresh_monitor(&self, published: &Published) -> Option<Arc<ServerStatus>> {
        if may_query(published.state) { self.rounds.ask().await } else { None }
    }

    /// The own group, from the store, now.
    pub(crate) async fn read_group(&self) -> Result<GroupView, Answer> {
        let keys = &self.context.keys;
        let read = self.context.store.read(&[keys.group_prefix()]).await.map_err(away)?;
        self.note(&read.entries);
        let mut groups = split_groups(&keys.scope_prefix(), &read.entries);
        Ok(groups.remove(&keys.group).unwrap_or_default())
    }

    /// One key, from the store, now.
    pub(crate) async fn read_key(&self, key: &str) -> Result<Option<KeyValue>, Answer> {
        let read = self.context.store.read(&[key.to_string()]).await.map_err(away)?;
        self.note(&read.entries);
        Ok(read.entries.into_iter().find(|entry| entry.key == key))
    }

    /// Writes what was decided on what was read. `false`: another writer was first.
    pub(crate) async fn write(&self, write: &Write) -> Result<bool, Answer> {
        let (context, keys) = (&self.context, &self.context.keys);
        let written = context.store.write(keys, write).await.map_err(away)?;
        context.mirror.apply(keys, write, written);
        Ok(written.succeeded)
    }

    fn note(&self, read: &[KeyValue]) {
        let newest = read.iter().map(|entry| entry.version).max();
        self.newest_shown.raise(newest.unwrap_or_default());
    }

    /// Makes the daemon run a beat now. A full queue will wake it too.
    pub(crate) fn wake(&self) {
        let _ = self.context.commands.try_send(Command::Wake);
    }

    pub(crate) async fn send(&self, command: Command) -> Result<(), Answer> {
        let sent = self.context.commands.send_timeout(command, COMMAND_WAIT_MAX).await;
        sent.map_err(|_| unavailable("the daemon is busy or ends; try again"))
    }
}

pub(super) fn unavailable(text: impl Into<String>) -> Answer {
    Answer::text(StatusCode::SERVICE_UNAVAILABLE, text)
}

fn away(error: DcsError) -> Answer {
    unavailable(cannot_be_used(&error))
}
