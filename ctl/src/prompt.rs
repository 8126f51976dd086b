//! The terminal: what is printed and what is asked.
//!
//! Questions are plain lines: the answer may come from a pipe as well as from
//! a keyboard. The end of the input, and a "no" to a question that everything
//! hangs on, abort the command without a change.

use anyhow::{Context, Result};
use std::io::{BufRead, Write};

/// No operator answers wrongly this often; a broken pipe of answers might.
const ASKS_MAX: usize = 20;

/// The operator (or the end of the input) said no.
#[derive(Debug, thiserror::Error)]
#[error("Aborted!")]
pub(crate) struct Aborted;

/// What came back on a question.
enum Answer {
    Line(String),
    /// No text: a terminal that erases bytes leaves half of a letter. Nothing in it
    /// is guessed at, it is a wrong answer.
    Garbled,
}

/// Printed before a question is asked again.
const INVALID: &str = "Error: invalid input";

pub(crate) struct Terminal {
    input: Box<dyn BufRead + Send + Sync>,
    output: Box<dyn Write + Send + Sync>,
    notes: Box<dyn Write + Send + Sync>,
    /// A person looks at the output: colours and pagers make sense.
    pub is_interactive: bool,
    /// There is a terminal on which a password is typed unseen, wherever the input comes from.
    pub has_tty: bool,
}

impl Terminal {
    pub(crate) fn new(
        input: impl BufRead + Send + Sync + 'static,
        output: impl Write + Send + Sync + 'static,
        notes: impl Write + Send + Sync + 'static,
    ) -> Terminal {
        Terminal {
            input: Box::new(input),
            output: Box::new(output),
            notes: Box::new(notes),
            is_interactive: false,
            has_tty: false,
        }
    }

    /// Prints text as it is.
    pub(crate) fn print(&mut self, text: &str) -> Result<()> {
        self.output.write_all(text.as_bytes()).context("cannot write to the output")?;
        self.output.flush().context("cannot write to the output")
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        self.print(&format!("{line}\n"))
    }

    /// A remark that is no part of the output.
    pub(crate) fn note(&mut self, line: &str) -> Result<()> {
        writeln!(self.notes, "{line}").context("cannot write to the error output")
    }

    /// One line of input without its end; an error at the end of the input.
    fn answer(&mut self) -> Result<Answer> {
        let mut line = Vec::new();
        let read = self.input.read_until(b'\n', &mut line).context("cannot read the answer")?;
        if read == 0 {
            return Err(Aborted.into());
        }
        let line = String::from_utf8(line).ok();
        Ok(line.map_or(Answer::Garbled, |line| {
            Answer::Line(line.trim_end_matches(['\n', '\r']).to_string())
        }))
    }

    /// Everything that is left of the input.
    pub(crate) fn rest(&mut self) -> Result<String> {
        let mut text = String::new();
        self.input.read_to_string(&mut text).context("cannot read the standard input")?;
        Ok(text)
    }

    /// Asks until there is an answer; an empty one takes the default.
    pub(crate) fn ask(&mut self, question: &str, default: Option<&str>) -> Result<String> {
        let hint = default.map_or(String::new(), |d| format!(" [{d}]"));
        for _ in 0..ASKS_MAX {
            self.print(&format!("{question}{hint}: "))?;
            match (self.answer()?, default) {
                (Answer::Garbled, _) => self.say(INVALID)?,
                (Answer::Line(line), _) if !line.is_empty() => return Ok(line),
                (Answer::Line(_), Some(default)) => return Ok(default.to_string()),
                (Answer::Line(_), None) => {}
            }
        }
        Err(Aborted.into())
    }

    /// Asks for a number of the named kind.
    pub(crate) fn ask_number(&mut self, question: &str) -> Result<u32> {
        for _ in 0..ASKS_MAX {
            let answer = self.ask(question, None)?;
            if let Ok(number) = answer.trim().parse() {
                return Ok(number);
            }
            self.say(&format!("Error: '{answer}' is not a valid integer."))?;
        }
        Err(Aborted.into())
    }

    /// Asks for a password: unseen on a terminal, else a line of the input.
    pub(crate) fn ask_password(&mut self, user: &str) -> Result<String> {
        if self.has_tty {
            let asked = node::password::ask(user);
            return asked.context("the password cannot be asked for; set PGPASSWORD");
        }
        self.ask(&format!("Password of {user}"), None)
    }

    /// Goes on only after a yes; an empty answer is a no.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<()> {
        if self.is_confirmed(question)? { Ok(()) } else { Err(Aborted.into()) }
    }

    /// A yes or a no; an empty answer is a no.
    pub(crate) fn is_confirmed(&mut self, question: &str) -> Result<bool> {
        for _ in 0..ASKS_MAX {
            self.print(&format!("{question} [y/N]: "))?;
            let word = match self.answer()? {
                Answer::Line(line) => line.trim().to_ascii_lowercase(),
                Answer::Garbled => INVALID.to_string(),
            };
            match word.as_str() {
                "y" | "yes" => return Ok(true),
                "n" | "no" | "" => return Ok(false),
                _ => self.say(INVALID)?,
            }
        }
        Err(Aborted.into())
    }
}

#[cfg(test)]
pub(crate) mod recorded {
    //! A terminal with prepared answers whose output can be read.

    use super::Terminal;
    use std::io::{Cursor, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    pub(crate) struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Screen {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn terminal(answers: impl AsRef<[u8]>) -> (Terminal, Screen) {
        let screen = Screen::default();
        let input = Cursor::new(answers.as_ref().to_vec());
        (Terminal::new(input, screen.clone(), screen.clone()), screen)
    }
}

#[cfg(test)]
mod tests {
    use super::recorded::terminal;
    use super::*;

    #[test]
    fn answers_come_from_a_pipe_and_defaults_from_empty_lines() {
        let (mut terminal, screen) = terminal("\nn2\nmaybe\ny\n");
        assert_eq!(terminal.ask("Primary", Some("n1")).unwrap(), "n1");
        assert_eq!(terminal.ask("Candidate ['n2'] []", None).unwrap(), "n2");
        assert!(terminal.is_confirmed("Sure?").unwrap());
        let text =
            "Primary [n1]: Candidate ['n2'] []: Sure? [y/N]: Error: invalid input\nSure? [y/N]: ";
        assert_eq!(screen.text(), text);
    }

    #[test]
    fn the_end_of_the_input_and_a_no_abort() {
        let (mut terminal, screen) = terminal("\n");
        assert!(terminal.confirm("Sure?").unwrap_err().is::<Aborted>());
        let error = terminal.ask("Please confirm the cluster name to remove", None).unwrap_err();
        assert!(error.is::<Aborted>());
        assert!(screen.text().ends_with("to remove: "));
    }

    /// Erasing takes one byte of a letter that has two.
    #[test]
    fn p6_half_a_letter_is_a_wrong_answer_and_asked_again() {
        let (mut terminal, screen) = terminal(b"\xc3y\ny\n\xc3\nn2\n\xc3\n7\n\xc3\n");
        assert!(terminal.is_confirmed("Sure?").unwrap());
        assert_eq!(terminal.ask("Candidate", None).unwrap(), "n2");
        assert_eq!(terminal.ask_number("Citus group").unwrap(), 7);
        assert_eq!(screen.text().matches("Error: invalid input\n").count(), 3);
        assert!(terminal.confirm("Sure?").unwrap_err().is::<Aborted>(), "the input ends");
    }

    #[test]
    fn wrong_answers_do_not_loop_for_ever() {
        let (mut terminal, screen) = terminal("x\n".repeat(1000));
        assert!(terminal.ask_number("Citus group").unwrap_err().is::<Aborted>());
        assert_eq!(screen.text().matches("not a valid integer").count(), ASKS_MAX);
    }
}
