//! Whether the copy of a logical slot on a standby can be resumed after a promotion.
//!
//! A logical slot reads the catalogues as they were. The primary keeps their dead rows for
//! its own slot, and for a standby only once that standby's feedback has arrived: until
//! then rows that the copy needs may have been removed, here as there.
//!
//! So a copy is ready when the primary has kept those rows without a gap: first by its own
//! logical slot, from `seen` on, and then by this standby's physical slot. What that
//! physical slot keeps must not begin after what this copy needs.
//!
//! A slot that a standby has made itself begins later than the primary's: it is ready once the
//! reader has passed its beginning there.
//!
//! A copy needs the WAL that it begins in. A standby that does not have it waits until the reader
//! has come to the WAL that it has.
//!
//! A copy is judged anew after each start of the server, under each other leader, and after
//! each gap in the feedback.

use super::{Slot, Xid};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    #[default]
    Missing,
    /// Missing, and not copied for now: the primary's begins before the WAL of this standby.
    Behind,
    /// `seen`: what the primary's slot kept when the physical one first kept all that this copy
    /// needs.
    Copied {
        seen: Option<Xid>,
    },
    Ready,
}

impl Readiness {
    /// For the member record, status bodies and tables.
    pub fn word(self) -> &'static str {
        match self {
            Readiness::Missing => "missing",
            Readiness::Behind => "behind",
            Readiness::Copied { .. } => "pending",
            Readiness::Ready => "ready",
        }
    }

    /// `own`: the copy. `theirs`: the primary's, and `physical` what this standby's slot there
    /// keeps, both of one answer; `Some(None)`: it is there and keeps nothing.
    pub fn next(
        self,
        own: Option<&Slot>,
        theirs: Option<&Slot>,
        physical: Option<Option<Xid>>,
    ) -> Readiness {
        let Some(own) = own.filter(|own| !own.is_lost) else { return Readiness::Missing };
        let begins_later =
            theirs.is_some_and(|theirs| theirs.confirmed_flush < own.confirmed_flush);
        let is_kept = |own: Xid| physical.flatten().is_some_and(|at| at.is_at_most(own));
        let is_gap = physical.is_some() && own.catalog_xmin.is_some_and(|own| !is_kept(own));
        let seen = match self {
            // Its physical slot was lost and made anew, or does not hold back enough any more.
            Readiness::Ready if is_gap => None,
            Readiness::Ready => return Readiness::Ready,
            Readiness::Copied { seen } => seen,
            Readiness::Missing | Readiness::Behind => None,
        };
        let theirs = theirs.and_then(|slot| slot.catalog_xmin);
        let seen = match own.catalog_xmin {
            Some(own) if is_kept(own) => seen.or(theirs),
            // What this standby keeps begins later: the primary's slot counts again.
            _ => None,
        };
        match (seen, own.catalog_xmin) {
            (Some(seen), Some(own)) if seen.is_at_most(own) && !begins_later => Readiness::Ready,
            _ => Readiness::Copied { seen },
        }
    }

    /// The server was started, or another one leads.
    pub fn anew(self) -> Readiness {
        match self {
            Readiness::Missing | Readiness::Behind => Readiness::Missing,
            Readiness::Copied { .. } | Readiness::Ready => Readiness::Copied { seen: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::Lsn;

    fn slot(xmin: u32) -> Slot {
        Slot { catalog_xmin: Some(Xid(xmin)), ..Slot::physical("a", Lsn(1)) }
    }

    fn next(before: Readiness, own: u32, theirs: u32, physical: Option<u32>) -> Readiness {
        before.next(Some(&slot(own)), Some(&slot(theirs)), physical.map(|at| Some(Xid(at))))
    }

    #[test]
    fn a_copy_is_ready_once_the_primary_keeps_all_that_it_needs() {
        let new = Readiness::Missing;
        let waits = next(new, 700, 700, None);
        assert_eq!(waits, Readiness::Copied { seen: None }, "no feedback has arrived");
        assert_eq!(next(waits, 700, 705, Some(700)), Readiness::Copied { seen: Some(Xid(705)) });
        // The primary removed rows up to 705 before it kept any for this standby.
        let behind = Readiness::Copied { seen: Some(Xid(705)) };
        assert_eq!(next(behind, 704, 720, Some(704)), behind);
        assert_eq!(next(behind, 706, 720, Some(705)), Readiness::Ready);
        let anew = Readiness::Copied { seen: None };
        assert_eq!(next(behind, 706, 720, Some(707)), anew, "less is kept than the copy needs");
        // Another copy here needs more, and keeps it.
        assert_eq!(next(new, 954, 954, Some(945)), Readiness::Ready);
        assert_eq!(next(Readiness::Ready, 1, 2, None), Readiness::Ready);
        assert_eq!(next(Readiness::Ready, 5, 9, Some(5)), Readiness::Ready);
        assert_eq!(next(Readiness::Ready, 5, 9, Some(6)), anew, "rows may be gone meanwhile");
        assert_eq!(next(new, 700, 700, Some(700)), Readiness::Ready);
    }

    /// Its feedback was off, or the slot was made anew.
    #[test]
    fn a_physical_slot_that_keeps_nothing_is_a_gap_and_no_answer_is_none() {
        let judged = |physical| Readiness::Ready.next(Some(&slot(700)), Some(&slot(700)), physical);
        assert_eq!(judged(Some(None)), Readiness::Copied { seen: None });
        assert_eq!(judged(None), Readiness::Ready);
    }

    #[test]
    fn a_slot_that_begins_later_than_the_primary_s_waits_for_its_reader() {
        let at = |at: u64| Slot { confirmed_flush: Some(Lsn(at)), ..slot(700) };
        let judged = |theirs: u64| {
            Readiness::Missing.next(Some(&at(50)), Some(&at(theirs)), Some(Some(Xid(700))))
        };
        assert_eq!(judged(49), Readiness::Copied { seen: Some(Xid(700)) });
        assert_eq!(judged(50), Readiness::Ready);
    }

    #[test]
    fn a_lost_copy_is_missing_and_a_new_start_is_judged_anew() {
        let lost = Slot { is_lost: true, ..slot(5) };
        assert_eq!(Readiness::Ready.next(Some(&lost), None, None), Readiness::Missing);
        assert_eq!(Readiness::Ready.next(None, None, None), Readiness::Missing);
        assert_eq!(Readiness::Ready.anew(), Readiness::Copied { seen: None });
        assert_eq!(Readiness::Missing.anew().word(), "missing");
        assert_eq!(Readiness::Behind.anew(), Readiness::Missing, "that is to be seen again");
        assert_eq!(Readiness::Behind.next(None, None, None), Readiness::Missing);
    }

    #[test]
    fn transaction_ids_wrap() {
        assert!(Xid(u32::MAX).is_at_most(Xid(3)) && !Xid(3).is_at_most(Xid(u32::MAX)));
        assert!(Xid(7).is_at_most(Xid(7)));
    }
}
