//! Reading the configuration again, on SIGHUP or `POST /reload`.
//!
//! Invariants: a configuration with findings changes nothing; a part that
//! cannot be put into force (a port in use, a broken certificate) stays as it
//! was, and so it is told; what counts only from a start on is not half
//! changed: the daemon goes on with what it began with.

use super::{Daemon, Origin};
use crate::config::{Loaded, Settings, StoreSettings};
use crate::notify;
use crate::peers::Peers;
use std::sync::Arc;
use std::time::Duration;

/// The beat waits at most this long for the REST API to take over its settings; names
/// in its allowlist may resolve slowly.
const API_WAIT_MAX: Duration = Duration::from_secs(2);

impl Daemon {
    pub(super) async fn reload(&mut self, origin: &Origin) {
        notify::reloading();
        match crate::config::load(origin.path.as_deref(), &origin.env) {
            Ok(loaded) => self.take_over(loaded).await,
            Err(findings) => {
                for finding in findings.iter() {
                    tracing::error!("the configuration is kept as it was: {finding}");
                }
            }
        }
        notify::ready();
    }

    async fn take_over(&mut self, loaded: Loaded) {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let old = self.settings.clone();
        let (mut new, _) = loaded.settings.with_cluster_wide_at_start(&self.member.dynamic.raw);
        for path in keep_fixed(&old, &mut new) {
            tracing::warn!("{path} has changed; it counts from the next start of the daemon on");
        }
        if let Err(error) = crate::log::apply(&new.log) {
            tracing::error!("the log is kept as it was: {error}");
            new.log = old.log.clone();
        }
        match Peers::new(&new) {
            Ok(peers) => self.peers = peers,
            Err(error) => {
                tracing::error!("the section ctl is kept as it was: {error}");
                new.ctl = old.ctl.clone();
            }
        }
        if !self.reload_api(&new).await {
            new.restapi = old.restapi.clone();
        }
        let changed = new.raw != old.raw;
        self.settings = Arc::new(self.with_cluster_wide(&new));
        self.member.minimum_ttl = self.settings.minimum_ttl();
        self.store.set_login(&self.settings.store);
        self.watchdog.take_settings(self.settings.watchdog.clone());
        self.server.take_settings(self.settings.clone());
        self.member.settings_read();
        let what = if changed { "it has changed" } else { "it is as it was" };
        tracing::info!("the configuration was read again: {what}");
    }

    /// `false`: it goes on with the settings it had.
    async fn reload_api(&self, new: &Settings) -> bool {
        let (api, settings) = (self.api.clone(), new.clone());
        // On its own: it must not be left half done if it takes long.
        let reloaded = tokio::spawn(async move {
            let reloaded = api.lock().await.reload(&settings).await;
            if let Err(error) = &reloaded {
                tracing::error!("the REST API is kept as it was: {error}");
            }
            reloaded.is_ok()
        });
        match tokio::time::timeout(API_WAIT_MAX, reloaded).await {
            Ok(reloaded) => reloaded.unwrap_or(false),
            Err(_) => {
                tracing::warn!("the REST API is still taking over its settings");
                true
            }
        }
    }
}

/// Puts back what a running daemon cannot change; gives the paths of what was
/// different.
fn keep_fixed(old: &Settings, new: &mut Settings) -> Vec<&'static str> {
    let mut changed = Vec::new();
    fix("scope", &old.scope, &mut new.scope, &mut changed);
    fix("name", &old.name, &mut new.name, &mut changed);
    fix("namespace", &old.namespace, &mut new.namespace, &mut changed);
    // The login of the store may change, its address may not.
    let store = StoreSettings {
        username: new.store.username.clone(),
        password: new.store.password.clone(),
        ..old.store.clone()
    };
    fix("the address of the store", &store, &mut new.store, &mut changed);
    fix("citus", &old.citus, &mut new.citus, &mut changed);
    fix("topology", &old.topology, &mut new.topology, &mut changed);
    let (was, now) = (&old.postgresql, &mut new.postgresql);
    fix("postgresql.data_dir", &was.data_dir, &mut now.data_dir, &mut changed);
    fix("postgresql.config_dir", &was.config_dir, &mut now.config_dir, &mut changed);
    fix(
        "postgresql.config_base_name",
        &was.config_base_name,
        &mut now.config_base_name,
        &mut changed,
    );
    fix("postgresql.database", &was.database, &mut now.database, &mut changed);
    fix("postgresql.bin_dir", &was.bin_dir, &mut now.bin_dir, &mut changed);
    fix("postgresql.pgpass", &was.pgpass, &mut now.pgpass, &mut changed);
    changed
}

fn fix<T: Clone + PartialEq>(
    path: &'static str,
    old: &T,
    new: &mut T,
    changed: &mut Vec<&'static str>,
) {
    if old != new {
        new.clone_from(old);
        changed.push(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> Settings {
        let text = format!(
            "scope: s\nname: n1\nrestapi: {{listen: '127.0.0.1:8008'}}\netcd3: {{host: 'a:1'}}\n\
             postgresql:\n  listen: 127.0.0.1:5432\n  connect_address: 127.0.0.1:5432\n  \
             data_dir: /d\n  pgpass: /p\n  authentication:\n    superuser: {{username: u}}\n    \
             replication: {{username: r}}\n{more}"
        );
        let env = [("PATRONI_CONFIGURATION".to_string(), text)].into_iter().collect();
        crate::config::load(None, &env).unwrap().settings
    }

    #[test]
    fn what_a_running_daemon_cannot_change_is_kept_and_told() {
        let old = settings("");
        let mut new = settings("tags: {a: b}\n");
        new.name = "n2".into();
        new.postgresql.data_dir = "/elsewhere".into();
        new.store.hosts = vec!["b:1".into()];
        let told = keep_fixed(&old, &mut new);
        assert_eq!(told, ["name", "the address of the store", "postgresql.data_dir"]);
        assert_eq!((&new.name, &new.postgresql.data_dir), (&old.name, &old.postgresql.data_dir));
        assert_eq!(new.tags.0["a"], "b");
        assert!(keep_fixed(&old, &mut settings("")).is_empty());
    }
}
