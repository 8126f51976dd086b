//! Asks a person for a password, on the terminal and unseen.

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};

const BYTES_MAX: u64 = 4096;
/// Half of a letter may be left when a terminal erases bytes: asked again.
const ASKS_MAX: usize = 3;

/// Without a terminal there is no user to ask: an error.
pub fn ask(user: &str) -> io::Result<String> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    for _ in 0..ASKS_MAX {
        write!(terminal, "Password of {user}: ")?;
        let hidden = Hidden::hide(terminal.try_clone()?)?;
        let mut line = Vec::new();
        BufReader::new(terminal.try_clone()?.take(BYTES_MAX)).read_until(b'\n', &mut line)?;
        drop(hidden);
        writeln!(terminal)?;
        if let Ok(line) = String::from_utf8(line) {
            return Ok(line.trim_end_matches(['\n', '\r']).to_string());
        }
        writeln!(terminal, "Error: invalid input")?;
    }
    Err(io::Error::other("what was typed is no text"))
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
