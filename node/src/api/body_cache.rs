//! The last body of an answer about this member, to be sent again while nothing
//! has changed.
//!
//! Load balancers ask by the thousand between two beats, and most of the work
//! of an answer is its text. It is made from what was published, what the
//! server answered, and of the clock no more than the two questions below; it is
//! the same text as long as these are the same.

use super::published::{Published, ServerStatus};
use super::status::{Facts, body};
use axum::body::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use topology::document::spaced;

#[derive(Default)]
pub(crate) struct BodyCache(Mutex<Option<Text>>);

/// It keeps what it was made from: no other value can take its place in memory.
struct Text {
    published: Arc<Published>,
    monitor: Option<Arc<ServerStatus>>,
    by_the_clock: (bool, bool),
    text: Bytes,
}

impl BodyCache {
    /// The body for `facts`, which are those of `published` and `monitor`.
    pub(crate) fn body(
        &self,
        facts: &Facts,
        published: &Arc<Published>,
        monitor: Option<&Arc<ServerStatus>>,
    ) -> Bytes {
        let by_the_clock = (facts.is_leader, facts.is_failsafe_active());
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref()
            && last.is_about(published, monitor)
            && last.by_the_clock == by_the_clock
        {
            return last.text.clone();
        }
        let text = Bytes::from(spaced(&body(facts)));
        let (published, monitor) = (published.clone(), monitor.cloned());
        *last = Some(Text { published, monitor, by_the_clock, text: text.clone() });
        text
    }
}

impl Text {
    fn is_about(&self, published: &Arc<Published>, monitor: Option<&Arc<ServerStatus>>) -> bool {
        let same = match (&self.monitor, monitor) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        same && Arc::ptr_eq(&self.published, published)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::facts;
    use crate::api::tests::{primary, published};
    use topology::Millis;

    fn cached(
        cache: &BodyCache,
        published: &Arc<Published>,
        monitor: &Arc<ServerStatus>,
        now: u64,
    ) -> Bytes {
        let facts = facts(published, Some(monitor), Millis(now));
        let text = cache.body(&facts, published, Some(monitor));
        assert_eq!(text, spaced(&body(&facts)), "at {now}");
        text
    }

    /// Whatever changes, the text is the one that would be made anew.
    #[test]
    fn a_body_is_sent_again_only_while_nothing_has_changed() {
        let cache = BodyCache::default();
        let mut state = published("n1");
        state.failsafe_until = Some(Millis(500));
        let (first, monitor) = (Arc::new(state.clone()), Arc::new(primary()));
        let before = cached(&cache, &first, &monitor, 100);
        assert_eq!(cached(&cache, &first, &monitor, 499).as_ptr(), before.as_ptr(), "made once");
        assert_ne!(cached(&cache, &first, &monitor, 500), before, "failsafe mode is over");

        let mut later = primary();
        later.flushed = later.flushed.map(|at| topology::Lsn(at.0 + 8));
        let grown = cached(&cache, &first, &Arc::new(later), 500);
        state.paused = true;
        assert_ne!(cached(&cache, &Arc::new(state), &monitor, 500), grown, "it pauses");
    }
}
