//! Every command of a scenario is a row of this table.
//!
//! A command prints nothing when it simply happened.

use super::story::Story;
use super::{condition, inject, making, operator, show};

type Printed = Result<Vec<String>, String>;

pub struct Command {
    pub name: &'static str,
    /// What follows the name.
    pub usage: &'static str,
    run: fn(&mut Story, &[&str]) -> Printed,
}

const fn row(
    name: &'static str,
    usage: &'static str,
    run: fn(&mut Story, &[&str]) -> Printed,
) -> Command {
    Command { name, usage, run }
}

/// Commands that make a world; the first of a scenario is one of them.
pub const MAKING: [(&str, &str); 2] = [
    (
        "cluster",
        "MEMBER.. [KEY=VALUE..]: one group; keys are those of /config, or seed, wal=removed, places",
    ),
    (
        "formation",
        "[KEY=VALUE..]: two regions of two groups of two members, a0n0 to b1n1; or citus=on, regions=3",
    ),
];

pub const COMMANDS: &[Command] = &[
    // What the members' own files say.
    row("tag", "MEMBER KEY=VALUE..: tags", making::tag),
    row("permit", "MEMBER nothing|rewind|rebuild|all: when its log has left", making::permit),
    // Time.
    row("run", "SECONDS | until CONDITION [within SECONDS]", condition::run),
    // Faults.
    row("crash", "MEMBER: its postmaster dies", inject::crash),
    row("kill", "MEMBER: its daemon dies and stays away until `start`", inject::kill),
    row("start", "MEMBER: its daemon starts, and its machine comes back", inject::start),
    row("end", "MEMBER: its daemon is told to end, and stays away", inject::end),
    row("freeze", "MEMBER: its daemon stands still, its server does not", inject::freeze),
    row("thaw", "MEMBER", inject::thaw),
    row("lose", "MEMBER: the machine is away; its disk keeps what it has", inject::lose),
    row("cut", "MEMBER MEMBER|store [rest|replication] | regions", inject::cut),
    row("heal", "as `cut`", inject::heal),
    row(
        "store",
        "down|up|wiped|saved|restored|replaced|slow MS|lossy PERCENT [of REGION]",
        inject::store,
    ),
    row("disk", "MEMBER full|broken|well", inject::disk),
    row("lag", "MEMBER MS: it receives the log later by that", inject::lag),
    row("hang", "MEMBER MS: its server stops later by that", inject::hang),
    row("mute", "MEMBER: its server answers no new session", inject::mute),
    row("unmute", "MEMBER", inject::unmute),
    // The operator.
    row("config", "KEY=VALUE..: changes /config; null takes a key away", operator::config),
    row("pause", "", operator::pause),
    row("resume", "", operator::resume),
    row("switchover", "[to MEMBER]", operator::switchover),
    row("failover", "to MEMBER", operator::failover),
    row("restart", "MEMBER: its server", operator::restart),
    row("reinit", "MEMBER", operator::reinit),
    row("promote", "MEMBER: its server, by hand", operator::promote),
    row("move", "to the other region, as an operator asks for it", operator::ask_for_move),
    row(
        "schedule",
        "in SECONDS | by MINUTE HOUR DAY MONTH WEEKDAY: such a move, in UTC",
        operator::schedule,
    ),
    row("abort", "the move that is under way, as an operator asks for it", operator::abort),
    // What there is to see.
    row(
        "show",
        "[members | keys [KEY..] | trace [MEMBER..] | clients | move | schedules | slots | nodes]",
        show::show,
    ),
];

pub fn perform(story: &mut Option<Story>, line: &str) -> Printed {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, rest) = words.split_first().ok_or("there is no command")?;
    let Some(story) = story else {
        *story = Some(making::story(name, rest)?);
        return Ok(Vec::new());
    };
    let row = COMMANDS.iter().find(|command| command.name == *name);
    let row = row.ok_or("there is no such command")?;
    (row.run)(story, rest).map_err(|why| match why.is_empty() {
        true => format!("usage: {} {}", row.name, row.usage),
        false => why,
    })
}
