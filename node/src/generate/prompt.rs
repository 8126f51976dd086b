//! Asks a person for a password, on the terminal and unseen.

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

const CHARACTERS_MAX: u64 = 4096;

/// Without a terminal there is nobody to ask: an error.
pub fn password(user: &str) -> io::Result<String> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    write!(terminal, "Password of {user}: ")?;
    let hidden = Hidden::hide(terminal.try_clone()?)?;
    let mut line = String::new();
    BufReader::new(terminal.try_clone()?.take(CHARACTERS_MAX)).read_line(&mut line)?;
    drop(hidden);
    writeln!(terminal)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_string())
}

/// What is typed is not shown as long as this lives.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn hide(terminal: File) -> io::Result<Hidden> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &quiet)?;
        Ok(Hidden { terminal, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing either.
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
