//! `remove`: a cluster is forgotten by the store. Its data stays where it is.
//!
//! Invariant *votes stay*: what a region keeps below `topology/` is its vote
//! on who owns the formation. It is not a cluster's to throw away, so the keys
//! are deleted one by one and never the whole scope.

use crate::args::Remove;
use crate::world::{One, World};
use anyhow::{Context, Result, bail};
use node::dcs::{Compare, Op, Txn};

const SENTENCE: &str = "Yes I am aware";

pub async fn run(world: &mut World, args: &Remove) -> Result<()> {
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

/// Only while the leader is the one that the operator typed.
async fn delete(world: &mut World, one: &One<'_>) -> Result<()> {
    let keys = &one.keys;
    let when = match &one.view.leader {
        Some(leader) => Compare::ValueIs(keys.leader(), leader.value.to_string()),
        None => Compare::Absent(keys.leader()),
    };
    let single = [
        keys.initialize(),
        keys.config(),
        keys.leader(),
        keys.status(),
        keys.failover(),
        keys.sync(),
        keys.history(),
        keys.failsafe(),
        keys.legacy_optime(),
    ];
    let mut then: Vec<Op> = single.into_iter().map(|key| Op::Delete { key }).collect();
    then.push(Op::DeletePrefix { prefix: keys.group_prefix() + "members/" });
    let done = world.store.txn(Txn { when: vec![when], then }).await;
    if !done.context("the cluster could not be removed")?.succeeded {
        bail!("the leader changed meanwhile; nothing was removed");
    }
    Ok(())
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

    #[tokio::test]
    async fn three_right_answers_remove_the_cluster_but_not_the_vote() {
        let answers = "golden\nYes I am aware\nn1\n";
        let (mut world, _) = world("02-three-nodes-default", answers);
        let vote = "/service/golden/topology/register".to_string();
        assert!(world.replace(vote.clone(), None, "{}".into()).await.unwrap());
        run(&mut world, &args()).await.unwrap();
        let left = world.store.read(&["/service/golden/".to_string()]).await.unwrap().entries;
        assert_eq!(left.iter().map(|e| e.key.clone()).collect::<Vec<_>>(), [vote]);
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
