//! The daemon as a process: what it logs, what it takes over while it runs,
//! what it tells the service manager, and how it ends.

use super::birth::by_hand;
use super::stage::{LONG, SHORT, Stage, ask_sql};
use ctl::field::MemberPlan;
use nix::sys::signal::Signal;
use node::dcs::Store;
use node::dcs::by_hand::Edit;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Two members live through all of it, so that it stays short.
pub async fn well_behaved() {
    let mut stage = Stage::prepare(2);
    let first = stage.members()[0].clone();
    let manager = Manager::listen(&stage.field.dir.join("notify.sock"));
    let variables = [
        ("NOTIFY_SOCKET", manager.path.as_str()),
        ("PATRONI_RESTAPI_HTTP_EXTRA_HEADERS", "X-Origin: environment"),
    ];
    let variables = variables.map(|(name, text)| (name.to_string(), text.to_string())).to_vec();
    stage.field.env.insert(first.name.clone(), variables);
    stage.start_store();
    stage.start(&first);
    stage.until("a first leader", LONG, async || stage.primary().await.is_some()).await;
    let second = stage.members()[1].clone();
    stage.start(&second);
    stage.healthy(LONG).await;

    manager.heard("READY=1");
    first_words(&stage, &first).await;
    nothing_meant_for_the_daemon_reaches_postgres(&stage, &first);
    namesake(&stage, &first).await;
    let moved = reload(&mut stage, &first, &manager).await;
    broken_file(&mut stage, &moved, &manager).await;
    lost_configuration(&stage, &first).await;
    aborted(&mut stage, &first, &moved).await;
    orderly_end(&mut stage, &first, &manager).await;
    stage.one_writer();
    stage.end();
}

/// The service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    path: String,
}

impl Manager {
    fn listen(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).expect("a socket in an own directory");
        // The daemon runs as another user.
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("an own socket");
        socket.set_read_timeout(Some(SHORT)).expect("a socket has a timeout");
        Manager { socket, path: path.display().to_string() }
    }

    /// The next message.
    fn heard(&self, wanted: &str) -> String {
        let mut bytes = [0u8; 1024];
        let length = self.socket.recv(&mut bytes).unwrap_or_else(|e| panic!("{wanted}: {e}"));
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert!(text.starts_with(wanted), "`{text}` instead of {wanted}");
        text
    }
}

async fn logs(stage: &Stage, member: &MemberPlan, mark: usize, text: &str) {
    let what = format!("`{text}` in the log of {}", member.name);
    stage.until(&what, SHORT, async || stage.log_since(member, mark).contains(text)).await;
}

async fn first_words(stage: &Stage, leader: &MemberPlan) {
    logs(stage, leader, 0, "INFO: no action. I am (n1), the leader with the lock\n").await;
    let replica = &stage.others(leader)[0];
    let line = "INFO: no action. I am (n2), a secondary, and following a leader (n1)\n";
    logs(stage, replica, 0, line).await;
    let log = stage.field.log(&leader.name);
    let line = log.lines().find(|line| line.contains("no action")).expect("just seen");
    let (date, time) = line.split_at(10);
    let is_date = date.len() == 10 && date.starts_with("20") && date.matches('-').count() == 2;
    assert!(is_date && time.as_bytes()[9] == b',', "{line}");
}

fn nothing_meant_for_the_daemon_reaches_postgres(stage: &Stage, member: &MemberPlan) {
    let pid = stage.field.postmaster_pid(member).expect("it runs");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("a process of ours");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("PATH="), "the environment was not read");
    assert!(!environment.contains("PATRONI_") && !environment.contains("NOTIFY_SOCKET"));
}

/// Another daemon of the same name on other ports, while the first one lives.
async fn namesake(stage: &Stage, member: &MemberPlan) {
    let dir = &stage.field.dir;
    let ports = ctl::field::free_ports(2).expect("free ports");
    let text = stage.field.plan.config(member, dir);
    let mut config: Value = node::config::parse_yaml(&text).expect("a configuration");
    for (section, port) in [("restapi", ports[0]), ("postgresql", ports[1])] {
        config[section]["listen"] = json!(format!("127.0.0.1:{port}"));
        config[section]["connect_address"] = json!(format!("127.0.0.1:{port}"));
    }
    config["postgresql"]["data_dir"] = json!(dir.join("data").join("namesake"));
    let path = dir.join("namesake.yml");
    fs::write(&path, serde_yaml::to_string(&config).expect("plain values")).expect("our file");
    let output = stage.field.command(&stage.field.daemon_program()).arg(&path).output();
    let output = output.expect("the daemon runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("a member named `n1` lives already"), "{told}");
}

/// Everything that may change while the daemon runs changes with one SIGHUP;
/// gives the member with its new address.
async fn reload(stage: &mut Stage, member: &MemberPlan, manager: &Manager) -> MemberPlan {
    let port = ctl::field::free_ports(1).expect("a free port")[0];
    let address = format!("127.0.0.1:{port}");
    let overlay = json!({
        "log": {"type": "json", "dir": stage.field.dir, "mode": "0640",
            "format": ["asctime", {"levelname": "level"}, "message"],
            "static_fields": {"app": "shop"}, "deduplicate_heartbeat_logs": true},
        "tags": {"shelf": "upper"},
        "restapi": {"listen": address, "connect_address": address,
            "authentication": {"username": "u", "password": "p"}},
        "postgresql": {"parameters": {"work_mem": "13MB"}},
        "name": "other",
    });
    stage.field.reconfigure(member, &overlay).expect("the file is written");
    let mark = stage.mark(member);
    assert!(stage.field.signal_daemon(&member.name, Signal::SIGHUP));
    assert!(manager.heard("RELOADING=1\nMONOTONIC_USEC=").len() > 30);
    manager.heard("READY=1");
    let moved = MemberPlan { api_port: port, ..member.clone() };
    // The last line at the old place.
    logs(stage, member, mark, "name has changed; it counts from the next start").await;
    let reply = stage.send(Method::POST, &moved, "/reload", json!({})).await;
    assert_eq!((reply.status, reply.body), (401, "no auth header received".into()));
    // A connection that stands goes on; the old port takes no new one.
    let old = ("127.0.0.1", member.api_port);
    stage.until("a closed port", SHORT, async || TcpStream::connect(old).is_err()).await;
    published(stage, member, &moved).await;
    stage
        .until("the new work_mem", SHORT, async || {
            ask_sql(member, "SHOW work_mem").await.is_ok_and(|text| text == "13MB")
        })
        .await;
    json_log(stage).await;
    header_of_the_environment(&moved).await;
    moved
}

/// What others read about the member is new at once.
async fn published(stage: &Stage, member: &MemberPlan, moved: &MemberPlan) {
    let url = format!("http://127.0.0.1:{}/patroni", moved.api_port);
    let other = &stage.others(member)[0];
    stage
        .until("the new record", SHORT, async || {
            let members = stage.get(other, "/cluster").await.body["members"].clone();
            let mut members = members.as_array().cloned().unwrap_or_default().into_iter();
            members.any(|m| m["api_url"] == url && m["tags"]["shelf"] == "upper")
        })
        .await;
}

async fn json_log(stage: &Stage) {
    let path = stage.field.dir.join("patroni.log");
    let text = || fs::read_to_string(&path).unwrap_or_default();
    let line =
        "\"message\": \"no action. I am (n1), the leader with the lock\", \"app\": \"shop\"}\n";
    let mark = text().len();
    stage.until("a line of JSON", SHORT, async || text().contains("was read again")).await;
    let first = text().lines().next().unwrap_or_default().to_string();
    let read: Value = serde_json::from_str(&first).expect("each line is JSON");
    assert!(read["level"] == "INFO" || read["level"] == "WARNING", "{first}");
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    // A heartbeat that repeats itself is not written: at most one such line.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(text().len() >= mark && text().matches(line).count() <= 1, "{}", text());
}

/// Variables are remembered: a reload reads the file and not the environment.
async fn header_of_the_environment(member: &MemberPlan) {
    let url = format!("http://127.0.0.1:{}/liveness", member.api_port);
    let answer = reqwest::get(url).await.expect("it answers");
    assert_eq!(answer.headers()["x-origin"], "environment");
}

/// Says what is wrong and changes nothing.
async fn broken_file(stage: &mut Stage, moved: &MemberPlan, manager: &Manager) {
    let path = stage.field.config_path(moved);
    let good = fs::read_to_string(&path).expect("our file");
    fs::write(&path, good.replace("type: json", "type: xml")).expect("our file");
    stage.field.signal_daemon(&moved.name, Signal::SIGHUP);
    manager.heard("RELOADING=1");
    manager.heard("READY=1");
    let log = || fs::read_to_string(stage.field.dir.join("patroni.log")).unwrap_or_default();
    stage
        .until("the error", SHORT, async || {
            log().contains("the configuration is kept as it was: log.type:")
        })
        .await;
    assert_eq!(stage.get(moved, "/primary").await.status, 200);
    fs::write(&path, good).expect("our file");
}

/// A leader gives the store back what it has lost; a copy is on the disk.
async fn lost_configuration(stage: &Stage, member: &MemberPlan) {
    let path = stage.field.data_dir(member).join("patroni.dynamic.json");
    let copy: Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("a copy")).expect("JSON");
    assert_eq!(copy["ttl"], 20);
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (store, key) = store_of(stage, member);
    let read = async || -> Option<Value> {
        let read = store.read(std::slice::from_ref(&key)).await.ok()?;
        serde_json::from_str(&read.entries.first()?.value).ok()
    };
    let edit = async |edit| {
        by_hand(store.as_ref()).edit(vec![edit]).await.expect("the store is there");
    };
    edit(Edit::delete(key.clone())).await;
    stage.until("/config again", SHORT, async || read().await.is_some()).await;
    assert_eq!(read().await, Some(copy.clone()));

    // What an operator broke by hand stays, and the old one holds.
    edit(Edit::put(key.clone(), r#"{"ttl": "soon"}"#)).await;
    let log = || fs::read_to_string(stage.field.dir.join("patroni.log")).unwrap_or_default();
    stage.until("the error", SHORT, async || log().contains("`ttl`")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(read().await, Some(json!({"ttl": "soon"})));
    edit(Edit::put(key.clone(), copy.to_string())).await;
}

fn store_of(stage: &Stage, member: &MemberPlan) -> (Arc<dyn Store>, String) {
    let path = stage.field.config_path(member);
    let env = [("HOME".to_string(), "/".to_string())].into_iter().collect();
    let loaded = node::config::load(Some(&path), &env).expect("a configuration");
    let store = node::dcs::open(&loaded.settings.store, Duration::from_secs(3)).expect("a store");
    let key = loaded.settings.keys().config();
    (store, key)
}

/// SIGABRT ends the daemon at once; its successor adopts PostgreSQL.
async fn aborted(stage: &mut Stage, member: &MemberPlan, moved: &MemberPlan) {
    let postmaster = stage.field.postmaster_pid(member).expect("it runs");
    stage.field.signal_daemon(&member.name, Signal::SIGABRT);
    let code = stage.field.wait_exit(&member.name, SHORT).expect("it ends");
    assert_eq!(code, None, "ended by a signal");
    assert_eq!(stage.field.postmaster_pid(member), Some(postmaster));
    let told = stage.field.dir.join("before_stop.env");
    let overlay = json!({"name": "n1", "log": null,
        "postgresql": {"before_stop": format!("sh -c 'env > {}'", told.display())}});
    stage.field.reconfigure(member, &overlay).expect("the file is written");
    stage.start(member);
    stage
        .until("the old leader again", SHORT, async || {
            stage.ask.get(moved, "/primary").await.is_some_and(|reply| reply.status == 200)
        })
        .await;
    assert_eq!(stage.field.postmaster_pid(member), Some(postmaster));
}

async fn orderly_end(stage: &mut Stage, member: &MemberPlan, manager: &Manager) {
    manager.heard("READY=1");
    stage.field.signal_daemon(&member.name, Signal::SIGTERM);
    manager.heard("STOPPING=1");
    let code = stage.field.wait_exit(&member.name, SHORT).expect("it ends");
    assert_eq!(code, Some(0));
    let seen = fs::read_to_string(stage.field.dir.join("before_stop.env")).unwrap_or_default();
    assert!(seen.contains("PATH=") && !seen.contains("PATRONI_"), "before_stop saw {seen}");
    assert!(!seen.contains("NOTIFY_SOCKET"), "before_stop saw {seen}");
    stage.new_leader(member, SHORT).await;
}
