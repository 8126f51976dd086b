//! One group's life on each version of PostgreSQL that can be had.
//!
//! 15 is what is installed; 16 and 18 are fetched by
//! `tools/postgres_versions.sh`. A version that is missing is a failure: what
//! was not run was not shown.

use std::time::Duration;
use tests::live::{run, versions};

/// No version needs half of this.
const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_group_lives_on_15() {
    run("PostgreSQL 15", LIMIT, versions::life(15));
}

#[test]
fn a_group_lives_on_16() {
    run("PostgreSQL 16", LIMIT, versions::life(16));
}

#[test]
fn a_group_lives_on_18() {
    run("PostgreSQL 18", LIMIT, versions::life(18));
}
