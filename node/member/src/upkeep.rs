//! What a member keeps true in the store beside its decisions: its record and, leading,
//! the documents of the group.
//!
//! A store may forget everything (an operator's `del --prefix`, a new disk). What it
//! should hold is known here: the system id from the control file, the history from its
//! file with the times and names that were last seen.
//!
//! Nothing here changes which member leads. Every write is conditional and a leader's
//! carries the lock; one that fails is tried again after a later beat, because the
//! difference is still there.
//!
//! Invariant: all writes of a beat together take no longer than a leader's next renewal
//! can wait.

use super::effect::{Answer, Call, Effect};
use super::{Level, Member, Particulars, history, schedule};
use crate::ha::Observation;
use crate::ha::failsafe::Map;
use crate::lock::{NextLease, OwnLease};
use crate::write;
use standby::report::{Leader, ReadersTold};
use standby::slots::Reader;
use standby::switch::ownership::Ownership;
use std::collections::BTreeMap;
use topology::write::{LeaderWrite, Replacement};
use topology::{GroupView, MemberName, MemberRecord, Millis, Session, Write};

/// One document that a leader keeps.
pub struct Row {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    /// What is written, for the log.
    pub what: &'static str,
    due: fn(&mut Member, &Sights) -> Option<Write>,
    /// Why it is written, and when.
    pub why: &'static str,
}

/// What the rows go by.
struct Sights<'a> {
    seen: &'a Observation,
    view: &'a GroupView,
    session: Session,
    about: &'a Particulars,
    /// The lease was renewed in this beat, or there is no `/status`.
    is_status_due: bool,
}

impl Sights<'_> {
    fn as_leader(&self, write: LeaderWrite) -> Write {
        Write::AsLeader { session: self.session, write }
    }
}

/// In the order in which they are written.
pub const UPKEEP: &[Row] = &[
    Row {
        id: 1110,
        what: "/initialize",
        due: initialize,
        why: "the key is missing or names no system: this cluster's system id is entered",
    },
    Row {
        id: 1120,
        what: "/config",
        due: config,
        why: "a store without a configuration gets the one in force; one that cannot be read is \
              left, for an operator wrote it",
    },
    // Before the position: members judge by it which of them may take the lock.
    Row {
        id: 1130,
        what: "/failsafe",
        due: Member::failsafe_map_due,
        why: "it names all members that may take the lock; once it exists it is kept up to date, \
              also when the mode is off",
    },
    Row {
        id: 1140,
        what: "/status",
        due: status,
        why: "the end of the log and the slots, after each renewal",
    },
    Row {
        id: 1150,
        what: "the end of /sync",
        due: end_of_sync,
        why: "without a synchronous mode, an old `/sync` would keep other members from taking the lock",
    },
    Row {
        id: 1160,
        what: "/history",
        due: history_line,
        why: "it tells the group's timeline to the members that may lead next",
    },
    Row {
        id: 1170,
        what: "/failover",
        due: old_request,
        why: "a scheduled switchover that is out of date is taken back",
    },
];

/// The writes after a beat.
#[derive(Debug)]
pub(super) struct Upkeep {
    about: Particulars,
    began: Millis,
    until: Millis,
    is_status_due: bool,
    waits: Waits,
}

#[derive(Debug)]
enum Waits {
    /// A lease for the record was asked for at this moment.
    Grant {
        asked: Millis,
        is_second: bool,
    },
    Record {
        is_second: bool,
    },
    Row(usize, Option<Sent>),
}

/// `/failsafe` on its way: this beat's limit may cut the call off.
#[derive(Debug)]
pub(super) struct Sent {
    before: Map,
    map: Map,
}

impl Member {
    /// The first write after a beat; `None`: nothing is to be written.
    pub fn begin_upkeep(
        &mut self,
        now: Millis,
        seen: &Observation,
        about: Particulars,
    ) -> Option<Effect> {
        let view = seen.view()?;
        self.note_view(view);
        self.note_readers(seen);
        if seen.job.is_none() && super::record::role_of(seen).is_some() {
            self.ran_as = Some(self.role(seen));
        }
        let is_status_due =
            seen.holds_lock() && (std::mem::take(&mut self.status_due) || view.status.is_none());
        let until = now + self.report_limit_ms(seen, now);
        let waits = Waits::Record { is_second: false };
        let mut upkeep = Upkeep { about, began: now, until, is_status_due, waits };
        let effect = match self.record_due(seen, &upkeep.about) {
            true => Some(self.write_record(&mut upkeep, seen, now, false)),
            false => self.next_row(&mut upkeep, seen, 0, now),
        };
        self.upkeep = effect.is_some().then_some(upkeep);
        effect
    }

    /// The next write, after the last one was answered.
    pub fn go_on_with_upkeep(
        &mut self,
        now: Millis,
        seen: &Observation,
        answer: Answer,
    ) -> Option<Effect> {
        let mut upkeep = self.upkeep.take()?;
        let effect = match std::mem::replace(&mut upkeep.waits, Waits::Row(0, None)) {
            Waits::Grant { asked, is_second } => match answer {
                Answer::Granted(id) => {
                    let ttl_ms = self.dynamic.ttl_ms;
                    self.adopt_lease(NextLease { id, renewed: asked, ttl_ms });
                    Some(self.write_record(&mut upkeep, seen, now, is_second))
                }
                answer => self.after_record(&mut upkeep, seen, answer, now),
            },
            // A leader's lease is replaced together with its key, by a renewal.
            Waits::Record { is_second: false }
                if matches!(answer, Answer::LeaseGone) && !self.held =>
            {
                self.note(Level::Warn, "the lease is gone: another one is asked for");
                self.lease = OwnLease::default();
                Some(self.write_record(&mut upkeep, seen, now, true))
            }
            Waits::Record { .. } => self.after_record(&mut upkeep, seen, answer, now),
            Waits::Row(index, sent) => {
                self.row_answered(&UPKEEP[index], sent, answer);
                self.next_row(&mut upkeep, seen, index + 1, now)
            }
        };
        self.upkeep = effect.is_some().then_some(upkeep);
        effect
    }

    /// The times and names of older timelines are nowhere else, and neither are
    /// the addresses of members whose records have ended.
    fn note_view(&mut self, view: &GroupView) {
        if view.leader.is_some() {
            let urls = view.members.iter();
            let urls = urls.filter_map(|(n, m)| Some((n.clone(), m.value.api_url.clone()?)));
            self.seen_urls = urls.collect();
        }
        if let Some(history) = view.history.as_ref().filter(|h| !h.value.is_empty())
            && self.history != history.value
        {
            self.history = history.value.clone();
        }
    }

    /// The record in the store is another one; positions alone are told once a loop.
    fn record_due(&self, seen: &Observation, about: &Particulars) -> bool {
        let there = seen.view().and_then(|view| view.members.get(&self.name));
        let record = self.record(seen, about);
        let Some(there) = there.filter(|there| there.is_on(self.lease.id)) else {
            return true;
        };
        let young = seen.now.since(self.recorded_at) < self.dynamic.loop_wait_ms;
        let positions_only = without_positions(&there.value) == without_positions(&record);
        there.value != record && !(positions_only && young)
    }

    fn write_record(
        &mut self,
        upkeep: &mut Upkeep,
        seen: &Observation,
        now: Millis,
        is_second: bool,
    ) -> Effect {
        if let (None, Some(next)) = (self.lease.id, self.lease.next) {
            self.adopt_lease(next);
        }
        let limit_ms = Some(upkeep.until.since(now).max(1));
        let Some(session) = self.lease.id else {
            upkeep.waits = Waits::Grant { asked: now, is_second };
            return Effect::Call { call: Call::Grant { ttl_ms: self.dynamic.ttl_ms }, limit_ms };
        };
        upkeep.waits = Waits::Record { is_second };
        let record = Box::new(self.record(seen, &upkeep.about));
        let there = seen.view().and_then(|view| view.members.get(&self.name));
        let record = Replacement { value: record, on: there.map(|there| there.version) };
        let write = Write::PutRecord { me: self.name.clone(), session, record };
        Effect::Call { call: Call::Report { what: "the member record", write }, limit_ms }
    }

    fn after_record(
        &mut self,
        upkeep: &mut Upkeep,
        seen: &Observation,
        answer: Answer,
        now: Millis,
    ) -> Option<Effect> {
        match answer {
            Answer::Written(result) if result.succeeded => self.recorded_at = seen.now,
            Answer::NoAnswer(why) => {
                self.note(Level::Warn, format!("the member record could not be written: {why}"));
            }
            _ => {}
        }
        self.next_row(upkeep, seen, 0, now)
    }

    /// The next document of a leader that is not as it should be.
    fn next_row(
        &mut self,
        upkeep: &mut Upkeep,
        seen: &Observation,
        from: usize,
        now: Millis,
    ) -> Option<Effect> {
        if now >= upkeep.until {
            let span = std::time::Duration::from_millis(now.since(upkeep.began));
            let span = topology::time::span(span);
            let text = format!(
                "upkeep writes stopped after {span}: the store is too slow; the next beat continues"
            );
            self.note(Level::Warn, text);
            return None;
        }
        if !seen.holds_lock() {
            self.retention.forget();
            return None;
        }
        let (view, session) = (seen.view()?, self.lease.id?);
        let (about, is_status_due) = (&upkeep.about, upkeep.is_status_due);
        let sights = Sights { seen, view, session, about, is_status_due };
        if from == 0 {
            self.tell_never_synchronous(view);
        }
        let due = (from..UPKEEP.len())
            .find_map(|index| (UPKEEP[index].due)(self, &sights).map(|write| (index, write)));
        let (index, write) = due?;
        upkeep.waits = Waits::Row(index, self.sending.take());
        let limit_ms = Some(upkeep.until.since(now).max(1));
        Some(Effect::Call { call: Call::Report { what: UPKEEP[index].what, write }, limit_ms })
    }

    fn row_answered(&mut self, row: &Row, sent: Option<Sent>, answer: Answer) {
        match (&answer, sent) {
            (Answer::Written(result), Some(sent)) if result.succeeded => {
                self.peer_set.written(sent.map);
            }
            (Answer::Written(_) | Answer::Known, Some(sent)) => {
                self.peer_set.not_taken(sent.before);
            }
            _ => {}
        }
        match answer {
            Answer::Written(result) if result.succeeded && row.id == END_OF_SYNC => {
                self.note(Level::Info, "no synchronous mode is in force here: /sync is deleted");
            }
            Answer::NoAnswer(why) => {
                self.note(Level::Warn, format!("{} could not be written: {why}", row.what));
            }
            _ => {}
        }
    }

    /// Members that no setting makes synchronous, each once.
    fn tell_never_synchronous(&mut self, view: &GroupView) {
        if !self.dynamic.is_synchronous {
            return self.never_synchronous.clear();
        }
        for name in view.members.keys() {
            if let Some(why) = standby::sync::never_synchronous(name)
                && self.never_synchronous.insert(name.clone())
            {
                let text = format!("{name} never becomes a synchronous standby: {why}");
                self.note(Level::Warn, text);
            }
        }
    }

    fn failsafe_map_due(&mut self, sights: &Sights) -> Option<Write> {
        let Sights { seen, view, session, about, is_status_due } = *sights;
        if !is_status_due || !self.dynamic.failsafe_mode && view.failsafe.is_none() {
            return None;
        }
        let ttl_ms = self.dynamic.ttl_ms;
        let map = self.peer_set.next(&self.name, &about.api_url, view, seen.now, ttl_ms);
        if view.failsafe.as_ref().is_some_and(|known| known.value == map) {
            return None;
        }
        let before = self.peer_set.sending(&map);
        let write = LeaderWrite::PutFailsafe(map.clone());
        self.sending = Some(Sent { before, map });
        Some(Write::AsLeader { session, write })
    }
}

const END_OF_SYNC: u16 = 1150;

fn initialize(_: &mut Member, sights: &Sights) -> Option<Write> {
    let system = sights.seen.system()?;
    let there = sights.view.initialize.as_ref();
    if there.is_some_and(|initialize| initialize.value.is_some()) {
        return None;
    }
    let on = there.map(|there| there.version);
    let system = Replacement { value: system.clone(), on };
    Some(sights.as_leader(LeaderWrite::PutSystem(system)))
}

fn config(member: &mut Member, sights: &Sights) -> Option<Write> {
    let empty_at = sights.view.missing_config()?;
    if member.dynamic.raw.as_object().is_none_or(|map| map.is_empty()) {
        return None;
    }
    let value = topology::document::compact(&member.dynamic.raw);
    Some(sights.as_leader(LeaderWrite::PutConfig(Replacement { value, on: empty_at })))
}

fn status(member: &mut Member, sights: &Sights) -> Option<Write> {
    let server = sights.seen.server().filter(|server| server.lsn.0 > 0)?;
    if must_keep_the_end(sights) {
        member.status_due = true;
        return None;
    }
    let readers = member.readers(sights);
    let is_news = readers.are_news(sights.view);
    if !std::mem::take(&mut member.status_due) && !sights.is_status_due && !is_news {
        return None;
    }
    let leader = Leader {
        name: &member.name,
        optime: server.lsn,
        slots: &sights.about.slots,
        dynamic: &member.dynamic,
        readers,
        failsafe_majority: majority_leader(member, sights),
    };
    let status = leader.status(sights.view, &mut member.retention, sights.seen.now);
    write::status(sights.session, &status, sights.view)
}

impl Member {
    /// What this leader tells of readers of logical slots, beside its own slots.
    fn readers(&self, sights: &Sights) -> ReadersTold {
        let logical = &self.slots.logical;
        if let Some(remote) = logical.remote_readers(sights.seen) {
            return ReadersTold::of_standby_region(remote);
        }
        match (sights.seen.may_own(), sights.seen.is_primary()) {
            // It may be this region that owns: what is known of readers stays.
            (false, _) if matches!(sights.seen.ownership, Ownership::Doubtful(_)) => {
                ReadersTold::before_opening(logical.readers(), sights.view)
            }
            (false, _) => ReadersTold::refusing(self.doubted_readers(sights)),
            (true, true) => ReadersTold::refusing(logical.refused(&sights.about.slots)),
            (true, false) => ReadersTold::before_opening(logical.readers(), sights.view),
        }
    }

    fn doubted_readers(&self, sights: &Sights) -> BTreeMap<String, Reader> {
        let end = sights.seen.server().map(|server| server.lsn).unwrap_or_default();
        self.slots.logical.doubted_readers(&self.dynamic, &sights.about.slots, end)
    }
}

/// A primary tells that a majority is enough for it before it relies on that. What another
/// leader told stays until this member is open.
fn majority_leader(member: &Member, sights: &Sights) -> Option<MemberName> {
    let known = sights.view.status.as_ref().and_then(|s| s.value.failsafe_majority.clone());
    match (sights.seen.is_primary(), member.dynamic.failsafe_majority) {
        (true, true) => Some(member.name.clone()),
        // Promises that were given before the mode changed may still be relied on.
        (true, false) if member.proof.is_some() => known,
        (true, false) => None,
        (false, _) => known,
    }
}

/// A leader ended in order, and the member that holds the lock since then has not
/// opened. Until one has, no member may lead that lacks this end: it stays in `/status`.
fn must_keep_the_end(sights: &Sights) -> bool {
    let view = sights.view;
    let ended = view.status.as_ref().is_some_and(|status| status.value.ended.is_some());
    ended && sights.seen.may_own() && !sights.seen.is_primary()
}

/// When the mode is off, and where this group follows another one.
fn end_of_sync(member: &mut Member, sights: &Sights) -> Option<Write> {
    let seen = sights.seen;
    let is_off = !member.dynamic.is_synchronous && seen.is_primary();
    let is_doubtful = matches!(seen.ownership, Ownership::Doubtful(_));
    let follows = seen.is_standby() && !seen.may_own() && !is_doubtful;
    let left = sights.view.sync.as_ref().filter(|_| is_off || follows)?;
    Some(sights.as_leader(LeaderWrite::DeleteSync { on: left.version }))
}

fn history_line(member: &mut Member, sights: &Sights) -> Option<Write> {
    let timeline = sights.seen.server()?.timeline?;
    let own = sights.seen.history.as_ref().filter(|own| own.current == timeline)?;
    if !sights.seen.is_primary() || history::is_told(sights.view, own) {
        return None;
    }
    let (me, max) = (member.name.as_str(), member.dynamic.max_timelines_history);
    let began = &sights.about.timeline_began;
    let mut entries = history::merged(own, &member.history, me, began, max);
    if let (Some(last), Some(unready)) = (entries.last_mut(), &member.slots.logical.promoted_with) {
        last.reason.push_str(&format!("; logical slots not ready: {unready}"));
    }
    Some(sights.as_leader(LeaderWrite::PutHistory(entries)))
}

fn old_request(member: &mut Member, sights: &Sights) -> Option<Write> {
    use schedule::Due;
    let scheduled = schedule::scheduled(sights.seen, sights.about.unix_ms);
    let is_old = matches!(scheduled, Some(Due::TooOld | Due::Unreadable));
    if !is_old || member.dynamic.pause {
        return None;
    }
    member.note(
        Level::Warn,
        "clearing the scheduled switchover: its time has passed or cannot be read",
    );
    write::clear_request(sights.view)
}

fn without_positions(record: &MemberRecord) -> MemberRecord {
    MemberRecord {
        xlog_location: None,
        replay_lsn: None,
        receive_lsn: None,
        remote: None,
        ..record.clone()
    }
}
