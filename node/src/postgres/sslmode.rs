//! With TLS or without, and in which order: the rules of libpq's `sslmode`.
//!
//! Every connection to a server follows them, whether for SQL or for replication.
//!
//! Invariant *no password in clear by accident*: after a connection with TLS was given
//! up, one without it is tried only if the mode permits it and the server has no TLS,
//! refused the handshake, or has no line in pg_hba.conf for this kind of connection. A
//! connection that broke says nothing of the kind.

use super::conninfo;
use super::error::Error;
use super::target::Target;
use tokio_postgres::error::SqlState;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Encrypted,
    Plain,
}

pub(super) fn mode(target: &Target) -> &str {
    target.login.extra.get("sslmode").map_or("prefer", String::as_str)
}

/// The first of the named servers that takes a connection.
pub(super) async fn connect<T, F>(
    target: &Target,
    attempt: impl Fn(String, u16, Wire) -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut last = None;
    for (host, port) in conninfo::servers(&target.host, target.port) {
        let order = order(mode(target), &host, target.is_own);
        match in_order(order, |wire| attempt(host.clone(), port, wire)).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("a list of hosts has one"))
}

/// What is sent to the own server does not leave the machine: it is asked without TLS
/// first, unless the mode demands TLS.
fn order(mode: &str, host: &str, is_own: bool) -> &'static [Wire] {
    match mode {
        _ if host.starts_with('/') => &[Wire::Plain],
        "disable" => &[Wire::Plain],
        "allow" => &[Wire::Plain, Wire::Encrypted],
        "prefer" if is_own => &[Wire::Plain, Wire::Encrypted],
        "prefer" => &[Wire::Encrypted, Wire::Plain],
        _ => &[Wire::Encrypted],
    }
}

async fn in_order<T, F>(order: &[Wire], attempt: impl Fn(Wire) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let (last, earlier) = order.split_last().expect("an order has a last one");
    for wire in earlier {
        match attempt(*wire).await {
            Err(error) if is_for_the_other_wire(&error) => continue,
            answer => return answer,
        }
    }
    attempt(*last).await
}

/// TLS cannot be set up here, the server has none or refused the handshake, or
/// pg_hba.conf has no line for this kind of connection. A password that was refused is
/// not sent again in another way.
fn is_for_the_other_wire(error: &Error) -> bool {
    match error {
        Error::Tls { .. } => true,
        Error::Refused { source, .. } => match source.code() {
            Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            // The type of the error is private to its crate.
            None => source.to_string().starts_with("error performing TLS handshake"),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Login, Secret};
    use crate::postgres::{replication, session::Session};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Both ways to connect.
    const REPLICATES: [bool; 2] = [false, true];

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum First {
        TlsRequest,
        Startup { replication: bool },
    }

    /// What a server does with a connection that asks for TLS.
    #[derive(Clone, Copy)]
    enum Answer {
        NoTls,
        /// It ends the connection, as a server does that is being stopped.
        Close,
        /// It agrees and answers the handshake with something else.
        BreakHandshake,
    }

    /// The first messages of the connections that one call makes to a server that ends
    /// every session when it begins.
    async fn firsts(mode: &str, is_own: bool, replicates: bool, answer: Answer) -> Vec<First> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let password = Some(Secret("secret".into()));
        let mut login = Login { username: "u".into(), password, ..Login::default() };
        login.extra.insert("sslmode".into(), mode.into());
        let target = Target {
            is_own,
            connect_limit: Duration::from_secs(20),
            ..Target::new("127.0.0.1", port, &login, "postgres", "test")
        };
        let mut calling = tokio::spawn(async move {
            match replicates {
                true => replication::history(&target).await.map(|_| ()),
                false => Session::connect(&target).await.map(|_| ()),
            }
        });
        let mut seen = Vec::new();
        loop {
            tokio::select! {
                called = &mut calling => {
                    called.unwrap().expect_err("every session was ended");
                    return seen;
                }
                accepted = listener.accept() => serve(accepted.unwrap().0, answer, &mut seen).await,
            }
        }
    }

    async fn serve(mut wire: tokio::net::TcpStream, answer: Answer, seen: &mut Vec<First>) {
        let first = first_of(&mut wire).await.expect("a client speaks first");
        seen.push(first);
        match (first, answer) {
            (First::Startup { .. }, _) | (_, Answer::Close) => {}
            (First::TlsRequest, Answer::NoTls) => {
                wire.write_all(b"N").await.unwrap();
                // The same connection may go on without TLS.
                seen.extend(first_of(&mut wire).await);
            }
            (First::TlsRequest, Answer::BreakHandshake) => {
                wire.write_all(b"Sno handshake at all").await.unwrap();
                let _ = wire.read_to_end(&mut Vec::new()).await;
            }
        }
    }

    async fn first_of(wire: &mut tokio::net::TcpStream) -> Option<First> {
        let length = wire.read_u32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        wire.read_exact(&mut body).await.ok()?;
        Some(match &body[..4] {
            [4, 210, 22, 47] => First::TlsRequest,
            [0, 3, 0, 0] => {
                First::Startup { replication: body.ends_with(b"replication\0true\0\0") }
            }
            other => panic!("{other:?}"),
        })
    }

    #[tokio::test]
    async fn s3_tls_comes_first_but_to_the_own_server() {
        for replication in REPLICATES {
            let firsts = |mode, is_own| firsts(mode, is_own, replication, Answer::NoTls);
            let plain = First::Startup { replication };
            assert_eq!(firsts("prefer", false).await, [First::TlsRequest, plain]);
            for is_own in [false, true] {
                assert_eq!(firsts("require", is_own).await, [First::TlsRequest]);
            }
            for (mode, is_own) in [("prefer", true), ("allow", false), ("disable", false)] {
                assert_eq!(firsts(mode, is_own).await, [plain], "{mode}");
            }
        }
    }

    #[tokio::test]
    async fn s3_a_connection_that_breaks_is_not_made_again_in_clear() {
        for replication in REPLICATES {
            let firsts = firsts("prefer", false, replication, Answer::Close).await;
            assert_eq!(firsts, [First::TlsRequest], "replication: {replication}");
        }
    }

    #[tokio::test]
    async fn s3_a_refused_handshake_is_followed_by_a_connection_without_tls() {
        for replication in REPLICATES {
            let plain = First::Startup { replication };
            let firsts = |mode| firsts(mode, false, replication, Answer::BreakHandshake);
            assert_eq!(firsts("prefer").await, [First::TlsRequest, plain]);
            assert_eq!(firsts("require").await, [First::TlsRequest]);
        }
    }
}
