//! Everything that can happen to a group, and how far a run follows it.

use super::Flaw;
use super::group::{Group, Setting};
use super::properties::{self, NOTHING_IS_LOST};
use crate::sync::Policy;
use stateright::{Checker, HasDiscoveries, Model, Path, Property};
use std::collections::HashSet;
use std::sync::Mutex;

/// A group under one or several policies.
pub(super) struct GroupModel {
    members: usize,
    pub setting: Setting,
    /// Groups whose way to rest has been followed.
    pub settled: Mutex<HashSet<Group>>,
}

impl GroupModel {
    fn new(members: usize, policies: &[Policy], flaw: Option<Flaw>) -> GroupModel {
        let setting = Setting::new(members, policies, flaw);
        GroupModel { members, setting, settled: Mutex::default() }
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event {
    /// The leader's daemon looks and takes a step.
    Step,
    /// The operator asks for another policy.
    Policy(usize),
    /// The leader dies, and this member takes the lock.
    Leader(usize),
    Write,
    /// The leader's daemon starts anew.
    Restart,
    /// This standby begins to stream, or leaves.
    Connection(usize),
    /// This standby gets one more commit.
    Receive(usize),
}

impl Model for GroupModel {
    type State = Group;
    type Action = Event;

    fn init_states(&self) -> Vec<Group> {
        vec![Group::new(self.members)]
    }

    fn actions(&self, group: &Group, events: &mut Vec<Event>) {
        events.push(Event::Step);
        let policies = 0..self.setting.policies.len();
        events.extend(policies.filter(|policy| *policy != group.policy).map(Event::Policy));
        let may_lead = (0..group.members).filter(|at| group.may_lead(*at, &self.setting));
        events.extend(may_lead.map(Event::Leader));
        if group.opening {
            return;
        }
        events.extend([Event::Write, Event::Restart]);
        for at in group.others() {
            events.push(Event::Connection(at));
            if group.is_streaming(at) && group.log[at] < group.log[group.leader] {
                events.push(Event::Receive(at));
            }
        }
    }

    fn next_state(&self, group: &Group, event: Event) -> Option<Group> {
        let mut after = group.clone();
        match event {
            Event::Step => return Some(group.step(&self.setting).1),
            Event::Policy(policy) => after.policy = policy,
            Event::Leader(at) => {
                // Its names are whatever they were; the ones that promise least.
                (after.leader, after.opening) = (at, true);
                after.names = Default::default();
            }
            Event::Write => after.log[after.leader] += 1,
            Event::Restart => after.memory = Default::default(),
            Event::Connection(at) => after.streams ^= 1 << at,
            Event::Receive(at) => after.log[at] += 1,
        }
        after.settle();
        Some(after)
    }

    fn properties(&self) -> Vec<Property<GroupModel>> {
        properties::all()
    }
}

/// States to generate in each run, those met before included; `MODEL_STATES=100000000`
/// explores groups of three members to the end.
fn states_max() -> usize {
    let wanted = std::env::var("MODEL_STATES").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(200_000)
}

/// Follows a group through the states that it can reach, nearest first; every
/// property must hold.
pub(super) fn explore(members: usize, policies: &[Policy]) {
    let model = GroupModel::new(members, policies, None);
    let states_max = states_max();
    let checker = model.checker().target_state_count(states_max);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    for (name, path) in checker.discoveries() {
        let why = properties::why_not(checker.model(), path.last_state(), name);
        if let Some(why) = why {
            panic!("{name}: {why}\n{}", history(path));
        }
    }
    let (unique, depth) = (checker.unique_state_count(), checker.max_depth());
    let is_complete = checker.state_count() < states_max;
    println!(
        "{members} members, {policies:?}: {unique} states, {depth} deep, complete: {is_complete}"
    );
    checker.assert_properties();
}

/// States to generate before a run without a guard counts as one that lost nothing.
const COUNTEREXAMPLE_STATES_MAX: usize = 1_000_000;

/// Finds how a commit is lost where a guard is taken out.
pub(super) fn counterexample(members: usize, policy: Policy, flaw: Flaw) {
    let checker = GroupModel::new(members, &[policy], Some(flaw)).checker();
    let wanted = HasDiscoveries::AnyOf([NOTHING_IS_LOST].into());
    let checker = checker.finish_when(wanted).target_state_count(COUNTEREXAMPLE_STATES_MAX);
    let path = checker.spawn_bfs().join().discovery(NOTHING_IS_LOST);
    let path = path.unwrap_or_else(|| panic!("{flaw:?} loses nothing with {policy:?}"));
    println!("{flaw:?}, {:?}: {:?}", policy.mode, path.into_actions());
}

fn history(path: Path<Group, Event>) -> String {
    let line = |(group, event)| format!("{group}\n  {event:?}");
    path.into_vec().into_iter().map(line).collect::<Vec<_>>().join("\n")
}
