//! Every endpoint of the REST API, as a row: path, methods, callers, handler.
//!
//! Routing, access, the refusal of other methods and the page `docs/rest.md` are
//! made from these rows. The health checks are rows too, one for each `Check` of
//! `health.rs`.
//!
//! Invariants: no two rows have a path and a method in common, so their order does
//! not matter; a row carries its handler, so no request is answered as another one.

use super::answer::Answer;
use super::call::{Call, Running};
use super::health::{self, CHECKS, Check};
use super::{commands, formation, information};
use axum::http::{Method, StatusCode};
use std::fmt::Write;

/// Which callers a row answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every caller; nothing is changed.
    Open,
    /// Every caller; details only for callers that may change something.
    OpenInPart,
    /// Callers that may change something: by address, certificate and password.
    Operators,
    /// The same, from every address. A leader without a store asks: its record, which
    /// the allowlist may go by, has ended with its lease.
    Members,
}

impl Access {
    fn text(self) -> &'static str {
        match self {
            Access::Open => "all",
            Access::OpenInPart => "all; details for operators",
            Access::Operators => "operators",
            Access::Members => "members, operators",
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// 200 or 503 by a rule of `health.rs`.
    Check(&'static Check),
    Run(for<'a> fn(Call<'a>) -> Running<'a>),
}

#[derive(Clone, Copy)]
pub struct Endpoint {
    pub path: &'static str,
    pub methods: &'static [Method],
    pub access: Access,
    pub(super) handler: Handler,
    /// What it answers, for the page.
    pub about: &'static str,
}

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const PUT: &[Method] = &[Method::PUT];
const PATCH: &[Method] = &[Method::PATCH];
const DELETE: &[Method] = &[Method::DELETE];
/// HEAD and OPTIONS are answered with the status alone.
const CHECK: &[Method] = &[Method::GET, Method::HEAD, Method::OPTIONS];

type Run = for<'a> fn(Call<'a>) -> Running<'a>;

const fn open(path: &'static str, about: &'static str, run: Run) -> Endpoint {
    Endpoint { path, methods: GET, access: Access::Open, handler: Handler::Run(run), about }
}

const fn guarded(
    methods: &'static [Method],
    path: &'static str,
    about: &'static str,
    run: Run,
) -> Endpoint {
    Endpoint { path, methods, access: Access::Operators, handler: Handler::Run(run), about }
}

/// Everything but the health checks, which have their own table.
const ENDPOINTS: &[Endpoint] = &[
    open("/patroni", "this member's state, from a query sent after the request", |call| {
        Box::pin(information::status(call))
    }),
    open("/liveness", "200 while the daemon beats; 503 otherwise", |call| {
        Box::pin(information::liveness(call))
    }),
    open(
        "/readiness",
        "200 for the leader and for a standby that streams with little lag",
        |call| Box::pin(information::readiness(call)),
    ),
    open("/cluster", "the members of this group", |call| Box::pin(information::cluster(call))),
    open("/topology", "the formation: regions, groups, members, findings", |call| {
        Box::pin(formation::topology(call))
    }),
    open(
        "/region",
        "this region: owner, epoch, policy, running move; 404 without regions",
        |call| Box::pin(formation::region(call)),
    ),
    open("/history", "the timelines of this group", |call| Box::pin(information::history(call))),
    open("/config", "the cluster-wide configuration", |call| {
        Box::pin(information::configuration(call))
    }),
    open("/failsafe", "the members that must agree in failsafe mode; 502 without any", |call| {
        Box::pin(information::failsafe(call))
    }),
    open("/slots", "the replication slots of this member's server", |call| {
        Box::pin(information::slots(call))
    }),
    open("/metrics", "numbers for Prometheus", |call| Box::pin(information::metrics(call))),
    Endpoint {
        access: Access::OpenInPart,
        ..open("/decisions", "the last decisions of this member", |call| {
            Box::pin(information::decisions(call))
        })
    },
    guarded(PATCH, "/config", "changes the keys that the body names; null removes a key", |call| {
        Box::pin(commands::merge_configuration(call))
    }),
    guarded(PUT, "/config", "replaces the cluster-wide configuration", |call| {
        Box::pin(commands::replace_configuration(call))
    }),
    guarded(POST, "/reload", "reads the configuration file again", |call| {
        Box::pin(commands::reload(call))
    }),
    guarded(
        POST,
        "/restart",
        "restarts PostgreSQL, now or at the `schedule` of the body",
        |call| Box::pin(commands::restart(call)),
    ),
    guarded(DELETE, "/restart", "forgets the scheduled restart", |call| {
        Box::pin(commands::forget_restart(call))
    }),
    guarded(POST, "/switchover", "moves the leader in order, now or later", |call| {
        Box::pin(commands::switch_over(call))
    }),
    guarded(DELETE, "/switchover", "forgets the scheduled switchover", |call| {
        Box::pin(commands::forget_switchover(call))
    }),
    guarded(POST, "/failover", "makes the named candidate the leader", |call| {
        Box::pin(commands::fail_over(call))
    }),
    guarded(POST, "/reinitialize", "builds this member's data anew", |call| {
        Box::pin(commands::reinitialize(call))
    }),
    Endpoint {
        access: Access::Members,
        ..guarded(POST, "/failsafe", "a leader without a store asks to stay leader", |call| {
            Box::pin(commands::promise(call))
        })
    },
    guarded(POST, "/citus", "tells the coordinator that a worker's leader changes", |call| {
        Box::pin(commands::tell_coordinator(call))
    }),
    guarded(POST, "/mpp", "the same as `POST /citus`", |call| {
        Box::pin(commands::tell_coordinator(call))
    }),
    guarded(POST, "/sigterm", "does nothing: a signal ends the daemon", |call| {
        Box::pin(commands::end(call))
    }),
];

impl Endpoint {
    fn of_check(check: &'static Check) -> Endpoint {
        let (handler, about) = (Handler::Check(check), check.about);
        Endpoint { path: check.path, methods: CHECK, access: Access::Open, handler, about }
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }
}

/// Every row.
pub fn all() -> impl Iterator<Item = Endpoint> {
    CHECKS.iter().map(Endpoint::of_check).chain(ENDPOINTS.iter().copied())
}

fn on(path: &str) -> impl Iterator<Item = Endpoint> {
    let check = health::find(path).map(Endpoint::of_check);
    check.into_iter().chain(ENDPOINTS.iter().copied().filter(move |row| row.path == path))
}

/// The row for a request, or the refusal to send. `path` is a normal one.
pub(super) fn find(method: &Method, path: &str) -> Result<Endpoint, Answer> {
    on(path).find(|row| row.takes(method)).ok_or_else(|| refusal(method, path))
}

/// No row has this path and this method. 404 and 503 for methods that change nothing,
/// 501 for all others: the statuses that callers of Patroni know.
fn refusal(method: &Method, path: &str) -> Answer {
    let has_get = on(path).any(|row| row.takes(&Method::GET));
    match *method {
        Method::HEAD | Method::OPTIONS if has_get => {
            Answer::status(StatusCode::SERVICE_UNAVAILABLE)
        }
        Method::HEAD | Method::OPTIONS => Answer::status(StatusCode::NOT_FOUND),
        Method::GET => Answer::page(StatusCode::NOT_FOUND),
        _ => Answer::unsupported(method),
    }
}

/// The table of `docs/rest.md`.
pub fn reference() -> String {
    let mut text = String::from("| path | methods | callers | answer |\n|---|---|---|---|\n");
    for row in all() {
        let methods: Vec<&str> = row.methods.iter().map(Method::as_str).collect();
        let (methods, callers) = (methods.join(", "), row.access.text());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{}` | {methods} | {callers} | {} |", row.path, row.about);
    }
    text
}
