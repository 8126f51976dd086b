//! A region move as the tests see it: asked for, waited for, and its journal.

use super::formation::{Formation, LEASE};
use anyhow::{Context, Result, ensure};
use node::clock::unix_ms;
use node::dcs::by_hand::Edit;
use node::region::request::request_switch;
use std::time::Duration;
use tests::live::birth::by_hand;
use topology::RegionName;
use topology::region::{Journal, Phase, Policy};
use topology::schedule::Limits;

/// Asks for a move, as the command line does, and gives its name.
pub(crate) async fn ask(f: &Formation, from: &str, to: &str) -> Result<String> {
    let (here, there) = (RegionName::new(from), RegionName::new(to));
    let (sides, limits) = ((&here, &there), Limits::default());
    let journal = request_switch(f.store(from), &f.keys, sides, &limits, unix_ms()).await?;
    Ok(journal.id)
}

/// A move as an operator makes it; gives its journal, complete.
pub(crate) async fn by_command(f: &Formation, from: &str, to: &str) -> Result<Journal> {
    for command in
        [&["region", "check", "--to", to][..], &["region", "switch", "--to", to, "--force"]]
    {
        let (done, said) = f.ctl(from, command).await?;
        ensure!(done, "matriarchctl {} failed: {said}", command.join(" "));
    }
    let topology = f.site(to).await?.topology;
    let journal = topology.journal().context("a journal")?.clone();
    must_be(&journal, Phase::Done)?;
    Ok(journal)
}

/// The move's journal in a region's store.
pub(crate) async fn journal(f: &Formation, region: &str, id: &str) -> Result<Option<Journal>> {
    let site = f.site(region).await?;
    Ok(site.topology.journal().filter(|journal| journal.id == id).cloned())
}

/// Waits until the journal in this region is as wished.
pub(crate) async fn until(
    f: &Formation,
    region: &str,
    id: &str,
    limit: Duration,
    wished: impl Fn(&Journal) -> bool,
) -> Result<Journal> {
    let mut last = None;
    let look = async || {
        last = journal(f, region, id).await.ok().flatten().or(last.take());
        last.as_ref().is_some_and(&wished)
    };
    let waited = f.field.until(&format!("move {id}"), limit, look).await;
    waited.with_context(|| format!("the journal says {last:?}"))?;
    last.context("just seen")
}

/// Waits for the end of the move, as the old owner's store tells it.
pub(crate) async fn end(f: &Formation, region: &str, id: &str) -> Result<Journal> {
    until(f, region, id, LEASE, |journal| journal.phase.is_over()).await
}

pub(crate) fn must_be(journal: &Journal, phase: Phase) -> Result<()> {
    ensure!(journal.phase == phase, "the move ended {:?}: {:?}", journal.phase, journal.error);
    Ok(())
}

/// How long each phase took, in one line.
pub(crate) fn timetable(journal: &Journal) -> String {
    let spans = journal.steps.windows(2).map(|pair| {
        format!("{:?} {} ms", pair[0].phase, pair[1].at_ms.saturating_sub(pair[0].at_ms))
    });
    spans.collect::<Vec<_>>().join(", ")
}

/// Gives every step of later moves this many seconds, in both regions.
pub(crate) async fn set_step_seconds(f: &Formation, seconds: u64) -> Result<()> {
    for region in [super::formation::NORTH, super::formation::SOUTH] {
        let site = f.site(region).await?;
        let held = site.topology.policy.context("a policy")?.value;
        let policy = Policy { step_seconds: seconds, ..held };
        put(f, region, "policy", serde_json::to_string(&policy)?).await?;
    }
    Ok(())
}

/// Deletes keys below `topology/`, as an operator is told to.
pub(crate) async fn delete(f: &Formation, region: &str, keys: &[&str]) -> Result<()> {
    let edits = keys.iter().map(|key| Edit::delete(f.keys.topology(key))).collect();
    by_hand(f.store(region)).edit(edits).await?;
    Ok(())
}

/// Writes a key below `topology/` without asking anybody, as a bad operator does.
pub(crate) async fn put(f: &Formation, region: &str, key: &str, value: String) -> Result<()> {
    by_hand(f.store(region)).edit(vec![Edit::put(f.keys.topology(key), value)]).await?;
    Ok(())
}
