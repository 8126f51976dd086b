//! Runs a daemon's agent: shows it what can be seen, performs what it wants done.
//!
//! Absent on purpose: any decision. What is written when, which wait ends how, and
//! when to look again is the machine's (`standby::switch::agent`).

use super::context::AgentContext;
use super::perform::Performer;
use crate::clock;
use standby::switch::agent::Agent;
use standby::switch::effect::{Answer, CallId};
use std::time::Duration;
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

async fn next(performer: &mut Performer, wake_at: Millis) -> Event {
    let sleep = Duration::from_millis(wake_at.since(clock::now()).max(1));
    tokio::select! {
        event = performer.next() => event.map_or(Event::Wake, |(id, answer)| Event::Answer(id, answer)),
        () = tokio::time::sleep(sleep) => Event::Wake,
    }
}
