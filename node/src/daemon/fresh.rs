//! What the REST API asks PostgreSQL itself, on a connection of its own.
//!
//! A health check must not wait for a beat, and a beat not for a health check. Where
//! the server is, and whether it is asked at all, is judged for each connection.

use crate::api::published::{Fresh, ServerStatus};
use crate::postgres::{Instance, Session, monitor};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

/// The application name of the API's connection, which the field knows.
const RESTAPI: &str = "Patroni restapi";

/// The API's own connection.
pub(super) struct FreshStatus {
    instance: watch::Receiver<Arc<Instance>>,
    session: tokio::sync::Mutex<Option<Session>>,
}

impl FreshStatus {
    /// `instance`: with its settings as they change.
    pub fn new(instance: watch::Receiver<Arc<Instance>>) -> FreshStatus {
        FreshStatus { instance, session: tokio::sync::Mutex::new(None) }
    }
}

impl Fresh for FreshStatus {
    fn status(&self) -> Pin<Box<dyn Future<Output = Option<ServerStatus>> + Send + '_>> {
        Box::pin(async move {
            let mut slot = self.session.lock().await;
            if !slot.as_ref().is_some_and(Session::is_usable) {
                let instance = self.instance.borrow().clone();
                *slot = Some(instance.session(RESTAPI).await.ok()?);
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
