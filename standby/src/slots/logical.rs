//! The steps of logical slots.
//!
//! Until PostgreSQL 16 a standby (in a standby region its leader, too) takes a logical slot only as a copy of the primary's file,
//! when it starts; there the copy is moved by decoding, which takes time: those steps run
//! beside the beats, one in each database. A standby of PostgreSQL 16 makes a slot of its own
//! instead: it begins later than its reader on the primary, and is of use once that has passed
//! it. From 17 on the server copies slots itself, if
//! they are made with `failover`.
//!
//! Invariants: no slot is made that would skip data (`readers`); a copy moves no further than
//! its reader has confirmed on the leader, nor than this server has replayed.

use super::step::{DropWhy, Scene, SlotStep};
use super::{ClusterKind, Kind, Readiness, Role, Slot, Wanted, permanent};
use std::collections::{BTreeMap, BTreeSet};
use topology::Lsn;

/// From this version on PostgreSQL copies slots to standbys itself.
pub const NATIVE: u32 = 17;
/// This version makes logical slots on a standby, but copies none.
const ON_STANDBYS: u32 = 16;

/// A copy is moved by decoding, which has a limit of time, and a step that is cancelled keeps
/// nothing of what it has done: a copy that is far behind moves in steps that end within it.
const ADVANCE_BYTES_MAX: u64 = 8 << 30;

/// What the steps of logical slots go by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logical {
    /// The major version of the server; 0: not known.
    pub major: u32,
    /// `wal_level` of the running server is logical.
    pub decodes: bool,
    /// What is under way beside the beats, by what `SlotStep::beside` says.
    pub busy: BTreeSet<String>,
    /// Not made here, for they would skip data.
    pub refused: BTreeMap<String, Lsn>,
    /// Slots that no member resumes: their readers are ahead of the group.
    pub skipping: BTreeSet<String>,
    /// What readers have confirmed can be read; without it any slot may have been used.
    pub knows_readers: bool,
    /// Failover slots that `slots` has defined while they were here. Others of that kind
    /// belong to subscriptions.
    pub defined: BTreeSet<String>,
    /// Slots that the leader has and this standby lacks.
    pub lacking: BTreeSet<String>,
    /// The leader's slots are to be looked at.
    pub asks_leader: bool,
    /// In a standby region: what readers have confirmed on the remote leader.
    pub remote: BTreeMap<String, Lsn>,
    /// In a standby region: copies whose slot the remote leader does not have.
    pub gone: BTreeSet<String>,
}

impl Logical {
    pub fn is_native(&self) -> bool {
        self.major >= NATIVE
    }

    pub fn makes_own(&self) -> bool {
        makes_own(self.major)
    }
}

impl<'a> Scene<'a> {
    fn is_primary(&self) -> bool {
        self.situation.role == Role::Primary
    }

    /// A standby leader has something to copy only in a standby region.
    fn is_copying(&self) -> bool {
        let s = self.situation;
        s.role == Role::Replica || s.role == Role::StandbyLeader && s.copies_region
    }

    /// Up to where a copy may move. The own `/status` of a standby region tells of copies.
    fn confirmed(&self, name: &str, wanted: &Wanted) -> Option<Lsn> {
        match self.situation.copies_region {
            true => self.logical.remote.get(name).copied(),
            false => wanted.to,
        }
    }

    fn is_free(&self, step: &SlotStep) -> bool {
        step.beside().is_none_or(|key| !self.logical.busy.contains(key))
    }

    fn wanted_logical(&self) -> impl Iterator<Item = (&'a String, &'a str, &'a str, &'a Wanted)> {
        self.plan.wanted.iter().filter_map(|(name, wanted)| match &wanted.kind {
            Kind::Logical { database, plugin } => {
                Some((name, database.as_str(), plugin.as_str(), wanted))
            }
            Kind::Physical => None,
        })
    }
}

/// Slots of readers that are ahead: on a primary what could not be dropped before it opened,
/// also from under its reader; on a standby any copy.
pub fn skipping(scene: &Scene) -> Vec<SlotStep> {
    let is_ahead =
        |slot: &&Slot| !slot.is_physical() && scene.logical.skipping.contains(&slot.name);
    let found = scene.slots().filter(is_ahead);
    let found = found.filter(|slot| scene.is_primary() || scene.may_drop(slot));
    found.map(|slot| SlotStep::Drop { name: slot.name.clone(), why: DropWhy::Skips }).collect()
}

/// PostgreSQL 17: a slot of a former primary keeps the server from copying its namesake, and
/// all others with it.
pub fn not_synced(scene: &Scene) -> Vec<SlotStep> {
    let role = scene.situation.role;
    let is_standby = matches!(role, Role::Replica | Role::StandbyLeader);
    if !is_standby || scene.situation.view.leader.is_none() {
        return Vec::new();
    }
    let is_broken = |slot: &&Slot| !slot.is_physical() && slot.failover && !slot.synced;
    let found = scene.there.iter().filter(is_broken).filter(|slot| scene.may_drop(slot));
    found.map(|slot| SlotStep::Drop { name: slot.name.clone(), why: DropWhy::NotSynced }).collect()
}

/// In a standby region: what the remote leader has refused or dropped may have been used past
/// what is here, so that a resumed copy would skip what was written instead.
pub fn gone(scene: &Scene) -> Vec<SlotStep> {
    let is_gone = |slot: &&Slot| !slot.is_physical() && scene.logical.gone.contains(&slot.name);
    let found = scene.slots().filter(is_gone).filter(|slot| scene.may_drop(slot));
    let found = found.filter(|_| scene.is_copying());
    found.map(|slot| SlotStep::Drop { name: slot.name.clone(), why: DropWhy::Gone }).collect()
}

/// On a primary, each in its own database. A definition that is new begins here.
pub fn creations(scene: &Scene) -> Vec<SlotStep> {
    if !scene.is_primary() || !scene.logical.decodes || !scene.logical.knows_readers {
        return Vec::new();
    }
    let is_there = |name: &String| scene.there.iter().any(|slot| slot.name == *name);
    let missing = scene
        .wanted_logical()
        .filter(|(name, ..)| !is_there(name) && !scene.logical.refused.contains_key(name.as_str()));
    let steps = missing.map(|(name, database, plugin, _)| SlotStep::CreateLogical {
        name: name.clone(),
        database: database.to_string(),
        plugin: plugin.to_string(),
        failover: scene.logical.is_native(),
    });
    steps.filter(|step| scene.is_free(step)).collect()
}

/// A standby of this version makes slots of its own, without a restart.
pub fn makes_own(major: u32) -> bool {
    major == ON_STANDBYS
}

/// PostgreSQL 16: on a standby, one in each database at a time.
pub fn own(scene: &Scene) -> Vec<SlotStep> {
    let is_due = scene.is_copying()
        && scene.logical.makes_own()
        && scene.logical.decodes
        && !scene.situation.dynamic.pause;
    let missing = scene
        .wanted_logical()
        .filter(|(name, ..)| is_due && scene.logical.lacking.contains(name.as_str()));
    let steps = missing.map(|(name, database, plugin, _)| SlotStep::CreateOnStandby {
        name: name.clone(),
        database: database.to_string(),
        plugin: plugin.to_string(),
    });
    steps.filter(|step| scene.is_free(step)).collect()
}

/// PostgreSQL 17: slots that were made without `failover`. It cannot be set while they are
/// used.
pub fn failover(scene: &Scene) -> Vec<SlotStep> {
    if !scene.is_primary() || !scene.logical.is_native() {
        return Vec::new();
    }
    let found = scene.with_wanted().filter(|(slot, wanted)| {
        let is_ours = slot.kind == wanted.kind && !slot.is_physical();
        is_ours && !slot.failover && !slot.active && !slot.is_lost
    });
    let steps = found.map(|(slot, _)| SlotStep::SetFailover { name: slot.name.clone() });
    steps.filter(|step| scene.is_free(step)).collect()
}

/// The copies of a standby. A target that is behind the copy, or not replayed yet, is an
/// error in PostgreSQL: it is not asked for.
pub fn advances(scene: &Scene) -> Vec<SlotStep> {
    if !scene.is_copying() {
        return Vec::new();
    }
    let found = scene.with_wanted().filter(|(slot, wanted)| {
        let is_copy = slot.kind == wanted.kind && !slot.is_physical() && !slot.failover;
        is_copy && !slot.active && !slot.is_lost && slot.restart_lsn.is_some()
    });
    let steps = found.filter_map(|(slot, wanted)| {
        let from = slot.confirmed_flush?.max(slot.restart_lsn?);
        let to = scene.confirmed(&slot.name, wanted)?.min(scene.situation.end);
        let to = to.min(Lsn(from.0.saturating_add(ADVANCE_BYTES_MAX)));
        let Kind::Logical { database, .. } = &slot.kind else { return None };
        let step =
            SlotStep::AdvanceLogical { name: slot.name.clone(), database: database.clone(), to };
        (slot.confirmed_flush? < to).then_some(step)
    });
    steps.filter(|step| scene.is_free(step)).collect()
}

/// A standby that keeps copies compares them with the leader's slots.
pub fn leader_asked(scene: &Scene) -> Vec<SlotStep> {
    let has_logical = scene.wanted_logical().next().is_some();
    let is_due = scene.is_copying() && scene.logical.asks_leader && !scene.logical.is_native();
    let is_due = is_due && has_logical && scene.is_free(&SlotStep::AskLeader);
    if is_due { vec![SlotStep::AskLeader] } else { Vec::new() }
}

/// What an operator should correct, beside what the definitions say themselves.
pub fn findings(scene: &Scene) -> Vec<String> {
    let names: Vec<&str> = scene.wanted_logical().map(|(name, ..)| name.as_str()).collect();
    let mut found = followers(scene).into_iter().collect::<Vec<_>>();
    if !names.is_empty() && scene.logical.major > 0 && !scene.logical.decodes {
        found.push(format!(
            "wal_level is not logical, so the logical slots {} are not kept here: set wal_level to \
             logical with edit-config and restart the members, the leader first",
            quoted(&names)
        ));
    }
    if scene.is_primary() {
        let refused = scene.logical.refused.iter();
        found.extend(refused.map(|(name, at)| refusal(name, *at)));
        let lost = scene.with_wanted().filter(|(slot, _)| slot.is_lost && !slot.is_physical());
        found.extend(lost.map(|(slot, _)| {
            format!(
                "the logical slot `{}` is lost: the WAL or the rows that its reader needs are gone. \
                 Drop it to have it made anew; its reader misses what was written meanwhile",
                slot.name
            )
        }));
    }
    found
}

/// A cluster that follows another one, and is no region of the same formation: only from
/// PostgreSQL 17 on its leader's server has copies.
fn followers(scene: &Scene) -> Option<String> {
    let s = scene.situation;
    let follows = s.role == Role::StandbyLeader && s.cluster == Some(ClusterKind::Standby);
    if !follows || s.copies_region || scene.logical.is_native() || scene.logical.major == 0 {
        return None;
    }
    let all = permanent(&s.dynamic.slots).specifications.into_iter();
    let names: Vec<String> =
        all.filter(|slot| slot.kind != Kind::Physical).map(|slot| slot.name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| {
        format!(
            "this cluster follows another one: before PostgreSQL 17 the logical slots {} are not \
             kept here. Once it is promoted they are made only after they were taken out of \
             `slots` and put back, for a reader that has used them elsewhere would miss changes",
            quoted(&names)
        )
    })
}

fn refusal(name: &str, at: Lsn) -> String {
    format!(
        "the logical slot `{name}` is not made on this server: its reader has used it on another \
         one, up to {at}, and would miss what was written since without a sign of it. To begin \
         anew, take the slot out of `slots` with edit-config and put it back after a loop"
    )
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// How far each copy that is wanted here can be relied on. From 17 on the server tells it.
pub fn native_readiness(there: &[Slot], name: &str) -> Readiness {
    match there.iter().find(|slot| slot.name == name) {
        Some(slot) if slot.synced && !slot.is_lost => Readiness::Ready,
        Some(slot) if !slot.is_lost => Readiness::Copied { seen: None },
        _ => Readiness::Missing,
    }
}

#[cfg(test)]
#[path = "logical_tests.rs"]
mod tests;
