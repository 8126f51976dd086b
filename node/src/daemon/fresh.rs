//! What the REST API asks PostgreSQL itself, on a connection of its own.
//!
//! A health check must not wait for a beat, and a beat not for a health check.

use crate::api::published::Fresh;
use crate::postgres::monitor::{self, Monitor};
use crate::postgres::{Session, Target};
use tokio::sync::watch;

/// The API's own connection.
pub(super) struct FreshMonitor {
    target: watch::Receiver<Target>,
    session: tokio::sync::Mutex<Option<Session>>,
}

impl FreshMonitor {
    /// `target`: how to connect, as it changes with the settings.
    pub fn new(target: watch::Receiver<Target>) -> FreshMonitor {
        FreshMonitor { target, session: tokio::sync::Mutex::new(None) }
    }
}

impl Fresh for FreshMonitor {
    fn monitor(
        &self,
    ) -> std::pin::Pin<Box<dyn std::future::Future<Output = Option<Monitor>> + Send + '_>> {
        Box::pin(async move {
            let mut slot = self.session.lock().await;
            if !slot.as_ref().is_some_and(Session::is_usable) {
                let target = self.target.borrow().clone();
                *slot = Some(Session::connect(&target).await.ok()?);
            }
            let answer = monitor::read(slot.as_ref().expect("just made")).await;
            match answer {
                Ok(monitor) => Some(monitor),
                Err(_) => {
                    *slot = None;
                    None
                }
            }
        })
    }
}
