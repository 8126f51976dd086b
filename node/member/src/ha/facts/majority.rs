//! Failsafe mode by a majority: may another leader still rely on promises of members that
//! do not know of this one?
//!
//! A leader that `/status` names as `failsafe_majority` leads on without its store while a
//! majority of `/failsafe` promises. So a member that would lead after it needs the promise
//! of enough members of that map that one of them is in every majority; a member promises
//! to one leader at a time.
//!
//! Invariant: such a promise and the lock are in force at one moment before anything opens
//! here. Which members are asked is in `failsafe.rs` of the machine.

use super::Facts;
use standby::promotion::NotYet;
use topology::MemberName;

/// Between two questions of a candidate.
const ASK_AGAIN_MS: u64 = 1_000;

impl<'a> Facts<'a> {
    /// The leader that promises of a majority may keep, if it is another member. An
    /// operator's failover to a named member counts for more once the mode is off.
    pub fn other_majority_leader(&self) -> Option<&'a MemberName> {
        let leader = match &self.view()?.status {
            Some(status) => status.value.failsafe_majority.as_ref()?,
            // A store that was emptied: what it said before counts.
            None => self.o.memory.majority_leader.as_ref()?,
        };
        let is_other = *leader != self.o.me.name && !self.is_named_without_failsafe();
        is_other.then_some(leader)
    }

    /// No other leader can rely on a majority's promises from now on, as far as the
    /// lock is this member's or is taken now.
    pub fn is_cleared(&self) -> bool {
        let memory = &self.o.memory;
        let is_unclaimed = self.view().is_some() && self.other_majority_leader().is_none();
        is_unclaimed
            || self.o.holds_lock() && memory.is_tenure_cleared
            || self.o.now < memory.promised_until
    }

    pub(super) fn cleared(&self) -> Result<(), NotYet> {
        match self.other_majority_leader() {
            Some(leader) if !self.is_cleared() => Err(NotYet::Unpromised {
                leader: leader.clone(),
                why: self.o.memory.unpromised_why.clone().unwrap_or_default(),
            }),
            None if !self.is_cleared() => Err(NotYet::StoreSilent),
            _ => Ok(()),
        }
    }

    /// Nothing but the promises is missing, and they may be asked for now.
    pub fn must_ask_promises(&self) -> bool {
        let asks = !self.is_cleared() && self.is_question_due();
        asks && (self.race_but_for_promises().is_ok() || self.is_heir_but_for_promises())
    }

    fn is_question_due(&self) -> bool {
        let asked = self.o.memory.promises_asked;
        asked.is_none_or(|asked| self.o.now.since(asked) >= ASK_AGAIN_MS)
    }

    /// Holds the lock and has no promises: the answer to taking it came late, or this
    /// process is new.
    pub fn is_uncleared_leader(&self) -> bool {
        let idle = self.o.job.is_none() && !self.o.may_write();
        let is_kept = self.other_majority_leader().is_some() && !self.is_cleared();
        idle && self.o.holds_lock() && self.may_own() && is_kept
    }

    pub fn must_ask_promises_as_leader(&self) -> bool {
        self.is_uncleared_leader() && self.is_question_due()
    }

    /// The promises do not come: another member may get them.
    pub fn are_promises_overdue(&self) -> bool {
        let since = self.o.memory.uncleared_since;
        let waited = since.map_or(0, |since| self.o.now.since(since));
        self.is_uncleared_leader() && waited >= self.o.dynamic.retry_timeout_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::observation::{Lock, Observation};
    use crate::ha::{Action, Step, decide, sample};
    use crate::made_up::TakeSample;
    use topology::{Millis, Seen};

    fn see(o: &mut Observation, key: &str, value: &str) {
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.take_sample(key, value, 9, 0);
    }

    /// The lock of `a` is over, which promises of a majority may keep.
    fn candidate() -> Observation {
        let mut o = sample::follower();
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.leader = None;
        o.lock = Lock::Free;
        o.peers = Some(vec![sample::answer("a", 1_000)]);
        see(&mut o, "status", r#"{"optime":1000,"failsafe_majority":"a"}"#);
        o
    }

    fn rule(o: &Observation) -> u16 {
        decide(o).rule
    }

    #[test]
    fn rules_852_and_851_a_candidate_takes_the_lock_with_promises() {
        let mut o = candidate();
        assert_eq!((rule(&o), decide(&o).step), (852, Step::Do(Action::AskPromises)));
        o.memory.promises_asked = Some(o.now);
        o.memory.unpromised_why = Some(": b does not agree".into());
        let waits = decide(&o);
        assert_eq!(waits.rule, 899);
        assert!(waits.line().ends_with("that they do not support a: b does not agree"));
        o.memory.promised_until = o.now + 1;
        assert_eq!(rule(&o), 851);
        o.memory.promised_until = o.now;
        assert_eq!(rule(&o), 899, "they are over");
        o.now = o.now + ASK_AGAIN_MS;
        assert_eq!(rule(&o), 852);
        // No leader counts on a majority, or this member is that leader.
        for status in [r#"{"optime":1000}"#, r#"{"optime":1000,"failsafe_majority":"me"}"#] {
            see(&mut o, "status", status);
            assert_eq!(rule(&o), 851, "{status}");
        }
    }

    #[test]
    fn an_emptied_store_and_an_operator_s_word() {
        let mut o = candidate();
        let Seen::Known(view) = &mut o.store else { panic!("the store is known here") };
        view.status = None;
        assert_eq!(rule(&o), 851);
        o.memory.majority_leader = Some("a".into());
        assert_eq!(rule(&o), 852, "it said so before");
        see(&mut o, "failover", r#"{"member":"me"}"#);
        assert_eq!(rule(&o), 848, "by name, and the mode is off");
        o.dynamic.failsafe_mode = true;
        assert_eq!(rule(&o), 852, "by name, and the mode is on");
    }

    #[test]
    fn rules_52_and_53_a_holder_of_the_lock_opens_with_promises() {
        let mut o = candidate();
        o.lock = Lock::Mine { renewed: o.now, deadline: o.now + 30_000 };
        assert_eq!((rule(&o), decide(&o).step), (52, Step::Do(Action::AskPromises)));
        o.memory.promises_asked = Some(o.now);
        assert_eq!(rule(&o), 732, "it does not open");
        o.memory.uncleared_since = Some(o.now);
        o.memory.update_from(&o.clone());
        assert!(!o.memory.is_tenure_cleared);
        o.now = o.now + o.dynamic.retry_timeout_ms;
        (o.memory.promises_asked, o.memory.lease_renewed) = (Some(o.now), o.now);
        assert_eq!(rule(&o), 53);
        o.memory.promised_until = o.now + 1;
        o.memory.update_from(&o.clone());
        assert!(o.memory.is_tenure_cleared, "the lock and the promises were there at one moment");
        o.memory.promised_until = Millis(0);
        assert_eq!(rule(&o), 731);
        o.lock = Lock::Free;
        o.memory.update_from(&o.clone());
        assert!(!o.memory.is_tenure_cleared);
    }
}
