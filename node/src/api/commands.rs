//! Handlers that change something: each reads its body and passes it on.

use super::answer::Answer;
use super::call::Call;
use super::published::Command;
use super::switchover::{self, Kind};
use super::{configuration, failsafe, restart as restarts};
use axum::http::StatusCode;
use serde_json::Value;

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
    failsafe::is_on(call.api)?;
    let (api, request) = (call.api, call.request);
    failsafe::post(api, &request.headers, call.required().await?).await
}

/// Only the coordinator's leader does something with it.
pub(super) async fn tell_coordinator(call: Call<'_>) -> Result<Answer, Answer> {
    let api = call.api;
    let body = call.required().await?;
    let leads = api.published().lock_until.is_some_and(|until| api.now() < until);
    if leads && api.context.keys.group.is_coordinator() {
        api.send(Command::CitusEvent(Value::Object(body))).await?;
    }
    Ok(Answer::text(StatusCode::OK, "OK"))
}

/// For platforms without signals; everywhere else a signal ends the daemon.
pub(super) async fn end(_: Call<'_>) -> Result<Answer, Answer> {
    Ok(Answer::text(StatusCode::ACCEPTED, "shutdown scheduled"))
}
