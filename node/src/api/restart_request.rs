//! What `POST /restart` asks for.

use serde_json::{Map, Value};
use std::time::Duration;

/// When a restart applies; an empty one always does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    pub role: Option<String>,
    pub below_version: Option<i32>,
    pub only_pending: bool,
}

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
