//! The watchdog: it resets the machine when nothing else can stop a primary.
//!
//! The guard thread (`deadman`) dies with the daemon; a watchdog does not. It
//! is armed before this member may write, fed only when the lock was proven in
//! a beat, and put to rest only when PostgreSQL certainly does not write. Its
//! timeout lies before the moment at which another member may take the lock.
//!
//! Invariant *armed while it may write*: `rest` is called by the daemon for a
//! server that is stopped or a standby, or in pause; a daemon that dies, or a
//! server that does not stop, leaves the device armed.
//!
//! Absent on purpose: when to arm, and what a broken one means; those are
//! rules (`ha/`).

mod fifo;
mod linux;
pub(crate) mod timing;

use member::ha::observation::Guarding;
use std::io;
use std::path::{Path, PathBuf};
use timing::Timing;
use topology::{Dynamic, Millis};

/// After a failure to arm it, the device is left alone for this long.
const RETRY_MS: u64 = 10_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    Off,
    /// Used where it can be.
    #[default]
    Automatic,
    /// A member does not lead without it.
    Required,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    #[default]
    Linux,
    /// Writes what it would do into a FIFO.
    Testing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogSettings {
    pub mode: Mode,
    pub device: PathBuf,
    pub driver: Driver,
    /// Seconds between the timeout and the lock's ttl; -1: half of the ttl.
    pub safety_margin: i64,
}

impl Default for WatchdogSettings {
    fn default() -> WatchdogSettings {
        let (mode, driver) = (Mode::default(), Driver::default());
        WatchdogSettings { mode, device: "/dev/watchdog".into(), driver, safety_margin: 5 }
    }
}

/// An open device. Opening it starts its clock.
trait Device: Send + Sync {
    /// Gives the timeout that the device really has now.
    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32>;
    fn feed(&mut self) -> io::Result<()>;
    /// Can it be put to rest at all?
    fn can_rest(&self) -> bool;
    /// Closes it so that it does not fire.
    fn rest(self: Box<Self>) -> io::Result<()>;
}

fn open(driver: Driver, path: &Path) -> io::Result<Box<dyn Device>> {
    match driver {
        Driver::Linux => Ok(Box::new(linux::Linux::open(path)?)),
        Driver::Testing => Ok(Box::new(fifo::Fifo::open(path)?)),
    }
}

struct Armed {
    device: Box<dyn Device>,
    timing: Timing,
}

#[derive(Default)]
pub(crate) struct Watchdog {
    settings: WatchdogSettings,
    armed: Option<Armed>,
    failed: Option<(Millis, String)>,
}

impl Watchdog {
    pub(crate) fn new(settings: WatchdogSettings) -> Watchdog {
        Watchdog { settings, ..Watchdog::default() }
    }

    /// Settings that were read again; a device that is not wanted any more is
    /// put to rest at once.
    pub(crate) fn take_settings(&mut self, settings: WatchdogSettings) {
        let moved =
            (&settings.device, settings.driver) != (&self.settings.device, self.settings.driver);
        if moved || settings.mode == Mode::Off {
            self.rest();
        }
        if settings != self.settings {
            self.failed = None;
        }
        self.settings = settings;
    }

    pub(crate) fn state(&self, dynamic: &Dynamic, now: Millis) -> Guarding {
        if self.armed.is_some() {
            return Guarding::Armed;
        }
        let recent = self.failed.as_ref().filter(|(at, _)| now.since(*at) < RETRY_MS);
        let usable = match recent {
            Some((_, why)) => Err(why.clone()),
            None => self.usable(dynamic),
        };
        match (self.settings.mode, usable) {
            (Mode::Off, _) | (Mode::Automatic, Err(_)) => Guarding::Unwanted,
            (_, Ok(())) => Guarding::Ready,
            (Mode::Required, Err(why)) => Guarding::Broken(why),
        }
    }

    /// Without opening it: an open device has to be fed.
    fn usable(&self, dynamic: &Dynamic) -> Result<(), String> {
        self.timing(dynamic)?;
        let device = &self.settings.device;
        nix::unistd::access(device, nix::unistd::AccessFlags::W_OK)
            .map_err(|error| format!("{} cannot be written: {error}", device.display()))
    }

    fn timing(&self, dynamic: &Dynamic) -> Result<Timing, String> {
        Timing::of(self.settings.safety_margin, dynamic.ttl_ms, dynamic.loop_wait_ms)
    }

    pub(crate) fn arm(&mut self, dynamic: &Dynamic, now: Millis) -> Result<(), String> {
        let armed = self.try_arm(dynamic);
        match armed {
            Ok(armed) => {
                tracing::info!(
                    "the watchdog {} is armed: {} s",
                    self.settings.device.display(),
                    armed.timing.timeout_s
                );
                self.failed = None;
                self.armed = Some(armed);
                Ok(())
            }
            Err(why) => {
                self.failed = Some((now, why.clone()));
                Err(why)
            }
        }
    }

    fn try_arm(&self, dynamic: &Dynamic) -> Result<Armed, String> {
        let timing = self.timing(dynamic)?;
        let place = self.settings.device.display();
        let mut device = open(self.settings.driver, &self.settings.device)
            .map_err(|error| format!("{place} cannot be opened: {error}"))?;
        let fit = set(&mut *device, timing, self.settings.mode)
            .and_then(|()| device.feed().map_err(|error| error.to_string()));
        match fit {
            Ok(()) => Ok(Armed { device, timing }),
            Err(why) => {
                put_to_rest(device);
                Err(format!("{place}: {why}"))
            }
        }
    }

    /// The lock was proven: another timeout of life for this machine.
    pub(crate) fn feed(&mut self, dynamic: &Dynamic) {
        let timing = self.timing(dynamic);
        let Some(armed) = &mut self.armed else { return };
        let mut fed = Ok(());
        if let Ok(timing) = timing
            && timing != armed.timing
        {
            armed.timing = timing;
            fed = set(&mut *armed.device, timing, self.settings.mode);
        }
        let fed = fed.and_then(|()| armed.device.feed().map_err(|error| error.to_string()));
        if let Err(why) = fed {
            // Armed anew by the next beat, or found broken.
            tracing::error!("the watchdog {}: {why}", self.settings.device.display());
            self.armed = None;
        }
    }

    /// PostgreSQL certainly does not write.
    pub(crate) fn rest(&mut self) {
        if let Some(armed) = self.armed.take() {
            put_to_rest(armed.device);
        }
    }
}

/// A device whose timeout is longer than asked for fires too late; one whose
/// timeout is shorter than a loop would fire between two beats.
fn set(device: &mut dyn Device, timing: Timing, mode: Mode) -> Result<(), String> {
    let wanted = timing.timeout_s;
    let set = device.set_timeout(wanted);
    let got = set.map_err(|error| format!("no timeout of {wanted} s can be set: {error}"))?;
    if u64::from(got) * 1_000 < timing.loop_wait_ms && device.can_rest() {
        return Err(format!("its timeout of {got} s is shorter than loop_wait"));
    }
    match mode {
        Mode::Required if got > wanted => {
            Err(format!("its timeout is {got} s, and {wanted} s at most are safe"))
        }
        _ => {
            if got > wanted {
                tracing::warn!("the watchdog fires after {got} s, later than the {wanted} s asked");
            }
            Ok(())
        }
    }
}

fn put_to_rest(mut device: Box<dyn Device>) {
    if !device.can_rest() {
        let fed = device.feed();
        tracing::warn!("the watchdog cannot be disarmed and fires unless it is fed: {fed:?}");
        return;
    }
    match device.rest() {
        Ok(()) => tracing::info!("the watchdog is disarmed"),
        Err(error) => tracing::error!("the watchdog could not be disarmed: {error}"),
    }
}

#[cfg(test)]
mod tests;
