//! Handlers that change nothing: what this member, its group and its store say.

use super::answer::Answer;
use super::call::{Call, options};
use super::health::{self, Check};
use super::look::Api;
use super::status::facts;
use super::{cluster, decisions as log, metrics as numbers, slots};
use crate::clock;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use serde_json::Value;

fn code(passed: bool) -> StatusCode {
    if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Only `GET` gets a body.
pub(super) async fn check(api: &Api, check: &Check, request: &Parts) -> Answer {
    let published = api.published();
    let monitor = api.recent_monitor(&published).await;
    let facts = facts(&published, monitor.as_deref(), api.now());
    let status = code(check.is_passed(&facts, &options(request)));
    if request.method == Method::GET {
        Answer::said(status, api.health_body.body(&facts, &published, monitor.as_ref()))
    } else {
        Answer::status(status)
    }
}

pub(super) async fn status(call: Call<'_>) -> Result<Answer, Answer> {
    let api = call.api;
    let published = api.published();
    let monitor = api.fresh_monitor(&published).await;
    let facts = facts(&published, monitor.as_deref(), api.now());
    let text = api.status_body.body(&facts, &published, monitor.as_ref());
    Ok(Answer::said(StatusCode::OK, text))
}

/// About the daemon alone: a server that hangs must not get it killed.
pub(super) async fn liveness(call: Call<'_>) -> Result<Answer, Answer> {
    let published = call.api.published();
    let facts = facts(&published, None, call.api.now());
    Ok(Answer::status(code(health::is_alive(&facts))))
}

pub(super) async fn readiness(call: Call<'_>) -> Result<Answer, Answer> {
    let published = call.api.published();
    let monitor = call.api.recent_monitor(&published).await;
    let facts = facts(&published, monitor.as_deref(), call.api.now());
    Ok(Answer::status(code(health::is_ready(&facts, &call.options()))))
}

pub(super) async fn metrics(call: Call<'_>) -> Result<Answer, Answer> {
    let published = call.api.published();
    let monitor = call.api.recent_monitor(&published).await;
    let facts = facts(&published, monitor.as_deref(), call.api.now());
    Ok(Answer::plain(numbers::render(&facts)))
}

pub(super) async fn cluster(call: Call<'_>) -> Result<Answer, Answer> {
    let copy = call.api.store_copy().await?;
    let scope = &call.api.context.settings.scope;
    Ok(copy.answer(&cluster::cluster_json(&copy.group(call.api), scope, clock::unix_ms())))
}

pub(super) async fn history(call: Call<'_>) -> Result<Answer, Answer> {
    let copy = call.api.store_copy().await?;
    let value = copy.value(&call.api.context.keys.history());
    let value = value.filter(Value::is_array).unwrap_or_else(|| Value::Array(Vec::new()));
    Ok(copy.answer(&value))
}

pub(super) async fn configuration(call: Call<'_>) -> Result<Answer, Answer> {
    super::configuration::get(call.api).await
}

/// The members of `/failsafe` with their URLs, as in the store or as last known.
pub(super) async fn failsafe(call: Call<'_>) -> Result<Answer, Answer> {
    let published = call.api.published();
    let seen = published.view.as_ref().and_then(|view| view.failsafe.as_ref());
    let known = seen.map(|map| &map.value).or(published.failsafe.as_deref());
    let known = known.filter(|map| !map.is_empty());
    let known = known.ok_or_else(|| Answer::page(StatusCode::BAD_GATEWAY))?;
    let urls = known.iter().map(|(name, url)| (name.to_string(), url.clone().into()));
    Ok(Answer::json(StatusCode::OK, &Value::Object(urls.collect())))
}

/// As of the last beat.
pub(super) async fn slots(call: Call<'_>) -> Result<Answer, Answer> {
    let published = call.api.published();
    let (name, role) = (published.name.as_str(), published.role.text());
    Ok(Answer::json(StatusCode::OK, &slots::body(name, role, &published.slots)))
}

pub(super) async fn decisions(call: Call<'_>) -> Result<Answer, Answer> {
    let shown = log::shown((call.api.context.decisions)(), call.may_change);
    Ok(Answer::json(StatusCode::OK, &shown))
}
