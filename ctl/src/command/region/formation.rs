//! The whole formation as a picture: `topology --formation`, `--dot`, `--json`;
//! and what the graph finds, for `region check`.
//!
//! Everything is read anew: every region's store at once, then `pg_dist_node`
//! from the owner's coordinator. What gave no answer is a remark beside the
//! picture; it never keeps the rest from being shown.

use super::sites::{self, Plan, Regions, Sites};
use crate::world::World;
use anyhow::{Result, anyhow};
use citus::node::{NodeRole, NodeRow};
use node::dcs::keys::Keys;
use node::region::REMOTE_CALL;
use node::region::group_servers::GroupServers;
use standby::scene::{self, Store, Stores};
use standby::switch::preflight;
use standby::switch::{Site, Target};
use std::sync::Arc;
use topology::graph::{Finding, Graph, Route, Scene};
use topology::{Group, RegionName, document};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Picture {
    Tree,
    Dot,
    Json,
}

/// Prints the formation that the scope belongs to.
pub(crate) async fn draw(world: &mut World, scope: &str, picture: Picture) -> Result<()> {
    let graph = graph(world, scope).await?;
    world.terminal.print(&text(&graph, picture))
}

/// What is wrong with the formation that the scope belongs to, each with the name of its object.
pub(crate) async fn findings(world: &mut World, scope: &str) -> Result<Vec<(String, Finding)>> {
    let found = graph(world, scope).await?.findings().into_iter();
    Ok(found.map(|finding| (object(&finding), finding)).collect())
}

async fn graph(world: &mut World, scope: &str) -> Result<Graph> {
    let has_regions = world.settings.topology.is_some();
    let (scene, notes) = match has_regions && world.settings.scope.as_deref() == Some(scope) {
        true => {
            let regions = Regions::open(world, scope)?;
            let sites = regions.read().await;
            look(&regions, &sites).await
        }
        false => lone_scope(world, scope).await?,
    };
    notes.iter().try_for_each(|note| world.terminal.note(note))?;
    Ok(Graph::build(&scene))
}

/// What the stores said as one scene, with the routes, and what stayed unread
/// and why.
pub(super) async fn look(regions: &Regions, sites: &Sites) -> (Scene, Vec<String>) {
    let mut scene = scene(regions, sites);
    let unread = sites.0.iter().filter_map(|(name, site)| Some((name, site.as_ref().err()?)));
    let mut notes: Vec<String> =
        unread.map(|(name, why)| format!("region {name} cannot be read: {why}")).collect();
    notes.extend(add_routes(&mut scene, regions.servers.clone()).await);
    (scene, notes)
}

/// Without the routes, which only a server knows.
pub(super) fn scene(regions: &Regions, sites: &Sites) -> Scene {
    scene::of_stores(&stores(sites), &regions.formation, &regions.policy)
}

fn stores(sites: &Sites) -> Stores<'_> {
    Stores(sites.0.iter().map(|(name, site)| (name, site.as_ref().map(store).into())).collect())
}

fn store(site: &Site) -> Store<'_> {
    Store { topology: &site.topology, groups: &site.groups }
}

/// The `topology` section speaks of the configured scope only.
async fn lone_scope(world: &World, scope: &str) -> Result<(Scene, Vec<String>)> {
    let keys = Keys::new(&world.settings.namespace, scope, Group::PLAIN);
    let site = sites::read(&*world.store, &keys).await;
    let site = site.map_err(|why| anyhow!("the cluster cannot be read: {why}"))?;
    let mut scene = scene::of_scope(scope, site.groups);
    let servers = sites::servers(&world.settings)?;
    let notes = add_routes(&mut scene, servers).await;
    Ok((scene, notes.into_iter().collect()))
}

fn text(graph: &Graph, picture: Picture) -> String {
    match picture {
        Picture::Dot => graph.dot(),
        Picture::Json => document::spaced(&graph.json()) + "\n",
        Picture::Tree => {
            let findings = graph.findings().into_iter().map(|finding| line(&finding));
            graph.tree().into_iter().chain(findings).map(|line| line + "\n").collect()
        }
    }
}

fn line(finding: &Finding) -> String {
    let text = format!("{}: {finding}; {}", finding.level().text(), finding.remedy());
    // Names come from stores: none of them moves the cursor.
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Asks the coordinator for its rows; a failure leaves them unknown and is told.
async fn add_routes(scene: &mut Scene, servers: Option<Arc<dyn GroupServers>>) -> Option<String> {
    let read = read_routes(scene, servers).await;
    let remark = read.as_ref().err().map(|why| format!("pg_dist_node cannot be read: {why}"));
    scene.routes = read.into();
    remark
}

async fn read_routes(
    scene: &Scene,
    servers: Option<Arc<dyn GroupServers>>,
) -> Result<Vec<Route>, String> {
    let Some(target) = coordinator(scene)? else {
        return Ok(Vec::new());
    };
    let servers = servers.ok_or("set postgresql.authentication.superuser")?;
    let rows = tokio::time::timeout(REMOTE_CALL, servers.nodes(target)).await;
    let rows = rows.map_err(|_| format!("no answer within {REMOTE_CALL:?}"))??;
    Ok(rows.into_iter().filter(|row| row.noderole == NodeRole::Primary).map(route).collect())
}

/// Who answers for the formation's routes: the owner's leader of group 0.
/// `None`: there is no Citus, hence no routes.
fn coordinator(scene: &Scene) -> Result<Option<Target>, String> {
    let graph = Graph::build(scene);
    let groups = graph.group_numbers();
    if groups.is_empty() {
        return Err("no group was seen".to_string());
    }
    if groups.iter().all(|group| *group == Group::PLAIN) {
        return Ok(None);
    }
    let owner = graph.owner.ok_or("it is not known which region owns the formation")?;
    let region = scene.regions.iter().find(|region| region.name == owner && !region.is_stale);
    let region = region.ok_or("the owner's store does not answer")?;
    let view = region.groups.get(&Group::COORDINATOR).ok_or("the owner has no group 0")?;
    let leader = Target::leader_of(Group::COORDINATOR, view);
    leader.map(Some).ok_or_else(|| "the coordinator has no leader with an address".to_string())
}

fn route(row: NodeRow) -> Route {
    Route { group: Group(Some(row.groupid)), host: row.nodename, port: row.nodeport }
}

/// The graph's findings for `region check`. They are warnings there: the
/// preflight alone, which the agents run too, says what hinders a move.
pub(super) fn remarks(scene: &Scene, plan: &Plan) -> Vec<preflight::Finding> {
    let found = Graph::build(scene).findings().into_iter();
    let new = found.filter(|finding| !is_examined(finding, plan));
    new.map(|finding| {
        preflight::Finding::warning(object(&finding), finding.to_string(), finding.remedy())
    })
    .collect()
}

/// Has the preflight of this move its own word on it?
fn is_examined(finding: &Finding, plan: &Plan) -> bool {
    let moves = |region: &RegionName| *region == plan.from || *region == plan.to;
    match finding {
        Finding::SameName { members } => members.iter().all(|who| moves(&who.region)),
        Finding::GroupMissing { region, .. } | Finding::LeaderMissing { region, .. } => {
            moves(region)
        }
        _ => false,
    }
}

fn object(finding: &Finding) -> String {
    use Finding::*;
    match finding {
        RegionUnseen { region } | RegionUnlisted { region } | RegionUnlinked { region, .. } => {
            format!("region {region}")
        }
        GroupMissing { region, group }
        | GroupUnknown { region, group }
        | LeaderMissing { region, group } => format!("region {region}, group {group}"),
        RouteDrift { group, .. }
        | RouteMissing { group }
        | RouteStray { group }
        | RouteUnchecked { group, .. } => format!("group {group}"),
        RoutesUnchecked { .. } => "pg_dist_node".to_string(),
        OwnerUnknown
        | OwnersSeveral { .. }
        | Circle { .. }
        | SameName { .. }
        | SameAddress { .. } => "formation".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Formation, citus, formation};
    use super::*;
    use crate::fixture::world;

    async fn seen(regions: &Regions) -> (String, Vec<String>) {
        let sites = regions.read().await;
        let (scene, notes) = look(regions, &sites).await;
        (text(&Graph::build(&scene), Picture::Tree), notes)
    }

    #[tokio::test]
    async fn a_whole_formation_is_one_tree_without_findings() {
        let (tree, notes) = seen(&citus("a1").regions).await;
        let expected = "\
shop: owner a
  region a: primary, epoch 1
    group 0, coordinator
      a0  leader  running  TL 1  a0:5432
    group 1
      a1  leader  running  TL 1  a1:5432
  region b: standby of a, epoch 1
    group 0, coordinator
      b0  standby leader  running  TL 1  b0:5432  lag ?  from a/0/a0
    group 1
      b1  standby leader  running  TL 1  b1:5432  lag ?  from a/1/a1
  votes: a for a, b for a
";
        assert_eq!((tree.as_str(), notes), (expected, vec![]));
    }

    #[tokio::test]
    async fn a_row_that_points_elsewhere_and_unread_rows_are_findings() {
        let formation = citus("b1");
        let (tree, _) = seen(&formation.regions).await;
        let drift = "error: pg_dist_node sends group 1 to b1:5432, its leader is a/1/a1 at a1:5432";
        assert!(tree.contains(drift), "{tree}");
        let (tree, notes) = seen(&formation.without_hands()).await;
        assert!(tree.contains("warning: the rows of pg_dist_node cannot be checked"), "{tree}");
        assert!(notes[0].contains("postgresql.authentication.superuser"), "{notes:?}");
    }

    #[tokio::test]
    async fn a_region_that_gives_no_answer_is_shown_as_it_is_remembered() {
        let formation = citus("a1");
        formation.b.set_unreachable(true);
        let (tree, notes) = seen(&formation.regions).await;
        assert!(tree.contains("  region b: ?, epoch ?, not seen\n"), "{tree}");
        assert!(
            notes[0].starts_with("region b cannot be read: the store is not reached"),
            "{notes:?}"
        );
        formation.b.set_unreachable(false);
        formation.remember_b();
        formation.b.set_unreachable(true);
        let (tree, _) = seen(&formation.regions).await;
        assert!(tree.contains("  region b: standby of a, epoch 1, stale\n"), "{tree}");
        assert!(tree.contains("b1  standby leader  running  TL 1  b1:5432"), "{tree}");
    }

    #[tokio::test]
    async fn without_the_owner_no_region_is_said_to_own() {
        let formation = citus("a1");
        formation.a.set_unreachable(true);
        let (tree, notes) = seen(&formation.regions).await;
        assert!(tree.starts_with("shop: owner ?\n"), "{tree}");
        assert!(tree.contains("votes: a for ?, b for a"), "{tree}");
        assert_eq!(notes.len(), 2, "the store and the routes: {notes:?}");
    }

    #[tokio::test]
    async fn a_check_ends_with_what_the_preflight_does_not_say() {
        let messages = async |formation: Formation| {
            let sites = formation.regions.read().await;
            let (scene, _) = look(&formation.regions, &sites).await;
            let plan = sites.plan(None, &formation.regions).unwrap();
            remarks(&scene, &plan)
        };
        assert_eq!(messages(formation()).await, [], "one name in both regions is its word");
        let found = messages(citus("b1")).await;
        assert_eq!((found.len(), found[0].level), (1, preflight::Level::Warning));
        assert_eq!(found[0].object, "group 1");
    }

    #[tokio::test]
    async fn a_scope_without_regions_is_one_region() {
        let (mut world, screen) = world("02-three-nodes-default", "");
        draw(&mut world, "golden", Picture::Tree).await.unwrap();
        let text = screen.text();
        assert!(text.starts_with("golden: owner local\n  region local: primary"), "{text}");
        assert_eq!(text.matches("  replica  streaming").count(), 2, "{text}");
        assert_eq!(text.matches("  leader  running").count(), 1, "{text}");
    }

    #[tokio::test]
    async fn drawings_and_documents_are_nothing_else() {
        let (mut world, screen) = world("18-standby-cluster", "");
        draw(&mut world, "golden-dr", Picture::Json).await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&screen.text()).unwrap();
        assert_eq!(json["regions"][0]["role"], "standby");
        let before = screen.text().len();
        draw(&mut world, "golden-dr", Picture::Dot).await.unwrap();
        let dot = screen.text().split_off(before);
        assert!(dot.starts_with("digraph \"golden-dr\" {") && dot.ends_with("}\n"), "{dot}");
    }
}
