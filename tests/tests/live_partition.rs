//! A group whose network breaks, in network namespaces on this machine. The
//! scenarios are in `tests/src/live/partition.rs`.

use std::time::Duration;
use tests::live::{partition, run_alone};

/// Twice what each of them needs.
const LIMIT: Duration = Duration::from_secs(200);

#[test]
fn t01_a_leader_that_is_cut_off_closes_before_another_opens() {
    run_alone("leader cut off", LIMIT, partition::leader_cut_off());
}

#[test]
fn t02_a_leader_without_replicas_goes_on_and_voters_need_not_see_each_other() {
    run_alone("replicas cut off", LIMIT, partition::replicas_cut_off());
}
