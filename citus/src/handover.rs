//! Statements around the moment at which a group or a region changes hands.
//!
//! A **pause** holds the writers of one group while its leader changes: the row
//! gets a placeholder in a transaction that stays open, and its shard locks make
//! writers wait instead of fail. If the session dies, everything is as before.
//!
//! A **hold** stops a whole region: while `pg_dist_transaction` is locked on
//! every metadata primary, no distributed transaction is decided, so none is
//! left half done when the servers stop.
//!
//! A pause resolves what is in doubt, and by that keeps Citus from looking for it: the lock of
//! a look is held until the transaction ends. The former leader starts as a standby while
//! `pg_dist_node` still names it. A server in recovery shows no prepared transactions, and a
//! look there would forget that they are to be committed: the new leader would roll them back.
//!
//! Invariants: one pause per formation (two force each other out, because they
//! share the locks of reference tables); a pause never commits the placeholder.
//!
//! Absent on purpose: stopping and promoting PostgreSQL between these lists,
//! the deadline after which the caller gives up, and the mutex for pauses.
//! How long each part of a pause may take stands here (`PauseLimits`).

use crate::desired::Desired;
use crate::diff::{Plan, Terms, diff};
use crate::node::primary_of;
use crate::registrar::{Hold, MARGIN_MS};
use crate::statement::Limit;
use crate::{NodeRow, Statement};

/// Why a group cannot be paused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPause {
    #[error(
        "group {0} has no primary in pg_dist_node: no client can write to it, switch without pause"
    )]
    NotRegistered(u32),
}

/// How long each part of a pause may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseLimits {
    /// Then the server ends a statement of the pause, or a session that is silent, by itself,
    /// also when the daemon is frozen: after the deadline of the registrar.
    pub server_ms: u32,
    /// To begin its transaction and resolve what is in doubt.
    pub begin_ms: u64,
    /// If that failed: to begin again without resolving.
    pub begin_again_ms: u64,
    /// To have the sessions with the other metadata nodes ready; later again, to lock there.
    pub others_ms: u64,
    /// To get all locks.
    pub locks_ms: u64,
    /// To put the new address into the copies on the other metadata nodes.
    pub go_on_ms: u64,
}

impl PauseLimits {
    /// Another metadata node has `others_ms` to begin: resolving gets a third of it, so that a
    /// node whose look for transactions in doubt takes too long can go on without.
    pub fn of(hold: &Hold) -> PauseLimits {
        PauseLimits {
            server_ms: u32::try_from(hold.limit_ms + MARGIN_MS).unwrap_or(u32::MAX),
            begin_ms: hold.others_open_ms / 3,
            begin_again_ms: hold.others_open_ms,
            others_ms: hold.others_open_ms,
            locks_ms: hold.locks_ms,
            go_on_ms: hold.others_go_on_ms,
        }
    }
}

/// Before the old leader stops: on the coordinator, in one session, stays open.
pub fn pause(rows: &[NodeRow], group: u32, terms: &Terms) -> Result<Vec<Statement>, NoPause> {
    let row = primary_of(rows, group).ok_or(NoPause::NotRegistered(group))?;
    let mut steps = begin(terms.pause_ms);
    steps.push(Statement::RecoverPrepared);
    steps.push(Statement::UpdateNode {
        nodeid: row.nodeid,
        address: row.address().placeholder(),
        cooldown_ms: terms.cooldown_ms,
    });
    Ok(steps)
}

/// The same for clients of another metadata node: there, after `pause`. Ends
/// with `release` once that node's copy of the table is synced.
pub fn pause_elsewhere(
    rows: &[NodeRow],
    group: u32,
    terms: &Terms,
) -> Result<Vec<Statement>, NoPause> {
    let row = primary_of(rows, group).ok_or(NoPause::NotRegistered(group))?;
    let mut steps = begin(terms.pause_ms);
    steps.push(Statement::RecoverPrepared);
    steps.push(Statement::PauseNode { nodeid: row.nodeid, cooldown_ms: terms.cooldown_ms });
    Ok(steps)
}

/// The steps of a pause before its lock, and the lock.
pub fn parted(pause: &[Statement]) -> (&[Statement], &[Statement]) {
    pause.split_at(pause.len().saturating_sub(1))
}

/// If transactions in doubt cannot be resolved in time, because another node does not answer:
/// the first steps of a pause once more, without that.
pub fn begin_without_resolving(steps: &[Statement]) -> Vec<Statement> {
    let without = steps.iter().filter(|step| **step != Statement::RecoverPrepared);
    release().iter().chain(without).cloned().collect()
}

/// After the new leader is promoted: in the session of `pause`, with the rows
/// as that session reads them now. Writers go on at the new address.
///
/// None if the plan would commit a placeholder: then `release` is the way out.
/// Additions and removals are the next beat's, when the copies are synced.
pub fn resume(
    desired: &Desired,
    rows: &[NodeRow],
    group: u32,
    terms: &Terms,
) -> Option<Vec<Statement>> {
    let Plan { in_one_transaction: mut steps, .. } = diff(desired, rows, terms);
    let row = primary_of(rows, group)?;
    let goes_on = |step: &Statement| match step {
        Statement::UpdateNode { nodeid, address, .. } => {
            *nodeid == row.nodeid && !address.is_placeholder()
        }
        _ => false,
    };
    if row.address().is_placeholder() && !steps.iter().any(goes_on) {
        return None;
    }
    steps.push(Statement::Commit);
    Some(steps)
}

/// Undoes a pause or a hold: nothing it did was visible to others.
pub fn release() -> Vec<Statement> {
    vec![Statement::Rollback]
}

/// Region move: on every metadata primary, in a session that stays open until
/// the server stops or the move is given up.
///
/// The lock waits for commits that are under way; `lock_ms` bounds that.
pub fn hold(lock_ms: u32) -> Vec<Statement> {
    let mut steps = begin(0);
    steps.push(Statement::SetLimit(Limit::Lock, lock_ms));
    steps.push(Statement::HoldDecisions);
    steps
}

/// Region move: in the sessions of `hold`, when all of them have the lock.
/// Ends clients; transactions that were prepared but not decided roll back.
pub fn end_clients() -> Vec<Statement> {
    vec![Statement::ForgetActivity, Statement::EndClients]
}

/// Region move: on every metadata primary before it stops; waits for 0.
/// Above 0 at its deadline nothing is lost, `settle` resolves it after the move.
pub fn drained() -> Statement {
    Statement::CountPrepared
}

/// After a committed change of address: on the coordinator; waits for 0.
/// At its deadline `Statement::SyncAllNodes` brings the copies into step.
pub fn synced() -> Statement {
    Statement::CountUnsynced
}

/// After `synced`: on every metadata primary, before clients come in. Half of
/// a distributed transaction is visible until its initiator's group has run it.
pub fn settle() -> Vec<Statement> {
    vec![Statement::RecoverPrepared]
}

/// A transaction that the server ends after `limit_ms`; 0: never.
fn begin(limit_ms: u32) -> Vec<Statement> {
    vec![
        Statement::Begin,
        Statement::SetLimit(Limit::Statement, limit_ms),
        Statement::SetLimit(Limit::IdleInTransaction, limit_ms),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{GroupNow, Groups, Wish, desired};
    use crate::model::{Model, row};
    use crate::{Address, NodeRole};
    use std::collections::BTreeMap;

    fn now(worker: Option<&str>, secondaries: &[&str]) -> Desired {
        let at = |host: &str| Address::new(host, 5432);
        let group = |leader: Option<&str>, secondaries: &[&str]| GroupNow {
            leader: leader.map(at),
            secondaries: secondaries.iter().copied().map(at).collect(),
            ..GroupNow::default()
        };
        let groups = Groups::from([(0, group(Some("c"), &[])), (1, group(worker, secondaries))]);
        let wish = Wish::own_replicas();
        desired(&groups, &BTreeMap::new(), &wish)
    }

    fn cluster() -> Vec<NodeRow> {
        let mut standby = row(3, 1, "w2");
        standby.noderole = NodeRole::Secondary;
        vec![row(1, 0, "c"), row(2, 1, "w1"), standby]
    }

    #[test]
    fn a_switchover_swaps_two_registered_nodes() {
        let terms = Terms::default();
        let mut model = Model::new(cluster());
        model.run(&pause(&model.rows, 1, &terms).unwrap()).unwrap();
        assert_eq!(model.rows[1].nodename, "w1-demoted");
        let after = now(Some("w2"), &["w1"]);
        let steps = resume(&after, &model.rows, 1, &terms).unwrap();
        model.run(&steps).unwrap();
        assert_eq!((model.rows[1].nodename.as_str(), model.rows[1].nodeid), ("w2", 2));
        assert_eq!((model.rows[2].nodename.as_str(), model.rows[2].nodeid), ("w1", 3));
        assert!(!model.in_transaction());
    }

    #[test]
    fn a_pause_that_is_given_up_leaves_no_trace() {
        let mut model = Model::new(cluster());
        model.run(&pause(&model.rows, 1, &Terms::default()).unwrap()).unwrap();
        model.run(&release()).unwrap();
        assert_eq!(model.rows, cluster());
    }

    #[test]
    fn the_server_ends_a_pause_whose_daemon_is_frozen() {
        let terms = Terms { pause_ms: 31_000, ..Terms::default() };
        let pauses = [pause(&cluster(), 1, &terms), pause_elsewhere(&cluster(), 1, &terms)];
        for steps in pauses {
            let limit = Statement::SetLimit(Limit::IdleInTransaction, 31_000);
            assert!(steps.unwrap().contains(&limit));
        }
    }

    #[test]
    fn what_is_in_doubt_is_resolved_before_the_first_lock_and_not_looked_for_until_the_end() {
        let terms = Terms::default();
        let pauses = [pause(&cluster(), 1, &terms), pause_elsewhere(&cluster(), 1, &terms)];
        for steps in pauses.map(Result::unwrap) {
            assert_eq!(steps[0], Statement::Begin);
            assert_eq!(steps[steps.len() - 2], Statement::RecoverPrepared, "{steps:?}");
        }
    }

    #[test]
    fn a_pause_that_cannot_resolve_begins_again_without() {
        let steps = pause(&cluster(), 1, &Terms::default()).unwrap();
        let (first, lock) = parted(&steps);
        assert!(matches!(lock, [Statement::UpdateNode { .. }]), "{lock:?}");
        let again = begin_without_resolving(first);
        assert_eq!(again[0], Statement::Rollback);
        assert_eq!(again[1..], first[..first.len() - 1]);
        let mut model = Model::new(cluster());
        model.run(first).unwrap();
        model.run(&again).unwrap();
        model.run(lock).unwrap();
        assert_eq!(model.rows[1].nodename, "w1-demoted");
    }

    #[test]
    fn a_pause_has_time_to_go_on_without_resolving_and_ends_by_itself_after_its_deadline() {
        let hold = Hold {
            group: 1,
            elsewhere: BTreeMap::new(),
            cooldown_ms: 10_000,
            limit_ms: 30_000,
            locks_ms: 11_000,
            others_open_ms: 3_000,
            others_go_on_ms: 2_000,
        };
        let limits = PauseLimits::of(&hold);
        assert!(limits.server_ms > 30_000);
        assert!(limits.begin_ms > 0 && 2 * limits.begin_ms <= limits.others_ms, "{limits:?}");
        assert_eq!((limits.begin_again_ms, limits.others_ms), (3_000, 3_000));
        assert_eq!((limits.locks_ms, limits.go_on_ms), (11_000, 2_000));
        let endless = PauseLimits::of(&Hold { limit_ms: u64::from(u32::MAX), ..hold });
        assert_eq!(endless.server_ms, u32::MAX);
    }

    #[test]
    fn a_placeholder_is_never_committed() {
        let mut rows = cluster();
        rows[1].nodename = "w1-demoted".to_string();
        let unknown = now(None, &[]);
        assert_eq!(resume(&unknown, &rows, 1, &Terms::default()), None);
        assert_eq!(resume(&unknown, &rows, 9, &Terms::default()), None);
    }

    #[test]
    fn a_pause_needs_a_registered_primary() {
        let refused = pause(&cluster(), 5, &Terms::default());
        assert_eq!(refused, Err(NoPause::NotRegistered(5)));
    }

    #[test]
    fn pauses_and_holds_outlive_short_timeouts() {
        let elsewhere = pause_elsewhere(&cluster(), 1, &Terms::default()).unwrap();
        for steps in [hold(5_000), elsewhere] {
            assert_eq!(steps[0], Statement::Begin);
            assert!(steps.contains(&Statement::SetLimit(Limit::IdleInTransaction, 0)));
            assert!(!steps.contains(&Statement::Commit));
        }
    }
}
