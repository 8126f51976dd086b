//! The region's agent: a machine without I/O.
//!
//! Every daemon of a region runs one. The leader of a group tries to become the
//! agent (`campaign`); the agent keeps votes and certificates in order, publishes
//! what it sees of the other regions (`votes`), begins moves that were scheduled
//! (`scheduler`), and drives planned moves (`mover`).
//! `node::region` performs its effects on real stores and servers, the simulator on
//! models of them.
//!
//! Invariants:
//! - an agent acts on copies that were read after it was elected, and each of
//!   its writes carries the versions it was decided on;
//! - the order of writes is the machine's: it waits for the answer of one step of
//!   its turn before the next, while the mover goes on beside it;
//! - each sight shows what the answers before it have brought.
//!
//! The daemon's disk knows the highest epoch that its store has shown (`Sight::memory`). On a store
//! that holds an earlier one neither mover nor scheduler acts, and no vote is made of it.

use super::calls::{Calls, STORE_CALL_MS, Scene};
use super::campaign::{Campaign, campaign, facts_of, stored_key};
use super::effect::{AgentKey, Answer, Call, CallId, Claim, Effect, Identity, Severity, Sight};
use super::mover::Mover;
use super::purpose::Purpose;
use super::register::MarkMemory;
use super::scheduler::Scheduler;
use super::votes::Votes;
use topology::Millis;

/// While the copies of the stores are being made.
const SOON_MS: u64 = 20;
const YOUNG_MS: u64 = 1_000;
/// A mark counts as alive for this long after it was seen: the least ttl that a
/// lease may have.
const MARK_TTL_MS: u64 = 20_000;

/// How long agent and mover sleep at most. Only the passing of time goes unnoticed
/// meanwhile; every change wakes them.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub agent_ms: u64,
    pub mover_ms: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { agent_ms: 1_000, mover_ms: 250 }
    }
}

#[derive(Debug)]
pub struct Agent {
    identity: Identity,
    pace: Pace,
    calls: Calls,
    marks: MarkMemory,
    /// Since when the region has no agent.
    vacant: Option<Millis>,
    /// A write of the agent's key is under way.
    is_campaigning: bool,
    session: Option<AgentSession>,
    /// When the next turn is due, and the changes that the last one knew.
    turn_at: Millis,
    changes: Option<u64>,
}

/// What an agent has while it is one.
#[derive(Debug)]
struct AgentSession {
    key: AgentKey,
    opened: Millis,
    votes: Votes,
    mover: Mover,
    scheduler: Scheduler,
    /// The own store shows less than this host has seen of it: mover and scheduler rest.
    is_behind: bool,
}

impl Agent {
    pub fn new(identity: Identity, pace: Pace) -> Agent {
        Agent {
            identity,
            pace,
            calls: Calls::default(),
            marks: MarkMemory::default(),
            vacant: None,
            is_campaigning: false,
            session: None,
            turn_at: Millis(0),
            changes: None,
        }
    }

    /// This daemon speaks for its region.
    pub fn speaks(&self) -> bool {
        self.session.is_some()
    }

    /// Something changed, or the time asked for has come.
    pub fn wake(&mut self, sight: &Sight) -> Vec<Effect> {
        let mut out = Vec::new();
        for id in self.calls.overdue(sight.now) {
            out.push(Effect::End(id));
            let late = Answer::Failed("no answer within the deadline".to_string());
            self.fold(sight, id, late, &mut out);
        }
        // Before the turn, which may open a session to which these copies do not belong.
        self.move_on(sight, &mut out);
        if !self.is_busy() && (sight.now >= self.turn_at || self.changes != Some(sight.changes)) {
            self.begin_turn(sight, &mut out);
        }
        out
    }

    /// A call came to its end. The answer to a call that was given up is ignored.
    pub fn answer(&mut self, sight: &Sight, id: CallId, answer: Answer) -> Vec<Effect> {
        let mut out = Vec::new();
        self.fold(sight, id, answer, &mut out);
        out
    }

    /// When to wake the machine at the latest.
    pub fn wake_at(&self) -> Millis {
        let turn = (!self.is_busy()).then_some(self.turn_at);
        let session = self.session.as_ref().filter(|session| !session.is_behind);
        let mover = session.and_then(|session| session.mover.wake_at());
        let times = [turn, mover, self.calls.next_deadline()];
        times.into_iter().flatten().min().unwrap_or(self.turn_at)
    }

    /// A turn waits for a call.
    fn is_busy(&self) -> bool {
        self.is_campaigning || self.session.as_ref().is_some_and(|s| s.votes.is_busy())
    }

    fn begin_turn(&mut self, sight: &Sight, out: &mut Vec<Effect>) {
        self.changes = Some(sight.changes);
        let Some(local) = &sight.local else {
            return self.hold(None, sight, out);
        };
        self.marks.look(&local.site.topology, local.version, sight.now, MARK_TTL_MS);
        let mut facts = facts_of(&local.site, &self.identity.name, sight.session, sight.holds_lock);
        facts.is_preferred = self.identity.is_preferred;
        if facts.may_speak && !facts.is_mine {
            self.vacant = facts.is_vacant.then(|| self.vacant.unwrap_or(sight.now));
            facts.vacant_ms = self.vacant.map_or(0, |since| sight.now.since(since));
        }
        let own_key =
            sight.session.map(|session| AgentKey { name: self.identity.name.clone(), session });
        match (campaign(&facts), own_key, stored_key(&local.site)) {
            (Campaign::Speak, Some(key), _) => self.hold(Some(key), sight, out),
            (Campaign::Elect, Some(key), _) => self.claim(Claim::Elect, key, sight, out),
            (Campaign::Resign, _, Some(key)) => self.claim(Claim::Resign, key, sight, out),
            _ => self.hold(None, sight, out),
        }
    }

    /// Writes or deletes the agent's key; the turn goes on with the answer.
    fn claim(&mut self, claim: Claim, key: AgentKey, sight: &Sight, out: &mut Vec<Effect>) {
        let Some(local) = &sight.local else { return };
        self.is_campaigning = true;
        let purpose = match claim {
            Claim::Elect => Purpose::Elect(key.clone()),
            Claim::Resign => Purpose::Resign,
        };
        let call = Call::Campaign { on: local.site.clone(), key: key.clone(), claim };
        let (identity, calls) = (&self.identity, &mut self.calls);
        Scene { identity, key: &key, sight, calls, out }.call(STORE_CALL_MS, call, purpose);
    }

    /// What the campaign came to: the key of this agent, or none.
    fn hold(&mut self, key: Option<AgentKey>, sight: &Sight, out: &mut Vec<Effect>) {
        let Some(key) = key else {
            self.close(out);
            return self.end_turn(sight, out);
        };
        let mark = self.marks.alive(sight.now, MARK_TTL_MS);
        match self.with(sight, out, &key) {
            Some((session, mut scene)) => {
                session.votes.begin(&mut scene, mark);
                self.end_turn(sight, out);
            }
            None => self.open(key, sight, out),
        }
    }

    /// The session of that key, if it is open, with what a step works with.
    fn with<'a>(
        &'a mut self,
        sight: &'a Sight,
        out: &'a mut Vec<Effect>,
        key: &'a AgentKey,
    ) -> Option<(&'a mut AgentSession, Scene<'a>)> {
        let (identity, calls) = (&self.identity, &mut self.calls);
        let session = self.session.as_mut().filter(|session| session.key == *key)?;
        Some((session, Scene { identity, key, sight, calls, out }))
    }

    /// The copies begin with a read that comes after the election: those of this
    /// sight are older, and the turn ends without a look at them.
    fn open(&mut self, key: AgentKey, sight: &Sight, out: &mut Vec<Effect>) {
        self.close(out);
        let text = format!("{} is the agent of region {}", key.name, self.identity.region);
        out.push(Effect::Log(Severity::Info, text));
        out.push(Effect::OpenCopies);
        self.session = Some(AgentSession {
            key,
            opened: sight.now,
            votes: Votes::default(),
            mover: Mover::new(self.pace.mover_ms, sight.now),
            scheduler: Scheduler::default(),
            is_behind: false,
        });
        self.turn_at = sight.now + SOON_MS;
    }

    fn close(&mut self, out: &mut Vec<Effect>) {
        if self.session.take().is_some() {
            self.calls.give_up(|purpose| !matches!(purpose, Purpose::Elect(_) | Purpose::Resign));
            out.push(Effect::CloseCopies);
        }
    }

    fn end_turn(&mut self, sight: &Sight, out: &mut Vec<Effect>) {
        if self.is_busy() {
            return;
        }
        let is_waiting = match &self.session {
            Some(session) => self.is_young(session, sight),
            None => sight.local.is_none(),
        };
        self.turn_at = sight.now + if is_waiting { SOON_MS } else { self.pace.agent_ms };
        if self.changes != Some(sight.changes) {
            self.begin_turn(sight, out);
        }
    }

    /// Copies come alive without a change that would tell of it.
    fn is_young(&self, session: &AgentSession, sight: &Sight) -> bool {
        let own = sight.copies.get(&self.identity.region);
        own.is_none_or(|copy| !copy.is_live) || sight.now.since(session.opened) < YOUNG_MS
    }

    fn fold(&mut self, sight: &Sight, id: CallId, answer: Answer, out: &mut Vec<Effect>) {
        match self.calls.end(id) {
            None => {}
            Some(Purpose::Elect(key)) => {
                let elected = answer == Answer::Written;
                self.campaigned(elected.then_some(key), &answer, sight, out);
            }
            Some(Purpose::Resign) => self.campaigned(None, &answer, sight, out),
            Some(purpose) => self.fold_in_session(sight, purpose, answer, out),
        }
    }

    fn campaigned(
        &mut self,
        key: Option<AgentKey>,
        answer: &Answer,
        sight: &Sight,
        out: &mut Vec<Effect>,
    ) {
        self.is_campaigning = false;
        if let Answer::Failed(why) = answer {
            let text = format!("the agent's key could not be written: {why}");
            out.push(Effect::Log(Severity::Warn, text));
        }
        self.hold(key, sight, out);
    }

    fn fold_in_session(
        &mut self,
        sight: &Sight,
        purpose: Purpose,
        answer: Answer,
        out: &mut Vec<Effect>,
    ) {
        let Some(key) = self.session.as_ref().map(|session| session.key.clone()) else { return };
        let Some((session, mut scene)) = self.with(sight, out, &key) else { return };
        match purpose {
            Purpose::Votes(call) => {
                session.votes.answer(&mut scene, call, answer);
                self.end_turn(sight, out);
            }
            Purpose::Mover(call) => session.mover.answer(&mut scene, call, answer),
            Purpose::Schedule(call) => session.scheduler.answer(&mut scene, call, answer),
            Purpose::Forward => {
                scene.log_failure("a certificate could not be passed on", &answer);
            }
            Purpose::Elect(_) | Purpose::Resign => {}
        }
    }

    /// The turns of mover and scheduler come with every wake-up, and do not wait for the
    /// votes.
    fn move_on(&mut self, sight: &Sight, out: &mut Vec<Effect>) {
        let Some(key) = self.session.as_ref().map(|session| session.key.clone()) else { return };
        let Some((session, mut scene)) = self.with(sight, out, &key) else { return };
        session.is_behind = went_back(&scene);
        if !session.is_behind {
            session.mover.wake(&mut scene);
            session.scheduler.wake(&mut scene);
        }
    }
}

/// The own store shows less than this host has seen of it.
fn went_back(scene: &Scene) -> bool {
    let memory = scene.sight.memory.as_ref().map_or(0, |memory| memory.epoch());
    scene.own().is_some_and(|own| own.topology.accepted_epoch() < memory)
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
