//! Asks every server, all the time, whether it accepts writes.
//!
//! Invariant *one writer*, seen from outside: two servers that both say yes
//! before and after one moment were both writable at that moment. Each round
//! asks all of them twice for this reason.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

const PACE: Duration = Duration::from_millis(40);
const PATIENCE: Duration = Duration::from_millis(500);
/// Rounds with two writers that are kept; one is enough to fail a test.
const KEPT_MAX: usize = 1_000;

/// Two servers or more accepted writes at this moment.
#[derive(Clone, Debug)]
pub struct Doubled {
    pub at: Instant,
    pub who: BTreeSet<String>,
}

#[derive(Default)]
struct Log {
    doubled: Vec<Doubled>,
    writable: BTreeSet<String>,
    rounds: u64,
}

pub struct Watch {
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

struct Asked {
    name: String,
    dsn: String,
    client: Option<Client>,
}

impl Watch {
    /// Servers by name and connection string.
    pub fn start(servers: Vec<(String, String)>) -> Watch {
        let log = Arc::new(Mutex::new(Log::default()));
        let servers =
            servers.into_iter().map(|(name, dsn)| Asked { name, dsn, client: None }).collect();
        let task = tokio::spawn(watch(servers, log.clone()));
        Watch { log, task }
    }

    /// The moments since `since` at which more than one server was writable.
    pub fn doubled_since(&self, since: Instant) -> Vec<Doubled> {
        let log = self.log.lock().expect("the watch does not panic");
        log.doubled.iter().filter(|d| d.at > since).cloned().collect()
    }

    /// Who said yes in the last round.
    pub fn writable(&self) -> BTreeSet<String> {
        self.log.lock().expect("the watch does not panic").writable.clone()
    }

    pub fn rounds(&self) -> u64 {
        self.log.lock().expect("the watch does not panic").rounds
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(mut servers: Vec<Asked>, log: Arc<Mutex<Log>>) {
    loop {
        let before = ask_all(&mut servers).await;
        let between = Instant::now();
        let after = ask_all(&mut servers).await;
        let who: BTreeSet<String> = before.intersection(&after).cloned().collect();
        {
            let mut log = log.lock().expect("no test panics with it");
            if who.len() > 1 && log.doubled.len() < KEPT_MAX {
                log.doubled.push(Doubled { at: between, who });
            }
            log.writable = after;
            log.rounds += 1;
        }
        tokio::time::sleep(PACE).await;
    }
}

/// All at once: a server that hangs must not keep the others from being asked.
async fn ask_all(servers: &mut [Asked]) -> BTreeSet<String> {
    let mut asked = tokio::task::JoinSet::new();
    for server in servers.iter_mut() {
        let (client, dsn, name) = (server.client.take(), server.dsn.clone(), server.name.clone());
        asked.spawn(async move { (name, ask(client, &dsn).await) });
    }
    let mut yes = BTreeSet::new();
    while let Some(done) = asked.join_next().await {
        let Ok((name, Some((client, writable)))) = done else { continue };
        if writable {
            yes.insert(name.clone());
        }
        if let Some(server) = servers.iter_mut().find(|s| s.name == name) {
            server.client = Some(client);
        }
    }
    yes
}

async fn ask(client: Option<Client>, dsn: &str) -> Option<(Client, bool)> {
    let answer = async {
        let client = match client.filter(|c| !c.is_closed()) {
            Some(client) => client,
            None => {
                let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.ok()?;
                tokio::spawn(connection);
                client
            }
        };
        let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await.ok()?;
        let standby: bool = row.get(0);
        Some((client, !standby))
    };
    tokio::time::timeout(PATIENCE, answer).await.ok().flatten()
}
