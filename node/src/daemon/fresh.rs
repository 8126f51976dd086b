//! What the REST API asks PostgreSQL itself, on a connection of its own.
//!
//! A health check must not wait for a beat, and a beat not for a health check. Where
//! the server is, and whether it is asked at all, is judged for each connection.

use crate::api::published::{Fresh, ServerStatus};
use crate::postgres::{Error, Instance, Session, monitor};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The application name of the API's connection, which the field knows.
const RESTAPI: &str = "Patroni restapi";

/// How old what a primary says of its replicas may be. Where its log ends is always
/// asked anew.
const REPLICAS_AGE_MAX: Duration = Duration::from_millis(100);

/// The API's own connection. Several questions may be on their way on it: the server
/// answers them in their order.
pub(super) struct FreshStatus {
    instance: watch::Receiver<Arc<Instance>>,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

struct Connection {
    session: Session,
    /// The last whole answer, and when it was asked for.
    whole: Mutex<Option<(Instant, ServerStatus)>>,
}

impl FreshStatus {
    /// `instance`: with its settings as they change.
    pub(super) fn new(instance: watch::Receiver<Arc<Instance>>) -> FreshStatus {
        FreshStatus { instance, connection: tokio::sync::Mutex::new(None) }
    }

    async fn connection(&self) -> Option<Arc<Connection>> {
        let mut slot = self.connection.lock().await;
        if let Some(open) = slot.as_ref().filter(|open| open.session.is_usable()) {
            return Some(open.clone());
        }
        let instance = self.instance.borrow().clone();
        let session = instance.session(RESTAPI).await.ok()?;
        let open = Arc::new(Connection { session, whole: Mutex::default() });
        *slot = Some(open.clone());
        Some(open)
    }

    /// The next question gets a new connection, unless another one has made it already.
    async fn leave(&self, failed: &Arc<Connection>) {
        let mut slot = self.connection.lock().await;
        if slot.as_ref().is_some_and(|open| Arc::ptr_eq(open, failed)) {
            *slot = None;
        }
    }
}

impl Connection {
    async fn ask(&self) -> Result<ServerStatus, Error> {
        if let Some(before) = self.young_primary()
            && let Some(status) = monitor::read_primary(&self.session, &before).await?
        {
            return Ok(status);
        }
        let asked = Instant::now();
        let status = monitor::read_status(&self.session).await?;
        *self.whole() = Some((asked, status.clone()));
        Ok(status)
    }

    fn young_primary(&self) -> Option<ServerStatus> {
        let whole = self.whole();
        let (asked, status) = whole.as_ref()?;
        (!status.in_recovery && asked.elapsed() < REPLICAS_AGE_MAX).then(|| status.clone())
    }

    fn whole(&self) -> MutexGuard<'_, Option<(Instant, ServerStatus)>> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fresh for FreshStatus {
    fn status(&self) -> Pin<Box<dyn Future<Output = Option<ServerStatus>> + Send + '_>> {
        Box::pin(async move {
            let open = self.connection().await?;
            match open.ask().await {
                Ok(status) => Some(status),
                Err(_) => {
                    self.leave(&open).await;
                    None
                }
            }
        })
    }
}
