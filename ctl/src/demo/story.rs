//! The order of events in the demo.

use super::load::{self, Client};
use super::report::{CountLine, EventLine, Progress, print_table};
use crate::field::ask::Asker;
use crate::field::{Field, MemberPlan};
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(90);
const FAILOVER: Duration = Duration::from_secs(60);
const REJOIN: Duration = Duration::from_secs(60);
const MOVE: Duration = Duration::from_secs(90);
/// How long clients write before and after an event.
const CALM: Duration = Duration::from_secs(3);

pub(super) struct Story {
    field: Field,
    ctl: PathBuf,
    ask: Asker,
    progress: Progress,
    clients: Vec<Client>,
    events: Vec<EventLine>,
}

impl Story {
    pub(super) fn new(field: Field, ctl: PathBuf) -> Story {
        Story {
            field,
            ctl,
            ask: Asker::new(),
            progress: Progress::new(),
            clients: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(super) async fn tell(&mut self) -> anyhow::Result<()> {
        self.introduce();
        self.start().await?;
        self.show_topology("before").await?;
        self.clients = load::start(&self.field.plan).await?;
        self.progress.say("clients write to both groups");
        tokio::time::sleep(CALM).await;
        let killed = self.kill_worker().await?;
        self.switch("south").await?;
        self.bring_back(&killed).await?;
        self.switch("north").await?;
        for group in [Some(0), Some(1)] {
            self.wait_healthy("south", group, REJOIN).await?;
        }
        self.progress.say("region south: all groups stream from north");
        self.show_topology("after").await?;
        self.settle().await
    }

    fn introduce(&mut self) {
        let citus = if self.field.plan.stand_in {
            "Citus: the project's SQL stand-in (the extension is not used)"
        } else {
            "Citus: the real extension"
        };
        println!("{citus}");
        println!("PostgreSQL: {}", self.field.plan.pg_bin.display());
        println!(
            "synchronous_mode: quorum, the default of a Citus group: a commit is acknowledged when \
             a standby has it.\nWith `synchronous_mode: false` a killed primary may lose the last \
             acknowledged commits."
        );
        println!("directory: {}\n", self.field.dir.display());
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let regions = self.field.plan.regions.clone();
        for region in &regions {
            self.field.start_store(region)?;
        }
        self.progress.say("two stores (etcd), one for each region");
        for region in &regions {
            for member in &region.members {
                self.field.start_member(member)?;
            }
            self.progress.say(&format!(
                "region {}: {} daemons start",
                region.name,
                region.members.len()
            ));
        }
        for region in &regions {
            for group in [Some(0), Some(1)] {
                self.wait_healthy(&region.name, group, START).await?;
            }
            self.progress.say(&format!("region {}: all groups run and stream", region.name));
        }
        self.wait_registered().await
    }

    async fn wait_healthy(
        &mut self,
        region: &str,
        group: Option<u32>,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let members: Vec<MemberPlan> =
            self.field.plan.site(region, group).into_iter().cloned().collect();
        let refs: Vec<&MemberPlan> = members.iter().collect();
        let what = format!("a healthy group {} in {region}", group.unwrap_or(0));
        let (ask, progress) = (&self.ask, &mut self.progress);
        self.field
            .until(&what, limit, async || {
                progress.spin(&what);
                ask.is_healthy(&refs).await
            })
            .await?;
        Ok(())
    }

    /// The worker is a row of the coordinator's `pg_dist_node`.
    async fn wait_registered(&mut self) -> anyhow::Result<()> {
        let dsn = self.field.plan.dsn(Some(0));
        let progress = &mut self.progress;
        self.field
            .until("the worker in pg_dist_node", START, async || {
                progress.spin("the worker in pg_dist_node");
                rows_of_pg_dist_node(&dsn).await.is_ok_and(|rows| rows >= 2)
            })
            .await?;
        self.progress.say("the coordinator knows its worker (pg_dist_node)");
        Ok(())
    }

    async fn show_topology(&mut self, when: &str) -> anyhow::Result<()> {
        self.progress.say(&format!("the formation {when}:"));
        let regions = self.field.plan.regions.clone();
        println!();
        self.ctl(&regions[0].name, &["topology", "--formation"]).await?;
        self.ctl(&regions[0].name, &["region", "list"]).await?;
        println!();
        Ok(())
    }

    /// Runs our own command line, with its output shown as it comes.
    async fn ctl(&self, region: &str, args: &[&str]) -> anyhow::Result<()> {
        let member = &self.field.plan.region(region).context("a planned region")?.members[0];
        let status = tokio::process::Command::new(&self.ctl)
            .arg("-c")
            .arg(self.field.config_path(member))
            .args(args)
            .stdin(Stdio::null())
            .status()
            .await?;
        if !status.success() {
            bail!("`matriarchctl {}` ended with {status}", args.join(" "));
        }
        Ok(())
    }

    async fn kill_worker(&mut self) -> anyhow::Result<MemberPlan> {
        let members: Vec<MemberPlan> =
            self.field.plan.site("north", Some(1)).into_iter().cloned().collect();
        let refs: Vec<&MemberPlan> = members.iter().collect();
        let victim = self.ask.primary(&refs).await.context("the worker has a primary")?.clone();
        self.progress.say(&format!("kill -9 of {}: daemon and PostgreSQL", victim.name));
        let since = Instant::now();
        self.field.kill_node(&victim);
        let others: Vec<&MemberPlan> = refs.into_iter().filter(|m| m.name != victim.name).collect();
        let (ask, progress) = (&self.ask, &mut self.progress);
        self.field
            .until("a new primary of the worker", FAILOVER, async || {
                progress.spin("the lease of the killed primary runs out");
                ask.primary(&others).await.is_some()
            })
            .await?;
        self.writes_go_on(Instant::now()).await?;
        self.note("kill -9 of the worker", since);
        Ok(victim)
    }

    async fn switch(&mut self, to: &str) -> anyhow::Result<()> {
        self.progress.say(&format!("region switch to {to}"));
        let from = if to == "south" { "north" } else { "south" };
        for group in [Some(0), Some(1)] {
            self.wait_healthy(to, group, REJOIN).await?;
        }
        self.ctl(from, &["region", "check", "--to", to]).await?;
        let since = Instant::now();
        self.ctl(from, &["region", "switch", "--to", to, "--force"]).await?;
        self.writes_go_on(Instant::now()).await?;
        self.note(&format!("region switch to {to}"), since);
        for group in [Some(0), Some(1)] {
            self.wait_healthy(to, group, MOVE).await?;
        }
        Ok(())
    }

    async fn bring_back(&mut self, killed: &MemberPlan) -> anyhow::Result<()> {
        self.progress.say(&format!("{} comes back", killed.name));
        self.field.start_member(killed)?;
        for group in [Some(0), Some(1)] {
            self.wait_healthy("north", group, REJOIN).await?;
        }
        self.progress.say("region north: all groups stream from south");
        Ok(())
    }

    async fn writes_go_on(&mut self, moment: Instant) -> anyhow::Result<()> {
        let (clients, progress) = (&self.clients, &mut self.progress);
        self.field
            .until("writes of every client", FAILOVER, async || {
                progress.spin("writes of every client");
                clients.iter().all(|c| c.writer.wrote_since(moment))
            })
            .await
            .with_context(|| last_errors(clients))?;
        tokio::time::sleep(CALM).await;
        Ok(())
    }

    fn note(&mut self, event: &str, since: Instant) {
        let pauses: Vec<Duration> =
            self.clients.iter().map(|c| c.writer.longest_pause(since)).collect();
        let longest = pauses.iter().max().copied().unwrap_or_default();
        self.progress.say(&format!("{event}: longest write pause {:.2} s", longest.as_secs_f64()));
        self.events.push(EventLine { event: event.to_string(), pauses });
    }

    /// Counts every row; the planned moves must not have lost any.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let mut counts = Vec::new();
        for client in &self.clients {
            client.writer.stop().await;
            let count = client.writer.count().await.context("the rows cannot be counted")?;
            counts.push(CountLine { client: client.title.to_string(), count });
        }
        print_table(&self.events, &counts);
        let lost: usize = counts.iter().map(|c| c.count.lost).sum();
        println!("\nwhole run: {:.0} s", self.progress.elapsed().as_secs_f64());
        if lost > 0 {
            bail!("{lost} acknowledged rows are lost");
        }
        println!("no acknowledged row is lost");
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        self.clients.clear();
        self.progress.say("stopping everything");
        self.field.stop();
    }

    pub(super) fn leave_running(mut self, dir: &Path) {
        self.clients.clear();
        let plan = &self.field.plan;
        let config = self.field.config_path(&plan.regions[0].members[0]);
        println!("\nEverything runs on. Try:");
        println!("  psql \"{}\"", plan.dsn(Some(0)));
        for command in ["topology --formation", "region list", "region check --to south", "list"] {
            println!("  {} -c {} {command}", self.ctl.display(), config.display());
        }
        println!("  {} demo --stop --dir {}", self.ctl.display(), dir.display());
        self.field.leave();
    }
}

fn last_errors(clients: &[Client]) -> String {
    let errors: Vec<String> = clients
        .iter()
        .filter_map(|c| Some(format!("{}: {}", c.title, c.writer.last_error()?)))
        .collect();
    format!("the clients' last errors: {}", errors.join("; "))
}

async fn rows_of_pg_dist_node(dsn: &str) -> Result<i64, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(dsn, tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(connection);
    let row = client.query_one("SELECT count(*) FROM pg_dist_node", &[]).await;
    driver.abort();
    Ok(row?.get(0))
}
