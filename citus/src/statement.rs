//! Every SQL text of the project that concerns Citus, as data.
//!
//! A `Statement` says what is wanted; `sql` and `params` say it to PostgreSQL.
//! Values travel as parameters, never inside the text; each is cast, so that
//! the server and the client agree on its type without asking. The one name
//! that cannot be a parameter (`CREATE DATABASE`) is quoted here.
//!
//! Names are not qualified: the extension's are in `pg_catalog`, the stand-in's in
//! a schema of its own. A connection that runs these sets the `search_path` of
//! `schemas`, so that it finds no object that another user made in the database.
//!
//! Absent on purpose: settings of Citus; they belong into the configuration,
//! because they must hold before the first connection.

use crate::Address;
use std::borrow::Cow;
use std::fmt;
use topology::quote::{connection_value, identifier};

/// The `search_path` of a session that runs these statements.
pub fn schemas(stand_in: bool) -> &'static str {
    if stand_in { "pg_catalog,citus_stand_in,pg_temp" } else { "pg_catalog,pg_temp" }
}

/// The authentication part of `pg_dist_authinfo`; prints `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Authinfo(pub String);

impl Authinfo {
    /// Citus takes these keys; None without any of them.
    pub fn of(password: Option<&str>, sslcert: Option<&str>, sslkey: Option<&str>) -> Option<Self> {
        let given = [("password", password), ("sslcert", sslcert), ("sslkey", sslkey)];
        let given = given.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let text: Vec<String> =
            given.map(|(key, value)| format!("{key}={}", connection_value(value))).collect();
        (!text.is_empty()).then(|| Authinfo(text.join(" ")))
    }
}

impl fmt::Debug for Authinfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A parameter: `Int` binds as int4, `Text` and `Secret` as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Param {
    Int(i32),
    Text(String),
    Secret(Authinfo),
}

/// Settings of one transaction, all in milliseconds; 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Lock,
    Statement,
    IdleInTransaction,
}

impl Limit {
    fn setting(self) -> &'static str {
        match self {
            Limit::Lock => "lock_timeout",
            Limit::Statement => "statement_timeout",
            Limit::IdleInTransaction => "idle_in_transaction_session_timeout",
        }
    }
}

/// The most rows a table may have; one more is an error, not a shorter table.
pub const NODES_MAX: usize = 16_384;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    Begin,
    Commit,
    Rollback,
    /// For this transaction only.
    SetLimit(Limit, u32),

    /// One text column, JSON of one `NodeRow` per line.
    ReadNodes,
    /// One int4: the group this node believes to be in.
    ReadLocalGroup,
    /// One text.
    ReadVersion,

    /// Only while group 0 has no row at all: with nothing but secondaries there
    /// it crashes the server, with a primary it needs every worker to be up.
    SetCoordinatorHost {
        address: Address,
    },
    /// One int4, the nodeid. An address that is registered already gives its
    /// old row without a word, so plans free the address first.
    AddPrimary {
        group: u32,
        address: Address,
    },
    /// One int4, the nodeid.
    AddSecondary {
        group: u32,
        address: Address,
        cluster: String,
    },
    /// Ends the sessions that still hold a shard's lock after the cooldown.
    UpdateNode {
        nodeid: i32,
        address: Address,
        cooldown_ms: i32,
    },
    /// Plans use it for rows that are not primaries.
    RemoveNode {
        address: Address,
    },
    /// Moves every shard off a node; takes as long as its data.
    DrainNode {
        address: Address,
    },
    /// The node forgets the formation: without it, it could go on querying it.
    StopSync {
        address: Address,
    },
    /// One int8: shards that are being moved or split now.
    CountMoves,
    /// Shard locks until the transaction ends, on this node only.
    PauseNode {
        nodeid: i32,
        cooldown_ms: i32,
    },
    SetPoolinfo {
        nodeid: i32,
        address: Address,
    },
    DropPoolinfo {
        nodeid: i32,
    },
    ReplicateReferenceTables,

    /// One int8: active copies of the table that are behind; wait for 0.
    CountUnsynced,
    /// The way out when the copies do not catch up by themselves.
    SyncAllNodes,
    /// The same for one node.
    SyncNode {
        address: Address,
    },
    /// Citus's own sending of copies, which holds a lock of the table while it waits for a node.
    CancelSync,
    /// For this transaction: a push is a part of it.
    SyncInTransaction,
    /// For this transaction: what `SET LOCAL` sets holds on other nodes too.
    SetEverywhere,
    /// For this transaction, on every node that takes part in it.
    LimitLocks,
    /// One int8: sessions ended that the node of this row had opened here, those that are older.
    EndSessionsOf {
        nodeid: i32,
        older_ms: i32,
    },

    /// No distributed transaction is decided until this transaction ends.
    HoldDecisions,
    /// Lets the next `EndClients` of an open transaction see today's clients.
    ForgetActivity,
    /// One int8: sessions ended. Citus' own and ours stay.
    EndClients,
    /// One int8: prepared transactions of Citus on this node; wait for 0.
    CountPrepared,
    /// One int4: in-doubt transactions of this node's group that were resolved.
    RecoverPrepared,

    /// One row if the database exists.
    FindDatabase {
        name: String,
    },
    CreateDatabase {
        name: String,
    },
    CreateExtension,
    /// How nodes log in to each other as the current user.
    SetAuthinfo {
        authinfo: Authinfo,
    },
}

const READ_NODES: &str = "\
    SELECT row_to_json(n)::text FROM (\
    SELECT nodeid, groupid, nodename, nodeport, noderole::text, nodecluster::text, isactive, \
    hasmetadata, coalesce(metadatasynced, false) AS metadatasynced, shouldhaveshards, poolinfo, \
    coalesce((to_jsonb(pg_dist_node) ->> 'nodeisclone')::bool, false) AS nodeisclone \
    FROM pg_dist_node LEFT JOIN pg_dist_poolinfo USING (nodeid) \
    ORDER BY groupid, nodeid LIMIT 16385) n";

const COUNT_UNSYNCED: &str = "\
    SELECT count(*) FROM pg_dist_node WHERE noderole::text = 'primary' AND isactive \
    AND hasmetadata AND metadatasynced IS NOT TRUE";

const END_CLIENTS: &str = "\
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
    AND datname = current_database() \
    AND application_name NOT LIKE ALL (ARRAY['citus\\_%', 'Patroni %', 'matriarch%'])";

/// Citus puts the nodeid of the sender before the ten digits of its process.
const END_SESSIONS_OF: &str = "\
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE backend_type = 'client backend' \
    AND application_name ~ concat('^citus_[a-z_]+ gpid=', $1::int4::text, '[0-9]{10}$') \
    AND backend_start < clock_timestamp() - $2::int4 * interval '1 millisecond'";

const CANCEL_SYNC: &str = "\
    SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity \
    WHERE application_name = 'Citus Metadata Sync Daemon' AND datname = current_database()";

/// A node that waits longer than this for a lock is busy; what it waits for holds up its clients.
const LIMIT_LOCKS: &str = "SET LOCAL lock_timeout TO '2s'";

const COUNT_PREPARED: &str = "\
    SELECT count(*) FROM pg_prepared_xacts \
    WHERE gid LIKE 'citus\\_%' AND database = current_database()";

const SET_POOLINFO: &str = "\
    INSERT INTO pg_dist_poolinfo (nodeid, poolinfo) VALUES ($1::int4, $2::text) \
    ON CONFLICT (nodeid) DO UPDATE SET poolinfo = excluded.poolinfo";

const SET_AUTHINFO: &str = "\
    INSERT INTO pg_dist_authinfo (nodeid, rolename, authinfo) \
    VALUES (0, current_user, $1::text) \
    ON CONFLICT (rolename, nodeid) DO UPDATE SET authinfo = excluded.authinfo";

impl Statement {
    pub fn sql(&self) -> Cow<'static, str> {
        if let Statement::CreateDatabase { name } = self {
            return format!("CREATE DATABASE {}", identifier(name)).into();
        }
        self.fixed().into()
    }

    fn fixed(&self) -> &'static str {
        use Statement::*;
        match self {
            Begin => "BEGIN",
            Commit => "COMMIT",
            Rollback => "ROLLBACK",
            SetLimit(..) => "SELECT set_config($1::text, $2::text, true)",
            ReadNodes => READ_NODES,
            ReadLocalGroup => "SELECT groupid FROM pg_dist_local_group",
            ReadVersion => "SELECT citus_version()",
            SetCoordinatorHost { .. } => "SELECT citus_set_coordinator_host($1::text, $2::int4)",
            AddPrimary { .. } => {
                "SELECT citus_add_node($1::text, $2::int4, $3::int4, 'primary', 'default')"
            }
            AddSecondary { .. } => {
                "SELECT citus_add_node($1::text, $2::int4, $3::int4, 'secondary', $4::text::name)"
            }
            UpdateNode { .. } => {
                "SELECT citus_update_node($1::int4, $2::text, $3::int4, true, $4::int4)"
            }
            RemoveNode { .. } => "SELECT citus_remove_node($1::text, $2::int4)",
            DrainNode { .. } => "SELECT citus_drain_node($1::text, $2::int4)",
            StopSync { .. } => "SELECT stop_metadata_sync_to_node($1::text, $2::int4)",
            CountMoves => "SELECT count(*) FROM get_rebalance_progress() WHERE progress = 1",
            PauseNode { .. } => "SELECT citus_pause_node_within_txn($1::int4, true, $2::int4)",
            SetPoolinfo { .. } => SET_POOLINFO,
            DropPoolinfo { .. } => "DELETE FROM pg_dist_poolinfo WHERE nodeid = $1::int4",
            ReplicateReferenceTables => "SELECT replicate_reference_tables()",
            CountUnsynced => COUNT_UNSYNCED,
            SyncAllNodes => "SELECT start_metadata_sync_to_all_nodes()",
            SyncNode { .. } => "SELECT start_metadata_sync_to_node($1::text, $2::int4)",
            CancelSync => CANCEL_SYNC,
            SyncInTransaction => "SET LOCAL citus.metadata_sync_mode TO 'transactional'",
            SetEverywhere => "SET LOCAL citus.propagate_set_commands TO 'local'",
            LimitLocks => LIMIT_LOCKS,
            EndSessionsOf { .. } => END_SESSIONS_OF,
            HoldDecisions => "LOCK TABLE pg_dist_transaction IN EXCLUSIVE MODE",
            ForgetActivity => "SELECT pg_stat_clear_snapshot()",
            EndClients => END_CLIENTS,
            CountPrepared => COUNT_PREPARED,
            RecoverPrepared => "SELECT recover_prepared_transactions()",
            FindDatabase { .. } => "SELECT 1 FROM pg_database WHERE datname = $1::text",
            CreateDatabase { .. } => "",
            CreateExtension => "CREATE EXTENSION IF NOT EXISTS citus",
            SetAuthinfo { .. } => SET_AUTHINFO,
        }
    }

    pub fn params(&self) -> Vec<Param> {
        use Statement::*;
        let text = |value: &str| Param::Text(value.to_string());
        match self {
            SetLimit(limit, ms) => vec![text(limit.setting()), Param::Text(ms.to_string())],
            SetCoordinatorHost { address }
            | RemoveNode { address }
            | SyncNode { address }
            | DrainNode { address }
            | StopSync { address } => located(address).into(),
            AddPrimary { group, address } => with(address, [number(*group)]),
            AddSecondary { group, address, cluster } => {
                with(address, [number(*group), text(cluster)])
            }
            UpdateNode { nodeid, address, cooldown_ms } => {
                let [host, port] = located(address);
                vec![Param::Int(*nodeid), host, port, Param::Int(*cooldown_ms)]
            }
            PauseNode { nodeid, cooldown_ms } => {
                vec![Param::Int(*nodeid), Param::Int(*cooldown_ms)]
            }
            EndSessionsOf { nodeid, older_ms } => {
                vec![Param::Int(*nodeid), Param::Int(*older_ms)]
            }
            SetPoolinfo { nodeid, address } => {
                vec![Param::Int(*nodeid), Param::Text(poolinfo(address))]
            }
            DropPoolinfo { nodeid } => vec![Param::Int(*nodeid)],
            FindDatabase { name } => vec![text(name)],
            SetAuthinfo { authinfo } => vec![Param::Secret(authinfo.clone())],
            _ => Vec::new(),
        }
    }

    /// True for a question that is asked again until it answers 0.
    pub fn waits_for_zero(&self) -> bool {
        matches!(self, Statement::CountUnsynced | Statement::CountPrepared)
    }
}

fn located(address: &Address) -> [Param; 2] {
    [Param::Text(address.host.clone()), Param::Int(address.port.into())]
}

fn with<const N: usize>(address: &Address, more: [Param; N]) -> Vec<Param> {
    located(address).into_iter().chain(more).collect()
}

/// A group above int4 exists in no table; the server then says so.
fn number(group: u32) -> Param {
    Param::Int(i32::try_from(group).unwrap_or(i32::MAX))
}

fn poolinfo(address: &Address) -> String {
    format!("host={} port={}", connection_value(&address.host), address.port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::pooled;

    const NASTY: &str = "x'); DROP TABLE pg_dist_node; --\\\"";

    fn located_at(host: &str) -> Vec<Statement> {
        let address = Address::new(host, 1);
        let cluster = host.to_string();
        vec![
            Statement::SetCoordinatorHost { address: address.clone() },
            Statement::RemoveNode { address: address.clone() },
            Statement::SyncNode { address: address.clone() },
            Statement::DrainNode { address: address.clone() },
            Statement::StopSync { address: address.clone() },
            Statement::AddPrimary { group: 1, address: address.clone() },
            Statement::AddSecondary { group: 1, address: address.clone(), cluster },
            Statement::UpdateNode { nodeid: 1, address: address.clone(), cooldown_ms: 5 },
            Statement::SetPoolinfo { nodeid: 1, address },
            Statement::EndSessionsOf { nodeid: 1, older_ms: 5 },
            Statement::FindDatabase { name: host.to_string() },
            Statement::SetLimit(Limit::Lock, 7),
            Statement::SetAuthinfo { authinfo: Authinfo(host.to_string()) },
        ]
    }

    #[test]
    fn no_value_reaches_the_text() {
        for statement in located_at(NASTY) {
            assert!(!statement.sql().contains("DROP TABLE"), "{statement:?}");
        }
    }

    #[test]
    fn every_placeholder_has_its_parameter() {
        for statement in located_at("h") {
            let (sql, params) = (statement.sql(), statement.params());
            for index in 1..=params.len() {
                assert!(sql.contains(&format!("${index}::")), "{sql}");
            }
            assert!(!sql.contains(&format!("${}", params.len() + 1)), "{sql}");
        }
    }

    #[test]
    fn a_database_name_is_quoted() {
        let name = "my\"db".to_string();
        let sql = Statement::CreateDatabase { name }.sql();
        assert_eq!(sql, "CREATE DATABASE \"my\"\"db\"");
    }

    #[test]
    fn a_poolinfo_we_write_is_one_we_read() {
        for host in ["h", "10.0.0.1", "a b", r"o'br\ien"] {
            let address = Address::new(host, 6432);
            assert_eq!(pooled(&poolinfo(&address), &Address::new("", 1)), address);
        }
    }

    #[test]
    fn names_are_unqualified_and_secrets_do_not_print() {
        for statement in located_at("h") {
            assert!(!statement.sql().contains("pg_catalog"));
        }
        let authinfo = Authinfo("password=hunter2".into());
        let statement = Statement::SetAuthinfo { authinfo };
        let shown = format!("{statement:?} {:?}", statement.params());
        assert!(!shown.contains("hunter2"));
    }

    #[test]
    fn nodes_log_in_with_a_password_or_a_certificate() {
        let of = |password, cert, key| Authinfo::of(password, cert, key).map(|info| info.0);
        assert_eq!(of(None, None, None), None);
        assert_eq!(of(Some("it's"), None, None).as_deref(), Some(r"password='it\'s'"));
        let both = of(Some("x"), Some("/c.crt"), Some("/c.key"));
        assert_eq!(both.as_deref(), Some("password='x' sslcert='/c.crt' sslkey='/c.key'"));
    }

    #[test]
    fn reading_stops_one_row_above_the_limit() {
        assert!(READ_NODES.contains(&format!("LIMIT {}", NODES_MAX + 1)));
    }
}
