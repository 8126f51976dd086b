//! Settings of a server of Citus while its region is not to be written.
//!
//! A promoted coordinator whose rows still name the other region would decide over that
//! region's transactions, so recovery is off before it opens. New sessions are read-only:
//! clients that ask for a read-write server pass by.

use crate::COORDINATOR_GROUP;

/// Names and values. `stand_in`: the extension and its settings are not there.
pub fn quarantine(group: u32, stand_in: bool) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut set = |name: &str, value: &str| settings.push((name.into(), value.into()));
    if !stand_in {
        set("citus.recover_2pc_interval", "-1");
        set("citus.distributed_deadlock_detection_factor", "-1");
    }
    if group == COORDINATOR_GROUP {
        set("default_transaction_read_only", "on");
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_off_everywhere_and_a_coordinator_takes_no_writes() {
        let has = |group: u32, stand_in: bool, name: &str| {
            quarantine(group, stand_in).iter().any(|(setting, _)| setting == name)
        };
        assert!(has(0, false, "citus.recover_2pc_interval"));
        assert!(has(3, false, "citus.recover_2pc_interval"));
        assert!(!has(0, true, "citus.recover_2pc_interval"));
        assert!(has(0, true, "default_transaction_read_only"));
        assert!(!has(3, false, "default_transaction_read_only"));
    }
}
