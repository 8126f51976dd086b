//! Where the commands meet the world: store, REST APIs, terminal, clock.
//!
//! What is read becomes values (`Cluster`); what is shown is computed from
//! them elsewhere. Every write to the store is decided on the version
//! that was shown to the operator.

use crate::args::Place;
use crate::members::{self, Groups, Shown};
use crate::output::{Format, render};
use crate::prompt::Terminal;
use crate::rest::Rest;
use crate::{place, table};
use anyhow::{Context, Result, anyhow, bail};
use jiff::ZonedDateTime;
use node::config::CtlSettings;
use node::dcs::keys::{Keys, split_groups};
use node::dcs::{self, Store};
use std::io::{BufReader, IsTerminal};
use std::sync::Arc;
use std::time::Duration;
use topology::{Group, GroupView, MemberName, MemberRecord, Write};

/// How long the store may take for one call.
const STORE_WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) struct World {
    pub settings: CtlSettings,
    pub store: Arc<dyn Store>,
    /// The store, as another client of it.
    #[cfg(test)]
    pub memory: dcs::memory::MemoryStore,
    pub rest: Rest,
    pub terminal: Terminal,
}

/// All groups of a scope (or the one asked for) at one version of the store.
pub(crate) struct Cluster {
    pub scope: String,
    pub is_citus: bool,
    /// The group asked for.
    pub group: Option<u32>,
    pub groups: Groups,
    keys: Keys,
}

/// One group of a cluster, and where its keys are.
pub(crate) struct One<'a> {
    pub keys: Keys,
    pub view: &'a GroupView,
}

/// One member of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chosen {
    pub group: Group,
    pub name: MemberName,
    pub record: MemberRecord,
}

impl World {
    pub(crate) fn open(args: &Place) -> Result<World> {
        let settings = place::settings(args)?;
        let store = dcs::open(&settings.store, STORE_WAIT_MAX).context(
            "the store cannot be used; check its section of the configuration or --dcs-url",
        )?;
        let rest = Rest::new(&settings.ctl, args.insecure)?;
        let mut terminal = screen();
        for warning in &settings.warnings {
            terminal.note(&format!("WARNING: {warning}"))?;
        }
        Ok(World {
            settings,
            store,
            #[cfg(test)]
            memory: Default::default(),
            rest,
            terminal,
        })
    }

    pub(crate) fn now(&self) -> ZonedDateTime {
        ZonedDateTime::now()
    }

    /// The cluster that was named, else the configured one.
    pub(crate) fn scope(&self, named: Option<&str>) -> Result<String> {
        named.map(str::to_string).or_else(|| self.settings.scope.clone()).ok_or_else(|| {
            anyhow!("no cluster is named: give its name as argument, or set `scope`")
        })
    }

    /// The group that was asked for, else the one of the configuration.
    pub(crate) fn own_group(&self, asked: Option<u32>) -> Option<u32> {
        asked.or_else(|| self.settings.citus.as_ref().map(|c| c.group))
    }

    /// Everything below the scope, linearizably.
    pub(crate) async fn read(&self, scope: &str, group: Option<u32>) -> Result<Cluster> {
        let keys = Keys::new(&self.settings.namespace, scope, Group::PLAIN);
        let prefix = keys.scope_prefix();
        let snapshot = self.store.read(std::slice::from_ref(&prefix)).await;
        let snapshot = snapshot.context("the cluster cannot be read")?;
        let mut groups = split_groups(&prefix, &snapshot.entries);
        let is_plain = groups.contains_key(&Group::PLAIN);
        let is_citus = group.is_some()
            || self.settings.citus.is_some()
            || (!is_plain && groups.keys().any(|g| g.0.is_some()));
        match (is_citus, group) {
            (false, _) => keep_only(&mut groups, Group::PLAIN),
            (true, Some(number)) => keep_only(&mut groups, Group(Some(number))),
            (true, None) => groups.retain(|g, _| g.0.is_some()),
        }
        Ok(Cluster { scope: scope.to_string(), is_citus, group, groups, keys })
    }

    /// Prints the members as a table.
    pub(crate) fn show(&mut self, cluster: &Cluster) -> Result<()> {
        self.terminal.print(&table::pretty(&cluster.table(false)))
    }

    pub(crate) fn show_as(&mut self, cluster: &Cluster, format: Format) -> Result<()> {
        self.terminal.print(&render(&cluster.table(false), format))
    }

    /// Writes what was decided on what was read. False: it was changed meanwhile.
    pub(crate) async fn write(&self, keys: &Keys, write: &Write) -> Result<bool> {
        let done = self.store.write(keys, write).await;
        Ok(done.context("the store did not take the change")?.succeeded)
    }
}

fn keep_only(groups: &mut Groups, group: Group) {
    let view = groups.remove(&group).unwrap_or_default();
    *groups = Groups::from([(group, view)]);
}

/// The operator's terminal, or what stands in its place.
pub(crate) fn screen() -> Terminal {
    let mut terminal =
        Terminal::new(BufReader::new(std::io::stdin()), std::io::stdout(), std::io::stderr());
    terminal.is_interactive = std::io::stdout().is_terminal();
    terminal.has_tty = std::fs::File::open("/dev/tty").is_ok();
    terminal
}

impl Cluster {
    pub(crate) fn shown(&self, extended: bool, is_tree: bool) -> Shown {
        Shown {
            scope: self.scope.clone(),
            is_citus: self.is_citus,
            group: self.group,
            extended,
            remote_lag_at: None,
            is_tree,
        }
    }

    pub(crate) fn table(&self, extended: bool) -> table::Table {
        members::rows(&self.groups, &self.shown(extended, false))
    }

    /// The one group a command is about.
    pub(crate) fn one(&self) -> Result<One<'_>> {
        if self.is_citus && self.group.is_none() {
            bail!("{} has several Citus groups: name one with --group", self.scope);
        }
        let Some((group, view)) = self.groups.first_key_value() else {
            bail!("{} has no group", self.scope);
        };
        Ok(One { keys: self.keys.for_group(*group), view })
    }

    pub(crate) fn members(&self) -> Vec<Chosen> {
        let of_group = |(group, view): (&Group, &GroupView)| {
            let members = view.members.iter().map(|(name, record)| Chosen {
                group: *group,
                name: name.clone(),
                record: record.value.clone(),
            });
            members.collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    pub(crate) fn view(&self, group: Group) -> Option<&GroupView> {
        self.groups.get(&group)
    }

    /// Seconds between two beats, as the members were told.
    pub(crate) fn loop_wait_s(&self) -> u64 {
        let config = self.groups.values().find_map(|view| view.config.as_ref());
        config.map_or(10, |c| c.value.loop_wait_ms / 1000)
    }
}

impl One<'_> {
    /// Members with an API: the leader first, the others by name.
    pub(crate) fn reachable(&self) -> Vec<(MemberName, String)> {
        let leader = self.view.leader_name();
        let with_api = |(name, member): (&MemberName, &topology::Versioned<MemberRecord>)| {
            Some((name.clone(), member.value.api_url.clone()?))
        };
        let mut all: Vec<_> = self.view.members.iter().filter_map(with_api).collect();
        all.sort_by_key(|(name, _)| Some(name) != leader);
        all
    }

    /// Refuses to build on a configuration that cannot be read.
    pub(crate) fn readable_config(&self) -> Result<()> {
        match self.view.unreadable.iter().find(|(key, _)| key == "config") {
            Some((_, why)) => bail!("{} cannot be read: {why}", self.keys.config()),
            None => Ok(()),
        }
    }
}
