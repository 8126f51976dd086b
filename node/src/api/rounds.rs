//! Many callers, few queries.
//!
//! Elections compare positions, so an answer must not be older than its question.
//! The callers that came before a query was sent share its answer. While it runs, one
//! more is sent for those that have come since, so that server and callers do not
//! wait for each other in turn; those that come later share the next one. A caller
//! waits for three queries at most, however many others there are. A member that races
//! for the lock therefore does not wait behind load balancers and monitoring tools.
//!
//! Invariant *no older than the question*: a query takes its callers right before
//! it is sent, and none later.

use super::published::{Fresh, ServerStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a query may take, with its second try.
const QUERY_WAIT_MAX: Duration = Duration::from_secs(3);
/// Callers that wait for the next query; one more waits for its place among them.
const CALLERS_MAX: usize = 2_048;

/// How often other tasks go first while callers are gathered, some microseconds each.
const YIELDS_MAX: usize = 32;

/// Queries that run at the same time.
const QUERIES_MAX: usize = 2;

type Answer = Option<Arc<ServerStatus>>;
type Caller = oneshot::Sender<Answer>;

pub(crate) struct Rounds(mpsc::Sender<Caller>);

impl Rounds {
    /// Asks `server` for as long as this value lives.
    pub(crate) fn spawn(server: Arc<dyn Fresh>) -> Rounds {
        let (sender, callers) = mpsc::channel(CALLERS_MAX);
        let queue =
            Arc::new(Queue { callers: tokio::sync::Mutex::new(callers), last: Mutex::default() });
        for _ in 0..QUERIES_MAX {
            tokio::spawn(ask_in_rounds(server.clone(), queue.clone()));
        }
        Rounds(sender)
    }

    /// What a query says that is sent after this call.
    pub(crate) async fn ask(&self) -> Answer {
        let (tell, told) = oneshot::channel();
        self.0.send(tell).await.ok()?;
        told.await.ok().flatten()
    }
}

/// What the queries share that run at the same time.
struct Queue {
    callers: tokio::sync::Mutex<mpsc::Receiver<Caller>>,
    last: Mutex<Answer>,
}

async fn ask_in_rounds(server: Arc<dyn Fresh>, queue: Arc<Queue>) {
    let mut crowd = 0;
    loop {
        let callers = queue.next(crowd).await;
        if callers.is_empty() {
            return;
        }
        let answer = tokio::time::timeout(QUERY_WAIT_MAX, ask(&*server)).await.ok().flatten();
        let answer = queue.shared(answer);
        // Those that may ask again.
        crowd = callers.len();
        for caller in callers {
            // It may have gone.
            let _ = caller.send(answer.clone());
        }
    }
}

impl Queue {
    /// The callers that the next query is sent for; none once no further caller can arrive.
    async fn next(&self, crowd: usize) -> Vec<Caller> {
        let mut waiting = self.callers.lock().await;
        let mut callers = Vec::new();
        if waiting.recv_many(&mut callers, CALLERS_MAX).await > 0 {
            gather(&mut waiting, &mut callers, crowd).await;
        }
        callers
    }

    /// One value for answers that say the same: what is made from it need not be made
    /// anew.
    fn shared(&self, answer: Option<ServerStatus>) -> Answer {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != answer.as_ref() {
            *last = answer.map(Arc::new);
        }
        last.clone()
    }
}

/// Callers that ask again and again come back a moment after their answer: the query
/// is better sent for all of them than for half of them at a time. One that is alone
/// is not kept waiting.
async fn gather<T>(waiting: &mut mpsc::Receiver<T>, callers: &mut Vec<T>, crowd: usize) {
    for _ in 0..YIELDS_MAX {
        if callers.len() >= crowd {
            return;
        }
        tokio::task::yield_now().await;
        while let Ok(caller) = waiting.try_recv() {
            callers.push(caller);
        }
    }
}

/// A failed query is tried once more: a server that was restarted has closed the
/// connection.
async fn ask(server: &dyn Fresh) -> Option<ServerStatus> {
    match server.status().await {
        Some(status) => Some(status),
        None => server.status().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::primary;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use topology::Lsn;

    /// Its position is the number of the query, as of its beginning.
    #[derive(Default)]
    struct Counting {
        sent: AtomicU64,
        fails: AtomicBool,
    }

    impl Fresh for Counting {
        fn status(&self) -> Pin<Box<dyn Future<Output = Option<ServerStatus>> + Send + '_>> {
            Box::pin(async move {
                let number = self.sent.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
                let fails = self.fails.swap(false, Ordering::SeqCst);
                let flushed = Some(Lsn(number));
                (!fails).then(|| ServerStatus { flushed, ..primary() })
            })
        }
    }

    fn position(answer: Answer) -> u64 {
        answer.and_then(|status| status.flushed).map_or(0, |lsn| lsn.0)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn b4_callers_share_queries_that_were_sent_after_they_came() {
        let server = Arc::new(Counting::default());
        let rounds = Arc::new(Rounds::spawn(server.clone()));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let (server, rounds) = (server.clone(), rounds.clone());
            callers.spawn(async move {
                for _ in 0..20 {
                    let before = server.sent.load(Ordering::SeqCst);
                    let answer = position(rounds.ask().await);
                    let after = server.sent.load(Ordering::SeqCst);
                    assert!(answer > before, "query {answer} was sent before the call");
                    assert!(answer <= after);
                }
            });
        }
        callers.join_all().await;
        let sent = server.sent.load(Ordering::SeqCst);
        assert!(sent < 600, "{sent} queries for 6,000 calls");
    }

    #[tokio::test]
    async fn answers_that_say_the_same_are_one_value() {
        struct Same;
        impl Fresh for Same {
            fn status(&self) -> Pin<Box<dyn Future<Output = Option<ServerStatus>> + Send + '_>> {
                Box::pin(async { Some(primary()) })
            }
        }
        let rounds = Rounds::spawn(Arc::new(Same));
        let (one, two) = (rounds.ask().await, rounds.ask().await);
        assert!(Arc::ptr_eq(&one.expect("an answer"), &two.expect("an answer")));
        let rounds = Rounds::spawn(Arc::new(Counting::default()));
        assert_eq!([position(rounds.ask().await), position(rounds.ask().await)], [1, 2]);
    }

    #[tokio::test]
    async fn b4_a_failed_query_is_tried_once_more_and_a_server_that_hangs_is_left() {
        let server = Arc::new(Counting::default());
        server.fails.store(true, Ordering::SeqCst);
        let rounds = Rounds::spawn(server.clone());
        assert_eq!(position(rounds.ask().await), 2);

        struct Silent;
        impl Fresh for Silent {
            fn status(&self) -> Pin<Box<dyn Future<Output = Option<ServerStatus>> + Send + '_>> {
                Box::pin(std::future::pending())
            }
        }
        let rounds = Rounds::spawn(Arc::new(Silent));
        let answer = tokio::time::timeout(3 * QUERY_WAIT_MAX, rounds.ask()).await;
        assert_eq!(answer.expect("an end of the wait"), None);
    }
}
