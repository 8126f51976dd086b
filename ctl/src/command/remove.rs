//! `remove`: deletes a cluster from the store. Its data stays where it is.
//!
//! All keys of the cluster are deleted, whichever program wrote them, and so is the
//! timeline that its members have claimed: a cluster that is made in its place
//! begins with nothing.
//!
//! Invariant *votes stay*: what else a region keeps below `topology/` is its vote
//! on which region owns the formation. That vote does not belong to a cluster, so
//! the keys are deleted one by one and never the whole scope.

use crate::args::Remove;
use crate::world::{One, World};
use anyhow::{Context, Result, bail};
use node::dcs::OPS_MAX;
use node::dcs::keys::Keys;
use topology::Write;

const SENTENCE: &str = "Yes I am aware";

pub(crate) async fn run(world: &mut World, args: &Remove) -> Result<()> {
    let cluster = world.read(&args.cluster, args.group).await?;
    if cluster.is_citus && args.group.is_none() {
        bail!("For Citus clusters the --group must be specified");
    }
    world.show_as(&cluster, args.format)?;
    let one = cluster.one()?;
    ask_thrice(world, &args.cluster, &one)?;
    delete(world, &one).await
}

fn ask_thrice(world: &mut World, scope: &str, one: &One<'_>) -> Result<()> {
    let terminal = &mut world.terminal;
    let name = terminal.ask("Please confirm the cluster name to remove", None)?;
    if name != scope {
        bail!("Cluster names specified do not match");
    }
    let warning = format!(
        "You are about to remove all information in DCS for {scope}, please type: \"{SENTENCE}\""
    );
    if terminal.ask(&warning, None)? != SENTENCE {
        bail!("You did not exactly type \"{SENTENCE}\"");
    }
    if let Some(leader) = one.view.leader_name() {
        let question =
            "This cluster currently is healthy. Please specify the leader name to continue";
        if terminal.ask(question, None)? != leader.as_str() {
            bail!("You did not specify the current leader of the cluster");
        }
    }
    Ok(())
}

/// Only while the leader is the one that the operator typed. More than the store
/// takes at once goes in several steps, the cluster's own keys first.
async fn delete(world: &mut World, one: &One<'_>) -> Result<()> {
    let keys = &one.keys;
    let mut others = others(world, keys).await?;
    let rest = others.split_off(others.len().min(OPS_MAX - keys.of_group().len() - 1));
    let leader = one.view.leader_name().cloned();
    if !remove(world, keys, Write::RemoveGroup { leader, others }).await? {
        bail!("the leader changed meanwhile; nothing was removed");
    }
    for step in rest.chunks(OPS_MAX) {
        if !remove(world, keys, Write::RemoveOthers(step.to_vec())).await? {
            bail!("a member leads again and a part was removed: remove it once more");
        }
    }
    Ok(())
}

async fn remove(world: &World, keys: &Keys, write: Write) -> Result<bool> {
    let done = world.store.write(keys, &write).await;
    Ok(done.context("the cluster could not be removed")?.succeeded)
}

/// What else lies in the cluster's place, beside its members: names relative to it.
async fn others(world: &World, keys: &Keys) -> Result<Vec<String>> {
    let (place, members, own) = (keys.group_prefix(), keys.members_prefix(), keys.of_group());
    let read = world.store.read(std::slice::from_ref(&place)).await;
    let read = read.context("the cluster's keys could not be read; nothing was removed")?;
    let found = read.entries.into_iter().map(|entry| entry.key);
    let stays = |key: &String| key.starts_with(&keys.topology_prefix());
    let others =
        found.filter(|key| !stays(key) && !key.starts_with(&members) && !own.contains(key));
    Ok(others.filter_map(|key| key.strip_prefix(&place).map(str::to_string)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::world;
    use crate::output::Format;
    use crate::prompt::Aborted;

    fn args() -> Remove {
        Remove { cluster: "golden".into(), group: None, format: Format::Pretty }
    }

    #[tokio::test]
    async fn without_answers_nothing_happens() {
        let (mut world, screen) = world("02-three-nodes-default", "");
        let error = run(&mut world, &args()).await.unwrap_err();
        assert!(error.is::<Aborted>());
        assert!(screen.text().ends_with("Please confirm the cluster name to remove: "));
    }

    fn put(world: &World, key: &str, value: &str) {
        crate::fixture::put(world, format!("/service/golden/{key}"), value);
    }

    async fn left(world: &World) -> Vec<String> {
        let read = world.store.read(&["/service/golden/".to_string()]).await.unwrap();
        read.entries.into_iter().map(|entry| entry.key).collect()
    }

    #[tokio::test]
    async fn three_right_answers_remove_the_cluster_but_not_the_vote() {
        let answers = "golden\nYes I am aware\nn1\n";
        let (mut world, _) = world("02-three-nodes-default", answers);
        put(&world, "topology/register", "{}");
        put(&world, "topology/timeline/default", r#"{"timeline":7,"by":"n2"}"#);
        assert!(world.read("golden", None).await.unwrap().one().unwrap().view.claim.is_some());
        run(&mut world, &args()).await.unwrap();
        assert_eq!(left(&world).await, ["/service/golden/topology/register"]);
    }

    #[tokio::test]
    async fn what_others_have_left_there_goes_too_however_much_it_is() {
        let answers = "golden\nYes I am aware\nn1\n";
        let (mut world, _) = world("02-three-nodes-default", answers);
        put(&world, "topology/register", "{}");
        for number in 0..2 * OPS_MAX {
            put(&world, &format!("leftover/{number}"), "x");
        }
        run(&mut world, &args()).await.unwrap();
        assert_eq!(left(&world).await, ["/service/golden/topology/register"]);
    }

    #[tokio::test]
    async fn a_wrong_answer_ends_it() {
        for answers in ["gold\n", "golden\nyes\n", "golden\nYes I am aware\nn2\n"] {
            let (mut world, _) = world("02-three-nodes-default", answers);
            assert!(run(&mut world, &args()).await.is_err(), "{answers}");
            let left = world.read("golden", None).await.unwrap();
            assert_eq!(left.members().len(), 3);
        }
    }
}
