//! From a request to an answer: the table of endpoints and the door.

use super::answer::Answer;
use super::health::{self, Options, normal_path};
use super::listen::Caller;
use super::look::Api;
use super::published::Command;
use super::status::facts;
use super::switchover::{self, Kind};
use super::{cluster, configuration, decisions, metrics, restart};
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// Longest body of a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to come in.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Status,
    Liveness,
    Readiness,
    Cluster,
    History,
    Config,
    Failsafe,
    Metrics,
    Decisions,
    PatchConfig,
    PutConfig,
    Reload,
    Restart,
    DeleteRestart,
    Switchover,
    Failover,
    DeleteSwitchover,
    Reinitialize,
    PostFailsafe,
    CitusEvent,
    Sigterm,
}

/// Everything but the health checks, which have their own table.
pub const ENDPOINTS: &[(Method, &str, Endpoint)] = &[
    (Method::GET, "/patroni", Endpoint::Status),
    (Method::GET, "/liveness", Endpoint::Liveness),
    (Method::GET, "/readiness", Endpoint::Readiness),
    (Method::GET, "/cluster", Endpoint::Cluster),
    (Method::GET, "/history", Endpoint::History),
    (Method::GET, "/config", Endpoint::Config),
    (Method::GET, "/failsafe", Endpoint::Failsafe),
    (Method::GET, "/metrics", Endpoint::Metrics),
    (Method::GET, "/decisions", Endpoint::Decisions),
    (Method::PATCH, "/config", Endpoint::PatchConfig),
    (Method::PUT, "/config", Endpoint::PutConfig),
    (Method::POST, "/reload", Endpoint::Reload),
    (Method::POST, "/restart", Endpoint::Restart),
    (Method::DELETE, "/restart", Endpoint::DeleteRestart),
    (Method::POST, "/switchover", Endpoint::Switchover),
    (Method::POST, "/failover", Endpoint::Failover),
    (Method::DELETE, "/switchover", Endpoint::DeleteSwitchover),
    (Method::POST, "/reinitialize", Endpoint::Reinitialize),
    (Method::POST, "/failsafe", Endpoint::PostFailsafe),
    (Method::POST, "/citus", Endpoint::CitusEvent),
    (Method::POST, "/mpp", Endpoint::CitusEvent),
    (Method::POST, "/sigterm", Endpoint::Sigterm),
];

/// Every request comes in here.
pub async fn enter(api: Arc<Api>, caller: Caller, request: Request) -> Response {
    let _busy = caller.place.begin();
    let answer = answer(&api, &caller, request).await.unwrap_or_else(|refusal| refusal);
    answer.into_response(&api.rules().headers)
}

/// Both sides are answers: `Err` only ends the work early.
async fn answer(api: &Api, caller: &Caller, request: Request) -> Result<Answer, Answer> {
    let (parts, sent) = request.into_parts();
    let (method, path) = (&parts.method, normal_path(parts.uri.path()));
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
        && let Some(check) = health::find(path)
    {
        return Ok(check_health(api, check, method, &parts.uri).await);
    }
    let Some(endpoint) = find(method, path) else {
        return Err(nothing_there(method, path));
    };
    if endpoint == Endpoint::Decisions {
        let may = api.rules().gate.admit(caller, &parts.headers, &api.published()).await.is_ok();
        let shown = decisions::shown((api.context.decisions)(), may);
        return Ok(Answer::json(StatusCode::OK, &shown));
    }
    if *method == Method::GET {
        return inform(api, endpoint, &options(&parts.uri)).await;
    }
    let (rules, published) = (api.rules(), api.published());
    match endpoint {
        // A leader without a store asks: its record, which the allowlist may go by,
        // has ended with its lease.
        Endpoint::PostFailsafe => rules.gate.admit_unlisted(caller, &parts.headers)?,
        _ => rules.gate.admit(caller, &parts.headers, &published).await?,
    }
    control(api, endpoint, &parts.headers, sent).await
}

fn find(method: &Method, path: &str) -> Option<Endpoint> {
    let row = ENDPOINTS.iter().find(|(m, p, _)| m == method && *p == path)?;
    Some(row.2)
}

fn nothing_there(method: &Method, path: &str) -> Answer {
    let readable = ENDPOINTS.iter().any(|(m, p, _)| *m == Method::GET && *p == path);
    match *method {
        Method::HEAD | Method::OPTIONS if readable => {
            Answer::status(StatusCode::SERVICE_UNAVAILABLE)
        }
        Method::HEAD | Method::OPTIONS => Answer::status(StatusCode::NOT_FOUND),
        Method::GET => Answer::page(StatusCode::NOT_FOUND),
        _ => Answer::unsupported(method),
    }
}

fn options(uri: &Uri) -> Vec<(String, String)> {
    // Decoding a form into pairs of texts takes whatever comes.
    Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

fn code(passed: bool) -> StatusCode {
    if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn check_health(api: &Api, check: &health::Check, method: &Method, uri: &Uri) -> Answer {
    let published = api.published();
    let monitor = api.recent_monitor(&published).await;
    let facts = facts(&published, monitor.as_deref(), api.now());
    let status = code(check.is_passed(&facts, &options(uri)));
    if *method == Method::GET {
        Answer::said(status, api.said_health.body(&facts, &published, monitor.as_ref()))
    } else {
        Answer::status(status)
    }
}

async fn inform(api: &Api, endpoint: Endpoint, options: &Options) -> Result<Answer, Answer> {
    match endpoint {
        Endpoint::Cluster => {
            let copy = api.store_copy().await?;
            let scope = &api.context.settings.scope;
            return Ok(copy.answer(&cluster::cluster_json(&copy.group(api), scope)));
        }
        Endpoint::History => return history(api).await,
        Endpoint::Config => return configuration::get(api).await,
        Endpoint::Failsafe => return failsafe(api),
        _ => {}
    }
    let published = api.published();
    if endpoint == Endpoint::Liveness {
        // About the daemon alone: a server that hangs must not get it killed.
        let facts = facts(&published, None, api.now());
        return Ok(Answer::status(code(health::is_alive(&facts))));
    }
    if endpoint == Endpoint::Status {
        let monitor = api.fresh_monitor(&published).await;
        let facts = facts(&published, monitor.as_deref(), api.now());
        let text = api.said_status.body(&facts, &published, monitor.as_ref());
        return Ok(Answer::said(StatusCode::OK, text));
    }
    let monitor = api.recent_monitor(&published).await;
    let facts = facts(&published, monitor.as_deref(), api.now());
    Ok(match endpoint {
        Endpoint::Metrics => Answer::plain(metrics::render(&facts)),
        _ => Answer::status(code(health::is_ready(&facts, options))),
    })
}

async fn history(api: &Api) -> Result<Answer, Answer> {
    let copy = api.store_copy().await?;
    let value = copy.value(&api.context.keys.history());
    let value = value.filter(Value::is_array).unwrap_or_else(|| Value::Array(Vec::new()));
    Ok(copy.answer(&value))
}

fn failsafe(api: &Api) -> Result<Answer, Answer> {
    let published = api.published();
    let seen = published.view.as_ref().and_then(|view| view.failsafe.as_ref());
    let known = seen.map(|map| &map.value).or(published.failsafe.as_deref());
    let known = known.filter(|map| !map.is_empty());
    let known = known.ok_or_else(|| Answer::page(StatusCode::BAD_GATEWAY))?;
    let urls = known.iter().map(|(name, url)| (name.to_string(), url.clone().into()));
    Ok(Answer::json(StatusCode::OK, &Value::Object(urls.collect())))
}

async fn control(
    api: &Api,
    endpoint: Endpoint,
    headers: &HeaderMap,
    sent: Body,
) -> Result<Answer, Answer> {
    let text = |status, text: &str| Ok(Answer::text(status, text));
    match endpoint {
        Endpoint::PatchConfig => configuration::merge(api, required(headers, sent).await?).await,
        Endpoint::PutConfig => configuration::replace(api, required(headers, sent).await?).await,
        Endpoint::Switchover => {
            switchover::post(api, Kind::Switchover, required(headers, sent).await?).await
        }
        Endpoint::Failover => {
            switchover::post(api, Kind::Failover, required(headers, sent).await?).await
        }
        Endpoint::DeleteSwitchover => switchover::delete(api).await,
        Endpoint::Restart => restart::post(api, optional(sent).await?).await,
        Endpoint::DeleteRestart => restart::delete(api).await,
        Endpoint::Reinitialize => restart::reinitialize(api, optional(sent).await?).await,
        Endpoint::Reload => {
            api.send(Command::Reload).await?;
            text(StatusCode::ACCEPTED, "reload scheduled")
        }
        Endpoint::CitusEvent => citus_event(api, required(headers, sent).await?).await,
        Endpoint::PostFailsafe => {
            super::failsafe::is_on(api)?;
            super::failsafe::post(api, headers, required(headers, sent).await?).await
        }
        // For platforms without signals; everywhere else a signal ends the daemon.
        Endpoint::Sigterm => text(StatusCode::ACCEPTED, "shutdown scheduled"),
        _ => Err(Answer::page(StatusCode::BAD_GATEWAY)),
    }
}

/// Only the coordinator's leader does something with it.
async fn citus_event(api: &Api, body: Map<String, Value>) -> Result<Answer, Answer> {
    let published = api.published();
    let leads = published.lock_until.is_some_and(|until| api.now() < until);
    if leads && api.context.keys.group.is_coordinator() {
        api.send(Command::CitusEvent(Value::Object(body))).await?;
    }
    Ok(Answer::text(StatusCode::OK, "OK"))
}

async fn required(headers: &HeaderMap, sent: Body) -> Result<Map<String, Value>, Answer> {
    let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    if !framed.iter().any(|name| headers.contains_key(name)) {
        return Err(Answer::page(StatusCode::LENGTH_REQUIRED));
    }
    let map = optional(sent).await?;
    if map.is_empty() { Err(Answer::page(StatusCode::BAD_REQUEST)) } else { Ok(map) }
}

async fn optional(sent: Body) -> Result<Map<String, Value>, Answer> {
    let bytes = tokio::time::timeout(BODY_WAIT_MAX, to_bytes(sent, BODY_BYTES_MAX)).await;
    let bytes = bytes.map_err(|_| Answer::page(StatusCode::REQUEST_TIMEOUT))?;
    let bytes = bytes.map_err(|_| Answer::page(StatusCode::PAYLOAD_TOO_LARGE))?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(Answer::page(StatusCode::BAD_REQUEST)),
    }
}
