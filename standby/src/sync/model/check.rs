//! Everything that can happen, and what must hold.

use super::group::{Group, LETTERS, Setting};
use crate::sync::{Method, Policy, Step};
use std::collections::{HashMap, HashSet, VecDeque};
use topology::{MemberName, SyncMode};

/// More steps than any way to rest has.
const STEPS_MAX: usize = 16;

/// Follows a group through all states that it can reach, at most `states_max`.
pub(super) fn explore(members: usize, policies: &[Policy], states_max: usize) -> usize {
    let (start, setting) = (Group::new(members), &Setting::new(members, policies));
    let mut from: HashMap<Group, Option<Group>> = HashMap::from([(start.clone(), None)]);
    let mut open = VecDeque::from([start]);
    let mut settled = HashSet::new();
    let mut count = 0;
    while let Some(group) = open.pop_front() {
        count += 1;
        if let Err(why) = judge(&group, setting, &mut settled) {
            panic!("{why}\n{}", history(&group, &from));
        }
        for after in what_can_happen(&group, setting) {
            if from.len() < states_max && !from.contains_key(&after) {
                from.insert(after.clone(), Some(group.clone()));
                open.push_back(after);
            }
        }
    }
    assert!(count > 1_000, "the group hardly moves: {count} states");
    count
}

fn what_can_happen(group: &Group, setting: &Setting) -> Vec<Group> {
    let mut out = vec![group.step(setting).1];
    let mut add = |change: &dyn Fn(&mut Group)| {
        let mut after = group.clone();
        change(&mut after);
        after.settle();
        out.push(after);
    };
    for policy in 0..setting.policies.len() {
        add(&|after| after.policy = policy);
    }
    for at in (0..group.members).filter(|at| group.may_lead(*at, setting)) {
        // Its names are whatever they were; the ones that promise least.
        add(&|after| {
            (after.leader, after.opening) = (at, true);
            after.names = Default::default();
        });
    }
    if group.opening {
        return out;
    }
    add(&|after| after.log[after.leader] += 1);
    add(&|after| after.memory = Default::default());
    for at in group.others() {
        add(&|after| after.streams ^= 1 << at);
        if group.is_streaming(at) && group.log[at] < group.log[group.leader] {
            add(&|after| after.log[at] += 1);
        }
    }
    out
}

fn judge(group: &Group, setting: &Setting, settled: &mut HashSet<Group>) -> Result<(), String> {
    for at in (0..group.members).filter(|at| group.may_lead(*at, setting)) {
        if group.log[at] < group.acknowledged {
            return Err(format!("{} may lead and lacks what was acknowledged", LETTERS[at]));
        }
    }
    if group.opening {
        return ends(group, setting).map(|_| ());
    }
    every_election_finds_what_is_confirmed(group)?;
    ends(group, setting)?;
    let wanted = settles(group, setting, settled)?;
    wanted.map_or(Ok(()), |last| is_as_wanted(&last, &setting.policies[last.policy]))
}

/// Invariant *quorum*, by its numbers.
fn every_election_finds_what_is_confirmed(group: &Group) -> Result<(), String> {
    let Some(record) = group.record.filter(|r| r.leader == group.leader && r.standbys != 0) else {
        return Ok(());
    };
    let named = bits(&group.names.names);
    let together = u64::from((record.standbys | named | 1 << group.leader).count_ones());
    if together > record.quorum + group.names.promised() + 1 {
        return Err("an election may miss those who confirm".to_string());
    }
    let is_nested = record.standbys & !named == 0 || named & !record.standbys == 0;
    if is_nested { Ok(()) } else { Err("neither of voters and names holds the other".into()) }
}

fn bits(names: &[MemberName]) -> u8 {
    let at = |name: &MemberName| LETTERS.iter().position(|letter| *letter == name.as_str());
    names.iter().filter_map(at).fold(0, |set, at| set | 1 << at)
}

/// While nothing else happens the steps end.
fn ends(group: &Group, setting: &Setting) -> Result<Group, String> {
    let mut at = group.clone();
    for _ in 0..STEPS_MAX {
        let was_opening = at.opening;
        let (step, after) = at.step(setting);
        at = after;
        if matches!(step, None | Some(Step::Wait { .. })) && !was_opening {
            return Ok(at);
        }
    }
    Err("the steps do not end".to_string())
}

/// While those who stream have everything at once, the steps end where there is
/// nothing left to do.
fn settles(
    group: &Group,
    setting: &Setting,
    settled: &mut HashSet<Group>,
) -> Result<Option<Group>, String> {
    let mut at = group.clone();
    for _ in 0..STEPS_MAX {
        for other in at.others().filter(|other| group.is_streaming(*other)) {
            at.log[other] = at.log[at.leader];
        }
        at.settle();
        if !settled.insert(at.clone()) {
            return Ok(None);
        }
        let (step, after) = at.step(setting);
        if step.is_none() && at == after {
            return Ok(Some(at));
        }
        at = after;
    }
    Err("it does not settle while all stream".to_string())
}

fn is_as_wanted(group: &Group, policy: &Policy) -> Result<(), String> {
    let streaming = group.streams & !(1 << group.leader);
    let up = u64::from(streaming.count_ones());
    let (named, promised) = (bits(&group.names.names), group.names.promised());
    let Some(record) = group.record.filter(|record| record.leader == group.leader) else {
        return Err("the record is not the leader's".to_string());
    };
    let fine = match policy.mode {
        _ if up == 0 && policy.strict => named == record.standbys && group.names.count > 0,
        _ if up == 0 => named == 0 && record.standbys == 0 && group.names.count == 0,
        SyncMode::On => {
            record.standbys == named
                && record.quorum == 0
                && promised == up.min(policy.node_count)
                && group.names.required().len() as u64 == promised
        }
        _ => {
            (record.standbys, named) == (streaming, streaming)
                && promised == up.min(policy.node_count)
                && record.quorum == up - promised
                && group.names.method == Method::Quorum
        }
    };
    if fine { Ok(()) } else { Err(format!("it rests in the wrong place: {group:?}")) }
}

fn history(group: &Group, from: &HashMap<Group, Option<Group>>) -> String {
    let mut lines = Vec::new();
    let mut at = Some(group);
    while let Some(group) = at {
        let Group { leader, opening, log, streams, acknowledged, record, .. } = group;
        lines.push(format!(
            "leader {} opening {opening} log {log:?} streams {streams:04b} ack {acknowledged} \
             sync {record:?} names `{}` policy {}\n    {:?}",
            LETTERS[*leader],
            group.names.write(),
            group.policy,
            group.memory
        ));
        at = from.get(group).and_then(Option::as_ref);
    }
    lines.reverse();
    lines.join("\n")
}
