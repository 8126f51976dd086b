//! The copies of the schedules in all stores: the next one that is out of step.
//!
//! Of two copies the one with the greater revision is newer; between equals the owner's
//! counts. A schedule that only another store holds is taken from there: this store lost
//! its data, or an operator's command ended half way. So a schedule that is over is not
//! deleted at once, and never while a store that may hold it is out of sight.

use super::super::LocalTopology;
use super::super::Site;
use super::super::calls::Scene;
use super::super::effect::AgentWrite;
use super::super::schedule::OVER_MAX;
use std::collections::BTreeSet;
use std::sync::Arc;
use topology::RegionName;
use topology::schedule::Schedule;

/// The store to write, and what.
pub(super) fn next(scene: &Scene, own: &Site) -> Option<(RegionName, AgentWrite)> {
    let names = &scene.identity.others;
    let live = names.iter().filter_map(|name| Some((name, scene.live(name)?)));
    let live: Vec<(&RegionName, Arc<Site>)> = live.collect();
    let others: Vec<_> = live.iter().map(|(name, site)| (*name, &site.topology)).collect();
    let is_whole = live.len() == names.len();
    step(&scene.identity.region, &own.topology, &others, is_whole)
}

/// `is_whole`: every other store is seen.
fn step(
    me: &RegionName,
    own: &LocalTopology,
    others: &[(&RegionName, &LocalTopology)],
    is_whole: bool,
) -> Option<(RegionName, AgentWrite)> {
    let newer = others.iter().find_map(|(_, other)| newer(own, other));
    if let Some(theirs) = newer {
        return Some((me.clone(), copy(theirs)));
    }
    let surplus = surplus(own);
    for (name, other) in others {
        for (id, ours) in own.schedules.iter().filter(|(id, _)| is_readable(other, id)) {
            match other.schedules.get(id) {
                Some(_) if surplus.contains(id) => {
                    return Some(((*name).clone(), AgentWrite::RemoveSchedule(id.clone())));
                }
                theirs if theirs != Some(ours) && !surplus.contains(id) => {
                    return Some(((*name).clone(), copy(ours)));
                }
                _ => {}
            }
        }
    }
    let gone = surplus.into_iter().next().filter(|_| is_whole)?;
    Some((me.clone(), AgentWrite::RemoveSchedule(gone.clone())))
}

/// What this store must learn before anything is decided, or written elsewhere.
fn newer<'a>(own: &LocalTopology, other: &'a LocalTopology) -> Option<&'a Schedule> {
    let readable = other.schedules.values().filter(|theirs| is_readable(own, &theirs.id));
    let mut newer = readable.filter(|theirs| {
        let ours = own.schedules.get(&theirs.id);
        ours.is_none_or(|ours| ours.revision < theirs.revision)
    });
    newer.next()
}

fn copy(schedule: &Schedule) -> AgentWrite {
    AgentWrite::Schedule(Box::new(schedule.clone()))
}

fn is_readable(local: &LocalTopology, id: &str) -> bool {
    !local.is_unreadable(&format!("schedule/{id}"))
}

/// Schedules that are over, but for the last ones.
fn surplus(own: &LocalTopology) -> BTreeSet<&String> {
    let over = own.schedules.values().filter(|schedule| !schedule.is_pending());
    let mut over: Vec<&Schedule> = over.collect();
    over.sort_by_key(|s| (s.last.as_ref().map_or(0, |last| last.due_ms), &s.id));
    let kept = over.len().saturating_sub(OVER_MAX);
    over.into_iter().take(kept).map(|schedule| &schedule.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::schedule::Outcome;

    fn made(id: &str, due_ms: u64) -> Schedule {
        Schedule::once(id, "a".into(), "b".into(), due_ms)
    }

    fn over(id: &str, due_ms: u64) -> Schedule {
        made(id, due_ms).concluded(Outcome::Cancelled("by hand".into()), None, due_ms)
    }

    fn holding(schedules: &[Schedule]) -> LocalTopology {
        let all = schedules.iter().map(|s| (s.id.clone(), s.clone()));
        LocalTopology { schedules: all.collect(), ..LocalTopology::default() }
    }

    /// What region `a` writes, where `b` is the other one.
    fn written(own: &[Schedule], other: &[Schedule]) -> Option<(String, AgentWrite)> {
        let (own, other, b) = (holding(own), holding(other), RegionName::new("b"));
        let next = step(&"a".into(), &own, &[(&b, &other)], true);
        next.map(|(region, write)| (region.to_string(), write))
    }

    #[test]
    fn the_newer_copy_is_taken_and_between_equals_the_owners() {
        let (old, new) = (made("s", 5), over("s", 5));
        assert_eq!(written(std::slice::from_ref(&old), std::slice::from_ref(&old)), None);
        let to = |region: &str, schedule: &Schedule| Some((region.to_string(), copy(schedule)));
        assert_eq!(written(std::slice::from_ref(&new), std::slice::from_ref(&old)), to("b", &new));
        assert_eq!(written(std::slice::from_ref(&old), std::slice::from_ref(&new)), to("a", &new));
        assert_eq!(written(&[], std::slice::from_ref(&old)), to("a", &old), "a lost store");
        let started = old.concluded(Outcome::Started("m".into()), None, 5);
        assert_eq!(written(std::slice::from_ref(&started), &[new]), to("b", &started));
    }

    #[test]
    fn what_is_newer_elsewhere_is_taken_before_any_copy_is_written() {
        let (first, old, new) = (made("a", 5), made("b", 6), over("b", 6));
        let ours = [first, old];
        assert_eq!(written(&ours, std::slice::from_ref(&new)), Some(("a".into(), copy(&new))));
    }

    #[test]
    fn the_oldest_of_those_that_are_over_are_forgotten_in_every_store() {
        let all: Vec<Schedule> = (0..=OVER_MAX as u64).map(|n| over(&format!("s{n}"), n)).collect();
        let gone = AgentWrite::RemoveSchedule("s0".into());
        assert_eq!(written(&all, &all), Some(("b".into(), gone.clone())));
        assert_eq!(written(&all, &all[1..]), Some(("a".into(), gone)));
        assert_eq!(written(&all[1..], &all[1..]), None);
        let unseen = step(&"a".into(), &holding(&all), &[], false);
        assert_eq!(unseen, None, "a store that is not seen may hold it");
    }

    #[test]
    fn what_cannot_be_read_is_neither_absent_nor_overwritten() {
        let mut damaged = LocalTopology::default();
        damaged.take_sample("schedule/s", "{", 3, 0);
        let (own, b) = (holding(&[made("s", 5)]), RegionName::new("b"));
        assert_eq!(step(&"a".into(), &own, &[(&b, &damaged)], true), None);
        assert_eq!(step(&"a".into(), &damaged, &[(&b, &own)], true), None);
    }
}
