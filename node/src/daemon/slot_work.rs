//! Work on logical slots, beside the beats: making them, moving copies, asking the leader.
//!
//! What is begun, and what its end means, the machine decides. Each piece of work has a
//! connection of its own, in the database of its slot, and a limit.
//!
//! Invariant: the end of every piece that was begun is told, also of one that was ended before
//! its time.

use crate::postgres::{Error, Instance, Session, slots};
use member::ha::observation::Following;
use member::{SlotEnd, SlotFailure};
use standby::slots::{Slot, SlotStep};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::AbortHandle;

/// How these sessions are known in pg_stat_activity.
const NAME: &str = "Matriarch slot work";
/// Making a slot waits for all transactions that run; moving one may decode much WAL.
const LIMIT: Duration = Duration::from_secs(600);

/// How often a primary is asked for its transactions.
const SNAPSHOT_PACE: Duration = Duration::from_secs(1);

type Ended = Result<Vec<Slot>, SlotFailure>;

#[derive(Default)]
pub(super) struct SlotWork {
    running: Vec<Running>,
}

struct Running {
    step: SlotStep,
    told: oneshot::Receiver<Ended>,
    task: AbortHandle,
}

impl SlotWork {
    /// `over` is told when it has ended.
    pub(super) fn begin(
        &mut self,
        step: SlotStep,
        over: Arc<Notify>,
        work: impl Future<Output = Ended> + Send + 'static,
    ) {
        let (tell, told) = oneshot::channel();
        let task = tokio::spawn(async move {
            // The receiver lives until the end was taken.
            let _ = tell.send(work.await);
            over.notify_one();
        });
        self.running.push(Running { step, told, task: task.abort_handle() });
    }

    /// What has ended since this was asked last.
    pub(super) fn take_ended(&mut self) -> Vec<SlotEnd> {
        let mut ended = Vec::new();
        self.running.retain_mut(|running| {
            let result = match running.told.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Closed) => Err(failure("it was ended before its time".into())),
            };
            ended.push(SlotEnd { step: running.step.clone(), result });
            false
        });
        ended
    }

    /// Ends all of it here and in the server, and then drops these slots.
    pub(super) async fn end(
        &mut self,
        session: Option<&Session>,
        drops: &[String],
    ) -> Result<(), String> {
        for running in &self.running {
            running.task.abort();
        }
        let session = session.ok_or("PostgreSQL does not answer")?;
        slots::end_sessions(session, NAME).await.map_err(|error| error.with_causes())?;
        let mut ended = Ok(());
        for name in drops {
            // One that cannot be dropped keeps no other from it.
            let dropped = slots::drop(session, name).await.map_err(|error| error.with_causes());
            ended = ended.and(dropped);
        }
        ended
    }
}

fn failure(why: String) -> SlotFailure {
    SlotFailure { why, copy_again: false }
}

fn failed(error: Error) -> SlotFailure {
    let full = "; all of max_replication_slots are in use: raise it";
    let hint = if slots::is_full(&error) { full } else { "" };
    failure(format!("{}{hint}", error.with_causes()))
}

/// One piece of work on the own server, or on `leader`.
pub(super) async fn work(
    instance: Arc<Instance>,
    step: SlotStep,
    leader: Option<Following>,
) -> Ended {
    let none = |()| Vec::new();
    match step {
        SlotStep::CreateLogical { name, database, plugin, failover } => {
            let session = instance.long_session(&database, NAME, LIMIT).await.map_err(failed)?;
            create(&session, &name, &plugin, failover).await.map(none)
        }
        SlotStep::CreateOnStandby { name, database, plugin } => {
            let leader = leader.ok_or_else(|| failure("no member leads".into()))?;
            let session = instance.long_session(&database, NAME, LIMIT).await.map_err(failed)?;
            tokio::select! {
                made = create(&session, &name, &plugin, false) => made.map(none),
                never = show_transactions(&instance, &leader) => match never {},
            }
        }
        SlotStep::AdvanceLogical { name, database, to } => {
            let session = instance.long_session(&database, NAME, LIMIT).await.map_err(failed)?;
            let done = slots::advance_logical(&session, &name, to).await;
            done.map(none).map_err(|error| {
                let copy_again = slots::is_useless(&error);
                SlotFailure { copy_again, ..failed(error) }
            })
        }
        SlotStep::SetFailover { name } => {
            instance.set_failover(&name).await.map(none).map_err(failed)
        }
        SlotStep::AskLeader => {
            let leader = leader.ok_or_else(|| failure("no member leads".into()))?;
            slots_of(&instance, &leader).await.map_err(failed)
        }
        other => Err(failure(format!("this is done within a beat: {other}"))),
    }
}

/// A slot of a standby begins where the primary's log shows which transactions run. The
/// primary writes that now and then, and sooner where its login may ask for it.
async fn show_transactions(instance: &Instance, leader: &Following) -> Infallible {
    loop {
        tokio::time::sleep(SNAPSHOT_PACE).await;
        let login = &instance.settings.rewind;
        let shown = async {
            let session = instance.peer(&leader.host, leader.port, login, NAME).await?;
            slots::log_snapshot(&session).await
        };
        if let Err(error) = shown.await {
            tracing::debug!("the leader does not write its transactions: {}", error.with_causes());
        }
    }
}

async fn create(
    session: &Session,
    name: &str,
    plugin: &str,
    failover: bool,
) -> Result<(), SlotFailure> {
    let allowed = slots::allowed_plugins(session).await.map_err(failed)?;
    if let Some(allowed) = allowed.filter(|allowed| !is_allowed(plugin, allowed)) {
        return Err(failure(format!(
            "the plugin `{plugin}` is not among output_plugin_libraries (`{allowed}`): add it there \
             with edit-config"
        )));
    }
    let done = match failover {
        true => slots::create_failover(session, name, plugin).await,
        false => slots::create_logical(session, name, plugin).await,
    };
    done.map_err(failed)
}

/// Names with commas between them, in quotes or not.
fn is_allowed(plugin: &str, libraries: &str) -> bool {
    libraries.split(',').any(|name| name.trim().trim_matches('"') == plugin)
}

async fn slots_of(instance: &Instance, leader: &Following) -> Result<Vec<Slot>, Error> {
    let login = &instance.settings.rewind;
    let session = instance.peer(&leader.host, leader.port, login, NAME).await?;
    let slots = slots::of_primary(&session).await?;
    Ok(slots.iter().filter(|slot| !slot.temporary).map(|slot| slot.seen()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str) -> SlotStep {
        SlotStep::SetFailover { name: name.into() }
    }

    #[test]
    fn a_plugin_is_one_of_the_names() {
        assert!(is_allowed("pgoutput", "pgoutput, test_decoding"));
        assert!(is_allowed("test_decoding", "pgoutput, \"test_decoding\""));
        assert!(!is_allowed("wal2json", "pgoutput, test_decoding") && !is_allowed("a", ""));
    }

    #[tokio::test]
    async fn every_end_is_told_once() {
        let (mut work, over) = (SlotWork::default(), Arc::new(Notify::new()));
        work.begin(asked("a"), over.clone(), async { Ok(Vec::new()) });
        work.begin(asked("b"), over.clone(), std::future::pending());
        work.begin(asked("c"), over.clone(), async { panic!("a fault") });
        over.notified().await;
        tokio::task::yield_now().await;
        let mut ended = work.take_ended();
        assert!(work.end(None, &[]).await.is_err(), "the server does not answer");
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            ended.extend(work.take_ended());
        }
        let mut told: Vec<(String, bool)> =
            ended.iter().map(|end| (end.step.to_string(), end.result.is_ok())).collect();
        told.sort();
        let name = |name: &str| asked(name).to_string();
        assert_eq!(told, [(name("a"), true), (name("b"), false), (name("c"), false)]);
    }
}
