//! From a request to an answer: find the row, check the caller, run the handler.

use super::answer::Answer;
use super::call::Call;
use super::caller::Caller;
use super::endpoints::{self, Access, Handler};
use super::health::normal_path;
use super::information;
use super::look::Api;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use std::sync::Arc;

/// Every request comes in here.
pub(super) async fn enter(api: Arc<Api>, caller: Caller, request: Request) -> Response {
    let _busy = caller.place.begin();
    let answer = answer(&api, &caller, request).await.unwrap_or_else(|refusal| refusal);
    answer.into_response(&api.rules().headers)
}

/// Both sides are answers: `Err` only ends the work early.
async fn answer(api: &Api, caller: &Caller, request: Request) -> Result<Answer, Answer> {
    let (request, body) = request.into_parts();
    let row = endpoints::find(&request.method, normal_path(request.uri.path()))?;
    let may_change = admit(api, row.access, caller, &request.headers).await?;
    match row.handler {
        Handler::Check(check) => Ok(information::check(api, check, &request).await),
        Handler::Run(run) => run(Call { api, request: &request, may_change, body }).await,
    }
}

/// May the caller change something? `Err`: the row does not answer this caller.
async fn admit(
    api: &Api,
    access: Access,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<bool, Answer> {
    let (rules, published) = (api.rules(), api.published());
    match access {
        Access::Open => Ok(false),
        Access::OpenInPart => Ok(rules.gate.admit(caller, headers, &published).await.is_ok()),
        Access::Operators => rules.gate.admit(caller, headers, &published).await.map(|()| true),
        Access::Members => rules.gate.admit_unlisted(caller, headers).map(|()| true),
    }
}
