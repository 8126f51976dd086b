//! What is done after a beat, and in which order: the same in the daemon and in the simulator.

use crate::chores::Moment;
use crate::ha::Observation;

/// Each is a part of the time after a beat; its own rows say what is due in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Chores(Moment),
    /// The rows of `pg_dist_node`: before the documents, because clients wait for a round,
    /// which runs beside the beats.
    Rows,
    Documents,
    Slots,
}

impl Stage {
    pub const FIRST: Stage = Stage::Chores(Moment::First);

    /// Documents, and settings that are made of them, need a store that answered.
    pub fn next(self, seen: &Observation) -> Option<Stage> {
        match self {
            Stage::Chores(Moment::First) => Some(Stage::Rows),
            Stage::Rows if seen.view().is_some() => Some(Stage::Documents),
            Stage::Documents => Some(Stage::Chores(Moment::Last)),
            Stage::Rows | Stage::Chores(Moment::Last) => Some(Stage::Slots),
            Stage::Slots => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::sample;
    use topology::Seen;

    fn stages(seen: &Observation) -> Vec<Stage> {
        std::iter::successors(Some(Stage::FIRST), |stage| stage.next(seen)).collect()
    }

    #[test]
    fn documents_wait_for_a_store_that_answers() {
        let mut seen = sample::leader();
        let all = [
            Stage::FIRST,
            Stage::Rows,
            Stage::Documents,
            Stage::Chores(Moment::Last),
            Stage::Slots,
        ];
        assert_eq!(stages(&seen), all);
        seen.store = Seen::Unknown;
        assert_eq!(stages(&seen), [Stage::FIRST, Stage::Rows, Stage::Slots]);
    }
}
