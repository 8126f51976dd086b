//! `/status`: how far the leader's log goes, and what its slots hold back.
//!
//! Others race and keep their slots by it, so what one writer does not tell
//! anew is carried over from the value before. Old releases read the position
//! alone from `optime/leader`; it is written for them while one of them lives.

use crate::{Lsn, MemberName, MemberRecord, Timeline};
use indexmap::IndexMap;
use serde_json::{Map, Value};

/// The first release that reads `/status`.
const READS_STATUS: [u64; 3] = [2, 1, 0];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub optime: Lsn,
    /// Position of every slot on the leader, in PostgreSQL's order, and of the
    /// leader itself. Another order alone is no other status.
    pub slots: IndexMap<String, Lsn>,
    /// Slots of members that are kept for a while, also when the member is gone.
    pub retain_slots: Vec<String>,
    /// The leader that ended in order at `optime` while no other member was known to
    /// have everything up to there. Gone with the next leader's report.
    pub ended: Option<MemberName>,
    /// The timeline of that leader, or of one that handed over: a position on another one is
    /// none of its log.
    pub ended_timeline: Option<Timeline>,
    /// The leader that a majority of `/failsafe` is enough for while its store is away. Another
    /// member needs the word of enough members that none of them has promised it anything.
    pub failsafe_majority: Option<MemberName>,
    /// Logical slots that the leader does not make, for they would skip data, and what their
    /// readers have confirmed.
    pub refused_slots: IndexMap<String, Lsn>,
    /// Those of them whose readers have confirmed more than the log of the group has: no
    /// member resumes a copy of them.
    pub skipping_slots: Vec<String>,
}

impl Status {
    /// Lenient: a bare number is a position, and a map or list may be JSON in a
    /// text, as stores without documents keep it. What is null is not there.
    pub fn read(text: &str) -> Status {
        let parsed = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
        let Value::Object(map) = parsed else {
            let optime = Lsn(number(&parsed).unwrap_or(0));
            return Status { optime, ..Status::default() };
        };
        let part = |key: &str| match map.get(key) {
            Some(Value::String(text)) => serde_json::from_str(text).unwrap_or(Value::Null),
            Some(value) => value.clone(),
            None => Value::Null,
        };
        let (slots, retain) = (part("slots"), part("retain_slots"));
        let names = |value: &Value| {
            let names = value.as_array().into_iter().flatten();
            names.filter_map(|name| name.as_str().map(str::to_string)).collect()
        };
        let positions = |value: &Value| {
            let slots = value.as_object().into_iter().flatten();
            slots.filter_map(|(k, v)| Some((k.clone(), Lsn(number(v)?)))).collect()
        };
        Status {
            optime: Lsn(map.get("optime").and_then(number).unwrap_or(0)),
            slots: positions(&slots),
            retain_slots: names(&retain),
            ended: map.get("ended").and_then(Value::as_str).map(MemberName::new),
            ended_timeline: map.get("ended_timeline").and_then(timeline),
            failsafe_majority: map
                .get("failsafe_majority")
                .and_then(Value::as_str)
                .map(MemberName::new),
            refused_slots: positions(&part("refused_slots")),
            skipping_slots: names(&part("skipping_slots")),
        }
    }

    pub fn write(&self) -> String {
        let mut out = Map::new();
        out.insert("optime".into(), self.optime.0.into());
        let positions = |slots: &IndexMap<String, Lsn>| {
            Value::Object(slots.iter().map(|(k, v)| (k.clone(), Value::from(v.0))).collect())
        };
        if !self.slots.is_empty() {
            out.insert("slots".into(), positions(&self.slots));
        }
        if !self.retain_slots.is_empty() {
            out.insert("retain_slots".into(), self.retain_slots.clone().into());
        }
        if let Some(ended) = &self.ended {
            out.insert("ended".into(), ended.as_str().into());
        }
        out.extend(self.ended_timeline.map(|t| ("ended_timeline".to_string(), t.0.into())));
        if let Some(leader) = &self.failsafe_majority {
            out.insert("failsafe_majority".into(), leader.as_str().into());
        }
        if !self.refused_slots.is_empty() {
            out.insert("refused_slots".into(), positions(&self.refused_slots));
        }
        if !self.skipping_slots.is_empty() {
            out.insert("skipping_slots".into(), self.skipping_slots.clone().into());
        }
        Value::Object(out).to_string()
    }

    /// Another position; the slots stay, because the writer does not know them now.
    pub fn moved_to(&self, optime: Lsn) -> Status {
        Status { optime, ended: None, ended_timeline: None, ..self.clone() }
    }

    /// The same once `leader` has given its lock away in order: no promise serves it.
    pub fn released_by(&self, leader: &MemberName) -> Status {
        let others = self.failsafe_majority.clone().filter(|name| name != leader);
        Status { failsafe_majority: others, ..self.clone() }
    }

    /// The same as the end of a log that another member has too.
    pub fn handed_over_at(&self, on: Option<Timeline>, at: Lsn) -> Status {
        Status { ended_timeline: on, ..self.moved_to(at) }
    }

    /// The same as the end of the log of `leader`, which no other member has.
    pub fn ended_by(&self, leader: &MemberName, on: Option<Timeline>, at: Lsn) -> Status {
        Status { ended: Some(leader.clone()), ended_timeline: on, ..self.moved_to(at) }
    }
}

fn timeline(value: &Value) -> Option<Timeline> {
    number(value).and_then(|number| u32::try_from(number).ok()).map(Timeline)
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A member of a release that looks for the position in `optime/leader`. One
/// that tells no release is no such member.
pub fn reads_legacy_optime(record: &MemberRecord) -> bool {
    let mut parts = record.version.split('.').map_while(|part| part.parse::<u64>().ok());
    let Some(major) = parts.next() else { return false };
    let version = [major, parts.next().unwrap_or(0), parts.next().unwrap_or(0)];
    version < READS_STATUS
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = r#"{"optime":24399872,"slots":{"n1":24399872},"retain_slots":["n1"]}"#;

    #[test]
    fn a_real_status_is_written_as_it_was_read() {
        assert_eq!(Status::read(REAL).write(), REAL);
        assert_eq!(Status::read(r#"{"optime":7,"slots":{}}"#).write(), r#"{"optime":7}"#);
    }

    #[test]
    fn slots_keep_their_order_and_another_order_is_no_news() {
        let one = r#"{"optime":7,"slots":{"phys_perm":3,"n3":5,"n2":4,"n1":7}}"#;
        let other = r#"{"optime":7,"slots":{"n1":7,"n2":4,"n3":5,"phys_perm":3}}"#;
        assert_eq!(Status::read(one).write(), one);
        assert_eq!(Status::read(one), Status::read(other));
    }

    #[test]
    fn other_forms_are_understood() {
        assert_eq!(Status::read(" 123 ").optime, Lsn(123));
        let annotations = r#"{"optime":"24399872","slots":"{\"n1\":24399872}",
            "retain_slots":"[\"n1\"]"}"#;
        assert_eq!(Status::read(annotations).write(), REAL);
        let nulls = r#"{"optime":5,"slots":{"a":null,"b":4},"retain_slots":null}"#;
        assert_eq!(Status::read(nulls).write(), r#"{"optime":5,"slots":{"b":4}}"#);
        for nonsense in ["[]", "x", "", "-1", r#"{"optime":-1,"slots":3}"#] {
            assert_eq!(Status::read(nonsense), Status::default(), "{nonsense}");
        }
    }

    #[test]
    fn a_position_alone_carries_the_slots_over() {
        let moved = Status::read(REAL).moved_to(Lsn(9));
        assert_eq!(moved.write(), REAL.replace("\"optime\":24399872", "\"optime\":9"));
    }

    #[test]
    fn the_leader_of_a_majority_is_named_until_it_gives_its_lock_away() {
        let text = r#"{"optime":9,"failsafe_majority":"n1"}"#;
        assert_eq!(Status::read(text).write(), text);
        assert_eq!(Status::read(text).moved_to(Lsn(9)).write(), text);
        assert_eq!(Status::read(text).released_by(&"n2".into()).write(), text);
        assert_eq!(Status::read(text).released_by(&"n1".into()).failsafe_majority, None);
    }

    #[test]
    fn refused_slots_are_read_as_they_were_written() {
        let text = r#"{"optime":9,"refused_slots":{"a":7,"b":8},"skipping_slots":["b"]}"#;
        assert_eq!(Status::read(text).write(), text);
        assert_eq!(Status::read(text).moved_to(Lsn(10)).skipping_slots, ["b"]);
        assert_eq!(Status::read(text).moved_to(Lsn(10)).refused_slots["a"], Lsn(7));
    }

    #[test]
    fn an_end_in_order_is_told_until_the_next_position() {
        let ended = Status::read(REAL).ended_by(&"n1".into(), Some(Timeline(3)), Lsn(9));
        let text = ended.write();
        assert!(text.ends_with(r#","ended":"n1","ended_timeline":3}"#), "{text}");
        assert_eq!(Status::read(&text), ended);
        assert_eq!(ended.moved_to(Lsn(10)).ended, None);
    }

    #[test]
    fn only_releases_before_2_1_look_for_the_old_key() {
        let of = |version: &str| MemberRecord { version: version.into(), ..Default::default() };
        for old in ["2.0.9", "1.6.5", "2.0", "1"] {
            assert!(reads_legacy_optime(&of(old)), "{old}");
        }
        for new in ["2.1.0", "2.1", "4.1.5", "10.0.0", "", "unknown"] {
            assert!(!reads_legacy_optime(&of(new)), "{new}");
        }
    }
}
