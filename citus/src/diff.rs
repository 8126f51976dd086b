//! From the rows that are to the rows that should be, as statements.
//!
//! Changes of address come first and in one transaction: Citus lets them happen
//! while nodes are down, and the table never shows half a failover. Removing
//! and adding rows needs every copy of the table in step, so it comes after,
//! and waits a beat where a primary has just moved.
//!
//! Invariants: a primary row keeps its nodeid and is never removed; no two rows
//! ever share an address; rows of groups that `Desired` does not know, of disabled nodes
//! and of clones are not touched; applying a plan leaves nothing for the next one to do.
//!
//! Absent on purpose: draining a group that is gone. Its shards decide that.

use crate::desired::Desired;
use crate::moves::{aside, in_order};
use crate::node::primary_of;
use crate::redirect::{Poolers, redirections};
use crate::statement::{Limit, NODES_MAX, Statement};
use crate::{Address, COORDINATOR_GROUP, NodeRow};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a session may hold a shard's lock before it is ended.
    pub cooldown_ms: i32,
    pub poolers: Poolers,
    /// After this time the server ends a pause by itself; 0: never.
    pub pause_ms: u32,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms { cooldown_ms: 10_000, poolers: Poolers::Keep, pause_ms: 0 }
    }
}

/// Why a part of the desired rows is not brought about by this plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    #[error(
        "group {group} should be at {address}, but row {nodeid}, which stays, has that address; \
         it goes on when that row's group has a known leader"
    )]
    Occupied { group: u32, address: Address, nodeid: i32 },
    #[error("group {group} at {address} is added as soon as the coordinator is registered")]
    NoCoordinator { group: u32, address: Address },
    #[error("secondary {address} of group {group} is added as soon as the group has a primary")]
    NoPrimary { group: u32, address: Address },
    #[error("pg_dist_node has more than {NODES_MAX} rows; remove those that are not in use")]
    TooManyRows,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Changes of address and of redirections.
    pub in_one_transaction: Vec<Statement>,
    /// One by one, each its own transaction, once `CountUnsynced` says 0.
    pub after: Vec<Statement>,
    pub blocked: Vec<Blocked>,
}

impl Plan {
    /// Nothing to run.
    pub fn is_empty(&self) -> bool {
        self.in_one_transaction.is_empty() && self.after.is_empty()
    }

    /// A group without a primary row gets one.
    pub fn adds_primaries(&self) -> bool {
        self.after.iter().any(|statement| {
            matches!(statement, Statement::AddPrimary { .. } | Statement::SetCoordinatorHost { .. })
        })
    }

    /// The first part with its transaction around it; empty if there is none.
    pub fn transaction(&self) -> Vec<Statement> {
        if self.in_one_transaction.is_empty() {
            return Vec::new();
        }
        let mut all = vec![Statement::Begin, Statement::SetLimit(Limit::Statement, 0)];
        all.extend(self.in_one_transaction.iter().cloned());
        all.push(Statement::Commit);
        all
    }
}

/// The plan that turns `rows` into `desired`.
pub fn diff(desired: &Desired, rows: &[NodeRow], terms: &Terms) -> Plan {
    if rows.len() > NODES_MAX {
        let blocked = vec![Blocked::TooManyRows];
        return Plan { blocked, ..Plan::default() };
    }
    let mut draft = Draft::new(desired, rows);
    draft.place_primaries();
    draft.place_secondaries();
    draft.free_claimed();
    draft.keep_blocked();
    draft.need_primaries();
    draft.into_plan(terms)
}

/// A row that is to be added.
#[derive(Clone, Debug)]
struct Add {
    group: u32,
    address: Address,
    /// None for a primary.
    cluster: Option<String>,
}

struct Draft<'a> {
    desired: &'a Desired,
    rows: &'a [NodeRow],
    /// Addresses that are the goal of one row: no other row may go there.
    claimed: BTreeSet<Address>,
    /// Where rows go, by nodeid.
    goals: BTreeMap<i32, Address>,
    adds: Vec<Add>,
    /// Rows that go away; never a primary.
    gone: BTreeSet<i32>,
    blocked: Vec<Blocked>,
}

impl<'a> Draft<'a> {
    fn new(desired: &'a Desired, rows: &'a [NodeRow]) -> Draft<'a> {
        Draft {
            desired,
            rows,
            claimed: BTreeSet::new(),
            goals: BTreeMap::new(),
            adds: Vec::new(),
            gone: BTreeSet::new(),
            blocked: Vec::new(),
        }
    }

    fn place_primaries(&mut self) {
        for (&group, wanted) in &self.desired.groups {
            match primary_of(self.rows, group) {
                Some(row) if row.is_left_alone() || row.address() == wanted.primary => {}
                Some(row) => self.go(row.nodeid, &wanted.primary),
                None if wanted.is_leaving => {}
                None => self.add(group, &wanted.primary, None),
            }
        }
    }

    fn go(&mut self, nodeid: i32, address: &Address) {
        if self.claimed.insert(address.clone()) {
            self.goals.insert(nodeid, address.clone());
        }
    }

    fn add(&mut self, group: u32, address: &Address, cluster: Option<&str>) {
        if self.claimed.insert(address.clone()) {
            self.adds.push(Add {
                group,
                address: address.clone(),
                cluster: cluster.map(str::to_string),
            });
        }
    }

    fn place_secondaries(&mut self) {
        for (&group, wanted) in &self.desired.groups {
            for (cluster, members) in &wanted.secondaries {
                self.place_cluster(group, cluster, members);
            }
        }
    }

    /// Rows of members that are gone are given to members that are new.
    fn place_cluster(&mut self, group: u32, cluster: &str, members: &BTreeSet<Address>) {
        let ours = |row: &&NodeRow| {
            row.groupid == group && row.is_secondary() && row.nodecluster == cluster
        };
        let here: Vec<&NodeRow> = self.rows.iter().filter(ours).collect();
        let mut known: BTreeSet<Address> = here.iter().map(|row| row.address()).collect();
        let kept = self.rows.iter().filter(|row| row.groupid == group && row.is_left_alone());
        known.extend(kept.map(NodeRow::address));
        let here: Vec<&NodeRow> = here.into_iter().filter(|row| !row.is_left_alone()).collect();
        let mut gone = here.iter().filter(|row| !members.contains(&row.address()));
        for address in members.difference(&known) {
            match gone.next() {
                Some(row) => self.go(row.nodeid, address),
                None => self.add(group, address, Some(cluster)),
            }
        }
        self.gone.extend(gone.map(|row| row.nodeid));
    }

    /// Rows of known groups that sit where another row is to be make room.
    ///
    /// A registered standby that became the leader trades places with the old
    /// one, also where secondaries are not ours to arrange.
    fn free_claimed(&mut self) {
        for row in self.rows.iter().filter(|row| self.desired.groups.contains_key(&row.groupid)) {
            let settled = self.goals.contains_key(&row.nodeid) || self.gone.contains(&row.nodeid);
            let stays = row.is_primary() || row.is_left_alone() || settled;
            if stays || !self.claimed.contains(&row.address()) {
                continue;
            }
            match self.left_by_primary(row.groupid) {
                Some(old) if row.is_secondary() && !self.claimed.contains(&old) => {
                    self.go(row.nodeid, &old);
                }
                _ => drop(self.gone.insert(row.nodeid)),
            }
        }
    }

    fn left_by_primary(&self, group: u32) -> Option<Address> {
        let row = primary_of(self.rows, group)?;
        let left = row.address();
        let moves = self.goals.contains_key(&row.nodeid);
        (moves && !left.is_placeholder()).then_some(left)
    }

    /// Drops what would need the address of a row that stays, until none does:
    /// a row whose change was dropped stays as well.
    fn keep_blocked(&mut self) {
        let mut before = usize::MAX;
        while self.blocked.len() != before {
            before = self.blocked.len();
            let leaves = |id: &i32| self.goals.contains_key(id) || self.gone.contains(id);
            let staying = self.rows.iter().filter(|row| !leaves(&row.nodeid));
            let places = staying.map(|row| (row.address(), row.nodeid)).collect();
            self.drop_occupied(&places);
        }
    }

    fn drop_occupied(&mut self, staying: &BTreeMap<Address, i32>) {
        let groups: BTreeMap<i32, u32> =
            self.rows.iter().map(|row| (row.nodeid, row.groupid)).collect();
        let blocked = &mut self.blocked;
        let mut is_free = |group: u32, address: &Address| match staying.get(address) {
            None => true,
            Some(&nodeid) => {
                let address = address.clone();
                blocked.push(Blocked::Occupied { group, address, nodeid });
                false
            }
        };
        self.goals.retain(|nodeid, address| is_free(groups[nodeid], address));
        self.adds.retain(|add| is_free(add.group, &add.address));
    }

    /// The coordinator's row comes before all others, a primary's before its
    /// secondaries'.
    fn need_primaries(&mut self) {
        let mut present: BTreeSet<u32> =
            self.rows.iter().filter(|row| row.is_primary()).map(|row| row.groupid).collect();
        let primaries = self.adds.iter().filter(|add| add.cluster.is_none());
        present.extend(primaries.map(|add| add.group));
        let coordinator = present.contains(&COORDINATOR_GROUP);
        let blocked = &mut self.blocked;
        self.adds.retain(|add| {
            let (group, address) = (add.group, add.address.clone());
            if !coordinator {
                blocked.push(Blocked::NoCoordinator { group, address });
            } else if !present.contains(&group) {
                blocked.push(Blocked::NoPrimary { group, address });
            } else {
                return true;
            }
            false
        });
    }

    fn into_plan(mut self, terms: &Terms) -> Plan {
        self.move_gone_aside();
        let update = |(nodeid, address)| Statement::UpdateNode {
            nodeid,
            address,
            cooldown_ms: terms.cooldown_ms,
        };
        let mut changes: Vec<Statement> =
            in_order(self.rows, &self.goals).into_iter().map(update).collect();
        let redirected = redirections(self.desired, self.rows, terms.poolers);
        changes.extend(redirected.into_iter().filter(|s| !self.is_stuck(s)));
        Plan {
            in_one_transaction: changes,
            after: self.removals().chain(self.additions()).collect(),
            blocked: self.blocked,
        }
    }

    /// A row that is removed only after the transaction must not be in its way.
    fn move_gone_aside(&mut self) {
        let claimed: BTreeSet<Address> = self.goals.values().cloned().collect();
        let mut taken = self.claimed.clone();
        taken.extend(self.rows.iter().map(NodeRow::address));
        for row in self.rows.iter().filter(|row| self.gone.contains(&row.nodeid)) {
            if claimed.contains(&row.address()) {
                let free = aside(&row.address(), row.nodeid, |a| taken.contains(a));
                taken.insert(free.clone());
                self.goals.insert(row.nodeid, free);
            }
        }
    }

    /// A redirection follows its row, and the row was blocked.
    fn is_stuck(&self, statement: &Statement) -> bool {
        let Statement::SetPoolinfo { nodeid, address } = statement else {
            return false;
        };
        let row = self.rows.iter().find(|row| row.nodeid == *nodeid);
        let group = row.and_then(|row| self.desired.groups.get(&row.groupid));
        if group.and_then(|group| group.pooler.as_ref()) == Some(address) {
            return false;
        }
        row.is_some_and(|row| &row.address() != address && !self.goals.contains_key(nodeid))
    }

    fn removals(&self) -> impl Iterator<Item = Statement> {
        let gone = self.rows.iter().filter(|row| self.gone.contains(&row.nodeid));
        gone.map(|row| {
            assert!(!row.is_primary(), "a primary row would be removed");
            let moved = self.goals.get(&row.nodeid).cloned();
            let address = moved.unwrap_or_else(|| row.address());
            Statement::RemoveNode { address }
        })
    }

    fn additions(&self) -> impl Iterator<Item = Statement> {
        let empty = !self.rows.iter().any(|row| row.groupid == COORDINATOR_GROUP);
        let mut adds = self.adds.clone();
        adds.sort_by_key(|add| (add.cluster.is_some(), add.group));
        adds.into_iter().map(move |add| {
            let Add { group, address, .. } = add;
            match add.cluster {
                Some(cluster) => Statement::AddSecondary { group, address, cluster },
                None if group == COORDINATOR_GROUP && empty => {
                    Statement::SetCoordinatorHost { address }
                }
                None => Statement::AddPrimary { group, address },
            }
        })
    }
}
