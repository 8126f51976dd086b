//! `region abort`: give up the running move while it is not decided, and cancel schedules.
//!
//! Both are requests in the owner's store. The agent that drives the move, or the next one,
//! reads them; this command waits for what it makes of them.

use super::schedule::this_host;
use super::show::running;
use super::sites::{Regions, Sites};
use super::watch::Watch;
use crate::args::region::Abort;
use crate::prompt::Terminal;
use anyhow::{Context, Result, bail};
use node::clock::unix_ms;
use node::region::request::{RequestError, request_abort};
use node::region::schedules::cancel;
use std::time::Duration;
use tokio::time::Instant;
use topology::region::{AbortRequest, Journal, Phase};
use topology::schedule::Schedule;

/// The driver reads the request at once; a new one is elected within a lease.
const WAIT: Duration = Duration::from_secs(60);

pub(super) async fn run(
    out: &mut Terminal,
    regions: &Regions,
    sites: &Sites,
    args: &Abort,
) -> Result<()> {
    let journal = running(sites).filter(|_| args.schedule.is_none());
    let pending = if args.only_move { Vec::new() } else { pending(sites, args)? };
    let open = journal.filter(|journal| !journal.phase.is_decided());
    let is_anything = open.is_some() || !pending.is_empty();
    if is_anything && !args.force {
        out.confirm(&question(open, &pending))?;
    }
    // The move first: it may be decided at any moment.
    let asked = match open {
        Some(open) => ask(regions, open).await,
        None => Ok(()),
    };
    let cancelled = cancel_all(out, regions, sites, &pending).await;
    asked?;
    let ended = match (journal, open) {
        (_, Some(open)) => ends(out, regions, open, WAIT).await,
        (Some(Journal { from, to, phase, .. }), None) => {
            let (from, to, phase) = (from.clone(), to.clone(), *phase);
            Err(RequestError::Decided { from, to, phase }.into())
        }
        (None, None) if pending.is_empty() => {
            bail!("there is nothing to abort: no move is under way and no schedule is pending")
        }
        (None, None) => Ok(()),
    };
    ended.and(cancelled)
}

/// The schedule that is named, else all of them.
fn pending<'a>(sites: &'a Sites, args: &Abort) -> Result<Vec<&'a Schedule>> {
    let all = sites.schedules();
    let Some(id) = &args.schedule else {
        return Ok(all.into_values().filter(|schedule| schedule.is_pending()).collect());
    };
    let schedule = all.get(id.as_str()).with_context(|| format!("there is no schedule {id}"))?;
    match &schedule.last {
        Some(last) if !schedule.is_pending() => bail!("schedule {id} is over: {}", last.outcome),
        _ => Ok(vec![schedule]),
    }
}

fn question(journal: Option<&Journal>, pending: &[&Schedule]) -> String {
    let ids: Vec<&str> = pending.iter().map(|schedule| schedule.id.as_str()).collect();
    let ids = ids.join(", ");
    match journal {
        None => format!("Cancel schedule {ids}?"),
        Some(Journal { from, to, phase, .. }) => {
            let also = if ids.is_empty() { ids } else { format!(" and cancel schedule {ids}") };
            format!("Abort the move from {from} to {to} (phase {phase}){also}?")
        }
    }
}

async fn cancel_all(
    out: &mut Terminal,
    regions: &Regions,
    sites: &Sites,
    pending: &[&Schedule],
) -> Result<()> {
    let mut failed = Ok(());
    for schedule in pending {
        let owner = &sites.newest().context("no region owns the formation yet")?.owner;
        let (id, why) = (&schedule.id, format!("by an operator on host {}", this_host()));
        let cancelled = cancel(&**regions.store(owner)?, &regions.keys, schedule, &why).await;
        match cancelled {
            Ok(_) => out.say(&format!("Schedule {id} is cancelled"))?,
            // The others are cancelled all the same.
            Err(error) => {
                let place = format!("schedule {id} in the store of region {owner}");
                failed = failed.and(Err(anyhow::Error::from(error).context(place)));
            }
        }
    }
    failed
}

async fn ask(regions: &Regions, asked: &Journal) -> Result<()> {
    let request = AbortRequest { host: this_host(), at_ms: unix_ms() };
    let store = &**regions.store(&asked.from)?;
    Ok(request_abort(store, &regions.keys, &asked.id, &request).await?)
}

/// What the agent makes of the request.
async fn ends(
    out: &mut Terminal,
    regions: &Regions,
    asked: &Journal,
    wait: Duration,
) -> Result<()> {
    let (from, to) = (&asked.from, &asked.to);
    let mut watch = Watch::begin(regions, (from, to))?;
    let deadline = Instant::now() + wait;
    loop {
        let phase = watch.journal(&asked.id).map(|journal| journal.phase);
        match phase {
            Some(Phase::Aborted) => {
                return out.say(&format!("The move was given up, region {from} serves"));
            }
            Some(phase) if phase.is_decided() => {
                let (from, to) = (from.clone(), to.clone());
                return Err(RequestError::Decided { from, to, phase }.into());
            }
            _ => {}
        }
        if Instant::now() >= deadline {
            bail!(
                "no agent of region {from} has taken the request within {wait:?}; it is kept, and \
                 the next agent gives the move up: see `region list`"
            );
        }
        watch.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Formation, formation, journal};
    use super::*;
    use crate::prompt::recorded;
    use node::region::schedules::create;

    fn schedule(id: &str) -> Schedule {
        Schedule::once(id, "a".into(), "b".into(), u64::MAX / 2)
    }

    async fn asked(formation: &Formation, args: &Abort, answers: &str) -> (String, bool) {
        let sites = formation.regions.read().await;
        let (mut out, screen) = recorded::terminal(answers);
        let ended = run(&mut out, &formation.regions, &sites, args).await;
        let why = ended.as_ref().err().map_or(String::new(), |why| format!("{why:#}"));
        (screen.text() + &why, ended.is_ok())
    }

    async fn add(formation: &Formation, id: &str) {
        create(&formation.regions.stores, &formation.regions.keys, &schedule(id)).await.unwrap();
    }

    #[tokio::test]
    async fn one_schedule_or_all_are_cancelled_after_a_yes() {
        let formation = formation();
        for id in ["s1", "s2", "s3"] {
            add(&formation, id).await;
        }
        let (text, done) = asked(&formation, &Abort::default(), "n\n").await;
        assert!(text.contains("Cancel schedule s1, s2, s3?") && !done, "{text}");
        let one = Abort { schedule: Some("s2".into()), ..Abort::default() };
        let (text, done) = asked(&formation, &one, "y\n").await;
        assert!(text.ends_with("Schedule s2 is cancelled\n") && done, "{text}");
        let (text, done) = asked(&formation, &one, "y\n").await;
        assert!(text.contains("schedule s2 is over: cancelled: by an operator") && !done, "{text}");
        let all = Abort { force: true, ..Abort::default() };
        let (text, done) = asked(&formation, &all, "").await;
        assert!(text == "Schedule s1 is cancelled\nSchedule s3 is cancelled\n" && done, "{text}");
        let (text, done) = asked(&formation, &all, "").await;
        assert!(text.contains("nothing to abort") && !done, "{text}");
    }

    #[tokio::test]
    async fn a_move_is_aborted_through_the_owners_store() {
        let formation = formation();
        add(&formation, "s").await;
        formation.write_journal(&journal(Phase::Stop));
        let agent = formation.clone();
        let acts = tokio::spawn(async move {
            let asked = agent.wait_for(|journal| journal.abort.is_some()).await;
            agent.write_journal(&Journal { phase: Phase::Aborted, ..asked });
        });
        let only = Abort { only_move: true, ..Abort::default() };
        let (text, done) = asked(&formation, &only, "y\n").await;
        acts.await.unwrap();
        assert!(text.starts_with("Abort the move from a to b (phase stop)?"), "{text}");
        assert!(text.ends_with("The move was given up, region a serves\n") && done, "{text}");
        let sites = formation.regions.read().await;
        assert!(sites.schedules()["s"].is_pending(), "it was not asked for");
    }

    #[tokio::test]
    async fn a_decided_move_cannot_be_taken_back_but_its_schedules_are_cancelled() {
        let formation = formation();
        add(&formation, "s").await;
        formation.write_journal(&journal(Phase::Open));
        let all = Abort { force: true, ..Abort::default() };
        let (text, done) = asked(&formation, &all, "").await;
        assert!(text.starts_with("Schedule s is cancelled\n") && !done, "{text}");
        assert!(text.contains("is decided (phase open): it cannot be taken back"), "{text}");
    }

    #[tokio::test]
    async fn without_an_agent_the_request_stays() {
        let formation = formation();
        formation.write_journal(&journal(Phase::CatchUp));
        let (mut out, _) = recorded::terminal("");
        let asked = journal(Phase::CatchUp);
        ask(&formation.regions, &asked).await.expect("the store takes it");
        let ended = ends(&mut out, &formation.regions, &asked, Duration::ZERO).await;
        assert!(ended.unwrap_err().to_string().contains("the next agent gives the move up"));
        assert!(formation.wait_for(|journal| journal.abort.is_some()).await.abort.is_some());
    }
}
