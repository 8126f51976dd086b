//! Handlers that change something: each reads its body and passes it on.

use super::answer::Answer;
use super::call::Call;
use super::published::Command;
use super::switchover::{self, Kind};
use super::{configuration, failsafe, restart as restarts};
use axum::http::StatusCode;
use citus::registrar::event::{Event, EventKind};
use member::ha::failsafe::Asker;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::oneshot;

pub(super) async fn merge_configuration(call: Call<'_>) -> Result<Answer, Answer> {
    configuration::merge(call.api, call.required().await?).await
}

pub(super) async fn replace_configuration(call: Call<'_>) -> Result<Answer, Answer> {
    configuration::replace(call.api, call.required().await?).await
}

pub(super) async fn reload(call: Call<'_>) -> Result<Answer, Answer> {
    call.api.send(Command::Reload).await?;
    Ok(Answer::text(StatusCode::ACCEPTED, "reload scheduled"))
}

pub(super) async fn restart(call: Call<'_>) -> Result<Answer, Answer> {
    restarts::post(call.api, call.optional().await?).await
}

pub(super) async fn forget_restart(call: Call<'_>) -> Result<Answer, Answer> {
    restarts::delete(call.api).await
}

pub(super) async fn switch_over(call: Call<'_>) -> Result<Answer, Answer> {
    switchover::post(call.api, Kind::Switchover, call.required().await?).await
}

pub(super) async fn fail_over(call: Call<'_>) -> Result<Answer, Answer> {
    switchover::post(call.api, Kind::Failover, call.required().await?).await
}

pub(super) async fn forget_switchover(call: Call<'_>) -> Result<Answer, Answer> {
    switchover::delete(call.api).await
}

pub(super) async fn reinitialize(call: Call<'_>) -> Result<Answer, Answer> {
    restarts::reinitialize(call.api, call.optional().await?).await
}

/// A leader without a store asks for this member's promise.
pub(super) async fn promise(call: Call<'_>) -> Result<Answer, Answer> {
    let (api, request) = (call.api, call.request);
    match call.required().await {
        Ok(body) => failsafe::post(api, &request.headers, body).await,
        // That the mode is off counts for more than what is wrong with the question.
        Err(answer) => {
            failsafe::is_on(api, Asker::Leader)?;
            Err(answer)
        }
    }
}

/// No event asks for longer.
const EVENT_MS_MAX: u128 = 3_600_000;

/// Only the coordinator's leader does something with it.
pub(super) async fn tell_coordinator(call: Call<'_>) -> Result<Answer, Answer> {
    let api = call.api;
    let body = call.required().await?;
    let leads = api.published().lock_until.is_some_and(|until| api.now() < until);
    if leads
        && api.context.keys.group.is_coordinator()
        && let Some(event) = read_event(&body)
    {
        let (reply, answered) = oneshot::channel();
        let wait = Duration::from_millis(event.timeout_ms);
        api.send(Command::CitusEvent { event, reply }).await?;
        // Held, declined, discarded or too late: the sender goes on in any case.
        let _ = tokio::time::timeout(wait, answered).await;
    }
    Ok(Answer::text(StatusCode::OK, "OK"))
}

/// `timeout` and `cooldown` are seconds. What cannot be read is no event.
fn read_event(body: &Map<String, Value>) -> Option<Event> {
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let ms = |key: &str| {
        let seconds = body.get(key).and_then(Value::as_f64)?;
        Duration::try_from_secs_f64(seconds).ok().map(|d| d.as_millis().min(EVENT_MS_MAX) as u64)
    };
    Some(Event {
        kind: EventKind::parse(text("type")?)?,
        group: u32::try_from(body.get("group")?.as_u64()?).ok()?,
        leader: text("leader")?.into(),
        timeout_ms: ms("timeout")?,
        cooldown_ms: ms("cooldown"),
    })
}

/// For platforms without signals; everywhere else a signal ends the daemon.
pub(super) async fn end(_: Call<'_>) -> Result<Answer, Answer> {
    Ok(Answer::text(StatusCode::ACCEPTED, "shutdown scheduled"))
}
