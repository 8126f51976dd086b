//! The leader of a group of Citus resolves what its group has in doubt, beside the beats. When it
//! is due, the resolver decides (`citus/src/resolver.rs`).

use super::Daemon;
use crate::act::citus::{LeadersInStore, Reach, resolve_own};
use crate::{clock, log};
use ::citus::resolver::Resolver;
use member::ha::Observation;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

#[derive(Default)]
pub(super) struct InDoubt {
    resolver: Resolver,
    running: Option<oneshot::Receiver<Result<(), String>>>,
}

impl InDoubt {
    fn take_end(&mut self, retry_ms: u64) {
        let Some(running) = &mut self.running else { return };
        let ended = match running.try_recv() {
            Ok(ended) => ended,
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Closed) => Err("its task was ended".to_string()),
        };
        self.running = None;
        let is_overdue = self.resolver.ended(clock::now(), ended.is_ok(), retry_ms);
        let Err(why) = ended else { return };
        let text = format!("in-doubt transactions of this group are not resolved yet: {why}");
        match is_overdue {
            true => log::warn(&text),
            false => tracing::info!("{text}"),
        }
    }
}

impl Daemon {
    pub(super) fn resolve_in_doubt(&mut self, seen: &Observation) {
        let Some(own) = self.settings.citus.clone().filter(|own| !own.stand_in) else { return };
        self.in_doubt.take_end(self.member.dynamic.loop_wait_ms);
        if !self.in_doubt.resolver.is_due(clock::now(), self.member.may_resolve(seen)) {
            return;
        }
        let (settings, instance) = (self.settings.clone(), (*self.server.instance()).clone());
        let reach = Reach { settings, instance, wish: own.wish(), own };
        let leaders = LeadersInStore { store: self.store.clone(), keys: self.keys.clone() };
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            // The receiver is gone only when the daemon ends.
            let _ = tell.send(resolve_own(reach, leaders).await);
        });
        self.in_doubt.running = Some(told);
    }
}
