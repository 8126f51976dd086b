//! What is remembered of readers, case by case and in groups of chance.

use super::*;
use crate::made_up::TakeSample;
use crate::report::{Leader, ReadersTold, Retention};
use proptest::prelude::*;
use serde_json::json;
use topology::{MemberName, Millis};

fn dynamic() -> Dynamic {
    let logical = json!({"database": "d", "plugin": "p"});
    Dynamic::read(&json!({"slots": {"a": logical, "b": logical, "c": null}})).unwrap()
}

fn view(status: &str) -> GroupView {
    let mut view = GroupView::default();
    view.take_sample("status", status, 1, 0);
    view
}

fn slot(name: &str, at: u64) -> Slot {
    let kind = Kind::Logical { database: "d".into(), plugin: "p".into() };
    Slot { kind, confirmed_flush: Some(Lsn(at)), ..Slot::physical(name, Lsn(at)) }
}

fn seen(status: &str) -> Readers {
    let mut readers = Readers::default();
    readers.look(&view(status), &dynamic(), false);
    readers
}

fn names(refused: BTreeMap<String, Reader>) -> Vec<(String, u64)> {
    refused.into_iter().map(|(name, reader)| (name, reader.at.0)).collect()
}

#[test]
fn a_slot_that_was_used_on_another_server_is_refused_until_its_definition_is_put_back() {
    let none = BTreeSet::new();
    let mut readers = seen(r#"{"optime":90,"slots":{"a":50,"c":60,"gone":70}}"#);
    let refused = [("a".to_string(), 50)];
    assert_eq!(names(readers.refused(&[], &none)), refused, "b is new, and c physical");
    assert!(readers.refused(&[slot("a", 50)], &none).is_empty(), "it is there");
    let owned = ["a".to_string()].into();
    assert!(readers.refused(&[], &owned).is_empty(), "a person dropped it here");
    // The next report of the new leader has no position of it any more.
    let later = r#"{"optime":95,"slots":{},"refused_slots":{"a":50}}"#;
    assert_eq!(names(seen(later).refused(&[], &none)), refused);
    readers.look(&view(later), &Dynamic::read(&json!({})).unwrap(), true);
    assert!(readers.refused(&[], &none).is_empty());
}

#[test]
fn a_refusal_outlives_a_status_that_was_wiped_or_that_says_nothing_of_it() {
    let mut readers = seen(r#"{"optime":95,"refused_slots":{"a":50},"skipping_slots":["a"]}"#);
    let before = readers.clone();
    readers.look(&GroupView::default(), &dynamic(), false);
    assert_eq!(readers, before, "it was wiped");
    readers.look(&view(r#"{"optime":99,"slots":{"c":60}}"#), &dynamic(), false);
    assert_eq!(readers, before, "another program has written it");
    let unreadable = Dynamic::read(&json!({"slots": 7})).unwrap();
    readers.look(&GroupView::default(), &unreadable, false);
    assert_eq!(readers, before, "what cannot be read ends nothing");
    // Another leader has the slot, at another position.
    readers.look(&view(r#"{"optime":99,"slots":{"a":70}}"#), &dynamic(), false);
    assert!(!readers.is_ahead("a"));
}

#[test]
fn a_reader_that_is_ahead_of_the_log_would_skip_however_long_it_gets() {
    let used = r#"{"optime":90,"slots":{"a":50,"b":70}}"#;
    let mut readers = seen(used);
    let there = [slot("a", 50), slot("b", 60)];
    readers.judge(&dynamic(), &there, Lsn(70));
    assert!(readers.ahead().is_empty());
    readers.judge(&dynamic(), &there, Lsn(60));
    assert_eq!(readers.ahead(), [("b".to_string(), Lsn(70))].into());
    // The report of the former leader still stands.
    readers.look(&view(used), &dynamic(), true);
    readers.judge(&dynamic(), &there, Lsn(95));
    assert!(readers.is_ahead("b") && readers.refused(&there, &BTreeSet::new()).len() == 1);
    // A member that did not open after all.
    readers.look(&view(used), &dynamic(), false);
    assert!(!readers.is_ahead("b"));
}

/// Other members would move their copies to a position that is told as confirmed.
#[test]
fn what_is_only_guessed_of_a_reader_is_told_as_a_refusal() {
    let mut readers = seen(r#"{"optime":90,"slots":{"a":50}}"#);
    readers.doubt(&dynamic(), &[], Lsn(90));
    let view = view(r#"{"optime":90,"slots":{"a":50}}"#);
    let leader = Leader {
        name: &MemberName::new("me"),
        optime: Lsn(90),
        slots: &[],
        dynamic: &dynamic(),
        readers: ReadersTold::before_opening(readers.all().clone(), &view),
        failsafe_majority: None,
    };
    let told = leader.status(&view, &mut Retention::default(), Millis(1));
    assert_eq!((told.slots.get("a"), told.slots.get("b")), (Some(&Lsn(50)), None));
    assert_eq!(told.refused_slots.get("b"), Some(&Lsn(90)));
}

#[test]
fn a_copy_that_is_ahead_of_the_log_is_known_without_a_report() {
    let mut readers = Readers::default();
    readers.judge(&dynamic(), &[slot("a", 80), slot("mine", 90)], Lsn(75));
    assert_eq!(readers.ahead(), [("a".to_string(), Lsn(80))].into());
}

#[test]
fn a_reader_that_shows_itself_to_be_ahead_is_found_on_an_open_primary() {
    let mut readers = seen(r#"{"optime":90,"slots":{"a":50,"b":70}}"#);
    let before = [slot("a", 80), slot("b", 75), slot("mine", 99)];
    readers.find_ahead(&dynamic(), &before, Lsn(79));
    assert_eq!(readers.ahead(), [("a".to_string(), Lsn(80))].into());
}

/// A member of a group of chance: positions are numbers of records.
#[derive(Clone, Debug, Default)]
struct Server {
    log: Vec<u32>,
    slot: Option<usize>,
    readers: Readers,
    owned: BTreeSet<String>,
    sleeps: bool,
}

#[derive(Clone, Debug)]
enum Event {
    Write,
    Stream(usize),
    Read,
    Copy(usize),
    Advance(usize),
    Promote(usize),
    Sleep(usize),
    /// The definition is taken out and put back.
    Renew,
    Wipe,
    /// Another program leads for a moment.
    Foreign,
}

struct Group {
    servers: Vec<Server>,
    leader: usize,
    status: Option<String>,
    is_defined: bool,
    /// What the reader has, and what it has confirmed.
    got: BTreeSet<u32>,
    at: usize,
    /// An operator sets the reader up with the next slot.
    is_new: bool,
}

impl Group {
    fn new() -> Group {
        let (servers, got) = (vec![Server::default(); 3], BTreeSet::new());
        let (status, is_defined, is_new) = (None, true, true);
        Group { servers, leader: 0, status, is_defined, got, at: 0, is_new }
    }

    fn dynamic(&self) -> Dynamic {
        let reader = json!({"database": "d", "plugin": "p"});
        let slots = if self.is_defined { json!({"a": reader}) } else { json!({}) };
        Dynamic::read(&json!({"slots": slots})).unwrap()
    }

    fn look(&mut self, member: usize) {
        let view = self.status.as_deref().map(view).unwrap_or_default();
        let (dynamic, leads) = (self.dynamic(), member == self.leader);
        let server = &mut self.servers[member];
        server.readers.look(&view, &dynamic, leads);
        if server.readers.is_ahead("a") || dynamic.slots.is_empty() {
            server.slot = None;
        }
    }

    fn slots(&self, member: usize) -> Vec<Slot> {
        self.servers[member].slot.iter().map(|at| slot("a", *at as u64)).collect()
    }

    /// The leader's beat: its report, and the slot.
    fn beat(&mut self) {
        self.report();
        let slots = self.slots(self.leader);
        let leader = &mut self.servers[self.leader];
        let refused = leader.readers.refused(&slots, &leader.owned);
        if self.is_defined && leader.slot.is_none() && !refused.contains_key("a") {
            leader.slot = Some(leader.log.len());
            leader.owned.insert("a".to_string());
            if std::mem::take(&mut self.is_new) {
                self.got = leader.log.iter().copied().collect();
                self.at = leader.log.len();
            }
        }
        self.report();
    }

    fn report(&mut self) {
        self.look(self.leader);
        let (slots, dynamic) = (self.slots(self.leader), self.dynamic());
        let leader = &self.servers[self.leader];
        let refused = leader.readers.refused(&slots, &leader.owned);
        let name = MemberName::new("l");
        let told = Leader {
            name: &name,
            optime: Lsn(leader.log.len() as u64),
            slots: &slots,
            dynamic: &dynamic,
            failsafe_majority: None,
            readers: ReadersTold::refusing(refused),
        };
        let status = told.status(&GroupView::default(), &mut Retention::default(), Millis(1));
        self.status = Some(status.write());
        for member in 0..self.servers.len() {
            if !self.servers[member].sleeps {
                self.look(member);
            }
        }
    }

    /// Its log is the beginning of the leader's.
    fn follows(&self, member: usize) -> bool {
        self.servers[self.leader].log.starts_with(&self.servers[member].log)
    }

    fn stream(&mut self, member: usize) {
        let log = self.servers[self.leader].log.clone();
        if !self.follows(member) {
            let server = &mut self.servers[member];
            let common = server.log.iter().zip(&log).take_while(|(own, its)| own == its).count();
            server.log.truncate(common);
            server.slot = None;
        }
        let server = &mut self.servers[member];
        let from = server.log.len();
        server.log.extend(log[from..].iter().take(2));
    }

    fn read(&mut self) {
        let leader = &mut self.servers[self.leader];
        let Some(at) = leader.slot else { return };
        let from = at.max(self.at);
        self.got.extend(leader.log.iter().skip(from));
        self.at = from.max(leader.log.len());
        leader.slot = Some(self.at);
        self.report();
    }

    fn promote(&mut self, member: usize) {
        if !self.follows(member) {
            return;
        }
        (self.leader, self.servers[member].sleeps) = (member, false);
        self.look(member);
        let (dynamic, slots) = (self.dynamic(), self.slots(member));
        let server = &mut self.servers[member];
        server.readers.judge(&dynamic, &slots, Lsn(server.log.len() as u64));
        if server.readers.is_ahead("a") {
            server.slot = None;
        }
        server.owned.clear();
        self.report();
    }

    fn renew(&mut self) {
        self.is_defined = false;
        self.report();
        (self.is_defined, self.is_new) = (true, true);
        self.beat();
    }

    fn happens(&mut self, event: &Event) {
        match *event {
            Event::Write => {
                let id = self.servers.iter().flat_map(|s| &s.log).max().map_or(0, |id| id + 1);
                self.servers[self.leader].log.push(id);
            }
            Event::Stream(member) if member != self.leader => self.stream(member),
            Event::Read => self.read(),
            Event::Copy(member) if member != self.leader && self.follows(member) => {
                let slot = self.servers[self.leader].slot;
                let server = &mut self.servers[member];
                if slot.is_some() && !server.readers.is_ahead("a") {
                    server.slot = slot;
                }
            }
            Event::Advance(member) if member != self.leader => {
                let told = self.status.as_deref().map(view).unwrap_or_default();
                let told = told.status.and_then(|status| status.value.slots.get("a").copied());
                let server = &mut self.servers[member];
                let to = told.map(|at| (at.0 as usize).min(server.log.len()));
                server.slot = server.slot.map(|at| at.max(to.unwrap_or(0)));
            }
            Event::Promote(member) if member != self.leader => self.promote(member),
            Event::Sleep(member) => self.servers[member].sleeps ^= true,
            Event::Renew => self.renew(),
            // What a member has never seen it cannot remember.
            Event::Wipe | Event::Foreign => {
                (0..self.servers.len()).for_each(|member| self.look(member));
                self.status = matches!(event, Event::Foreign).then(|| r#"{"optime":1}"#.into());
                return;
            }
            _ => {}
        }
        self.beat();
    }

    /// What is left of the log for the reader, and what it has, are the whole log.
    fn misses(&self) -> Vec<u32> {
        let leader = &self.servers[self.leader];
        let Some(at) = leader.slot.filter(|_| !self.is_new) else { return Vec::new() };
        let skipped = leader.log.iter().take(at.max(self.at));
        skipped.filter(|id| !self.got.contains(id)).copied().collect()
    }
}

/// A failover loses what the reader has, and a member with an old copy leads next.
#[test]
fn without_the_refusal_an_old_copy_would_be_resumed_and_rows_missed() {
    let story = || {
        let mut group = Group::new();
        group.beat();
        let write = || Event::Write;
        for event in [Event::Copy(2), Event::Sleep(2), write(), write(), Event::Read] {
            group.happens(&event);
        }
        for event in [Event::Promote(1), write(), write(), write()] {
            group.happens(&event);
        }
        group.happens(&Event::Stream(2));
        group.happens(&Event::Stream(2));
        group
    };
    let mut told = story();
    told.happens(&Event::Promote(2));
    assert!(told.servers[2].slot.is_none() && told.misses().is_empty());
    let mut wiped = story();
    wiped.happens(&Event::Wipe);
    wiped.happens(&Event::Promote(2));
    assert!(wiped.servers[2].slot.is_none(), "it remembers");
    let mut forgotten = story();
    forgotten.status = Some(r#"{"optime":3}"#.into());
    forgotten.happens(&Event::Promote(2));
    assert_eq!(forgotten.misses(), [2, 3]);
}

fn event() -> impl Strategy<Value = Event> {
    let member = 0..3usize;
    prop_oneof![
        4 => Just(Event::Write),
        4 => member.clone().prop_map(Event::Stream),
        4 => Just(Event::Read),
        2 => member.clone().prop_map(Event::Copy),
        2 => member.clone().prop_map(Event::Advance),
        2 => member.clone().prop_map(Event::Promote),
        1 => member.prop_map(Event::Sleep),
        1 => Just(Event::Renew),
        1 => Just(Event::Wipe),
        1 => Just(Event::Foreign),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_reader_that_finds_its_slot_has_missed_nothing(
        events in prop::collection::vec(event(), 1..40),
    ) {
        let mut group = Group::new();
        group.beat();
        for event in &events {
            group.happens(event);
            prop_assert_eq!(group.misses(), Vec::<u32>::new(), "after {:?}", event);
        }
    }
}
