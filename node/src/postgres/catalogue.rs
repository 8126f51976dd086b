//! Which settings this PostgreSQL knows, and its version: asked once.

use super::error::Error;
use super::run::run;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(10);

/// Settings that exist but that `postgres --describe-config` does not print,
/// because they are for developers or not in the sample file.
const HIDDEN: [&str; 42] = [
    "allow_alter_system",
    "allow_in_place_tablespaces",
    "allow_system_table_mods",
    "application_name",
    "backtrace_functions",
    "composite_type_mismatch",
    "data_directory",
    "debug_copy_parse_plan_trees",
    "debug_discard_caches",
    "debug_io_direct",
    "debug_logical_replication_streaming",
    "debug_parallel_query",
    "debug_raw_expression_coverage_test",
    "debug_write_read_parse_plan_trees",
    "event_triggers",
    "force_parallel_mode",
    "hba_file",
    "ident_file",
    "ignore_checksum_failure",
    "ignore_invalid_pages",
    "ignore_system_indexes",
    "jit_debugging_support",
    "jit_dump_bitcode",
    "jit_expressions",
    "jit_profiling_support",
    "jit_tuple_deforming",
    "optimize_bounded_sort",
    "post_auth_delay",
    "pre_auth_delay",
    "remove_temp_files_after_crash",
    "restrict_nonsystem_relation_kind",
    "send_abort_for_crash",
    "send_abort_for_kill",
    "synchronous_standby_names",
    "trace_connection_negotiation",
    "trace_notify",
    "trace_recovery_messages",
    "trace_sort",
    "wal_consistency_checking",
    "wal_debug",
    "zero_damaged_pages",
    "log_statement_stats",
];

#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    pub major: u32,
    /// Lower-case name to the spelling of PostgreSQL.
    names: HashMap<String, String>,
}

impl Catalogue {
    pub async fn load(postgres: &Path) -> Result<Catalogue, Error> {
        let mut version = Command::new(postgres);
        version.arg("--version").env("LC_ALL", "C");
        let mut describe = Command::new(postgres);
        describe.arg("--describe-config").env("LC_ALL", "C");
        let version = run(version, LIMIT).await?;
        let unclear = || Error::ToolUnclear { tool: "postgres --version".into(), missing: "major" };
        let major = parse_major(&version).ok_or_else(unclear)?;
        Ok(Catalogue::new(major, &run(describe, LIMIT).await?))
    }

    /// From the text of `postgres --describe-config`.
    pub fn new(major: u32, described: &str) -> Catalogue {
        let first = described.lines().filter_map(|line| line.split('\t').next());
        let all = first.map(str::trim).filter(|name| !name.is_empty()).chain(HIDDEN);
        let names = all.map(|name| (name.to_lowercase(), name.to_string())).collect();
        Catalogue { major, names }
    }

    /// PostgreSQL's spelling of a setting; a name with a dot belongs to an
    /// extension and is kept as it is.
    pub fn spell(&self, name: &str) -> Option<String> {
        let known = self.names.get(&name.to_lowercase()).cloned();
        known.or_else(|| name.contains('.').then(|| name.to_string()))
    }
}

/// `postgres (PostgreSQL) 15.20 (Debian ..)`, `.. 18beta1`.
fn parse_major(text: &str) -> Option<u32> {
    let word =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    word[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_kinds() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("nothing"), None);
    }

    #[test]
    fn names_are_spelled_as_postgres_does() {
        let catalogue = Catalogue::new(15, "TimeZone\tuser\nwork_mem\tuser\n");
        assert_eq!(catalogue.spell("timezone").as_deref(), Some("TimeZone"));
        assert_eq!(catalogue.spell("my.thing").as_deref(), Some("my.thing"));
        assert_eq!(catalogue.spell("work_men"), None);
        assert!(catalogue.spell("zero_damaged_pages").is_some());
    }
}
