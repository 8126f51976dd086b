//! Configurations that the daemon writes itself: they pass its own check once a
//! person has finished them, and a daemon runs with them.

use super::stage::{LONG, Stage};
use ctl::field::MemberPlan;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

const WORD: &str = "a-word";
const MARK: &str = "#FIXME";

/// What the environment of a careful operator says about a member.
fn variables(stage: &Stage, member: &MemberPlan) -> Vec<(&'static str, String)> {
    let this = nix::unistd::gethostname().expect("a name").to_string_lossy().into_owned();
    let store = stage.field.plan.regions[0].store_port;
    let data = stage.field.data_dir(member);
    vec![
        ("PATRONI_NAME", member.name.clone()),
        ("PATRONI_ETCD3_HOST", format!("127.0.0.1:{store}")),
        ("PATRONI_RESTAPI_LISTEN", format!("127.0.0.1:{}", member.api_port)),
        ("PATRONI_RESTAPI_CONNECT_ADDRESS", format!("{this}:{}", member.api_port)),
        ("PATRONI_POSTGRESQL_LISTEN", format!("127.0.0.1:{}", member.pg_port)),
        ("PATRONI_POSTGRESQL_CONNECT_ADDRESS", format!("{this}:{}", member.pg_port)),
        ("PATRONI_POSTGRESQL_DATA_DIR", data.display().to_string()),
        ("PATRONI_POSTGRESQL_BIN_DIR", stage.field.plan.pg_bin.display().to_string()),
    ]
}

fn daemon(stage: &Stage, words: &[&str], variables: &[(&str, String)]) -> Output {
    let mut command = stage.field.command(&stage.field.daemon_program());
    command.args(words).envs(variables.iter().map(|(name, value)| (name, value)));
    command.output().expect("the daemon runs")
}

fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    format!("{}{errors}", String::from_utf8_lossy(&output.stdout))
}

/// Writes to where the field starts the member from, without another word.
fn finish(stage: &Stage, member: &MemberPlan, scope: &str) -> String {
    let path = stage.field.config_path(member);
    let written = std::fs::read_to_string(&path).expect("the generated file");
    let named = written.replace(&format!("scope: '{MARK}'"), &format!("scope: {scope}"));
    let finished = named.replace(MARK, WORD);
    // The owner stays the one who generated it.
    std::fs::write(&path, &finished).expect("the finished file");
    finished
}

/// The file is written anew by the user that the servers run as.
fn make_room(stage: &Stage, member: &MemberPlan) -> String {
    let path = stage.field.config_path(member);
    std::fs::remove_file(&path).expect("the field's own file");
    path.display().to_string()
}

async fn leads(stage: &Stage, member: &MemberPlan) {
    stage
        .until("a leader", LONG, async || {
            stage.ask.get(member, "/primary").await.is_some_and(|reply| reply.status == 200)
        })
        .await;
}

pub async fn sample() {
    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    let file = make_room(&stage, &member);
    let env = variables(&stage, &member);
    let made = daemon(&stage, &["--generate-sample-config", &file], &env);
    assert_eq!((made.status.code(), text(&made).as_str()), (Some(0), ""));
    let unfinished = daemon(&stage, &["--validate-config", "-i", &file], &[]);
    assert_eq!(unfinished.status.code(), Some(1));
    let told = text(&unfinished);
    assert!(told.contains("scope: still says #FIXME"), "{told}");
    assert!(told.contains("etcd3: 127.0.0.1:"), "no store runs yet: {told}");

    stage.start_store();
    finish(&stage, &member, "sample");
    check(&stage, &file, &["--validate-config"], "").await;
    stage.start(&member);
    leads(&stage, &member).await;
    println!("  a new cluster leads with the sample");

    let used = daemon(&stage, &["--validate-config", &file], &[]);
    assert_eq!(used.status.code(), Some(1));
    for path in
        ["restapi.listen: another program listens", "postgresql.listen: another program listens"]
    {
        assert!(text(&used).contains(path), "{}", text(&used));
    }
    check(&stage, &file, &["--validate-config", "-i"], "").await;
    let printed = daemon(&stage, &["--validate-config", "-i", "-p", &file], &env[..1]);
    let printed = node::config::parse_yaml(&text(&printed)).expect("YAML");
    assert_eq!(printed["scope"], "sample");
    assert_eq!(printed["postgresql"]["authentication"]["superuser"]["password"], WORD);
    stage.end();
}

/// Accepted once the store answers.
async fn check(stage: &Stage, file: &str, words: &[&str], wanted: &str) {
    let mut last = String::new();
    stage
        .until("an accepted file", LONG, async || {
            let words: Vec<&str> = words.iter().copied().chain([file]).collect();
            let output = daemon(stage, &words, &[]);
            last = text(&output);
            output.status.code() == Some(0) && last == wanted
        })
        .await;
}

pub async fn from_server() {
    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    stage.start_store();
    make_server(&stage, &member);
    let before = stage.field.postmaster_pid(&member).expect("a server");
    let file = make_room(&stage, &member);
    let mut env = variables(&stage, &member);
    // These the server tells by itself.
    env.retain(|(name, _)| {
        !["_LISTEN", "_DATA_DIR", "_BIN_DIR"]
            .iter()
            .any(|e| name.starts_with("PATRONI_POSTGRESQL") && name.ends_with(e))
    });
    let dsn = format!("host=127.0.0.1 port={} user=postgres password={WORD}", member.pg_port);
    let made = daemon(&stage, &["--generate-config", "--dsn", &dsn, &file], &env);
    assert_eq!((made.status.code(), text(&made).as_str()), (Some(0), ""));
    judge(&stage, &member, &finish(&stage, &member, "none"));
    check(&stage, &file, &["--validate-config", "-i"], "").await;

    stage.start(&member);
    leads(&stage, &member).await;
    assert_eq!(stage.field.postmaster_pid(&member), Some(before), "it was taken over as it ran");
    // The leader writes `/config` in the beat after it has taken the lock.
    stage
        .until("the server's settings in /config", LONG, async || {
            let config = stage.get(&member, "/config").await.body;
            config["postgresql"]["parameters"]["work_mem"] == "9MB"
        })
        .await;
    println!("  a running server was taken over without a restart");
    refusals(&stage, &member);
    stage.end();
}

fn make_server(stage: &Stage, member: &MemberPlan) {
    let data = stage.field.data_dir(member);
    let word = stage.field.dir.join("word");
    std::fs::write(&word, WORD).expect("a password file");
    let bin = |name: &str| stage.field.plan.pg_bin.join(name);
    let mut initdb = stage.field.command(&bin("initdb"));
    initdb.args(["-k", "-U", "postgres", "--auth=scram-sha-256", "--no-sync", "--pwfile"]);
    run(initdb.arg(&word).arg("-D").arg(&data));
    let log = stage.field.dir.join("server.log");
    let options = format!("-p {} -c listen_addresses=127.0.0.1", member.pg_port);
    let append = format!(
        "printf '%s\\n' \"cluster_name = 'adopted'\" 'work_mem = 9MB' 'archive_mode = on' \
         \"archive_command = 'true'\" 'wal_log_hints = on' 'statement_timeout = 1h' \
         \"unix_socket_directories = ''\" >> {}/postgresql.conf",
        data.display()
    );
    run(stage.field.command(Path::new("sh")).args(["-c", &append]));
    let mut start = stage.field.command(&bin("pg_ctl"));
    start.arg("-D").arg(&data).arg("-l").arg(&log).args(["-w", "-o", &options, "start"]);
    // It must not hold our pipes open.
    start.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    assert!(start.status().expect("pg_ctl runs").success());
    let mut psql = stage.field.command(&bin("psql"));
    let address = format!("host=127.0.0.1 port={} user=postgres", member.pg_port);
    let user = format!("CREATE USER plain PASSWORD '{WORD}'");
    run(psql.env("PGPASSWORD", WORD).args(["-d", &address, "-c", &user]));
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{}", text(&output));
}

fn judge(stage: &Stage, member: &MemberPlan, written: &str) {
    let all: Value = node::config::parse_yaml(written).expect("YAML");
    assert_eq!(all["scope"], "adopted");
    let local = &all["postgresql"];
    assert_eq!(local["listen"], format!("127.0.0.1:{}", member.pg_port));
    assert_eq!(local["data_dir"], stage.field.data_dir(member).display().to_string());
    assert_eq!(local["bin_dir"], stage.field.plan.pg_bin.display().to_string());
    assert_eq!(local["parameters"], json!({"archive_command": "true"}));
    let hba = local["pg_hba"].as_array().expect("lines of pg_hba.conf");
    assert!(hba.len() >= 6 && hba[0].as_str().expect("a line").starts_with("local"), "{hba:?}");
    assert_eq!(local["authentication"]["superuser"]["password"], WORD);
    let dynamic = &all["bootstrap"]["dcs"]["postgresql"];
    assert_eq!(dynamic["parameters"]["work_mem"], "9MB");
    assert_eq!(dynamic["parameters"]["statement_timeout"], "1h");
    assert_eq!(dynamic["use_pg_rewind"], true);
    for name in ["port", "listen_addresses", "cluster_name", "archive_command"] {
        assert!(dynamic["parameters"].get(name).is_none(), "{name}");
    }
}

/// A user that is no superuser, and a server that is not there.
fn refusals(stage: &Stage, member: &MemberPlan) {
    let told = |dsn: &str| {
        let output = daemon(stage, &["--generate-config", "--dsn", dsn], &[]);
        assert_eq!(output.status.code(), Some(1));
        text(&output)
    };
    let address = format!("host=127.0.0.1 port={}", member.pg_port);
    let plain = told(&format!("{address} user=plain password={WORD}"));
    assert!(plain.contains("plain is no superuser"), "{plain}");
    assert!(told(&format!("{address} user=postgres password=wrong")).contains("cannot be asked"));
    assert!(told("host=127.0.0.1 port=1 user=postgres").contains("cannot be asked"));
    assert!(told("host").contains("makes no sense"));
}
