//! `matriarchctl`: the operator's command for a formation.
//!
//! Exit codes are those that scripts rely on: 0 done, 1 an error or an abort,
//! 2 a wrong command line. A refusal by a member is an error.

mod args;
mod command;
mod diff;
mod edit;
#[cfg(test)]
mod fixture;
#[cfg(test)]
#[path = "../../topology/src/made_up.rs"]
mod made_up;
#[cfg(test)]
#[path = "../../topology/src/made_up_move.rs"]
mod made_up_move;
mod members;
mod moment;
mod output;
mod place;
mod program;
mod prompt;
mod rest;
mod sql;
mod table;
mod tree;
mod word;
mod world;
mod yaml;

use args::Args;
use std::process::ExitCode;

/// Questions block the thread they are asked on; Ctrl-C needs another one.
const THREADS: usize = 2;

fn main() -> ExitCode {
    let args = Args::read(std::env::args_os()).unwrap_or_else(|wrong| wrong.exit());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error)),
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = tokio::spawn(command::run(args)) => outcome.unwrap_or_else(|e| Err(e.into())),
            _ = tokio::signal::ctrl_c() => Err(prompt::Aborted.into()),
        }
    });
    // A thread that still waits for an answer must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    if let Some(command::Found(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    if error.is::<prompt::Aborted>() {
        eprintln!("Aborted!");
    } else {
        eprintln!("Error: {error:#}");
    }
    ExitCode::from(1)
}
