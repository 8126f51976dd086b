//! Which changes of the store wake a member before its longest sleep is over.

use super::Member;

impl Member {
    /// Does this change begin a beat? A change that another process made does. A leader's
    /// report wakes its followers, whose slots depend on it; a leader learns nothing from such
    /// a report.
    ///
    /// `own`: this process made the change.
    pub fn is_woken_by<'a>(&self, keys: impl IntoIterator<Item = &'a str>, own: bool) -> bool {
        let is_report = |key: &str| key.ends_with("/status") || key.ends_with("/optime/leader");
        !own && keys.into_iter().any(|key| !(self.held && is_report(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use topology::Millis;

    #[test]
    fn changes_by_others_wake_a_member_and_reports_only_those_that_follow() {
        let follower = Member::new("n1".into(), 20, Millis(0));
        let mut leader = Member::new("n2".into(), 20, Millis(0));
        leader.held = true;
        let key = |name: &str| format!("/service/shop/{name}");
        for name in ["leader", "config", "failover", "sync", "members/n2", "history", "initialize"]
        {
            assert!(leader.is_woken_by([&*key(name)], false), "{name}");
            assert!(follower.is_woken_by([&*key(name)], false), "{name}");
            assert!(!follower.is_woken_by([&*key(name)], true), "own {name}");
        }
        for report in ["status", "optime/leader"] {
            assert!(follower.is_woken_by([&*key(report)], false));
            assert!(!leader.is_woken_by([&*key(report)], false));
        }
        assert!(leader.is_woken_by([&*key("status"), &*key("leader")], false));
    }
}
