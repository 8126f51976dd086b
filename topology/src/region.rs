//! Regions: the policy, the vote of a site, the certificate, a running move.
//!
//! Every type here is the JSON value of one key below
//! `<namespace>/<scope>/topology/`. What may be written when is a rule and
//! lives in `standby/src/switch`.

use crate::schedule::Limits;
use crate::{Group, Lsn, MemberName, RegionName, SystemId, Timeline};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `policy`: what the operators of all regions agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub formation: String,
    pub regions: Vec<RegionPolicy>,
    #[serde(default)]
    pub mode: Mode,
    #[serde(default)]
    pub isolation: Isolation,
    /// How long one step of a planned move may take before the move is given up.
    #[serde(default = "default_step_seconds")]
    pub step_seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionPolicy {
    pub name: RegionName,
    /// The region with the highest priority owns a formation that is new.
    #[serde(default)]
    pub priority: i64,
    /// Endpoints of the region's store, `host:port`.
    pub endpoints: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Manual,
}

/// What the owner does while it sees no other site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    #[default]
    Continue,
}

fn default_step_seconds() -> u64 {
    20
}

impl Policy {
    pub fn region(&self, name: &RegionName) -> Option<&RegionPolicy> {
        self.regions.iter().find(|r| &r.name == name)
    }

    /// The first owner of a formation that no region has owned yet.
    pub fn first_owner(&self) -> Option<&RegionName> {
        let best = self.regions.iter().max_by_key(|r| (r.priority, std::cmp::Reverse(&r.name)))?;
        Some(&best.name)
    }

    pub fn hash(&self) -> String {
        hash_of(self)
    }
}

/// The end of one group's history on the side that stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    pub system_id: SystemId,
    pub timeline: Timeline,
    /// Where the shutdown checkpoint begins: a standby must be past it.
    pub lsn: Lsn,
}

/// What led to a certificate. Programs of this release read all of them; they write the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateKind {
    Initial,
    Planned,
    /// An operator or a fence proved that the owner is lost.
    Forced,
    /// A witness and a standby region found that the owner is lost.
    Automatic,
    /// The owner of the epoch before keeps the formation; a move was given up.
    Reclaim,
    /// An operator opened a region without a proof.
    Asserted,
}

/// `certificate`: the statement "`owner` owns the formation since `epoch`".
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Certificate {
    pub epoch: u64,
    pub ballot: u64,
    pub owner: RegionName,
    pub kind: CertificateKind,
    /// Hash of the certificate before this one; empty for the first.
    pub previous_hash: String,
    pub groups: BTreeMap<Group, Token>,
    pub proof: String,
    pub policy_hash: String,
    pub at: String,
}

impl Certificate {
    pub fn hash(&self) -> String {
        hash_of(self)
    }
}

/// `register`: the vote of one site. Changed only by compare-and-set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// The highest ballot this site has promised.
    pub promised: u64,
    pub accepted: Option<Certificate>,
}

/// How far a planned move is. The order is that of design section 5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Asked for by an operator; no agent has begun.
    Requested,
    Preflight,
    Warm,
    Hold,
    Stop,
    CatchUp,
    /// The certificate is being written; the first write decides.
    Certify,
    /// Decided: the new owner's groups open.
    Open,
    Rewire,
    Reverse,
    Done,
    /// Given up before the certificate; the old owner serves again.
    Aborted,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Requested => "requested",
            Phase::Preflight => "preflight",
            Phase::Warm => "warm",
            Phase::Hold => "hold",
            Phase::Stop => "stop",
            Phase::CatchUp => "catch up",
            Phase::Certify => "certify",
            Phase::Open => "open",
            Phase::Rewire => "rewire",
            Phase::Reverse => "reverse",
            Phase::Done => "done",
            Phase::Aborted => "aborted",
        })
    }
}

impl Phase {
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Done | Phase::Aborted)
    }

    /// In these phases the old side's groups are shut down and stay so.
    pub fn old_side_stopped(self) -> bool {
        (Phase::Stop..=Phase::Certify).contains(&self)
    }

    pub fn is_decided(self) -> bool {
        (Phase::Open..=Phase::Done).contains(&self)
    }
}

/// One step of a move, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    pub phase: Phase,
    /// Milliseconds of the Unix clock when the phase began.
    pub at_ms: u64,
}

/// `switch`: the journal of the running (or last) move. Lies in both stores;
/// the old owner's copy leads until the certificate, the new owner's after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub id: String,
    pub from: RegionName,
    pub to: RegionName,
    /// The epoch that is in force when the move begins.
    pub epoch: u64,
    /// Which move of this epoch it is, counted from 1 in the owner's store. 0: an older
    /// program asked for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u64,
    pub phase: Phase,
    pub groups: Vec<Group>,
    /// The daemon that drives, as `region/member`.
    pub driver: String,
    pub steps: Vec<StepRecord>,
    /// What the stopped groups of the old side wrote, by group.
    #[serde(default)]
    pub tokens: BTreeMap<Group, Token>,
    /// Why the move was given up, in words.
    #[serde(default)]
    pub error: Option<String>,
    /// What the move may cost.
    #[serde(default, skip_serializing_if = "Limits::are_none")]
    pub limits: Limits,
    /// An operator's request to give the move up. It is written only before the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<AbortRequest>,
}

/// A request to give a move up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortRequest {
    /// The host on which it was asked for.
    pub host: String,
    /// Milliseconds of the Unix clock.
    pub at_ms: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Journal {
    /// Of two moves the later one is greater. The wall clock counts only where an older
    /// program asked for one of them: clocks of two hosts may differ.
    pub fn order(&self) -> (u64, u64, u64) {
        let asked = self.steps.first().map_or(0, |step| step.at_ms);
        (self.epoch, self.attempt, asked)
    }

    /// Is the move under way, as far as a store knows that has accepted `epoch`? A
    /// later epoch was decided by a later move.
    pub fn is_running(&self, epoch: u64) -> bool {
        !self.phase.is_over() && self.epoch + 1 >= epoch
    }
}

/// One member of another region as its store tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMember {
    pub name: MemberName,
    pub role: String,
    pub state: String,
    pub host: String,
    pub port: u16,
    pub api_url: Option<String>,
    pub timeline: Option<Timeline>,
    pub lsn: Option<Lsn>,
}

/// One group of another region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerGroup {
    pub leader: Option<MemberName>,
    pub system_id: Option<SystemId>,
    pub members: Vec<PeerMember>,
}

impl PeerGroup {
    pub fn leader(&self) -> Option<&PeerMember> {
        let name = self.leader.as_ref()?;
        self.members.iter().find(|m| &m.name == name)
    }
}

/// `peers/<region>`: what this region's agent last saw of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRegion {
    pub region: RegionName,
    /// Epoch of the certificate that region holds; `None`: it holds none.
    pub epoch: Option<u64>,
    pub groups: BTreeMap<Group, PeerGroup>,
}

/// SHA-256 of the compact JSON of a value.
fn hash_of<T: Serialize>(value: &T) -> String {
    use sha2::{Digest, Sha256};
    let text = serde_json::to_string(value).expect("plain values always serialise");
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `switch/token/<group>`: the end of a group's history, signed for one move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedToken {
    pub id: String,
    pub token: Token,
}

/// `verified`: the other registers were read and none knows a higher epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub epoch: u64,
}

/// `switch/rewired`: the new coordinator's metadata names the new region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewired {
    pub id: String,
}

/// One line of `history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastMove {
    pub id: String,
    pub from: RegionName,
    pub to: RegionName,
    /// The epoch that was in force when the move began.
    pub epoch: u64,
    pub phase: Phase,
    pub began_ms: u64,
    pub took_ms: u64,
    #[serde(default)]
    pub error: Option<String>,
}

impl PastMove {
    pub fn of(journal: &Journal) -> PastMove {
        let first = journal.steps.first().map_or(0, |s| s.at_ms);
        let last = journal.steps.last().map_or(0, |s| s.at_ms);
        PastMove {
            id: journal.id.clone(),
            from: journal.from.clone(),
            to: journal.to.clone(),
            epoch: journal.epoch,
            phase: journal.phase,
            began_ms: first,
            took_ms: last.saturating_sub(first),
            error: journal.error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let text = r#"{"formation":"shop","regions":[
            {"name":"b","priority":5,"endpoints":["h:1"]},
            {"name":"a","priority":5,"endpoints":["h:2"]},
            {"name":"c","endpoints":["h:3"]}]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_first_owner_is_decided_alike_everywhere() {
        assert_eq!(policy().first_owner(), Some(&RegionName::new("a")));
        assert_eq!(policy().hash(), policy().hash());
    }

    #[test]
    fn phases_tell_which_side_is_shut() {
        assert!(Phase::Stop.old_side_stopped() && Phase::Certify.old_side_stopped());
        assert!(!Phase::Hold.old_side_stopped() && !Phase::Open.old_side_stopped());
        assert!(Phase::Open.is_decided() && !Phase::Aborted.is_decided());
    }
}
