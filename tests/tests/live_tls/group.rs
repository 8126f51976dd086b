//! The group of the tests of TLS, and what may be asked of it.

use ctl::field::process::{find, find_postgres};
use ctl::field::{Field, MemberPlan, Plan};
use node::config::{Login, StoreSettings};
use node::dcs::{self, Session};
use node::tls::{Believed, Own, Trust};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio_postgres::Client;

pub(crate) const LOGIN: (&str, &str) = ("operator", "rest-secret");
const KEY_PASSWORD: &str = "open sesame";
const REGION: &str = "local";
const STORE_CALL: Duration = Duration::from_secs(3);
/// Lines of each log that a failed test shows.
const TAIL: usize = 60;

pub(crate) struct Group {
    field: Field,
    dir: Option<TempDir>,
    tls: PathBuf,
}

impl Group {
    pub(crate) fn start() -> Group {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::Builder::new().prefix("matriarch-tls-").tempdir();
        let dir = dir.expect("a directory");
        let pg_bin = find_postgres().expect("PostgreSQL 13 or later: apt-get install postgresql");
        assert!(find("etcd").is_some(), "etcd is missing: apt-get install etcd-server");
        let tls = dir.path().join("tls");
        std::fs::create_dir(&tls).expect("a directory");
        certificate(&tls, "all");
        let mut plan = Plan::new(&[REGION], &[None], 2, pg_bin).expect("free ports");
        plan.dcs = json!({"ttl": 30, "loop_wait": 5, "retry_timeout": 5,
            "postgresql": {"use_pg_rewind": true}});
        plan.environment = environment(&tls);
        plan.store_options = [
            "--client-cert-auth",
            "--trusted-ca-file=tls/all.crt",
            "--cert-file=tls/all.crt",
            "--key-file=tls/all.key",
        ]
        .map(str::to_string)
        .to_vec();
        plan.store_scheme = "https";
        let names: Vec<String> = plan.members().map(|m| m.name.clone()).collect();
        plan.overlays = names.into_iter().map(|name| (name, overlay(&tls))).collect();
        let mut field = Field::prepare(dir.path(), plan, &program("matriarch")).expect("a field");
        field.give(&tls).expect("the servers' user gets the certificates");
        let region = field.plan.regions[0].clone();
        field.start_store(&region).expect("etcd starts");
        for member in region.members {
            field.start_member(&member).expect("the daemon starts");
        }
        Group { field, dir: Some(dir), tls }
    }

    fn members(&self) -> Vec<&MemberPlan> {
        self.field.plan.members().collect()
    }

    fn member(&self, name: &str) -> &MemberPlan {
        self.field.plan.member(name).expect("a member")
    }

    pub(crate) fn other(&self, than: &str) -> String {
        let others = self.members().into_iter().find(|m| m.name != than);
        others.expect("two members").name.clone()
    }

    pub(crate) fn url(&self, member: &str, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.member(member).api_port)
    }

    pub(crate) fn client(&self, with_certificate: bool) -> reqwest::Client {
        let (cert, key) = (self.tls.join("all.crt"), self.tls.join("all.key"));
        let own = Own { cert: &cert, key: Some(&key), password: None };
        let believed = Believed::new(Trust::Chain, Some(&cert));
        let tls = node::tls::client_config(believed, with_certificate.then_some(own));
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls.expect("TLS"));
        client.no_proxy().timeout(Duration::from_secs(10)).build().expect("a client")
    }

    pub(crate) async fn patch(&self, member: &str, change: Value) {
        let request = self.client(true).patch(self.url(member, "/config")).json(&change);
        let answer = request.basic_auth(LOGIN.0, Some(LOGIN.1)).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }

    async fn get(&self, member: &str, path: &str) -> Option<(u16, Value)> {
        let answer = self.client(true).get(self.url(member, path)).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, serde_json::from_str(&answer.text().await.ok()?).unwrap_or_default()))
    }

    pub(crate) async fn leads(&self, member: &str) -> bool {
        self.get(member, "/primary").await.is_some_and(|(status, _)| status == 200)
    }

    pub(crate) async fn leader(&self) -> String {
        for member in self.members() {
            if self.leads(&member.name).await {
                return member.name.clone();
            }
        }
        panic!("nobody leads")
    }

    pub(crate) async fn until<F: AsyncFnMut() -> bool>(
        &self,
        what: &str,
        limit: Duration,
        question: F,
    ) {
        self.field.until(what, limit, question).await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// One leads and the other streams from it.
    pub(crate) async fn healthy(&self, limit: Duration) {
        self.until("a healthy group", limit, async || {
            let first = &self.members()[0].name;
            let Some((_, cluster)) = self.get(first, "/cluster").await else { return false };
            let list = cluster["members"].as_array().cloned().unwrap_or_default();
            let is = |role: &str, state: &str| {
                list.iter().any(|m| m["role"] == role && m["state"] == state)
            };
            list.len() == 2 && is("leader", "running") && is("replica", "streaming")
        })
        .await;
    }

    /// A value of the group's keys, and the lease that the key hangs on.
    pub(crate) async fn store_value(&self, key: &str) -> Option<(String, Option<Session>)> {
        let file = |name: &str| Some(self.tls.join(name));
        let settings = StoreSettings {
            hosts: vec![format!("127.0.0.1:{}", self.field.plan.regions[0].store_port)],
            protocol: "https".into(),
            cacert: file("all.crt"),
            cert: file("all.crt"),
            key: file("all.key"),
            ..StoreSettings::default()
        };
        let store = dcs::open(&settings, STORE_CALL).expect("good settings");
        let key = format!("/service/shop/{key}");
        let read = store.read(std::slice::from_ref(&key)).await.ok()?;
        let found = read.entries.into_iter().find(|entry| entry.key == key)?;
        Some((found.value, found.session))
    }

    /// A session of the superuser, by the rules of the daemon.
    pub(crate) async fn sql(&self, member: &str) -> Result<Client, tokio_postgres::Error> {
        let overlay = overlay(&self.tls);
        let section = &overlay["postgresql"]["authentication"]["superuser"];
        let mut login = Login::default();
        for (key, value) in section.as_object().expect("a section") {
            login.extra.insert(key.clone(), value.as_str().unwrap_or_default().to_string());
        }
        let connector = node::postgres::tls::connector(&login, "verify-full").expect("TLS");
        let dsn = format!("{} sslmode=require", self.dsn(member));
        let (client, connection) = tokio_postgres::connect(&dsn, connector).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub(crate) async fn plain_sql(&self, member: &str) -> Result<(), tokio_postgres::Error> {
        tokio_postgres::connect(&self.dsn(member), tokio_postgres::NoTls).await.map(|_| ())
    }

    fn dsn(&self, member: &str) -> String {
        let port = self.member(member).pg_port;
        format!("host=127.0.0.1 port={port} user=postgres password=super-secret dbname=postgres")
    }

    /// What `matriarchctl` prints; it has no configuration file.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let store = format!("127.0.0.1:{}", self.field.plan.regions[0].store_port);
        let done = Command::new(program("matriarchctl"))
            .args(arguments)
            .envs(environment(&self.tls))
            .env("PATRONI_ETCD3_HOST", store)
            .env("HOME", &self.field.dir)
            .output()
            .expect("matriarchctl runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stdout)
    }

    /// The serial number of the certificate that the REST API shows.
    pub(crate) async fn shown_certificate(&self, member: &str) -> Vec<u8> {
        let port = self.member(member).api_port;
        let (cert, key) = (self.tls.join("all.crt"), self.tls.join("all.key"));
        let address = format!("127.0.0.1:{port}");
        let shown = Command::new("openssl")
            .args(["s_client", "-connect", &address, "-cert"])
            .arg(cert)
            .arg("-key")
            .arg(key)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("openssl runs");
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let begin = text.find("-----BEGIN CERTIFICATE").expect("a certificate is shown");
        let end = text.find("-----END CERTIFICATE").expect("a whole one");
        text.as_bytes()[begin..end].to_vec()
    }

    /// Another certificate of the same key is put in front; the old one stays
    /// an authority.
    pub(crate) fn renew_certificate(&mut self) {
        let old = std::fs::read_to_string(self.tls.join("all.crt")).expect("our own file");
        let renew = "req -x509 -key all.key -days 2 -subj /CN=all -out new.crt";
        openssl(&self.tls, &format!("{renew} -addext subjectAltName=IP:127.0.0.1"));
        let new = std::fs::read_to_string(self.tls.join("new.crt")).expect("our own file");
        std::fs::write(self.tls.join("all.crt"), new + &old).expect("our own file");
    }

    pub(crate) fn end(mut self) {
        self.field.stop();
        for member in self.members() {
            let log = self.field.log(&member.name);
            assert!(!log.contains("panicked at"), "the daemon of {} panicked", member.name);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let names = self.field.plan.members().map(|m| m.name.clone());
        for name in names.chain([format!("etcd-{REGION}")]) {
            let log = self.field.log(&name);
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("---- the end of {name}.log\n{}", tail.join("\n"));
        }
        if let Some(dir) = self.dir.take() {
            eprintln!("---- everything is kept in {}", dir.keep().display());
        }
    }
}

fn environment(tls: &Path) -> BTreeMap<String, String> {
    let (cert, key) = (tls.join("all.crt"), tls.join("all.key"));
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let locked = tls.join("locked.key").display().to_string();
    let pairs = [
        ("RESTAPI_USERNAME", LOGIN.0),
        ("RESTAPI_PASSWORD", LOGIN.1),
        ("RESTAPI_CAFILE", &cert),
        ("RESTAPI_CERTFILE", &cert),
        ("RESTAPI_KEYFILE", &locked),
        ("RESTAPI_KEYFILE_PASSWORD", KEY_PASSWORD),
        ("RESTAPI_VERIFY_CLIENT", "required"),
        ("CTL_CERTFILE", &cert),
        ("CTL_KEYFILE", &locked),
        ("CTL_KEYFILE_PASSWORD", KEY_PASSWORD),
        ("ETCD3_PROTOCOL", "https"),
        ("ETCD3_CACERT", &cert),
        ("ETCD3_CERT", &cert),
        ("ETCD3_KEY", &key),
    ];
    pairs.map(|(name, value)| (format!("PATRONI_{name}"), value.to_string())).into()
}

/// What the file of each member says besides the usual.
fn overlay(tls: &Path) -> Value {
    let file = |name: &str| tls.join(name).display().to_string();
    let login = json!({
        "sslmode": "verify-ca",
        "sslrootcert": file("all.crt"),
        "sslcert": file("all.crt"),
        "sslkey": file("locked.key"),
        "sslpassword": KEY_PASSWORD,
    });
    json!({"postgresql": {
        "authentication": {"superuser": login, "replication": login},
        "pg_hba": [
            "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
            "hostssl replication replicator 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
        ],
        "parameters": {
            "ssl": "on",
            "ssl_cert_file": file("all.crt"),
            "ssl_key_file": file("all.key"),
            "ssl_ca_file": file("all.crt"),
            "password_encryption": "scram-sha-256",
        },
    }})
}

/// CA:TRUE and no key usage; the key once as it is and once with a password.
fn certificate(dir: &Path, name: &str) {
    let new = "req -x509 -newkey rsa:2048 -nodes -days 2";
    let names = "-addext subjectAltName=IP:127.0.0.1";
    let files = format!("-keyout {name}.key -out {name}.crt");
    openssl(dir, &format!("{new} -subj /CN={name} {names} {files}"));
    let lock = format!("pkcs8 -topk8 -in {name}.key -out locked.key -passout");
    let mut words: Vec<&str> = lock.split(' ').collect();
    let password = format!("pass:{KEY_PASSWORD}");
    words.push(&password);
    run_openssl(dir, &words);
}

fn openssl(dir: &Path, arguments: &str) {
    run_openssl(dir, &arguments.split(' ').collect::<Vec<_>>());
}

fn run_openssl(dir: &Path, arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).current_dir(dir).output();
    let done = done.expect("openssl: apt-get install openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A program that was built from these sources, beside the test program.
fn program(name: &str) -> PathBuf {
    let us = std::env::current_exe().expect("where is this program?");
    let target = us.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let program = target.join(name);
    assert!(program.is_file(), "build it first: cargo build --workspace --bins");
    program
}
