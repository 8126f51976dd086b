//! `citus remove-group`: moves all shards off a group and takes it out of the formation.
//!
//! The group's `/config` says first that it leaves, so that the coordinator's daemon adds
//! no row of it any more; until the end its row still follows a failover. Each step may be
//! done already: the command is repeated after whatever stopped it.
//!
//! Absent on purpose: the group's servers and its keys in the store (`remove`).

use super::{nodes_table, rows};
use crate::args::citus::{Look, RemoveGroup};
use crate::command::region::servers;
use crate::output::{Format, render};
use crate::world::World;
use anyhow::{Context, Result, bail};
use citus::node::NodeRow;
use citus::{LEAVING, Statement, leave};
use node::region::group_servers::GroupServers;
use serde_json::{Map, Value};
use standby::switch::Target;
use topology::write::Replacement;
use topology::{Group, Write, document};

const SENTENCE: &str = "Yes I am aware";

pub(super) async fn run(world: &mut World, args: &RemoveGroup) -> Result<()> {
    let look = Look { cluster: args.cluster.clone(), format: Format::Pretty };
    let scope = world.scope(args.cluster.as_deref())?;
    let rows = rows(world, &look).await?;
    let steps = leave(&rows, args.group)?;
    let servers = servers(&world.settings)?.context("set postgresql.authentication.superuser")?;
    let coordinator = coordinator(world, &scope).await?;
    ask(world, &rows, args.group)?;
    mark(world, &scope, args.group).await?;
    perform(world, servers.as_ref(), &coordinator, &steps).await?;
    world.terminal.say(&format!(
        "Group {0} is out of pg_dist_node. Stop its daemons, then: matriarchctl remove {scope} \
         --group {0}",
        args.group
    ))
}

async fn coordinator(world: &World, scope: &str) -> Result<Target> {
    let cluster = world.read(scope, None).await?;
    let view = cluster.view(Group::COORDINATOR).context("the scope has no group 0")?;
    Target::leader_of(Group::COORDINATOR, view)
        .context("the coordinator has no leader with an address")
}

fn ask(world: &mut World, rows: &[NodeRow], group: u32) -> Result<()> {
    let own: Vec<NodeRow> = rows.iter().filter(|row| row.groupid == group).cloned().collect();
    world.terminal.print(&render(&nodes_table(&own), Format::Pretty))?;
    let question = "Please confirm the number of the group to remove";
    if world.terminal.ask_number(question)? != group {
        bail!("Group numbers specified do not match");
    }
    let warning = format!(
        "You are about to move all shards off group {group} and to take it out of the formation, \
         please type: \"{SENTENCE}\""
    );
    if world.terminal.ask(&warning, None)? != SENTENCE {
        bail!("You did not exactly type \"{SENTENCE}\"");
    }
    Ok(())
}

/// No daemon adds a group that the store does not know.
async fn mark(world: &World, scope: &str, group: u32) -> Result<()> {
    let cluster = world.read(scope, Some(group)).await?;
    let one = cluster.one()?;
    let Some(config) = &one.view.config else { return Ok(()) };
    let wanted = leaving(&config.value.raw);
    if wanted == config.value.raw {
        return Ok(());
    }
    let config = Replacement { value: document::compact(&wanted), on: Some(config.version) };
    if !world.write(&one.keys, &Write::ReplaceConfig(config)).await? {
        bail!("the configuration of group {group} was changed meanwhile; begin again");
    }
    Ok(())
}

fn leaving(raw: &Value) -> Value {
    let mut wanted = raw.as_object().cloned().unwrap_or_default();
    let citus = wanted.entry("citus").or_insert_with(|| Value::Object(Map::new()));
    if !citus.is_object() {
        *citus = Value::Object(Map::new());
    }
    citus[LEAVING] = Value::Bool(true);
    Value::Object(wanted)
}

async fn perform(
    world: &mut World,
    servers: &dyn GroupServers,
    coordinator: &Target,
    steps: &[Statement],
) -> Result<()> {
    for step in steps {
        world.terminal.say(&told(step))?;
        let done = servers.change(coordinator.clone(), step.clone()).await;
        done.map_err(anyhow::Error::msg).context(
            "the group is not out yet: its row still follows its leader, and the same command \
             goes on from here",
        )?;
    }
    Ok(())
}

fn told(step: &Statement) -> String {
    match step {
        Statement::DrainNode { address } => format!("Moving all shards off {address} ..."),
        Statement::StopSync { address } => format!("Making {address} forget the formation ..."),
        Statement::RemoveNode { address } => format!("Removing the row of {address} ..."),
        other => format!("{other:?} ..."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::world;
    use node::region::group_servers::{Done, Held};
    use serde_json::json;
    use standby::switch::Replayed;
    use standby::switch::preflight::Probe;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Runs statements up to the one that it refuses.
    #[derive(Default)]
    struct Coordinator {
        ran: Mutex<Vec<String>>,
        refuses: Option<&'static str>,
    }

    impl GroupServers for Coordinator {
        fn probe(&self, _: Target) -> Done<'_, Probe> {
            unreachable!("nothing is probed")
        }
        fn checkpoint(&self, _: Target) -> Done<'_, Duration> {
            unreachable!("nothing is stopped")
        }
        fn hold(&self, _: Vec<Target>, _: u64) -> Done<'_, Held> {
            unreachable!("nothing is held")
        }
        fn replayed(&self, _: Target) -> Done<'_, Replayed> {
            unreachable!("nothing is replayed")
        }
        fn change(&self, _: Target, statement: Statement) -> Done<'_, Option<i64>> {
            Box::pin(async move {
                let word = statement.sql().split(['(', ' ']).nth(1).unwrap_or_default().to_string();
                if self.refuses == Some(word.as_str()) {
                    return Err("a shard has no other place".to_string());
                }
                self.ran.lock().expect("no panic").push(word);
                Ok(None)
            })
        }
    }

    fn rows() -> Vec<NodeRow> {
        let row = |nodeid: i32, groupid: u32, host: &str| {
            let text = json!({"nodeid": nodeid, "groupid": groupid, "nodename": host,
                "nodeport": 5432, "noderole": "primary", "nodecluster": "default",
                "isactive": true, "hasmetadata": true, "metadatasynced": true,
                "shouldhaveshards": groupid != 0});
            serde_json::from_value(text).expect("a row")
        };
        vec![row(1, 0, "c"), row(2, 1, "w"), row(3, 2, "x")]
    }

    fn target() -> Target {
        Target {
            group: Group::COORDINATOR,
            member: "c".into(),
            host: "c".into(),
            port: 5432,
            api_url: None,
        }
    }

    #[tokio::test]
    async fn shards_are_moved_before_anything_is_removed() {
        let (mut world, screen) = world("02-three-nodes-default", "2\nYes I am aware\n");
        let coordinator = Coordinator::default();
        ask(&mut world, &rows(), 2).unwrap();
        let steps = leave(&rows(), 2).unwrap();
        perform(&mut world, &coordinator, &target(), &steps).await.unwrap();
        let ran = coordinator.ran.into_inner().unwrap();
        assert_eq!(ran, ["citus_drain_node", "stop_metadata_sync_to_node", "citus_remove_node"]);
        assert!(screen.text().contains("Moving all shards off x:5432"), "{}", screen.text());
    }

    #[tokio::test]
    async fn a_refusal_ends_it_and_says_how_to_go_on() {
        let (mut world, _) = world("02-three-nodes-default", "");
        let coordinator =
            Coordinator { refuses: Some("citus_drain_node"), ..Coordinator::default() };
        let steps = leave(&rows(), 2).unwrap();
        let error = perform(&mut world, &coordinator, &target(), &steps).await.unwrap_err();
        assert!(format!("{error:#}").contains("goes on from here: a shard has no other place"));
        assert!(coordinator.ran.into_inner().unwrap().is_empty());
    }

    #[test]
    fn a_wrong_answer_ends_it() {
        for answers in ["1\n", "2\nyes\n", ""] {
            let (mut world, _) = world("02-three-nodes-default", answers);
            assert!(ask(&mut world, &rows(), 2).is_err(), "{answers}");
        }
    }

    #[test]
    fn the_mark_keeps_everything_else() {
        let raw = json!({"ttl": 30, "citus": {"other": 1}});
        assert_eq!(leaving(&raw), json!({"ttl": 30, "citus": {"other": 1, "leaving": true}}));
        assert_eq!(leaving(&json!({"ttl": 30}))["citus"], json!({"leaving": true}));
    }
}
