//! One group as the store tells it, at one version of it.
//!
//! Reading never fails: what cannot be read is empty, and `unreadable` names
//! it, so that a rule can refuse to build on it.

pub use crate::status::Status;
pub use crate::sync::SyncState;
use crate::{Dynamic, Lsn, MemberName, MemberRecord, Session, SystemId, Timeline, Version};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A value, the write that it comes from, and what it hangs on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Versioned<T> {
    pub value: T,
    pub version: Version,
    pub session: Option<Session>,
}

impl<T> Versioned<T> {
    /// It hangs on this lease; a value on no lease hangs on none.
    pub fn is_on(&self, session: Option<Session>) -> bool {
        session.is_some() && self.session == session
    }
}

/// `/failover`: a request to move the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    /// Set for a switchover: the leader it moves away from.
    pub leader: Option<MemberName>,
    pub candidate: Option<MemberName>,
    pub scheduled_at: Option<String>,
}

/// `topology/timeline/GROUP`: who takes the lock as a standby claims the
/// timeline it will begin, so that no two histories share a number.
///
/// PostgreSQL numbers a new timeline by what it finds in its own `pg_wal`. A
/// primary that died before anybody streamed from it has used a number that
/// the next one would use again, and no tool can tell the two histories apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub timeline: Timeline,
    pub by: MemberName,
}

/// One line of `/history`.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEntry {
    pub timeline: Timeline,
    pub switch: Lsn,
    pub reason: String,
    pub at: Option<String>,
    pub new_leader: Option<String>,
}

/// One group, read from the keys below its base.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupView {
    /// `None`: absent. `Some(None)`: bootstrap runs. `Some(Some(id))`: done.
    pub initialize: Option<Versioned<Option<SystemId>>>,
    pub config: Option<Versioned<Dynamic>>,
    /// The version of a `/config` without any settings.
    pub empty_config: Option<Version>,
    pub leader: Option<Versioned<MemberName>>,
    pub members: BTreeMap<MemberName, Versioned<MemberRecord>>,
    pub status: Option<Versioned<Status>>,
    /// `optime/leader`, which old releases write and read instead.
    pub legacy_optime: Option<Lsn>,
    pub failover: Option<Versioned<Failover>>,
    pub sync: Option<Versioned<SyncState>>,
    pub history: Option<Versioned<Vec<HistoryEntry>>>,
    pub failsafe: Option<Versioned<BTreeMap<MemberName, String>>>,
    /// The highest timeline that anybody may have begun.
    pub claim: Option<Versioned<Claim>>,
    /// Keys whose value made no sense, with the reason.
    pub unreadable: Vec<(String, String)>,
}

impl GroupView {
    /// Takes one key, named relative to the group's base. Unknown keys belong to
    /// other programs and are ignored.
    pub fn take(&mut self, key: &str, value: &str, version: Version, session: Option<Session>) {
        if let Some(name) = key.strip_prefix("members/") {
            if !name.is_empty() && !name.contains('/') {
                let record = versioned(MemberRecord::read(value), version, session);
                self.members.insert(MemberName::new(name), record);
            }
            return;
        }
        match key {
            "initialize" => {
                self.initialize = Some(versioned(SystemId::parse(value), version, session))
            }
            "leader" if !value.is_empty() => {
                self.leader = Some(versioned(MemberName::new(value), version, session));
            }
            "config" => self.take_config(value, version),
            "status" => self.status = Some(versioned(Status::read(value), version, session)),
            "failover" => self.failover = Some(versioned(Failover::read(value), version, session)),
            "sync" => self.sync = Some(versioned(SyncState::read(value), version, session)),
            "optime/leader" => self.take_legacy_optime(value, session),
            "history" => self.take_history(value, version, session),
            "claim" => self.claim = Some(versioned(Claim::read(value), version, session)),
            "failsafe" => self.failsafe = Some(versioned(read_failsafe(value), version, session)),
            _ => {}
        }
    }

    /// Stands for `/status` as long as there is none; it has no version of that key.
    fn take_legacy_optime(&mut self, value: &str, session: Option<Session>) {
        let status = Status::read(value);
        self.legacy_optime = Some(status.optime);
        self.status.get_or_insert(versioned(status, Version::default(), session));
    }

    /// What cannot be read is no history: the group's timeline is not known.
    fn take_history(&mut self, value: &str, version: Version, session: Option<Session>) {
        match read_history(value) {
            Some(entries) => self.history = Some(versioned(entries, version, session)),
            None => {
                let why = "not a list of timelines with their ends".to_string();
                self.unreadable.push(("history".to_string(), why));
            }
        }
    }

    fn take_config(&mut self, value: &str, version: Version) {
        if ["", "{}", "null"].contains(&value.trim()) {
            self.empty_config = Some(version);
            return;
        }
        let read = serde_json::from_str::<Value>(value).map_err(|e| e.to_string()).and_then(
            |raw| match raw {
                Value::Object(ref map) if !map.is_empty() => {
                    Dynamic::read(&raw).map_err(|e| e.to_string())
                }
                _ => Err("not a JSON object with settings".to_string()),
            },
        );
        match read {
            Ok(dynamic) => self.config = Some(versioned(dynamic, version, None)),
            Err(why) => self.unreadable.push(("config".to_string(), why)),
        }
    }

    /// There is no configuration: `Some`, with the version of an empty one.
    pub fn missing_config(&self) -> Option<Option<Version>> {
        let broken = self.unreadable.iter().any(|(key, _)| key == "config");
        let missing = self.config.is_none() && !broken;
        missing.then_some(self.empty_config)
    }

    pub fn leader_name(&self) -> Option<&MemberName> {
        self.leader.as_ref().map(|l| &l.value)
    }

    pub fn leader_record(&self) -> Option<&MemberRecord> {
        self.members.get(self.leader_name()?).map(|m| &m.value)
    }

    pub fn member(&self, name: &MemberName) -> Option<&MemberRecord> {
        self.members.get(name).map(|m| &m.value)
    }

    pub fn optime(&self) -> Lsn {
        self.status.as_ref().map_or(Lsn(0), |s| s.value.optime)
    }

    /// A request that asks for something; `{}` asks for nothing.
    pub fn request(&self) -> Option<&Failover> {
        let failover = &self.failover.as_ref()?.value;
        (failover.leader.is_some() || failover.candidate.is_some()).then_some(failover)
    }

    /// The timeline the group is on by its history; 0 when that is not known.
    pub fn timeline(&self) -> Timeline {
        match &self.history {
            None => Timeline(0),
            Some(h) => Timeline(h.value.last().map_or(1, |e| e.timeline.0 + 1)),
        }
    }

    /// The timeline that `me`, now on `mine`, may begin.
    pub fn claimable(&self, mine: Timeline) -> Timeline {
        let claimed = self.claim.as_ref().map_or(Timeline(0), |c| c.value.timeline);
        Timeline(mine.max(self.timeline()).max(claimed).0 + 1)
    }

    /// The timeline that `me`, now on `mine`, has claimed and not begun.
    pub fn claimed_by(&self, me: &MemberName, mine: Timeline) -> Option<Timeline> {
        let claim = &self.claim.as_ref()?.value;
        (&claim.by == me && claim.timeline > mine).then_some(claim.timeline)
    }

    /// The last leader gave the lock away for this request, and `/status` is
    /// the end of its log: both keys were written in one transaction.
    pub fn is_handed_over(&self) -> bool {
        let both = self.status.as_ref().zip(self.failover.as_ref());
        self.request().is_some_and(|r| r.leader.is_some())
            && both.is_some_and(|(status, failover)| status.version == failover.version)
    }

    /// The last leader gave its lock away in order, and no member has taken it since:
    /// the request that was written with the release is rewritten by the one that
    /// takes the lock.
    pub fn is_given_up(&self) -> bool {
        let both = self.status.as_ref().zip(self.failover.as_ref());
        let at_once = both.is_some_and(|(status, failover)| status.version == failover.version);
        self.leader.is_none() && self.request().is_some() && at_once
    }

    pub fn is_paused(&self) -> bool {
        self.config.as_ref().is_some_and(|c| c.value.pause)
    }
}

fn versioned<T>(value: T, version: Version, session: Option<Session>) -> Versioned<T> {
    Versioned { value, version, session }
}

impl Failover {
    pub fn read(text: &str) -> Failover {
        let name = |s: &str| Some(s.trim()).filter(|s| !s.is_empty()).map(MemberName::new);
        let parsed = serde_json::from_str(text);
        let Ok(Value::Object(map)) = parsed else {
            // Once it was a bare text, `LEADER:CANDIDATE`, each of them optional.
            let names = text.split_once(':').filter(|_| parsed.is_err());
            let (leader, candidate) = names.unwrap_or(("", ""));
            let (leader, candidate) = (name(leader), name(candidate));
            return Failover { leader, candidate, scheduled_at: None };
        };
        let field = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or("");
        Failover {
            leader: name(field("leader")),
            candidate: name(field("member")),
            scheduled_at: Some(field("scheduled_at").to_string()).filter(|s| !s.is_empty()),
        }
    }

    pub fn write(&self) -> String {
        let mut out = Map::new();
        let mut put = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                out.insert(key.to_string(), value.into());
            }
        };
        put("leader", self.leader.as_ref().map(MemberName::as_str));
        put("member", self.candidate.as_ref().map(MemberName::as_str));
        put("scheduled_at", self.scheduled_at.as_deref());
        Value::Object(out).to_string()
    }
}

impl Claim {
    pub fn read(text: &str) -> Claim {
        let (timeline, by) = text.split_once(' ').unwrap_or((text, ""));
        Claim { timeline: Timeline(timeline.parse().unwrap_or(0)), by: MemberName::new(by) }
    }

    pub fn write(&self) -> String {
        format!("{} {}", self.timeline, self.by)
    }
}

/// A text that is no map names no member; its version still counts.
fn read_failsafe(text: &str) -> BTreeMap<MemberName, String> {
    let map: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
    map.into_iter().map(|(name, url)| (MemberName(name), url)).collect()
}

/// Whole or not at all: without its last line a history names another timeline.
fn read_history(text: &str) -> Option<Vec<HistoryEntry>> {
    let Ok(Value::Array(lines)) = serde_json::from_str(text) else {
        return None;
    };
    lines.iter().map(read_history_entry).collect()
}

fn read_history_entry(line: &Value) -> Option<HistoryEntry> {
    let text = |index: usize| line.get(index).and_then(Value::as_str).map(str::to_string);
    Some(HistoryEntry {
        timeline: Timeline(u32::try_from(line.get(0)?.as_u64()?).ok()?),
        switch: Lsn(line.get(1)?.as_u64()?),
        reason: text(2)?,
        at: text(3),
        new_leader: text(4),
    })
}

/// `/history` as it is written.
pub fn write_history(entries: &[HistoryEntry]) -> String {
    let lines = entries.iter().map(|e| {
        let mut line: Vec<Value> =
            vec![e.timeline.0.into(), e.switch.0.into(), e.reason.clone().into()];
        // A name alone keeps its place.
        let at = e.at.clone().map(Value::from);
        line.extend(at.or_else(|| e.new_leader.as_ref().map(|_| Value::Null)));
        line.extend(e.new_leader.clone().map(Value::from));
        Value::Array(line)
    });
    Value::Array(lines.collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    #[test]
    fn requests_keep_their_shape_and_braces_ask_for_nothing() {
        let text = r#"{"leader":"n1","member":"n2"}"#;
        assert_eq!(Failover::read(text).write(), text);
        let mut view = GroupView::default();
        view.take_sample("failover", "{}", 1, 0);
        assert!(view.request().is_none());
        view.take_sample("failover", "a:b", 2, 0);
        assert_eq!(view.request().unwrap().leader, Some("a".into()));
    }

    /// As a real cluster wrote them, in this order.
    #[test]
    fn real_requests_are_written_as_they_were_read() {
        for text in [
            r#"{"member":"n1"}"#,
            r#"{"leader":"n1","member":"n2","scheduled_at":"2035-06-01T12:30:00+00:00"}"#,
            r#"{"leader":"n1","member":"n2"}"#,
            r#"{"leader":"n3"}"#,
            "{}",
        ] {
            assert_eq!(Failover::read(text).write(), text);
        }
    }

    #[test]
    fn a_request_was_a_text_once() {
        let read = |text: &str| {
            let request = Failover::read(text);
            let name = |name: Option<MemberName>| name.map_or(String::new(), |name| name.0);
            (name(request.leader), name(request.candidate))
        };
        let names = |leader: &str, candidate: &str| (leader.to_string(), candidate.to_string());
        assert_eq!(read("a:b"), names("a", "b"));
        assert_eq!(read(" a : b "), names("a", "b"));
        assert_eq!(read("a:"), names("a", ""));
        assert_eq!(read(":b"), names("", "b"));
        for nothing in ["", ":", "a", "null", "[\"a:b\"]", r#"{"leader":7,"member":""}"#] {
            assert_eq!(read(nothing), names("", ""), "{nothing}");
        }
    }

    #[test]
    fn no_member_claims_a_timeline_that_may_be_in_use() {
        let (mut view, me) = (GroupView::default(), MemberName::new("a"));
        assert_eq!(view.claimable(Timeline(3)), Timeline(4));
        view.take_sample("claim", "7 a", 1, 0);
        assert_eq!(view.claimable(Timeline(3)), Timeline(8));
        assert_eq!(view.claimed_by(&me, Timeline(3)), Some(Timeline(7)));
        assert_eq!(view.claimed_by(&me, Timeline(7)), None);
        assert_eq!(view.claimed_by(&"b".into(), Timeline(3)), None);
        assert_eq!(Claim::read("nonsense").timeline, Timeline(0));
        assert_eq!(view.claim.unwrap().value.write(), "7 a");
    }

    #[test]
    fn a_handover_is_told_from_a_request_that_its_leader_did_not_live_to_meet() {
        let mut view = GroupView::default();
        view.take_sample("failover", r#"{"leader":"a"}"#, 5, 0);
        view.take_sample("status", "100", 4, 0);
        assert!(!view.is_handed_over());
        view.take_sample("status", "100", 5, 0);
        assert!(view.is_handed_over());
        view.take_sample("failover", "{}", 5, 0);
        assert!(!view.is_handed_over());
    }

    #[test]
    fn a_broken_config_is_named_and_not_taken() {
        let mut view = GroupView::default();
        view.take_sample("config", r#"{"ttl":"x"}"#, 5, 0);
        assert!(view.config.is_none());
        assert_eq!(view.missing_config(), None);
        assert_eq!(view.unreadable.len(), 1);
    }

    #[test]
    fn history_gives_the_timeline() {
        let text =
            r#"[[1,67438800,"no recovery target specified","2026-11-20T21:57:50.7+00:00","n2"]]"#;
        let mut view = GroupView::default();
        assert_eq!(view.timeline(), Timeline(0));
        view.take_sample("history", text, 1, 0);
        assert_eq!(view.timeline(), Timeline(2));
        assert_eq!(write_history(&view.history.as_ref().unwrap().value), text);
        view.take_sample("history", "[]", 2, 0);
        assert_eq!(view.timeline(), Timeline(1));
    }

    #[test]
    fn lines_of_old_releases_have_no_time_and_no_name() {
        let text = r#"[[1,67438800,"no recovery target specified"],[2,67439552,"x","2026-11-20T22:01:21.9+00:00"]]"#;
        let mut view = GroupView::default();
        view.take_sample("history", text, 1, 0);
        assert_eq!(view.timeline(), Timeline(3));
        assert_eq!(write_history(&view.history.unwrap().value), text);
    }

    #[test]
    fn a_history_that_cannot_be_read_names_no_timeline() {
        for text in ["", "{}", "x", "[7]", "[[1,2]]", r#"[[1,2,"x"],["2",3,"y"]]"#] {
            let mut view = GroupView::default();
            view.take_sample("history", text, 1, 0);
            assert_eq!(view.timeline(), Timeline(0), "{text}");
            assert_eq!(view.unreadable.len(), 1, "{text}");
        }
    }
}
