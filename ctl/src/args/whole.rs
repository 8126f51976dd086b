//! The whole command line: what the definitions say, with what is the same for all commands.
//!
//! Help, completions and man pages are made from it. The options of the place (which
//! configuration file, which store) may stand before a command or behind it. A command that has
//! an option with the same letter keeps the letter: behind `query`, `-c` is its SQL.

use super::examples::{EXAMPLES, Example};
use super::{Args, Place};
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, value_parser};
use std::ffi::OsString;
use std::path::PathBuf;

const CONFIG_FILE: &str = "place_config_file";
const DCS_URL: &str = "place_dcs_url";
const INSECURE: &str = "place_insecure";
/// These ask no store.
const PLACELESS: [&str; 3] = ["demo", "completion", "man"];

impl Args {
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
        let mut matches = whole().try_get_matches_from(line)?;
        let behind = Place::behind(&matches);
        let mut args = Args::from_arg_matches_mut(&mut matches)?;
        args.place = behind.or(args.place);
        Ok(args)
    }
}

impl Place {
    /// What stands behind the command.
    fn behind(matches: &ArgMatches) -> Place {
        let mut place = Place::default();
        let mut next = matches.subcommand();
        while let Some((_, matches)) = next {
            let one = Place {
                config_file: given(matches, CONFIG_FILE),
                dcs_url: given(matches, DCS_URL),
                insecure: given(matches, INSECURE).unwrap_or_default(),
            };
            place = one.or(place);
            next = matches.subcommand();
        }
        place
    }

    /// What is not given here is taken from there.
    fn or(self, other: Place) -> Place {
        Place {
            config_file: self.config_file.or(other.config_file),
            dcs_url: self.dcs_url.or(other.dcs_url),
            insecure: self.insecure || other.insecure,
        }
    }
}

fn given<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, id: &str) -> Option<T> {
    // A command without the option knows no such name.
    matches.try_get_one::<T>(id).ok().flatten().cloned()
}

/// The definition that help, completions and man pages are made from.
pub(crate) fn whole() -> Command {
    complete(Args::command(), "")
}

fn complete(command: Command, path: &str) -> Command {
    let is_top = path.is_empty();
    let command = command.mut_subcommands(|below| {
        let name = below.get_name();
        let path = if is_top { name.to_string() } else { format!("{path} {name}") };
        complete(below, &path)
    });
    let command = match EXAMPLES.iter().find(|(of, _)| *of == path) {
        Some((_, examples)) => command.after_help(text(examples)),
        None => command,
    };
    let takes_place =
        !is_top && !path.split(' ').next().is_some_and(|first| PLACELESS.contains(&first));
    if takes_place { with_place(command) } else { command }
}

fn text(examples: &[Example]) -> String {
    let lines = examples.iter().map(|(line, why)| format!("  # {why}\n  {line}"));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

fn with_place(command: Command) -> Command {
    let is_taken =
        |letter: char| command.get_arguments().any(|arg| arg.get_short() == Some(letter));
    let short = |arg: Arg, letter: char| if is_taken(letter) { arg } else { arg.short(letter) };
    let config = Arg::new(CONFIG_FILE)
        .long("config-file")
        .value_name("TEXT")
        .value_parser(value_parser!(PathBuf))
        .help("Configuration file");
    let url = Arg::new(DCS_URL)
        .long("dcs-url")
        .visible_alias("dcs")
        .value_name("TEXT")
        .help("The DCS connect url");
    let insecure = Arg::new(INSECURE)
        .long("insecure")
        .action(ArgAction::SetTrue)
        .help("Allow connections to SSL sites without certs");
    let all = [(config, 'c'), (url, 'd'), (insecure, 'k')];
    let all = all.map(|(arg, letter)| short(arg, letter).help_heading("Options of all commands"));
    command.args(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Args {
        let words = line.split(' ').map(OsString::from);
        Args::read(words).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Every command, with its path and without those that only have others below them.
    fn commands(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            let path = format!("{path} {}", below.get_name()).trim_start().to_string();
            commands(below, &path, found);
            found.push((path, below.clone()));
        }
    }

    #[test]
    fn the_definitions_are_consistent() {
        whole().debug_assert();
    }

    #[test]
    fn the_place_may_stand_before_and_behind_a_command() {
        for line in [
            "m -c f.yml -d etcd3://h -k list",
            "m list -c f.yml -d etcd3://h -k",
            "m region -c f.yml -d etcd3://h list -k",
            "m region list -c f.yml --dcs etcd3://h --insecure",
            "m -c other.yml -k list -c f.yml -d etcd3://h",
        ] {
            let Place { config_file, dcs_url, insecure } = read(line).place;
            assert_eq!(config_file, Some("f.yml".into()), "{line}");
            assert_eq!((dcs_url.as_deref(), insecure), (Some("etcd3://h"), true), "{line}");
        }
        assert!(!read("m list -c f.yml").place.insecure);
    }

    #[test]
    fn every_command_but_those_without_a_cluster_takes_a_place() {
        let mut all = Vec::new();
        commands(&whole(), "", &mut all);
        for (path, command) in all {
            let takes = command.get_arguments().any(|arg| arg.get_long() == Some("config-file"));
            let has_place = !PLACELESS.contains(&path.split(' ').next().expect("a word"));
            assert_eq!(takes, has_place, "{path}");
        }
    }

    #[test]
    fn behind_query_its_own_letters_count() {
        let args = read("m -c f.yml query -c x -d shop --dcs-url h:1");
        assert_eq!(args.place.config_file, Some("f.yml".into()));
        assert_eq!(args.place.dcs_url.as_deref(), Some("h:1"));
        let super::super::Command::Query(query) = args.command else { panic!("no query") };
        assert_eq!((query.command.as_deref(), query.dbname.as_deref()), (Some("x"), Some("shop")));
    }

    #[test]
    fn every_command_has_examples_that_are_understood() {
        let mut all = Vec::new();
        commands(&whole(), "", &mut all);
        assert!(all.len() > 30, "{}", all.len());
        for (path, command) in &all {
            let help = command.clone().render_help().to_string();
            assert!(help.contains("Examples:\n  # "), "{path} has no example:\n{help}");
        }
        for (path, examples) in EXAMPLES {
            let is_known = path.is_empty() || all.iter().any(|(known, _)| known == path);
            assert!(is_known, "there is no command {path}");
            for (line, _) in *examples {
                let words = line.replace(['\'', '"'], "");
                assert!(words.starts_with("matriarchctl ") && words.contains(path), "{line}");
                // Values with blanks are one word there.
                let words = line.split('\'').enumerate().flat_map(|(at, part)| match at % 2 {
                    0 => part.split_whitespace().map(str::to_string).collect(),
                    _ => vec![part.to_string()],
                });
                let read = Args::read(words.map(OsString::from));
                assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
            }
        }
    }
}
