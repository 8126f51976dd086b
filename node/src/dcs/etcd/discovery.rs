//! Endpoints by DNS: the SRV records of a domain.
//!
//! Six names are asked for at once; the first one in the order of the field
//! that has records is used. Records of servers name peers, not clients: a peer
//! is asked for the members and for where they serve clients.
//!
//! Absent on purpose: weights and priorities. All endpoints are tried anyway,
//! in the order of the answer.

use super::endpoint::{ENDPOINTS_MAX, Endpoint};
use super::{link, translate};
use crate::dcs::DcsError;
use crate::dcs::settings::{Srv, StoreSettings};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::proto::rr::{RData, RecordType};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// Of one question to one name server. A call of the store waits for it.
const DNS_WAIT_MAX: Duration = Duration::from_secs(1);
const DNS_ATTEMPTS: usize = 2;
/// Of a peer that is asked for the members.
const PEER_WAIT_MAX: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Services in the order of the field.
const SERVICES: [&str; 6] = ["-client-ssl", "-client", "-ssl", "", "-server-ssl", "-server"];

/// The names in their order, each with its service.
fn names(srv: &Srv) -> Vec<(&'static str, String)> {
    let suffix = srv.suffix.as_ref().map(|suffix| format!("-{suffix}")).unwrap_or_default();
    let domain = srv.domain.trim_end_matches('.');
    let name = |service: &str| format!("_etcd{service}{suffix}._tcp.{domain}.");
    SERVICES.map(|service| (service, name(service))).to_vec()
}

pub(super) async fn endpoints(
    srv: &Srv,
    settings: &StoreSettings,
) -> Result<Vec<Endpoint>, DcsError> {
    let resolver = resolver(srv)?;
    let mut asked = JoinSet::new();
    for (index, (_, name)) in names(srv).into_iter().enumerate() {
        let resolver = resolver.clone();
        asked.spawn(async move { (index, records(&resolver, &name).await) });
    }
    let mut answers = vec![Vec::new(); SERVICES.len()];
    let mut reasons = Vec::new();
    while let Some(done) = asked.join_next().await {
        match done {
            Ok((index, Ok(found))) => answers[index] = found,
            Ok((_, Err(reason))) => reasons.push(reason),
            Err(stopped) => reasons.push(stopped.to_string()),
        }
    }
    let Some(first) = answers.iter().position(|found| !found.is_empty()) else {
        let why = reasons.first().map(|why| format!(": {why}")).unwrap_or_default();
        let domain = &srv.domain;
        return Err(translate::unreachable(format!("no SRV record of {domain} names etcd{why}")));
    };
    let service = SERVICES[first];
    let tls = service.ends_with("-ssl");
    let found = answers.swap_remove(first).into_iter();
    let found: Vec<Endpoint> = found.filter_map(|name| Endpoint::parse(&name, tls)).collect();
    if service.starts_with("-server") { of_peers(&found, settings).await } else { Ok(found) }
}

fn resolver(srv: &Srv) -> Result<TokioResolver, DcsError> {
    let wrong = |e: &dyn std::error::Error| {
        translate::unreachable(format!("the system's name servers are not known: {e}"))
    };
    let mut builder = match srv.name_server {
        Some(at) => TokioResolver::builder_with_config(only(at), Default::default()),
        None => TokioResolver::builder_tokio().map_err(|e| wrong(&e))?,
    };
    let options = builder.options_mut();
    (options.timeout, options.attempts) = (DNS_WAIT_MAX, DNS_ATTEMPTS);
    builder.build().map_err(|e| wrong(&e))
}

fn only(at: SocketAddr) -> ResolverConfig {
    let mut server = NameServerConfig::udp(at.ip());
    for connection in &mut server.connections {
        connection.port = at.port();
    }
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

/// `host:port` of every record; no record is no failure.
async fn records(resolver: &TokioResolver, name: &str) -> Result<Vec<String>, String> {
    let answer = match resolver.lookup(name, RecordType::SRV).await {
        Ok(answer) => answer,
        Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let address = |data: &RData| match data {
        RData::SRV(srv) => {
            Some(format!("{}:{}", srv.target.to_utf8().trim_end_matches('.'), srv.port))
        }
        _ => None,
    };
    let answers = answer.answers().iter();
    Ok(answers.filter_map(|record| address(&record.data)).take(ENDPOINTS_MAX).collect())
}

/// The first peer that answers tells where clients are served.
async fn of_peers(peers: &[Endpoint], settings: &StoreSettings) -> Result<Vec<Endpoint>, DcsError> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(link::client_config(settings)?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PEER_WAIT_MAX)
        .build()
        .map_err(|e| DcsError::Settings(e.to_string()))?;
    let mut asked = JoinSet::new();
    for peer in peers {
        asked.spawn(members(client.clone(), format!("{peer}/members")));
    }
    while let Some(done) = asked.join_next().await {
        if let Ok(Some(found)) = done
            && !found.is_empty()
        {
            return Ok(found);
        }
    }
    let names: Vec<String> = peers.iter().map(Endpoint::to_string).collect();
    let why = format!("no peer tells the members of etcd: {}", names.join(", "));
    Err(translate::unreachable(why))
}

async fn members(client: reqwest::Client, url: String) -> Option<Vec<Endpoint>> {
    let mut response = client.get(url).send().await.ok()?.error_for_status().ok()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    let members: Value = serde_json::from_slice(&body).ok()?;
    let urls = members.as_array()?.iter().flat_map(|member| member["clientURLs"].as_array());
    let urls = urls.flatten().filter_map(Value::as_str);
    Some(urls.filter_map(|url| Endpoint::parse(url, false)).take(ENDPOINTS_MAX).collect())
}

#[cfg(test)]
mod tests;
