//! Own writes that are on their way.
//!
//! A watch may bring an own write before the answer to it has come. Without
//! knowing what is on its way it would pass for a change by another program, and
//! wake the writer: which would look, write again, and wake itself once more.

use super::Shared;
use crate::dcs::kv::{Edit, Txn};

/// The operations of own writes without an answer yet.
#[derive(Default)]
pub(super) struct SentOps {
    next: u64,
    waiting: Vec<(u64, Vec<Edit>)>,
}

/// One own write on its way; over when this is dropped.
pub(super) struct InFlight<'a> {
    shared: &'a Shared,
    id: u64,
}

impl SentOps {
    fn add(&mut self, ops: Vec<Edit>) -> u64 {
        self.next += 1;
        self.waiting.push((self.next, ops));
        self.next
    }

    fn remove(&mut self, id: u64) {
        self.waiting.retain(|(other, _)| *other != id);
    }

    /// Does `key`, as `holds` knows it, look like what an own write leaves there?
    pub(super) fn explains(&self, key: &str, holds: impl Fn(&Edit) -> bool) -> bool {
        let mut ops = self.waiting.iter().flat_map(|(_, ops)| ops);
        ops.any(|op| touches(op, key) && holds(op))
    }
}

fn touches(op: &Edit, key: &str) -> bool {
    match op {
        Edit::Put { key: written, .. } | Edit::Delete { key: written } => written == key,
        Edit::DeletePrefix { prefix } => key.starts_with(prefix),
    }
}

impl<'a> InFlight<'a> {
    pub(super) fn begin(shared: &'a Shared, txn: &Txn) -> InFlight<'a> {
        let id = shared.lock().sent.add(txn.then.clone());
        InFlight { shared, id }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.shared.lock().sent.remove(self.id);
    }
}
