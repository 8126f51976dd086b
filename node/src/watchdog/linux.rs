//! /dev/watchdog, as the kernel's documentation describes it
//! (Documentation/watchdog/watchdog-api): open starts it, a write feeds it,
//! `V` before close stops it unless the driver was told `nowayout`.
//!
//! The kernel's calls are ioctls, which Rust cannot check: the only unsafe
//! lines of the project are here. Each is given an open descriptor and a value
//! of the size that the kernel's header names.
#![expect(unsafe_code, reason = "ioctl is the device's only interface")]

use super::Device;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

/// WDIOF_SETTIMEOUT and WDIOF_MAGICCLOSE of linux/watchdog.h.
const SET_TIMEOUT: u32 = 0x0080;
const MAGIC_CLOSE: u32 = 0x0100;

/// struct watchdog_info.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

nix::ioctl_read!(get_support, b'W', 0, Info);
nix::ioctl_readwrite!(set_timeout, b'W', 6, i32);
nix::ioctl_read!(get_timeout, b'W', 7, i32);

pub(super) struct Linux {
    file: File,
    options: u32,
    nowayout: bool,
}

impl Linux {
    pub(super) fn open(path: &Path) -> io::Result<Linux> {
        let file = OpenOptions::new().write(true).open(path)?;
        let mut info = Info::default();
        // SAFETY: the descriptor is open, and the kernel fills a watchdog_info.
        let asked = unsafe { get_support(file.as_raw_fd(), &mut info) };
        asked.map_err(|error| {
            io::Error::other(format!("it does not answer as a watchdog does: {error}"))
        })?;
        Ok(Linux { file, options: info.options, nowayout: is_nowayout(path) })
    }
}

impl Device for Linux {
    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32> {
        let mut value = i32::try_from(seconds).unwrap_or(i32::MAX);
        let fd = self.file.as_raw_fd();
        if self.options & SET_TIMEOUT != 0 {
            // SAFETY: the descriptor is open, and the kernel reads and writes an int.
            unsafe { set_timeout(fd, &mut value) }?;
        }
        // SAFETY: the descriptor is open, and the kernel writes an int.
        unsafe { get_timeout(fd, &mut value) }?;
        u32::try_from(value).map_err(|_| io::Error::other(format!("its timeout is {value} s")))
    }

    fn feed(&mut self) -> io::Result<()> {
        self.file.write_all(b"1")
    }

    fn can_rest(&self) -> bool {
        self.options & MAGIC_CLOSE != 0 && !self.nowayout
    }

    fn rest(mut self: Box<Self>) -> io::Result<()> {
        self.file.write_all(b"V")
    }
}

/// Where sysfs does not tell, the driver's own word (MAGIC_CLOSE) counts.
fn is_nowayout(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    // The old name is the first device.
    let name = if name == "watchdog" { "watchdog0".as_ref() } else { name };
    let told = Path::new("/sys/class/watchdog").join(name).join("nowayout");
    std::fs::read_to_string(told).is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_watchdog_is_told_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Linux::open(file.path()).err().unwrap();
        assert!(error.to_string().contains("as a watchdog does"), "{error}");
        assert!(Linux::open(Path::new("/nonexistent/watchdog")).is_err());
    }
}
