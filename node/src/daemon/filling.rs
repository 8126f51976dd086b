//! One filling of the data directory, from its mark to its end.
//!
//! Invariant *half is not whole*: what is given up in the middle, for whatever
//! reason, is emptied, moved aside or left under its mark before any beat looks at
//! it. A daemon that is killed leaves the mark.

use super::work::text;
use crate::background::JobResult;
use crate::postgres::{Error, Instance, Permission};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How soon a tool's first files are written down in the mark, and how often later.
const NOTE_PACE: Duration = Duration::from_millis(50);
const NOTE_PACE_MAX: Duration = Duration::from_secs(2);

/// What becomes of a data directory whose making is given up.
#[derive(Clone, Copy)]
pub(super) enum Else {
    Empty,
    /// Kept for the next try of the same command, under its mark.
    Keep,
    /// Kept so that the operator can find the cause.
    MoveAside,
}

/// A data directory in the making, by this job alone.
pub(super) struct Filling {
    instance: Arc<Instance>,
    otherwise: Else,
    is_over: bool,
}

impl Filling {
    /// Marks the directory, which is empty or may be replaced.
    pub(super) fn begin(
        instance: &Arc<Instance>,
        what: &str,
        over: Option<&Permission>,
        otherwise: Else,
    ) -> Result<Filling, String> {
        instance.begin_fill(what, over).map_err(text)?;
        instance.close_empty().map_err(text)?;
        Ok(Filling { instance: instance.clone(), otherwise, is_over: false })
    }

    /// Does the work, and writes down what it puts there.
    pub(super) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut pace = NOTE_PACE;
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(pace) => self.note(),
            }
            pace = (pace * 2).min(NOTE_PACE_MAX);
        }
    }

    fn note(&self) {
        if let Err(error) = self.instance.note_fill() {
            tracing::warn!("{}", text(error));
        }
    }

    /// The data directory is complete.
    pub(super) fn finish(mut self) -> JobResult {
        self.is_over = true;
        self.instance.end_fill().map_err(text)
    }

    fn give_up(&self) -> Result<(), Error> {
        let Some(mark) = self.instance.fill_mark()? else { return Ok(()) };
        let permission = Permission::own_half(&mark);
        match self.otherwise {
            Else::Keep => return self.instance.note_fill(),
            Else::Empty => self.instance.empty_data(&permission)?,
            Else::MoveAside => {
                if let Err(error) = self.instance.move_made_data_aside(&permission) {
                    tracing::warn!("{}", text(error));
                    self.instance.empty_data(&permission)?;
                }
            }
        }
        self.instance.end_fill()
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = self.give_up()
        {
            tracing::error!("what is left of an unfinished data directory: {}", text(error));
        }
    }
}
