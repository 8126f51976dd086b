//! Names and values inside texts that PostgreSQL reads.
//!
//! Absent on purpose: literals of SQL (`postgres_protocol::escape`), and values in a
//! configuration file (`node/src/postgres/files.rs`).

/// `"name"`: an identifier of SQL, a name in `synchronous_standby_names` or `pg_hba.conf`.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `'value'` in a connection string.
pub fn connection_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_closes_what_it_opens() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(connection_value(r"it's \ b"), r"'it\'s \\ b'");
    }
}
