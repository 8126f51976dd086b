//! What the REST API asks PostgreSQL itself, on a connection of its own.
//!
//! A health check must not wait for a beat, and a beat not for a health check.

use crate::api::published::{Fresh, ServerStatus};
use crate::postgres::{Session, Target, monitor};
use std::future::Future;
use std::pin::Pin;
use tokio::sync::watch;

/// The API's own connection.
pub(super) struct FreshStatus {
    target: watch::Receiver<Target>,
    session: tokio::sync::Mutex<Option<Session>>,
}

impl FreshStatus {
    /// `target`: how to connect, as it changes with the settings.
    pub fn new(target: watch::Receiver<Target>) -> FreshStatus {
        FreshStatus { target, session: tokio::sync::Mutex::new(None) }
    }
}

impl Fresh for FreshStatus {
    fn status(&self) -> Pin<Box<dyn Future<Output = Option<ServerStatus>> + Send + '_>> {
        Box::pin(async move {
            let mut slot = self.session.lock().await;
            if !slot.as_ref().is_some_and(Session::is_usable) {
                let target = self.target.borrow().clone();
                *slot = Some(Session::connect(&target).await.ok()?);
            }
            let answer = monitor::read_status(slot.as_ref().expect("just made")).await;
            match answer {
                Ok(status) => Some(status),
                Err(_) => {
                    *slot = None;
                    None
                }
            }
        })
    }
}
