//! `query`: SQL for one member's PostgreSQL, once or again and again.
//!
//! The store says which members there are; whether one is a standby, its server is asked. An
//! error of the server is a row of the output, as scripts expect that watch a cluster through a
//! failover; what the server said stands beside it.

use super::list::{CLEAR, every};
use crate::args::{Query, RoleFilter};
use crate::moment;
use crate::output::{Format, render};
use crate::sql::{self, Place, Rows};
use crate::table::{Column, Table};
use crate::world::{Chosen, Cluster, World};
use anyhow::{Context, Result, bail};
use node::config::Login;
use node::postgres::Session;
use serde_json::{Value, json};

const STDIN: &str = "-";
/// Where a member does not name its database.
const DATABASE: &str = "postgres";

/// How to log in, and what to send.
struct Request {
    login: Login,
    /// The password file.
    saved: String,
    sql: String,
}

enum Answer {
    Rows(Rows),
    /// Two cells: when, and what went wrong.
    Failed([String; 2]),
}

pub(crate) async fn run(world: &mut World, args: &Query) -> Result<()> {
    if args.role.is_some() && args.member.is_some() {
        bail!("--role and --member are mutually exclusive options");
    }
    let scope = world.scope(args.of.cluster.as_deref())?;
    let request = request(world, args)?;
    let every = every(&args.watch);
    loop {
        if every.is_some() {
            world.terminal.print(CLEAR)?;
        }
        let cluster = world.read(&scope, args.of.group).await?;
        let answer = once(world, &cluster, args, &request).await?;
        world.terminal.print(&text(&answer, args.format, &args.delimiter))?;
        match every {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Ok(()),
        }
    }
}

fn request(world: &mut World, args: &Query) -> Result<Request> {
    let is_from_input = args.file.as_deref() == Some(STDIN);
    match (&args.command, &args.file) {
        (Some(_), Some(_)) => bail!("--file and --command are mutually exclusive options"),
        (None, None) => bail!("You need to specify either --command or --file"),
        _ if args.password && is_from_input && !world.terminal.has_tty => {
            bail!("the password cannot be asked for beside SQL from the standard input")
        }
        _ => {}
    }
    let mut login = sql::login(args.username.as_deref(), None);
    if args.password {
        let password = world.terminal.ask_password(&login.username)?;
        login = sql::login(args.username.as_deref(), Some(password));
    }
    let sql = match (&args.command, &args.file) {
        (Some(sql), _) => sql.clone(),
        (None, Some(path)) if !is_from_input => {
            std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?
        }
        _ => world.terminal.rest()?,
    };
    Ok(Request { login, saved: sql::password_file(), sql })
}

async fn once(
    world: &mut World,
    cluster: &Cluster,
    args: &Query,
    request: &Request,
) -> Result<Answer> {
    let default = if args.member.is_some() { RoleFilter::Any } else { RoleFilter::Leader };
    let session = connect(world, cluster, args, args.role.unwrap_or(default), request).await?;
    let what_failed = match session {
        None => match (&args.member, args.role) {
            (Some(name), _) => format!("No connection to member {name} is available"),
            (None, Some(role)) => format!("No connection to role '{}' is available", role.text()),
            (None, None) => "No connection is available".to_string(),
        },
        Some(session) => match sql::ask(&session, &request.sql).await {
            Ok(rows) => return Ok(Answer::Rows(rows)),
            Err(error) => {
                world.terminal.note(&in_its_words(&error))?;
                format!("ERROR, SQLSTATE: {}", sql::state(&error).unwrap_or("unknown"))
            }
        },
    };
    Ok(Answer::Failed([moment::to_the_second(&world.now()), what_failed]))
}

/// The first member that fits, takes the connection and has the role by its server's own word.
async fn connect(
    world: &mut World,
    cluster: &Cluster,
    args: &Query,
    role: RoleFilter,
    request: &Request,
) -> Result<Option<Session>> {
    for member in candidates(cluster, args.member.as_deref(), role) {
        let Some((host, port)) = member.record.address() else { continue };
        let named = || member.record.database().unwrap_or_else(|| DATABASE.to_string());
        let database = args.dbname.clone().unwrap_or_else(named);
        let place = Place { host, port, database };
        let connected = sql::connect(&place, &request.login, &request.saved).await;
        let session = match connected {
            Ok(session) => session,
            Err(error) => {
                world.terminal.note(&format!("{}: {}", member.name, error.with_causes()))?;
                continue;
            }
        };
        match is_standby(role) {
            None => return Ok(Some(session)),
            Some(wanted) => {
                let why_not = match sql::is_standby(&session).await {
                    Ok(found) if found == wanted => return Ok(Some(session)),
                    Ok(true) => "its server is a standby".to_string(),
                    Ok(false) => "its server is no standby".to_string(),
                    Err(why) => why,
                };
                world.terminal.note(&format!("{}: {why_not}", member.name))?;
            }
        }
    }
    Ok(None)
}

fn candidates(cluster: &Cluster, named: Option<&str>, role: RoleFilter) -> Vec<Chosen> {
    let fits = |member: &Chosen| {
        named.is_none_or(|name| member.name.as_str() == name)
            && cluster.view(member.group).is_some_and(|view| role.matches(view, &member.name))
    };
    cluster.members().into_iter().filter(fits).collect()
}

/// What the server must say of itself. The lock alone makes a leader, and any member will do for
/// `any`.
fn is_standby(role: RoleFilter) -> Option<bool> {
    match role {
        RoleFilter::Leader | RoleFilter::Any => None,
        RoleFilter::Primary => Some(false),
        RoleFilter::StandbyLeader | RoleFilter::Replica | RoleFilter::Standby => Some(true),
    }
}

fn in_its_words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(server) => format!("{}: {}", server.severity(), server.message()),
        None => error.to_string(),
    }
}

fn text(answer: &Answer, format: Format, delimiter: &str) -> String {
    match (answer, format) {
        (Answer::Rows(rows), Format::Tsv) => {
            let (head, texts) = (&rows.columns, rows.texts());
            let head = Some(head).filter(|columns| !columns.is_empty());
            // Values are not changed: one with a line break takes several lines.
            let lines = head.into_iter().chain(&texts).map(|row| row.join(delimiter) + "\n");
            lines.collect()
        }
        (Answer::Failed(cells), Format::Tsv) => cells.join(delimiter) + "\n",
        // Statements without an answer have no table.
        (Answer::Rows(rows), Format::Pretty) if rows.columns.is_empty() => String::new(),
        (Answer::Rows(rows), Format::Pretty) => {
            let texts = rows.texts().into_iter();
            let cells = texts.map(|row| row.into_iter().map(Value::from).collect()).collect();
            render(&table(rows.columns.clone(), cells), format)
        }
        (Answer::Rows(rows), _) => render(&table(rows.columns.clone(), rows.values()), format),
        (Answer::Failed(cells), _) => {
            let columns = ["Time", "Error"].map(str::to_string).to_vec();
            let cells = cells.iter().map(|cell| json!(cell)).collect();
            render(&table(columns, vec![cells]), format)
        }
    }
}

fn table(columns: Vec<String>, rows: Vec<Vec<Value>>) -> Table {
    let columns = columns.into_iter().map(Column::named).collect();
    Table { columns, rows, ..Table::default() }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
