//! `region switch`: ask for a planned move and watch it, or schedule it.
//!
//! The move is the agents' work: this command writes the request and reads the
//! journals. It may be interrupted at any time; the move goes on or is given up
//! by itself.

use super::schedule;
use super::show::findings;
use super::sites::{Plan, Regions, Sites};
use super::watch::Watch;
use crate::args::region::Switch;
use crate::prompt::Terminal;
use crate::table::pretty;
use anyhow::{Result, bail};
use node::clock::unix_ms;
use node::region::request::request_switch;
use standby::switch::preflight::{Finding, Level};
use std::time::Duration;
use tokio::time::Instant;
use topology::Seen;
use topology::region::{Journal, Phase};
use topology::report::lag_bytes;
use topology::schedule::Limits;

/// Steps that each have the policy's deadline, and some to spare.
const STEPS_MAX: u64 = 12;

pub(super) async fn run(
    out: &mut Terminal,
    regions: &Regions,
    sites: &Sites,
    args: &Switch,
) -> Result<()> {
    let due = schedule::due(args, unix_ms())?;
    let plan = sites.plan(Some(&args.to), regions)?;
    let limits = Limits { lag_bytes_max: args.max_lag, pause_seconds_max: args.max_pause };
    let found = regions.examine(sites, &plan, &limits).await?;
    refuse_errors(out, &found, &plan)?;
    if args.dry_run {
        out.print(&describe(&plan, sites))?;
    }
    if let Some(due) = due {
        let new = schedule::New { plan: &plan, due, limits, args };
        return schedule::make(out, regions, &new).await;
    }
    if args.dry_run {
        return out.say("Nothing was changed.");
    }
    if !args.force {
        let name = &regions.formation;
        let question = format!("Move formation {name} from {} to {} now?", plan.from, plan.to);
        out.confirm(&question)?;
    }
    let mut watch = Watch::begin(regions, (&plan.from, &plan.to))?;
    let store = regions.store(&plan.from)?;
    let asked =
        request_switch(&**store, &regions.keys, (&plan.from, &plan.to), &limits, unix_ms()).await?;
    let policy = sites.read(&plan.from)?.topology.policy.as_ref();
    let step_seconds = policy.map_or(20, |policy| policy.value.step_seconds);
    let limit = Duration::from_secs(step_seconds.saturating_mul(STEPS_MAX));
    follow(out, &mut watch, &asked, limit).await
}

fn refuse_errors(out: &mut Terminal, found: &[Finding], plan: &Plan) -> Result<()> {
    let notable: Vec<_> = found.iter().filter(|f| f.level > Level::Ok).cloned().collect();
    if !notable.is_empty() {
        out.print(&pretty(&findings(&notable)))?;
    }
    match notable.iter().filter(|f| f.level == Level::Error).count() {
        0 => Ok(()),
        count => bail!("{count} findings hinder a switch to region {}", plan.to),
    }
}

/// What would happen, in words.
fn describe(plan: &Plan, sites: &Sites) -> String {
    let (Plan { from, to, epoch }, next) = (plan, plan.epoch + 1);
    let both = (sites.read(from), sites.read(to));
    let lag = match &both {
        (Ok(from), Ok(to)) => lag_bytes(&from.groups, &to.groups),
        _ => Seen::Unknown,
    };
    let lag = lag.known().map_or("an unknown number of".to_string(), u64::to_string);
    let groups = both.0.map_or(0, |site| site.groups.len());
    format!(
        "Plan: region {from} (epoch {epoch}) gives {groups} groups to region {to} (epoch {next})\n\
         1. preflight: found no errors\n\
         2. warm: checkpoints on all leaders of both regions\n\
         3. hold: no new distributed commit in {from}, clients are ended\n\
         4. stop: the groups of {from} shut down and sign the end of their history\n\
         5. catch up: the groups of {to} replay it, {lag} bytes behind now\n\
         6. certify: {to} owns; before this the move can be given up\n\
         7. open: the groups of {to} promote, workers before the coordinator\n\
         8. rewire: the coordinator of {to} names its own workers\n\
         9. reverse: the groups of {from} follow {to}\n"
    )
}

/// A line a phase, until the move is over.
async fn follow(
    out: &mut Terminal,
    watch: &mut Watch,
    asked: &Journal,
    limit: Duration,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut told = 0;
    loop {
        if let Some(journal) = watch.journal(&asked.id) {
            told = tell(out, &journal, told)?;
            match journal.phase {
                Phase::Done => return conclude(out, &journal),
                Phase::Aborted => {
                    let why = journal.error.as_deref().unwrap_or("no reason was written");
                    bail!("the move was given up, region {} serves: {why}", journal.from);
                }
                _ => {}
            }
        }
        if Instant::now() >= deadline {
            bail!("the move is not over after {limit:?}; `region list` shows how far it is");
        }
        watch.changed().await;
    }
}

fn tell(out: &mut Terminal, journal: &Journal, told: usize) -> Result<usize> {
    let began = journal.steps.first().map_or(0, |step| step.at_ms);
    for step in journal.steps.iter().skip(told) {
        let at = step.at_ms.saturating_sub(began);
        out.say(&format!("{at:>7} ms  {}", step.phase))?;
    }
    Ok(told.max(journal.steps.len()))
}

fn conclude(out: &mut Terminal, journal: &Journal) -> Result<()> {
    let at = |phase| journal.steps.iter().find(|step| step.phase == phase).map(|step| step.at_ms);
    let pause = match (at(Phase::Hold), at(Phase::Reverse)) {
        (Some(begin), Some(end)) => {
            format!(", {} ms from holding to opening", end.saturating_sub(begin))
        }
        _ => String::new(),
    };
    out.say(&format!("Region {} owns the formation{pause}", journal.to))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{formation, journal};
    use super::*;
    use crate::prompt::recorded;
    use topology::region::StepRecord;

    fn args(dry_run: bool) -> Switch {
        Switch { to: "b".into(), dry_run, force: true, ..Switch::default() }
    }

    fn with_steps(phases: &[Phase]) -> Journal {
        let mut journal = journal(*phases.last().unwrap());
        let step = |(at, phase): (usize, &Phase)| StepRecord { phase: *phase, at_ms: at as u64 };
        journal.steps = phases.iter().enumerate().map(step).collect();
        journal
    }

    #[tokio::test]
    async fn a_dry_run_prints_the_plan_and_writes_nothing() {
        let formation = formation();
        let sites = formation.regions.read().await;
        let (mut out, screen) = recorded::terminal("");
        run(&mut out, &formation.regions, &sites, &args(true)).await.unwrap();
        assert!(screen.text().contains("40 bytes behind now"), "{}", screen.text());
        let after = formation.regions.read().await;
        assert!(after.read(&"a".into()).unwrap().topology.journal().is_none());
    }

    #[tokio::test]
    async fn a_move_is_told_phase_by_phase_and_its_reason_when_it_is_given_up() {
        for (last, expected) in [(Phase::Done, "Region b owns"), (Phase::Aborted, "too late")] {
            let formation = formation();
            let agent = formation.clone();
            let acts = tokio::spawn(async move {
                let asked = agent.wait_for_request().await;
                let mut journal = with_steps(&[Phase::Requested, Phase::Stop, last]);
                journal.id = asked.id;
                journal.error = (last == Phase::Aborted).then(|| "too late".to_string());
                agent.write_journal(&journal);
            });
            let sites = formation.regions.read().await;
            let (mut out, screen) = recorded::terminal("");
            let ended = run(&mut out, &formation.regions, &sites, &args(false)).await;
            acts.await.unwrap();
            let text =
                screen.text() + &ended.as_ref().err().map_or(String::new(), |e| e.to_string());
            assert!(text.contains("      1 ms  stop\n") && text.contains(expected), "{text}");
            assert_eq!(ended.is_err(), last == Phase::Aborted);
        }
    }

    #[tokio::test]
    async fn errors_of_the_preflight_stop_the_command() {
        let mut formation = formation();
        formation.break_replication();
        let sites = formation.regions.read().await;
        let (mut out, screen) = recorded::terminal("");
        let refused = run(&mut out, &formation.regions, &sites, &args(false)).await;
        assert!(refused.unwrap_err().to_string().contains("hinder"));
        assert!(screen.text().contains("does not stream"));
    }
}
