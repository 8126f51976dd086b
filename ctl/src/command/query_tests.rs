//! `query` against servers that speak just enough of PostgreSQL's protocol.

use super::*;
use crate::args::Watch;
use crate::fixture::{put, world};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One message of the protocol.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[kind], &length[..], body].concat()
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn refusal(code: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0Mit is not there\0\0").as_bytes())
}

/// Columns of a type, and one row; no cell is NULL but those that are `None`.
fn rows(kind: u32, columns: &[&str], row: &[Option<&str>]) -> Vec<u8> {
    let mut head = (columns.len() as u16).to_be_bytes().to_vec();
    for name in columns {
        head.extend([name.as_bytes(), b"\0"].concat());
        head.extend([&[0; 6][..], &kind.to_be_bytes(), &[0; 8]].concat());
    }
    let mut cells = (row.len() as u16).to_be_bytes().to_vec();
    for cell in row {
        let length = cell.map_or(-1, |text| text.len() as i32);
        cells.extend(length.to_be_bytes());
        cells.extend(cell.unwrap_or_default().as_bytes());
    }
    let parts = [message(b'T', &head), message(b'D', &cells), message(b'C', b"SELECT 1\0")];
    parts.concat()
}

/// What a server is: in recovery or not, and which answer its SQL gets.
#[derive(Clone)]
struct Server {
    in_recovery: bool,
    answer: Vec<u8>,
}

async fn serve(server: Server) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move { server.talk(stream).await });
        }
    });
    port
}

impl Server {
    async fn talk(&self, mut wire: TcpStream) -> Option<()> {
        loop {
            let length = wire.read_u32().await.ok()?;
            let mut first = vec![0; length as usize - 4];
            wire.read_exact(&mut first).await.ok()?;
            if first[..4] != [4, 210, 22, 47] {
                break;
            }
            wire.write_all(b"N").await.ok()?;
        }
        let greeting = [message(b'R', &[0; 4]), ready()].concat();
        wire.write_all(&greeting).await.ok()?;
        loop {
            let kind = wire.read_u8().await.ok()?;
            let mut body = vec![0; wire.read_u32().await.ok()? as usize - 4];
            wire.read_exact(&mut body).await.ok()?;
            let reply = self.reply(kind, &String::from_utf8_lossy(&body));
            wire.write_all(&reply).await.ok()?;
        }
    }

    /// Only the question after its recovery is prepared, executed and answered; of all else the
    /// columns have no known types.
    fn reply(&self, kind: u8, body: &str) -> Vec<u8> {
        match kind {
            b'Q' => [self.answer.clone(), ready()].concat(),
            b'P' if body.contains("pg_is_in_recovery") => message(b'1', b""),
            b'P' => refusal("42601"),
            b'D' => {
                let whole = rows(16, &["pg_is_in_recovery"], &[]);
                let length = 1 + u32::from_be_bytes(whole[1..5].try_into().unwrap()) as usize;
                [message(b't', &[0, 0]), whole[..length].to_vec()].concat()
            }
            b'B' => message(b'2', b""),
            b'E' => {
                let cell = [0, 1, 0, 0, 0, 1, u8::from(self.in_recovery)];
                [message(b'D', &cell), message(b'C', b"SELECT 1\0")].concat()
            }
            b'S' => ready(),
            _ => Vec::new(),
        }
    }
}

/// n1 is the leader. All members are at these ports.
fn move_servers(world: &World, ports: [u16; 3]) {
    for (name, port) in ["n1", "n2", "n3"].into_iter().zip(ports) {
        let record = json!({"conn_url": format!("postgres://127.0.0.1:{port}/shop"),
            "state": "running", "role": if name == "n1" { "primary" } else { "replica" }});
        put(world, format!("/service/golden/members/{name}"), &record.to_string());
    }
}

fn args(sql: &str) -> Query {
    Query {
        command: Some(sql.into()),
        format: Format::Tsv,
        delimiter: "\t".into(),
        ..Query::default()
    }
}

async fn output(moment: &str, ports: [u16; 3], args: &Query) -> String {
    let (mut world, screen) = world(moment, "secret\n");
    move_servers(&world, ports);
    tokio::time::timeout(std::time::Duration::from_secs(30), run(&mut world, args))
        .await
        .expect("in time")
        .unwrap();
    screen.text()
}

const MOMENT: &str = "02-three-nodes-default";
/// Where no server listens.
const CLOSED: u16 = 1;

#[tokio::test]
async fn rows_are_printed_in_every_format() {
    let answer = rows(25, &["a", "b"], &[Some("1"), None]);
    let port = serve(Server { in_recovery: false, answer }).await;
    let ports = [port, CLOSED, CLOSED];
    for (format, expected) in [
        (Format::Tsv, "a\tb\n1\tNone\n"),
        (Format::Json, "[{\"a\": \"1\", \"b\": null}]\n"),
        (Format::Yaml, "- a: '1'\n  b: null\n"),
        (Format::Pretty, "+---+------+\n| a | b    |\n+---+------+\n| 1 | None |\n+---+------+\n"),
    ] {
        let args = Query { format, ..args("select 1 as a, null as b") };
        assert_eq!(output(MOMENT, ports, &args).await, expected);
    }
    let args = Query { delimiter: "|".into(), ..args("select 1 as a, null as b") };
    assert_eq!(output(MOMENT, ports, &args).await, "a|b\n1|None\n");
}

#[tokio::test]
async fn the_server_itself_says_whether_it_is_a_standby() {
    let server =
        |in_recovery, name| Server { in_recovery, answer: rows(25, &["n"], &[Some(name)]) };
    let n1 = serve(server(false, "n1")).await;
    // The store has not heard of its promotion.
    let n2 = serve(server(false, "n2")).await;
    let n3 = serve(server(true, "n3")).await;
    let ports = [n1, n2, n3];
    let by_role = |role| Query { role: Some(role), ..args("select n") };
    let replica = output(MOMENT, ports, &by_role(RoleFilter::Replica)).await;
    assert_eq!(replica, "n2: its server is no standby\nn\nn3\n");
    assert_eq!(output(MOMENT, ports, &by_role(RoleFilter::Primary)).await, "n\nn1\n");
    assert_eq!(output(MOMENT, ports, &args("select n")).await, "n\nn1\n", "the leader");
    let named = Query { member: Some("n3".into()), ..args("select n") };
    assert_eq!(output(MOMENT, ports, &named).await, "n\nn3\n");
    let nowhere = output(MOMENT, [n3, CLOSED, CLOSED], &by_role(RoleFilter::Primary)).await;
    assert!(nowhere.ends_with("\tNo connection to role 'primary' is available\n"), "{nowhere}");
    assert!(nowhere.starts_with("n1: its server is a standby\n"), "{nowhere}");
}

#[tokio::test]
async fn an_error_is_a_row_with_its_sqlstate_and_no_failure() {
    let port = serve(Server { in_recovery: false, answer: refusal("42P01") }).await;
    let ports = [port, CLOSED, CLOSED];
    let text = output(MOMENT, ports, &args("select * from nosuch")).await;
    let (note, row) = text.split_once('\n').unwrap();
    assert_eq!(note, "ERROR: it is not there");
    let (at, what) = row.split_once('\t').unwrap();
    assert!(crate::moment::parse(at).is_some(), "{at}");
    assert_eq!(what, "ERROR, SQLSTATE: 42P01\n");
    let json = Query { format: Format::Json, ..args("select * from nosuch") };
    assert!(output(MOMENT, ports, &json).await.contains("\"Error\": \"ERROR, SQLSTATE: 42P01\""));
}

#[tokio::test]
async fn what_is_sent_comes_from_one_place_and_a_password_from_the_prompt() {
    let refused = async |args: Query| {
        let (mut world, _) = world(MOMENT, "");
        run(&mut world, &args).await.unwrap_err().to_string()
    };
    let none = Query { command: None, ..args("") };
    assert_eq!(refused(none.clone()).await, "You need to specify either --command or --file");
    let both = Query { file: Some("-".into()), ..args("x") };
    assert!(refused(both).await.contains("mutually exclusive"));
    let both = Query { role: Some(RoleFilter::Any), member: Some("n1".into()), ..args("x") };
    assert!(refused(both).await.contains("mutually exclusive"));

    let piped = Query { file: Some("-".into()), ..none };
    let (mut piping, _) = world(MOMENT, "select 1;\nselect 2;\n");
    assert_eq!(request(&mut piping, &piped).unwrap().sql, "select 1;\nselect 2;\n");
    let error = refused(Query { password: true, ..piped }).await;
    assert!(error.contains("the password cannot be asked for"), "a line of SQL is none: {error}");

    let (mut asking, screen) = world(MOMENT, "secret\n");
    let with_password = Query { password: true, username: Some("u".into()), ..args("select 1") };
    let request = request(&mut asking, &with_password).unwrap();
    assert_eq!(screen.text(), "Password of u: ");
    assert_eq!(
        (request.login.password.unwrap().0, request.sql),
        ("secret".into(), "select 1".into())
    );
}

#[tokio::test]
async fn a_watch_asks_again_and_outlives_an_error() {
    let port = serve(Server { in_recovery: false, answer: refusal("57P01") }).await;
    let (mut world, screen) = world(MOMENT, "");
    move_servers(&world, [port, CLOSED, CLOSED]);
    let watch = Watch { every_two_seconds: false, seconds: Some(0.1) };
    let args = Query { watch, ..args("select 1") };
    let twice = async {
        while screen.text().matches("SQLSTATE: 57P01").count() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = run(&mut world, &args) => panic!("it ended: {ended:?}"),
        seen = tokio::time::timeout(std::time::Duration::from_secs(30), twice) => seen.unwrap(),
    }
    assert!(screen.text().starts_with(CLEAR));
}
