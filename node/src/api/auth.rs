//! Who may change something: allowlist, client certificate, password.
//!
//! Reading is free, every POST, PUT, PATCH and DELETE passes through here. The
//! order is part of the contract: the address first, then the certificate,
//! then the password. A doubt (a name that does not resolve) is a refusal.

use super::answer::Answer;
use super::caller::Caller;
use super::published::Published;
use super::tls::ClientProof;
use crate::config::{Credentials, RestApi};
use axum::http::{HeaderMap, StatusCode, header};
use base64::prelude::{BASE64_STANDARD, Engine};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;
use subtle::ConstantTimeEq;
use topology::member::split_url;

/// How long one name may take to resolve.
const RESOLVE_WAIT_MAX: Duration = Duration::from_secs(2);
/// Addresses of members that are looked up for one request.
const MEMBERS_MAX: usize = 1_000;

#[derive(Debug, thiserror::Error)]
#[error("restapi.allowlist: `{entry}` is no address, network or host name that resolves: {reason}")]
pub struct BadAllowlist {
    pub entry: String,
    pub reason: String,
}

/// The addresses that one entry of the allowlist stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(IpNet);

impl Network {
    /// An address or `address/bits`; one of IPv6 may stand in brackets.
    pub(crate) fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
        let all = IpNet::from(address);
        bits.map_or(Some(all), |bits| IpNet::new(address, bits).ok()).map(Network)
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.0.addr().to_canonical()
    }

    /// A caller over IPv4 may show an address of IPv6 that is mapped from it.
    pub(crate) fn contains(&self, caller: IpAddr) -> bool {
        self.0.contains(&caller.to_canonical())
    }
}

pub(crate) struct Gate {
    login: Option<Credentials>,
    needs_certificate: bool,
    networks: Vec<Network>,
    include_members: bool,
    has_allowlist: bool,
}

impl Gate {
    /// Resolves the names of the allowlist once.
    pub(crate) async fn new(settings: &RestApi, proof: ClientProof) -> Result<Gate, BadAllowlist> {
        let mut networks = Vec::new();
        for entry in &settings.allowlist {
            match Network::parse(entry) {
                Some(network) => networks.push(network),
                None => networks.extend(
                    resolve(entry)
                        .await
                        .map_err(|reason| BadAllowlist { entry: entry.clone(), reason })?,
                ),
            }
        }
        Ok(Gate {
            login: settings.authentication.clone(),
            needs_certificate: settings.certfile.is_some() && proof != ClientProof::None,
            networks,
            include_members: settings.allowlist_include_members,
            has_allowlist: !settings.allowlist.is_empty() || settings.allowlist_include_members,
        })
    }

    /// `Err` is the refusal to send.
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        published: &Published,
    ) -> Result<(), Answer> {
        if self.has_allowlist && !self.is_listed(caller.address.ip(), published).await {
            return Err(Answer::text(StatusCode::FORBIDDEN, "Access is denied"));
        }
        self.admit_unlisted(caller, headers)
    }

    /// The same wherever the caller's address is.
    pub(crate) fn admit_unlisted(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<(), Answer> {
        if self.needs_certificate && !caller.has_certificate {
            return Err(Answer::text(StatusCode::FORBIDDEN, "client certificate required"));
        }
        let Some(login) = &self.login else {
            return Ok(());
        };
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return Err(Answer::text(StatusCode::UNAUTHORIZED, "no auth header received"));
        };
        if same_bytes(given.as_bytes(), basic(login).as_bytes()) {
            Ok(())
        } else {
            Err(Answer::text(StatusCode::UNAUTHORIZED, "not authenticated"))
        }
    }

    async fn is_listed(&self, caller: IpAddr, published: &Published) -> bool {
        if self.networks.iter().any(|network| network.contains(caller)) {
            return true;
        }
        if !self.include_members {
            return false;
        }
        for host in member_hosts(published) {
            let found = match Network::parse(&host) {
                Some(network) => vec![network],
                None => resolve(&host).await.unwrap_or_default(),
            };
            if found.iter().any(|network| network.contains(caller)) {
                return true;
            }
        }
        false
    }
}

pub(super) fn member_hosts(published: &Published) -> Vec<String> {
    let own = published.view.as_deref().into_iter();
    let all = published.groups.as_deref().into_iter().flat_map(|groups| groups.values());
    let records = own.chain(all).flat_map(|view| view.members.values());
    let mut hosts: Vec<String> =
        records.filter_map(|member| Some(split_url(member.value.api_url.as_deref()?)?.0)).collect();
    hosts.sort();
    hosts.dedup();
    hosts.truncate(MEMBERS_MAX);
    hosts
}

pub(super) async fn resolve(host: &str) -> Result<Vec<Network>, String> {
    let looked_up = tokio::time::timeout(RESOLVE_WAIT_MAX, tokio::net::lookup_host((host, 0)));
    match looked_up.await {
        Err(_) => Err("no answer in time".to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => {
            Ok(found.filter_map(|address| Network::parse(&address.ip().to_string())).collect())
        }
    }
}

fn basic(login: &Credentials) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", login.username, login.password.0)))
}

/// Takes as long for a wrong byte at the start as for one at the end.
fn same_bytes(given: &[u8], wanted: &[u8]) -> bool {
    given.ct_eq(wanted).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn network(text: &str) -> Network {
        Network::parse(text).unwrap()
    }

    #[test]
    fn networks_contain_what_they_say() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(network("10.1.0.0/16").contains(ip("10.1.200.3")));
        assert!(!network("10.1.0.0/16").contains(ip("10.2.0.1")));
        assert!(network("127.0.0.1").contains(ip("::ffff:127.0.0.1")));
        assert!(!network("127.0.0.1").contains(ip("127.0.0.2")));
        assert!(network("0.0.0.0/0").contains(ip("8.8.8.8")));
        assert!(!network("0.0.0.0/0").contains(ip("fe80::1")));
        assert!(network("fe80::/10").contains(ip("fe80::1")));
        assert!(!network("fe80::1").contains(ip("fe80::2")));
        assert_eq!(Network::parse("10.0.0.0/33"), None);
        assert_eq!(Network::parse("host"), None);
    }

    #[test]
    fn a_login_is_sent_as_the_standard_says() {
        for (username, password, sent) in [("u", "p", "Basic dTpw"), ("é", "", "Basic w6k6")] {
            let password = Secret(password.into());
            assert_eq!(basic(&Credentials { username: username.into(), password }), sent);
        }
    }

    #[test]
    fn only_equal_bytes_are_the_same() {
        assert!(same_bytes(b"abc", b"abc"));
        for other in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert!(!same_bytes(other, b"abc"));
        }
    }
}
