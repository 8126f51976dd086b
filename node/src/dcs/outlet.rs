//! The sending end of a watch.
//!
//! Invariant *a loss is always told*: the queue is bounded and its last place
//! is kept for `Lost`, so that a reader that is too slow learns that it missed
//! something. A watch has one sender, which makes counting places exact.

use super::{Event, WatchItem};
use tokio::sync::mpsc;

/// Batches that wait for a slow reader; one more and the watch is lost.
pub(super) const WATCH_BATCHES_MAX: usize = 1024;

pub(super) struct Outlet(mpsc::Sender<WatchItem>);

impl Outlet {
    pub(super) fn new() -> (Outlet, mpsc::Receiver<WatchItem>) {
        let (sender, receiver) = mpsc::channel(WATCH_BATCHES_MAX + 1);
        (Outlet(sender), receiver)
    }

    /// False: the reader is gone or too slow; close the outlet.
    pub(super) fn offer(&self, events: Vec<Event>) -> bool {
        self.0.capacity() > 1 && self.0.try_send(WatchItem::Events(events)).is_ok()
    }

    /// Says why the watch ends. A reader that has left is no loss.
    pub(super) fn close(self, reason: String) {
        let _ = self.0.try_send(WatchItem::Lost(reason));
    }

    /// Ends when the reader has left.
    pub(super) async fn abandoned(&self) {
        self.0.closed().await;
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_told_that_it_missed_something() {
        let (outlet, mut reader) = Outlet::new();
        let batches = (0..WATCH_BATCHES_MAX + 5).filter(|_| outlet.offer(Vec::new())).count();
        assert_eq!(batches, WATCH_BATCHES_MAX);
        outlet.close("the reader was too slow".to_string());
        for _ in 0..batches {
            assert!(matches!(reader.recv().await, Some(WatchItem::Events(_))));
        }
        assert!(matches!(reader.recv().await, Some(WatchItem::Lost(_))));
        assert!(reader.recv().await.is_none());
    }
}
