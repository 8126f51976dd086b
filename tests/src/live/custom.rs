//! A new cluster made by an operator's command from a backup.

use super::source::Source;
use super::stage::{LONG, SHORT, Stage, ask_sql};
use ctl::demo::has_citus;
use ctl::field::MemberPlan;
use serde_json::{Value, json};
use std::fs;

/// A base backup and a WAL archive; back to a named point; with passwords that
/// the backup does not know.
pub async fn point_in_time() {
    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    let source = Source::make(&stage).await;
    let restore = format!(
        "sh -c 'for a in \"$@\"; do echo \"$a\" >> told; done; \
         mkdir -p {data}; cp -a {backup}/. {data}' --",
        backup = source.backup.display(),
        data = stage.field.data_dir(&member).display()
    );
    let after = "sh -c 'echo \"$0\" > connstring; cat $PGPASSFILE > passfile; \
                 echo $PGOPTIONS > options'";
    let overlay = json!({
        "bootstrap": {
            "method": "pitr",
            "pitr": {
                "command": restore,
                "stanza": "main",
                "recovery_conf": {
                    "restore_command": format!("cp {}/%f %p", source.archive.display()),
                    "recovery_target_name": "half_way",
                    "recovery_target_action": "promote",
                },
            },
            "post_bootstrap": after,
        },
        "postgresql": {
            "pg_hba": [
                "local all all trust",
                "host all all 127.0.0.1/32 scram-sha-256",
                "host replication all 127.0.0.1/32 scram-sha-256",
            ],
            "authentication": {"rewind": {"username": "rewinder", "password": "back"}},
        },
    });
    stage.field.reconfigure(&member, &overlay).expect("the file is written");
    stage.start_store();
    stage.start(&member);
    stage.until("the restored cluster", LONG, async || stage.primary().await.is_some()).await;
    what_the_commands_were_told(&stage, &member);
    what_is_in_it(&stage, &member, &source).await;
    stage.end();
}

/// A tool has written itself how far to recover; an old one wrote it where no
/// server looks any more.
pub async fn kept() {
    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    let source = Source::make(&stage).await;
    stage.start_store();
    let conf = format!(
        "restore_command = 'cp {}/%f %p'\nrecovery_target_name = 'half_way'\n\
         recovery_target_action = 'promote'\n",
        source.archive.display()
    );
    fs::write(stage.field.dir.join("wanted.conf"), conf).expect("a file");
    let tool = |then: &str| {
        let data = stage.field.data_dir(&member).display().to_string();
        let copy = format!("mkdir -p {data}; cp -a {}/. {data}", source.backup.display());
        let command = format!("sh -c '{copy}; {}' --", then.replace("DATA", &data));
        json!({"bootstrap": {"method": "tool", "tool": {"command": command, "no_params": true,
            "keep_existing_recovery_conf": true}}})
    };
    let old = tool("cp wanted.conf DATA/recovery.conf");
    let new = tool("cat wanted.conf >> DATA/postgresql.auto.conf; touch DATA/recovery.signal");
    ends(&mut stage, &member, old, "is of a PostgreSQL before 12").await;
    stage.field.reconfigure(&member, &new).expect("the file is written");
    // A group of Citus gets what is Citus', however its data came to be.
    let stand_in = !has_citus(&stage.field.plan.pg_bin);
    let citus = json!({"citus": {"group": 0, "database": "postgres", "stand_in": stand_in}});
    stage.field.reconfigure(&member, &citus).expect("the file is written");
    stage.start(&member);
    stage.until("the restored cluster", LONG, async || stage.primary().await.is_some()).await;
    let rows = "SELECT string_agg(id::text, ',' ORDER BY id) FROM kept";
    assert_eq!(ask_sql(&member, rows).await.expect("it answers"), "1,2");
    let nodes = "SELECT to_regclass('pg_dist_node')::text";
    assert_eq!(ask_sql(&member, nodes).await.expect("it answers"), "pg_dist_node");
    assert_eq!(ask_sql(&member, "SHOW hot_standby").await.expect("it answers"), "on");
    let auto = stage.field.data_dir(&member).join("postgresql.auto.conf");
    let auto = fs::read_to_string(auto).expect("it is always there");
    assert!(!auto.contains("recovery_target"), "{auto}");
    stage.end();
}

fn what_the_commands_were_told(stage: &Stage, member: &MemberPlan) {
    let read = |name: &str| fs::read_to_string(stage.field.dir.join(name)).unwrap_or_default();
    let data = stage.field.data_dir(member);
    let wanted = format!("--scope=shop\n--datadir={}\n--stanza=main\n", data.display());
    assert_eq!(read("told"), wanted);
    let connstring = read("connstring");
    assert!(connstring.contains(&format!("port={}", member.pg_port)), "{connstring}");
    assert!(!connstring.contains("super-secret"), "{connstring}");
    assert!(read("passfile").contains(":postgres:super-secret"));
    assert!(read("options").contains("synchronous_commit=local"));
}

async fn what_is_in_it(stage: &Stage, member: &MemberPlan, source: &Source) {
    let data = stage.field.data_dir(member);
    let refused = ask_sql(member, "SELECT 1").await;
    assert!(refused.is_err(), "the rules of the first start still hold");
    let ask = async |sql: &str| -> String {
        source.ask_as(&stage.field, member.pg_port, "postgres", "super-secret", sql)
    };
    assert_eq!(ask("SELECT string_agg(id::text, ',' ORDER BY id) FROM kept").await, "1,2");
    assert_eq!(ask("SHOW hot_standby").await, "on");
    assert_eq!(ask("SELECT system_identifier FROM pg_control_system()").await, source.system);
    let roles = "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles \
                 WHERE rolname IN ('replicator', 'rewinder')";
    assert_eq!(ask(roles).await, "replicator,rewinder");
    let may = "SELECT has_function_privilege('rewinder', \
               'pg_read_binary_file(text,bigint,bigint,boolean)', 'EXECUTE')";
    assert_eq!(ask(may).await, "t");
    let login =
        source.ask_as(&stage.field, member.pg_port, "rewinder", "back", "SELECT current_user");
    assert_eq!(login, "rewinder");
    for gone in ["recovery.signal", "standby.signal", "pg_hba.bootstrap.conf"] {
        assert!(!data.join(gone).exists(), "{gone} stays");
    }
    let conf = fs::read_to_string(data.join("postgresql.conf")).expect("our file");
    assert!(!conf.contains("recovery_target_name"), "{conf}");
}

/// A command that fails, then a script that fails; then all is well.
pub async fn failed() {
    let mut stage = Stage::prepare(1);
    let member = stage.members()[0].clone();
    stage.start_store();
    let junk = stage.field.data_dir(&member).display().to_string();
    let broken = json!({"bootstrap": {"method": "broken", "broken": {"no_params": true,
        "command": format!("sh -c 'mkdir -p {junk}; echo x > {junk}/junk; exit 3'")}}});
    ends(&mut stage, &member, broken, "sh failed").await;
    let failed = stage.field.dir.join("data").join(format!("{}.failed", member.name));
    assert!(failed.join("junk").exists() && !stage.field.data_dir(&member).exists());

    let script = json!({"bootstrap": {"method": "initdb", "post_init": "false"}});
    ends(&mut stage, &member, script, "bootstrap.post_bootstrap: false failed").await;
    let second = failed.with_added_extension("2");
    assert!(second.join("PG_VERSION").exists(), "junk of a command stands in the way");
    assert!(!stage.field.data_dir(&member).join("PG_VERSION").exists());

    let forbidden = json!({"bootstrap": {"post_init": null, "initdb": {"pwfile": "/x"}}});
    ends(&mut stage, &member, forbidden, "may not hold `pwfile`").await;

    let good = json!({"bootstrap": {"initdb": {"pwfile": null, "encoding": "UTF8"}}});
    stage.field.reconfigure(&member, &good).expect("the file is written");
    stage.start(&member);
    stage.healthy(LONG).await;
    assert_eq!(ask_sql(&member, "SHOW server_encoding").await.expect("it answers"), "UTF8");
    stage.end();
}

async fn ends(stage: &mut Stage, member: &MemberPlan, overlay: Value, why: &str) {
    stage.field.reconfigure(member, &overlay).expect("the file is written");
    let mark = stage.mark(member);
    stage.start(member);
    let code = stage.field.wait_exit(&member.name, SHORT).expect("the daemon ends");
    let log = stage.log_since(member, mark);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains(why), "no `{why}` in {log}");
}
