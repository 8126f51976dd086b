//! Where the running server is reached: by this daemon, and by others.
//!
//! Another `listen`, `connect_address` or socket directory counts from the restart
//! of PostgreSQL on. Until then the server is where `postmaster.pid` says, and that
//! is what the daemon connects to and what others are told.
//!
//! Invariant: an address that is told belongs to what the server listens on. Only
//! `connect_address` without another `listen` counts at once: ports may be mapped,
//! and names given, without the server's knowledge.

use super::process::{Listening, listening};
use super::{Instance, socket};
use crate::config::Postgresql;

/// What the running server began with, as far as this process knows.
#[derive(Debug)]
pub(super) struct Served {
    pid: i32,
    listen: (Vec<String>, u16),
    /// Where others reach it.
    connect: (String, u16),
}

impl Instance {
    /// Where others reach the server that runs as `pid`; without one, where they
    /// will reach the next.
    pub fn served_at(&self, pid: Option<i32>) -> (String, u16) {
        let settings = &self.settings;
        let mut served = self.notes.served();
        let running =
            pid.and_then(|pid| listening(&settings.data_dir).filter(|running| running.pid == pid));
        let Some(running) = running else {
            if pid.is_none() {
                *served = None;
            }
            let known = served.as_ref().map(|served| served.connect.clone());
            return known.unwrap_or_else(|| connect_of(settings));
        };
        served_by(&mut served, settings, &running)
    }

    /// As `conn_url` says it.
    pub fn served_url(&self, pid: Option<i32>) -> String {
        let (host, port) = self.served_at(pid);
        self.settings.conn_url_at(&host, port)
    }

    /// Where the server listens, for this daemon.
    pub(super) fn local_address(&self) -> (String, u16) {
        let settings = &self.settings;
        let wanted = settings.local_host().to_string();
        match listening(&settings.data_dir) {
            Some(Listening { host, port, .. }) if port != settings.port => {
                (if is_elsewhere(&host, &[]) { host } else { "localhost".to_string() }, port)
            }
            Some(Listening { host, port, .. }) if is_elsewhere(&host, &settings.listen_hosts) => {
                (host, port)
            }
            _ => (wanted, settings.port),
        }
    }

    /// The directory of its socket. A server without one is reached by its address.
    pub(super) fn socket_dir(&self, port: u16) -> Option<String> {
        if !self.settings.use_unix_socket {
            return None;
        }
        let running = listening(&self.settings.data_dir).and_then(|running| running.socket_dir);
        let given = || socket::dir_of(self.settings.socket_directories.as_deref(), port);
        running.or_else(given).map(|dir| dir.display().to_string())
    }
}

fn served_by(
    served: &mut Option<Served>,
    settings: &Postgresql,
    running: &Listening,
) -> (String, u16) {
    let configured = (settings.listen_hosts.clone(), settings.port);
    match served {
        Some(known) if known.pid == running.pid => {
            if known.listen == configured {
                known.connect = connect_of(settings);
            }
            known.connect.clone()
        }
        _ => {
            let known = met(settings, running);
            let connect = known.connect.clone();
            *served = Some(known);
            connect
        }
    }
}

/// A server that is seen for the first time. One that was started with other
/// settings says where it listens; how others reach that is the best guess: its
/// own address, or the configured name with its port.
fn met(settings: &Postgresql, running: &Listening) -> Served {
    let is_here = !is_elsewhere(&running.host, &settings.listen_hosts);
    if is_here && running.port == settings.port {
        let listen = (settings.listen_hosts.clone(), settings.port);
        return Served { pid: running.pid, listen, connect: connect_of(settings) };
    }
    let is_mapped = settings.connect_port != settings.port;
    let port = if is_mapped { settings.connect_port } else { running.port };
    let host = if is_here { settings.connect_host.clone() } else { running.host.clone() };
    let listen = (vec![running.host.clone()], running.port);
    Served { pid: running.pid, listen, connect: (host, port) }
}

fn connect_of(settings: &Postgresql) -> (String, u16) {
    (settings.connect_host.clone(), settings.connect_port)
}

/// A server that listens on one address which the settings no longer name.
fn is_elsewhere(host: &str, wanted: &[String]) -> bool {
    let everywhere = ["", "*", "0.0.0.0", "::"].contains(&host);
    !everywhere && !wanted.iter().any(|name| name == host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn settings(listen: &str, port: u16, connect: (&str, u16)) -> Postgresql {
        Postgresql {
            listen_hosts: listen.split(',').map(str::to_string).collect(),
            port,
            connect_host: connect.0.into(),
            connect_port: connect.1,
            ..Default::default()
        }
    }

    fn running(pid: i32, host: &str, port: u16) -> Listening {
        Listening { pid, host: host.into(), port, socket_dir: None }
    }

    #[test]
    fn p1_another_listen_counts_from_the_restart_on() {
        let mut served = None;
        let old = settings("10.0.0.1", 5432, ("10.0.0.1", 5432));
        let new = settings("10.0.0.1,10.0.0.2", 5433, ("10.0.0.2", 5433));
        let at = |served: &mut _, settings: &Postgresql, pid, port| {
            served_by(served, settings, &running(pid, "10.0.0.1", port))
        };
        let was = ("10.0.0.1".to_string(), 5432);
        assert_eq!(at(&mut served, &old, 7, 5432), was);
        assert_eq!(at(&mut served, &new, 7, 5432), was, "it has not restarted");
        let hosts = settings("10.0.0.1,10.0.0.2", 5432, ("10.0.0.2", 5432));
        assert_eq!(at(&mut served, &hosts, 7, 5432), was, "it does not listen there yet");
        assert_eq!(at(&mut served, &new, 8, 5433), ("10.0.0.2".into(), 5433));
    }

    #[test]
    fn p1_another_name_for_the_same_place_counts_at_once() {
        let mut served = None;
        let old = settings("*", 5432, ("db1", 5432));
        let new = settings("*", 5432, ("db1.example.org", 6432));
        let running = running(7, "*", 5432);
        assert_eq!(served_by(&mut served, &old, &running), ("db1".into(), 5432));
        assert_eq!(served_by(&mut served, &new, &running), ("db1.example.org".into(), 6432));
    }

    #[test]
    fn p1_a_server_of_before_is_told_where_it_listens() {
        let adopted =
            |settings: &Postgresql, running: Listening| served_by(&mut None, settings, &running);
        let new = settings("10.0.0.1", 5433, ("db1", 5433));
        assert_eq!(adopted(&new, running(7, "10.0.0.1", 5432)), ("db1".into(), 5432));
        assert_eq!(adopted(&new, running(7, "10.0.0.9", 5433)), ("10.0.0.9".into(), 5433));
        let mapped = settings("0.0.0.0", 5433, ("public", 15432));
        assert_eq!(adopted(&mapped, running(7, "0.0.0.0", 5432)), ("public".into(), 15432));
    }

    #[test]
    fn p1_the_socket_is_where_the_running_server_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Postgresql {
            data_dir: dir.path().into(),
            use_unix_socket: true,
            socket_directories: Some("/run/new".into()),
            ..settings("127.0.0.1", 5432, ("127.0.0.1", 5432))
        };
        let instance = Instance::new(Arc::new(settings), "s", &"n1".into(), None);
        let host = |sockets: &str| {
            let text = format!("42\n/data\n1795208971\n5432\n{sockets}\n127.0.0.1\n");
            std::fs::write(dir.path().join("postmaster.pid"), text).unwrap();
            instance.local_target("postgres", "test").host
        };
        assert_eq!(host("/run/old"), "/run/old");
        assert_eq!(host(".."), dir.path().join("..").display().to_string());
        assert_eq!(host("@hidden"), "/run/new");
        std::fs::remove_file(dir.path().join("postmaster.pid")).unwrap();
        assert_eq!(instance.local_target("postgres", "test").host, "/run/new");
    }
}
