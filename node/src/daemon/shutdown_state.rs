//! What a stopped server left behind, from its control file and the files that
//! say what it was.

use crate::postgres::{ControlData, ControlState};
use member::ha::observation::{End, Shut, ShutdownState};
use std::path::Path;

pub(super) fn shutdown_state_of(control: &ControlData, data_dir: &Path) -> ShutdownState {
    let standby = is_standby_data(data_dir);
    let (end, timeline, lsn) = match control.state {
        ControlState::ShutDown => (End::Clean, control.timeline, control.checkpoint),
        ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery => {
            let timeline = control.min_recovery_timeline.max(control.timeline);
            (End::Standby, timeline, control.min_recovery)
        }
        _ if standby => {
            (End::Standby, control.timeline.max(control.min_recovery_timeline), control.redo)
        }
        // A promotion that was not followed by a checkpoint shows only here.
        _ => {
            (End::Crashed, control.timeline.max(control.min_recovery_timeline), control.checkpoint)
        }
    };
    let shut = match control.state {
        ControlState::ShutDown if control.minimal_log => Shut::Minimal,
        ControlState::ShutDown | ControlState::ShutDownInRecovery => Shut::Orderly,
        _ if data_dir.join("backup_label").is_file() => Shut::InBackup,
        _ => Shut::Abrupt,
    };
    ShutdownState { end, timeline, lsn, copied: false, shut }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::controldata;
    use topology::{Lsn, Timeline};

    #[test]
    fn h7_a_log_that_no_standby_replays_is_told_by_the_control_file() {
        let dir = tempfile::tempdir().unwrap();
        let sample = controldata::parse(controldata::SAMPLE).unwrap();
        let control = ControlData { state: ControlState::ShutDown, minimal_log: true, ..sample };
        let shutdown_state = shutdown_state_of(&control, dir.path());
        assert_eq!((shutdown_state.end, shutdown_state.shut), (End::Clean, Shut::Minimal));
    }

    /// pg_basebackup takes the control file of a primary that runs.
    #[test]
    fn known_bug_03_a_fresh_copy_says_it_is_in_production_and_is_a_standby() {
        let dir = tempfile::tempdir().unwrap();
        let control = ControlData {
            state: ControlState::InProduction,
            timeline: Timeline(2),
            redo: Lsn(900),
            checkpoint: Lsn(1_000),
            ..controldata::parse(controldata::SAMPLE).unwrap()
        };
        let shutdown_state = || shutdown_state_of(&control, dir.path());
        assert_eq!((shutdown_state().end, shutdown_state().shut), (End::Crashed, Shut::Abrupt));
        std::fs::write(dir.path().join("standby.signal"), "").unwrap();
        assert_eq!((shutdown_state().end, shutdown_state().shut), (End::Standby, Shut::Abrupt));
        std::fs::write(dir.path().join("backup_label"), "").unwrap();
        assert_eq!((shutdown_state().end, shutdown_state().shut), (End::Standby, Shut::InBackup));
        assert!(!is_copy(dir.path()), "it was made by this daemon, or is a standby's");
        std::fs::remove_file(dir.path().join("standby.signal")).unwrap();
        assert_eq!((shutdown_state().end, shutdown_state().shut), (End::Standby, Shut::InBackup));
        assert!(is_copy(dir.path()));
    }
}
