//! What a step is computed from.

use super::{Confirmations, Policy, Replication};
use topology::{GroupView, MemberName, Millis};

/// What the primary sees, remembers and is told.
pub struct Situation<'a> {
    pub me: &'a MemberName,
    pub now: Millis,
    pub view: &'a GroupView,
    pub seen: &'a Replication,
    pub confirmed: &'a Confirmations,
    pub policy: &'a Policy,
}
