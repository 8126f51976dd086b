//! How a command ends that asked several members: what each said is printed, and one that did
//! not do it makes the whole command fail.

use anyhow::{Result, bail};

/// Something was found that the exit code tells; it is printed.
#[derive(Debug, thiserror::Error)]
#[error("something was found")]
pub(crate) struct Found(pub u8);

/// Members that were asked, and those that did not do it.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    count: usize,
    failed: Vec<String>,
}

impl Asked {
    pub(crate) fn note(&mut self, name: impl ToString, is_done: bool) {
        self.count += 1;
        if !is_done {
            self.failed.push(name.to_string());
        }
    }

    pub(crate) fn end(self, action: &str) -> Result<()> {
        let Asked { count, failed } = self;
        if failed.is_empty() {
            return Ok(());
        }
        let (number, names) = (failed.len(), failed.join(", "));
        bail!("{action} failed on {number} of {count} members: {names}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_that_fails_makes_the_command_fail() {
        let mut asked = Asked::default();
        asked.note("n1", true);
        assert!(Asked::default().end("restart").is_ok(), "none was asked");
        asked.note("n2", false);
        let error = asked.end("restart").unwrap_err();
        assert_eq!(error.to_string(), "restart failed on 1 of 2 members: n2");
    }
}
