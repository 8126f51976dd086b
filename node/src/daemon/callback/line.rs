//! One line of callbacks: the newest command runs, the one before is ended.
//!
//! Invariant: never two at once. A command that runs when the daemon ends goes
//! on without it.

use super::super::script::{LIMIT, Script};
use tokio::sync::watch;

/// One command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub command: String,
    /// Action, role and scope.
    pub words: Vec<String>,
}

/// Runs the newest call, and ends the one before.
pub(super) struct Line {
    newest: watch::Sender<(u64, Option<Call>)>,
    begun: watch::Receiver<u64>,
}

impl Line {
    pub(super) fn spawn() -> Line {
        let (newest, calls) = watch::channel((0, None));
        let (tell, begun) = watch::channel(0);
        tokio::spawn(serve(calls, tell));
        Line { newest, begun }
    }

    pub(super) fn call(&self, call: Call) {
        self.newest.send_modify(|newest| *newest = (newest.0 + 1, Some(call)));
    }

    pub(super) async fn has_begun(&mut self) {
        let wanted = self.newest.borrow().0;
        // Its task ends with this line only.
        let _ = self.begun.wait_for(|begun| *begun >= wanted).await;
    }
}

async fn serve(mut calls: watch::Receiver<(u64, Option<Call>)>, begun: watch::Sender<u64>) {
    while calls.changed().await.is_ok() {
        let (number, call) = calls.borrow_and_update().clone();
        let Some(call) = call else { continue };
        let script = Script::start(&call.command, &call.words).map(Script::unbound);
        begun.send_replace(number);
        match script {
            Ok(script) => attend(script, &call, &calls).await,
            Err(why) => tracing::error!("{}: {why}", call.words[0]),
        }
    }
}

/// Until it ends, its time is over or a newer one comes.
async fn attend(mut script: Script, call: &Call, calls: &watch::Receiver<(u64, Option<Call>)>) {
    let event = &call.words[0];
    // The next call is seen but not taken.
    let mut ahead = calls.clone();
    let newer = async {
        if ahead.changed().await.is_err() {
            // The daemon ends: this command goes on without it.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        status = script.wait() => return match status {
            Ok(status) if status.success() => tracing::debug!("{event}: done"),
            Ok(status) => tracing::warn!("{event}: `{}` ended with {status}", call.command),
            Err(error) => tracing::warn!("{event}: `{}`: {error}", call.command),
        },
        () = newer => tracing::info!("{event}: `{}` is ended for a newer event", call.command),
        () = tokio::time::sleep(LIMIT) => {
            tracing::warn!("{event}: `{}` was not done in {LIMIT:?} and is ended", call.command);
        }
    }
    script.end().await;
}
