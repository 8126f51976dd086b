//! The formation under test and what every stage asks of it.

use anyhow::{Context, Result, bail, ensure};
use ctl::demo::has_citus;
use ctl::field::ask::Asker;
use ctl::field::process::find_postgres;
use ctl::field::{Field, MemberPlan, Plan};
use nix::sys::signal::Signal;
use node::config::StoreSettings;
use node::dcs::Store;
use node::dcs::keys::Keys;
use node::region::ownership::read_site;
use serde_json::json;
use standby::switch::Site;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use topology::Group;

pub(crate) const COORDINATOR: Option<u32> = Some(0);
pub(crate) const WORKER: Option<u32> = Some(1);
pub(crate) const GROUPS: [Option<u32>; 2] = [COORDINATOR, WORKER];
pub(crate) const NORTH: &str = "north";
pub(crate) const SOUTH: &str = "south";
/// The longest that anything may take which needs no lease to run out.
pub(crate) const SOON: Duration = Duration::from_secs(45);
/// The same, with a lease that has to run out first.
pub(crate) const LEASE: Duration = Duration::from_secs(75);
const STORE_CALL: Duration = Duration::from_secs(3);

pub(crate) struct Formation {
    pub field: Field,
    pub ask: Asker,
    pub keys: Keys,
    pub dir: PathBuf,
    stores: BTreeMap<String, Arc<dyn Store>>,
    ctl: PathBuf,
    /// Where each member's log ended when a test last marked it.
    marks: BTreeMap<String, usize>,
}

impl Formation {
    pub(crate) fn start() -> Result<Formation> {
        let pg_bin = find_postgres().context("PostgreSQL 13 or later must be installed")?;
        let forced = std::env::var("MATRIARCH_STAND_IN").is_ok_and(|v| v == "1");
        let stand_in = forced || !has_citus(&pg_bin);
        println!("Citus: {}", if stand_in { "the stand-in" } else { "the real extension" });
        let dir = std::env::temp_dir().join(format!("live-regions-{}", std::process::id()));
        let plan = plan(&dir, pg_bin, &GROUPS, stand_in)?;
        Formation::of(dir, plan)
    }

    /// Two regions of one group without Citus.
    pub(crate) fn plain() -> Result<Formation> {
        let pg_bin = find_postgres().context("PostgreSQL 13 or later must be installed")?;
        let dir = std::env::temp_dir().join(format!("live-schedules-{}", std::process::id()));
        let plan = plan(&dir, pg_bin, &[None], true)?;
        Formation::of(dir, plan)
    }

    fn of(dir: PathBuf, plan: Plan) -> Result<Formation> {
        let stores = plan.regions.iter().map(|region| {
            let hosts = vec![format!("127.0.0.1:{}", region.store_port)];
            let settings =
                StoreSettings { hosts, protocol: "http".into(), ..StoreSettings::default() };
            Ok((region.name.clone(), node::dcs::open(&settings, STORE_CALL)?))
        });
        let stores = stores.collect::<Result<_>>()?;
        let keys = Keys::new("/service/", &plan.scope, Group::PLAIN);
        let field = Field::prepare(&dir, plan, &program("matriarch")?)?;
        let mut formation = Formation {
            field,
            ask: Asker::new(),
            keys,
            dir,
            stores,
            ctl: program("matriarchctl")?,
            marks: BTreeMap::new(),
        };
        for region in formation.field.plan.regions.clone() {
            formation.field.start_store(&region)?;
        }
        formation.start_daemons(NORTH)?;
        formation.start_daemons(SOUTH)?;
        Ok(formation)
    }

    pub(crate) fn start_daemons(&mut self, region: &str) -> Result<()> {
        for member in self.members(region) {
            self.field.start_member(&member)?;
        }
        Ok(())
    }

    pub(crate) fn members(&self, region: &str) -> Vec<MemberPlan> {
        self.field.plan.members().filter(|m| m.region == region).cloned().collect()
    }

    pub(crate) fn site_members(&self, region: &str, group: Option<u32>) -> Vec<MemberPlan> {
        self.field.plan.site(region, group).into_iter().cloned().collect()
    }

    pub(crate) fn store(&self, region: &str) -> &dyn Store {
        self.stores[region].as_ref()
    }

    /// Everything one region's store holds.
    pub(crate) async fn site(&self, region: &str) -> Result<Site> {
        let read = self.store(region).read(&[self.keys.scope_prefix()]).await;
        let read = read.with_context(|| format!("the store of {region}"))?;
        Ok(read_site(&self.keys, &read.entries))
    }

    /// The member that holds a group's lock in a region.
    pub(crate) async fn leader(&self, region: &str, group: Option<u32>) -> Result<MemberPlan> {
        let site = self.site(region).await?;
        let view = site.groups.get(&Group(group)).context("the group is in the store")?;
        let name = view.leader_name().context("the group has a leader")?;
        let member = self.field.plan.member(name.as_str()).context("a planned member")?;
        Ok(member.clone())
    }

    /// The other member of a group of two.
    pub(crate) fn partner(&self, of: &MemberPlan) -> MemberPlan {
        let others = self.site_members(&of.region, of.group);
        others.into_iter().find(|m| m.name != of.name).expect("two members a group")
    }

    /// The member whose daemon speaks for a region.
    pub(crate) async fn agent(&self, region: &str) -> Result<MemberPlan> {
        let agent = self.site(region).await?.topology.agent.context("the region has an agent")?;
        let name = agent.value.rsplit('/').next().unwrap_or_default().to_string();
        Ok(self.field.plan.member(&name).context("a planned member")?.clone())
    }

    /// All groups of a region run, stream, and have one leader.
    pub(crate) async fn healthy(&self, region: &str, limit: Duration) -> Result<()> {
        for group in GROUPS {
            let members = self.site_members(region, group);
            let refs: Vec<&MemberPlan> = members.iter().collect();
            let what = format!("health of group {} in {region}", group.unwrap_or(0));
            self.field.until(&what, limit, async || self.ask.is_healthy(&refs).await).await?;
        }
        Ok(())
    }

    /// Runs the command line against a region's store; gives what it printed.
    pub(crate) async fn ctl(&self, region: &str, args: &[&str]) -> Result<(bool, String)> {
        let member = self.members(region).remove(0);
        let mut command = tokio::process::Command::new(&self.ctl);
        command.arg("-c").arg(self.field.config_path(&member)).args(args);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LEASE, command.output()).await;
        let output = output.with_context(|| format!("matriarchctl {args:?} hangs"))??;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// What a member has logged since the last mark.
    pub(crate) fn logged(&self, name: &str) -> String {
        let text = std::fs::read(self.field.log_path(name)).unwrap_or_default();
        let from = self.marks.get(name).copied().unwrap_or(0).min(text.len());
        String::from_utf8_lossy(&text[from..]).into_owned()
    }

    /// From now on only later lines count.
    pub(crate) fn mark_logs(&mut self) {
        let names: Vec<String> = self.field.plan.members().map(|m| m.name.clone()).collect();
        for name in names {
            let size = std::fs::metadata(self.field.log_path(&name)).map_or(0, |m| m.len());
            self.marks.insert(name, size as usize);
        }
    }

    /// Waits until one of the members has logged all these words in one line.
    pub(crate) async fn until_logged(&self, members: &[MemberPlan], words: &[&str]) -> Result<()> {
        let has = |text: String| text.lines().any(|l| words.iter().all(|word| l.contains(word)));
        let what = format!("a log line with {words:?}");
        let said = async || members.iter().any(|m| has(self.logged(&m.name)));
        self.field.until(&what, SOON, said).await?;
        Ok(())
    }

    pub(crate) fn signal_store(&mut self, region: &str, signal: Signal) -> Result<()> {
        ensure!(self.field.signal_store(region, signal), "the store of {region} does not run");
        Ok(())
    }

    pub(crate) fn stop_store(&mut self, region: &str) -> Result<()> {
        self.signal_store(region, Signal::SIGTERM)?;
        self.field.wait_exit(&format!("etcd-{region}"), SOON)?;
        Ok(())
    }

    pub(crate) fn start_store(&mut self, region: &str) -> Result<()> {
        let plan = self.field.plan.region(region).context("a planned region")?.clone();
        Ok(self.field.start_store(&plan)?)
    }

    /// Ends a region's daemons as an operator does; PostgreSQL goes with them.
    pub(crate) fn stop_daemons(&mut self, region: &str) -> Result<()> {
        let members = self.members(region);
        for member in &members {
            self.field.signal_daemon(&member.name, Signal::SIGTERM);
        }
        for member in &members {
            self.field.wait_exit(&member.name, SOON)?;
        }
        Ok(())
    }

    /// While this file is there, the servers of the last group in `north` do not stop.
    pub(crate) fn hold_stops(&self) -> Result<()> {
        Ok(std::fs::write(hold_file(&self.dir), "")?)
    }

    pub(crate) fn let_stop(&self) {
        let _ = std::fs::remove_file(hold_file(&self.dir));
    }

    pub(crate) fn stop(mut self) {
        self.let_stop();
        self.field.stop();
        if std::env::var_os("MATRIARCH_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn hold_file(dir: &Path) -> PathBuf {
    dir.join("hold")
}

/// Small servers: eight of them run on two cores.
fn plan(dir: &Path, pg_bin: PathBuf, groups: &[Option<u32>], stand_in: bool) -> Result<Plan> {
    let mut plan = Plan::new(&[NORTH, SOUTH], groups, 2, pg_bin)?;
    plan.stand_in = stand_in;
    plan.dcs = json!({
        "ttl": 20, "loop_wait": 5, "retry_timeout": 5, "primary_start_timeout": 0,
        "postgresql": {"use_pg_rewind": true, "parameters": {
            "max_connections": 50, "max_worker_processes": 10, "max_wal_senders": 8,
            "max_prepared_transactions": 100, "wal_level": "logical", "wal_keep_size": "64MB",
        }},
    });
    plan.parameters = json!({
        "shared_buffers": "8MB", "min_wal_size": "48MB", "max_wal_size": "256MB",
    });
    if !stand_in {
        plan.parameters["citus.node_conninfo"] = tests::live::citus_formation::NODE_CONNINFO.into();
        plan.parameters["citus.node_connection_timeout"] = "5s".into();
    }
    let wait = format!("sh -c 'while [ -e {} ]; do sleep 0.02; done'", hold_file(dir).display());
    let last = groups.last().copied().flatten();
    let held: Vec<String> =
        plan.site(NORTH, last).iter().map(|member| member.name.clone()).collect();
    for name in held {
        plan.overlays.insert(name, json!({"postgresql": {"before_stop": wait}}));
    }
    Ok(plan)
}

/// A program of the workspace, built beside this test unless `MATRIARCH_BIN`
/// names another directory.
fn program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let beside = test.parent().and_then(Path::parent).context("a target directory")?;
    let named = std::env::var_os("MATRIARCH_BIN").map(PathBuf::from);
    let built = named.as_deref().unwrap_or(beside).join(name);
    if !built.is_file() {
        bail!("{} is missing: build it with `cargo build --workspace --bins`", built.display());
    }
    Ok(built)
}

/// The daemon's program, for tests that need no formation.
pub(crate) fn daemon() -> Result<PathBuf> {
    program("matriarch")
}
