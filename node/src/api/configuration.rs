//! `GET`, `PATCH` and `PUT /config`.
//!
//! Both writes are made on the version that was read; a change that another
//! client made in between is never overwritten by a `PATCH`. A `PUT` replaces
//! whatever is there, so it reads and tries again a few times.

use super::answer::Answer;
use super::dynamic;
use super::look::{Api, unavailable};
use axum::http::StatusCode;
use serde_json::{Map, Value};
use topology::document::{compact, patch};
use topology::write::Replacement;
use topology::{Version, Write};

/// How often a `PUT` reads again after another writer was first.
const PUT_TRIES_MAX: usize = 5;

pub(super) async fn get(api: &Api) -> Result<Answer, Answer> {
    let copy = api.store_copy().await?;
    match copy.value(&api.context.keys.config()).filter(Value::is_object) {
        Some(value) => Ok(copy.answer(&value)),
        None => Err(Answer::page(StatusCode::BAD_GATEWAY)),
    }
}

pub(super) async fn merge(api: &Api, changes: Map<String, Value>) -> Result<Answer, Answer> {
    let key = api.context.keys.config();
    let entry = api.read_key(&key).await?;
    let Some(entry) = entry else {
        return Err(unavailable("there is no configuration yet: the cluster is not initialized"));
    };
    let mut document = match serde_json::from_str(&entry.value) {
        Ok(document @ Value::Object(_)) => document,
        _ => {
            return Err(unavailable("/config is not a JSON object; replace it with PUT /config"));
        }
    };
    let changed = patch(&mut document, &Value::Object(changes.clone()));
    judge(&document, &changes)?;
    if changed {
        let value = compact(&document);
        if !api.write(&config(value, Some(entry.version))).await? {
            return Err(Answer::page(StatusCode::CONFLICT));
        }
        api.wake();
    }
    Ok(Answer::json(StatusCode::OK, &document))
}

pub(super) async fn replace(api: &Api, document: Map<String, Value>) -> Result<Answer, Answer> {
    let key = api.context.keys.config();
    let value = Value::Object(document.clone());
    judge(&value, &document)?;
    for _ in 0..PUT_TRIES_MAX {
        let entry = api.read_key(&key).await?;
        let there = entry.as_ref().and_then(|e| serde_json::from_str::<Value>(&e.value).ok());
        if there.as_ref() == Some(&value) {
            return Ok(Answer::json(StatusCode::OK, &value));
        }
        let seen = entry.map(|e| e.version);
        if api.write(&config(compact(&value), seen)).await? {
            api.wake();
            return Ok(Answer::json(StatusCode::OK, &value));
        }
    }
    Err(Answer::page(StatusCode::BAD_GATEWAY))
}

fn config(value: String, on: Option<Version>) -> Write {
    Write::ReplaceConfig(Replacement { value, on })
}

fn judge(document: &Value, touched: &Map<String, Value>) -> Result<(), Answer> {
    dynamic::refuse(document, touched).map_err(|why| Answer::text(StatusCode::BAD_REQUEST, why))?;
    for remark in dynamic::remarks(document, touched) {
        tracing::warn!("/config: {remark}");
    }
    Ok(())
}
