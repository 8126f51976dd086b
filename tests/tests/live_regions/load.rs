//! Clients on both groups; every stage has its own tables and counts them.
//!
//! With the extension the coordinator's client writes to a distributed table
//! whose shards lie on the worker: it goes on only when `pg_dist_node` is right.

use super::formation::{COORDINATOR, Formation, LEASE, NORTH, SOUTH, WORKER};
use super::sql;
use anyhow::{Context, Result, ensure};
use ctl::field::{MemberPlan, Writer};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct Load {
    pub coordinator: Writer,
    pub worker: Writer,
}

/// Citus brings its metadata to a worker that has just changed on its own, and
/// makes no distributed table before.
async fn until_synced(f: &Formation, coordinator: &MemberPlan) -> Result<()> {
    let sql = "SELECT count(*)::text FROM pg_dist_node \
               WHERE noderole = 'primary' AND hasmetadata AND metadatasynced IS NOT TRUE";
    let synced = async || sql::text(coordinator, sql).await.is_ok_and(|waiting| waiting == "0");
    f.field.until("metadata of Citus on every worker", LEASE, synced).await?;
    Ok(())
}

impl Load {
    /// `word` makes the tables' names unique.
    pub(crate) async fn start(f: &Formation, word: &str) -> Result<Load> {
        let owner = owner(f).await?;
        let (orders, ledger) = (format!("orders_{word}"), format!("ledger_{word}"));
        let create = |table: &str| format!("CREATE TABLE {table} (id bigint PRIMARY KEY)");
        sql::run(&f.leader(&owner, WORKER).await?, &create(&ledger)).await?;
        let coordinator = f.leader(&owner, COORDINATOR).await?;
        sql::run(&coordinator, &create(&orders)).await?;
        if !f.field.plan.stand_in {
            until_synced(f, &coordinator).await?;
            let distribute = format!("SELECT create_distributed_table('{orders}', 'id')");
            let few = format!("SET citus.shard_count = 4; {distribute}");
            sql::run(&coordinator, &few).await?;
        }
        let plan = &f.field.plan;
        let load = Load {
            coordinator: Writer::start(plan.dsn(COORDINATOR), &orders, PAUSE),
            worker: Writer::start(plan.dsn(WORKER), &ledger, PAUSE),
        };
        load.goes_on(f, Instant::now()).await?;
        Ok(load)
    }

    /// The same, as soon as both groups take writes.
    pub(crate) async fn start_when_open(f: &Formation, word: &str) -> Result<Load> {
        let region = owner(f).await?;
        let open = async || {
            for group in [COORDINATOR, WORKER] {
                let Ok(leader) = f.leader(&region, group).await else { return false };
                if !sql::is_open(&leader).await.unwrap_or(false) {
                    return false;
                }
            }
            is_wired(f, &region).await.unwrap_or(false)
        };
        f.field.until("both groups are open and wired", LEASE, open).await?;
        Load::start(f, word).await
    }

    fn all(&self) -> [(&'static str, &Writer); 2] {
        [("coordinator", &self.coordinator), ("worker", &self.worker)]
    }

    /// Waits until every client wrote after this moment.
    pub(crate) async fn goes_on(&self, f: &Formation, since: Instant) -> Result<()> {
        let writes = async || self.all().iter().all(|(_, w)| w.wrote_since(since));
        let waited = f.field.until("writes of every client", LEASE, writes).await;
        waited.with_context(|| {
            let errors = self.all().map(|(name, w)| format!("{name}: {:?}", w.last_error()));
            format!("the clients' last errors: {}", errors.join("; "))
        })?;
        Ok(())
    }

    /// The longest write pause of each client since then.
    pub(crate) fn pauses(&self, since: Instant) -> [Duration; 2] {
        self.all().map(|(_, writer)| writer.longest_pause(since))
    }

    /// Ends the clients and looks for every acknowledged row.
    pub(crate) async fn settle(self, f: &Formation, stage: &str) -> Result<()> {
        self.goes_on(f, Instant::now()).await?;
        self.settle_stopped(stage).await
    }

    /// The same where a client was stopped before.
    pub(crate) async fn settle_stopped(self, stage: &str) -> Result<()> {
        for (name, writer) in self.all() {
            writer.stop().await;
            let count = writer.count().await.context("the rows cannot be counted")?;
            println!("         {stage}, {name}: {count:?}");
            ensure!(count.lost == 0, "{stage}: rows of the {name}'s client are lost: {count:?}");
            ensure!(count.acknowledged > 0, "{stage}: the {name}'s client wrote nothing");
        }
        Ok(())
    }
}

/// The region that both stores name as owner.
pub(crate) async fn owner(f: &Formation) -> Result<String> {
    let of = async |region: &str| -> Result<(u64, String)> {
        let site = f.site(region).await?;
        let held = site.topology.certificate().context("a certificate")?;
        Ok((held.epoch, held.owner.to_string()))
    };
    let (north, south) = (of(NORTH).await?, of(SOUTH).await?);
    ensure!(north == south, "the regions disagree: {north:?}, {south:?}");
    Ok(north.1)
}

/// Where `pg_dist_node` should point: the leaders' ports by group.
pub(crate) async fn is_wired(f: &Formation, region: &str) -> Result<bool> {
    let leaders = [f.leader(region, COORDINATOR).await?, f.leader(region, WORKER).await?];
    for asked in &leaders {
        if f.field.plan.stand_in && asked.group != COORDINATOR {
            continue;
        }
        let rows = sql::nodes(asked).await?;
        let ports: Vec<(u32, u16)> = rows.iter().map(|(_, group, port)| (*group, *port)).collect();
        let wanted = |m: &MemberPlan| (m.group.unwrap_or(0), m.pg_port);
        if ports != leaders.iter().map(wanted).collect::<Vec<_>>() {
            return Ok(false);
        }
    }
    Ok(true)
}
