//! Configurations to start from: a sample, and one for a server that runs.
//!
//! What the program cannot know is written as `#FIXME`; a check finds what is
//! left of them. Variables of the environment are laid over the sample as they
//! are laid over a file.
//!
//! | file | job |
//! |---|---|
//! | `host.rs` | what this machine tells: name, address, programs |
//! | `sample.rs` | the sample, from that (pure) |
//! | `dsn.rs` | how to reach the running server |
//! | `server.rs` | what it is asked |
//! | `adopt.rs` | its configuration, from the answers (pure) |

mod adopt;
mod dsn;
mod host;
mod sample;
mod server;

use crate::config::{Environment, environment_document, write_yaml};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what} cannot be written: {source}; name a file in a directory that you may write")]
    Write { what: String, source: std::io::Error },
    #[error("the connection string makes no sense: {0}; write e.g. host=/tmp user=postgres")]
    Dsn(String),
    #[error("PostgreSQL cannot be asked: {0}; name a running server with --dsn or PG* variables")]
    Connect(String),
    #[error("{0} is no superuser; connect as one")]
    NotSuperuser(String),
    #[error("PostgreSQL's file {path} cannot be read: {source}; run this where PostgreSQL runs")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("nothing can be asked at once: {0}")]
    Runtime(std::io::Error),
}

/// A configuration with defaults, what this machine tells and what the
/// environment says.
pub(crate) fn sample(env: &Environment) -> String {
    let mut document = sample::document(&host::look(env));
    topology::document::patch(&mut document, &environment_document(env));
    sample::fill_in_store(&mut document);
    write_yaml(&document)
}

/// A configuration with which the daemon takes over the server that runs here.
pub(crate) fn from_server(dsn: Option<&str>, env: &Environment) -> Result<String, Error> {
    let target = dsn::target(dsn)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answers = runtime.map_err(Error::Runtime)?.block_on(server::ask(target))?;
    let mut document = sample::document(&host::look(env));
    topology::document::patch(&mut document, &environment_document(env));
    sample::fill_in_store(&mut document);
    adopt::lay_over(&mut document, &answers);
    Ok(write_yaml(&document))
}

/// To the file, which may hold passwords, or to standard output.
pub(crate) fn put(text: &str, file: Option<&Path>) -> Result<(), Error> {
    let Some(path) = file else {
        let written = std::io::stdout().write_all(text.as_bytes());
        return written.map_err(|source| Error::Write { what: "standard output".into(), source });
    };
    let failed = |source| Error::Write { what: path.display().to_string(), source };
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)
}
