//! The order of address changes.
//!
//! `(nodename, nodeport)` is unique at every moment, not only at the end. Rows
//! that trade places therefore need a free address in between: one of them
//! waits under a placeholder.
//!
//! Invariant *one at a time*: after every single change all addresses differ.
//!
//! Absent on purpose: whether a change may happen at all; `diff` has removed
//! changes whose goal is occupied by a row that stays.

use crate::{Address, NodeRow};
use std::collections::{BTreeMap, BTreeSet};

/// The changes, one after the other, that bring every row of `goals` there.
///
/// Workers come first, the coordinator last; within a circle a secondary waits,
/// because its change takes no shard locks.
pub(crate) fn in_order(rows: &[NodeRow], goals: &BTreeMap<i32, Address>) -> Vec<(i32, Address)> {
    let mut places: BTreeMap<Address, i32> =
        rows.iter().map(|row| (row.address(), row.nodeid)).collect();
    let mut waiting: Vec<&NodeRow> =
        rows.iter().filter(|row| goals.contains_key(&row.nodeid)).collect();
    waiting.sort_by_key(|row| (row.groupid == 0, row.groupid, !row.is_primary(), row.nodeid));
    let mut here: BTreeMap<i32, Address> =
        rows.iter().map(|row| (row.nodeid, row.address())).collect();
    let mut steps = Vec::new();
    // A row moves at most twice: aside, and to its goal.
    for _ in 0..2 * waiting.len() {
        let is_free = |row: &&NodeRow| !places.contains_key(&goals[&row.nodeid]);
        let (nodeid, to) = match waiting.iter().position(is_free) {
            Some(at) => {
                let row = waiting.remove(at);
                (row.nodeid, goals[&row.nodeid].clone())
            }
            None => match step_aside(&waiting, &places, goals) {
                Some(step) => step,
                None => break,
            },
        };
        let from = here.insert(nodeid, to.clone());
        from.map(|from| places.remove(&from));
        places.insert(to.clone(), nodeid);
        steps.push((nodeid, to));
    }
    steps
}

/// Every waiting row needs the address of another one, so all are in circles: one
/// row leaves its address, and its circle resolves. Goals differ, so one row per
/// circle is enough.
fn step_aside(
    waiting: &[&NodeRow],
    places: &BTreeMap<Address, i32>,
    goals: &BTreeMap<i32, Address>,
) -> Option<(i32, Address)> {
    let stands = |row: &&&NodeRow| places.get(&row.address()) == Some(&row.nodeid);
    let row = waiting.iter().filter(stands).min_by_key(|row| row.is_primary())?;
    let wanted: BTreeSet<&Address> = goals.values().collect();
    let taken = |address: &Address| places.contains_key(address) || wanted.contains(address);
    Some((row.nodeid, aside(&row.address(), row.nodeid, taken)))
}

/// A placeholder that is not taken: the plain one, or one with a number in it.
pub(crate) fn aside(from: &Address, nodeid: i32, taken: impl Fn(&Address) -> bool) -> Address {
    let plain = from.placeholder();
    if !taken(&plain) {
        return plain;
    }
    let numbered = |n: usize| Address::new(format!("{}-{nodeid}-{n}", from.host), from.port);
    (0..)
        .map(|n| numbered(n).placeholder())
        .find(|address| !taken(address))
        .expect("a finite table leaves a number free")
}
