//! When the leader of a group resolves what its own group has left in doubt by accident: a client
//! or a connection that broke in the middle of a commit.
//!
//! Citus would look by itself once a minute, and is told not to (`citus.recover_2pc_interval`). A
//! look by rows that are out of date can tear a transaction: it meets a former leader that runs
//! as a standby, shows no prepared transactions there, and forgets that one was to be committed.
//! And the server of a leader whose daemon is frozen would look beside its successor's, and roll
//! back what that one commits. So the daemon that leads does it, where its server's rows name
//! the leaders that the store names, before and after.
//!
//! Absent on purpose: what a change of leaders leaves in doubt. The registrar has that resolved
//! on every node at once.

use crate::statement::Limit;
use crate::{Groups, NodeRow, Statement};
use topology::Millis;

/// As often as Citus does.
pub const RESOLVE_MS: u64 = 60_000;

/// A change of leaders takes a while. What is in doubt for longer keeps rows locked, and VACUUM from
/// removing any: an operator should look.
const OVERDUE_MS: u64 = 300_000;

/// A pause holds the lock of a look until it is over.
const LOCK_MS: u32 = 2_000;
/// A node that does not answer.
const STATEMENT_MS: u32 = 20_000;

/// What is resolved stays open until the rows were looked at again.
pub fn begin() -> Vec<Statement> {
    vec![
        Statement::Begin,
        Statement::SetLimit(Limit::Lock, LOCK_MS),
        Statement::SetLimit(Limit::Statement, STATEMENT_MS),
        Statement::RecoverPrepared,
    ]
}

#[derive(Clone, Debug, Default)]
pub struct Resolver {
    next: Option<Millis>,
    is_under_way: bool,
    /// Since when nothing could be resolved.
    failing: Option<Millis>,
}

impl Resolver {
    /// It is due, and under way until `ended` is told. `may_act`: this member leads its group, is
    /// open, and its region is the owner.
    pub fn is_due(&mut self, now: Millis, may_act: bool) -> bool {
        if !may_act {
            (self.next, self.failing) = (None, None);
            return false;
        }
        let due = *self.next.get_or_insert(now);
        let begins = !self.is_under_way && now >= due;
        self.is_under_way |= begins;
        begins
    }

    /// What could not be done is tried again after `retry_ms`. True: it has failed for five minutes
    /// or more.
    pub fn ended(&mut self, now: Millis, is_done: bool, retry_ms: u64) -> bool {
        self.is_under_way = false;
        self.next = Some(now + if is_done { RESOLVE_MS } else { retry_ms });
        let since = self.failing.unwrap_or(now);
        self.failing = (!is_done).then_some(since);
        !is_done && now.since(since) >= OVERDUE_MS
    }
}

/// Why the rows of a server are no ground to resolve on. A group that the store does not know has
/// no leader that could change.
pub fn stale(rows: &[NodeRow], groups: &Groups) -> Option<String> {
    let stale = |row: &NodeRow| {
        let leader = groups.get(&row.groupid)?.leader.as_ref();
        match leader {
            None => Some(format!("the leader of group {} is not known", row.groupid)),
            Some(leader) if *leader != row.address() => {
                let group = row.groupid;
                Some(format!("group {group} is led at {leader}, and its row is {}", row.address()))
            }
            Some(_) => None,
        }
    };
    rows.iter().filter(|row| row.is_primary() && row.isactive).find_map(stale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::row;
    use crate::{Address, GroupNow};

    #[test]
    fn a_leader_resolves_at_once_then_once_a_minute_and_sooner_after_a_failure() {
        let mut resolver = Resolver::default();
        let at = Millis(1_000);
        assert!(!resolver.is_due(at, false));
        assert!(resolver.is_due(at, true));
        assert!(!resolver.is_due(at + 90_000, true), "it is under way");
        resolver.ended(at, true, 10_000);
        assert!(!resolver.is_due(at + (RESOLVE_MS - 1), true));
        assert!(resolver.is_due(at + RESOLVE_MS, true));
        resolver.ended(at + RESOLVE_MS, false, 10_000);
        assert!(!resolver.is_due(at + RESOLVE_MS + 9_999, true));
        assert!(resolver.is_due(at + RESOLVE_MS + 10_000, true));
    }

    #[test]
    fn what_fails_for_five_minutes_is_overdue_until_it_is_done_or_another_leads() {
        let mut resolver = Resolver::default();
        let fails_at = |resolver: &mut Resolver, ms| resolver.ended(Millis(ms), false, 10_000);
        assert!(!fails_at(&mut resolver, 1_000) && !fails_at(&mut resolver, 300_999));
        assert!(fails_at(&mut resolver, 301_000));
        assert!(!resolver.ended(Millis(302_000), true, 10_000), "it is done");
        assert!(!fails_at(&mut resolver, 303_000));
        resolver.is_due(Millis(304_000), false);
        assert!(!fails_at(&mut resolver, 900_000), "it leads anew");
    }

    #[test]
    fn one_that_leads_anew_resolves_at_once() {
        let mut resolver = Resolver::default();
        assert!(resolver.is_due(Millis(1), true));
        resolver.ended(Millis(1), true, 5);
        assert!(!resolver.is_due(Millis(2), false));
        assert!(resolver.is_due(Millis(3), true));
    }

    #[test]
    fn nothing_is_resolved_by_rows_that_name_a_former_leader_or_while_one_is_not_known() {
        let rows = [row(1, 0, "c"), row(2, 1, "w"), row(3, 7, "x")];
        let mut groups = Groups::new();
        let mut lead = |group: u32, host: Option<&str>| {
            let leader = host.map(|host| Address::new(host, 5432));
            groups.insert(group, GroupNow { leader, ..GroupNow::default() });
            stale(&rows, &groups)
        };
        assert_eq!(lead(0, Some("c")), None);
        assert_eq!(lead(1, Some("w")), None, "the store knows no group 7");
        assert!(lead(1, Some("w2")).unwrap().contains("w2"));
        assert!(lead(1, None).unwrap().contains("not known"));
    }
}
