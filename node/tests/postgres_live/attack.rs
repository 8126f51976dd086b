//! The owner of the database tries to run something as the superuser.
//!
//! Its functions, operators and views have the names of those in our statements, and
//! its database's settings put them first. Each of them makes it a superuser when it
//! runs as one.

use super::{APP, Node};
use node::config::Login;
use node::postgres::difference::FilesRead;
use node::postgres::{Session, Target, history, slots, users};
use std::collections::BTreeMap;
use topology::{Lsn, Timeline};

const MALLORY: &str = "mallory";

/// Functions with arguments as we call them, and what they give.
const FUNCTIONS: [(&str, &str); 20] = [
    ("current_setting(text)", "text"),
    ("current_setting(text, boolean)", "text"),
    ("lower(text)", "text"),
    ("left(text, integer)", "text"),
    ("substr(text, integer, integer)", "text"),
    ("to_char(timestamp, text)", "text"),
    ("timezone(text, timestamptz)", "timestamp"),
    ("pg_is_in_recovery()", "boolean"),
    ("pg_current_wal_lsn()", "pg_lsn"),
    ("pg_walfile_name(pg_lsn)", "text"),
    ("pg_ls_dir(text)", "text"),
    ("pg_control_checkpoint()", "text"),
    ("pg_control_system()", "text"),
    ("convert_from(bytea, name)", "text"),
    ("pg_read_binary_file(text, bigint, bigint, boolean)", "bytea"),
    ("pg_create_physical_replication_slot(text, boolean)", "text"),
    ("pg_drop_replication_slot(text)", "void"),
    ("pg_replication_slot_advance(text, pg_lsn)", "text"),
    ("txid_current()", "bigint"),
    ("pg_reload_conf()", "boolean"),
];
const VIEWS: [(&str, &str); 7] = [
    ("pg_settings", "name"),
    ("pg_file_settings", "name"),
    ("pg_roles", "rolname"),
    ("pg_replication_slots", "slot_name"),
    ("pg_stat_replication", "application_name"),
    ("pg_stat_activity", "backend_type"),
    ("pg_stat_wal_receiver", "status"),
];
const OPERATORS: [(&str, &str, &str); 6] = [
    ("=", "name", "text"),
    ("=", "text", "text"),
    ("<>", "text", "text"),
    ("<", "pg_lsn", "pg_lsn"),
    ("~", "text", "text"),
    ("||", "text", "text"),
];

fn traps() -> String {
    let mut sql = String::from(
        "CREATE FUNCTION public.spring() RETURNS text LANGUAGE plpgsql AS \
         $$BEGIN EXECUTE 'ALTER ROLE mallory SUPERUSER'; RETURN 'x'; END$$;",
    );
    let body = "LANGUAGE plpgsql AS $$BEGIN PERFORM public.spring(); RETURN NULL; END$$;";
    let nothing = "LANGUAGE plpgsql AS $$BEGIN PERFORM public.spring(); END$$;";
    for (name, gives) in FUNCTIONS {
        let body = if gives == "void" { nothing } else { body };
        sql += &format!("CREATE FUNCTION public.{name} RETURNS {gives} {body}");
    }
    for (name, column) in VIEWS {
        sql += &format!("CREATE VIEW public.{name} AS SELECT public.spring() AS {column};");
    }
    for (at, (name, left, right)) in OPERATORS.iter().enumerate() {
        let gives = if *name == "||" { "text" } else { "boolean" };
        sql += &format!("CREATE FUNCTION public.op{at}({left}, {right}) RETURNS {gives} {body}");
        sql += &format!(
            "CREATE OPERATOR public.{name} \
             (FUNCTION = public.op{at}, LEFTARG = {left}, RIGHTARG = {right});"
        );
    }
    sql + "ALTER DATABASE postgres SET search_path = public, pg_catalog;"
        + "ALTER DATABASE postgres SET role = mallory;"
        + "ALTER DATABASE postgres SET default_transaction_read_only = on;"
        + "ALTER DATABASE postgres SET standard_conforming_strings = off;"
}

async fn is_superuser(session: &Session) -> bool {
    const SQL: &str = "SELECT rolsuper FROM pg_catalog.pg_roles \
        WHERE rolname OPERATOR(pg_catalog.=) 'mallory'";
    session.row("mallory", SQL, &[]).await.expect("a row").get(0)
}

pub(crate) async fn s9_the_owner_of_the_database_stays_what_it_is(a: &Node, session: &Session) {
    let mallory = Login { username: MALLORY.into(), ..super::login(MALLORY) };
    users::ensure(session, &mallory, "").await.expect("a user");
    session.execute("owner", "ALTER DATABASE postgres OWNER TO mallory").await.expect("an owner");
    let settings = &a.0.settings;
    let target = Target::new("127.0.0.1", settings.port, &mallory, "postgres", "mallory");
    let theirs = Session::connect(&target).await.expect("a session of the owner");
    theirs.execute("traps", &traps()).await.expect("traps");

    let ours = a.0.session(APP).await.expect("a session of ours");
    const TEMPORARY: &str = "CREATE TEMP VIEW pg_stat_wal_receiver AS SELECT public.spring() x";
    ours.execute("a temporary view", TEMPORARY).await.expect("pg_temp comes last");
    everything_that_is_asked(a, &ours).await;
    assert!(!is_superuser(&ours).await, "one of our statements ran what the owner wrote");

    // The traps would work.
    let careless = "SET search_path TO public, pg_catalog; SELECT pg_is_in_recovery()";
    ours.execute("careless", careless).await.expect("a trap that springs");
    assert!(is_superuser(session).await, "the attack is none");
    let no_view = "DROP VIEW pg_temp.pg_stat_wal_receiver";
    ours.execute("no view", no_view).await.expect("no view");
    let end = "ALTER DATABASE postgres OWNER TO postgres; ALTER DATABASE postgres RESET ALL; \
        DROP OWNED BY mallory CASCADE; DROP ROLE mallory";
    session.execute("the end of mallory", end).await.expect("no mallory");
}

async fn everything_that_is_asked(a: &Node, session: &Session) {
    super::all_questions_have_the_same_answer(session).await;
    slots::create_physical(session, "s9").await.expect("a slot");
    slots::advance(session, "s9", Lsn(1)).await.expect("no step back");
    slots::drop(session, "s9").await.expect("no slot");
    let timeline = history::remote_timeline(session).await.expect("a timeline");
    assert_eq!(timeline, Timeline(1));
    // A file that is not there is answered with NULL, after all functions were called.
    assert!(history::remote(session, Timeline(2)).await.is_err());
    let wanted = BTreeMap::from([("work_mem".to_string(), "4MB".to_string())]);
    let read = FilesRead::of(session).await.expect("a time");
    read.changes(session, &wanted).await.expect("a comparison");
    users::ensure_all(session, &a.0.settings).await.expect("users");
    session.execute_long("checkpoint", "CHECKPOINT", super::LIMIT).await.expect("a checkpoint");
}

/// What the server keeps of a password is what it would have made of it itself.
pub(crate) async fn s8_verifiers_are_the_servers_own(session: &Session) {
    const KEPT: &str = "SELECT rolpassword, \
        rolpassword = 'md5' || pg_catalog.md5($1::text || 'old_style') \
        FROM pg_catalog.pg_authid WHERE rolname = 'old_style'";
    let old = super::login("old_style");
    let word = old.password.clone().expect("a password").0;
    session.execute("md5", "SET password_encryption = md5").await.expect("md5");
    users::ensure(session, &old, "").await.expect("a user");
    let row = session.row("kept", KEPT, &[&word]).await.expect("a row");
    assert!(row.get::<_, bool>(1), "{}", row.get::<_, String>(0));
    session.execute("scram", "SET password_encryption = 'scram-sha-256'").await.expect("scram");
    users::ensure(session, &old, "").await.expect("the user again");
    let row = session.row("kept", KEPT, &[&word]).await.expect("a row");
    assert!(row.get::<_, String>(0).starts_with("SCRAM-SHA-256$4096:"));
    session
        .execute("no user", "DROP ROLE old_style; RESET password_encryption")
        .await
        .expect("gone");
}
