//! `completion` and `man`: completions for shells, and man pages of both programs.
//!
//! Both are made from the definitions that the programs read their command lines with.

use crate::args::pages::{Completion, Man, Program};
use crate::args::whole;
use crate::prompt::Terminal;
use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use std::path::Path;

pub(crate) fn completion(out: &mut Terminal, args: &Completion) -> Result<()> {
    let mut command = match args.program {
        Program::Matriarchctl => whole(),
        Program::Matriarch => daemon(),
    };
    let name = command.get_name().to_string();
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    out.print(&String::from_utf8_lossy(&text))
}

pub(crate) fn man(out: &mut Terminal, args: &Man) -> Result<()> {
    let dir = &args.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let mut count = 0;
    for command in [whole(), daemon()] {
        count += write(&command.disable_help_subcommand(true), &[], dir)?;
    }
    out.say(&format!("{count} pages are in {}", dir.display()))
}

fn daemon() -> Command {
    node::command_line::Args::command()
}

/// The page of a command, which is typed behind these words, and those of the commands below
/// it; their number.
fn write(command: &Command, before: &[&str], dir: &Path) -> Result<usize> {
    let words = [before, &[command.get_name()]].concat();
    let path = dir.join(format!("{}.1", words.join("-")));
    let text = page(command, &words)?;
    std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    below.map(|below| write(below, &words, dir)).try_fold(1, |sum, count| Ok(sum + count?))
}

/// The page is called as its file, and its synopsis is what is typed.
fn page(command: &Command, words: &[&str]) -> Result<String> {
    let command = command.clone().display_name(words.join("-")).bin_name(words.join(" "));
    let mut text = Vec::new();
    let version = concat!("matriarch ", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command).manual("Matriarch").source(version);
    man.render(&mut text).context("the page cannot be made")?;
    Ok(with_examples(&String::from_utf8_lossy(&text)))
}

/// The lines of examples are shown as they are typed: filled or hyphenated they could not be copied.
fn with_examples(page: &str) -> String {
    let Some((before, examples)) = page.split_once(".SH EXTRA\n") else { return page.into() };
    let (examples, after) = match examples.split_once("\n.SH ") {
        Some((examples, after)) => (examples, format!("\n.SH {after}")),
        None => (examples, String::new()),
    };
    let examples = examples.trim_start_matches("Examples:\n").trim_end();
    format!("{before}.SH EXAMPLES\n.nf\n{examples}\n.fi{after}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::recorded;
    use clap::ValueEnum;
    use clap_complete::Shell;

    #[test]
    fn every_shell_completes_commands_and_options_of_both_programs() {
        for shell in Shell::value_variants() {
            let text = |program| {
                let (mut out, screen) = recorded::terminal("");
                completion(&mut out, &Completion { shell: *shell, program }).unwrap();
                screen.text()
            };
            let own = text(Program::Matriarchctl);
            for word in ["switchover", "demote-cluster", "candidate", "remove-group", "doctor"] {
                assert!(own.contains(word), "{shell} lacks {word}");
            }
            assert!(text(Program::Matriarch).contains("validate-config"), "{shell}");
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_options_and_examples() {
        let dir = std::env::temp_dir().join(format!("matriarchctl-man-{}", std::process::id()));
        let (mut out, screen) = recorded::terminal("");
        man(&mut out, &Man { dir: dir.clone() }).unwrap();
        let page = |name: &str| std::fs::read_to_string(dir.join(format!("{name}.1"))).unwrap();
        let found = page("matriarchctl-region-switch");
        for part in [
            ".TH matriarchctl-region-switch 1",
            "\\fBmatriarchctl region switch\\fR",
            "\\-\\-max\\-pause",
            ".SH EXAMPLES\n.nf\n",
        ] {
            assert!(found.contains(part), "{part}:\n{found}");
        }
        assert!(page("matriarch").contains("\\-\\-validate\\-config"));
        let all = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let all: Vec<String> = all.map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert!(all.iter().all(|page| page.contains(".SH EXAMPLES")), "examples on each page");
        let count = all.len();
        assert_eq!(screen.text(), format!("{count} pages are in {}\n", dir.display()));
        assert!(count > 30, "{count}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
