//! `POST /failsafe`: a leader without a store asks whether it may lead on.
//!
//! Agreeing is a promise not to lead for one `ttl`. It is given under the lock
//! of the `PromiseStore`, and lies on disk before it is told.

use super::answer::Answer;
use super::look::{Api, unavailable};
use crate::peers::TTL_HEADER;
use crate::promises::{lock, slots_of, write_promise};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use member::ha::failsafe::{Asker, Promise, Refusal, candidate_ms, promised_ms};
use serde_json::{Map, Value};
use std::time::Duration;
use topology::MemberName;

/// How long an answer waits for the position of the own server.
const POSITION: Duration = Duration::from_millis(500);

/// A leader that asks must not count on a member whose mode is off. A candidate may: the
/// leader before it may not know yet that it is off.
pub(crate) fn is_on(api: &Api, by: Asker) -> Result<(), Answer> {
    let is_on = by == Asker::Candidate || lock(&api.context.failsafe).is_on;
    is_on.then_some(()).ok_or_else(|| Answer::page(StatusCode::BAD_GATEWAY))
}

pub(crate) async fn post(
    api: &Api,
    headers: &HeaderMap,
    body: Map<String, Value>,
) -> Result<Answer, Answer> {
    let published = api.published();
    let me = &api.context.settings.name;
    let by = match body.get("candidate").and_then(Value::as_bool) {
        Some(true) => Asker::Candidate,
        _ => Asker::Leader,
    };
    is_on(api, by)?;
    let ttl_ms = relied_ttl_ms(headers, published.ttl_ms, by)?;
    let asked = read(&Value::Object(body), api.now() + ttl_ms, by)
        .ok_or_else(|| Answer::page(StatusCode::BAD_REQUEST))?;
    if asked.to == *me {
        return Err(Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "this is my own name"));
    }
    let accepted = {
        let mut promises = lock(&api.context.failsafe);
        promises.accept(asked.clone(), api.now()).map_err(refused)?;
        promises.promise(api.now()).cloned().unwrap_or(asked)
    };
    let (data_dir, name) = (api.context.settings.postgresql.data_dir.clone(), me.clone());
    let written = tokio::task::spawn_blocking(move || write_promise(&data_dir, &name, &accepted));
    if let Err(error) = written.await.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
        tracing::error!("a promise could not be written: {error}");
        return Err(unavailable("the promise could not be kept on disk"));
    }
    let mut answer = Answer::text(StatusCode::OK, "Accepted");
    let monitor = tokio::time::timeout(POSITION, api.recent_monitor(&published)).await;
    if let Some(lsn) = monitor.ok().flatten().and_then(|monitor| monitor.position()) {
        answer.headers.push((HeaderName::from_static("lsn"), lsn.0.into()));
    }
    Ok(answer)
}

/// For how long the caller will rely on a promise.
fn relied_ttl_ms(headers: &HeaderMap, known_ms: u64, by: Asker) -> Result<u64, Answer> {
    let wanted = headers.get(TTL_HEADER).and_then(|h| h.to_str().ok()?.parse::<u64>().ok());
    if by == Asker::Candidate {
        return Ok(candidate_ms(wanted));
    }
    promised_ms(wanted, known_ms).map_err(|why| {
        tracing::warn!("POST /failsafe is refused: {why}");
        refused(why)
    })
}

fn read(body: &Value, until: topology::Millis, by: Asker) -> Option<Promise> {
    let word = |key: &str| body.get(key).and_then(Value::as_str).filter(|w| !w.is_empty());
    Some(Promise {
        to: MemberName::new(word("name")?),
        conn_url: word("conn_url")?.to_string(),
        api_url: word("api_url")?.to_string(),
        slots: slots_of(body),
        until,
        by,
    })
}

fn refused(why: Refusal) -> Answer {
    match why {
        Refusal::Off => Answer::page(StatusCode::BAD_GATEWAY),
        _ => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
    }
}
