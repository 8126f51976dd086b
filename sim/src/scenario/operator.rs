//! What an operator does: requests in the store, changed settings, and what is done
//! to a server by hand.

use super::inject::number;
use super::making::pairs;
use super::story::Story;
use super::usage::usage;
use crate::world::fault::{Fault, RESTART, reinitialize};
use member::requests::Request;
use standby::switch::occurrence::after;
use topology::schedule::CronLine;

type Printed = Result<Vec<String>, String>;

/// The operator's tools reach the store of the first region.
const AT: usize = 0;

pub fn config(story: &mut Story, words: &[&str]) -> Printed {
    for (key, value) in pairs(words)? {
        match value.is_null() {
            true => story.world.plan.document.remove(&key),
            false => story.world.plan.document.insert(key, value),
        };
    }
    written(story)
}

/// The document as it is wanted now goes into the store.
fn written(story: &mut Story) -> Printed {
    story.world.write_config(AT);
    story.world.tell_watchers(AT, None);
    Ok(Vec::new())
}

pub fn pause(story: &mut Story, _: &[&str]) -> Printed {
    story.world.plan.paused = true;
    written(story)
}

pub fn resume(story: &mut Story, _: &[&str]) -> Printed {
    story.world.plan.paused = false;
    written(story)
}

pub fn switchover(story: &mut Story, words: &[&str]) -> Printed {
    let to = match words {
        [] => None,
        ["to", name] => Some(name.to_string()),
        _ => return usage(),
    };
    let beside = &story.world.members[beside(story, to.as_deref())];
    let (region, key) = (beside.place.region, beside.keys.leader());
    let leader = story.world.stores.get(region, &key).ok_or("no member leads")?.value;
    requested(story, Some(leader), to)
}

pub fn failover(story: &mut Story, words: &[&str]) -> Printed {
    let ["to", name] = words else { return usage() };
    requested(story, None, Some(name.to_string()))
}

fn requested(story: &mut Story, from: Option<String>, to: Option<String>) -> Printed {
    let beside = beside(story, to.as_deref());
    let region = story.world.members[beside].place.region;
    story.world.request_leader(beside, from, to);
    story.world.tell_watchers(region, None);
    Ok(Vec::new())
}

/// The request goes to the group of the member that is named, else to the first one.
fn beside(story: &Story, named: Option<&str>) -> usize {
    let members = &story.world.members;
    members.iter().position(|m| named == Some(m.name.as_str())).unwrap_or(AT)
}

pub fn restart(story: &mut Story, words: &[&str]) -> Printed {
    asked(story, words, RESTART)
}

pub fn reinit(story: &mut Story, words: &[&str]) -> Printed {
    asked(story, words, reinitialize(false))
}

fn asked(story: &mut Story, words: &[&str], request: Request) -> Printed {
    let [name] = words else { return usage() };
    let member = story.member(name)?;
    let asked = story.world.ask_member(member, request);
    Ok(asked.err().map(|why| format!("refused: {why}")).into_iter().collect())
}

pub fn promote(story: &mut Story, words: &[&str]) -> Printed {
    let [name] = words else { return usage() };
    let member = story.member(name)?;
    // It takes the next number that it knows of; no daemon has claimed one for it.
    story.world.promote(member, 1);
    Ok(Vec::new())
}

pub fn ask_for_move(story: &mut Story, _: &[&str]) -> Printed {
    story.happen(Fault::Move)?;
    Ok(Vec::new())
}

pub fn schedule(story: &mut Story, words: &[&str]) -> Printed {
    let now_ms = story.world.unix_ms();
    let (due_ms, cron) = match words {
        ["in", seconds] => (now_ms + 1_000 * number(seconds)?, None),
        ["by", fields @ ..] => {
            let cron = CronLine { line: fields.join(" "), timezone: "UTC".into() };
            (after(&cron, now_ms)?, Some(cron))
        }
        _ => return usage(),
    };
    let id = format!("s{}", story.world.topology_of(AT).schedules.len() + 1);
    story.world.schedule_move(&id, due_ms, cron);
    Ok(Vec::new())
}

pub fn abort(story: &mut Story, _: &[&str]) -> Printed {
    let asked = story.world.ask_for_abort();
    Ok(asked.err().map(|why| format!("refused: {why}")).into_iter().collect())
}
