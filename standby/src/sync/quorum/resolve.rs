//! How `/sync` and `synchronous_standby_names` get from what is in force to what is
//! wanted, one change at a time.
//!
//! Each formula uses the values that the change before left. A change that would
//! break an invariant ends the list: what stands before it is sound.
//!
//! Invariants, with `me` as the leader: (1) if `/sync` lists voters,
//! `|voters ∪ names ∪ {me}| <= quorum + count + 1`, so every confirming set meets every
//! electing set; (2) voters ⊆ names or names ⊆ voters; (3) `quorum < |voters|`,
//! `count <= |names|`.
//!
//! Adding raises the count before it lowers the quorum; removing lowers the one
//! only while the other still covers it.
//!
//! Absent on purpose: whether a confirmation is there to rely on (`gate.rs`).

use crate::sync::set::NameSet;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Move {
    /// Write `/sync`.
    Quorum { quorum: i64, voters: NameSet },
    /// Set the names.
    Sync { count: i64, names: NameSet },
    /// No standby has confirmed yet: look again.
    Restart,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub quorum: i64,
    pub voters: NameSet,
    pub count: i64,
    pub names: NameSet,
    /// How many of the active names have what was acknowledged before.
    pub confirmed: i64,
    /// Who streams and is wanted.
    pub active: NameSet,
    /// How many standbys are to confirm each commit.
    pub wanted: i64,
}

/// A move would break an invariant, or has to wait.
struct Stopped;

type Done = Result<(), Stopped>;

impl State {
    pub(super) fn is_sound(&self) -> bool {
        let together = self.voters.union(&self.names).count() + 1;
        let meet = self.voters.is_empty() || together <= self.quorum + self.count + 1;
        let nested = self.voters.is_within(&self.names) || self.names.is_within(&self.voters);
        meet && nested
    }

    pub(super) fn moves(&self) -> Vec<Move> {
        let mut list = List { at: self.clone(), moves: Vec::new() };
        // What comes after a stop is for a later look.
        let _ = list.run();
        list.moves
    }
}

struct List {
    at: State,
    moves: Vec<Move>,
}

impl List {
    fn run(&mut self) -> Done {
        let there = self.at.names.common(&self.at.active).count();
        if self.at.confirmed == 0 && there > 0 {
            self.at.confirmed = there.min(self.at.voters.count() - self.at.quorum);
        }
        self.voters_join()?;
        self.voters_leave_or_follow()?;
        self.level()?;
        self.remove()?;
        self.add()?;
        self.change_count()
    }

    /// More vote than are named: the others are named, and who is gone votes no
    /// longer. In this order (the contract has the other one), because who was
    /// named can prove what it has, and so make up for those that are gone.
    fn voters_join(&mut self) -> Done {
        let s = self.at.clone();
        if s.names == s.voters || !s.names.is_within(&s.voters) {
            return Ok(());
        }
        let joining = s.voters.common(&s.active).minus(&s.names);
        if !joining.is_empty() {
            self.set_names(s.count, s.names.union(&joining))?;
        }
        let gone = s.voters.minus(&s.names.union(&s.active));
        if !gone.is_empty() {
            let adjust = s.names.is_within(&s.active);
            let quorum = s.voters.count() - gone.count() - s.count;
            self.set_quorum(quorum, s.voters.minus(&gone), adjust)?;
        }
        Ok(())
    }

    /// More are named than vote: who is gone is named no longer, the others
    /// vote.
    fn voters_leave_or_follow(&mut self) -> Done {
        let s = self.at.clone();
        if s.names == s.voters || !s.voters.is_within(&s.names) {
            return Ok(());
        }
        // Those that vote as well stay for now: without them the others could
        // confirm what no election finds.
        let gone = s.names.minus(&s.active).minus(&s.voters);
        let left = s.names.minus(&gone);
        if !gone.is_empty() && !left.is_empty() {
            self.set_names(s.count.min(left.count()), left)?;
        }
        let s = self.at.clone();
        let joining = s.names.minus(&s.voters).common(&s.active);
        if !joining.is_empty() {
            let voters = s.voters.union(&joining);
            self.set_quorum(voters.count() - s.count, voters, true)?;
        }
        let s = self.at.clone();
        let silent = s.names.minus(&s.voters);
        if !silent.is_empty() {
            let left = s.names.minus(&silent);
            self.set_names(s.count.min(left.count()), left)?;
        }
        Ok(())
    }

    /// Voters and names are the same: is more demanded of them than need be?
    fn level(&mut self) -> Done {
        let s = self.at.clone();
        let spare = s.quorum + s.count.min(s.confirmed) - s.voters.count();
        if spare > 0 && s.count > s.wanted {
            return self.set_names(s.wanted.max(s.voters.count() - s.quorum), s.names);
        }
        let is_tight = s.quorum + s.count <= s.voters.count();
        let is_unproved = s.count == s.wanted && !is_tight && s.count > s.confirmed;
        // Without any confirmation there is no quorum high enough.
        let is_unproved = is_unproved && s.confirmed > 0;
        if spare > 0 || is_unproved {
            return self.set_quorum(s.names.count() - s.count, s.voters, true);
        }
        Ok(())
    }

    /// Who is gone neither votes nor is named.
    fn remove(&mut self) -> Done {
        let s = self.at.clone();
        let mut gone = s.names.minus(&s.active);
        if gone.is_empty() {
            return Ok(());
        }
        if gone == s.names {
            self.set_quorum(0, NameSet::default(), false)?;
            return self.set_names(0, NameSet::default());
        }
        if s.quorum > 0 {
            gone = self.remove_spare(&gone)?;
        }
        if gone.is_empty() { Ok(()) } else { self.remove_needed(&gone) }
    }

    /// As many as an election can do without; gives back the others.
    fn remove_spare(&mut self, gone: &NameSet) -> Result<NameSet, Stopped> {
        let s = self.at.clone();
        let spare = gone.last(s.quorum);
        let (left, others) = (s.names.minus(&spare), gone.minus(&spare));
        self.set_names(s.count.max(s.wanted).min(left.count()), left)?;
        let voters = self.at.voters.minus(&spare);
        self.set_quorum(voters.count() - self.at.count, voters, others.is_empty())?;
        Ok(others)
    }

    /// Those that every commit waits for: they lose their vote first.
    fn remove_needed(&mut self, gone: &NameSet) -> Done {
        let s = self.at.clone();
        let (names, voters) = (s.names.minus(gone), s.voters.minus(gone));
        let count = s.count - gone.count();
        let over = count - s.wanted.min(names.count());
        let quorum = if over == 0 { 0 } else { over.min(voters.count() - 1) };
        self.set_quorum(quorum, voters, false)?;
        self.set_names(count, names)
    }

    /// Who is new: as long as too few confirm, the count grows with them.
    fn add(&mut self) -> Done {
        let mut new = self.at.active.minus(&self.at.names);
        let wanted = self.at.wanted.min(self.at.names.union(&new).count());
        let more = wanted - self.at.count;
        if !new.is_empty() && more > 0 {
            let s = self.at.clone();
            let (taken, more) = match s.names.is_empty() {
                true => (new.clone(), more),
                false => (new.first(more), more.min(new.count())),
            };
            self.set_names(s.count + more, s.names.union(&taken))?;
            let voters = s.voters.union(&taken);
            self.set_quorum(voters.count() - wanted, voters, true)?;
            new = new.minus(&self.at.names);
        }
        if !new.is_empty() {
            let voters = self.at.voters.union(&new);
            let adjust = wanted > self.at.confirmed;
            self.set_quorum(voters.count() - wanted, voters, adjust)?;
            self.set_names(wanted, self.at.names.union(&new))?;
        }
        Ok(())
    }

    /// As many confirm as are wanted.
    fn change_count(&mut self) -> Done {
        let s = self.at.clone();
        let more = s.wanted.min(s.names.count()) - s.count;
        if more > 0 {
            self.set_names(s.count + more, s.names.clone())?;
            let voters = self.at.voters.clone();
            self.set_quorum(voters.count() - self.at.count, voters, true)?;
        }
        if more < 0 {
            if s.quorum - more < s.voters.count() {
                let adjust = s.wanted > s.confirmed;
                self.set_quorum(s.voters.count() - s.count - more, s.voters, adjust)?;
            }
            self.set_names(s.count + more, s.names)?;
        }
        Ok(())
    }

    /// `adjust`: who has not confirmed yet is made up for by a higher quorum.
    fn set_quorum(&mut self, quorum: i64, voters: NameSet, adjust: bool) -> Done {
        let unproved = (self.at.count - self.at.confirmed).max(0);
        let (quorum, voters) = match self.at.confirmed == 0 && self.at.voters.is_empty() {
            true => (0, NameSet::default()),
            false => (quorum + if adjust { unproved } else { 0 }, voters),
        };
        if quorum == self.at.quorum && voters == self.at.voters {
            if !voters.is_empty() {
                return Ok(());
            }
            self.moves.push(Move::Restart);
            return Err(Stopped);
        }
        if quorum < 0 || (quorum > 0 && quorum >= voters.count()) {
            return Err(Stopped);
        }
        (self.at.quorum, self.at.voters) = (quorum, voters.clone());
        self.take(Move::Quorum { quorum, voters })
    }

    fn set_names(&mut self, count: i64, names: NameSet) -> Done {
        if count < 0 || count > names.count() {
            return Err(Stopped);
        }
        (self.at.count, self.at.names) = (count, names.clone());
        self.take(Move::Sync { count, names })
    }

    fn take(&mut self, one: Move) -> Done {
        if !self.at.is_sound() {
            return Err(Stopped);
        }
        self.moves.push(one);
        Ok(())
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
