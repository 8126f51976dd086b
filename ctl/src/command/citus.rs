//! `citus`: the coordinator's `pg_dist_node`, and whether it is as it should be.
//!
//! Read anew: all groups from the store, the rows from the coordinator's leader. Nothing
//! is changed, the coordinator's daemon does that; only `remove-group` takes a group out.

mod remove_group;

use super::region::servers;
use crate::args::citus::{Command, Look};
use crate::output::render;
use crate::table::{Column, Table};
use crate::world::World;
use anyhow::{Context, Result, bail};
use citus::node::NodeRow;
use citus::{Finding, Level, Statement, Wish, check, desired, groups_now};
use node::region::REMOTE_CALL;
use serde_json::{Value, json};
use standby::switch::Target;
use std::collections::BTreeMap;
use topology::Group;

pub(crate) async fn run(world: &mut World, command: Command) -> Result<()> {
    match command {
        Command::RemoveGroup(args) => remove_group::run(world, &args).await,
        Command::Nodes(args) => {
            let rows = rows(world, &args).await?;
            world.terminal.print(&render(&nodes_table(&rows), args.format))
        }
        Command::Check(args) => {
            let rows = rows(world, &args).await?;
            let scope = world.scope(args.cluster.as_deref())?;
            let groups = groups_now(&world.read(&scope, None).await?.groups);
            let citus = world.settings.citus.as_ref();
            let wish = citus.map_or_else(Wish::own_replicas, |citus| citus.wish());
            let mut found = check(&desired(&groups, &BTreeMap::new(), &wish), &rows);
            found.extend(check::of_moves(moves(world, &scope).await.unwrap_or_default()));
            world.terminal.print(&render(&findings_table(&found), args.format))?;
            match found.iter().filter(|finding| finding.level == Level::Error).count() {
                0 => Ok(()),
                count => bail!("{count} errors in pg_dist_node"),
            }
        }
    }
}

async fn rows(world: &World, args: &Look) -> Result<Vec<NodeRow>> {
    let scope = world.scope(args.cluster.as_deref())?;
    let cluster = world.read(&scope, None).await?;
    let view = cluster.view(Group::COORDINATOR).context("the scope has no group 0")?;
    let target = Target::leader_of(Group::COORDINATOR, view);
    let target = target.context("the coordinator has no leader with an address")?;
    let servers = servers(&world.settings)?.context("set postgresql.authentication.superuser")?;
    let rows = tokio::time::timeout(REMOTE_CALL, servers.nodes(target)).await;
    let rows = rows.with_context(|| format!("no answer within {REMOTE_CALL:?}"))?;
    rows.map_err(anyhow::Error::msg).context("pg_dist_node cannot be read")
}

/// None where it cannot be told: the stand-in has no shards.
async fn moves(world: &World, scope: &str) -> Option<i64> {
    let cluster = world.read(scope, None).await.ok()?;
    let target = Target::leader_of(Group::COORDINATOR, cluster.view(Group::COORDINATOR)?)?;
    let servers = servers(&world.settings).ok()??;
    let count = servers.change(target, Statement::CountMoves);
    tokio::time::timeout(REMOTE_CALL, count).await.ok()?.ok()?
}

fn nodes_table(rows: &[NodeRow]) -> Table {
    let columns =
        ["Group", "Node", "Host", "Port", "Role", "Cluster", "Active", "Synced", "Poolinfo"];
    let row = |row: &NodeRow| -> Vec<Value> {
        // Only copies of the table can be behind.
        let synced = row.hasmetadata.then_some(row.metadatasynced);
        vec![
            json!(row.groupid),
            json!(row.nodeid),
            json!(row.nodename),
            json!(row.nodeport),
            json!(row.noderole),
            json!(row.nodecluster),
            json!(row.isactive),
            json!(synced),
            json!(row.poolinfo),
        ]
    };
    Table {
        columns: columns.map(Column::new).to_vec(),
        rows: rows.iter().map(row).collect(),
        ..Table::default()
    }
}

fn findings_table(findings: &[Finding]) -> Table {
    let row = |f: &Finding| vec![json!(f.level), json!(f.object), json!(f.what), json!(f.remedy)];
    Table {
        columns: ["Level", "Object", "Finding", "Remedy"].map(Column::new).to_vec(),
        rows: findings.iter().map(row).collect(),
        ..Table::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    fn row(nodeid: i32, groupid: u32, host: &str) -> NodeRow {
        let text = json!({"nodeid": nodeid, "groupid": groupid, "nodename": host,
            "nodeport": 5432, "noderole": "primary", "nodecluster": "default",
            "isactive": true, "hasmetadata": groupid != 0, "metadatasynced": groupid != 0,
            "shouldhaveshards": groupid != 0});
        serde_json::from_value(text).expect("a row")
    }

    #[test]
    fn rows_are_shown_with_the_state_of_their_copies() {
        let text = render(&nodes_table(&[row(1, 0, "c"), row(2, 1, "w")]), Format::Tsv);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Group\tNode\tHost\tPort\tRole\tCluster\tActive\tSynced\tPoolinfo");
        assert!(lines[2].starts_with("1\t2\tw\t5432\tprimary\tdefault\t"), "{text}");
    }

    #[test]
    fn a_finding_names_its_object_and_what_to_do() {
        let groups = [(0, "c"), (1, "x")].map(|(group, host)| {
            let leader = Some(citus::Address::new(host, 5432));
            (group, citus::GroupNow { leader, ..citus::GroupNow::default() })
        });
        let desired = desired(&groups.into(), &BTreeMap::new(), &Wish::default());
        let found = check(&desired, &[row(1, 0, "c"), row(2, 1, "w")]);
        let text = render(&findings_table(&found), Format::Tsv);
        assert!(text.contains("ok\tgroup 0\t"), "{text}");
        assert!(text.contains("error\tgroup 1\tqueries go to w:5432, the leader is x:5432"));
    }
}
