//! Another program that fills the data directory: a restore by hand, or by a tool.
//!
//! Invariant: while one writes there, and for a moment after it, this daemon leaves
//! the directory alone, whatever it looks like. A control file proves nothing: many
//! tools copy it long before they are done.
//!
//! Absent on purpose: what this daemon's own jobs put there (`daemon/filling.rs`).

use super::Server;
use crate::postgres::DataDirState;
use member::ha::observation::DataDir;
use topology::Millis;

/// A tool may have no file open between two files.
const QUIET_MS: u64 = 3_000;

#[derive(Default)]
pub(super) struct Settling {
    /// It was not usable when it was last looked at, and no job of ours has made it
    /// so since.
    is_unready: bool,
    quiet_since: Option<Millis>,
}

impl Settling {
    /// What `data` counts as. `writer`: a program that writes there now.
    pub(super) fn judge(&mut self, data: DataDir, writer: Option<String>, now: Millis) -> DataDir {
        let usable = matches!(data, DataDir::Valid { .. });
        self.is_unready |= !usable || writer.is_some();
        if !usable || writer.is_some() {
            self.quiet_since = None;
        }
        if let Some(writer) = writer {
            return DataDir::Refused(busy(&data, &writer));
        }
        if !usable || !self.is_unready {
            return data;
        }
        let since = *self.quiet_since.get_or_insert(now);
        if now.since(since) < QUIET_MS {
            let why = "another program has just made it: is it done?";
            return DataDir::Refused(why.into());
        }
        *self = Settling::default();
        data
    }
}

fn busy(data: &DataDir, writer: &str) -> String {
    let so_far = match data {
        DataDir::Damaged(why) | DataDir::Refused(why) => format!("; so far {why}"),
        DataDir::Empty | DataDir::Half(_) | DataDir::Valid { .. } => String::new(),
    };
    format!("`{writer}` writes in it and is left alone until it has ended{so_far}")
}

impl Server {
    /// What this daemon has just made is as it should be.
    pub(crate) fn own_work_ended(&mut self) {
        self.settling = Settling::default();
    }

    /// Only of a directory on which no server runs, and nothing of ours works.
    pub(super) fn judge_data(&mut self, data: DataDir, now: Millis) -> DataDir {
        if self.may_run() {
            return data;
        }
        if self.is_at_work || data == DataDir::Empty {
            return self.settling.judge(data, None, now);
        }
        let writer = self.instance.other_writer();
        self.settling.judge(data, writer, now)
    }

    pub(super) fn data_of(&self, state: DataDirState) -> DataDir {
        match state {
            DataDirState::Absent | DataDirState::Empty => DataDir::Empty,
            DataDirState::Half(what) => DataDir::Half(what),
            DataDirState::Incomplete => DataDir::Damaged(format!(
                "there is no global/pg_control in {}: it is half of a copy or of a restore, or \
                 that file was lost",
                self.settings.postgresql.data_dir.display()
            )),
            DataDirState::Valid { system, .. } => DataDir::Valid { system },
            DataDirState::OtherVersion { theirs, ours } => DataDir::Refused(format!(
                "it is of PostgreSQL {theirs}, the programs in postgresql.bin_dir are of {ours}: \
                 set bin_dir to those of {theirs}, or run pg_upgrade"
            )),
            DataDirState::Foreign(why) => DataDir::Refused(why),
            DataDirState::Unreadable(why) => DataDir::Damaged(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::SystemId;

    fn valid() -> DataDir {
        DataDir::Valid { system: SystemId("7".repeat(19)) }
    }

    fn is_refused(data: &DataDir) -> bool {
        matches!(data, DataDir::Refused(_))
    }

    #[test]
    fn a_data_directory_that_was_found_counts_at_once() {
        assert_eq!(Settling::default().judge(valid(), None, Millis(1)), valid());
    }

    #[test]
    fn one_that_another_program_makes_counts_when_that_has_been_quiet() {
        let mut settling = Settling::default();
        let half = DataDir::Damaged("no control file".into());
        let told = settling.judge(half.clone(), Some("cp".into()), Millis(0));
        assert!(matches!(&told, DataDir::Refused(why) if why.contains("`cp`")), "{told:?}");
        assert_eq!(settling.judge(half.clone(), None, Millis(10)), half);
        assert!(is_refused(&settling.judge(valid(), None, Millis(1_000))));
        assert!(is_refused(&settling.judge(valid(), Some("cp".into()), Millis(2_000))));
        assert!(is_refused(&settling.judge(valid(), None, Millis(3_000))));
        assert!(is_refused(&settling.judge(valid(), None, Millis(5_999))));
        assert_eq!(settling.judge(valid(), None, Millis(6_000)), valid());
        assert_eq!(settling.judge(valid(), None, Millis(6_001)), valid());
    }

    #[test]
    fn an_empty_directory_that_fills_by_itself_is_not_usable_at_once() {
        let mut settling = Settling::default();
        assert_eq!(settling.judge(DataDir::Empty, None, Millis(0)), DataDir::Empty);
        assert!(is_refused(&settling.judge(valid(), None, Millis(10))));
    }
}
