//! A running cluster of Patroni is taken over without changing a file.

use std::time::Duration;
use tests::live::{run, takeover};

const LIMIT: Duration = Duration::from_secs(240);

#[test]
fn a_cluster_of_patroni_is_taken_over_member_by_member_and_back() {
    run("a cluster of Patroni is taken over", LIMIT, takeover::member_by_member());
}
