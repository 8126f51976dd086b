//! A real etcd for tests: its own directory and ports, gone with its value.

use crate::dcs::etcd::EtcdStore;
use crate::dcs::settings::StoreSettings;
use crate::dcs::{Snapshot, Store};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A slow machine needs a while to start one.
const START_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    child: Child,
    directory: TempDir,
    port: u16,
    peer_port: u16,
    /// More options, and `https` when they ask for it.
    options: Vec<String>,
    protocol: String,
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::start_with("http", |_| Vec::new())
    }

    /// `options` may put files into the directory it is given.
    pub(crate) fn start_with(protocol: &str, options: impl Fn(&Path) -> Vec<String>) -> Server {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = options(directory.path());
        let (port, peer_port) = free_ports();
        let child = spawn(directory.path(), protocol, port, peer_port, &options);
        Server { child, directory, port, peer_port, options, protocol: protocol.to_string() }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn settings(&self) -> StoreSettings {
        StoreSettings {
            hosts: vec![self.address()],
            protocol: self.protocol.clone(),
            ..StoreSettings::default()
        }
    }

    pub(crate) fn stop(&mut self) {
        self.child.kill().expect("etcd is ours to kill");
        self.child.wait().expect("etcd is our child");
    }

    /// Removes its data, while it is stopped.
    pub(crate) fn forget(&self) {
        std::fs::remove_dir_all(self.directory.path().join("data")).expect("data of etcd");
    }

    /// Starts it again on its data.
    pub(crate) fn start_again(&mut self) {
        let (directory, options) = (self.directory.path(), &self.options);
        self.child = spawn(directory, &self.protocol, self.port, self.peer_port, options);
    }

    /// Returns when every thread has stopped.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let until = Instant::now() + START_MAX;
        while !self.is_stopped() {
            assert!(Instant::now() < until, "etcd does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn is_stopped(&self) -> bool {
        let tasks = format!("/proc/{}/task", self.child.id());
        let tasks = std::fs::read_dir(tasks).expect("etcd is our child");
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        })
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, signal).expect("etcd is our child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &Path, protocol: &str, port: u16, peer_port: u16, options: &[String]) -> Child {
    let client = format!("{protocol}://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let log = std::fs::File::create(dir.join("log")).expect("a log file");
    Command::new("etcd")
        .args(["--name", "test", "--data-dir"])
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("test={peer}")])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|e| {
            panic!("etcd does not start ({e}); install it: apt-get install etcd-server")
        })
}

fn free_ports() -> (u16, u16) {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = |l: &TcpListener| l.local_addr().expect("a bound socket").port();
    let (first, second) = (bind(), bind());
    (port(&first), port(&second))
}

/// Reads until the store answers.
pub(crate) async fn answered(store: &EtcdStore) -> Snapshot {
    let until = Instant::now() + START_MAX;
    loop {
        match store.read(&["/".to_string()]).await {
            Ok(snapshot) => return snapshot,
            Err(error) if Instant::now() > until => panic!("etcd did not come up: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
