//! Questions to a running field: over REST, until the answer is as wished.

use super::plan::MemberPlan;
use super::process::{Field, FieldError};
use serde_json::Value;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// One client for all questions.
pub struct Asker {
    http: reqwest::Client,
}

/// A status and its body as JSON (or as a JSON string when it is none).
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
}

impl Default for Asker {
    fn default() -> Asker {
        Asker::new()
    }
}

/// What `/cluster` calls a member that follows.
const REPLICAS: [&str; 3] = ["replica", "sync_standby", "quorum_standby"];

impl Asker {
    pub fn new() -> Asker {
        // The first one in a process counts; a second is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build();
        Asker { http: http.expect("a client without TLS files always builds") }
    }

    pub async fn get(&self, member: &MemberPlan, path: &str) -> Option<Reply> {
        self.send(reqwest::Method::GET, member, path, None).await
    }

    pub async fn send(
        &self,
        method: reqwest::Method,
        member: &MemberPlan,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Reply> {
        let url = format!("http://{}:{}{path}", member.host, member.api_port);
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let text = answer.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(Reply { status, body })
    }

    /// Who answers 200 to this path among the members?
    pub async fn who<'a>(&self, members: &[&'a MemberPlan], path: &str) -> Vec<&'a MemberPlan> {
        let mut yes = Vec::new();
        for member in members {
            if self.get(member, path).await.is_some_and(|reply| reply.status == 200) {
                yes.push(*member);
            }
        }
        yes
    }

    pub async fn primary<'a>(&self, members: &[&'a MemberPlan]) -> Option<&'a MemberPlan> {
        self.who(members, "/primary").await.pop()
    }

    /// All members of the group run, one leads and the others stream from it.
    pub async fn is_healthy(&self, members: &[&MemberPlan]) -> bool {
        for member in members {
            let Some(reply) = self.get(member, "/cluster").await else { continue };
            let Some(list) = reply.body["members"].as_array() else { continue };
            let leads = |m: &&Value| {
                m["role"] == "leader" && m["state"] == "running"
                    || m["role"] == "standby_leader" && m["state"] == "streaming"
            };
            let streams = |m: &&Value| {
                let role = m["role"].as_str().unwrap_or_default();
                REPLICAS.contains(&role) && m["state"] == "streaming"
            };
            let leaders = list.iter().filter(leads).count();
            let replicas = list.iter().filter(streams).count();
            // A diverged standby streams for moments, on a line of its own.
            let same_line = list.windows(2).all(|two| two[0]["timeline"] == two[1]["timeline"]);
            return leaders == 1 && replicas == members.len() - 1 && same_line;
        }
        false
    }
}

impl Field {
    /// Waits until the question is answered with yes.
    pub async fn until<F: AsyncFnMut() -> bool>(
        &self,
        what: &str,
        limit: Duration,
        mut question: F,
    ) -> Result<Duration, FieldError> {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            if question().await {
                return Ok(begin.elapsed());
            }
            tokio::time::sleep(POLL).await;
        }
        let (what, seconds) = (what.to_string(), limit.as_secs());
        let hint = format!("; the logs are in {}", self.dir.display());
        Err(FieldError::TooLate { what, seconds, hint })
    }
}
