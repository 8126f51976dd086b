//! The preflight of a move that an operator asks about: all leaders are asked at once.
//!
//! A running move has its own preflight in the agent (`standby::switch::agent`); both
//! judge with `standby::switch::preflight`.

use super::group_servers::GroupServers;
use standby::switch::Site;
use standby::switch::preflight::{Finding, Probe, Side, preflight};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::Poll;
use topology::region::Journal;
use topology::schedule::Limits;
use topology::{Group, RegionName};

/// Preflight of a move between two sites; `sides` are the old and the new one.
pub async fn examine(
    servers: &dyn GroupServers,
    sides: [(&RegionName, &Site); 2],
    limits: &Limits,
    running: Option<&Journal>,
) -> Vec<Finding> {
    let [from, to] = sides;
    let probes = (probe_all(servers, from.1), probe_all(servers, to.1));
    let (old, new) = tokio::join!(probes.0, probes.1);
    preflight(
        &Side { region: from.0, groups: &from.1.groups, probes: &old },
        &Side { region: to.0, groups: &to.1.groups, probes: &new },
        limits,
        running,
    )
}

async fn probe_all(
    servers: &dyn GroupServers,
    site: &Site,
) -> BTreeMap<Group, Result<Probe, String>> {
    let waits = site.leaders().map(|target| {
        let group = target.group;
        async move { (group, servers.probe(target).await) }
    });
    all_of(waits.map(Box::pin).collect()).await.into_iter().collect()
}

/// All answers, in the order of the questions, asked at once.
async fn all_of<F: Future>(mut waits: Vec<Pin<Box<F>>>) -> Vec<F::Output> {
    let mut answers: Vec<Option<F::Output>> = waits.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (wait, answer) in waits.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let Poll::Ready(ready) = wait.as_mut().poll(cx)
            {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}
