//! What `POST /restart` asks for.

pub(crate) use member::ha::restarts::Conditions;
use serde_json::{Map, Value};
use std::time::Duration;

/// The body of a request, understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub conditions: Conditions,
    /// How long the start may take.
    pub limit: Option<Duration>,
    /// When, as it is stored; at once without.
    pub schedule: Option<String>,
    /// As it was sent, for the member record.
    pub body: Map<String, Value>,
}
