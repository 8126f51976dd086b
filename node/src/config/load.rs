//! The two ways in: everything a daemon needs, and what the command line needs.
//!
//! Invariant *all findings at once*: after the files could be read, every
//! check runs, and only then the answer is given.

use super::document::{Document, whole_of};
use super::env::Environment;
use super::machine::Ports;
use super::{Citus, Ctl, Login, Settings, StoreSettings, TopologySettings};
use super::{bootstrap, file, formation, machine, names, of_all_members, paths, postgresql};
use super::{schema, sections, store, validate};
use crate::dcs::settings::SECTIONS;
use crate::document::findings::Findings;
use serde_json::{Map, Value};
use std::path::Path;
use topology::MemberName;

/// Stands in `synchronous_standby_names` when no standby may be synchronous.
const RESERVED_NAME: &str = "__patroni_strict_sync_replica_placeholder__";

#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub warnings: Vec<String>,
}

/// What the command line uses. It works without a `postgresql` section.
#[derive(Clone, Debug)]
pub struct CtlSettings {
    pub scope: Option<String>,
    pub namespace: String,
    pub name: Option<String>,
    pub store: StoreSettings,
    /// Its authentication is that of `restapi` when it has none of its own.
    pub ctl: Ctl,
    pub citus: Option<Citus>,
    pub topology: Option<TopologySettings>,
    pub superuser: Option<Login>,
    pub replication: Option<Login>,
    pub warnings: Vec<String>,
}

/// Reads the configuration of a daemon.
pub fn load(path: Option<&Path>, env: &Environment) -> Result<Loaded, Findings> {
    let mut findings = Findings::default();
    let raw = read_document(path, env, &mut findings)?;
    validate::check(&raw, |_| true, &mut findings);
    validate::require(&raw, &mut findings);
    validate::warn_of_unknown_keys(&raw, &mut findings);
    check_dcs(&raw, &mut findings);
    let settings = read_settings(&raw, env, &mut findings);
    let warnings = findings.finish()?;
    Ok(Loaded { settings, warnings })
}

/// What `--validate-config` answers when nothing is wrong.
#[derive(Debug)]
pub struct Checked {
    /// The merged document, secrets included.
    pub document: Value,
    pub warnings: Vec<String>,
}

/// Checks everything that can be checked, on this machine and its network too.
pub fn examine(path: Option<&Path>, env: &Environment, ports: Ports) -> Result<Checked, Findings> {
    let mut findings = Findings::strict();
    let document = read_document(path, env, &mut findings)?;
    validate::check(&document, |_| true, &mut findings);
    validate::require(&document, &mut findings);
    validate::warn_of_unknown_keys(&document, &mut findings);
    check_dcs(&document, &mut findings);
    let settings = read_settings(&document, env, &mut findings);
    let whole = whole_of(&document);
    schema::check(whole, &mut findings);
    machine::check(whole, &settings.postgresql, &settings.store, ports, &mut findings);
    let warnings = findings.finish()?;
    Ok(Checked { document, warnings })
}

/// What a new cluster would begin with. A member of one that is there does not need
/// it, so a start only warns.
fn check_dcs(raw: &Value, findings: &mut Findings) {
    const PATH: &str = "bootstrap.dcs";
    let Some(dcs) = whole_of(raw).at(PATH) else { return };
    if findings.are_strict() {
        return of_all_members::check(dcs, PATH, findings);
    }
    let mut found = Findings::default();
    of_all_members::check(dcs, PATH, &mut found);
    let wrong = found.iter().map(ToString::to_string);
    for text in wrong.chain(found.warnings().iter().cloned()) {
        findings.warn(text);
    }
}

fn read_settings(raw: &Value, env: &Environment, findings: &mut Findings) -> Settings {
    let document = whole_of(raw);
    let store = store::own_store(document, findings);
    let citus = sections::read_citus(document, findings);
    names::check(document, findings);
    Settings {
        scope: document.text_or_empty("scope"),
        namespace: namespace(&document.text_or_empty("namespace")),
        name: member_name(document, findings),
        log: sections::read_log(document, findings),
        restapi: sections::read_restapi(document, findings),
        ctl: sections::read_ctl(document, findings),
        bootstrap: bootstrap::read(document, citus.is_some(), findings),
        postgresql: postgresql::read(document, env, findings),
        tags: sections::read_tags(document, findings),
        watchdog: sections::read_watchdog(document, findings),
        citus,
        topology: formation::read(document, &store, findings),
        store,
        raw: raw.clone(),
    }
}

/// Reads what the command line needs; mistakes elsewhere do not matter to it.
pub fn load_for_ctl(
    path: Option<&Path>,
    env: &Environment,
    scope_override: Option<&str>,
) -> Result<CtlSettings, Findings> {
    let mut findings = Findings::default();
    let raw = read_document(path, env, &mut findings)?;
    validate::check(&raw, matters_to_ctl, &mut findings);
    let document = whole_of(&raw);
    let store = store::own_store(document, &mut findings);
    let settings = CtlSettings {
        scope: scope_override.map(str::to_string).or_else(|| document.text("scope")),
        namespace: namespace(&document.text_or_empty("namespace")),
        name: document.text("name"),
        ctl: sections::read_ctl(document, &mut findings),
        citus: sections::read_citus(document, &mut findings),
        topology: formation::read(document, &store, &mut findings),
        superuser: postgresql::read_login(document, "superuser"),
        replication: postgresql::read_login(document, "replication"),
        store,
        warnings: Vec::new(),
    };
    let warnings = findings.finish()?;
    Ok(CtlSettings { warnings, ..settings })
}

fn matters_to_ctl(path: &str) -> bool {
    let first = path.split('.').next().unwrap_or(path);
    ["scope", "namespace", "name", "ctl", "citus", "topology"].contains(&first)
        || SECTIONS.contains(&first)
        || path.starts_with("restapi.authentication.")
        || path.starts_with("postgresql.authentication.")
        || path == "restapi.cafile"
}

/// Files and environment as one document, old forms rewritten.
fn read_document(
    path: Option<&Path>,
    env: &Environment,
    findings: &mut Findings,
) -> Result<Value, Findings> {
    let mut raw = file::document(path, env, findings);
    if findings.is_empty() && raw.as_object().is_some_and(Map::is_empty) {
        let remedy = "name a configuration file, or set PATRONI_CONFIGURATION or PATRONI_SCOPE";
        let place = path.map_or("configuration".into(), |path| path.display().to_string());
        findings.add(&place, "is empty", remedy);
    }
    if !findings.is_empty() {
        return Err(std::mem::take(findings));
    }
    rewrite_old_forms(&mut raw);
    paths::make_absolute(&mut raw, env, findings);
    Ok(raw)
}

/// Logins that stand in `postgresql` itself, and a name that stands there.
fn rewrite_old_forms(raw: &mut Value) {
    let name = whole_of(raw).at("postgresql.name").cloned();
    let Some(root) = raw.as_object_mut() else {
        return;
    };
    if let (None, Some(name)) = (root.get("name"), name) {
        root.insert("name".into(), name);
    }
    if let Some(exhibitor) = root.get("zookeeper").and_then(|z| z.get("exhibitor")).cloned() {
        root.shift_remove("zookeeper");
        root.entry("exhibitor").or_insert(exhibitor);
    }
    let Some(section) = root.get_mut("postgresql").and_then(Value::as_object_mut) else {
        return;
    };
    if section.contains_key("authentication") {
        return;
    }
    let mut logins = Map::new();
    for who in ["replication", "superuser"] {
        if let Some(login) = section.shift_remove(who) {
            logins.insert(who.into(), login);
        }
    }
    let rewinds = section.shift_remove("pg_rewind");
    if logins.is_empty() && rewinds.is_none() {
        return;
    }
    // In this form the login says whether to rewind.
    section.entry("use_pg_rewind").or_insert(Value::Bool(rewinds.is_some()));
    if let Some(login) = rewinds {
        logins.insert("superuser".into(), login);
    }
    section.insert("authentication".into(), Value::Object(logins));
}

/// With one slash before each part and none at the end.
fn namespace(text: &str) -> String {
    text.split('/').filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect()
}

fn member_name(document: Document, findings: &mut Findings) -> MemberName {
    let name = document.text_or_empty("name");
    if name == RESERVED_NAME {
        findings.add("name", "is a reserved word", "give the member another name");
    } else if name.contains('/') {
        findings.add("name", format!("`{name}` holds a slash"), "write a name without slashes");
    }
    MemberName::new(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ToolOption, yaml};
    use proptest::prelude::*;

    const N1: &str = include_str!("testdata/n1.yml");
    const N3: &str = include_str!("testdata/n3.yml");
    const N4: &str = include_str!("testdata/n4-standby-cluster.yml");

    fn environment(text: &str) -> Environment {
        let pairs = [("PATRONI_CONFIGURATION", text), ("HOME", "/home/p")];
        pairs.map(|(name, value)| (name.to_string(), value.to_string())).into()
    }

    fn loaded(text: &str) -> Loaded {
        load(None, &environment(text)).unwrap_or_else(|findings| panic!("{findings}"))
    }

    fn refused(text: &str) -> String {
        load(None, &environment(text)).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn the_smallest_usual_file_is_read_whole_and_without_a_warning() {
        let Loaded { settings, warnings } = loaded(N1);
        assert_eq!(warnings, [""; 0]);
        assert_eq!(settings.namespace, "/service");
        assert_eq!(settings.store.hosts, ["127.0.0.1:2379"]);
        assert_eq!(settings.restapi.api_url(), "http://127.0.0.1:8008/patroni");
        let bootstrap = settings.bootstrap.unwrap();
        let option = |name: &str, value: Option<&str>| ToolOption {
            name: name.into(),
            value: value.map(str::to_string),
        };
        assert_eq!(
            bootstrap.initdb,
            [option("encoding", Some("UTF8")), option("data-checksums", None)]
        );
        assert_eq!(bootstrap.dcs["maximum_lag_on_failover"], 1_048_576);
        let postgresql = settings.postgresql;
        assert_eq!(postgresql.conn_url(), "postgres://127.0.0.1:5361/postgres");
        assert_eq!(postgresql.rewind.username, "rewind_user");
        assert_eq!(postgresql.replication.password.unwrap().0, "rep-pass");
    }

    #[test]
    fn tags_and_access_lists_keep_their_order() {
        let Loaded { settings, warnings } = loaded(N3);
        assert_eq!(warnings, [""; 0]);
        let shown = Value::Object(settings.tags.published()).to_string();
        assert_eq!(shown, r#"{"clonefrom":true,"nosync":false,"sync_priority":2,"foo":"bar"}"#);
        assert_eq!(settings.postgresql.pg_hba.unwrap().len(), 3);
        assert_eq!(settings.postgresql.pg_ident.unwrap(), ["omicron bryanh guest1"]);
        assert!(loaded(N4).settings.bootstrap.unwrap().initdb.is_empty());
    }

    #[test]
    fn everything_missing_is_told_at_once() {
        let text = refused("log: {level: loud}\npostgresql: {listen: 'x:99999'}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.contains(
                &"postgresql.listen: `x:99999` is no host:port; write e.g. 127.0.0.1:5432"
            )
        );
        for path in [
            "log.level",
            "scope",
            "name",
            "restapi.listen",
            "postgresql.data_dir",
            "postgresql.authentication.replication.username",
            "etcd3",
        ] {
            assert!(lines.iter().any(|line| line.starts_with(&format!("{path}: "))), "{path}");
        }
        assert_eq!(lines.len(), 8, "{text}");
    }

    #[test]
    fn nothing_configured_is_one_line() {
        let findings = load(None, &Environment::new()).map(|_| ()).unwrap_err();
        assert_eq!(findings.iter().count(), 1);
    }

    #[test]
    fn the_placeholder_is_no_name() {
        let text = refused(&N1.replace("name: n1", &format!("name: {RESERVED_NAME}")));
        assert_eq!(text, "name: is a reserved word; give the member another name");
    }

    #[test]
    fn namespaces_are_collapsed() {
        for (text, wanted) in [("service", "/service"), ("//a//b/", "/a/b"), ("/", "")] {
            assert_eq!(namespace(text), wanted);
        }
    }

    #[test]
    fn old_logins_are_understood() {
        let old = N1.replace("  authentication:\n", "").replace("    superuser:", "  superuser:");
        let old = old.replace("    replication:", "  replication:");
        let old = old.replace("    rewind: {username: rewind_user, password: rewind-pass}\n", "");
        let read = loaded(&old).settings.postgresql;
        assert_eq!(
            (read.superuser.username.as_str(), read.replication.username.as_str()),
            ("postgres", "replicator")
        );
        assert_eq!(read.use_pg_rewind, Some(false), "nobody may rewind");
        let old = old.replace("  superuser:", "  pg_rewind:");
        let read = loaded(&old).settings.postgresql;
        assert_eq!(
            (read.superuser.username.as_str(), read.use_pg_rewind),
            ("postgres", Some(true))
        );
    }

    #[test]
    fn old_places_are_understood() {
        let old =
            N1.replace("name: n1\n", "").replace("postgresql:\n", "postgresql:\n  name: n1\n");
        assert_eq!(loaded(&old).settings.name.as_str(), "n1");
        let old = N1.replace("etcd3:\n  host: 127.0.0.1:2379\n", "");
        let old = format!("{old}zookeeper: {{exhibitor: {{hosts: [a], port: 1}}}}\n");
        let text = refused(&old);
        assert!(text.starts_with("exhibitor: is not supported"), "{text}");
        assert!(!text.contains("zookeeper"), "{text}");
    }

    #[test]
    fn what_does_no_harm_is_passed_over_and_a_check_finds_it() {
        let odd = format!("{N1}tags: {{nofailover: maybe}}\nthread_pool_size: many\n");
        let odd = odd.replace("maximum_lag_on_failover: 1048576", "maximum_lag_on_failover: much");
        let Loaded { settings, warnings } = loaded(&odd);
        assert!(!settings.tags.nofailover());
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("bootstrap.dcs.maximum_lag_on_failover: `much` is no"));
    }

    /// What is a warning at a start is a finding in a check that the operator asks for.
    #[test]
    fn p4_the_beginning_of_a_cluster_is_judged_as_a_patch_is() {
        let dcs = "  dcs:\n    pg_hba: [local all all trust]\n    postgresql: {pg_hba: trust}\n";
        let text = N1.replace("  dcs:\n", dcs);
        let Loaded { warnings, .. } = loaded(&text);
        let wrong =
            "bootstrap.dcs.postgresql.pg_hba: a text is no list of texts; write `- item` lines";
        let misplaced =
            "bootstrap.dcs.pg_hba has no effect here; write it below bootstrap.dcs.postgresql";
        assert_eq!(warnings, [wrong, misplaced]);
        let checked = examine(None, &environment(&text), Ports::MayBeInUse);
        let found = checked.map(|_| ()).unwrap_err().to_string();
        assert!(found.lines().any(|line| line == wrong), "{found}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let settings =
            loaded(&N1.replace("rep-pass}", "rep-pass, sslpassword: ssl-pass}")).settings;
        let text = format!("{settings:?}");
        for secret in ["super-pass", "rep-pass", "rewind-pass", "ssl-pass"] {
            assert!(!text.contains(secret), "{secret}");
        }
    }

    #[test]
    fn a_new_citus_group_commits_by_quorum_unless_something_else_is_said() {
        let mode = |text: &str| loaded(text).settings.bootstrap.unwrap().dcs;
        assert!(mode(N1).get("synchronous_mode").is_none());
        let citus = format!("{N1}citus: {{group: 0, database: d}}\n");
        assert_eq!(loaded(&citus).settings.group(), topology::Group::COORDINATOR);
        assert_eq!(mode(&citus)["synchronous_mode"], "quorum");
        let said = citus.replace("    ttl:", "    synchronous_mode: off\n    ttl:");
        assert_ne!(said, citus);
        assert_eq!(mode(&said)["synchronous_mode"], false);
    }

    #[test]
    fn the_environment_alone_can_configure_a_daemon() {
        let env = [
            ("HOME", "/home/p"),
            ("PWD", "/run/here"),
            ("PATRONI_SCOPE", "s"),
            ("PATRONI_NAME", "n"),
            ("PATRONI_ETCD3_HOST", "localhost:2379"),
            ("PATRONI_RESTAPI_LISTEN", "127.0.0.1:8010"),
            ("PATRONI_RESTAPI_CERTFILE", "c.pem"),
            ("PATRONI_RESTAPI_CAFILE", "c.pem"),
            ("PATRONI_RESTAPI_VERIFY_CLIENT", "required"),
            ("PATRONI_RESTAPI_USERNAME", "u"),
            ("PATRONI_RESTAPI_PASSWORD", "p"),
            ("PATRONI_CTL_INSECURE", "on"),
            ("PATRONI_POSTGRESQL_LISTEN", "127.0.0.1:5433"),
            ("PATRONI_POSTGRESQL_DATA_DIR", "data"),
            ("PATRONI_SUPERUSER_USERNAME", "postgres"),
            ("PATRONI_REPLICATION_USERNAME", "replicator"),
        ];
        let mut env: Environment = env.map(|(name, text)| (name.into(), text.into())).into();
        let Loaded { settings, warnings } = load(None, &env).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert_eq!(settings.restapi.api_url(), "https://127.0.0.1:8010/patroni");
        assert_eq!(settings.restapi.verify_client, "required");
        assert_eq!(settings.postgresql.data_dir, Path::new("/run/here/data"));
        assert_eq!(settings.restapi.certfile.as_deref(), Some(Path::new("/run/here/c.pem")));
        assert!(settings.ctl.insecure && settings.ctl.authentication.is_some());
        assert!(settings.bootstrap.is_none(), "it must not initialise a cluster");
        env.insert("PATRONI_LOG_FILE_NUM".into(), "many".into());
        let text = load(None, &env).map(|_| ()).unwrap_err().to_string();
        assert!(text.starts_with("log.file_num (from PATRONI_LOG_FILE_NUM): `many` is no whole"));
    }

    #[test]
    fn ctl_needs_only_a_store() {
        let env = [
            ("PATRONI_ETCD3_HOST", "localhost:2379"),
            ("PATRONI_RESTAPI_USERNAME", "u"),
            ("PATRONI_RESTAPI_PASSWORD", "p"),
        ];
        let env: Environment =
            env.map(|(name, value)| (name.to_string(), value.to_string())).into();
        let ctl = load_for_ctl(None, &env, Some("demo")).unwrap();
        assert_eq!(ctl.scope.as_deref(), Some("demo"));
        assert_eq!(ctl.store.hosts, ["localhost:2379"]);
        assert_eq!(ctl.ctl.authentication.unwrap().username, "u");
        let broken = N1.replace("listen: 127.0.0.1:5361", "listen: 'x:0'");
        let ctl = load_for_ctl(None, &environment(&broken), None).unwrap();
        assert_eq!(ctl.superuser.unwrap().username, "postgres");
        assert!(load_for_ctl(None, &environment("scope: a"), None).is_err());
    }

    #[test]
    fn a_formation_is_read_in_its_place() {
        let section = "topology: {formation: f, region: a, mode: automatic, isolation: strict, \
            regions: [{name: a}, {name: b, etcd3: {host: b}}]}";
        let text = refused(&format!("{N1}{section}\n"));
        assert!(text.contains("topology.mode: `automatic` is not known; write one of manual"));
        assert!(text.contains("topology.isolation: `strict` is not known; write one of continue"));
        let text = N1.to_string() + &section.replace("mode: automatic, isolation: strict, ", "");
        assert_eq!(loaded(&text).settings.topology.unwrap().policy.regions.len(), 2);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[a-z0-9:,./\\[\\]*=-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = prop_oneof!["[a-z_]{1,8}", Just("name".into()), Just("host".to_string())];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    fn any_change() -> impl Strategy<Value = (String, Value)> {
        let mut places: Vec<String> =
            crate::config::settings::all_paths().map(|(path, _)| path).collect();
        places.extend(["postgresql", "citus", "topology", "consul", "a"].map(str::to_string));
        (prop::sample::select(places), any_value())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Any value at any place is read or refused, never a panic; and what
        /// is refused is told in single lines.
        #[test]
        fn any_map_is_read_or_refused(changes in prop::collection::vec(any_change(), 1..6)) {
            let mut raw: Value = yaml::parse(N3).unwrap();
            for (path, value) in changes {
                let nested = path.rsplit('.').fold(value, |inner, key| {
                    Value::Object(Map::from_iter([(key.to_string(), inner)]))
                });
                topology::document::patch(&mut raw, &nested);
            }
            let env = environment(&raw.to_string());
            let _ = load_for_ctl(None, &env, None);
            if let Err(findings) = load(None, &env) {
                prop_assert!(!findings.is_empty());
                prop_assert_eq!(findings.to_string().lines().count(), findings.iter().count());
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z:\\-{}\\[\\],&*<!| \n'\"0-9]{0,80}") {
            let _ = load(None, &environment(&text));
        }
    }
}
