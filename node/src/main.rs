//! `matriarch CONFIG`: the daemon beside one PostgreSQL.

use clap::Parser;
use node::command_line::Args;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("matriarch: the TLS provider was set twice");
        return ExitCode::FAILURE;
    }
    let env = node::config::take_environment();
    if let Some(code) = args.carry_out(&env) {
        return code;
    }
    let loaded = match node::config::load(args.config.as_deref(), &env) {
        Ok(loaded) => loaded,
        Err(findings) => {
            eprintln!("{findings}");
            return ExitCode::FAILURE;
        }
    };
    node::log::start(&loaded.settings.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(node::daemon::run::run(loaded.settings, args.config));
            runtime.shutdown_timeout(std::time::Duration::from_secs(1));
            code
        }
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
