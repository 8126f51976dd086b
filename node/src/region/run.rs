//! Runs a daemon's agent: shows it what can be seen, performs what it wants done.
//!
//! Absent on purpose: any decision. What is written when, which wait ends how, and
//! when to look again is the machine's (`standby::switch::agent`).

use super::context::AgentContext;
use super::perform::Performer;
use crate::clock;
use standby::switch::agent::Agent;
use standby::switch::effect::{Answer, CallId};
use std::future::Future;
use std::time::Duration;
use tokio::task::JoinSet;
use topology::Millis;

/// What woke the agent.
enum Event {
    /// A change, or the time that it asked for.
    Wake,
    Answer(CallId, Answer),
}

/// Runs until it is aborted.
pub(crate) async fn run(context: AgentContext) {
    let mut agent = Agent::new(context.identity(), context.pace);
    let mut performer = Performer::new(context);
    let mut event = Event::Wake;
    loop {
        let sight = performer.sight();
        let effects = match event {
            Event::Wake => agent.wake(&sight),
            Event::Answer(id, answer) => agent.answer(&sight, id, answer),
        };
        performer.perform(effects);
        event = next(&mut performer, agent.wake_at()).await;
    }
}

/// Begins the agent anew if it ends by a panic: without it the region has no driver, and
/// the daemon's key would keep every other member from becoming the agent.
pub(crate) async fn supervised<F>(pause: Duration, mut begin: impl FnMut() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let mut running = JoinSet::new();
        running.spawn(begin());
        match running.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!("the region agent ended by a fault; it begins anew: {error}");
                tokio::time::sleep(pause).await;
            }
            _ => return,
        }
    }
}

async fn next(performer: &mut Performer, wake_at: Millis) -> Event {
    let sleep = Duration::from_millis(wake_at.since(clock::now()).max(1));
    tokio::select! {
        event = performer.next() => event.map_or(Event::Wake, |(id, answer)| Event::Answer(id, answer)),
        () = tokio::time::sleep(sleep) => Event::Wake,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn an_agent_that_panics_begins_anew() {
        static BEGUN: AtomicU32 = AtomicU32::new(0);
        supervised(Duration::from_millis(1), || async {
            let begun = BEGUN.fetch_add(1, Ordering::SeqCst);
            assert!(begun > 1, "the fault of this test");
        })
        .await;
        assert_eq!(BEGUN.load(Ordering::SeqCst), 3);
    }
}
