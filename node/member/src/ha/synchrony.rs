//! From a step of synchronous replication to the action that performs it.

use super::action::{Action, Step as Decided};
use super::table::{act, soon};
use standby::sync::Step;

/// What is asked again after this; there is a step, or the rule would not apply.
const AGAIN_MS: u64 = 100;

pub(super) fn sync_action(step: Option<Step>) -> Decided {
    match step {
        Some(Step::Record(state)) => act(Action::RecordSync(state)),
        Some(Step::Names(names)) => act(Action::NameSync(names)),
        Some(Step::Wait { ms }) => soon(ms),
        None => soon(AGAIN_MS),
    }
}
