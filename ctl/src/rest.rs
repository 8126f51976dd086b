//! Calls to the REST APIs of members.
//!
//! Every call has a deadline and its answer a largest size. "No answer" is a
//! value of its own: what to do then is for the command to decide.

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use node::config::{Credentials, Ctl};
use node::peers::endpoint_url;
use node::tls::{self, Believed, TlsError, Trust};
use reqwest::{Client, Method};
use serde_json::Value;
use std::time::Duration;

/// For calls that a member answers from memory.
pub(crate) const QUICK: Duration = Duration::from_secs(10);
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 4 << 20;

pub(crate) struct Rest {
    client: Client,
    login: Option<Credentials>,
    /// Certificates must be verified, and there is no authority to verify them with.
    lacks_authority: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub status: u16,
    pub text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

/// An answer with its `Date`, and when it was asked for and came, by our own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    pub reply: Reply,
    pub date_ms: Option<i64>,
    pub sent_ms: i64,
    pub got_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url} gave no answer: {reason}")]
pub(crate) struct NoAnswer {
    pub url: String,
    pub reason: String,
}

impl Rest {
    pub(crate) fn new(ctl: &Ctl, insecure: bool) -> Result<Rest> {
        let insecure = insecure || ctl.insecure;
        let trust = if insecure { Trust::Anyone } else { Trust::ChainAndName };
        let tls = tls::client_config(Believed::new(trust, ctl.cacert.as_deref()), ctl.own());
        // A system without authorities matters only for calls by https.
        let lacks_authority = matches!(tls, Err(TlsError::NoSystemAuthorities));
        let tls = match tls {
            Err(TlsError::NoSystemAuthorities) => {
                tls::client_config(Believed::new(Trust::Anyone, None), ctl.own())
            }
            other => other,
        };
        let client = Client::builder()
            .tls_backend_preconfigured(tls.context("the certificates of `ctl` cannot be used")?)
            .user_agent(format!("Patroni/{} matriarchctl", topology::member::PATRONI_VERSION))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_WAIT_MAX)
            .build()
            .context("the REST client cannot be set up")?;
        Ok(Rest { client, login: ctl.authentication.clone(), lacks_authority })
    }

    /// One call; `endpoint` replaces the path of `api_url`.
    pub(crate) async fn call(
        &self,
        method: Method,
        api_url: &str,
        endpoint: &str,
        body: Option<&Value>,
        wait_max: Duration,
    ) -> Result<Reply, NoAnswer> {
        let url = endpoint_url(api_url, endpoint);
        let response = self.send(method, &url, body, wait_max).await?;
        reply(response, &url).await
    }

    /// A GET, with the clocks of both sides.
    pub(crate) async fn timed(
        &self,
        api_url: &str,
        endpoint: &str,
        wait_max: Duration,
    ) -> Result<Timed, NoAnswer> {
        let url = endpoint_url(api_url, endpoint);
        let sent_ms = Timestamp::now().as_millisecond();
        let response = self.send(Method::GET, &url, None, wait_max).await?;
        let got_ms = Timestamp::now().as_millisecond();
        let date = response.headers().get(reqwest::header::DATE).and_then(|d| d.to_str().ok());
        let date = date.and_then(|text| rfc2822::DateTimeParser::new().parse_timestamp(text).ok());
        let date_ms = date.map(|at| at.as_millisecond());
        Ok(Timed { reply: reply(response, &url).await?, date_ms, sent_ms, got_ms })
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<&Value>,
        wait_max: Duration,
    ) -> Result<reqwest::Response, NoAnswer> {
        let lost = |reason: String| NoAnswer { url: url.to_string(), reason };
        if self.lacks_authority && url.starts_with("https:") {
            return Err(lost(
                "its certificate cannot be verified; set ctl.cacert, or use --insecure".into(),
            ));
        }
        let mut request = self.client.request(method, url).timeout(wait_max);
        if let Some(login) = &self.login {
            request = request.basic_auth(&login.username, Some(&login.password.0));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.map_err(|e| lost(with_remedy(chain(&e))))
    }
}

async fn reply(response: reqwest::Response, url: &str) -> Result<Reply, NoAnswer> {
    let status = response.status().as_u16();
    let text = text_of(response).await;
    let text = text.map_err(|reason| NoAnswer { url: url.to_string(), reason })?;
    Ok(Reply { status, text })
}

async fn text_of(mut response: reqwest::Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| chain(&e))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("more than {ANSWER_BYTES_MAX} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What helps against a certificate that is not believed.
fn with_remedy(reason: String) -> String {
    match reason.contains("certificate") {
        true => format!("{reason}; name its authority in ctl.cacert, or use --insecure"),
        false => reason,
    }
}

/// The innermost cause says most: "connection refused", "deadline".
fn chain(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
pub(crate) mod answering {
    //! A REST API that gives prepared answers and remembers the questions.

    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    #[derive(Clone, Default)]
    pub(crate) struct Asked(Arc<Mutex<Vec<String>>>);

    impl Asked {
        /// `METHOD /path body` of every request, in order.
        pub(crate) fn all(&self) -> Vec<String> {
            self.0.lock().unwrap().clone()
        }
    }

    /// Answers `(status, text)` to requests that begin with the given words;
    /// 404 to the rest. Returns the address.
    pub(crate) async fn serve(answers: Vec<(&'static str, u16, String)>) -> (String, Asked) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/patroni", listener.local_addr().unwrap());
        let asked = Asked::default();
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &answers, &log).await;
            }
        });
        (address, asked)
    }

    async fn answer(mut stream: TcpStream, answers: &[(&str, u16, String)], log: &Asked) {
        let request = read(&mut stream).await;
        let (head, body) = request.split_once("\r\n\r\n").unwrap_or((&request, ""));
        let line = head.lines().next().unwrap_or("").trim_end_matches(" HTTP/1.1");
        let login = head.lines().find_map(|l| l.strip_prefix("authorization: Basic "));
        let login = login.map_or(String::new(), |l| format!("[{l}] "));
        log.0.lock().unwrap().push(format!("{login}{line} {body}").trim_end().to_string());
        let found = answers.iter().find(|(begin, ..)| line.starts_with(begin));
        let (status, text) = found.map_or((404, ""), |(_, status, text)| (*status, text.as_str()));
        let length = text.len();
        let reply = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
        );
        let _ = stream.write_all(reply.as_bytes()).await;
    }

    async fn read(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                if count == 0 {
                    return text;
                }
                continue;
            };
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
            let length = length.and_then(|l| l.parse().ok()).unwrap_or(0);
            if count == 0 || body.len() >= length {
                return text;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::config::Secret;
    use serde_json::json;

    #[tokio::test]
    async fn a_call_carries_the_login_and_brings_status_and_text() {
        let (url, asked) = answering::serve(vec![("PATCH /config", 409, "busy".into())]).await;
        let login = Credentials { username: "u".into(), password: Secret("p".into()) };
        let ctl = Ctl { authentication: Some(login), ..Ctl::default() };
        let rest = Rest::new(&ctl, false).unwrap();
        let body = json!({"pause": true});
        let reply = rest.call(Method::PATCH, &url, "config", Some(&body), QUICK).await.unwrap();
        assert_eq!(reply, Reply { status: 409, text: "busy".into() });
        assert_eq!(asked.all(), [r#"[dTpw] PATCH /config {"pause":true}"#]);
    }

    #[tokio::test]
    async fn silence_is_no_answer() {
        let rest = Rest::new(&Ctl::default(), false).unwrap();
        let closed = rest.call(Method::GET, "http://127.0.0.1:1/x", "patroni", None, QUICK).await;
        assert_eq!(closed.unwrap_err().url, "http://127.0.0.1:1/patroni");
    }

    #[tokio::test]
    async fn an_answer_brings_the_clock_of_its_server() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/patroni", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let reply = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                content-length: 2\r\nconnection: close\r\n\r\n{}";
            let _ = stream.write_all(reply.as_bytes()).await;
        });
        let rest = Rest::new(&Ctl::default(), false).unwrap();
        let timed = rest.timed(&url, "patroni", QUICK).await.unwrap();
        assert_eq!(timed.date_ms, Some(784_111_777_000));
        assert!(timed.sent_ms <= timed.got_ms);
        assert_eq!(timed.reply.text, "{}");
    }
}
