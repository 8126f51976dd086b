//! The keys below `topology/` of one region's store, read.
//!
//! Reading never fails: a value that makes no sense is remembered in
//! `unreadable` under its key, so that a rule can refuse to build on it. An
//! unreadable key is never taken for an absent one.

use std::collections::BTreeMap;
use topology::acceptor::Acceptor;
use topology::region::{Certificate, Journal, PeerRegion, Phase, Policy, Register, Token};
pub use topology::region::{PastMove, Rewired, SignedToken, Verified};
use topology::schedule::Schedule;
use topology::{Group, RegionName, Session, Version, Versioned};

/// Past moves that `history` keeps.
pub const HISTORY_MAX: usize = 50;

/// The old lines and the new one, without a duplicate and bounded.
pub fn with_move(history: &[PastMove], journal: &Journal) -> Vec<PastMove> {
    let mut lines: Vec<_> = history.iter().filter(|l| l.id != journal.id).cloned().collect();
    lines.push(PastMove::of(journal));
    let surplus = lines.len().saturating_sub(HISTORY_MAX);
    lines.split_off(surplus)
}

/// Is `new` later than the copy of a journal that another store holds?
pub fn may_replace(old: Option<&Journal>, new: &Journal) -> bool {
    let Some(old) = old else { return true };
    if old.id == new.id {
        // Aborted is the last of all phases, but a decided move is never aborted.
        let turns_back = old.phase.is_decided() && new.phase == Phase::Aborted;
        return new.phase > old.phase && !old.phase.is_over() && !turns_back;
    }
    new.order() > old.order()
}

/// May the journal that brings a certificate stand in the place of `old`? Without it the
/// quarantine of the move would have no end, so its order does not count: the move is
/// decided, and any other one of its epoch is not.
pub fn comes_with(certificate: &Certificate, old: Option<&Journal>, new: &Journal) -> bool {
    let decides = new.phase.is_decided() && new.epoch + 1 == certificate.epoch;
    let is_other = old.is_none_or(|old| old.id != new.id && old.epoch <= new.epoch);
    decides && is_other || may_replace(old, new)
}

/// One region's `topology/` keys, at one moment of its store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalTopology {
    pub policy: Option<Versioned<Policy>>,
    pub register: Option<Versioned<Register>>,
    /// Written beside `register`, which decides.
    pub acceptor: Option<Versioned<Acceptor>>,
    pub certificate: Option<Versioned<Certificate>>,
    pub verified: Option<Versioned<Verified>>,
    pub switch: Option<Versioned<Journal>>,
    pub tokens: BTreeMap<Group, SignedToken>,
    pub rewired: Option<Rewired>,
    /// `region/member` of the daemon that speaks for the region.
    pub agent: Option<Versioned<String>>,
    pub peers: BTreeMap<RegionName, PeerRegion>,
    pub history: Option<Versioned<Vec<PastMove>>>,
    /// By their ids.
    pub schedules: BTreeMap<String, Schedule>,
    /// Keys whose value made no sense, with the reason.
    pub unreadable: BTreeMap<String, String>,
    /// The version of every key that was taken, readable or not.
    pub versions: BTreeMap<String, Version>,
}

impl LocalTopology {
    /// Reads pairs of key and value; keys are named relative to `topology/`.
    /// What is read so may be looked at, but not written against.
    pub fn read<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> LocalTopology {
        let mut local = LocalTopology::default();
        for (key, value) in pairs {
            local.take(key, value, Version::default(), None);
        }
        local
    }

    /// Takes one key, named relative to `topology/`. Unknown keys are passed over.
    pub fn take(&mut self, key: &str, value: &str, version: Version, session: Option<Session>) {
        self.versions.insert(key.to_string(), version);
        if let Err(why) = self.parse(key, value, version, session) {
            self.unreadable.insert(key.to_string(), why);
        }
    }

    fn parse(
        &mut self,
        key: &str,
        value: &str,
        version: Version,
        session: Option<Session>,
    ) -> Result<(), String> {
        match key {
            "policy" => self.policy = Some(versioned(value, version, session)?),
            "register" => self.register = Some(versioned(value, version, session)?),
            "acceptor" => self.acceptor = Some(versioned(value, version, session)?),
            "certificate" => self.certificate = Some(versioned(value, version, session)?),
            "verified" => self.verified = Some(versioned(value, version, session)?),
            "switch" => self.switch = Some(versioned(value, version, session)?),
            "switch/rewired" => self.rewired = Some(plain(value)?),
            "agent" => {
                self.agent = Some(Versioned { value: value.to_string(), version, session });
            }
            "history" => self.history = Some(versioned(value, version, session)?),
            other => self.parse_one_of_many(other, value)?,
        }
        Ok(())
    }

    fn parse_one_of_many(&mut self, key: &str, value: &str) -> Result<(), String> {
        if let Some(group) = key.strip_prefix("switch/token/") {
            let group = group.parse::<Group>().map_err(|e| e.to_string())?;
            self.tokens.insert(group, plain(value)?);
        } else if let Some(region) = key.strip_prefix("peers/") {
            self.peers.insert(RegionName::new(region), plain(value)?);
        } else if let Some(id) = key.strip_prefix("schedule/") {
            self.schedules.insert(id.to_string(), plain(value)?);
        }
        Ok(())
    }

    pub fn accepted(&self) -> Option<&Certificate> {
        self.register.as_ref()?.value.accepted.as_ref()
    }

    /// The epoch this site's vote was given for; 0 when it never voted.
    pub fn accepted_epoch(&self) -> u64 {
        self.accepted().map_or(0, |c| c.epoch)
    }

    /// The certificate in force, if its key can be read.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref().map(|c| &c.value)
    }

    pub fn journal(&self) -> Option<&Journal> {
        self.switch.as_ref().map(|j| &j.value)
    }

    pub fn version(&self, key: &str) -> Option<Version> {
        self.versions.get(key).copied()
    }

    pub fn is_unreadable(&self, key: &str) -> bool {
        self.unreadable.contains_key(key)
    }

    /// Could the site's vote be read? An unreadable vote counts as no answer.
    pub fn vote_is_readable(&self) -> bool {
        !self.is_unreadable("register")
    }

    /// The tokens that were signed for this move, by group.
    pub fn tokens_of(&self, id: &str) -> BTreeMap<Group, Token> {
        let signed = self.tokens.iter().filter(|(_, s)| s.id == id);
        signed.map(|(group, s)| (*group, s.token.clone())).collect()
    }
}

fn plain<T: serde::de::DeserializeOwned>(value: &str) -> Result<T, String> {
    serde_json::from_str(value).map_err(|e| e.to_string())
}

fn versioned<T: serde::de::DeserializeOwned>(
    value: &str,
    version: Version,
    session: Option<Session>,
) -> Result<Versioned<T>, String> {
    Ok(Versioned { value: plain(value)?, version, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl LocalTopology {
        /// `take` with plain numbers; `session` 0: on none.
        pub(crate) fn take_sample(&mut self, key: &str, value: &str, version: i64, session: i64) {
            let session = (session != 0).then_some(Session::of_store(session));
            self.take(key, value, Version::of_store(version), session);
        }
    }

    #[test]
    fn what_cannot_be_read_is_remembered_and_not_absent() {
        let mut local = LocalTopology::default();
        local.take_sample("certificate", "{", 3, 0);
        local.take_sample("switch/token/x1", "{}", 3, 0);
        local.take_sample("somebody/elses", "{", 3, 0);
        local.take_sample("verified", r#"{"epoch":4}"#, 5, 77);
        assert!(local.is_unreadable("certificate") && local.is_unreadable("switch/token/x1"));
        assert_eq!(local.unreadable.len(), 2);
        assert_eq!(
            local.verified.as_ref().map(|v| (v.value.epoch, v.session.map(Session::number))),
            Some((4, Some(77)))
        );
    }

    #[test]
    fn tokens_of_another_move_do_not_count() {
        let mut local = LocalTopology::default();
        let token = |id: &str| {
            format!(
                r#"{{"id":"{id}","token":{{"system_id":"7710375988543033523","timeline":1,"lsn":9}}}}"#
            )
        };
        local.take_sample("switch/token/0", &token("old"), 1, 0);
        local.take_sample("switch/token/1", &token("new"), 1, 0);
        let groups: Vec<_> = local.tokens_of("new").into_keys().collect();
        assert_eq!(groups, [Group(Some(1))]);
    }

    #[test]
    fn a_copied_journal_never_goes_back() {
        use crate::switch::register::tests::journal;
        let at = |id: &str, epoch, phase| Journal {
            id: id.into(),
            ..journal(epoch, "a", "b", phase).value
        };
        let old = at("x", 1, Phase::Stop);
        assert!(may_replace(None, &old) && !may_replace(Some(&old), &old));
        assert!(may_replace(Some(&old), &at("x", 1, Phase::Aborted)));
        assert!(!may_replace(Some(&old), &at("x", 1, Phase::Hold)));
        assert!(!may_replace(Some(&at("x", 1, Phase::Open)), &at("x", 1, Phase::Aborted)));
        assert!(may_replace(Some(&old), &at("y", 2, Phase::Requested)));
        assert!(!may_replace(Some(&at("y", 2, Phase::Requested)), &at("x", 1, Phase::Open)));
    }

    /// The host from which the first move was asked for has a wall clock that is ahead.
    #[test]
    fn moves_of_one_epoch_are_ordered_by_their_number_and_not_by_wall_clocks() {
        use crate::switch::register::tests::{certificate, journal};
        use topology::region::StepRecord;
        let asked = |attempt, at_ms, phase| Journal {
            id: format!("{attempt}"),
            attempt,
            steps: vec![StepRecord { phase: Phase::Requested, at_ms }],
            ..journal(1, "a", "b", phase).value
        };
        let first = asked(1, 9_000_000, Phase::Aborted);
        let second = asked(2, 5_000_000, Phase::Requested);
        assert!(may_replace(Some(&first), &second) && !may_replace(Some(&second), &first));
        let old_program = asked(0, 9_000_000, Phase::Aborted);
        assert!(may_replace(Some(&old_program), &second));

        // Decided, though another move's journal looks later.
        let decided = asked(2, 5_000_000, Phase::Open);
        let later = asked(3, 9_000_000, Phase::Aborted);
        let of = |epoch| certificate(epoch, "b");
        assert!(!may_replace(Some(&later), &decided));
        assert!(comes_with(&of(2), Some(&later), &decided));
        assert!(!comes_with(&of(3), Some(&later), &decided), "another certificate");
        let next_epoch = Journal { epoch: 2, ..asked(1, 0, Phase::Requested) };
        assert!(!comes_with(&of(2), Some(&next_epoch), &decided), "a later epoch's move");
        let done = asked(2, 5_000_000, Phase::Done);
        assert!(!comes_with(&of(2), Some(&done), &decided), "it never goes back");
    }

    #[test]
    fn history_is_bounded_and_names_a_move_once() {
        use crate::made_up_move;
        let journal = |id: usize| {
            let id = id.to_string();
            Journal { id, ..made_up_move::journal(Phase::Done) }
        };
        let mut lines = Vec::new();
        for id in 0..HISTORY_MAX + 5 {
            lines = with_move(&lines, &journal(id));
            lines = with_move(&lines, &journal(id));
        }
        assert_eq!(lines.len(), HISTORY_MAX);
        assert_eq!(lines[0].id, "5");
    }
}
