//! Whether a reader can go on with a standby's copy of its slot.
//!
//! Under one leader, one slot on it, one start of the own server and without a gap in its
//! feedback a copy is judged by what the leader says of its own slots; when one of these is
//! another, all is judged anew.

use super::copies::is_copyable;
use super::{LogicalMemory, Moment, logical_of};
use crate::ha::facts::Facts;
use standby::slots::logical::makes_own;
use standby::slots::{Plan, Readiness, Slot, logical};
use std::collections::{BTreeMap, BTreeSet};
use topology::id::slot_name;
use topology::{MemberName, Millis, Timeline};

#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub readiness: BTreeMap<String, Readiness>,
    /// Under which leader, and since which start of the server, they are judged.
    pub judged: Option<Judged>,
    /// The leader's slots, and when it told them.
    pub answer: Option<(Millis, Vec<Slot>)>,
    /// When the leader was asked last, and under which judgement.
    pub asked: Option<(Millis, Option<Judged>)>,
    /// Slots of which it was told that they wait for their readers.
    pub told_behind: BTreeSet<String>,
}

/// Who leads, also in another region, through which slot there this member keeps rows, since
/// when it asks for that, and when the server was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    leader: String,
    slot: Option<String>,
    /// Of the leader, as this server has it: two failovers may lead back to the same one.
    timeline: Option<Timeline>,
    started: Option<String>,
    /// `hot_standby_feedback`. While it is off rows go that do not come back, and between two
    /// answers of the leader its slot shows nothing of that.
    feedback: bool,
}

impl Judged {
    /// `before`: whose timeline holds while that of the server is not known.
    fn of(moment: &Moment, before: Option<&Judged>, feedback: bool) -> Option<Judged> {
        let (started, slot) = (moment.sight.started.clone(), own_upstream_slot(moment));
        let timeline = moment.seen.server().and_then(|server| server.timeline);
        if !moment.copies_region() {
            let leader = moment.view.leader_name()?.to_string();
            let timeline = timeline.or(before.and_then(|before| before.timeline));
            return Some(Judged { leader, slot, timeline, started, feedback });
        }
        let remote = Facts::of(moment.seen).remote()?;
        let leader = format!("{} at {}:{}", remote.member, remote.host, remote.port);
        Some(Judged { leader, slot, timeline, started, feedback })
    }
}

impl LogicalMemory {
    /// The answer of a former leader, or of another source, says nothing of the one that is
    /// followed now.
    pub(super) fn take_answer(&mut self, slots: &[Slot], now: Millis) {
        if self.judgement.asked.as_ref().is_none_or(|(_, judged)| *judged == self.judgement.judged)
        {
            self.judgement.answer = Some((now, slots.to_vec()));
        }
    }

    /// While no member leads, or the remote leader is down, as in a move, nothing says that
    /// another one does: only what this server does counts.
    fn judged_before(&self, moment: &Moment) -> Option<Judged> {
        let (started, feedback) = (moment.sight.started.clone(), self.sends_feedback());
        self.judgement.judged.clone().map(|before| Judged { started, feedback, ..before })
    }

    fn sends_feedback(&self) -> bool {
        self.server.feedback.unwrap_or_default()
    }

    /// A copy that is gone, or was never judged here, is not ready.
    pub(super) fn doubt_judgement(&mut self, moment: &Moment) {
        let before = self.judged_before(moment);
        let is_judged = self.is_native() || before.is_some() && before == self.judgement.judged;
        for (name, readiness) in &mut self.judgement.readiness {
            let is_there =
                moment.sight.slots.iter().any(|slot| slot.name == *name && !slot.is_lost);
            *readiness = match (is_there, is_judged) {
                (false, _) => Readiness::Missing,
                (true, true) => *readiness,
                (true, false) => readiness.anew(),
            };
        }
    }

    pub(super) fn judge(&mut self, moment: &Moment, plan: &Plan) {
        let before = self.judgement.judged.as_ref();
        let judged = Judged::of(moment, before, self.sends_feedback());
        let judged = judged.or_else(|| self.judged_before(moment));
        let is_known = judged.as_ref().is_some_and(|judged| judged.timeline.is_some());
        let may_differ = is_known || !moment.copies_region();
        if may_differ && self.judgement.judged != judged {
            self.judgement
                .readiness
                .values_mut()
                .for_each(|readiness| *readiness = readiness.anew());
            (self.judgement.judged, self.judgement.answer) = (judged, None);
        }
        let theirs = self.judgement.answer.as_ref().map_or(&[][..], |(_, slots)| slots);
        let find = |slots: &'_ [Slot], name: &str| slots.iter().find(|s| s.name == name).cloned();
        let physical = own_upstream_slot(moment).and_then(|name| find(theirs, &name));
        let physical = physical.map(|slot| slot.catalog_xmin);
        let mut readiness = BTreeMap::new();
        for (name, kind) in logical_of(plan) {
            let own = find(&moment.sight.slots, name).filter(|slot| slot.kind == *kind);
            let before = self.judgement.readiness.get(name).copied().unwrap_or_default();
            let next = match self.is_native() {
                true => logical::native_readiness(&moment.sight.slots, name),
                false => {
                    let its = find(theirs, name).filter(|slot| slot.kind == *kind);
                    match before.next(own.as_ref(), its.as_ref(), physical) {
                        Readiness::Missing if self.is_behind(moment, its.as_ref()) => {
                            Readiness::Behind
                        }
                        next => next,
                    }
                }
            };
            readiness.insert(name.clone(), next);
        }
        self.judgement.readiness = readiness;
    }

    /// A copy would be lost at once: its reader has to come to the WAL of this server first.
    fn is_behind(&self, moment: &Moment, theirs: Option<&Slot>) -> bool {
        let is_behind = |its: &Slot| is_copyable(its) && !moment.sight.has_wal(its.restart_lsn);
        !makes_own(self.server.major) && theirs.is_some_and(is_behind)
    }

    /// What is to be told of slots that wait for their readers: once, until that is over.
    pub(super) fn take_behind(&mut self, moment: &Moment) -> Vec<String> {
        let Judgement { readiness, told_behind, answer, .. } = &mut self.judgement;
        let is_over = |name: &String| {
            let word = readiness.get(name);
            // Without an answer nothing is known of it.
            word.is_none_or(|word| *word != Readiness::Behind) && answer.is_some()
        };
        told_behind.retain(|name| !is_over(name));
        let theirs = answer.iter().flat_map(|(_, slots)| slots);
        let behind = theirs.filter(|slot| readiness.get(&slot.name) == Some(&Readiness::Behind));
        let news = behind.filter(|slot| told_behind.insert(slot.name.clone()));
        news.filter_map(|slot| why_behind(slot, moment)).collect()
    }
}

fn why_behind(theirs: &Slot, moment: &Moment) -> Option<String> {
    let (begins, wal) = (theirs.restart_lsn?, moment.sight.wal_from?);
    Some(format!(
        "the logical slot `{}` is not copied yet: it begins at {begins}, and the WAL of this server at \
         {wal}. It is copied once its reader has come there",
        theirs.name
    ))
}

/// The slot on the leader through which this member's feedback comes: its own, or that of
/// the member nearest to the leader that it cascades from.
fn own_upstream_slot(moment: &Moment) -> Option<String> {
    if moment.copies_region() {
        return Facts::of(moment.seen).remote()?.slot;
    }
    let mut at = moment.seen.me.name.clone();
    for _ in 0..=moment.view.members.len() {
        let record = moment.view.member(&at)?;
        let above = record.tags.replicatefrom().map(MemberName::new);
        let above = above.filter(|name| moment.view.member(name).is_some());
        match above.filter(|name| moment.view.leader_name() != Some(name)) {
            Some(above) => at = above,
            None => return Some(slot_name(at.as_str())),
        }
    }
    None
}
