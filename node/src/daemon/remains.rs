//! What a stopped server left behind, from its control file and the files that
//! say what it was.

use crate::ha::observation::{End, Remains, Shut};
use crate::postgres::{ControlData, ControlState};
use std::path::Path;

pub(super) fn remains_of(control: &ControlData, data_dir: &Path) -> Remains {
    let standby = is_standby_data(data_dir);
    let (end, timeline, lsn) = match control.state {
        ControlState::ShutDown => (End::Clean, control.timeline, control.checkpoint),
        ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery => {
            let timeline = control.min_recovery_timeline.max(control.timeline);
            (End::Standby, timeline, control.min_recovery)
        }
        _ if standby => (End::Standby, control.timeline, control.redo),
        // A promotion that was not followed by a checkpoint shows only here.
        _ => {
            (End::Crashed, control.timeline.max(control.min_recovery_timeline), control.checkpoint)
        }
    };
    let shut = match control.state {
        ControlState::ShutDown | ControlState::ShutDownInRecovery => Shut::Orderly,
        _ if data_dir.join("backup_label").is_file() => Shut::InBackup,
        _ => Shut::Abrupt,
    };
    Remains { end, timeline, lsn, copied: false, shut }
}

/// A backup that was put here and never started.
pub(super) fn is_copy(data_dir: &Path) -> bool {
    let there = |name: &str| data_dir.join(name).is_file();
    there("backup_label") && !there("standby.signal")
}

/// A signal file, or a base backup that has not been started yet.
pub(super) fn is_standby_data(data_dir: &Path) -> bool {
    ["standby.signal", "backup_label"].iter().any(|name| data_dir.join(name).is_file())
}
