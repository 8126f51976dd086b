//! One request on its way to the handler of its row, and the reading of bodies.
//!
//! Invariant: a `Call` is made after the row's access rule has let the caller pass.

use super::answer::Answer;
use super::look::Api;
use axum::body::{Body, to_bytes};
use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};
use std::pin::Pin;
use std::time::Duration;

/// Longest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to come in.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);

/// Both sides are answers: `Err` only ends the work early.
pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Result<Answer, Answer>> + Send + 'a>>;

pub(super) struct Call<'a> {
    pub api: &'a Api,
    pub request: &'a Parts,
    /// The caller passed the checks for changing something. Only asked where the
    /// row's access rule depends on it.
    pub may_change: bool,
    pub body: Body,
}

impl Call<'_> {
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.request.headers
    }

    /// The options behind `?`, in order.
    pub(super) fn options(&self) -> Vec<(String, String)> {
        options(self.request)
    }

    /// A body that has to be there: an object with at least one key.
    pub(super) async fn required(self) -> Result<Map<String, Value>, Answer> {
        let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
        if !framed.iter().any(|name| self.headers().contains_key(name)) {
            return Err(Answer::page(StatusCode::LENGTH_REQUIRED));
        }
        let map = self.optional().await?;
        if map.is_empty() { Err(Answer::page(StatusCode::BAD_REQUEST)) } else { Ok(map) }
    }

    /// Without a body: an empty object.
    pub(super) async fn optional(self) -> Result<Map<String, Value>, Answer> {
        let read = tokio::time::timeout(BODY_WAIT_MAX, to_bytes(self.body, BODY_BYTES_MAX)).await;
        let bytes = read.map_err(|_| Answer::page(StatusCode::REQUEST_TIMEOUT))?;
        let bytes = bytes.map_err(|_| Answer::page(StatusCode::PAYLOAD_TOO_LARGE))?;
        if bytes.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(map)) => Ok(map),
            _ => Err(Answer::page(StatusCode::BAD_REQUEST)),
        }
    }
}

pub(super) fn options(request: &Parts) -> Vec<(String, String)> {
    // Decoding a form into pairs of texts takes whatever comes.
    Query::<Vec<(String, String)>>::try_from_uri(&request.uri)
        .map(|query| query.0)
        .unwrap_or_default()
}
