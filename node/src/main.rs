//! `matriarch CONFIG`: the daemon beside one PostgreSQL.

use clap::Parser;
use node::command_line::Args;
use node::config::Environment;
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

fn start(args: Args, env: Environment) -> ExitCode {
    let loaded = match node::config::load(args.config.as_deref(), &env) {
        Ok(loaded) => loaded,
        Err(findings) => {
            eprintln!("{findings}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = node::log::apply(&loaded.settings.log) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let origin = node::daemon::Origin { path: args.config, env };
    match run(loaded.settings, origin) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: node::config::Settings, origin: node::daemon::Origin) -> anyhow::Result<i32> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(node::daemon::run::run(settings, origin));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    code
}
