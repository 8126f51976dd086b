//! The next steps from the slots that are there to those that are wanted.
//!
//! Each function gives all steps of one kind. Their order, in which what is dropped makes
//! room for what is made, is that of the machine's rows (`node/member/src/slots.rs`).

use super::spared::{is_ignored, is_of_table_copy, is_reserved};
use super::{Kind, Logical, Plan, Role, Situation, Slot, Unknown, Wanted};
use std::collections::BTreeSet;
use std::fmt;
use topology::dynamic::PERMANENT_SLOTS;
use topology::{Lsn, Millis};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropWhy {
    /// It is lost, and made anew.
    Lost,
    /// It keeps dead rows for a standby that streams from another server now.
    HoldsRows,
    /// It reserves no WAL, and is made anew.
    Unreserved,
    /// A slot of another type, database or plugin is wanted.
    OtherKind,
    Unknown,
    /// PostgreSQL 17: its namesake on the primary cannot be copied while it is there.
    NotSynced,
    /// Its reader has confirmed more than the log of the group has.
    Skips,
    /// A standby region: the slot that it is a copy of is not on the remote leader.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotStep {
    Drop {
        name: String,
        why: DropWhy,
    },
    Advance {
        name: String,
        to: Lsn,
    },
    CreatePhysical {
        name: String,
    },
    /// `failover`: PostgreSQL 17 and newer copy it to standbys.
    CreateLogical {
        name: String,
        database: String,
        plugin: String,
        failover: bool,
    },
    /// PostgreSQL 16: a slot of a standby's own, in place of a copy.
    CreateOnStandby {
        name: String,
        database: String,
        plugin: String,
    },
    AdvanceLogical {
        name: String,
        database: String,
        to: Lsn,
    },
    /// PostgreSQL 17: have the server copy it to standbys.
    SetFailover {
        name: String,
    },
    /// Ask the leader where its slots stand.
    AskLeader,
}

impl SlotStep {
    /// It may take longer than a beat: it runs beside the beats, one for each key.
    pub fn beside(&self) -> Option<&str> {
        match self {
            SlotStep::CreateLogical { database, .. }
            | SlotStep::CreateOnStandby { database, .. }
            | SlotStep::AdvanceLogical { database, .. } => Some(database),
            SlotStep::SetFailover { .. } | SlotStep::AskLeader => Some(""),
            SlotStep::Drop { .. } | SlotStep::Advance { .. } | SlotStep::CreatePhysical { .. } => {
                None
            }
        }
    }

    /// The same for all positions.
    pub fn without_position(&self) -> SlotStep {
        match self {
            SlotStep::Advance { name, .. } => SlotStep::Advance { name: name.clone(), to: Lsn(0) },
            SlotStep::AdvanceLogical { name, database, .. } => SlotStep::AdvanceLogical {
                name: name.clone(),
                database: database.clone(),
                to: Lsn(0),
            },
            other => other.clone(),
        }
    }
}

impl fmt::Display for SlotStep {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            SlotStep::Drop { name, why } => {
                let why = match why {
                    DropWhy::Lost => "the WAL it needs is gone; it is made anew",
                    DropWhy::HoldsRows => {
                        "it keeps dead rows for a standby that streams from another server; it is \
                         made anew"
                    }
                    DropWhy::Unreserved => "it reserves no WAL; it is made anew",
                    DropWhy::OtherKind => {
                        "one of another type, database or plugin is wanted under that name"
                    }
                    DropWhy::Unknown => {
                        "no member and no entry of `slots` needs it, and it is unused"
                    }
                    DropWhy::NotSynced => {
                        "PostgreSQL does not keep it in line with the primary's, and copies no slot \
                         while it is there"
                    }
                    DropWhy::Gone => {
                        "the remote leader has no slot of that name, so that its reader may have \
                         confirmed more than this copy can go on from"
                    }
                    DropWhy::Skips => {
                        "its reader has confirmed more than the log of this group has, and would \
                         miss what was written instead"
                    }
                };
                write!(f, "dropping the slot `{name}`: {why}")
            }
            SlotStep::Advance { name, to } => write!(f, "advancing the slot `{name}` to {to}"),
            SlotStep::CreatePhysical { name } => write!(f, "creating the slot `{name}`"),
            SlotStep::CreateLogical { name, database, plugin, .. } => write!(
                f,
                "creating the logical slot `{name}` in the database `{database}` with the plugin \
                 `{plugin}`"
            ),
            SlotStep::CreateOnStandby { name, database, .. } => write!(
                f,
                "creating the logical slot `{name}` of this standby in the database `{database}`"
            ),
            SlotStep::AdvanceLogical { name, to, .. } => {
                write!(f, "advancing the logical slot `{name}` to {to}")
            }
            SlotStep::SetFailover { name } => {
                write!(f, "having PostgreSQL copy the logical slot `{name}` to standbys")
            }
            SlotStep::AskLeader => write!(f, "asking the leader for its logical slots"),
        }
    }
}

/// What the steps go by.
pub struct Scene<'a> {
    pub situation: &'a Situation<'a>,
    pub plan: &'a Plan,
    pub logical: &'a Logical,
    /// As the server showed them, with the steps done since.
    pub there: &'a [Slot],
    pub unknown: &'a Unknown,
    pub now: Millis,
}

impl<'a> Scene<'a> {
    pub(super) fn slots(&self) -> impl Iterator<Item = &'a Slot> + use<'a> {
        let is_primary = self.situation.role == Role::Primary;
        // A standby's own worker keeps those that it copies.
        self.there.iter().filter(move |slot| is_primary || !slot.synced)
    }

    pub(super) fn with_wanted(&self) -> impl Iterator<Item = (&'a Slot, &'a Wanted)> + use<'a> {
        let plan = self.plan;
        self.slots().filter_map(move |slot| Some((slot, plan.wanted.get(&slot.name)?)))
    }

    pub(super) fn may_drop(&self, slot: &Slot) -> bool {
        let s = self.situation;
        let is_defined = s.view.config.is_some() || s.view.empty_config.is_some();
        let is_in_work = is_reserved(slot, s.citus_databases) || is_of_table_copy(slot);
        let is_spared = s.role == Role::Primary && is_in_work;
        is_defined
            && !s.dynamic.is_any_unreadable(&["ignore_slots"])
            && !s.dynamic.pause
            && !slot.active
            && !is_ignored(slot, &s.dynamic.ignore_slots)
            && !is_spared
    }

    fn drops(&self, why: DropWhy, test: impl Fn(&Slot, &Wanted) -> bool) -> Vec<SlotStep> {
        let found = self.with_wanted().filter(|(slot, wanted)| test(slot, wanted));
        let found = found.filter(|(slot, _)| self.may_drop(slot));
        found.map(|(slot, _)| SlotStep::Drop { name: slot.name.clone(), why }).collect()
    }
}

/// A wanted slot whose WAL is gone: nothing can stream from it. A logical one of a primary is
/// left for its owner to see, for a new one would skip what was written meanwhile; on a
/// standby it is a copy, and copied anew.
pub fn lost(scene: &Scene) -> Vec<SlotStep> {
    let is_primary = scene.situation.role == Role::Primary;
    scene.drops(DropWhy::Lost, |slot, wanted| {
        slot.is_lost && (wanted.kind == Kind::Physical || !is_primary)
    })
}

/// A slot that keeps rows since its reader streamed from here. Only dropping it ends that.
pub fn holding_rows(scene: &Scene) -> Vec<SlotStep> {
    scene.drops(DropWhy::HoldsRows, |slot, wanted| {
        slot.is_physical() && slot.holds_rows && reads_elsewhere(slot, wanted)
    })
}

/// Where that is not known of a slot, as of a permanent one on a replica: its reader has
/// confirmed more on another server than this slot has been told.
fn reads_elsewhere(slot: &Slot, wanted: &Wanted) -> bool {
    let is_past = || slot.restart_lsn.zip(wanted.to).is_some_and(|(here, to)| here < to);
    wanted.expected_active.map_or_else(is_past, |is_active| !is_active)
}

pub fn unreserved(scene: &Scene) -> Vec<SlotStep> {
    scene.drops(DropWhy::Unreserved, |slot, wanted| {
        let idle = wanted.expected_active != Some(true);
        slot.is_physical() && slot.restart_lsn.is_none() && !slot.holds_rows && idle
    })
}

pub fn of_another_kind(scene: &Scene) -> Vec<SlotStep> {
    scene.drops(DropWhy::OtherKind, |slot, wanted| slot.kind != wanted.kind)
}

/// What is not wanted, and nothing has used for a `loop_wait`.
pub fn unknown(scene: &Scene) -> Vec<SlotStep> {
    let dynamic = scene.situation.dynamic;
    let wait_ms = dynamic.loop_wait_ms;
    // What cannot be read may define any slot.
    if dynamic.is_any_unreadable(&PERMANENT_SLOTS)
        || dynamic.is_any_unreadable(&["standby_clusters"])
    {
        return Vec::new();
    }
    let names = unknown_names(scene).into_iter();
    let due = names.filter(|name| scene.unknown.is_over(name, scene.now, wait_ms));
    due.map(|name| SlotStep::Drop { name, why: DropWhy::Unknown }).collect()
}

/// The slots that are dropped as unknown if they stay unused.
pub fn unknown_names(scene: &Scene) -> BTreeSet<String> {
    let plan = scene.plan;
    let is_known =
        |slot: &Slot| plan.wanted.contains_key(&slot.name) || plan.unclear.contains(&slot.name);
    let is_foreign = |slot: &Slot| {
        slot.failover && !slot.is_physical() && !scene.logical.defined.contains(&slot.name)
    };
    let slots = scene.slots().filter(|slot| !is_known(slot) && !is_foreign(slot));
    slots.filter(|slot| scene.may_drop(slot)).map(|slot| slot.name.clone()).collect()
}

/// A slot that nothing streams from is moved: else it keeps WAL for ever. A slot that
/// keeps rows is dropped instead, or left to its user.
pub fn advances(scene: &Scene) -> Vec<SlotStep> {
    let both = |slot: &Slot, wanted: &Wanted| slot.is_physical() && wanted.kind == Kind::Physical;
    let is_idle = |slot: &Slot, wanted: &Wanted| {
        let is_well = !slot.active && !slot.holds_rows && !slot.is_lost;
        is_well && wanted.expected_active != Some(true)
    };
    let slots = scene.with_wanted().filter(|(slot, wanted)| both(slot, wanted));
    let idle = slots.filter(|(slot, wanted)| is_idle(slot, wanted));
    let steps = idle.filter_map(|(slot, wanted)| {
        let to = wanted.to?.min(scene.situation.end);
        let name = slot.name.clone();
        (slot.restart_lsn? < to).then_some(SlotStep::Advance { name, to })
    });
    steps.collect()
}

/// Missing slots, those of members first.
pub fn creations(scene: &Scene) -> Vec<SlotStep> {
    let is_there = |name: &String| scene.there.iter().any(|slot| slot.name == *name);
    let wanted = scene.plan.wanted.iter();
    let mut missing: Vec<_> = wanted
        .filter(|(name, wanted)| wanted.kind == Kind::Physical && !is_there(name))
        .map(|(name, wanted)| (wanted.why, name.clone()))
        .collect();
    missing.sort();
    missing.into_iter().map(|(_, name)| SlotStep::CreatePhysical { name }).collect()
}

/// The slots after a step that was done, until the server is looked at again.
pub fn apply(step: &SlotStep, there: &mut Vec<Slot>, end: Lsn) {
    match step {
        SlotStep::Drop { name, .. } => there.retain(|slot| slot.name != *name),
        SlotStep::CreatePhysical { name } => there.push(Slot::physical(name, end)),
        SlotStep::Advance { name, to } => {
            for slot in there.iter_mut().filter(|slot| slot.name == *name) {
                slot.restart_lsn = Some(*to);
            }
        }
        // Their ends are told later.
        SlotStep::CreateLogical { .. }
        | SlotStep::CreateOnStandby { .. }
        | SlotStep::AdvanceLogical { .. }
        | SlotStep::SetFailover { .. }
        | SlotStep::AskLeader => {}
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
