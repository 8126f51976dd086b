//! One member as it is shown: its record, and what the group's keys make of it.

use super::Role;
use crate::{GroupView, Lsn, MemberName, MemberRecord, Seen};

#[derive(Clone, Debug, PartialEq)]
pub struct MemberReport<'a> {
    pub name: &'a MemberName,
    pub record: &'a MemberRecord,
    pub role: Role,
    /// Empty: the record does not say.
    pub state: &'a str,
    pub positions: Positions,
    /// Where its log comes from, in order of `replicatefrom` and the lock.
    pub upstream: Option<&'a MemberName>,
}

/// A place in the log, and the bytes from there to the end in `/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub lsn: Seen<Lsn>,
    /// `Unknown` also for the leader, which is behind no member.
    pub lag_bytes: Seen<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    pub receive: Position,
    pub replay: Position,
    /// One position for both, which all releases publish.
    pub any: Position,
}

impl<'a> MemberReport<'a> {
    pub fn of(
        view: &'a GroupView,
        name: &'a MemberName,
        record: &'a MemberRecord,
    ) -> MemberReport<'a> {
        let role = Role::of(view, name);
        let end = view.status.as_ref().map(|status| status.value.optime);
        let end = end.filter(|_| !role.leads());
        MemberReport {
            name,
            record,
            role,
            state: state(role, record),
            positions: Positions {
                receive: Position::of(record.receive_lsn, end),
                replay: Position::of(record.replay_lsn, end),
                any: Position::of(record.xlog_location, end),
            },
            upstream: upstream(view, name, record),
        }
    }

    /// False: it takes its log from the archive alone.
    pub fn streams(&self) -> bool {
        !self.record.tags.nostream()
    }

    /// Receiving and replaying. A member of an old release publishes one position: it
    /// is where it receives while it streams, otherwise where it replays.
    pub fn receive_and_replay(&self) -> [Position; 2] {
        let Positions { receive, replay, any } = self.positions;
        if receive.lsn.known().or(replay.lsn.known()).is_some() {
            return [receive, replay];
        }
        match self.record.replication_state.as_deref() {
            Some("streaming") => [any, Position::UNKNOWN],
            _ => [Position::UNKNOWN, any],
        }
    }

    /// The most advanced position that it published.
    pub fn position(&self) -> Position {
        let Positions { receive, replay, any } = self.positions;
        let known = [receive, replay, any].into_iter().find(|at| at.lsn.known().is_some());
        known.unwrap_or(Position::UNKNOWN)
    }
}

impl Position {
    pub const UNKNOWN: Position = Position { lsn: Seen::Unknown, lag_bytes: Seen::Unknown };

    fn of(published: Option<Lsn>, end: Option<Lsn>) -> Position {
        // No log begins at 0: PostgreSQL says so when it does not know.
        let Some(lsn) = published.filter(|lsn| lsn.0 > 0) else {
            return Position::UNKNOWN;
        };
        let lag_bytes = end.map_or(Seen::Unknown, |end| Seen::Known(lsn.behind(end)));
        Position { lsn: Seen::Known(lsn), lag_bytes }
    }
}

fn state(role: Role, record: &MemberRecord) -> &str {
    match &record.replication_state {
        Some(receives) if role != Role::Leader => receives,
        _ => &record.state,
    }
}

/// The member that `replicatefrom` names if it is there, else the leader. As written:
/// two members that name each other stay a circle.
fn upstream<'a>(
    view: &'a GroupView,
    name: &MemberName,
    record: &MemberRecord,
) -> Option<&'a MemberName> {
    let leader = view.leader_name();
    if leader == Some(name) {
        return None;
    }
    let wanted = record.tags.replicatefrom().map(MemberName::new);
    let named = wanted.filter(|wanted| wanted != name);
    let named = named.and_then(|wanted| view.members.get_key_value(&wanted));
    named.map(|(name, _)| name).or(leader)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    const END: &str = r#"{"optime":1000}"#;

    fn view(record: &str, status: Option<&str>) -> GroupView {
        let mut view = GroupView::default();
        view.take_sample("leader", "l", 1, 1);
        view.take_sample("members/m", record, 1, 1);
        view.take_sample("members/l", r#"{"state":"running","xlog_location":1000}"#, 1, 1);
        if let Some(status) = status {
            view.take_sample("status", status, 1, 0);
        }
        view
    }

    fn at(lsn: u64, lag: Option<u64>) -> Position {
        let lag_bytes = lag.map_or(Seen::Unknown, Seen::Known);
        Position { lsn: Seen::Known(Lsn(lsn)), lag_bytes }
    }

    fn found(record: &str, status: Option<&str>) -> [Position; 2] {
        let view = view(record, status);
        let name = MemberName::new("m");
        MemberReport::of(&view, &name, view.member(&name).unwrap()).receive_and_replay()
    }

    #[test]
    fn lags_count_to_the_end_in_status_and_are_unknown_without_it() {
        let both = r#"{"receive_lsn":990,"replay_lsn":900,"xlog_location":990}"#;
        assert_eq!(found(both, Some(END)), [at(990, Some(10)), at(900, Some(100))]);
        assert_eq!(found(both, None), [at(990, None), at(900, None)]);
        let ahead = r#"{"receive_lsn":1001,"replay_lsn":0}"#;
        assert_eq!(found(ahead, Some(END)), [at(1001, Some(0)), Position::UNKNOWN]);
        assert_eq!(found("{}", Some(END)), [Position::UNKNOWN; 2]);
    }

    #[test]
    fn one_position_of_an_old_release_is_where_it_receives_or_replays() {
        let streams = r#"{"xlog_location":999,"replication_state":"streaming"}"#;
        assert_eq!(found(streams, Some(END)), [at(999, Some(1)), Position::UNKNOWN]);
        assert_eq!(found(r#"{"xlog_location":999}"#, None), [Position::UNKNOWN, at(999, None)]);
    }

    #[test]
    fn a_leader_has_a_position_and_no_lag() {
        let view = view("{}", Some(END));
        let name = MemberName::new("l");
        let leader = MemberReport::of(&view, &name, view.member(&name).unwrap());
        assert_eq!(leader.position(), at(1000, None));
        assert_eq!((leader.upstream, leader.state), (None, "running"));
    }

    #[test]
    fn only_a_leader_that_writes_shows_what_its_server_does() {
        let record = MemberRecord {
            state: "running".into(),
            replication_state: Some("streaming".into()),
            ..MemberRecord::default()
        };
        assert_eq!(state(Role::Leader, &record), "running");
        assert_eq!(state(Role::StandbyLeader, &record), "streaming");
        assert_eq!(state(Role::Replica, &MemberRecord::default()), "");
    }
}
