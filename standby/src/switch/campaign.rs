//! Which daemon speaks for its region: numbered rows, first match wins.
//!
//! The leader of a group tries to become the agent; the coordinator's (or the plain
//! group's) leader first, as it is the one whose loss the others notice anyway.

use super::Site;
use super::effect::AgentKey;
use topology::{Group, Session};

/// Leaders of other groups wait this long for the preferred one to become the agent.
pub const YIELD_MS: u64 = 2_000;

/// What a daemon knows when it asks for the agent's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CampaignFacts {
    /// The own store's copy follows the store.
    pub is_store_seen: bool,
    /// The daemon has a lease, and its member leads its group or no member does.
    pub may_speak: bool,
    /// The agent's key names this daemon.
    pub is_mine: bool,
    /// It hangs on this daemon's present lease.
    pub is_on_lease: bool,
    /// There is no agent's key.
    pub is_vacant: bool,
    pub is_preferred: bool,
    /// How long this leader has seen no agent.
    pub vacant_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Campaign {
    /// This daemon is not the agent, and writes nothing.
    Follow,
    Resign,
    /// Write the agent's key.
    Elect,
    /// This daemon is the agent.
    Speak,
}

pub struct Row {
    /// Shown in bug reports; never reused.
    pub id: u16,
    pub when: fn(&CampaignFacts) -> bool,
    pub then: Campaign,
    pub why: &'static str,
}

/// Which daemon speaks for its region. First match wins.
pub const CAMPAIGN: &[Row] = &[
    Row {
        id: 1010,
        when: |f| !f.is_store_seen,
        then: Campaign::Follow,
        why: "this daemon's copy of its region's store is not up to date",
    },
    Row {
        id: 1020,
        when: |f| !f.may_speak && f.is_mine,
        then: Campaign::Resign,
        why: "the member does not lead its group any more",
    },
    Row {
        id: 1030,
        when: |f| !f.may_speak,
        then: Campaign::Follow,
        why: "only the leader of a group speaks for the region",
    },
    Row {
        id: 1040,
        when: |f| f.is_mine && f.is_on_lease,
        then: Campaign::Speak,
        why: "the agent's key is this daemon's",
    },
    Row {
        id: 1050,
        when: |f| f.is_mine,
        then: Campaign::Elect,
        why: "the agent's key hangs on an earlier lease of this daemon",
    },
    Row {
        id: 1060,
        when: |f| !f.is_vacant,
        then: Campaign::Follow,
        why: "another daemon is the agent",
    },
    Row {
        id: 1070,
        when: |f| f.is_preferred || f.vacant_ms >= YIELD_MS,
        then: Campaign::Elect,
        why: "the region has no agent",
    },
    Row {
        id: 1099,
        when: |_| true,
        then: Campaign::Follow,
        why: "the coordinator's leader becomes the agent first",
    },
];

/// The leader of the plain group or of the coordinator's becomes the agent where it can.
pub fn is_preferred(group: Group) -> bool {
    matches!(group, Group::PLAIN | Group::COORDINATOR)
}

/// What the daemon does about the agent's key.
pub fn campaign(facts: &CampaignFacts) -> Campaign {
    let row = CAMPAIGN.iter().find(|row| (row.when)(facts));
    row.expect("the last row always matches").then
}

/// What the copy of the own store says about the agent's key.
pub fn facts_of(
    site: &Site,
    name: &str,
    session: Option<Session>,
    holds_lock: bool,
) -> CampaignFacts {
    let agent = site.topology.agent.as_ref();
    let mine = agent.filter(|agent| agent.value == name);
    CampaignFacts {
        is_store_seen: true,
        may_speak: holds_lock && session.is_some(),
        is_mine: mine.is_some(),
        is_on_lease: mine.is_some_and(|agent| agent.is_on(session)),
        is_vacant: agent.is_none(),
        ..CampaignFacts::default()
    }
}

/// The key to give up: the one that the store shows.
pub fn stored_key(site: &Site) -> Option<AgentKey> {
    let agent = site.topology.agent.as_ref()?;
    // Giving it up compares the name alone: the key may hang on no lease.
    let session = agent.session.unwrap_or_default();
    Some(AgentKey { name: agent.value.clone(), session })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// All facts, with every row's boundary in time.
    fn all() -> impl Iterator<Item = CampaignFacts> {
        (0u32..64).flat_map(|bits| {
            [0, YIELD_MS - 1, YIELD_MS].map(|vacant_ms| {
                let bit = |at: u32| bits & (1 << at) != 0;
                CampaignFacts {
                    is_store_seen: bit(0),
                    may_speak: bit(1),
                    is_mine: bit(2),
                    is_on_lease: bit(3),
                    is_vacant: bit(4),
                    is_preferred: bit(5),
                    vacant_ms,
                }
            })
        })
    }

    #[test]
    fn ids_rise_and_every_row_fires() {
        assert!(CAMPAIGN.windows(2).all(|two| two[0].id < two[1].id));
        let fired: BTreeSet<u16> = all()
            .filter_map(|facts| CAMPAIGN.iter().find(|row| (row.when)(&facts)))
            .map(|row| row.id)
            .collect();
        assert_eq!(fired, CAMPAIGN.iter().map(|row| row.id).collect());
    }

    #[test]
    fn only_a_leader_that_sees_its_store_writes_the_key() {
        for facts in all().filter(|f| !f.is_store_seen || !f.may_speak) {
            assert!(!matches!(campaign(&facts), Campaign::Elect | Campaign::Speak), "{facts:?}");
        }
    }

    #[test]
    fn another_agent_is_never_pushed_out() {
        for facts in all().filter(|f| !f.is_mine && !f.is_vacant) {
            assert_eq!(campaign(&facts), Campaign::Follow, "{facts:?}");
        }
    }
}
