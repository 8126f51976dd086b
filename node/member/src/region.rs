//! What the region's documents mean for this member, and what is remembered of them.

use super::chore_sight::Sights;
use super::effect::{Answer, Call};
use super::{Level, Member};
use crate::ha::Observation;
use crate::ha::observation::Lock;
use standby::agreement::legacy::beside;
use standby::switch::LocalTopology;
use standby::switch::ownership::{Order, Ownership, Remembered, order, ownership};
use std::collections::BTreeMap;
use std::sync::Arc;
use topology::acceptor::Acceptor;
use topology::write::LeaderWrite;
use topology::{Group, GroupView, MemberRole, RegionName, Write};

/// What is remembered of the last move of the formation.
#[derive(Debug, Default)]
pub(super) struct MoveMemory {
    /// As the region's store shows it.
    seen: Option<Move>,
    /// The move whose rewiring this coordinator has done.
    rewired: Option<String>,
}

#[derive(Debug)]
struct Move {
    id: String,
    /// Decided, and not over.
    is_open: bool,
    /// The store says that its rewiring is over.
    is_rewired: bool,
}

impl Move {
    fn of(local: &LocalTopology) -> Option<Move> {
        let journal = local.journal()?;
        let (id, phase) = (journal.id.clone(), journal.phase);
        let is_rewired = local.rewired.as_ref().is_some_and(|rewired| rewired.id == id);
        Some(Move { id, is_open: phase.is_decided() && !phase.is_over(), is_rewired })
    }
}

/// What this member's disk knows of its region's store.
#[derive(Debug, Default)]
pub(super) struct DiskMemory {
    kept: Option<Arc<Acceptor>>,
    /// Why it cannot be read: it is not known what it says.
    unreadable: Option<String>,
}

impl Member {
    /// What an earlier process of this member has kept. That of another formation says nothing.
    pub fn take_region_memory(&mut self, kept: Result<Option<Acceptor>, String>, formation: &str) {
        let (kept, unreadable) = match kept {
            Ok(kept) => (kept.filter(|kept| kept.formation == formation), None),
            Err(why) => (None, Some(why)),
        };
        self.region_disk = DiskMemory { kept: kept.map(Arc::new), unreadable };
    }

    /// What must be on this member's disk before it acts on what its store shows; `None`: it is.
    ///
    /// A store that went back to an earlier epoch changes nothing: that is what the memory is for.
    pub fn to_remember(&self, local: &LocalTopology, formation: &str) -> Option<Acceptor> {
        let accepted = local.accepted().filter(|_| local.vote_is_readable())?;
        let seen = local.acceptor.as_ref().map(|acceptor| &acceptor.value);
        let is_later = |kept: &Acceptor, new: &Acceptor| {
            (new.epoch(), new.position()) > (kept.epoch(), kept.position())
        };
        let new = match seen {
            Some(seen) => beside(Some(seen), None, accepted, formation),
            // Of life 0, before the first one: an older program leads the store.
            None => Acceptor { life: 0, ..beside(None, None, accepted, formation) },
        };
        let kept = self.region_disk.kept.as_ref();
        let is_due = kept.is_none_or(|kept| is_later(kept, &new));
        (is_due && self.region_disk.unreadable.is_none()).then_some(new)
    }

    /// It is on the disk now.
    pub fn remember(&mut self, acceptor: Acceptor) {
        self.region_disk.kept = Some(Arc::new(acceptor));
    }

    /// What this host has seen of its region's store is not known: it speaks for no region.
    pub fn is_region_memory_unreadable(&self) -> bool {
        self.region_disk.unreadable.is_some()
    }

    pub fn region_memory(&self) -> Option<&Arc<Acceptor>> {
        self.region_disk.kept.as_ref()
    }

    /// Invariant: an epoch that this process has seen verified, or that its disk knows, is never
    /// gone back from.
    pub fn look_at_region(
        &mut self,
        local: &LocalTopology,
        region: &RegionName,
        group: Group,
    ) -> (Ownership, Option<Order>) {
        self.region_move.seen = Move::of(local);
        if let Some(why) = &self.region_disk.unreadable {
            return (Ownership::Doubtful(why.clone()), None);
        }
        let newest = self.region_memory().map_or(0, |kept| kept.epoch());
        let remembered = Remembered { newest, verified: self.epoch };
        let ownership = ownership(local, region, group, remembered);
        if let Ownership::Owner { epoch, .. } = &ownership {
            self.epoch = self.epoch.max(Some(*epoch));
        }
        (ownership, order(local, region, group, remembered))
    }

    /// This process has brought `pg_dist_node` in line with the last move.
    pub(crate) fn is_rewired(&self) -> bool {
        let last = self.region_move.seen.as_ref().map(|last| &last.id);
        last.is_some() && last == self.region_move.rewired.as_ref()
    }

    pub(super) fn rewiring_due(&mut self, sights: &Sights) -> Option<Call> {
        let opens = matches!(sights.seen.ownership, Ownership::Owner { opening: true, .. });
        if !opens || !sights.own.has_rewired || self.is_rewired() {
            return None;
        }
        let last = self.region_move.seen.as_ref().filter(|last| last.is_open)?;
        let id = last.id.clone();
        if last.is_rewired {
            self.region_move.rewired = Some(id);
            return None;
        }
        let write = LeaderWrite::EndRewiring { id };
        let write = Write::AsLeader { session: self.lease.id?, write };
        Some(Call::Report { what: "the end of the rewiring", write })
    }

    /// The region has just become owner, and `pg_dist_node` may still name another one.
    pub fn must_rewire(&self, seen: &Observation) -> bool {
        matches!(seen.ownership, Ownership::Owner { opening: true, .. }) && !self.is_rewired()
    }

    /// Without an answer it is told again after the next look at the rows.
    pub(super) fn rewiring_told(&mut self, answer: Answer) {
        match answer {
            Answer::Written(result) if !result.succeeded => {}
            Answer::Written(_) | Answer::Known => {
                self.region_move.rewired = self.region_move.seen.as_ref().map(|m| m.id.clone());
                let text = "the formation is rewired to this region; the quarantine ends";
                self.note(Level::Info, text);
            }
            Answer::NoAnswer(why) => {
                let text = format!("the end of the rewiring could not be written: {why}");
                self.note(Level::Warn, text);
            }
            _ => {}
        }
    }
}

/// This daemon may campaign to be its region's agent: its member leads, or no member does.
/// A formation's first certificate comes before its first leader.
pub fn may_campaign(seen: &Observation) -> bool {
    seen.holds_lock() || seen.lock == Lock::Free
}

/// This member keeps `pg_dist_node` as it should be: a coordinator that leads and is open, with
/// nothing being done to its server.
pub fn keeps_rows(seen: &Observation) -> bool {
    let is_open = seen.holds_lock() && seen.is_primary() && seen.may_own();
    let is_at_rest = seen.job.is_none() && seen.view().is_some();
    seen.me.group.is_coordinator() && is_open && is_at_rest
}

impl Member {
    /// This member's group may resolve its transactions in doubt: it leads, is open, nothing is
    /// being done to its server, and its rows are no other region's.
    pub fn may_resolve(&self, seen: &Observation) -> bool {
        let is_open = seen.holds_lock() && seen.is_primary() && seen.may_own();
        let is_at_rest = seen.job.is_none() && seen.view().is_some();
        seen.me.group.0.is_some() && is_open && is_at_rest && !self.refuses_writes(seen)
    }
}

/// Worker groups whose leader is not open for writes yet, while a region opens.
pub fn closed_workers(groups: &BTreeMap<Group, GroupView>, ownership: &Ownership) -> Vec<Group> {
    if !matches!(ownership, Ownership::Owner { opening: true, .. }) {
        return Vec::new();
    }
    let is_open = |view: &GroupView| {
        view.leader_record().is_some_and(|r| r.role == MemberRole::Primary && r.is_running())
    };
    let workers = groups.iter().filter(|(group, _)| group.0.is_some_and(|number| number > 0));
    workers.filter(|(_, view)| !is_open(view)).map(|(group, _)| *group).collect()
}
