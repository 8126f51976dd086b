//! The agent's copy of one region's store, and the wait for changes in any of them.

use super::ownership::read_site;
use crate::dcs::keys::Keys;
use crate::dcs::mirror::{Changes, Mirror};
use crate::dcs::{DcsError, Snapshot, Store};
use standby::switch::Site;
use standby::switch::effect::StoreCopy;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use topology::{Millis, Write};

/// One region's store with a copy of it.
pub(super) struct RegionStore {
    pub mirror: Mirror,
    keys: Keys,
    /// The copy as it was read last, for as long as it is the same.
    read: Mutex<Option<(Arc<Snapshot>, Arc<Site>)>>,
}

impl RegionStore {
    pub(super) fn open(store: Arc<dyn Store>, keys: &Keys) -> RegionStore {
        let mirror = Mirror::spawn(store, vec![keys.scope_prefix()]);
        RegionStore { mirror, keys: keys.clone(), read: Mutex::default() }
    }

    /// The copy; `None` before the first read.
    pub(super) fn copy(&self, now: Millis) -> Option<StoreCopy> {
        let view = self.mirror.snapshot()?;
        // Rounded down, so that the store never seems to have spoken later than it has.
        let ago = view.confirmed.elapsed().as_micros().div_ceil(1_000) as u64;
        let site = self.site(&view.snapshot);
        Some(StoreCopy { site, is_live: !view.lost, heard: now - ago })
    }

    fn site(&self, snapshot: &Arc<Snapshot>) -> Arc<Site> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = read.take().filter(|(of, _)| Arc::ptr_eq(of, snapshot));
        let fresh = || (snapshot.clone(), Arc::new(read_site(&self.keys, &snapshot.entries)));
        read.insert(known.unwrap_or_else(fresh)).1.clone()
    }

    /// Reads the store now, linearizably.
    pub(super) async fn read(&self) -> Result<Site, DcsError> {
        let read = self.mirror.refresh().await?;
        Ok(read_site(&self.keys, &read.entries))
    }

    /// Writes, and shows the write in the copy at once. False: a condition did
    /// not hold, look again.
    pub(super) async fn write(&self, write: &Write) -> Result<bool, DcsError> {
        Ok(self.mirror.write(&self.keys, write).await?.succeeded)
    }
}

/// Any change in any of these copies.
pub(super) struct Changed {
    feeds: Vec<Changes>,
}

impl Changed {
    pub(super) fn of<'a>(mirrors: impl Iterator<Item = &'a Mirror>) -> Changed {
        Changed { feeds: mirrors.map(Mirror::subscribe).collect() }
    }

    /// Cancelling loses nothing.
    pub(super) async fn next(&mut self) {
        first_of(self.feeds.iter_mut().map(|feed| Box::pin(changed(feed))).collect()).await;
    }
}

/// A copy that ended tells of nothing any more.
async fn changed(feed: &mut Changes) {
    if feed.next().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// The first answer; the others are dropped. Without any, there is none.
async fn first_of<F: Future>(mut waits: Vec<Pin<Box<F>>>) -> F::Output {
    std::future::poll_fn(move |cx| {
        let answers = waits.iter_mut().map(|wait| wait.as_mut().poll(cx));
        answers.into_iter().find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}
