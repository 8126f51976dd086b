//! Faults, as a text names them.

use super::story::Story;
use super::usage::usage;
use crate::world::disk::Health;
use crate::world::fault::Fault;
use crate::world::links::Wire;
use crate::world::region::region_name;

type Printed = Result<Vec<String>, String>;

fn one(story: &mut Story, words: &[&str], fault: fn(usize) -> Fault) -> Printed {
    let [name] = words else { return usage() };
    let member = story.member(name)?;
    story.happen(fault(member))?;
    Ok(Vec::new())
}

pub fn crash(story: &mut Story, words: &[&str]) -> Printed {
    one(story, words, Fault::CrashServer)
}

pub fn freeze(story: &mut Story, words: &[&str]) -> Printed {
    one(story, words, Fault::Freeze)
}

pub fn thaw(story: &mut Story, words: &[&str]) -> Printed {
    one(story, words, Fault::Thaw)
}

pub fn mute(story: &mut Story, words: &[&str]) -> Printed {
    one(story, words, |member| Fault::Mute(member, true))
}

pub fn unmute(story: &mut Story, words: &[&str]) -> Printed {
    one(story, words, |member| Fault::Mute(member, false))
}

pub fn kill(story: &mut Story, words: &[&str]) -> Printed {
    hold(story, words)?;
    one(story, words, Fault::KillDaemon)
}

pub fn end(story: &mut Story, words: &[&str]) -> Printed {
    hold(story, words)?;
    one(story, words, Fault::Terminate)
}

fn hold(story: &mut Story, words: &[&str]) -> Result<usize, String> {
    let member = story.member(words.first().unwrap_or(&""))?;
    story.held.insert(member);
    Ok(member)
}

pub fn start(story: &mut Story, words: &[&str]) -> Printed {
    let member = story.member(words.first().unwrap_or(&""))?;
    story.held.remove(&member);
    if story.lost.remove(&member) {
        story.world.isolate(member, false);
    }
    one(story, words, Fault::StartDaemon)
}

pub fn lose(story: &mut Story, words: &[&str]) -> Printed {
    let member = hold(story, words)?;
    story.lost.insert(member);
    story.world.isolate(member, true);
    one(story, words, Fault::CrashNode)
}

fn between(story: &mut Story, a: usize, b: usize, wires: &[Wire], cut: bool) {
    for wire in wires {
        match cut {
            true => story.world.links.cut(*wire, a, b),
            false => story.world.links.heal(*wire, a, b),
        }
    }
}

pub fn cut(story: &mut Story, words: &[&str]) -> Printed {
    link(story, words, true)
}

pub fn heal(story: &mut Story, words: &[&str]) -> Printed {
    link(story, words, false)
}

fn link(story: &mut Story, words: &[&str], cut: bool) -> Printed {
    match (words, cut) {
        (["regions"], true) => story.happen(Fault::CutRegions)?,
        (["regions"], false) => story.happen(Fault::HealRegions)?,
        ([name, "store"], true) => story.happen(Fault::CutStore(story.member(name)?))?,
        ([name, "store"], false) => story.happen(Fault::HealStore(story.member(name)?))?,
        ([a, b, wire @ ..], _) => {
            let (a, b) = (story.member(a)?, story.member(b)?);
            let wires: &[Wire] = match wire {
                [] => &[Wire::Rest, Wire::Replication],
                ["rest"] => &[Wire::Rest],
                ["replication"] => &[Wire::Replication],
                _ => return usage(),
            };
            between(story, a, b, wires, cut);
        }
        _ => return usage(),
    }
    Ok(Vec::new())
}

pub fn store(story: &mut Story, words: &[&str]) -> Printed {
    let (words, region) = match words {
        [words @ .., "of", region] => (words, region_of(story, region)?),
        _ => (words, 0),
    };
    let fault = match words {
        ["down"] => Fault::StoreDown(region),
        ["up"] => Fault::StoreUp(region),
        ["wiped"] => Fault::Wipe(region),
        ["saved"] => Fault::Save(region),
        ["restored"] => Fault::Restore(region),
        ["replaced"] => Fault::Replace(region),
        ["slow", ms] => Fault::Slow(region, number(ms)?),
        ["lossy", percent] => Fault::Lossy(region, number(percent)?),
        _ => return usage(),
    };
    story.happen(fault)?;
    Ok(Vec::new())
}

fn region_of(story: &Story, name: &str) -> Result<usize, String> {
    let mut regions = 0..story.world.stores.regions.len();
    regions.find(|r| region_name(*r).as_str() == name).ok_or(format!("there is no region {name}"))
}

pub fn disk(story: &mut Story, words: &[&str]) -> Printed {
    let [name, health] = words else { return usage() };
    let health = match *health {
        "full" => Health::Full,
        "broken" => Health::Broken,
        "well" => Health::Well,
        _ => return usage(),
    };
    story.happen(Fault::Disk(story.member(name)?, health))?;
    Ok(Vec::new())
}

pub fn lag(story: &mut Story, words: &[&str]) -> Printed {
    let [name, ms] = words else { return usage() };
    story.happen(Fault::Lag(story.member(name)?, number(ms)?))?;
    Ok(Vec::new())
}

pub fn hang(story: &mut Story, words: &[&str]) -> Printed {
    let [name, ms] = words else { return usage() };
    story.happen(Fault::SlowStop(story.member(name)?, number(ms)?))?;
    Ok(Vec::new())
}

pub fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}
