//! The rules about standbys: which member may promote, which server a standby
//! follows, when a log has diverged, which slots are wanted, how a formation
//! moves between regions, how the regions agree on its owner.
//!
//! Invariant *pure*: no clock, no files, no network. A rule stands here once;
//! logs, REST and ctl print the reason it gave.

pub mod agreement;
pub mod candidate;
#[cfg(test)]
#[path = "../../topology/src/made_up.rs"]
mod made_up;
#[cfg(test)]
#[path = "../../topology/src/made_up_move.rs"]
mod made_up_move;
pub mod promotion;
pub mod region_document;
pub mod report;
pub mod rewind;
pub mod scene;
pub mod slots;
pub mod source;
pub mod switch;
pub mod sync;
