//! When `pg_dist_node` is read and changed, and when a group's writers are held.
//!
//! The machine of the coordinator's leader. `step` is asked after every beat; it gives
//! one step, which runs beside the beats, and is told its end. What the groups look like
//! is enough to bring the rows in line (a *round*). Events of other daemons
//! (`event`) come sooner: a worker that is about to stop asks that its writers be held,
//! and waits for it.
//!
//! Invariants: one step at a time; one pause at a time, and no round while one is open,
//! because both take the locks of reference tables and would end each other's sessions;
//! every pause has a deadline; no event reaches a row that a round would not.
//!
//! Absent on purpose: the statements and their order (see `diff`, `round`, `handover`) and
//! the lock in the store that keeps a second coordinator from opening a pause.

pub mod clearing;
pub mod event;
mod moving;
pub mod round;
#[cfg(test)]
mod round_tests;
pub mod rules;
#[cfg(test)]
mod tests;

use crate::{Address, COORDINATOR_GROUP, Groups};
use event::{Event, EventKind};
use std::collections::{BTreeMap, BTreeSet};
use topology::Millis;

/// After a round that failed; at first also after one that left something undone.
pub const RETRY_MS: u64 = 1_000;
/// The longest round. A new worker gets the whole schema in it.
pub const ROUND_MS: u64 = 60_000;
/// For how long another group's rows wait for the end of a pause.
pub const OTHERS_MS: u64 = 2_000;
/// What the locks of a pause may take beyond the cooldown, after which their holders are
/// ended; and how long after its deadline the servers end it by themselves.
pub const MARGIN_MS: u64 = 1_000;
/// The other metadata nodes get this time once the coordinator holds its writers, which wait
/// meanwhile.
pub const OTHERS_OPEN_MS: u64 = 1_000;
/// And this one to go on, before the pause counts as over.
pub const OTHERS_GO_ON_MS: u64 = 2_000;

/// What the machine goes by.
#[derive(Clone, Debug)]
pub struct Sight {
    pub now: Millis,
    /// This member leads the coordinator's group, is open, and no long action runs.
    pub may_act: bool,
    /// The groups of the owner, as its store shows them.
    pub groups: Groups,
    /// The region has just become the owner and is not rewired.
    pub opening: bool,
    /// Every group has a known leader.
    pub whole: bool,
    /// The lock of pauses in the store hangs on this process's lease.
    pub is_lock_left: bool,
    /// A round is under way and may be cut short.
    pub in_tail: bool,
    /// Workers have copies of the table; the stand-in's have none.
    pub has_copies: bool,
    pub loop_wait_ms: u64,
    pub retry_timeout_ms: u64,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Rest,
    /// Bring the rows in line with these groups.
    Round(Round),
    /// Hold the writers of a group.
    Pause(Hold),
    /// The group has a leader: its writers go on there.
    Resume {
        group: u32,
        groups: Groups,
    },
    /// Give the pause up: everything is as it was before.
    Release {
        group: u32,
    },
    /// The request of this group is not met; its sender is answered.
    Decline {
        group: u32,
    },
    /// Free the lock of pauses in the store.
    FreeLock,
    /// Cut the round under way short; it ends by itself soon.
    Interrupt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub groups: Groups,
    /// The region opens: nothing may be left undone.
    pub opening: bool,
    /// In-doubt transactions are to be resolved.
    pub resolve: bool,
    /// The copies on the workers are to be compared.
    pub compares: bool,
    /// Groups whose leader went or changed since the last round that saw them led, and for how
    /// long it has been gone.
    pub gone_ms: BTreeMap<u32, u64>,
    pub cooldown_ms: i32,
    /// How long all of it may take.
    pub limit_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub group: u32,
    /// The leaders of the other metadata nodes.
    pub elsewhere: BTreeMap<u32, Address>,
    pub cooldown_ms: i32,
    /// How long the pause may last.
    pub limit_ms: u64,
    /// How long the locks may take.
    pub locks_ms: u64,
    /// How long the other metadata nodes are waited for when it opens, and when it ends.
    pub others_open_ms: u64,
    pub others_go_on_ms: u64,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    Round(Did),
    Paused,
    Resumed,
    Released,
    Failed(String),
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Did {
    /// Rows were changed.
    pub repaired: bool,
    /// All primaries are entered, and the copies are in step.
    pub settled: bool,
    /// Nothing at all is left to do; secondaries may come later than primaries.
    pub complete: bool,
    /// Every metadata node has resolved its in-doubt transactions.
    pub resolved: bool,
}

impl Did {
    /// Nothing was wrong, or nothing is any more.
    pub const ALL: Did = Did { repaired: false, settled: true, complete: true, resolved: true };

    /// The same round in two databases.
    pub fn and(self, other: Did) -> Did {
        Did {
            repaired: self.repaired || other.repaired,
            settled: self.settled && other.settled,
            complete: self.complete && other.complete,
            resolved: self.resolved && other.resolved,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pause {
    group: u32,
    /// The leader when it was asked for.
    leader: Option<Address>,
    since: Millis,
    deadline: Millis,
    /// The leader was away, or was another one, at some look.
    was_down: bool,
    /// Since when another group waits for its rows.
    others_wait: Option<Millis>,
}

/// What was left undone is tried again, each time after twice as long, up to `loop_wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Undone {
    at: Millis,
    wait_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Request {
    at: Millis,
    timeout_ms: u64,
    cooldown_ms: Option<u64>,
    /// Its sender's server runs until it is answered; else the group may have its leader already.
    is_awaited: bool,
}

/// What has happened since the daemon began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rounds that had to change a row.
    pub repairs: u64,
    pub pauses: u64,
    /// Pauses that reached their deadline or were given up.
    pub given_up: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Registrar {
    /// The groups that the rows were last found in line with.
    settled: Option<Groups>,
    /// A round has reached its end since this member leads: events count.
    has_looked: bool,
    leaders: BTreeMap<u32, Option<Address>>,
    /// When each member was last seen to run, by group.
    recent: BTreeMap<(u32, Address), Millis>,
    /// When the leader of a group was first found to be gone, or another one.
    gone: BTreeMap<u32, Millis>,
    /// Groups whose leader went or changed since in-doubt transactions were resolved.
    in_doubt: BTreeSet<u32>,
    /// Of those, groups for which not every metadata node has answered.
    unresolved: BTreeSet<u32>,
    looked_at: Millis,
    /// When the rows are looked at again, if nothing happens before.
    next_look: Option<Millis>,
    failed_at: Option<Millis>,
    /// The last round left something undone.
    undone: Option<Undone>,
    under_way: Option<Step>,
    /// The round under way was asked to end.
    is_interrupted: bool,
    pause: Option<Pause>,
    requests: BTreeMap<u32, Request>,
    /// A round has found or brought all rows right since `take_settled` was asked.
    has_settled: bool,
    counts: Counts,
    /// What a person should read, oldest first.
    told: Vec<String>,
}

impl Registrar {
    /// The next step. It is under way until `ended` is told.
    pub fn step(&mut self, sight: &Sight) -> Step {
        let sight = &self.with_recent(sight);
        self.observe(sight);
        let rule = rules::first(&rules::Facts { registrar: self, sight });
        let step = (rule.then)(&rules::Facts { registrar: self, sight });
        self.begin(rule, &step, sight);
        step
    }

    /// Members that ran within the last `loop_wait` count as secondaries: an old leader that
    /// comes back as a standby keeps the row of the one that took its place.
    fn with_recent(&mut self, sight: &Sight) -> Sight {
        let mut seen = sight.clone();
        if !sight.may_act {
            self.recent.clear();
            return seen;
        }
        for (number, group) in &sight.groups {
            for address in group.leader.iter().chain(&group.secondaries) {
                self.recent.insert((*number, address.clone()), sight.now);
            }
        }
        self.recent.retain(|_, at| sight.now.since(*at) < sight.loop_wait_ms);
        for (number, address) in self.recent.keys() {
            let Some(group) = seen.groups.get_mut(number) else { continue };
            let is_there = group.leader.as_ref() == Some(address);
            if !is_there && !group.is_leaving && !group.secondaries.contains(address) {
                group.secondaries.push(address.clone());
            }
        }
        seen
    }

    /// Another daemon's news. True: its sender waits until the group's pause is open, or
    /// declined.
    pub fn take_event(&mut self, event: &Event, now: Millis) -> bool {
        if !self.has_looked {
            return false;
        }
        match event.kind {
            EventKind::AfterPromote => {
                self.in_doubt.insert(event.group);
                if let Some(pause) = self.pause.as_mut().filter(|p| p.group == event.group) {
                    pause.was_down = true;
                }
                self.requests.remove(&event.group);
                false
            }
            EventKind::BeforeDemote | EventKind::BeforePromote => {
                let is_held = self.pause.as_ref().is_some_and(|p| p.group == event.group);
                if is_held && self.under_way.is_none() {
                    return false;
                }
                let is_awaited = event.kind == EventKind::BeforeDemote;
                let request = Request {
                    at: now,
                    timeout_ms: event.timeout_ms,
                    cooldown_ms: event.cooldown_ms,
                    is_awaited,
                };
                self.requests.insert(event.group, request);
                is_awaited
            }
        }
    }

    pub fn ended(&mut self, now: Millis, ended: Ended) {
        let step = self.under_way.take();
        self.is_interrupted = false;
        if step == Some(Step::FreeLock) {
            return;
        }
        if matches!(step, Some(Step::Round(_))) {
            self.failed_at = matches!(ended, Ended::Failed(_)).then_some(now);
        }
        match (step, ended) {
            (Some(Step::Round(round)), Ended::Round(did)) => self.round_ended(now, round, did),
            (Some(Step::Pause(hold)), Ended::Paused) => {
                self.counts.pauses += 1;
                self.requests.remove(&hold.group);
            }
            (Some(Step::Pause(hold)), Ended::Failed(why)) => {
                self.requests.remove(&hold.group);
                self.pause = None;
                let group = hold.group;
                self.tell(format!("the writers of group {group} are not held: {why}"));
            }
            (Some(Step::Resume { group, .. }), ended) => {
                self.pause = None;
                // Whatever came of it, a round looks at the rows and resolves.
                (self.settled, self.failed_at) = (None, None);
                self.in_doubt.insert(group);
                if let Ended::Failed(why) = ended {
                    self.tell(format!("the pause of group {group} ended with an error: {why}"));
                }
            }
            (Some(Step::Release { group }), _) => {
                self.pause = None;
                (self.settled, self.failed_at) = (None, None);
                self.in_doubt.insert(group);
            }
            (_, Ended::Failed(why)) => {
                self.tell(format!("pg_dist_node could not be brought up to date: {why}"));
            }
            _ => {}
        }
    }

    fn round_ended(&mut self, now: Millis, round: Round, did: Did) {
        self.counts.repairs += u64::from(did.repaired);
        if round.resolve {
            self.resolved(&round.groups, did.resolved);
        }
        let led = |group: &u32| round.groups.get(group).is_some_and(|g| g.leader.is_some());
        self.gone.retain(|group, _| !led(group));
        self.settled = Some(round.groups);
        self.has_looked = true;
        self.has_settled |= did.settled;
        let wait_ms = self.undone.map_or(RETRY_MS, |undone| undone.wait_ms * 2);
        let is_complete = did.complete && self.unresolved.is_empty();
        self.undone = (!is_complete).then_some(Undone { at: now, wait_ms });
    }

    /// A group that has changed its leader since the round began is still in doubt.
    fn resolved(&mut self, groups: &Groups, everywhere: bool) {
        let leader = |group: &u32| groups.get(group).and_then(|now| now.leader.clone());
        let same = |group: &u32| self.leaders.get(group).cloned().flatten() == leader(group);
        let asked: BTreeSet<u32> =
            self.in_doubt.iter().copied().filter(|g| leader(g).is_some() && same(g)).collect();
        self.in_doubt.retain(|group| !asked.contains(group));
        match everywhere {
            true => self.unresolved.clear(),
            false => self.unresolved.extend(asked),
        }
    }

    /// Since this was asked last.
    pub fn take_settled(&mut self) -> bool {
        std::mem::take(&mut self.has_settled)
    }

    pub fn take_told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The group whose writers are held, and since when.
    pub fn paused(&self) -> Option<(u32, Millis)> {
        self.pause.as_ref().map(|pause| (pause.group, pause.since))
    }

    /// The last round left nothing to do.
    pub fn is_settled(&self) -> bool {
        self.settled.is_some() && self.undone.is_none()
    }

    /// Requests whose senders still wait.
    pub fn waits(&self, group: u32) -> bool {
        self.requests.contains_key(&group)
    }

    /// Until something is due by time alone.
    pub fn wake_in_ms(&self, now: Millis) -> Option<u64> {
        if self.under_way.is_some() {
            return None;
        }
        let retry = self.failed_at.map(|at| at + RETRY_MS);
        let pause = self.pause.as_ref();
        let others = pause.and_then(|p| p.others_wait).map(|at| at + OTHERS_MS);
        let undone = self.undone.filter(|_| pause.is_none()).map(|u| u.at + u.wait_ms);
        let all = [retry, others, undone, self.next_look, pause.map(|pause| pause.deadline)];
        all.into_iter().flatten().map(|at| at.since(now)).min()
    }

    fn tell(&mut self, text: String) {
        self.told.push(text);
    }

    /// Takes in what was seen, before a rule is looked for.
    fn observe(&mut self, sight: &Sight) {
        if !sight.may_act {
            (self.settled, self.failed_at, self.undone) = (None, None, None);
            self.has_looked = false;
            self.requests.clear();
            // The next leader's first round resolves for every group.
            self.leaders.clear();
            self.gone.clear();
            return;
        }
        for (number, group) in &sight.groups {
            let before = self.leaders.insert(*number, group.leader.clone());
            if before.as_ref() != Some(&group.leader) {
                self.in_doubt.insert(*number);
                // A leader that this process has not seen go may have been replaced long ago: its
                // successor's sessions would be taken for those of the lost one.
                let takes_over = before.is_none() && *number == COORDINATOR_GROUP;
                if takes_over || matches!(before, Some(Some(_))) {
                    self.gone.entry(*number).or_insert(sight.now);
                }
            }
        }
        self.in_doubt.retain(|group| sight.groups.contains_key(group));
        let is_over = |r: &Request| sight.now.since(r.at) >= r.timeout_ms;
        self.requests.retain(|_, request| !is_over(request));
        self.observe_pause(sight);
    }

    fn observe_pause(&mut self, sight: &Sight) {
        let settled = self.settled.as_ref();
        let Some(pause) = &mut self.pause else { return };
        let leader =
            |groups: &Groups, group: u32| groups.get(&group).and_then(|now| now.leader.clone());
        let now = leader(&sight.groups, pause.group);
        pause.was_down |= now.is_none() || now != pause.leader;
        let moved = sight.groups.iter().any(|(number, group)| {
            let before = settled.and_then(|settled| leader(settled, *number));
            *number != pause.group && group.leader.is_some() && group.leader != before
        });
        pause.others_wait = match moved {
            true => pause.others_wait.or(Some(sight.now)),
            false => None,
        };
    }

    /// The step is under way from now on.
    fn begin(&mut self, rule: &rules::Rule, step: &Step, sight: &Sight) {
        let look = self.looked_at + sight.loop_wait_ms;
        self.next_look = (rule.id == rules::AT_REST).then_some(look);
        let why = rule.why;
        match step {
            Step::Rest => return,
            Step::Interrupt => {
                self.is_interrupted = true;
                return;
            }
            Step::Decline { group } => {
                if self.requests.remove(group).is_some_and(|request| request.is_awaited) {
                    self.tell(format!("the writers of group {group} are not held: {why}"));
                }
                return;
            }
            Step::Round(_) => self.looked_at = sight.now,
            Step::Pause(hold) => {
                let leader = sight.groups.get(&hold.group).and_then(|now| now.leader.clone());
                self.pause = Some(Pause {
                    group: hold.group,
                    leader,
                    since: sight.now,
                    deadline: sight.now + hold.limit_ms,
                    was_down: false,
                    others_wait: None,
                });
            }
            Step::Resume { .. } | Step::FreeLock => {}
            Step::Release { group } => {
                self.counts.given_up += 1;
                self.tell(format!("the pause of group {group} is given up: {why}"));
            }
        }
        self.under_way = Some(step.clone());
    }
}
