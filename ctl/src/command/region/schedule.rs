//! `region switch --at` and `--cron`: a move that is to begin later.
//!
//! The owner's agent begins it. This command finds out when it is due and writes the
//! schedule to the stores of all regions.

use super::show::told;
use super::sites::{Plan, Regions};
use crate::args::region::Switch;
use crate::moment::{parse, parse_schedule, text_of_ms};
use crate::prompt::Terminal;
use anyhow::{Context, Result, anyhow, bail};
use node::clock::unix_ms;
use node::region::schedules::create;
use standby::switch::occurrence::after;
use topology::schedule::{CronLine, Limits, Schedule};

/// When a scheduled move is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    first_ms: u64,
    cron: Option<CronLine>,
}

/// A schedule that an operator asks for.
pub(super) struct New<'a> {
    pub plan: &'a Plan,
    pub due: Due,
    pub limits: Limits,
    pub args: &'a Switch,
}

/// `None`: the move is to begin now.
pub(super) fn due(args: &Switch, now_ms: u64) -> Result<Option<Due>> {
    if let Some(line) = &args.cron {
        let timezone = args.timezone.clone().unwrap_or_else(|| "UTC".to_string());
        let cron = CronLine { line: line.clone(), timezone };
        let first_ms = after(&cron, now_ms).map_err(|why| anyhow!(why))?;
        return Ok(Some(Due { first_ms, cron: Some(cron) }));
    }
    let at = args.at.as_deref().map(parse_schedule).transpose()?.flatten();
    let Some(at) = at else {
        if args.window.is_some() {
            bail!("--window is for moves with --at or --cron");
        }
        return Ok(None);
    };
    let moment = parse(&at).context("the time is beyond all dates")?.timestamp().as_millisecond();
    let first_ms = u64::try_from(moment).unwrap_or_default();
    if first_ms <= now_ms {
        bail!("{at} is in the past");
    }
    Ok(Some(Due { first_ms, cron: None }))
}

pub(super) async fn make(out: &mut Terminal, regions: &Regions, new: &New<'_>) -> Result<()> {
    let schedule = new.schedule();
    out.say(&told(&schedule))?;
    if let Some(cron) = &schedule.cron {
        let second = after(cron, new.due.first_ms).map_err(|why| anyhow!(why))?;
        out.say(&format!("The one after that is due at {}", text_of_ms(second)))?;
    }
    if new.args.dry_run {
        return out.say("Nothing was changed.");
    }
    if !new.args.force {
        out.confirm(&format!("Schedule this move of formation {}?", regions.formation))?;
    }
    create(&regions.stores, &regions.keys, &schedule).await?;
    let names: Vec<&str> = regions.stores.keys().map(|name| name.as_str()).collect();
    out.say(&format!(
        "Schedule {} is written to the stores of {}; `region abort` cancels it",
        schedule.id,
        names.join(", ")
    ))
}

impl New<'_> {
    fn schedule(&self) -> Schedule {
        let Plan { from, to, epoch } = self.plan;
        let id = format!("{to}-{}", unix_ms());
        let once = Schedule::once(&id, from.clone(), to.clone(), self.due.first_ms);
        Schedule {
            epoch: *epoch,
            host: this_host(),
            cron: self.due.cron.clone(),
            window_minutes: self.args.window.unwrap_or(once.window_minutes),
            limits: self.limits.clone(),
            ..once
        }
    }
}

/// The name of this host, for other operators.
pub(super) fn this_host() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "?".to_string())
}

#[cfg(test)]
mod tests {
    use super::super::switch;
    use super::super::tests::{Formation, formation};
    use super::*;
    use crate::prompt::recorded;

    const NOW: u64 = 1_795_000_000_000;

    fn args(at: Option<&str>, cron: Option<&str>) -> Switch {
        let (at, cron) = (at.map(str::to_string), cron.map(str::to_string));
        Switch { to: "b".into(), at, cron, force: true, ..Switch::default() }
    }

    async fn asked(formation: &Formation, args: &Switch) -> (Result<()>, String) {
        let sites = formation.regions.read().await;
        let (mut out, screen) = recorded::terminal("");
        let result = switch::run(&mut out, &formation.regions, &sites, args).await;
        (result, screen.text())
    }

    #[test]
    fn a_time_has_an_offset_or_is_local_and_never_past() {
        let at = |text| due(&args(Some(text), None), NOW);
        let first_ms = NOW + 3_600_000;
        assert_eq!(at("2026-11-18T13:06:40+01:00").unwrap().map(|d| d.first_ms), Some(first_ms));
        assert!(at("2035-06-01T12:30").unwrap().is_some());
        assert_eq!(at("now").unwrap(), None);
        assert!(at("2026-11-18T10:06:40Z").unwrap_err().to_string().contains("in the past"));
        assert!(at("tomorrow").unwrap_err().to_string().contains("(tomorrow)"));
    }

    #[test]
    fn a_cron_line_has_a_time_zone_of_its_own() {
        let mut line = args(None, Some("0 3 * * *"));
        let first = |line: &Switch| due(line, NOW).unwrap().unwrap().first_ms;
        let in_utc = first(&line);
        line.timezone = Some("Europe/Vienna".into());
        assert_eq!(in_utc - first(&line), 3_600_000);
        line.timezone = Some("Mars".into());
        assert!(due(&line, NOW).unwrap_err().to_string().contains("Mars"));
        assert!(due(&args(None, Some("x")), NOW).unwrap_err().to_string().contains("`x`"));
    }

    #[tokio::test]
    async fn a_schedule_lies_in_all_stores_and_is_listed() {
        let formation = formation();
        let mut asked_for = args(Some("2035-06-01T12:30:00Z"), None);
        asked_for.max_lag = Some(1 << 20);
        let (result, text) = asked(&formation, &asked_for).await;
        result.unwrap();
        assert!(text.contains("is written to the stores of a, b"), "{text}");
        let sites = formation.regions.read().await;
        let of = |region: &str| sites.read(&region.into()).unwrap().topology.schedules.clone();
        assert_eq!((of("a").len(), of("a")), (1, of("b")));
        let schedule = of("a").into_values().next().unwrap();
        assert_eq!((schedule.epoch, schedule.limits.lag_bytes_max), (1, Some(1 << 20)));
        let listed = super::super::show::list(&formation.regions, &sites);
        let listed = crate::table::pretty(&listed);
        assert!(listed.contains("from a to b at 2035-06-01T12:30:00"), "{listed}");
        assert!(listed.contains(&format!("made on host {}", this_host())), "{listed}");
    }

    #[tokio::test]
    async fn a_dry_run_shows_when_and_writes_nothing() {
        let formation = formation();
        let mut asked_for = args(None, Some("0 3 * * 0"));
        asked_for.dry_run = true;
        let (result, text) = asked(&formation, &asked_for).await;
        result.unwrap();
        assert!(text.contains("1. preflight") && text.contains("by `0 3 * * 0` in UTC"), "{text}");
        assert!(text.ends_with("Nothing was changed.\n"), "{text}");
        assert!(formation.regions.read().await.schedules().is_empty());
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_an_error() {
        let formation = formation();
        let sites = formation.regions.read().await;
        formation.b.set_unreachable(true);
        let plan = sites.plan(Some("b"), &formation.regions).unwrap();
        let asked_for = args(Some("2035-06-01T12:30:00Z"), None);
        let due = due(&asked_for, NOW).unwrap().unwrap();
        let new = New { plan: &plan, due, limits: Limits::default(), args: &asked_for };
        let (mut out, _) = recorded::terminal("");
        let failed = make(&mut out, &formation.regions, &new).await.unwrap_err().to_string();
        assert!(failed.contains("could not be written to the store of region b"), "{failed}");
        formation.b.set_unreachable(false);
        let sites = formation.regions.read().await;
        assert!(sites.schedules().values().all(|schedule| !schedule.is_pending()));
    }
}
