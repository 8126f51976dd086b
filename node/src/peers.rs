//! Asking other members what they are, over their REST API.
//!
//! Who races for the lock needs every other member's position at once, so all
//! are asked in parallel and each has one deadline. One pooled client keeps
//! connections: the race costs one round trip.
//!
//! Invariant *no answer is not an answer*: whatever goes wrong (no connection,
//! no position in the body, too late, too long) is `status: None`.

use crate::config::{Credentials, Settings};
use crate::tls::{self, Believed, TlsError, Trust};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use standby::promotion::{PeerAnswer, PeerStatus};
use std::time::Duration;
use tokio::task::JoinSet;
use topology::{Lsn, MemberName, Tags, Timeline};

/// How long a member may take to answer.
pub const PEER_WAIT_MAX: Duration = Duration::from_secs(2);
/// Longest answer of a member that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes of a refusal that are told.
const ANSWER_SHOWN_MAX: usize = 200;
/// Connections kept to each member.
const IDLE_PER_HOST_MAX: usize = 2;
/// For how long: less than members keep a silent connection open.
pub const IDLE_MAX: Duration = Duration::from_secs(10);
/// For how long the asking leader will rely on the promise, in milliseconds.
/// Leaders that do not say so rely on it for the ttl that both know.
pub const TTL_HEADER: &str = "matriarch-ttl";

/// After enough members have agreed, another one may take this long.
const LATE_MAX: Duration = Duration::from_millis(50);

/// A question to all members that a leader or a candidate needs.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub body: &'a Value,
    /// For how long the sender will rely on the promise.
    pub ttl_ms: u64,
    /// This many members have to agree.
    pub enough: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the REST client cannot be set up")]
    Tls(#[from] TlsError),
    #[error("the REST client cannot be set up: {0}")]
    Build(reqwest::Error),
}

/// A client for the REST APIs of the other members. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    client: Client,
    login: Option<Credentials>,
}

impl Peers {
    pub fn new(settings: &Settings) -> Result<Peers, ClientError> {
        let (ctl, restapi) = (&settings.ctl, &settings.restapi);
        // Without a certificate of its own a daemon cannot expect one that it
        // can verify: so it has been, and groups rely on it.
        let verifies = ctl.certfile.is_some() && !ctl.insecure;
        let trust = if verifies { Trust::Chain } else { Trust::Anyone };
        let authorities = ctl.cacert.as_deref().or(restapi.cafile.as_deref());
        let tls = tls::client_config(Believed::new(trust, authorities), ctl.own())?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(format!("Patroni/{} matriarch", topology::member::PATRONI_VERSION))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .connect_timeout(PEER_WAIT_MAX)
            .tcp_nodelay(true)
            .build()
            .map_err(ClientError::Build)?;
        let login = ctl.authentication.clone().or_else(|| restapi.authentication.clone());
        Ok(Peers { client, login })
    }

    /// Asks all of them at once; the answers come in the order of the question.
    pub async fn statuses(&self, members: &[(MemberName, String)]) -> Vec<PeerAnswer> {
        let mut asked = JoinSet::new();
        for (index, (_, api_url)) in members.iter().enumerate() {
            let (peers, api_url) = (self.clone(), api_url.clone());
            asked.spawn(async move { (index, peers.status(&api_url).await) });
        }
        let mut answers: Vec<PeerAnswer> = members
            .iter()
            .map(|(name, _)| PeerAnswer { name: name.clone(), status: None })
            .collect();
        while let Some(done) = asked.join_next().await {
            if let Ok((index, status)) = done {
                answers[index].status = status;
            }
        }
        answers
    }

    /// Asks one member.
    pub async fn status(&self, api_url: &str) -> Option<PeerStatus> {
        let answer = self.send(self.client.get(api_url), PEER_WAIT_MAX).await?;
        read_status(&serde_json::from_slice(&answer).ok()?)
    }

    /// The whole answer of one member, whatever it says.
    pub async fn document(&self, api_url: &str, wait_max: Duration) -> Option<Value> {
        let answer = self.send(self.client.get(api_url), wait_max).await?;
        serde_json::from_slice(&answer).ok()
    }

    /// Does a daemon answer there, whatever it says of its health?
    pub async fn is_alive(&self, api_url: &str, wait_max: Duration) -> bool {
        let request = self.client.get(endpoint_url(api_url, "liveness")).timeout(wait_max);
        request.send().await.is_ok()
    }

    /// Posts a document to another endpoint of a member's API and returns the
    /// body of a successful answer.
    pub async fn post(
        &self,
        api_url: &str,
        endpoint: &str,
        body: &Value,
        wait_max: Duration,
    ) -> Option<Vec<u8>> {
        let request = self.client.post(endpoint_url(api_url, endpoint)).json(body);
        self.send(request, wait_max).await
    }

    /// Asks all of them at once to let the sender lead on; each that fails is
    /// asked once more. The answers, with the position that some tell, come in
    /// the order of the question. Once enough have agreed, the others are waited for a
    /// moment.
    pub async fn agree(
        &self,
        members: &[(MemberName, String)],
        question: Question<'_>,
        wait_max: Duration,
    ) -> Vec<Result<Option<Lsn>, String>> {
        let Question { body, ttl_ms, enough } = question;
        let mut asked = JoinSet::new();
        for (index, (_, api_url)) in members.iter().enumerate() {
            let (peers, url) = (self.clone(), endpoint_url(api_url, "failsafe"));
            let question = body.clone();
            asked.spawn(async move {
                let first = peers.agree_once(&url, &question, ttl_ms, wait_max).await;
                let answer = match first {
                    Ok(lsn) => Ok(lsn),
                    Err(_) => peers.agree_once(&url, &question, ttl_ms, wait_max).await,
                };
                (index, answer)
            });
        }
        let mut answers = vec![Err("no answer".to_string()); members.len()];
        let mut agreed = 0;
        loop {
            let next = asked.join_next();
            let done = match agreed >= enough {
                true => tokio::time::timeout(LATE_MAX, next).await.ok().flatten(),
                false => next.await,
            };
            let Some(done) = done else { return answers };
            if let Ok((index, answer)) = done {
                agreed += usize::from(answer.is_ok());
                answers[index] = answer;
            }
        }
    }

    async fn agree_once(
        &self,
        url: &str,
        question: &Value,
        ttl_ms: u64,
        wait_max: Duration,
    ) -> Result<Option<Lsn>, String> {
        let request = self.client.post(url).json(question).header(TTL_HEADER, ttl_ms);
        let request = match &self.login {
            Some(login) => request.basic_auth(&login.username, Some(&login.password.0)),
            None => request,
        };
        let sent = request.timeout(wait_max).send().await.map_err(|e| e.to_string())?;
        let status = sent.status();
        let lsn = sent.headers().get("lsn").and_then(|h| h.to_str().ok()?.parse().ok());
        let body = read_body(sent).await.ok_or("its answer breaks off")?;
        match (status.as_u16(), body.as_slice()) {
            (200, b"Accepted") => Ok(lsn.map(Lsn)),
            (code, body) => Err(format!(
                "{code} {}",
                String::from_utf8_lossy(&body[..body.len().min(ANSWER_SHOWN_MAX)])
            )),
        }
    }

    async fn send(&self, request: RequestBuilder, wait_max: Duration) -> Option<Vec<u8>> {
        let request = match &self.login {
            Some(login) => request.basic_auth(&login.username, Some(&login.password.0)),
            None => request,
        };
        let response = request.timeout(wait_max).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        read_body(response).await
    }
}

async fn read_body(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// Another path of the API that published `api_url`.
pub fn endpoint_url(api_url: &str, endpoint: &str) -> String {
    let after_scheme = api_url.find("://").map_or(0, |at| at + 3);
    let root = api_url[after_scheme..].find('/').map_or(api_url.len(), |at| after_scheme + at);
    format!("{}/{}", &api_url[..root], endpoint.trim_start_matches('/'))
}

/// Reads the body of `GET /patroni`. Older members say `wal`, newer `xlog`.
pub fn read_status(body: &Value) -> Option<PeerStatus> {
    let wal = body.get("xlog").or_else(|| body.get("wal"))?.as_object()?;
    let position = |key: &str| wal.get(key).and_then(Value::as_u64);
    let role = body.get("role").and_then(Value::as_str).unwrap_or("");
    let in_recovery = position("location").is_none() && !matches!(role, "primary" | "master");
    let lsn = [position("location"), position("received_location"), position("replayed_location")];
    let tags = Tags(body.get("tags").and_then(Value::as_object).cloned().unwrap_or_default());
    let timeline = body.get("timeline").and_then(Value::as_u64);
    let flag = |key: &str| body.get(key).and_then(Value::as_bool) == Some(true);
    Some(PeerStatus {
        in_recovery,
        lsn: Lsn(lsn.into_iter().flatten().max().unwrap_or(0)),
        timeline: timeline.and_then(|t| u32::try_from(t).ok()).map(Timeline),
        nofailover: tags.nofailover(),
        failover_priority: tags.failover_priority(),
        watchdog_failed: flag("watchdog_failed"),
        disk_failed: flag("disk_failed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_of_a_standby_are_read() {
        for word in ["xlog", "wal"] {
            let body = json!({"state": "running", "role": "replica", "timeline": 4,
                word: {"received_location": 90, "replayed_location": 100, "paused": false},
                "tags": {"failover_priority": "3"}});
            let read = read_status(&body).unwrap();
            assert!(read.in_recovery && read.is_eligible());
            assert_eq!((read.lsn, read.timeline), (Lsn(100), Some(Timeline(4))));
            assert_eq!(read.failover_priority, 3);
        }
    }

    #[test]
    fn a_primary_is_no_standby_and_a_limited_member_is_not_eligible() {
        let primary = json!({"role": "master", "xlog": {"location": 7}});
        let read = read_status(&primary).unwrap();
        assert!(!read.in_recovery);
        assert_eq!(read.lsn, Lsn(7));
        let limited = json!({"role": "replica", "xlog": {"replayed_location": 1},
            "tags": {"nofailover": true}, "watchdog_failed": true});
        let read = read_status(&limited).unwrap();
        assert!(read.nofailover && read.watchdog_failed && !read.is_eligible());
    }

    #[test]
    fn no_position_is_no_answer() {
        assert_eq!(read_status(&json!({"state": "stopped", "role": "replica"})), None);
        assert_eq!(read_status(&json!({"role": "replica", "xlog": null})), None);
        assert_eq!(read_status(&json!([1])), None);
    }

    #[test]
    fn endpoints_replace_the_path() {
        assert_eq!(endpoint_url("http://h:8008/patroni", "citus"), "http://h:8008/citus");
        assert_eq!(endpoint_url("https://[::1]:1", "/citus"), "https://[::1]:1/citus");
    }
}
