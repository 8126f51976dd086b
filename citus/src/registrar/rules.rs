//! The rules of the coordinator's `pg_dist_node`, as rows. The first that matches decides.

use super::{
    Hold, MARGIN_MS, OTHERS_GO_ON_MS, OTHERS_OPEN_MS, RETRY_MS, ROUND_MS, Registrar, Request,
    Round, Sight, Step,
};
use crate::COORDINATOR_GROUP;
use std::collections::BTreeMap;
use topology::Millis;

pub struct Rule {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    pub when: fn(&Facts) -> bool,
    pub then: fn(&Facts) -> Step,
    /// The sentence an operator reads.
    pub why: &'static str,
}

/// What a row goes by.
pub struct Facts<'a> {
    pub registrar: &'a Registrar,
    pub sight: &'a Sight,
}

/// The last row: by time alone, only the next look is due.
pub(super) const AT_REST: u16 = 1699;

pub const REGISTRAR: &[Rule] = &[
    Rule {
        id: 1605,
        when: |f| f.sight.in_tail && !f.registrar.is_interrupted && f.is_round_in_the_way(),
        then: |_| Step::Interrupt,
        why: "the rows are in, and another group's row or writers wait for the end of the round: \
              what is left (a copy, in-doubt transactions of a node that does not answer) is done by \
              the next one",
    },
    Rule {
        id: 1610,
        when: |f| f.registrar.under_way.is_some(),
        then: |_| Step::Rest,
        why: "a step is under way: one at a time",
    },
    Rule {
        id: 1615,
        when: |f| f.sight.is_lock_left && f.registrar.pause.is_none(),
        then: |_| Step::FreeLock,
        why: "the store still has the lock of a pause that is over",
    },
    // A pause comes before everything else: while it is open its session has the table.
    Rule {
        id: 1620,
        when: |f| !f.sight.may_act && f.registrar.pause.is_some(),
        then: release,
        why: "this member is no open coordinator any more",
    },
    Rule {
        id: 1621,
        when: |f| !f.sight.may_act,
        then: |_| Step::Rest,
        why: "only the coordinator's open leader changes `pg_dist_node`",
    },
    Rule {
        id: 1630,
        when: |f| f.has_leader_again(),
        then: resume,
        why: "the held group has a leader: its row is changed and its writers go on",
    },
    Rule {
        id: 1631,
        when: |f| f.registrar.pause.as_ref().is_some_and(|p| f.sight.now >= p.deadline),
        then: release,
        why: "it reached its deadline without a new leader; statements on that group fail until \
              it has one",
    },
    Rule {
        id: 1632,
        when: |f| f.have_others_waited(),
        then: release,
        why: "another group has a new leader, whose row cannot be changed meanwhile",
    },
    Rule {
        id: 1633,
        when: |f| f.registrar.pause.is_some(),
        then: |_| Step::Rest,
        why: "a group's writers are held until it has a leader (1630), at most until the deadline \
              (1631)",
    },
    Rule {
        id: 1640,
        when: |f| f.sight.opening && !f.sight.whole,
        then: |_| Step::Rest,
        why: "the region opens: no row is changed before every group has a leader, because half \
              the rows would end the quarantine with the other half naming the old region",
    },
    // A request is not kept waiting for rows that cannot be changed.
    Rule {
        id: 1650,
        when: |f| f.has_just_failed() && f.oldest_request().is_some(),
        then: |f| Step::Decline { group: f.oldest_request().expect("just seen").0 },
        why: "`pg_dist_node` cannot be brought up to date now",
    },
    Rule {
        id: 1651,
        when: |f| f.has_just_failed(),
        then: |_| Step::Rest,
        why: "the last round did not reach its end: the next one begins after a second",
    },
    Rule {
        id: 1660,
        when: |f| f.sight.opening,
        then: round,
        why: "the region opens: its groups are entered and in-doubt transactions resolved",
    },
    Rule {
        id: 1661,
        when: |f| f.registrar.settled.as_ref() != Some(&f.sight.groups),
        then: round,
        why: "the groups have changed since the rows were last in line with them",
    },
    Rule {
        id: 1662,
        when: |f| f.must_resolve(),
        then: round,
        why: "a group's leader was away or changed: in-doubt transactions hold row locks until \
              every metadata node has resolved its own",
    },
    Rule {
        id: 1663,
        when: |f| f.is_undone_due(),
        then: round,
        why: "the last round left something undone (a copy is behind, a row is in the way, a node has \
              not resolved its in-doubt transactions): it is tried again after a second, then \
              each time after twice as long, at most once per `loop_wait`",
    },
    Rule {
        id: 1669,
        when: |f| f.late_request().is_some(),
        then: |f| Step::Decline { group: f.late_request().expect("just seen") },
        why: "news of a promotion that is over: the group has its leader, whose return would end a \
              pause",
    },
    Rule {
        id: 1670,
        when: |f| f.oldest_request().is_some(),
        then: pause,
        why: "a worker's leader is about to change: its writers are held meanwhile",
    },
    Rule {
        id: 1680,
        when: |f| f.sight.now.since(f.registrar.looked_at) >= f.sight.loop_wait_ms,
        then: round,
        why: "the rows are looked at every `loop_wait`: what another program changed is repaired",
    },
    Rule {
        id: AT_REST,
        when: |_| true,
        then: |_| Step::Rest,
        why: "the rows are as they should be",
    },
];

/// The row that decides.
pub fn first(facts: &Facts) -> &'static Rule {
    REGISTRAR.iter().find(|rule| (rule.when)(facts)).expect("the last row always matches")
}

impl Facts<'_> {
    fn has_leader_again(&self) -> bool {
        self.registrar.pause.as_ref().is_some_and(|pause| {
            let now = self.sight.groups.get(&pause.group);
            pause.was_down && now.is_some_and(|now| now.leader.is_some())
        })
    }

    fn have_others_waited(&self) -> bool {
        let waits = self.registrar.pause.as_ref().and_then(|pause| pause.others_wait);
        waits.is_some_and(|since| self.sight.now.since(since) >= super::OTHERS_MS)
    }

    /// A round whose groups have changed, or whose end a request waits for.
    fn is_round_in_the_way(&self) -> bool {
        let Some(Step::Round(round)) = &self.registrar.under_way else { return false };
        let moved = self.sight.groups.iter().any(|(number, now)| {
            let before = round.groups.get(number).and_then(|before| before.leader.as_ref());
            now.leader.is_some() && now.leader.as_ref() != before
        });
        !round.opening && (moved || self.oldest_request().is_some())
    }

    fn has_just_failed(&self) -> bool {
        self.registrar.failed_at.is_some_and(|at| self.sight.now.since(at) < RETRY_MS)
    }

    fn is_undone_due(&self) -> bool {
        self.registrar.undone.is_some_and(|undone| {
            let wait_ms = undone.wait_ms.min(self.sight.loop_wait_ms);
            self.sight.now.since(undone.at) >= wait_ms
        })
    }

    fn must_resolve(&self) -> bool {
        let led = |group: &u32| self.sight.groups.get(group).is_some_and(|g| g.leader.is_some());
        self.registrar.in_doubt.iter().any(led)
    }

    fn oldest_request(&self) -> Option<(u32, &Request)> {
        let all = self.registrar.requests.iter().map(|(group, request)| (*group, request));
        all.min_by_key(|(_, request)| request.at)
    }

    /// A group that was about to get a leader, and has it.
    fn late_request(&self) -> Option<u32> {
        let led = |group: &u32| self.sight.groups.get(group).is_some_and(|g| g.leader.is_some());
        let mut promoted = self.registrar.requests.iter().filter(|(_, r)| !r.is_awaited);
        promoted.find(|(group, _)| led(group)).map(|(group, _)| *group)
    }

    fn gone_ms(&self) -> BTreeMap<u32, u64> {
        let since = |at: &Millis| self.sight.now.since(*at);
        self.registrar.gone.iter().map(|(group, at)| (*group, since(at))).collect()
    }

    fn cooldown_ms(&self, asked: Option<u64>) -> i32 {
        i32::try_from(asked.unwrap_or(self.sight.retry_timeout_ms)).unwrap_or(i32::MAX)
    }
}

fn round(facts: &Facts) -> Step {
    Step::Round(Round {
        groups: facts.sight.groups.clone(),
        opening: facts.sight.opening,
        resolve: facts.sight.opening
            || facts.must_resolve()
            || !facts.registrar.unresolved.is_empty(),
        compares: facts.sight.has_copies && !facts.sight.opening,
        gone_ms: facts.gone_ms(),
        cooldown_ms: facts.cooldown_ms(None),
        limit_ms: ROUND_MS,
    })
}

fn pause(facts: &Facts) -> Step {
    let (group, request) = facts.oldest_request().expect("the row has seen one");
    let elsewhere: BTreeMap<_, _> = facts
        .sight
        .groups
        .iter()
        .filter(|(number, _)| **number != group && **number != COORDINATOR_GROUP)
        .filter_map(|(number, now)| Some((*number, now.leader.clone()?)))
        .collect();
    let cooldown_ms = facts.cooldown_ms(request.cooldown_ms);
    Step::Pause(Hold {
        group,
        elsewhere,
        cooldown_ms,
        limit_ms: request.timeout_ms,
        locks_ms: u64::from(cooldown_ms.unsigned_abs()) + MARGIN_MS,
        others_open_ms: OTHERS_OPEN_MS,
        others_go_on_ms: OTHERS_GO_ON_MS,
    })
}

fn resume(facts: &Facts) -> Step {
    let group = facts.registrar.pause.as_ref().expect("the row has seen one").group;
    Step::Resume { group, groups: facts.sight.groups.clone() }
}

fn release(facts: &Facts) -> Step {
    let group = facts.registrar.pause.as_ref().expect("the row has seen one").group;
    Step::Release { group }
}
