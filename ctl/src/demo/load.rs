//! The clients of the demo: one on each group, each with its own table.

use crate::field::{Plan, Writer};
use anyhow::Context;
use std::time::Duration;
use tokio_postgres::NoTls;

/// Between two rows of one client.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Client {
    pub title: &'static str,
    pub writer: Writer,
}

/// Makes the tables and starts the clients.
///
/// With the extension the coordinator's client writes to a distributed table,
/// whose shards lie on the worker: it goes on only when `pg_dist_node` is right.
pub(super) async fn start(plan: &Plan) -> anyhow::Result<Vec<Client>> {
    let (coordinator, worker) = (plan.dsn(Some(0)), plan.dsn(Some(1)));
    execute(&worker, "CREATE TABLE ledger_worker (id bigint PRIMARY KEY)").await?;
    execute(&coordinator, "CREATE TABLE orders (id bigint PRIMARY KEY)").await?;
    let mut through = "client of the coordinator";
    if !plan.stand_in {
        execute(&coordinator, "SELECT create_distributed_table('orders', 'id')").await?;
        through = "client of the coordinator (distributed table)";
    }
    Ok(vec![
        Client { title: through, writer: Writer::start(coordinator, "orders", PAUSE) },
        Client {
            title: "client of the worker",
            writer: Writer::start(worker, "ledger_worker", PAUSE),
        },
    ])
}

async fn execute(dsn: &str, sql: &str) -> anyhow::Result<()> {
    let (client, connection) =
        tokio_postgres::connect(dsn, NoTls).await.context("no server takes writes")?;
    let driver = tokio::spawn(connection);
    let done = client.batch_execute(sql).await;
    driver.abort();
    done.with_context(|| format!("`{sql}` failed"))
}
