//! From which addresses the group's members come.
//!
//! Names are looked up beside the requests, so that no caller waits for a
//! resolver. An address that is not known yet only has no reserved place.

use super::auth::{Network, member_hosts, resolve};
use super::places::Places;
use super::published::Published;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Names may come to mean other addresses; they are looked up again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// Tells `places` who the members are, until the daemon ends.
pub(super) async fn keep_known(
    places: Arc<Places>,
    mut published: watch::Receiver<Arc<Published>>,
) {
    loop {
        let hosts = member_hosts(&published.borrow_and_update().clone());
        places.set_members(addresses(&hosts).await);
        let others = published.wait_for(|published| member_hosts(published) != hosts);
        let is_over = async { others.await.is_err() };
        if let Ok(true) = tokio::time::timeout(AGAIN, is_over).await {
            return;
        }
    }
}

async fn addresses(hosts: &[String]) -> HashSet<IpAddr> {
    let mut known = HashSet::new();
    for host in hosts {
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => drop(known.insert(address.to_canonical())),
            Err(_) => {
                let found = resolve(host).await.unwrap_or_default();
                known.extend(found.iter().map(Network::address));
            }
        }
    }
    known
}
