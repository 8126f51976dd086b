//! How far a standby leader is behind the cluster or region that it follows: in bytes,
//! and by the age of the last commit that it has replayed.

use super::{MemberReport, Role};
use crate::Lsn;
use jiff::Timestamp;

/// `None` each: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteLag {
    /// The end of the remote log, as it was last told.
    pub end: Option<Lsn>,
    /// Bytes that it has yet to receive.
    pub receive_bytes: Option<u64>,
    /// The same to replay.
    pub replay_bytes: Option<u64>,
    pub replay_ms: Option<u64>,
}

impl RemoteLag {
    /// `age_ms`: of the last replayed commit. It says nothing once all is replayed: an
    /// idle remote side makes no commit.
    pub fn of(
        end: Option<Lsn>,
        receive: Option<Lsn>,
        replay: Option<Lsn>,
        age_ms: Option<u64>,
    ) -> RemoteLag {
        let behind = |at: Option<Lsn>| Some(at?.behind(end?));
        let replay_bytes = behind(replay);
        let replay_ms = if replay_bytes == Some(0) { Some(0) } else { age_ms };
        RemoteLag { end, receive_bytes: behind(receive), replay_bytes, replay_ms }
    }

    pub fn replay_seconds(&self) -> Option<f64> {
        self.replay_ms.map(|ms| ms as f64 / 1e3)
    }
}

impl MemberReport<'_> {
    /// By its record. `None`: it leads no standby cluster, or says nothing of the remote
    /// side. `unix_ms`: now.
    pub fn remote_lag(&self, unix_ms: u64) -> Option<RemoteLag> {
        let remote = self.record.remote.as_ref().filter(|_| self.role == Role::StandbyLeader)?;
        let at = remote.replayed_at.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
        let age = at.map(|at| unix_ms.saturating_sub(at.as_millisecond().try_into().unwrap_or(0)));
        Some(RemoteLag::of(remote.lsn, self.record.receive_lsn, self.record.replay_lsn, age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;
    use crate::{GroupView, MemberName};

    fn lag(role: &str, record: &str) -> Option<RemoteLag> {
        let mut view = GroupView::default();
        view.take_sample("leader", "l", 1, 1);
        view.take_sample("members/l", &format!(r#"{{"role":"{role}",{record}}}"#), 1, 1);
        let name = MemberName::new("l");
        MemberReport::of(&view, &name, view.member(&name)?).remote_lag(14_500)
    }

    #[test]
    fn a_standby_leader_is_behind_what_the_remote_side_told() {
        let at = r#""receive_lsn":990,"replay_lsn":900"#;
        let replayed = r#""replayed_at":"1970-01-01 00:00:10+00:00""#;
        let known = lag("standby_leader", &format!(r#"{at},"remote":{{"lsn":1000,{replayed}}}"#));
        let wanted = RemoteLag {
            end: Some(Lsn(1_000)),
            receive_bytes: Some(10),
            replay_bytes: Some(100),
            replay_ms: Some(4_500),
        };
        assert_eq!(known, Some(wanted));
        let silent = lag("standby_leader", &format!(r#"{at},"remote":{{{replayed}}}"#));
        let age = RemoteLag { replay_ms: Some(4_500), ..RemoteLag::default() };
        assert_eq!(silent, Some(age), "unknown is not 0");
        assert_eq!(lag("standby_leader", at), None);
        assert_eq!(lag("primary", &format!(r#"{at},"remote":{{"lsn":1000}}"#)), None);
    }

    #[test]
    fn what_has_replayed_all_is_not_old() {
        let end = Some(Lsn(7));
        assert_eq!(RemoteLag::of(end, end, end, Some(9_000)).replay_ms, Some(0));
        assert_eq!(RemoteLag::of(end, end, None, Some(9_000)).replay_ms, Some(9_000));
    }
}
