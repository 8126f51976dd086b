//! What must hold of a group in every state.

use super::check::GroupModel;
use super::group::{Group, LETTERS, Setting};
use crate::sync::{Method, Policy, Step};
use stateright::Property;
use std::collections::HashSet;
use topology::{MemberName, SyncMode};

pub(super) const NOTHING_IS_LOST: &str = "each member that may lead has what was acknowledged";
const ELECTIONS: &str = "every election finds a member that confirms";
const ENDS: &str = "while nothing else happens the steps end";
const SETTLES: &str = "while all stream the steps end in what is wanted";

/// More steps than any way to rest has.
const STEPS_MAX: usize = 16;

/// What always holds, then what a run must have met.
pub(super) fn all() -> Vec<Property<GroupModel>> {
    vec![
        Property::always(NOTHING_IS_LOST, |m, group| nothing_is_lost(group, &m.setting).is_ok()),
        Property::always(ELECTIONS, |_, group| elections_find_what_is_confirmed(group).is_ok()),
        Property::always(ENDS, |m, group| ends(group, &m.setting).is_ok()),
        Property::always(SETTLES, |m, group| {
            let mut settled = m.settled.lock().expect("no run has failed");
            settles(group, &m.setting, &mut settled).is_ok()
        }),
        Property::sometimes("a standby may lead", |_, group: &Group| {
            group.record.is_some_and(|record| record.standbys != 0)
        }),
        Property::sometimes("a commit waits for a standby", |_, group: &Group| {
            !group.opening && group.acknowledged < group.log[group.leader]
        }),
        Property::sometimes("another member has opened", |_, group: &Group| {
            group.leader != 0 && !group.opening
        }),
    ]
}

/// How a group breaks the property of this name, if it does.
pub(super) fn why_not(model: &GroupModel, group: &Group, name: &str) -> Option<String> {
    let held = match name {
        NOTHING_IS_LOST => nothing_is_lost(group, &model.setting),
        ELECTIONS => elections_find_what_is_confirmed(group),
        ENDS => ends(group, &model.setting),
        SETTLES => settles(group, &model.setting, &mut HashSet::new()),
        _ => Ok(()),
    };
    held.err()
}

fn nothing_is_lost(group: &Group, setting: &Setting) -> Result<(), String> {
    for at in (0..group.members).filter(|at| group.may_lead(*at, setting)) {
        if group.log[at] < group.acknowledged {
            return Err(format!("{} may lead and lacks what was acknowledged", LETTERS[at]));
        }
    }
    Ok(())
}

/// Invariant *quorum*, by its numbers.
fn elections_find_what_is_confirmed(group: &Group) -> Result<(), String> {
    if group.opening {
        return Ok(());
    }
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

fn ends(group: &Group, setting: &Setting) -> Result<(), String> {
    let mut at = group.clone();
    for _ in 0..STEPS_MAX {
        let was_opening = at.opening;
        let (step, after) = at.step(setting);
        at = after;
        if matches!(step, None | Some(Step::Wait { .. })) && !was_opening {
            return Ok(());
        }
    }
    Err("the steps do not end".to_string())
}

/// While those who stream have everything at once, the steps end where there is
/// nothing left to do. A way that meets one of the settled groups has been followed.
fn settles(group: &Group, setting: &Setting, settled: &mut HashSet<Group>) -> Result<(), String> {
    if group.opening {
        return Ok(());
    }
    let mut at = group.clone();
    let mut walk = HashSet::new();
    for _ in 0..STEPS_MAX {
        for other in at.others().filter(|other| group.is_streaming(*other)) {
            at.log[other] = at.log[at.leader];
        }
        at.settle();
        if settled.contains(&at) {
            settled.extend(walk);
            return Ok(());
        }
        if !walk.insert(at.clone()) {
            return Err("the steps go in a circle while all stream".to_string());
        }
        let (step, after) = at.step(setting);
        if step.is_none() && at == after {
            is_as_wanted(&at, &setting.policies[at.policy])?;
            settled.extend(walk);
            return Ok(());
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
    if fine { Ok(()) } else { Err(format!("it rests in the wrong place: {group}")) }
}
