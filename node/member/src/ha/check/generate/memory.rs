//! What a daemon remembers, also what it would hardly remember together.

use super::{Generator, NOW};
use crate::ha::failsafe::{Failsafe, Promise};
use crate::ha::observation::{Asked, Bootstrapping, Detour, Divergence, Failed, Fit, Gate, Memory};
use topology::{Lsn, MemberName, Millis, Timeline};

impl Generator {
    fn gate(&mut self) -> Gate {
        let at = self.past();
        self.pick(&[Gate::Untried, Gate::Passed, Gate::Failed(at)])
    }

    pub(super) fn failsafe(&mut self) -> Failsafe {
        let left = self.pick(&[0, 2_000, 9_000, 18_000, 29_000]);
        Failsafe {
            proof: self.percent(20).then_some(Millis(NOW + left)),
            asked: self.past(),
            is_ready: self.percent(70),
            promise: self.percent(3).then(|| Promise { to: "a".into(), ..Promise::default() }),
            is_released: false,
        }
    }

    pub(super) fn memory(&mut self) -> Memory {
        let fresh = self.percent(70);
        let bootstraps = [
            Bootstrapping::Claimed,
            Bootstrapping::Claimed,
            Bootstrapping::Built,
            Bootstrapping::Failed,
            Bootstrapping::GivenUp,
        ];
        let unsettled = self.percent(12);
        Memory {
            names: self.pick(&[None, Some(""), Some("a")]).map(str::to_string),
            confirmed: self.confirmed(),
            names_failed: self.maybe_past(5),
            is_sync_unsure: self.percent(5),
            stopping: self.percent(10),
            stopping_since: self.maybe_past(50),
            pointed_to: self.pick(&[None, Some("a"), Some("b")]).map(super::following),
            bootstrap: match unsettled {
                true => self.pick(&bootstraps),
                false => Bootstrapping::No,
            },
            claim: None,
            claimed_elsewhere: self.maybe_past(20),
            entry_refused: self.maybe_past(30),
            handover: self.maybe_past(25),
            received: Default::default(),
            receivers_ended: self.maybe_past(30),
            logical_ended: self.maybe_past(30),
            request_seen: self.maybe_past(90).map(|since| (since, self.lsn())),
            won_in_pause: self.percent(30),
            promoting: self.maybe_past(15),
            majority_leader: None,
            promised_until: Millis(0),
            promises_asked: self.maybe_past(10),
            unpromised_why: None,
            is_tenure_cleared: self.percent(50),
            uncleared_since: self.maybe_past(10),
            untokened_since: self.maybe_past(30),
            promotion_failed: self.maybe_past(10),
            divergence: self.divergence(),
            compared_with: self
                .pick(&[None, Some("a"), Some("a"), Some("b"), Some("remote")])
                .map(MemberName::from),
            compared_timeline: None,
            compared_at: self.past(),
            fit: self.fit(),
            line: None,
            pinned: None,
            uncompared_since: self.maybe_past(60),
            uncompared_why: self.percent(30).then(|| "it does not answer".into()),
            upstream_trouble: self.percent(30).then(|| "it has no such slot".into()),
            lease_renewed: if fresh { Millis(NOW) } else { self.past() },
            lease_tried: if fresh { Millis(NOW) } else { self.past() },
            lease_misses: self.pick(&[0, 0, 1, 2, 20]),
            is_lock_unanswered: self.pick(&[false, false, false, true]),
            could_not_read: self.pick(&[false, false, true]),
            lease_refused: self.percent(5),
            asked: self.pick(&[
                None,
                None,
                None,
                None,
                None,
                None,
                Some(Asked::Restart),
                Some(Asked::Reinitialize),
                Some(Asked::ReinitializeFromLeader),
            ]),
            asked_since: None,
            dropped: None,
            leaving_duty: self.maybe_past(30),
            slots_to_copy: self.percent(20).then(|| "reader".into()),
            are_copies_refused: self.percent(30),
            slots_unseen_since: self.percent(5).then_some(Millis(NOW - 100)),
            start_limit_ms: self.pick(&[None, None, Some(5_000)]),
            gate: self.gate(),
            failed: self.failed(),
            started: self.past(),
            signed: self.percent(30).then(|| "move".into()),
            quiet_since: self.maybe_past(60),
            detour: if self.percent(30) { Detour::taken("b") } else { Detour::default() },
            damaged_since: self.maybe_past(50),
            leaderless_since: self.maybe_past(60),
            stopped_since: None,
            former_leader: self.pick(&[None, Some("a"), Some("b")]).map(MemberName::from),
            forgotten_at: self.maybe_past(20),
            knew_system: self.percent(50),
            has_begun: self.percent(50),
            grown_to: Lsn(1_000),
            grew_at: self.past(),
            rebuilt_in_pause: self.percent(10),
        }
    }

    fn divergence(&mut self) -> Divergence {
        match self.next() % 11 {
            0..=3 => Divergence::Unchecked,
            4..=6 => Divergence::Prefix,
            7 => Divergence::Alien("timeline 2 is another one here".into()),
            8 => Divergence::Unreadable("pg_waldump failed".into()),
            _ => Divergence::Diverged("timeline 1 was left at 0/100".into()),
        }
    }

    fn fit(&mut self) -> Fit {
        let timeline = Timeline(self.pick(&[1, 2, 3]));
        match self.next() % 4 {
            0 => Fit::Unknown,
            1 => Fit::Stale,
            2 => Fit::Known { leader: "b".into(), timeline },
            _ => Fit::Known { leader: "a".into(), timeline },
        }
    }

    fn failed(&mut self) -> Option<Failed> {
        self.percent(35).then(|| Failed {
            job: self.a_job(),
            at: self.past(),
            times: self.pick(&[1, 2, 3, 7]),
            why: "it ended with 1".into(),
        })
    }
}
