//! Receipts: proofs that the leaders of the new side have replayed their tokens.
//!
//! Every group whose token is known is asked until its current leader proves it, for
//! as long as the move is in a phase that needs the proof.
//!
//! A standby that notices the end of its upstream before it has seen the last
//! record sleeps over it for up to `wal_retrieve_retry_interval` (5 s): every
//! reload wakes it.

use super::super::calls::Scene;
use super::super::effect::{Answer, Call};
use super::super::purpose::{MoverCall, Purpose};
use super::super::question::{is_receipt, tokens};
use super::super::{Site, Target};
use super::{Mover, RECEIPTS_MS};
use std::collections::BTreeMap;
use topology::region::{Journal, Phase, Token};
use topology::{Group, Millis, RegionName};

/// Questions without a receipt before the standby is woken, each time.
const ASKED_BEFORE_WAKING: u32 = 5;
/// Deadline of one question.
const REPLAYED_MS: u64 = 1_000;
/// Deadline of waking a standby: a connection and one statement.
const WAKE_MS: u64 = 20_000;

#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// The new owner.
    region: RegionName,
    groups: BTreeMap<Group, Asking>,
}

#[derive(Debug)]
struct Asking {
    token: Token,
    asked: u32,
    /// When to ask; `None`: a call is under way, or the receipt is there.
    at: Option<Millis>,
}

impl Receipts {
    /// Begins to ask every group of the new side whose token is known.
    pub(super) fn ask(&mut self, scene: &mut Scene, journal: &Journal, from: Option<&Site>) {
        let needed = matches!(journal.phase, Phase::Stop | Phase::CatchUp | Phase::Certify);
        if !needed || !scene.knows(&journal.to) {
            self.groups.clear();
            return;
        }
        self.region = journal.to.clone();
        for (group, token) in tokens(journal, from) {
            let known = self.groups.get(&group).is_some_and(|asking| asking.token == token);
            if !known {
                let asking = Asking { token, asked: 0, at: Some(scene.now()) };
                self.groups.insert(group, asking);
            }
        }
        self.poll(scene);
    }

    /// Asks the groups whose time has come.
    pub(super) fn poll(&mut self, scene: &mut Scene) {
        let now = scene.now();
        for (group, asking) in &mut self.groups {
            if asking.at.is_none_or(|at| now < at) {
                continue;
            }
            let site = scene.site(&self.region);
            let Some(target) = site.and_then(|site| site.leader(*group)) else {
                asking.at = Some(now + RECEIPTS_MS);
                continue;
            };
            asking.at = None;
            let call = MoverCall::Replayed(target.clone(), asking.token.clone());
            scene.call(REPLAYED_MS, Call::Replayed(target), Purpose::Mover(call));
        }
    }

    pub(super) fn next_at(&self) -> Option<Millis> {
        self.groups.values().filter_map(|asking| asking.at).min()
    }

    pub(super) fn ask_later(&mut self, group: Group, now: Millis) {
        if let Some(asking) = self.groups.get_mut(&group) {
            asking.at = Some(now + RECEIPTS_MS);
        }
    }

    /// The question for this token brought no receipt. True: wake the standby.
    fn missed(&mut self, group: Group, now: Millis) -> bool {
        let Some(asking) = self.groups.get_mut(&group) else { return false };
        asking.asked += 1;
        let wakes = asking.asked.is_multiple_of(ASKED_BEFORE_WAKING);
        asking.at = (!wakes).then_some(now + RECEIPTS_MS);
        wakes
    }

    fn is_asked(&self, group: Group, token: &Token) -> bool {
        self.groups.get(&group).is_some_and(|asking| asking.token == *token)
    }
}

impl Mover {
    /// True: the receipt is there.
    pub(super) fn replayed(
        &mut self,
        scene: &mut Scene,
        target: Target,
        token: Token,
        answer: &Answer,
    ) -> bool {
        let group = target.group;
        if !self.receipts.is_asked(group, &token) {
            return false;
        }
        if matches!(answer, Answer::Replayed(seen) if is_receipt(&token, seen)) {
            self.progress.caught.insert(group, token);
            return true;
        }
        if self.receipts.missed(group, scene.now()) {
            let purpose = Purpose::Mover(MoverCall::WakeReplay(group));
            scene.call(WAKE_MS, Call::WakeReplay(target), purpose);
        }
        false
    }
}
