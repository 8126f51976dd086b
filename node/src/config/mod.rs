//! The configuration of one daemon, typed.
//!
//! Invariant *all findings at once*: reading gives either a whole `Settings`
//! or every finding with its path and remedy.
//!
//! | file | job |
//! |---|---|
//! | `load.rs` | the ways in, for daemon and command line |
//! | `file.rs`, `yaml.rs`, `env.rs` | files and variables become one document |
//! | `not_yaml.rs`, `lenient.rs` | why a text is no YAML; what is read though the standard refuses it |
//! | `emit.rs` | a document as YAML |
//! | `settings.rs` | the table of known settings |
//! | `validate.rs` | what the table can check |
//! | `misplaced.rs`, `of_all_members.rs` | keys in the wrong place; what `/config` may say |
//! | `paths.rs` | relative paths become whole ones |
//! | `schema.rs`, `machine.rs` | what `--validate-config` asks beyond that |
//! | the others | one reader for each section; that of the store is its own (`dcs/settings.rs`) |

mod bootstrap;
mod cluster_wide;
mod document;
mod emit;
mod env;
mod file;
mod formation;
mod known_keys;
mod lenient;
mod load;
pub(crate) mod log_format;
mod machine;
pub(crate) mod method;
mod misplaced;
mod names;
mod not_yaml;
pub(crate) mod of_all_members;
mod options;
mod paths;
mod postgresql;
mod schema;
mod sections;
pub mod settings;
mod store;
mod validate;
mod yaml;

pub use crate::dcs::settings::{Srv, StoreSettings};
pub use crate::document::address::{parse_address, parse_listen};
pub use crate::document::findings::{Finding, Findings};
pub use crate::document::kind::{Kind, parse_whole};
pub use crate::document::{Document, Secret};
pub use emit::{Form, write as write_yaml, write_in as write_yaml_in};
pub use env::{Environment, environment_document, hide_from, is_for_the_daemon};
pub use env::{take_environment, take_working_directory};
pub use load::{Checked, CtlSettings, Loaded, examine, load, load_for_ctl};
pub use machine::{Ports, find_program, version_of};
pub use method::{BootstrapMethod, CustomMethod, ReplicaMethod, ReplicaMethods};
pub use not_yaml::NotYaml;
pub use options::{BASEBACKUP_FORBIDDEN, INITDB_FORBIDDEN, rewind_options_of};
pub use schema::MARK;
pub use topology::member::join_host as join;
pub use yaml::{parse as parse_yaml, plain as read_yaml_word};

use crate::dcs::keys::Keys;
use crate::watchdog::WatchdogSettings;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use topology::dynamic::{MINIMUM_TTL_S, SHORTEST_TTL_S};
use topology::number::{Base, counted};
use topology::region::Policy;
use topology::{Group, MemberName, RegionName, Tags};

/// Everything the local file and the environment say.
#[derive(Clone)]
pub struct Settings {
    pub scope: String,
    pub namespace: String,
    pub name: MemberName,
    pub log: Log,
    pub restapi: RestApi,
    pub ctl: Ctl,
    pub store: StoreSettings,
    /// `None`: this node never initialises a cluster.
    pub bootstrap: Option<Bootstrap>,
    pub postgresql: Postgresql,
    pub tags: Tags,
    pub watchdog: WatchdogSettings,
    pub citus: Option<Citus>,
    pub topology: Option<TopologySettings>,
    /// The merged document (file, then environment), secrets included.
    pub raw: Value,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// Of the stack trace behind a panic: `ERROR` or `DEBUG`.
    pub traceback_level: String,
    /// Levels of single modules, by their names.
    pub loggers: BTreeMap<String, String>,
    pub json: bool,
    /// A format string; for JSON also a list of fields. Null: the usual one.
    pub format: Value,
    pub dateformat: Option<String>,
    /// Constants of JSON lines.
    pub static_fields: Map<String, Value>,
    pub dir: Option<PathBuf>,
    pub mode: Option<u32>,
    pub file_size: u64,
    pub file_num: u32,
    /// Lines that may wait to be written.
    pub max_queue_size: usize,
    pub deduplicate_heartbeat_logs: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Credentials {
    pub username: String,
    pub password: Secret,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RestApi {
    pub listen_host: String,
    pub listen_port: u16,
    pub connect_address: String,
    pub authentication: Option<Credentials>,
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    pub keyfile_password: Option<Secret>,
    /// In OpenSSL's words.
    pub ciphers: Option<String>,
    pub cafile: Option<PathBuf>,
    /// `none`, `optional` or `required`.
    pub verify_client: String,
    pub allowlist: Vec<String>,
    pub allowlist_include_members: bool,
    pub http_extra_headers: Vec<(String, String)>,
    /// Callers that may wait for their connection to be accepted.
    pub request_queue_size: u32,
    pub server_tokens: String,
}

impl RestApi {
    /// `http(s)://address/patroni`, as members publish it.
    pub fn api_url(&self) -> String {
        let scheme = if self.certfile.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/patroni", self.connect_address)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ctl {
    pub authentication: Option<Credentials>,
    pub insecure: bool,
    pub cacert: Option<PathBuf>,
    pub certfile: Option<PathBuf>,
    pub keyfile: Option<PathBuf>,
    pub keyfile_password: Option<Secret>,
}

impl Ctl {
    /// What a client of the REST APIs shows.
    pub fn own(&self) -> Option<crate::tls::Own<'_>> {
        let password = self.keyfile_password.as_ref().map(|password| password.0.as_str());
        let cert = self.certfile.as_deref()?;
        Some(crate::tls::Own { cert, key: self.keyfile.as_deref(), password })
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bootstrap {
    /// Becomes `/config` of a new cluster.
    pub dcs: Value,
    /// `None`: initdb.
    pub method: Option<BootstrapMethod>,
    /// Long options without dashes: `("encoding", Some("UTF8"))`.
    pub initdb: Vec<ToolOption>,
    pub pg_hba: Vec<String>,
    pub post_bootstrap: Option<String>,
}

/// One long option of a PostgreSQL tool, without its dashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolOption {
    pub name: String,
    pub value: Option<String>,
}

#[derive(Clone, Default, PartialEq)]
pub struct Login {
    pub username: String,
    pub password: Option<Secret>,
    /// The other libpq keys that were given (`sslmode`, `sslcert`, ...).
    pub extra: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Postgresql {
    /// Hosts of `listen`, in order.
    pub listen_hosts: Vec<String>,
    pub port: u16,
    pub connect_host: String,
    pub connect_port: u16,
    pub proxy_address: Option<String>,
    pub data_dir: PathBuf,
    pub config_dir: PathBuf,
    /// `X` of `X.conf` and `X.base.conf`.
    pub config_base_name: String,
    /// Included instead of the file that initdb wrote.
    pub custom_conf: Option<String>,
    pub bin_dir: Option<PathBuf>,
    /// Other names of PostgreSQL's programs, by their usual name.
    pub bin_name: BTreeMap<String, String>,
    /// Name of the database the daemon connects to.
    pub database: String,
    pub pgpass: PathBuf,
    pub superuser: Login,
    pub replication: Login,
    /// The superuser when no `rewind` entry is given.
    pub rewind: Login,
    pub parameters: Map<String, Value>,
    pub pg_hba: Option<Vec<String>>,
    pub pg_ident: Option<Vec<String>>,
    /// What a role changes, by its word (`primary`, `replica`, `standby_leader`).
    pub by_role: BTreeMap<String, RoleSettings>,
    /// Recovery settings of a standby; `None`: those of the store count.
    pub recovery_conf: Option<Map<String, Value>>,
    pub use_pg_rewind: Option<bool>,
    pub remove_data_directory_on_rewind_failure: Option<bool>,
    pub remove_data_directory_on_diverged_timelines: Option<bool>,
    /// Options of pg_rewind; `None` leaves them to the cluster's settings.
    pub rewind_options: Option<Vec<ToolOption>>,
    pub use_unix_socket: bool,
    /// `unix_socket_directories`, where the configuration sets it.
    pub socket_directories: Option<String>,
    pub pg_ctl_timeout_s: u64,
    /// Shell-like commands by event: `on_start`, `on_stop`, ...
    pub callbacks: BTreeMap<String, String>,
    pub pre_promote: Option<String>,
    pub before_stop: Option<String>,
}

/// `parameters_X`, `pg_hba_X` and `pg_ident_X` of one role X.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoleSettings {
    pub parameters: Option<Map<String, Value>>,
    pub pg_hba: Option<Vec<String>>,
    pub pg_ident: Option<Vec<String>>,
}

impl Postgresql {
    /// Where the daemon itself connects over TCP.
    pub fn local_host(&self) -> &str {
        const LOCAL: [&str; 4] = ["*", "localhost", "0.0.0.0", "127.0.0.1"];
        if self.listen_hosts.iter().any(|h| LOCAL.contains(&h.as_str())) {
            return if self.listen_hosts.iter().any(|h| h == "127.0.0.1") {
                "127.0.0.1"
            } else {
                "localhost"
            };
        }
        self.listen_hosts.first().map_or("localhost", String::as_str)
    }

    /// Any tool of PostgreSQL, by its name.
    pub fn tool(&self, name: &str) -> PathBuf {
        let name = self.bin_name.get(name).map_or(name, String::as_str);
        self.bin_dir.as_ref().map_or_else(|| PathBuf::from(name), |dir| dir.join(name))
    }

    pub fn conn_url(&self) -> String {
        self.conn_url_at(&self.connect_host, self.connect_port)
    }

    /// The same of a server that is reached elsewhere.
    pub fn conn_url_at(&self, host: &str, port: u16) -> String {
        format!("postgres://{}/{}", topology::member::join_host(host, port), self.database)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Citus {
    pub database: String,
    /// Further databases, each with rows of its own.
    pub others: Vec<String>,
    /// The pooler in front of each group, by its number.
    pub poolers: BTreeMap<u32, (String, u16)>,
    pub group: u32,
    /// Tests and demo only: the project's SQL stand-in instead of the extension.
    pub stand_in: bool,
}

impl Citus {
    /// Every database of the formation, the first one first.
    pub fn databases(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.database).chain(&self.others)
    }

    /// What the coordinator's daemon keeps.
    pub fn wish(&self) -> citus::Wish {
        let poolers = self.poolers.iter();
        let poolers = poolers.map(|(group, at)| (*group, at.clone().into()));
        citus::Wish { poolers: poolers.collect(), ..citus::Wish::own_replicas() }
    }

    /// The same group, with this database alone.
    pub fn in_database(&self, name: &str) -> Citus {
        Citus { database: name.to_string(), others: Vec::new(), ..self.clone() }
    }
}

/// The `topology` section: the formation and this daemon's place in it.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologySettings {
    pub region: RegionName,
    pub policy: Policy,
    /// How to reach the other regions' stores, by region.
    pub stores: BTreeMap<RegionName, StoreSettings>,
}

/// Without `raw`: it holds every secret as plain text.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("scope", &self.scope)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("log", &self.log)
            .field("restapi", &self.restapi)
            .field("ctl", &self.ctl)
            .field("store", &self.store)
            .field("bootstrap", &self.bootstrap)
            .field("postgresql", &self.postgresql)
            .field("tags", &self.tags)
            .field("citus", &self.citus)
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

/// The extra keys may hold `sslpassword`: only their names are printed.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .field("password", &self.password)
            .field("extra", &self.extra.keys())
            .finish()
    }
}

impl Settings {
    /// Seconds: no `ttl` in force is shorter.
    pub fn minimum_ttl(&self) -> u64 {
        minimum_ttl(&self.raw)
    }

    pub fn group(&self) -> Group {
        Group(self.citus.as_ref().map(|c| c.group))
    }

    /// Where this member's group lies in the store.
    pub fn keys(&self) -> Keys {
        Keys::new(&self.namespace, &self.scope, self.group())
    }
}

fn minimum_ttl(raw: &Value) -> u64 {
    let given = raw.get("minimum_ttl").and_then(|value| counted(value, Base::Seconds));
    let seconds = given.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.unwrap_or(MINIMUM_TTL_S).clamp(SHORTEST_TTL_S, MINIMUM_TTL_S)
}
