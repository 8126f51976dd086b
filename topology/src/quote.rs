//! Names and values inside texts that PostgreSQL reads, and inside URLs.
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

/// `%20` and its like, as URLs write what they cannot hold.
pub fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut plain) = (text.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        plain.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_closes_what_it_opens() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(percent_decoded("p%40%c3%A9").as_deref(), Some("p@é"));
        assert_eq!((percent_decoded("%4"), percent_decoded("%ff")), (None, None));
        assert_eq!(connection_value(r"it's \ b"), r"'it\'s \\ b'");
    }
}
