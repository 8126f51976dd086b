//! What the service manager is told, where there is one (`NOTIFY_SOCKET`).

use nix::time::{ClockId, clock_gettime};
use sd_notify::NotifyState;

/// Up, or done with a reload.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The manager compares the moment with that of its own request.
pub(crate) fn reloading() {
    let moment = clock_gettime(ClockId::CLOCK_MONOTONIC);
    let Ok(moment) = moment else { return tell(&[NotifyState::Reloading]) };
    let usec = i128::from(moment.tv_sec()) * 1_000_000 + i128::from(moment.tv_nsec()) / 1_000;
    tell(&[NotifyState::Reloading, NotifyState::MonotonicUsec(usec)]);
}

/// From the request to the end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A manager that does not listen is no reason to do anything else.
fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("the service manager was not told: {error}");
    }
}
