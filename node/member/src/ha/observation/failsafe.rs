//! What is known of failsafe mode.

use std::collections::BTreeMap;
use topology::{Lsn, MemberName, Millis};

/// What one beat sees of failsafe mode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failsafe {
    /// All members agreed: this member may lead until then.
    pub proof: Option<Millis>,
    /// When all members were last asked, with or without success.
    pub asked: Millis,
    /// `/failsafe` was seen and names this member.
    pub is_ready: bool,
    /// This member agreed that another member leads on.
    pub promise: Option<Promise>,
    /// It did, and that leader has given its lock away in order since.
    pub is_released: bool,
}

/// What a leader without a store says of itself, and until when the promise binds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Promise {
    pub to: MemberName,
    pub conn_url: String,
    pub api_url: String,
    pub slots: BTreeMap<String, Lsn>,
    pub until: Millis,
    pub by: Asker,
}

/// Who asks for a promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asker {
    /// A leader that has lost its store: its members do not lead.
    #[default]
    Leader,
    /// A member that is about to lead: the others support no leader before it. The store
    /// decides who gets the lock, so what they have seen of it does not count.
    Candidate,
}
