//! What is known of the readers of permanent logical slots, and which slots would skip data.
//!
//! A logical slot begins where the log ends when it is made. So a slot that its reader has
//! used on another server is made anew only if nothing is skipped by that: never by this
//! daemon. It is refused, with the position that its reader has confirmed, until an operator
//! takes its definition out of `/config` and puts it back. A member that has a copy may
//! resume it.
//!
//! A reader that has confirmed more than the log of a new primary has would miss what that
//! primary writes up to there. It would miss it on each member that follows this history,
//! however long its log gets: no copy of that slot is resumed, and all are dropped.
//!
//! Every member remembers what `/status` has said, so that a document that was wiped, or
//! written once by a program that does not know of this, ends no refusal.
//!
//! Invariant: what is known of a reader ends with the definition of its slot, or with
//! another position that a leader reports of that slot.

use super::{Kind, Slot, permanent};
use std::collections::{BTreeMap, BTreeSet};
use topology::dynamic::PERMANENT_SLOTS;
use topology::{Dynamic, GroupView, Lsn};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// What it has confirmed on the last primary that had its slot.
    pub at: Lsn,
    /// That is more than the log of the group has.
    pub is_ahead: bool,
    /// Nothing is known of it but that it may have used its slot elsewhere, up to there. No copy
    /// is moved to such a position.
    pub is_guess: bool,
}

/// By slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers(BTreeMap<String, Reader>);

impl Readers {
    /// What is not said is remembered. `leads`: this member holds the lock, and a former
    /// leader's report may still stand.
    pub fn look(&mut self, view: &GroupView, dynamic: &Dynamic, leads: bool) {
        let names = logical_names(dynamic);
        let may_be_defined = |name: &String| names.contains(name) || is_unclear(name, dynamic);
        self.0.retain(|name, _| may_be_defined(name));
        self.read(view, &names, leads);
    }

    fn read(&mut self, view: &GroupView, names: &BTreeSet<String>, leads: bool) {
        let Some(status) = view.status.as_ref().map(|status| &status.value) else { return };
        for name in names {
            let before = self.0.get(name).copied();
            let (at, is_refused) = match (status.slots.get(name), status.refused_slots.get(name)) {
                (Some(at), _) => (*at, false),
                (None, Some(at)) => (*at, true),
                (None, None) => continue,
            };
            let is_told = is_refused && status.skipping_slots.contains(name);
            let was_ahead = before.is_some_and(|reader| reader.is_ahead && reader.at == at);
            let is_ahead = is_told || was_ahead && (leads || is_refused);
            self.0.insert(name.clone(), Reader { at, is_ahead, is_guess: false });
        }
    }

    /// A server is about to open, and its log ends there: the readers that are ahead of it are
    /// ahead of the group from now on. A copy may be further than any report.
    pub fn judge(&mut self, dynamic: &Dynamic, there: &[Slot], end: Lsn) {
        let names = logical_names(dynamic);
        let copies = there.iter().filter(|slot| !slot.is_physical() && names.contains(&slot.name));
        for (name, at) in copies.filter_map(|slot| Some((&slot.name, slot.confirmed_flush?))) {
            let reader = self.0.entry(name.clone()).or_insert(Reader { at, ..Reader::default() });
            reader.at = reader.at.max(at);
        }
        for reader in self.0.values_mut() {
            reader.is_ahead |= reader.at > end;
        }
    }

    /// A reader has come to an open primary and confirmed more than that has: no report was
    /// young enough to show it. `before`: slots of this primary at an earlier look than `end`.
    pub fn find_ahead(&mut self, dynamic: &Dynamic, before: &[Slot], end: Lsn) {
        let names = logical_names(dynamic);
        let slots = before.iter().filter(|slot| names.contains(&slot.name));
        let ahead = slots.filter_map(|slot| Some((&slot.name, slot.confirmed_flush?)));
        for (name, at) in ahead.filter(|(_, at)| *at > end) {
            self.0.insert(name.clone(), Reader { at, is_ahead: true, is_guess: false });
        }
    }

    /// Slots of this standby that begin behind what their readers have confirmed: they would skip
    /// what lies between. `unready`: those that no reader is known to have passed.
    pub fn begin_late(&mut self, there: &[Slot], unready: &BTreeSet<String>) -> Vec<String> {
        let mut late = Vec::new();
        for slot in there.iter().filter(|slot| unready.contains(&slot.name)) {
            let Some(begin) = slot.confirmed_flush else { continue };
            let at = slot.restart_lsn.unwrap_or(begin);
            let known = self.0.entry(slot.name.clone());
            let reader = known.or_insert(Reader { at, ..Reader::default() });
            if reader.at < begin {
                late.push(slot.name.clone());
            }
        }
        late
    }

    /// The group has followed another one up to `end`: slots that it lacks may have been used
    /// there.
    pub fn doubt(&mut self, dynamic: &Dynamic, there: &[Slot], end: Lsn) {
        let names = logical_names(dynamic).into_iter();
        let missing = names.filter(|name| !there.iter().any(|slot| slot.name == *name));
        self.guess(&missing.collect(), end);
    }

    /// These slots were used on another server, and nothing is known of how far.
    pub fn guess(&mut self, names: &BTreeSet<String>, end: Lsn) {
        for name in names {
            let guess = Reader { at: end, is_guess: true, ..Reader::default() };
            self.0.entry(name.clone()).or_insert(guess);
        }
    }

    /// What a leader that follows another group tells of slots that it lacks: a daemon that was
    /// started since knows no other sign that they may have been used there. A position that was
    /// told stays.
    pub fn doubted(&self, dynamic: &Dynamic, there: &[Slot], end: Lsn) -> BTreeMap<String, Reader> {
        let mut doubted = self.clone();
        doubted.doubt(dynamic, there, end);
        let names = logical_names(dynamic);
        let is_there = |name: &String| there.iter().any(|slot| slot.name == *name);
        doubted.0.retain(|name, _| names.contains(name) && !is_there(name));
        doubted.0
    }

    /// Those that no member resumes.
    pub fn ahead(&self) -> BTreeMap<String, Lsn> {
        let ahead = self.0.iter().filter(|(_, reader)| reader.is_ahead);
        ahead.map(|(name, reader)| (name.clone(), reader.at)).collect()
    }

    pub fn is_ahead(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|reader| reader.is_ahead)
    }

    /// Slots that this primary does not make: they are not here, and were used on another
    /// server. `owned`: slots that this server had while it was the primary; a person has
    /// dropped those that are gone.
    pub fn refused(&self, there: &[Slot], owned: &BTreeSet<String>) -> BTreeMap<String, Reader> {
        let is_there = |name: &String| there.iter().any(|slot| slot.name == *name);
        let is_made = |name: &String| is_there(name) || owned.contains(name);
        let refused = self.0.iter().filter(|(name, reader)| reader.is_ahead || !is_made(name));
        refused.map(|(name, reader)| (name.clone(), *reader)).collect()
    }

    pub fn all(&self) -> &BTreeMap<String, Reader> {
        &self.0
    }
}

fn logical_names(dynamic: &Dynamic) -> BTreeSet<String> {
    let all = permanent(&dynamic.slots).specifications.into_iter();
    all.filter(|slot| slot.kind != Kind::Physical).map(|slot| slot.name).collect()
}

/// The key that defines permanent slots cannot be read.
pub fn are_unreadable(dynamic: &Dynamic) -> bool {
    dynamic.is_any_unreadable(&PERMANENT_SLOTS)
}

/// What cannot be read may define it.
fn is_unclear(name: &str, dynamic: &Dynamic) -> bool {
    are_unreadable(dynamic) || permanent(&dynamic.slots).unclear.contains(name)
}

#[cfg(test)]
#[path = "readers_tests.rs"]
mod tests;
