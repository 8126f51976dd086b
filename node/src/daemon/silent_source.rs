//! A member that is read from and has gone silent.
//!
//! A frozen machine keeps a connection open: a tool that reads from it would wait for
//! days. While no byte moves the source is asked over a connection of its own, and the
//! tool is ended when that is not answered either. A source that answers may take its
//! time, for a checkpoint before a base backup takes minutes.

use super::work::{Hands, text};
use crate::ha::observation::Following;
use crate::postgres::{Error, Instance};
use std::time::{Duration, Instant};

/// How often it is looked whether bytes move.
const PACE: Duration = Duration::from_secs(1);
/// After this long without new bytes, the source is asked whether it answers.
const STILL: Duration = Duration::from_secs(10);
/// Between two questions to a source from which nothing comes.
const ASKED_AGAIN: Duration = Duration::from_secs(3);
/// This many questions in a row without an answer end the tool.
const UNANSWERED_MAX: u32 = 4;
/// The connection is dead, whatever the source says. Before a base backup it writes a
/// checkpoint, which may be spread over `checkpoint_timeout`: a day at most.
const STALLED_MAX: Duration = Duration::from_secs(25 * 3600);

impl Hands {
    /// Runs a tool that reads from `from`; dropping `tool` ends its program.
    pub(super) async fn reading_from<T>(
        &self,
        from: &Following,
        tool: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, String> {
        tokio::select! {
            done = tool => done.map_err(text),
            why = until_silent(&self.instance, from) => Err(why),
        }
    }
}

/// Returns when the source is given up, and why.
async fn until_silent(instance: &Instance, from: &Following) -> String {
    let Following { host, port, .. } = from;
    let (mut moved, mut since, mut unanswered) = (None, Instant::now(), 0);
    loop {
        tokio::time::sleep(PACE).await;
        let now = instance.bytes_of_tools();
        if now != moved {
            (moved, since, unanswered) = (now, Instant::now(), 0);
            continue;
        }
        let still = since.elapsed();
        if still < STILL {
            continue;
        }
        if moved.is_some() && still >= STALLED_MAX {
            return format!("nothing has come from {host}:{port} for {still:.0?}");
        }
        match instance.peer_answers(host, *port).await {
            Ok(()) => unanswered = 0,
            Err(why) => {
                unanswered += 1;
                if unanswered >= UNANSWERED_MAX {
                    return format!(
                        "{host}:{port} is silent: nothing has come from it for {still:.0?}, and it \
                         does not answer: {}",
                        text(why)
                    );
                }
            }
        }
        tokio::time::sleep(ASKED_AGAIN).await;
    }
}
