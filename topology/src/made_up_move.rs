//! A move between regions that tests make up.
//! The tests of other crates include this file.

use topology::region::{Journal, Phase};

/// The journal of the first move from `a`, which owns the formation since epoch 1, to `b`. It
/// names no group.
pub(crate) fn journal(phase: Phase) -> Journal {
    Journal {
        id: "m".into(),
        from: "a".into(),
        to: "b".into(),
        epoch: 1,
        attempt: 1,
        phase,
        groups: vec![],
        driver: String::new(),
        steps: vec![],
        tokens: Default::default(),
        error: None,
        limits: Default::default(),
        abort: None,
    }
}
