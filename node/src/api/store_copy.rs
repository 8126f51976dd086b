//! The store as this member's copy has it, with its age.
//!
//! Reading is free and comes in any number: it must not cost the store anything.
//! The copy follows the store's watch within milliseconds; `Age` says for how long
//! the store has said nothing. What an operator changes is judged on what the store
//! itself says (`look.rs`).
//!
//! Invariant *not back in time*: a caller that has changed something here, or was
//! told what the store says, is not shown an older state afterwards.

use super::answer::Answer;
use super::look::{Api, unavailable};
use super::scope_read::ScopeRead;
use crate::clock;
use crate::dcs::keys::split_groups;
use crate::dcs::{Snapshot, mirror::View};
use axum::http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use standby::switch::Site;
use std::sync::Arc;
use std::time::Duration;
use topology::GroupView;

/// How long an answer waits for what was written or read here a moment ago.
const CATCH_UP_MAX: Duration = Duration::from_millis(500);

pub(crate) struct StoreCopy {
    snapshot: Arc<Snapshot>,
    /// Time since the last answer of the store.
    age: Duration,
}

impl Api {
    /// `Err`: there is no copy, or the store was lost longer than a ttl ago.
    pub(crate) async fn store_copy(&self) -> Result<StoreCopy, Answer> {
        let Some(view) = self.caught_up().await else {
            return Err(unavailable("the configuration store cannot be used: no answer yet"));
        };
        let (age, ttl_ms) = (self.age(&view), self.published().ttl_ms);
        if view.lost && age > Duration::from_millis(ttl_ms) {
            let seconds = age.as_secs();
            let last = format!("its last answer came {seconds} seconds ago");
            return Err(unavailable(format!("the configuration store cannot be used: {last}")));
        }
        Ok(StoreCopy { snapshot: view.snapshot, age })
    }

    /// Every group of the scope. The copy of a Citus worker has its own group alone: the
    /// store is read instead, once in `READ_EVERY`, however many callers ask.
    pub(crate) async fn scope_copy(&self) -> Result<StoreCopy, Answer> {
        let prefix = self.context.keys.scope_prefix();
        if self.context.mirror.covers(&prefix) {
            return self.store_copy().await;
        }
        let mut last = self.last_scope_read.lock().await;
        let wanted = self.newest_shown.get();
        let read = match last.as_ref().filter(|read| read.serves(wanted)) {
            Some(read) => read.clone(),
            None => ScopeRead::of(&*self.context.store, prefix).await,
        };
        *last = Some(read.clone());
        let snapshot = read.outcome.map_err(unavailable)?;
        Ok(StoreCopy { snapshot, age: read.asked.elapsed() })
    }

    async fn caught_up(&self) -> Option<View> {
        let wanted = self.newest_shown.get();
        let mirror = &self.context.mirror;
        mirror.ready(CATCH_UP_MAX).await?;
        let mut changes = mirror.subscribe();
        let is_there = || mirror.snapshot().is_some_and(|view| view.snapshot.version >= wanted);
        let there = async { while !is_there() && changes.next().await.is_some() {} };
        let in_time = tokio::time::timeout(CATCH_UP_MAX, there).await.is_ok();
        let view = mirror.snapshot()?;
        if !in_time {
            // The store went back, or its watch is down: the next caller does not wait.
            self.newest_shown.lower(view.snapshot.version);
        }
        Some(view)
    }

    /// A renewal of the own lease is a word of the store too.
    fn age(&self, view: &View) -> Duration {
        let last_seen = Duration::from_secs(self.published().dcs_last_seen);
        let since = Duration::from_millis(clock::unix_ms()).saturating_sub(last_seen);
        view.confirmed.elapsed().min(since)
    }
}

impl StoreCopy {
    /// This region: all groups of the copy, and the keys below `topology/`.
    pub(crate) fn site(&self, api: &Api) -> Site {
        crate::region::ownership::read_site(&api.context.keys, &self.snapshot.entries)
    }

    /// The own group.
    pub(crate) fn group(&self, api: &Api) -> GroupView {
        let keys = &api.context.keys;
        let mut groups = split_groups(&keys.scope_prefix(), &self.snapshot.entries);
        groups.remove(&keys.group).unwrap_or_default()
    }

    /// One key as JSON; `None` also for what is no JSON.
    pub(crate) fn value(&self, key: &str) -> Option<Value> {
        let entry = self.snapshot.entries.iter().find(|entry| entry.key == key)?;
        serde_json::from_str(&entry.value).ok()
    }

    pub(crate) fn answer(&self, value: &Value) -> Answer {
        let mut answer = Answer::json(StatusCode::OK, value);
        answer.headers.push((header::AGE, HeaderValue::from(self.age.as_secs())));
        answer
    }
}
