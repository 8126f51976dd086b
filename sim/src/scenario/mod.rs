//! Scenarios: stories on the simulator's world whose outcome is part of their text.
//!
//! A scenario is a text of blocks: commands, a line `----`, and what they print.
//! An empty line ends a block; lines that begin with `#` tell the story. A block
//! without a `show` command ends with `show`; traces and pauses are those of the
//! block. The first command makes the world:
//!
//! ```text
//! # The leader's machine is lost. Another member leads once the lease has ended.
//! cluster a b c ttl=30
//! run 15
//! ----
//! at 15s
//! a  primary  timeline 1  lock  rule 799: no action. I am the leader with the lock
//! b  standby  timeline 1  of a  rule 998: no action. I am a secondary, ...
//!
//! lose a
//! run until leader
//! ----
//! ...
//! ```
//!
//! The world is calm (`world/rng.rs`): all delays are the middle of their range and
//! no fault happens by itself. Times are whole seconds since the start, positions
//! in logs are not shown, and of a decision only the rule and its sentence are. So
//! a text changes when what happens changes. After every event the invariants of
//! `check.rs` are judged; one that breaks is printed, and the story ends.
//!
//! Every command is a row of a table in `command.rs`.

pub mod command;
pub mod condition;
pub mod difference;
pub mod inject;
pub mod making;
pub mod operator;
pub mod show;
pub mod story;
pub mod text;
mod usage;

use command::perform;
use story::Story;
use text::{Block, Part, Text};

/// The same text with what its commands print now.
pub fn replay(text: &str) -> Result<String, String> {
    let mut text = Text::read(text)?;
    let mut story = None;
    for part in &mut text.parts {
        if let Part::Block(block) = part {
            block.output = play(&mut story, block);
        }
    }
    if let (Some(story), true) = (&story, std::env::var_os("MATRIARCH_TRACE").is_some()) {
        story.world.trace.iter().for_each(|line| eprintln!("{line}"));
    }
    Ok(text.write())
}

/// Runs one block; a command that cannot be carried out says so in the output.
fn play(story: &mut Option<Story>, block: &Block) -> Vec<String> {
    let mut output = Vec::new();
    for line in &block.commands {
        if story.as_ref().is_some_and(|story| story.broken) {
            break;
        }
        let printed = perform(story, line).unwrap_or_else(|why| vec![format!("{line}: {why}")]);
        output.extend(printed);
    }
    let shows = block.commands.iter().any(|line| line.starts_with("show"));
    let Some(story) = story else { return output };
    if !shows && !story.broken {
        output.extend(show::members(story));
    }
    story.turn_the_page();
    output
}
