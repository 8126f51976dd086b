//! The calls that an agent has under way, and what a step of it works with.
//!
//! Invariant *no wait without an end*: every call has a deadline. The performer
//! keeps it; if it does not, the agent takes the call for failed `GRACE_MS` later.

use super::effect::{
    AgentKey, AgentWrite, Answer, Call, CallId, Effect, Identity, Severity, Sight, Sites,
    StoreCopy, StoreWrite,
};
use super::purpose::Purpose;
use super::{LocalTopology, Site};
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::{Millis, RegionName, Seen};

/// Deadline of one call to another region's store that the agent waits for.
pub(super) const REMOTE_CALL_MS: u64 = 3_000;
/// Deadline of any other call to a store: the store's own, finer one comes first.
pub(super) const STORE_CALL_MS: u64 = 10_000;
/// How much later than the performer the agent itself gives a call up.
const GRACE_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Calls {
    last: u64,
    open: BTreeMap<CallId, (Millis, Purpose)>,
}

impl Calls {
    fn begin(&mut self, deadline: Millis, purpose: Purpose) -> CallId {
        self.last += 1;
        let id = CallId(self.last);
        self.open.insert(id, (deadline, purpose));
        id
    }

    /// The purpose of a call that is over; `None`: it was given up before.
    pub(super) fn end(&mut self, id: CallId) -> Option<Purpose> {
        self.open.remove(&id).map(|(_, purpose)| purpose)
    }

    /// Calls without an answer although their deadline is over.
    pub(super) fn overdue(&self, now: Millis) -> Vec<CallId> {
        let late = self.open.iter().filter(|(_, (deadline, _))| *deadline + GRACE_MS <= now);
        late.map(|(id, _)| *id).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.open.values().map(|(deadline, _)| *deadline + GRACE_MS).min()
    }

    /// Gives up all calls whose purpose passes the test.
    pub(super) fn give_up(&mut self, test: impl Fn(&Purpose) -> bool) -> Vec<CallId> {
        let ids = self.open.iter().filter(|(_, (_, purpose))| test(purpose));
        let ids: Vec<CallId> = ids.map(|(id, _)| *id).collect();
        for id in &ids {
            self.open.remove(id);
        }
        ids
    }
}

/// What one step of the agent works with.
pub(super) struct Scene<'a> {
    pub identity: &'a Identity,
    pub key: &'a AgentKey,
    pub sight: &'a Sight,
    pub calls: &'a mut Calls,
    pub out: &'a mut Vec<Effect>,
}

impl Scene<'_> {
    pub(super) fn now(&self) -> Millis {
        self.sight.now
    }

    pub(super) fn copy(&self, region: &RegionName) -> Option<&StoreCopy> {
        self.sight.copies.get(region)
    }

    /// A region's copy, however old.
    pub(super) fn site(&self, region: &RegionName) -> Option<Arc<Site>> {
        Some(self.copy(region)?.site.clone())
    }

    /// A region's copy, if the watch that feeds it is up.
    pub(super) fn live(&self, region: &RegionName) -> Option<Arc<Site>> {
        Some(self.copy(region).filter(|copy| copy.is_live)?.site.clone())
    }

    /// The own region's live copy.
    pub(super) fn own(&self) -> Option<Arc<Site>> {
        self.live(&self.identity.region)
    }

    /// Is there a way to this other region's store?
    pub(super) fn knows(&self, region: &RegionName) -> bool {
        self.identity.others.contains(region)
    }

    /// The other regions as their watches show them.
    pub(super) fn watched(&self) -> Sites {
        let seen = |name: &RegionName| -> Seen<LocalTopology> {
            self.live(name).map_or(Seen::Unknown, |site| Seen::Known(site.topology.clone()))
        };
        self.identity.others.iter().map(|name| (name.clone(), seen(name))).collect()
    }

    pub(super) fn call(&mut self, within_ms: u64, call: Call, purpose: Purpose) -> CallId {
        let id = self.calls.begin(self.sight.now + within_ms, purpose);
        self.out.push(Effect::Call { id, within_ms, call });
        id
    }

    pub(super) fn read(&mut self, region: &RegionName, within_ms: u64, purpose: Purpose) {
        self.call(within_ms, Call::Read(region.clone()), purpose);
    }

    pub(super) fn write(
        &mut self,
        region: &RegionName,
        on: Arc<Site>,
        write: AgentWrite,
        purpose: Purpose,
    ) {
        let (region, key) = (region.clone(), self.key.clone());
        let call = Call::Write(Box::new(StoreWrite { region, on, key, write }));
        self.call(STORE_CALL_MS, call, purpose);
    }

    /// Gives up all calls whose purpose passes the test.
    pub(super) fn give_up(&mut self, test: impl Fn(&Purpose) -> bool) {
        let ended = self.calls.give_up(test);
        self.out.extend(ended.into_iter().map(Effect::End));
    }

    pub(super) fn log(&mut self, severity: Severity, text: String) {
        self.out.push(Effect::Log(severity, text));
    }

    /// A failed call of no consequence is only noted.
    pub(super) fn log_failure(&mut self, what: &str, answer: &Answer) {
        if let Answer::Failed(why) = answer {
            self.log(Severity::Debug, format!("{what}: {why}"));
        }
    }
}
