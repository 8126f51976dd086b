//! A story under way: the world, and what was not told of it yet.
//!
//! The world runs in short slices, so that a condition is noticed when it comes to
//! hold. Nothing here decides for a member.

use crate::world::fault::Fault;
use crate::world::{Decided, Event, World};
use member::ha::{Action, Decision, Step};
use std::collections::BTreeSet;

/// Between two looks at the world.
const SLICE_MS: u64 = 100;
/// The world begins in the middle of a second. Members renew their leases and leases
/// end near whole seconds of the world, so these lie between those of the story.
const BEGIN_MS: u64 = 500;

pub struct Story {
    pub world: World,
    /// Daemons that only `start` brings back.
    pub held: BTreeSet<usize>,
    /// Machines that are away, with everything on them.
    pub lost: BTreeSet<usize>,
    /// The last decision of each member; renewals and questions are passed over.
    pub last: Vec<Option<Decision>>,
    /// The rule by which each member last did something in this block, renewals apart.
    did: Vec<Option<u16>>,
    /// What members have begun to do in this block.
    pub begun: Vec<Decided>,
    /// The longest time without an acknowledged write in this block.
    pub pauses: Vec<u64>,
    /// An invariant broke: there is no more to tell.
    pub broken: bool,
}

impl Story {
    pub fn of(world: World) -> Story {
        Story {
            held: BTreeSet::new(),
            lost: BTreeSet::new(),
            last: vec![None; world.members.len()],
            did: vec![None; world.members.len()],
            begun: Vec::new(),
            pauses: vec![0; world.clients.len()],
            broken: false,
            world,
        }
    }

    pub fn member(&self, name: &str) -> Result<usize, String> {
        let found = self.world.members.iter().position(|m| m.name.as_str() == name);
        found.ok_or_else(|| format!("there is no member {name}"))
    }

    /// Another block begins.
    pub fn turn_the_page(&mut self) {
        self.did.fill(None);
        self.begun.clear();
        self.pauses.fill(0);
    }

    /// The second of the story in which a moment of the world lies.
    pub fn second(moment: u64) -> u64 {
        (moment + BEGIN_MS) / 1_000
    }

    /// Runs for a number of seconds.
    pub fn run(&mut self, seconds: u64) -> Result<(), String> {
        self.go_on((Story::second(self.world.now) + seconds) * 1_000 - BEGIN_MS)
    }

    fn go_on(&mut self, end: u64) -> Result<(), String> {
        while self.world.now < end {
            self.slice((self.world.now + SLICE_MS).min(end))?;
        }
        Ok(())
    }

    /// Runs until `holds` has come to hold within `limit_s`, and has lasted. It looks at
    /// every whole second, so that delays of milliseconds do not show.
    pub fn run_until(
        &mut self,
        holds: impl Fn(&Story) -> bool,
        lasting_s: u64,
        limit_s: u64,
    ) -> Result<bool, String> {
        let mut lasted = 0;
        for _ in 0..=limit_s + lasting_s {
            match holds(self) {
                true if lasted >= lasting_s => return Ok(true),
                true => lasted += 1,
                false => lasted = 0,
            }
            self.run(1)?;
        }
        Ok(false)
    }

    /// Runs to the next second of the story that is a multiple of `seconds`.
    pub fn run_to_the_next(&mut self, seconds: u64) -> Result<(), String> {
        self.run(seconds - Story::second(self.world.now) % seconds)
    }

    /// It happens at this moment.
    pub fn happen(&mut self, fault: Fault) -> Result<(), String> {
        self.world.after(0, Event::Fault(fault));
        self.slice(self.world.now)
    }

    fn slice(&mut self, end: u64) -> Result<(), String> {
        let outcome = self.world.run_until(end);
        self.hold_back();
        self.take_decisions();
        self.measure();
        self.broken |= outcome.is_err();
        outcome.map_err(|broken| format!("BROKEN at {}s: {broken}", Story::second(self.world.now)))
    }

    /// No service manager starts what is to stay away.
    fn hold_back(&mut self) {
        let held = &self.held;
        let is_held = |event: &Event| match event {
            Event::Fault(Fault::StartDaemon(member)) => held.contains(member),
            _ => false,
        };
        self.world.keep_events(|event| !is_held(event));
    }

    fn take_decisions(&mut self) {
        for decided in std::mem::take(&mut self.world.decisions) {
            let Decided { member, decision, .. } = &decided;
            let before = &mut self.did[*member];
            match &decision.step {
                Step::Do(Action::Renew) => continue,
                Step::Do(_) if *before == Some(decision.rule) => {}
                Step::Do(_) => {
                    *before = Some(decision.rule);
                    self.begun.push(decided.clone());
                }
                Step::Rest { .. } => {}
            }
            if !is_question(&decision.step) {
                self.last[*member] = Some(decision.clone());
            }
        }
    }

    fn measure(&mut self) {
        for (client, pause) in self.world.clients.iter().zip(&mut self.pauses) {
            *pause = (*pause).max(self.world.now - client.acknowledged_at);
        }
    }
}

/// What is asked comes and goes; the answer decides.
fn is_question(step: &Step) -> bool {
    matches!(step, Step::Do(Action::AskPeers | Action::AskAll | Action::CheckDivergence { .. }))
}
