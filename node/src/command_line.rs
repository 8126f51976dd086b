//! The command line of `matriarch`: run, or one of three modes that only check
//! or write a configuration and end.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 a command line that is none.
//!
//! Absent on purpose: running (`main.rs`).

use crate::config::{self, Environment, Ports};
use crate::generate;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Ends the help and the man page.
const EXAMPLES: &str = "\
Examples:
  # check everything that can be checked, and end
  matriarch --validate-config /etc/patroni/pg1.yml
  # write a configuration for the server that runs here
  matriarch --generate-config --dsn 'host=/var/run/postgresql user=postgres' pg1.yml
  # run
  matriarch /etc/patroni/pg1.yml";

/// Keeps one PostgreSQL and its group highly available.
#[derive(Debug, Parser)]
#[command(name = "matriarch", version, after_help = EXAMPLES)]
pub struct Args {
    /// A YAML file or a directory of them; without it the environment counts.
    /// With --generate-...: the file to write, else standard output.
    #[arg(value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the configuration, this machine and the store, and end.
    #[arg(long, group = "mode")]
    pub validate_config: bool,

    /// Write a configuration to start from, with #FIXME where nothing is known.
    #[arg(long, group = "mode")]
    pub generate_sample_config: bool,

    /// Write a configuration for the PostgreSQL that runs here.
    #[arg(long, group = "mode")]
    pub generate_config: bool,

    /// How to reach that PostgreSQL, as a superuser; else the PG* variables say.
    #[arg(long)]
    pub dsn: Option<String>,

    /// When checking: the ports to listen on may be in use.
    #[arg(short, long)]
    pub ignore_listen_port: bool,

    /// When checking: print the configuration, variables included.
    #[arg(short, long)]
    pub print: bool,
}

impl Args {
    /// Does what a mode asks for. `None`: the daemon is to run.
    pub fn carry_out(&self, env: &Environment) -> Option<ExitCode> {
        if self.validate_config {
            return Some(self.validate(env));
        }
        let text = match (self.generate_sample_config, self.generate_config) {
            (true, _) => Ok(generate::sample(env)),
            (_, true) => generate::from_server(self.dsn.as_deref(), env),
            _ => return None,
        };
        let written = text.and_then(|text| generate::put(&text, self.config.as_deref()));
        Some(match written {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("matriarch: {error}");
                ExitCode::FAILURE
            }
        })
    }

    fn validate(&self, env: &Environment) -> ExitCode {
        let ports = if self.ignore_listen_port { Ports::MayBeInUse } else { Ports::MustBeFree };
        match config::examine(self.config.as_deref(), env, ports) {
            Ok(checked) => {
                for warning in &checked.warnings {
                    eprintln!("warning: {warning}");
                }
                if self.print {
                    print!("{}", config::write_yaml(&checked.document));
                }
                ExitCode::SUCCESS
            }
            Err(findings) => {
                eprintln!("{findings}");
                ExitCode::FAILURE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn refused(words: &[&str]) -> (ErrorKind, i32) {
        let words = std::iter::once(&"matriarch").chain(words);
        let error = Args::try_parse_from(words).unwrap_err();
        (error.kind(), error.exit_code())
    }

    #[test]
    fn the_three_modes_exclude_each_other() {
        let modes = ["--validate-config", "--generate-config", "--generate-sample-config"];
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            let (kind, code) = refused(&[modes[one], modes[other]]);
            assert_eq!((kind, code), (ErrorKind::ArgumentConflict, 2));
        }
    }

    #[test]
    fn an_unknown_option_ends_with_2_and_the_version_with_0() {
        assert_eq!(refused(&["--nonsense"]), (ErrorKind::UnknownArgument, 2));
        assert_eq!(refused(&["a.yml", "b.yml"]).1, 2);
        assert_eq!(refused(&["--version"]), (ErrorKind::DisplayVersion, 0));
        let text = Args::try_parse_from(["matriarch", "--version"]).unwrap_err().to_string();
        assert!(text.starts_with("matriarch ") && text.contains('.'), "{text}");
    }

    #[test]
    fn the_examples_of_the_help_are_understood() {
        for line in EXAMPLES.lines().filter(|line| line.starts_with("  matriarch ")) {
            let words = line.split('\'').enumerate().flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            });
            assert!(Args::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn options_may_stand_before_and_after_the_file() {
        let args = Args::parse_from(["matriarch", "--validate-config", "a.yml", "-i", "-p"]);
        assert!(args.validate_config && args.ignore_listen_port && args.print);
        assert_eq!(args.config, Some(PathBuf::from("a.yml")));
        let args = Args::parse_from(["matriarch", "--generate-config", "--dsn", "host=a", "o.yml"]);
        assert_eq!((args.dsn.as_deref(), args.config.is_some()), (Some("host=a"), true));
        assert!(Args::parse_from(["matriarch", "a.yml"]).carry_out(&Environment::new()).is_none());
    }
}
