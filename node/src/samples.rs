//! Moments of a member for tests, as the machine's own tests make them.

use member::ha::{failsafe, observation};

#[path = "../member/src/ha/sample.rs"]
#[allow(dead_code)]
mod sample;

pub(crate) use sample::*;
