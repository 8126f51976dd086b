//! Where the members of an etcd cluster are.
//!
//! The settings name endpoints, or a domain whose SRV records do. Unless the
//! named ones are proxies, the cluster's own list of members is read too, so
//! that members that were added later are found when the named ones are gone.
//! What is configured is never forgotten: a cluster may tell addresses that are
//! of no use here.
//!
//! Invariant *no downgrade*: where the settings speak of https, an endpoint
//! without it is not taken from a list.

use super::discovery;
use super::endpoint::{ENDPOINTS_MAX, Endpoint};
use crate::dcs::DcsError;
use crate::dcs::settings::StoreSettings;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a list of members is good before anybody asked for a lease.
const REFRESH_FIRST: Duration = Duration::from_secs(300);
/// Later: this many times the ttl.
const REFRESH_TTLS: u32 = 10;
/// SRV records are looked up again after this.
const RESOLVED_FOR: Duration = Duration::from_secs(300);

pub(super) struct Endpoints {
    named: Vec<Endpoint>,
    settings: StoreSettings,
    learned: Mutex<Learned>,
}

struct Learned {
    resolved: Vec<Endpoint>,
    resolved_at: Option<Instant>,
    members: Vec<Endpoint>,
    members_at: Option<Instant>,
    refresh: Duration,
}

impl Endpoints {
    pub(super) fn new(settings: &StoreSettings) -> Result<Endpoints, DcsError> {
        if settings.hosts.is_empty() && settings.srv.is_none() {
            return Err(DcsError::Settings("no endpoints; set etcd3.hosts".to_string()));
        }
        let tls = settings.protocol == "https";
        let parse = |host: &String| {
            let bare = host.split_once("://").map_or(host.as_str(), |(_, rest)| rest);
            let wrong = || DcsError::Settings(format!("`{bare}` is no host:port"));
            Endpoint::parse(bare, tls).ok_or_else(wrong)
        };
        let named = settings.hosts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let learned = Learned {
            resolved: Vec::new(),
            resolved_at: None,
            members: Vec::new(),
            members_at: None,
            refresh: REFRESH_FIRST,
        };
        Ok(Endpoints { named, settings: settings.clone(), learned: Mutex::new(learned) })
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that are known now: the named ones first, each once.
    pub(super) fn known(&self) -> Vec<Endpoint> {
        let learned = self.learned();
        let mut all: Vec<Endpoint> = Vec::new();
        for endpoint in self.named.iter().chain(&learned.resolved).chain(&learned.members) {
            if !all.contains(endpoint) && all.len() < ENDPOINTS_MAX {
                all.push(endpoint.clone());
            }
        }
        all
    }

    /// Looks up SRV records, where the settings want it and the last look is
    /// old. Old answers are better than none.
    pub(super) async fn resolve(&self) -> Result<(), DcsError> {
        let Some(srv) = self.settings.srv.as_ref().filter(|_| self.named.is_empty()) else {
            return Ok(());
        };
        let at = self.learned().resolved_at;
        if at.is_some_and(|at| at.elapsed() < RESOLVED_FOR) {
            return Ok(());
        }
        match discovery::endpoints(srv, &self.settings).await {
            Ok(found) => {
                let mut learned = self.learned();
                learned.resolved = found;
                learned.resolved_at = Some(Instant::now());
                Ok(())
            }
            Err(error) if self.learned().resolved.is_empty() => Err(error),
            Err(error) => {
                tracing::warn!("{error}; the endpoints that were found before are used");
                Ok(())
            }
        }
    }

    /// No endpoint answered: look the names up again next time.
    pub(super) fn distrust(&self) {
        self.learned().resolved_at = None;
    }

    /// Is the list of members due to be read? A caller that gets `true` must read
    /// it: no other caller gets `true` before the list is due again.
    pub(super) fn take_turn(&self) -> bool {
        if self.settings.use_proxies {
            return false;
        }
        let mut learned = self.learned();
        let due = learned.members_at.is_none_or(|at| at.elapsed() >= learned.refresh);
        if due {
            learned.members_at = Some(Instant::now());
        }
        due
    }

    /// The list of members is to be read soon.
    pub(super) fn refresh(&self) {
        self.learned().members_at = None;
    }

    /// A lease of this length was asked for.
    pub(super) fn heard_ttl(&self, ttl: Duration) {
        self.learned().refresh = ttl * REFRESH_TTLS;
    }

    /// The addresses that the members tell their clients.
    pub(super) fn learn(&self, urls: impl Iterator<Item = String>) {
        let mut learned = self.learned();
        let wants_tls = self.named.iter().chain(&learned.resolved).all(|endpoint| endpoint.tls);
        let usable = |endpoint: &Endpoint| {
            let nowhere = ["0.0.0.0", "::"].contains(&endpoint.host.as_str());
            !nowhere && (endpoint.tls || !wants_tls)
        };
        let found = urls.filter_map(|url| Endpoint::parse(&url, false)).filter(usable);
        let members: Vec<Endpoint> = found.take(ENDPOINTS_MAX).collect();
        // An empty list is of no use; the last one may be.
        if !members.is_empty() {
            learned.members = members;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(settings: StoreSettings) -> Endpoints {
        Endpoints::new(&settings).unwrap()
    }

    fn names(endpoints: &Endpoints) -> Vec<String> {
        endpoints.known().iter().map(Endpoint::to_string).collect()
    }

    fn learn(endpoints: &Endpoints, urls: &[&str]) {
        endpoints.learn(urls.iter().map(ToString::to_string));
    }

    #[test]
    fn members_join_what_is_named_and_leave_it_again() {
        let hosts = vec!["a:1".to_string(), "[::1]:2".to_string()];
        let all = endpoints(StoreSettings { hosts, ..StoreSettings::default() });
        assert!(all.take_turn() && !all.take_turn());
        learn(&all, &["http://a:1", "http://b:1", "http://0.0.0.0:1", "unix://x"]);
        assert_eq!(names(&all), ["http://a:1", "http://[::1]:2", "http://b:1"]);
        learn(&all, &["http://c:1"]);
        assert_eq!(names(&all), ["http://a:1", "http://[::1]:2", "http://c:1"]);
        learn(&all, &[]);
        assert_eq!(names(&all).len(), 3);
        assert_eq!(all.known()[1].host, "::1");
    }

    #[test]
    fn a_list_does_not_lead_from_https_to_http() {
        let settings = StoreSettings { hosts: vec!["a:1".into()], ..StoreSettings::default() };
        let all = endpoints(StoreSettings { protocol: "https".into(), ..settings });
        learn(&all, &["http://b:1", "https://c:1"]);
        assert_eq!(names(&all), ["https://a:1", "https://c:1"]);
    }

    #[test]
    fn proxies_are_not_left_for_members() {
        let settings = StoreSettings { hosts: vec!["a:1".into()], ..StoreSettings::default() };
        assert!(!endpoints(StoreSettings { use_proxies: true, ..settings }).take_turn());
    }

    #[test]
    fn no_endpoint_at_all_is_a_mistake_of_the_settings() {
        let none = Endpoints::new(&StoreSettings::default()).err().unwrap();
        assert!(matches!(none, DcsError::Settings(_)), "{none}");
    }
}
