//! Questions of an operator by `matriarchctl`, on real PostgreSQL and etcd. The scenario is in
//! `tests/src/live/control.rs`.
//!
//! Build the programs first: `cargo build --workspace --bins`.

use std::time::Duration;
use tests::live::{control, run};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn t01_a_group_is_asked_by_sql_examined_and_explained() {
    run("questions", LIMIT, control::questions());
}
