//! A real etcd cluster: three members on free ports, ended by pid.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node::config::StoreSettings;
use node::tls::{Believed, Own, Trust};
use serde_json::{Value, json};
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A slow machine needs a while to start one.
const START_MAX: Duration = Duration::from_secs(40);

pub struct Cluster {
    dir: TempDir,
    members: Vec<Member>,
    tls: bool,
}

struct Member {
    name: String,
    port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl Cluster {
    /// With TLS all members share one self-signed certificate, and clients need it.
    pub fn start(tls: bool) -> Cluster {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::Builder::new().prefix("matriarch-etcd-").tempdir();
        let mut cluster = Cluster { dir: dir.expect("a directory"), members: Vec::new(), tls };
        if tls {
            cluster.make_certificate();
        }
        for number in 0..3 {
            cluster.plan(number);
        }
        for number in 0..3 {
            cluster.spawn(number, "new");
        }
        cluster
    }

    fn plan(&mut self, number: usize) {
        let ports = ctl::field::free_ports(2).expect("free ports");
        let name = format!("m{number}");
        let (port, peer_port) = (ports[0], ports[1]);
        self.members.push(Member { name, port, peer_port, child: None });
    }

    fn make_certificate(&self) {
        let done = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=all"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-keyout", "all.key", "-out", "all.crt"])
            .current_dir(self.dir.path())
            .output()
            .expect("openssl: apt-get install openssl");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    pub fn address(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.members[number].port)
    }

    fn spawn(&mut self, number: usize, state: &str) {
        let member = &self.members[number];
        let client = format!("{}://{}", self.scheme(), self.address(number));
        let peer = format!("http://127.0.0.1:{}", member.peer_port);
        // Those that left do not count for one that joins.
        let counts = |at: usize, m: &Member| state == "new" || m.child.is_some() || at == number;
        let peers = self.members.iter().enumerate().filter(|(at, m)| counts(*at, m));
        let peers = peers.map(|(_, m)| format!("{}=http://127.0.0.1:{}", m.name, m.peer_port));
        let log = File::create(self.dir.path().join(format!("{}.log", member.name)));
        let mut command = Command::new("etcd");
        command.args(["--name", &member.name, "--data-dir", &member.name]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &peers.collect::<Vec<_>>().join(",")]);
        command.args(["--initial-cluster-state", state]);
        if self.tls {
            command.args(["--client-cert-auth", "--trusted-ca-file=all.crt"]);
            command.args(["--cert-file=all.crt", "--key-file=all.key"]);
        }
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(log.expect("a log file")).spawn();
        self.members[number].child = Some(child.expect("etcd: apt-get install etcd-server"));
    }

    /// All that are there now.
    pub fn settings(&self) -> StoreSettings {
        let running = (0..self.members.len()).filter(|n| self.members[*n].child.is_some());
        let hosts = running.map(|n| self.address(n)).collect();
        StoreSettings { hosts, ..self.settings_of(0) }
    }

    /// One member only.
    pub fn settings_of(&self, number: usize) -> StoreSettings {
        let file = |name: &str| self.tls.then(|| self.dir.path().join(name));
        StoreSettings {
            hosts: vec![self.address(number)],
            protocol: self.scheme().to_string(),
            cacert: file("all.crt"),
            cert: file("all.crt"),
            key: file("all.key"),
            ..StoreSettings::default()
        }
    }

    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.members[number].child.take() {
            child.kill().expect("etcd is ours to kill");
            child.wait().expect("etcd is our child");
        }
    }

    /// On its data.
    pub fn restart(&mut self, number: usize) {
        self.spawn(number, "existing");
    }

    pub fn freeze(&self, number: usize) {
        self.signal(number, Signal::SIGSTOP);
    }

    pub fn thaw(&self, number: usize) {
        self.signal(number, Signal::SIGCONT);
    }

    fn signal(&self, number: usize, signal: Signal) {
        let child = self.members[number].child.as_ref().expect("it runs");
        kill(Pid::from_raw(child.id() as i32), signal).expect("etcd is our child");
    }

    /// Asks any member over etcd's gateway until one answers.
    async fn ask(&self, path: &str, body: Value) -> Value {
        let file = |name: &str| self.dir.path().join(name);
        let (cert, key) = (file("all.crt"), file("all.key"));
        let own = Own { cert: &cert, key: Some(&key), password: None };
        let believed = Believed::new(Trust::Anyone, None);
        let tls = node::tls::client_config(believed, self.tls.then_some(own)).expect("TLS");
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
        let client = client.timeout(Duration::from_secs(5)).build().expect("a client");
        let begin = Instant::now();
        loop {
            for number in (0..self.members.len()).rev() {
                let url = format!("{}://{}/v3/{path}", self.scheme(), self.address(number));
                let Ok(answer) = client.post(url).json(&body).send().await else { continue };
                let good = answer.status().is_success();
                let text = answer.text().await.unwrap_or_default();
                if good {
                    return serde_json::from_str(&text).expect("etcd speaks JSON");
                }
            }
            assert!(begin.elapsed() < START_MAX, "etcd does not answer {path}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ids(&self) -> Vec<(String, String)> {
        let list = self.ask("cluster/member/list", json!({})).await;
        let list = list["members"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        list.iter().map(|member| (text(&member["name"]), text(&member["ID"]))).collect()
    }

    /// The number of the member that leads.
    pub async fn leader(&self) -> usize {
        let begin = Instant::now();
        loop {
            let status = self.ask("maintenance/status", json!({})).await;
            let leader = status["leader"].as_str().unwrap_or_default().to_string();
            let ids = self.ids().await;
            let name = ids.iter().find(|(_, id)| *id == leader).map(|(name, _)| name);
            if let Some(at) = self.members.iter().position(|m| Some(&m.name) == name) {
                return at;
            }
            assert!(begin.elapsed() < START_MAX, "etcd has no leader");
        }
    }

    /// One more member joins.
    pub async fn add(&mut self) {
        let number = self.members.len();
        self.plan(number);
        let peer = format!("http://127.0.0.1:{}", self.members[number].peer_port);
        self.ask("cluster/member/add", json!({"peerURLs": [peer]})).await;
        self.spawn(number, "existing");
        let name = self.members[number].name.clone();
        let begin = Instant::now();
        while !self.ids().await.iter().any(|(known, _)| *known == name) {
            assert!(begin.elapsed() < START_MAX, "{name} does not join");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A member leaves for good.
    pub async fn remove(&mut self, number: usize) {
        let name = self.members[number].name.clone();
        let ids = self.ids().await;
        let (_, id) = ids.iter().find(|(known, _)| *known == name).expect("a member");
        self.ask("cluster/member/remove", json!({"ID": id})).await;
        self.kill(number);
    }

    /// User `app` may use what lies below `/app/`.
    pub async fn enable_users(&self) {
        let (from, to) = ("L2FwcC8=", "L2FwcDA=");
        let range = json!({"permType": "READWRITE", "key": from, "range_end": to});
        self.ask("auth/role/add", json!({"name": "root"})).await;
        self.ask("auth/role/add", json!({"name": "app"})).await;
        self.ask("auth/role/grant", json!({"name": "app", "perm": range})).await;
        for user in ["root", "app"] {
            self.ask("auth/user/add", json!({"name": user, "password": "secret"})).await;
            self.ask("auth/user/grant", json!({"user": user, "role": user})).await;
        }
        self.ask("auth/enable", json!({})).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for number in 0..self.members.len() {
            if let Some(mut child) = self.members[number].child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
