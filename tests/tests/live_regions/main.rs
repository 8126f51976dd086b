//! Two regions, alive: real etcds, daemons and PostgreSQL servers, writing
//! clients, and every fault that a region has to survive. Every acknowledged
//! row is counted at the end of each stage.
//!
//! One formation (coordinator and one worker, two members each, in two regions)
//! lives through all stages in turn, because starting it takes longer than most
//! of them. `MATRIARCH_STAGES=bc` runs only these stages (and `a`, which starts
//! it). Citus is the extension where it is installed, unless
//! `MATRIARCH_STAND_IN=1` asks for the stand-in; the test prints which. Logs and
//! data stay when a stage fails, or with `MATRIARCH_KEEP=1`.
//!
//! Absent on purpose: faults within one group (see the tests of one region) and
//! cut networks between regions.

mod bootstrap;
mod doubt;
mod driver_death;
mod formation;
mod frozen;
mod group_moves;
mod guard;
mod load;
mod moves;
mod planned;
mod schedules;
mod section;
mod sql;

use formation::Formation;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_formation_of_two_regions_lives_through_everything() -> anyhow::Result<()> {
    let wanted = std::env::var("MATRIARCH_STAGES").unwrap_or_else(|_| "bcdef".into());
    let _turn = tests::live::turn_alone();
    let begin = Instant::now();
    let mut f = Formation::start()?;
    bootstrap::first_owner_and_standby_region(&mut f).await?;
    told(begin, "a: bootstrap");
    for stage in wanted.chars() {
        match stage {
            'b' => group_moves::leaders_change_within_a_region(&mut f).await?,
            'c' => planned::there_and_back_under_load(&mut f).await?,
            'd' => driver_death::another_agent_goes_on(&mut f).await?,
            'e' => frozen::a_silent_store_stops_no_writes(&mut f).await?,
            'f' => doubt::nothing_opens_in_doubt(&mut f).await?,
            _ => continue,
        }
        told(begin, &format!("stage {stage}"));
    }
    f.stop();
    told(begin, "stopped");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_are_scheduled_and_given_up_on_request() -> anyhow::Result<()> {
    let _turn = tests::live::turn_alone();
    let begin = Instant::now();
    let f = Formation::plain()?;
    schedules::a_move_is_aborted_before_its_decision(&f).await?;
    told(begin, "a move was aborted");
    schedules::schedules_are_cancelled(&f).await?;
    schedules::a_move_begins_at_its_time(&f).await?;
    told(begin, "a scheduled move is done");
    f.stop();
    Ok(())
}

#[test]
fn a_wrong_topology_section_ends_the_daemon_with_the_finding() -> anyhow::Result<()> {
    section::wrong_sections_are_refused()
}

fn told(begin: Instant, what: &str) {
    println!("{:>6.1}s  {what}", begin.elapsed().as_secs_f64());
}
