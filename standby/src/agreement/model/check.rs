//! How far a run follows the regions.

use super::event::{self, Event};
use super::properties::{self, Reached};
use super::step::Setting;
use super::world::World;
use stateright::{Checker, HasDiscoveries, Model, Path, Property};

pub(super) struct RegionModel {
    pub setting: Setting,
    /// Everything that can happen in some state.
    events: Vec<Event>,
    reached: Vec<Reached>,
    /// From each state, the way to rest is followed as well.
    walks: bool,
}

impl RegionModel {
    fn new(setting: Setting, reached: &[Reached]) -> RegionModel {
        let late = setting.bounds.late.into();
        let events = event::all(setting.rules.sites, setting.movers, late);
        RegionModel { setting, events, reached: reached.to_vec(), walks: false }
    }
}

impl Model for RegionModel {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![self.setting.first()]
    }

    fn actions(&self, _: &World, events: &mut Vec<Event>) {
        events.extend(&self.events);
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        self.setting.next(world, event)
    }

    fn properties(&self) -> Vec<Property<RegionModel>> {
        properties::all(&self.reached, self.walks)
    }
}

/// States to generate in each run, those met before included; `MODEL_STATES=100000000` explores
/// the smaller formations to the end.
fn states_max() -> usize {
    let wanted = std::env::var("MODEL_STATES").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(100_000)
}

/// Follows the regions through the states that they can reach, nearest first; every property must
/// hold.
pub(super) fn explore(setting: Setting, reached: &[Reached]) {
    follow(RegionModel::new(setting, reached), states_max());
}

/// The same for the nearest states, from each of which the way to rest is followed.
pub(super) fn explore_ends(setting: Setting) {
    let walks = true;
    follow(RegionModel { walks, ..RegionModel::new(setting, &[]) }, states_max() / 20);
}

fn follow(model: RegionModel, states_max: usize) {
    let checker = model.checker().target_state_count(states_max);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let setting = &checker.model().setting;
    for (name, path) in checker.discoveries() {
        if let Some(why) = properties::why_not(setting, path.last_state(), name) {
            panic!("{name}: {why}\n{}", history(path));
        }
    }
    let (unique, depth) = (checker.unique_state_count(), checker.max_depth());
    let (sites, bounds) = (setting.rules.sites, setting.bounds);
    let is_complete = checker.state_count() < states_max;
    println!("{sites} regions, {bounds:?}: {unique} states, {depth} deep, complete: {is_complete}");
    checker.assert_properties();
}

/// States to generate before a run without a guard counts as one that broke nothing.
const COUNTEREXAMPLE_STATES_MAX: usize = 300_000;

/// Finds how two regions come to own the formation where a guard is taken out.
pub(super) fn counterexample(setting: Setting, broken: &'static str) {
    let (flaw, sites) = (setting.rules.flaw, setting.rules.sites);
    let checker = RegionModel::new(setting, &[]).checker();
    let wanted = HasDiscoveries::AnyOf([broken].into());
    let checker = checker.finish_when(wanted).target_state_count(COUNTEREXAMPLE_STATES_MAX);
    let checker = checker.spawn_bfs().join();
    let path = checker.discovery(broken);
    let path = path.unwrap_or_else(|| panic!("{flaw:?} breaks nothing: {broken}"));
    let setting = &checker.model().setting;
    let is_whole = |world: &World| properties::why_not(setting, world, broken).is_none();
    // A path may go on after the state that breaks it.
    let way = path.into_vec().into_iter().take_while(|(world, _)| is_whole(world));
    let events: Vec<_> = way.filter_map(|(_, event)| event).collect();
    let (states, steps) = (checker.unique_state_count(), events.len());
    println!("{flaw:?}, {sites} regions: {states} states, {steps} steps: {events:?}");
}

fn history(path: Path<World, Event>) -> String {
    let line = |(world, event)| format!("{world}\n  {event:?}");
    path.into_vec().into_iter().map(line).collect::<Vec<_>>().join("\n")
}
