//! A driver for tests: tells a FIFO what it would do to a device.
//!
//! `Ctimeout=15\n` when the timeout is set, `1` each time it is fed, `V` before a
//! clean close. A FIFO that no program reads counts as a missing device.

use super::Device;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(super) struct Fifo(File);

impl Fifo {
    pub(super) fn open(path: &Path) -> io::Result<Fifo> {
        // A reader that stands still must not hold up the beat.
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        OpenOptions::new().write(true).custom_flags(flags).open(path).map(Fifo)
    }
}

impl Device for Fifo {
    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32> {
        self.0.write_all(format!("Ctimeout={seconds}\n").as_bytes())?;
        Ok(seconds)
    }

    fn feed(&mut self) -> io::Result<()> {
        self.0.write_all(b"1")
    }

    fn can_rest(&self) -> bool {
        true
    }

    fn rest(mut self: Box<Self>) -> io::Result<()> {
        self.0.write_all(b"V")
    }
}
