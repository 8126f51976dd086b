//! `POST /restart` and `POST /reinitialize`.
//!
//! The conditions of a restart are judged here, the work is the daemon's: it
//! takes the command into its one background slot and answers when it is done.

use super::answer::Answer;
use super::look::{Api, unavailable};
use super::published::Command;
use super::schedule::{BadMoment, future_moment, positive_seconds};
use super::status::{Facts, facts};
use axum::http::StatusCode;
use chrono::Utc;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::oneshot;
use topology::tags::parse_bool;

/// How long an immediate restart may take, stop and start together.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(900);
/// How long the daemon may take to begin a reinitialization.
const REINITIALIZE_WAIT_MAX: Duration = Duration::from_secs(60);

/// When a restart applies; an empty one always does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    role: Option<String>,
    below_version: Option<i32>,
    only_pending: bool,
    is_scheduled: bool,
}

fn bad(text: impl Into<String>) -> Answer {
    Answer::text(StatusCode::BAD_REQUEST, text)
}

pub fn read_conditions(body: &Map<String, Value>) -> Result<Conditions, Answer> {
    let mut out = Conditions::default();
    for (key, value) in body {
        match key.as_str() {
            "schedule" if value.is_null() => {}
            "schedule" => {
                moment(value)?;
                out.is_scheduled = true;
            }
            "role" => out.role = Some(role(value)?),
            "postgres_version" => out.below_version = Some(version(value)?),
            "timeout" if positive_seconds(value).is_some() => {}
            "timeout" => return Err(bad("Timeout should be a positive number of seconds")),
            "restart_pending" => out.only_pending = true,
            other => {
                return Err(bad(format!("Unknown filter for the scheduled restart: {other}")));
            }
        }
    }
    Ok(out)
}

fn moment(value: &Value) -> Result<(), Answer> {
    let text = value.as_str().unwrap_or_default();
    let late = |text: &str| Answer::text(StatusCode::UNPROCESSABLE_ENTITY, text);
    future_moment(text, Utc::now()).map(|_| ()).map_err(|error| match error {
        BadMoment::NoZone => bad("Timezone information is mandatory for the scheduled restart"),
        BadMoment::Past => late("Cannot schedule restart in the past"),
        BadMoment::Unreadable => late(
            "Unable to parse scheduled timestamp. It should be in an unambiguous format, \
             e.g. ISO 8601",
        ),
    })
}

fn role(value: &Value) -> Result<String, Answer> {
    let role = value.as_str().unwrap_or_default();
    match role {
        "primary" | "standby_leader" | "replica" => Ok(role.to_string()),
        _ => Err(bad("PostgreSQL role should be either primary, standby_leader, or replica")),
    }
}

/// `15.4` as 150004, `9.6.24` as 90624.
fn version(value: &Value) -> Result<i32, Answer> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let parts: Option<Vec<i32>> = text.split('.').map(|p| p.parse().ok()).collect();
    let small = |n: i32| (0..100).contains(&n);
    match parts.as_deref() {
        Some([major, minor]) if (10..1_000).contains(major) && (0..10_000).contains(minor) => {
            Ok(major * 10_000 + minor)
        }
        Some([a, b, c]) if (0..10).contains(a) && small(*b) && small(*c) => {
            Ok(a * 10_000 + b * 100 + c)
        }
        _ => Err(bad(format!("Invalid PostgreSQL version: {text}"))),
    }
}

impl Conditions {
    pub fn hold(&self, facts: &Facts) -> bool {
        let role = self.role.as_ref().is_none_or(|role| role == facts.role.text());
        let older = self
            .below_version
            .is_none_or(|wanted| facts.monitor.is_some_and(|m| m.server_version < wanted));
        let pending = !self.only_pending || facts.published.pending_restart.is_some();
        role && older && pending
    }
}

pub async fn post(api: &Api, body: Map<String, Value>) -> Result<Answer, Answer> {
    let conditions = read_conditions(&body)?;
    let published = api.published();
    if conditions.is_scheduled {
        if published.paused {
            return Err(Answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Can't schedule restart in the paused state",
            ));
        }
        return Err(Answer::text(
            StatusCode::NOT_IMPLEMENTED,
            "scheduled restarts are not supported yet",
        ));
    }
    let monitor = api.fresh_monitor(&published).await;
    if !conditions.hold(&facts(&published, monitor.as_ref(), api.now())) {
        return Err(unavailable("restart conditions are not satisfied"));
    }
    let (reply, answer) = oneshot::channel();
    api.send(Command::Restart { reply }).await?;
    await_reply(answer, RESTART_WAIT_MAX).await
}

pub async fn reinitialize(api: &Api, body: Map<String, Value>) -> Result<Answer, Answer> {
    let published = api.published();
    if published.lock_until.is_some_and(|until| api.now() < until) {
        return Err(unavailable("I am the leader, can not reinitialize"));
    }
    if published.view.as_ref().is_none_or(|view| view.leader.is_none()) {
        return Err(unavailable("Cluster has no leader, can not reinitialize"));
    }
    let flag = |key: &str| body.get(key).and_then(parse_bool) == Some(true);
    let (reply, answer) = oneshot::channel();
    let (from_leader, force) = (flag("from_leader"), flag("force"));
    api.send(Command::Reinitialize { from_leader, force, reply }).await?;
    await_reply(answer, REINITIALIZE_WAIT_MAX).await
}

async fn await_reply(
    answer: oneshot::Receiver<Result<String, String>>,
    wait_max: Duration,
) -> Result<Answer, Answer> {
    match tokio::time::timeout(wait_max, answer).await {
        Ok(Ok(Ok(text))) => Ok(Answer::text(StatusCode::OK, text)),
        Ok(Ok(Err(text))) => Err(unavailable(text)),
        Ok(Err(_)) => Err(unavailable("the daemon ended before it was done")),
        Err(_) => Err(unavailable(format!("not done within {wait_max:?}; it goes on"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value) -> Result<Conditions, Answer> {
        read_conditions(body.as_object().unwrap())
    }

    #[test]
    fn refusals_carry_the_status_and_text_that_tools_know() {
        for (body, status, text) in [
            (
                json!({"role": "nosuch"}),
                400,
                "PostgreSQL role should be either primary, standby_leader, or replica",
            ),
            (json!({"postgres_version": "abc"}), 400, "Invalid PostgreSQL version: abc"),
            (json!({"timeout": -1}), 400, "Timeout should be a positive number of seconds"),
            (json!({"timeout": "abc"}), 400, "Timeout should be a positive number of seconds"),
            (json!({"bogus": 1}), 400, "Unknown filter for the scheduled restart: bogus"),
            (
                json!({"schedule": "2020-01-01T00:00:00+00:00"}),
                422,
                "Cannot schedule restart in the past",
            ),
            (
                json!({"schedule": "2020-01-01T00:00:00"}),
                400,
                "Timezone information is mandatory for the scheduled restart",
            ),
        ] {
            let answer = read(body).unwrap_err();
            assert_eq!(answer.status.as_u16(), status);
            assert!(matches!(answer.body, super::super::answer::Shape::Text(t) if t == text));
        }
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version(&json!("15.4")).ok(), Some(150_004));
        assert_eq!(version(&json!("9.6.24")).ok(), Some(90_624));
        assert_eq!(version(&json!(16.2)).ok(), Some(160_002));
        for wrong in [json!("15"), json!("9.6"), json!(""), json!("1.2.3.4")] {
            assert!(version(&wrong).is_err());
        }
    }
}
