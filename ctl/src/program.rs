//! Other programs on the operator's terminal: an editor and a pager.

use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names tried for the file that is edited.
const NAMES_MAX: u32 = 100;

/// Lets the operator change a text.
pub(crate) fn edit(text: &str) -> Result<String> {
    let (path, mut file) = scratch_file()?;
    let edited = file
        .write_all(text.as_bytes())
        .context("the text to edit cannot be written")
        .and_then(|()| run_editor(&path))
        .and_then(|()| std::fs::read_to_string(&path).context("the edited text cannot be read"));
    // What is left behind is readable by its owner only.
    let _ = std::fs::remove_file(&path);
    edited
}

fn scratch_file() -> Result<(PathBuf, File)> {
    for number in 0..NAMES_MAX {
        let name = format!("matriarchctl-{}-{number}.yaml", std::process::id());
        let path = std::env::temp_dir().join(name);
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => bail!("{} cannot be written: {e}", path.display()),
        }
    }
    bail!("{} is full of files of this program", std::env::temp_dir().display())
}

fn run_editor(path: &Path) -> Result<()> {
    let chosen = std::env::var("EDITOR").ok().filter(|name| !name.trim().is_empty());
    for editor in chosen.iter().map(String::as_str).chain(["editor", "vi"]) {
        let mut words = editor.split_whitespace();
        let Some(program) = words.next() else {
            continue;
        };
        match Command::new(program).args(words).arg(path).status() {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => bail!("{editor} ended with {status}; nothing is changed"),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => bail!("{editor} cannot be started: {e}"),
        }
    }
    bail!("EDITOR is not set, and neither `editor` nor `vi` is there; use -s or --apply")
}

/// Shows a long text with a pager. False: there is none.
pub(crate) fn page(text: &str) -> bool {
    let chosen = std::env::var("PAGER").ok().filter(|name| !name.trim().is_empty());
    for pager in chosen.iter().map(String::as_str).chain(["less -FRX", "more"]) {
        let mut words = pager.split_whitespace();
        let Some(program) = words.next() else {
            continue;
        };
        let Ok(mut child) = Command::new(program).args(words).stdin(Stdio::piped()).spawn() else {
            continue;
        };
        if let Some(mut input) = child.stdin.take() {
            // A pager that was left early does not read the rest.
            let _ = input.write_all(text.as_bytes());
        }
        return child.wait().is_ok();
    }
    false
}
