//! `POST /restart` and `POST /reinitialize`.
//!
//! The conditions of a restart are judged here, the work is the daemon's: it
//! takes the command into its one background slot and answers when it is done.
//! A scheduled one is kept by the daemon, which judges its conditions when it
//! is due; it is lost when that daemon ends.

use super::answer::Answer;
use super::look::{Api, unavailable};
use super::published::Command;
pub(crate) use super::restart_request::{Conditions, Request};
use super::schedule::{BadMoment, future_moment, positive_seconds};
use super::status::{Facts, facts};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::oneshot;
use topology::tags::parse_bool;

/// How long an immediate restart may take, stop and start together.
const RESTART_WAIT_MAX: Duration = Duration::from_secs(900);
/// How long the daemon's running beat may take.
const BEAT_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long the daemon may take to begin a reinitialization.
const REINITIALIZE_WAIT_MAX: Duration = Duration::from_secs(60);

fn bad(text: impl Into<String>) -> Answer {
    Answer::text(StatusCode::BAD_REQUEST, text)
}

pub(crate) fn read_request(body: Map<String, Value>) -> Result<Request, Answer> {
    let mut out = Request::default();
    for (key, value) in &body {
        match key.as_str() {
            "schedule" if value.is_null() => {}
            "schedule" => out.schedule = Some(moment(value)?),
            "role" => out.conditions.role = Some(role(value)?),
            "postgres_version" => out.conditions.below_version = Some(version(value)?),
            "timeout" => out.limit = Some(timeout(value)?),
            "restart_pending" => out.conditions.only_pending = true,
            other => {
                return Err(bad(format!("Unknown filter for the scheduled restart: {other}")));
            }
        }
    }
    out.body = body;
    if let Some(schedule) = &out.schedule {
        out.body.insert("schedule".to_string(), schedule.clone().into());
    }
    Ok(out)
}

fn timeout(value: &Value) -> Result<Duration, Answer> {
    let seconds = positive_seconds(value).map(Duration::try_from_secs_f64);
    match seconds {
        Some(Ok(limit)) => Ok(limit),
        _ => Err(bad("Timeout should be a positive number of seconds")),
    }
}

fn moment(value: &Value) -> Result<String, Answer> {
    let text = value.as_str().unwrap_or_default();
    let late = |text: &str| Answer::text(StatusCode::UNPROCESSABLE_ENTITY, text);
    future_moment(text, Timestamp::now()).map_err(|error| match error {
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

fn do_hold(conditions: &Conditions, facts: &Facts) -> bool {
    let version = facts.monitor.map(|m| m.server_version);
    conditions.hold_for(facts.role, version, facts.published.pending_restart.is_some())
}

pub(crate) async fn post(api: &Api, body: Map<String, Value>) -> Result<Answer, Answer> {
    let request = read_request(body)?;
    let published = api.published();
    if request.schedule.is_some() {
        if published.paused {
            return Err(Answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Can't schedule restart in the paused state",
            ));
        }
        return schedule(api, request).await;
    }
    let monitor = api.fresh_monitor(&published).await;
    if !do_hold(&request.conditions, &facts(&published, monitor.as_deref(), api.now())) {
        return Err(unavailable("restart conditions are not satisfied"));
    }
    let (reply, answer) = oneshot::channel();
    api.send(Command::Restart { limit: request.limit, reply }).await?;
    await_reply(answer, RESTART_WAIT_MAX).await
}

async fn schedule(api: &Api, request: Request) -> Result<Answer, Answer> {
    let (reply, answer) = oneshot::channel();
    api.send(Command::ScheduleRestart { request: Box::new(request), reply }).await?;
    match at_once(answer).await? {
        Ok(text) => Ok(Answer::text(StatusCode::ACCEPTED, text)),
        Err(text) => Err(Answer::text(StatusCode::CONFLICT, text)),
    }
}

pub(crate) async fn delete(api: &Api) -> Result<Answer, Answer> {
    let (reply, answer) = oneshot::channel();
    api.send(Command::ForgetRestart { reply }).await?;
    match at_once(answer).await? {
        Ok(text) => Ok(Answer::text(StatusCode::OK, text)),
        Err(text) => Err(Answer::text(StatusCode::NOT_FOUND, text)),
    }
}

/// The daemon answers in its next beat.
async fn at_once(
    answer: oneshot::Receiver<Result<String, String>>,
) -> Result<Result<String, String>, Answer> {
    let answer = tokio::time::timeout(BEAT_WAIT_MAX, answer).await;
    let answer = answer.map_err(|_| unavailable(format!("no answer within {BEAT_WAIT_MAX:?}")))?;
    answer.map_err(|_| unavailable("the daemon ended before it was done"))
}

pub(crate) async fn reinitialize(api: &Api, body: Map<String, Value>) -> Result<Answer, Answer> {
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
    use topology::MemberRole;

    fn read(body: Value) -> Result<Request, Answer> {
        read_request(body.as_object().unwrap().clone())
    }

    #[test]
    fn a_request_is_kept_as_it_was_sent_but_for_its_moment() {
        let body = json!({"schedule": "2099-01-01 12:30Z", "timeout": "2min", "role": "replica"});
        let request = read(body).ok().unwrap();
        assert_eq!(request.limit, Some(Duration::from_secs(120)));
        let stored =
            json!({"schedule": "2099-01-01T12:30:00+00:00", "timeout": "2min", "role": "replica"});
        assert_eq!(Value::Object(request.body), stored);
    }

    #[test]
    fn conditions_are_judged_by_what_runs() {
        let body = json!({"postgres_version": "15.9", "role": "replica", "restart_pending": true});
        let conditions = read(body).ok().unwrap().conditions;
        let replica = MemberRole::Replica;
        assert!(conditions.hold_for(replica, Some(150_008), true));
        assert!(!conditions.hold_for(replica, Some(150_009), true));
        assert!(!conditions.hold_for(replica, None, true));
        assert!(!conditions.hold_for(replica, Some(150_008), false));
        assert!(!conditions.hold_for(MemberRole::Primary, Some(150_008), true));
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
