//! A client that writes one numbered row after another and remembers which
//! were acknowledged, and when.
//!
//! It connects to any member that accepts writes. A row whose commit got no
//! answer is neither counted as acknowledged nor written again.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::NoTls;

#[derive(Default)]
struct Log {
    acknowledged: Vec<(Instant, i64)>,
    last_error: Option<String>,
    is_stopped: bool,
}

/// A running client of one group.
pub struct Writer {
    pub table: String,
    pub dsn: String,
    log: Arc<Mutex<Log>>,
    task: tokio::sync::Mutex<JoinHandle<()>>,
}

/// What became of the rows of one writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub acknowledged: usize,
    pub found: usize,
    pub lost: usize,
}

const STATEMENT_LIMIT: Duration = Duration::from_secs(3);
/// To connect, to prepare and to write one row.
const STOP_LIMIT: Duration = Duration::from_secs(9);

impl Writer {
    /// The table must be there, with a column `id bigint`.
    pub fn start(dsn: String, table: &str, pause: Duration) -> Writer {
        let log = Arc::new(Mutex::new(Log::default()));
        let task = tokio::spawn(write_forever(dsn.clone(), table.to_string(), pause, log.clone()));
        let task = tokio::sync::Mutex::new(task);
        Writer { table: table.to_string(), dsn, log, task }
    }

    pub fn acknowledged(&self) -> usize {
        self.log.lock().expect("no writer panics").acknowledged.len()
    }

    pub fn last_error(&self) -> Option<String> {
        self.log.lock().expect("no writer panics").last_error.clone()
    }

    /// The longest time between two acknowledged rows since `since`, with the
    /// row before it counted in; what is still going on counts too.
    pub fn longest_pause(&self, since: Instant) -> Duration {
        let log = self.log.lock().expect("no writer panics");
        longest_gap(log.acknowledged.iter().map(|(at, _)| *at), since, Instant::now())
    }

    /// When the last row was acknowledged.
    pub fn last_acknowledged(&self) -> Option<Instant> {
        self.log.lock().expect("no writer panics").acknowledged.last().map(|(at, _)| *at)
    }

    /// Has a row been acknowledged after this moment?
    pub fn wrote_since(&self, moment: Instant) -> bool {
        self.last_acknowledged().is_some_and(|at| at > moment)
    }

    /// Ends when the last statement has been answered: no row of this client appears later.
    pub async fn stop(&self) {
        self.log.lock().expect("no writer panics").is_stopped = true;
        let mut task = self.task.lock().await;
        if !task.is_finished() && timeout(STOP_LIMIT, &mut *task).await.is_err() {
            task.abort();
        }
    }

    /// Looks for every acknowledged row.
    pub async fn count(&self) -> Result<Count, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.dsn, NoTls).await?;
        let driver = tokio::spawn(connection);
        let rows = client.query(&format!("SELECT id FROM {}", self.table), &[]).await;
        driver.abort();
        let there: std::collections::HashSet<i64> = rows?.iter().map(|row| row.get(0)).collect();
        let log = self.log.lock().expect("no writer panics");
        let lost = log.acknowledged.iter().filter(|(_, id)| !there.contains(id)).count();
        Ok(Count { acknowledged: log.acknowledged.len(), found: there.len(), lost })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.get_mut().abort();
    }
}

fn longest_gap(
    times: impl Iterator<Item = Instant> + Clone,
    since: Instant,
    now: Instant,
) -> Duration {
    let mut last = times.clone().filter(|t| *t <= since).last().unwrap_or(since);
    let mut longest = Duration::ZERO;
    for at in times.filter(|t| *t > since).chain([now]) {
        longest = longest.max(at.saturating_duration_since(last));
        last = at;
    }
    longest
}

async fn write_forever(dsn: String, table: String, pause: Duration, log: Arc<Mutex<Log>>) {
    let mut id = 0i64;
    let insert = format!("INSERT INTO {table} (id) VALUES ($1)");
    while !is_stopped(&log) {
        if let Err(error) = write_until_error(&dsn, &insert, &mut id, pause, &log).await {
            log.lock().expect("no writer panics").last_error = Some(error);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_stopped(log: &Mutex<Log>) -> bool {
    log.lock().expect("no writer panics").is_stopped
}

async fn write_until_error(
    dsn: &str,
    insert: &str,
    id: &mut i64,
    pause: Duration,
    log: &Mutex<Log>,
) -> Result<(), String> {
    let connecting = tokio_postgres::connect(dsn, NoTls);
    let connected = timeout(STATEMENT_LIMIT, connecting).await;
    let (client, connection) = connected.map_err(|e| e.to_string())?.map_err(say)?;
    let driver = tokio::spawn(connection);
    let result = async {
        let statement = client.prepare(insert).await.map_err(say)?;
        while !is_stopped(log) {
            *id += 1;
            let row = *id;
            let done = timeout(STATEMENT_LIMIT, client.execute(&statement, &[&row])).await;
            done.map_err(|e| e.to_string())?.map_err(say)?;
            log.lock().expect("no writer panics").acknowledged.push((Instant::now(), row));
            tokio::time::sleep(pause).await;
        }
        Ok(())
    };
    let result = result.await;
    driver.abort();
    result
}

fn say(error: tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db.message().to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_the_row_before_and_the_time_since() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let times = [at(0), at(10), at(500), at(510)];
        let gap = |since, now| longest_gap(times.iter().copied(), at(since), at(now));
        assert_eq!(gap(100, 520), Duration::from_millis(490));
        assert_eq!(gap(505, 2000), Duration::from_millis(1490));
    }
}
