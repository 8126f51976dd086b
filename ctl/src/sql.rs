//! An operator's SQL: how to log in, and the answer as columns and rows.
//!
//! The statements go to the server as one text. Values come back as text; where the server says
//! which types the columns have, numbers, booleans and JSON become values of json and yaml. Tables
//! have the words of patronictl for booleans and NULL.
//!
//! Absent on purpose: a deadline of the statements. The operator ends them.

use anyhow::Result;
use node::config::{Login, Secret};
use node::postgres::pgpass::{Wanted, password_in};
use node::postgres::{Error, Session, Target, libpq};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// As monitoring of the servers knows it.
const APPLICATION: &str = "Patroni ctl";
/// Any access by the group or by others: libpq does not read such a file.
const MODE_OF_OTHERS: u32 = 0o077;

/// What the last statement with an answer said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub columns: Vec<String>,
    /// Of the columns, as far as they are known.
    types: Vec<Type>,
    /// As the server wrote them; `None` is NULL.
    cells: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// As values of json and yaml.
    pub(crate) fn values(&self) -> Vec<Vec<Value>> {
        self.each(|kind, cell| cell.map_or(Value::Null, |text| value(kind, text)))
    }

    /// As a table shows them.
    pub(crate) fn texts(&self) -> Vec<Vec<String>> {
        self.each(|kind, cell| match (kind, cell) {
            (_, None) => "None".to_string(),
            (&Type::BOOL, Some("t")) => "True".to_string(),
            (&Type::BOOL, Some("f")) => "False".to_string(),
            (_, Some(text)) => text.to_string(),
        })
    }

    fn each<T>(&self, shown: impl Fn(&Type, Option<&str>) -> T) -> Vec<Vec<T>> {
        let kind = |at: usize| self.types.get(at).unwrap_or(&Type::TEXT);
        let cell = |(at, cell): (usize, &Option<String>)| shown(kind(at), cell.as_deref());
        self.cells.iter().map(|row| row.iter().enumerate().map(cell).collect()).collect()
    }
}

/// Where to connect to.
pub(crate) struct Place {
    pub host: String,
    pub port: u16,
    pub database: String,
}

/// By what is given, else as libpq would.
pub(crate) fn login(user: Option<&str>, password: Option<String>) -> Login {
    let login = libpq::login(user, |name| std::env::var(name).ok());
    match password {
        Some(password) => Login { password: Some(Secret(password)), ..login },
        None => login,
    }
}

/// The text of the password file, if there is one that only its owner may read.
pub(crate) fn password_file() -> String {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let usual = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass"));
    named.or_else(usual).map_or(String::new(), |path| private_text(&path))
}

fn private_text(path: &Path) -> String {
    let is_private = |about: &std::fs::Metadata| about.permissions().mode() & MODE_OF_OTHERS == 0;
    match std::fs::metadata(path) {
        Ok(about) if about.is_file() && is_private(&about) => {
            std::fs::read_to_string(path).unwrap_or_default()
        }
        _ => String::new(),
    }
}

pub(crate) async fn connect(place: &Place, login: &Login, saved: &str) -> Result<Session, Error> {
    let Place { host, port, database } = place;
    let mut login = login.clone();
    let wanted = Wanted { host, port: *port, database, user: &login.username };
    login.password = login.password.or_else(|| password_in(saved, wanted).map(Secret));
    let target = Target {
        connect_limit: CONNECT_WAIT_MAX,
        statement_limit: Duration::ZERO,
        is_operators: true,
        ..Target::new(host, *port, &login, database, APPLICATION)
    };
    Session::connect(&target).await
}

/// Whether the server is a standby, by its own word; else why that is not known.
pub(crate) async fn is_standby(session: &Session) -> Result<bool, String> {
    match tokio::time::timeout(CONNECT_WAIT_MAX, session.is_in_recovery()).await {
        Ok(said) => said.map_err(|error| error.with_causes()),
        Err(_) => Err(format!("no answer within {CONNECT_WAIT_MAX:?}")),
    }
}

/// Runs the statements; the rows are those of the last one that has an answer.
pub(crate) async fn ask(session: &Session, sql: &str) -> Result<Rows, tokio_postgres::Error> {
    let types = types(session, sql).await;
    let mut answer = Rows { types, ..Rows::default() };
    for message in session.client().simple_query(sql).await? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                answer.columns = columns.iter().map(|column| column.name().to_string()).collect();
                answer.cells.clear();
            }
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|at| row.get(at).map(str::to_string));
                answer.cells.push(cells.collect());
            }
            _ => {}
        }
    }
    Ok(answer)
}

/// Of the columns. The server describes one statement only: of several they are not known, and
/// it is not asked, since its log would have an error for it.
async fn types(session: &Session, sql: &str) -> Vec<Type> {
    let is_one = !sql.trim().trim_end_matches(';').contains(';');
    if !is_one {
        return Vec::new();
    }
    match session.client().prepare(sql).await {
        Ok(statement) => statement.columns().iter().map(|column| column.type_().clone()).collect(),
        // The statement fails again when it is run, and that is told.
        Err(_) => Vec::new(),
    }
}

/// What is no number or no boolean of json stays a text.
fn value(kind: &Type, text: &str) -> Value {
    let read = match *kind {
        Type::BOOL => Some(Value::from(text == "t")),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => {
            text.parse::<i64>().ok().map(Value::from)
        }
        Type::FLOAT4 | Type::FLOAT8 => {
            let number = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            number.map(Value::Number)
        }
        Type::JSON | Type::JSONB => serde_json::from_str(text).ok(),
        _ => None,
    };
    read.unwrap_or_else(|| text.into())
}

/// The five letters by which programs know an error; `None`: it is not one of the server.
pub(crate) fn state(error: &tokio_postgres::Error) -> Option<&str> {
    error.code().map(|code| code.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_have_the_types_of_their_columns() {
        assert_eq!(value(&Type::INT8, "-7"), json!(-7));
        assert_eq!(value(&Type::FLOAT8, "0.5"), json!(0.5));
        assert_eq!(value(&Type::FLOAT8, "NaN"), json!("NaN"));
        assert_eq!(value(&Type::BOOL, "t"), json!(true));
        assert_eq!(value(&Type::JSONB, r#"{"a": 1}"#), json!({"a": 1}));
        assert_eq!(value(&Type::NUMERIC, "0.10"), json!("0.10"), "as exact as it was");
        assert_eq!(value(&Type::TEXT, "7"), json!("7"));
    }

    #[test]
    fn a_table_has_the_words_of_patronictl() {
        let cells = [Some("t"), None, Some("1e+20"), Some("t")].map(|cell| cell.map(String::from));
        let types = vec![Type::BOOL, Type::BOOL, Type::FLOAT8];
        let rows = Rows { columns: Vec::new(), types, cells: vec![cells.to_vec()] };
        assert_eq!(rows.texts(), [["True", "None", "1e+20", "t"]]);
        assert_eq!(rows.values(), [[json!(true), Value::Null, json!(1e20), json!("t")]]);
    }

    #[test]
    fn a_password_file_is_read_only_if_no_other_user_may() {
        let dir = std::env::temp_dir().join(format!("matriarchctl-pgpass-{}", std::process::id()));
        std::fs::write(&dir, "*:*:*:*:x").unwrap();
        let mode = |mode| std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o640);
        assert_eq!(private_text(&dir), "");
        mode(0o600);
        assert_eq!(private_text(&dir), "*:*:*:*:x");
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(private_text(&dir), "");
    }
}
