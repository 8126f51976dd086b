//! Everything that runs on real PostgreSQL and etcd, in one program: three tests at a time, also
//! of two suites, so that a suite of one long test keeps no core waiting (`tests/src/live/turn.rs`;
//! `-- --test-threads 32` gives each that waits a thread). One suite alone:
//! `cargo test -p tests --test live live_rewind`.
//!
//! `tests/tests/tidy.rs` checks that every suite is in the list.

#[path = "live_bootstrap.rs"]
mod live_bootstrap;
#[path = "live_citus.rs"]
mod live_citus;
#[path = "live_citus_faults.rs"]
mod live_citus_faults;
#[path = "live_citus_rows.rs"]
mod live_citus_rows;
#[path = "live_config.rs"]
mod live_config;
#[path = "live_control.rs"]
mod live_control;
#[path = "live_data_dir.rs"]
mod live_data_dir;
#[path = "live_demo.rs"]
mod live_demo;
#[path = "live_etcd/main.rs"]
mod live_etcd;
#[path = "live_failsafe.rs"]
mod live_failsafe;
#[path = "live_faults.rs"]
mod live_faults;
#[path = "live_group.rs"]
mod live_group;
#[path = "live_logical.rs"]
mod live_logical;
#[path = "live_partition.rs"]
mod live_partition;
#[path = "live_process.rs"]
mod live_process;
#[path = "live_region_slots.rs"]
mod live_region_slots;
#[path = "live_regions/main.rs"]
mod live_regions;
#[path = "live_requests.rs"]
mod live_requests;
#[path = "live_rewind.rs"]
mod live_rewind;
#[path = "live_rounds.rs"]
mod live_rounds;
#[path = "live_scripts.rs"]
mod live_scripts;
#[path = "live_served.rs"]
mod live_served;
#[path = "live_slots.rs"]
mod live_slots;
#[path = "live_standby.rs"]
mod live_standby;
#[path = "live_stops.rs"]
mod live_stops;
#[path = "live_store.rs"]
mod live_store;
#[path = "live_sync.rs"]
mod live_sync;
#[path = "live_takeover.rs"]
mod live_takeover;
#[path = "live_times.rs"]
mod live_times;
#[path = "live_tls/main.rs"]
mod live_tls;
#[path = "live_upkeep.rs"]
mod live_upkeep;
#[path = "live_versions.rs"]
mod live_versions;
#[path = "live_watchdog.rs"]
mod live_watchdog;
