//! `matriarch CONFIG`: the daemon beside one PostgreSQL.

mod math;

use clap::Parser;
use node::command_line::Args;
use node::config::Environment;
use node::daemon::Origin;
use node::daemon::unwatched::{self, Attempts, Charge};
use std::process::ExitCode;

/// Lines of the log are lost that waited to be written.
const LOG_LOST: u8 = 5;

fn main() -> ExitCode {
    if node::init::is_needed() {
        return node::init::run();
    }
    node::init::unblock_signals();
    let args = Args::parse();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("matriarch: the TLS provider was set twice");
        return ExitCode::FAILURE;
    }
    let env = node::config::take_environment();
    if let Some(code) = args.carry_out(&env) {
        return code;
    }
    if let Err(error) = node::log::start() {
        eprintln!("matriarch: {error}");
        return ExitCode::FAILURE;
    }
    let code = start(args, env);
    if node::log::flush() { code } else { ExitCode::from(LOG_LOST) }
}

/// A start that fails beside a running primary is tried again for a while; in the
/// end that primary does not run on without a daemon.
fn start(args: Args, env: Environment) -> ExitCode {
    let origin = Origin { path: args.config, env };
    let mut attempts = Attempts::default();
    loop {
        let charge = match attempt(&origin) {
            Ok(code) => return code,
            Err(charge) => charge,
        };
        if !attempts.failed(charge.as_ref()) {
            return ExitCode::FAILURE;
        }
    }
}

/// Starts the daemon and runs it to its end. On an error, which was reported: the
/// server that this daemon was to watch.
fn attempt(origin: &Origin) -> Result<ExitCode, Option<Charge>> {
    let loaded = match node::config::load(origin.path.as_deref(), &origin.env) {
        Ok(loaded) => loaded,
        Err(findings) => {
            eprintln!("{findings}");
            return Err(charge_of_broken(origin));
        }
    };
    let charge = Charge::of(&loaded.settings);
    if let Err(error) = node::log::apply(&loaded.settings.log) {
        eprintln!("{error}");
        return Err(Some(charge));
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match run(loaded.settings, origin.clone()) {
        Ok(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        Err(error) => {
            tracing::error!("{error:#}");
            Err(Some(charge))
        }
    }
}

fn charge_of_broken(origin: &Origin) -> Option<Charge> {
    let env = origin.env.get("PATRONI_POSTGRESQL_DATA_DIR").map(String::as_str);
    let text = origin.path.as_deref().and_then(|path| std::fs::read_to_string(path).ok());
    unwatched::data_dir_of(&text.unwrap_or_default(), env).map(Charge::in_directory)
}

fn run(settings: node::config::Settings, origin: node::daemon::Origin) -> anyhow::Result<i32> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // On the heap, where it takes what it needs; on the stack each move of it stays resident.
    let code = runtime.block_on(Box::pin(node::daemon::run::run(settings, origin)));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}
