//! What a new process of the daemon goes on with: files that an earlier one has left.
//!
//! Invariant: nothing is taken up that another member wrote, or that is over.

use crate::Member;
use crate::ha::failsafe::{Map, PeerSet};
use serde_json::Value;
use topology::{Dynamic, Millis};

/// All members in these maps agreed that this member stays the leader until `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptProof {
    pub until: Millis,
    pub known: Map,
    pub unsure: Map,
    /// A majority of them is enough.
    pub is_majority_told: bool,
}

/// The configuration of the cluster as this machine has it before the store is read.
#[derive(Clone, Debug, Default)]
pub struct Configurations {
    /// The copy in the data directory.
    pub kept: Option<Value>,
    /// What a new cluster begins with.
    pub own: Option<Value>,
    /// The data are a backup that was never started.
    pub is_backup: bool,
}

/// `bootstrap.dcs` of the member's own file.
const OWN: &str = "bootstrap.dcs";

impl Configurations {
    /// The first that can be read, and why others cannot. `kept_name`: of the file.
    pub fn first(self, kept_name: &str, minimum_ttl: u64) -> (Dynamic, Vec<String>) {
        // A backup that was never started has its copy from the cluster that it is of.
        let follows = self.own.as_ref().is_some_and(|dcs| !dcs["standby_cluster"].is_null());
        let kept = self.kept.filter(|_| !(follows && self.is_backup));
        let mut refused = Vec::new();
        for (place, raw) in [(kept_name, kept), (OWN, self.own)] {
            match raw.map(|raw| Dynamic::read(&raw)) {
                Some(Ok(dynamic)) => return (dynamic.with_minimum_ttl(minimum_ttl), refused),
                Some(Err(why)) => refused.push(format!("{place} is not used: {why}")),
                None => {}
            }
        }
        (Dynamic::default(), refused)
    }
}

impl Member {
    /// What has to lie on disk, so that a new process can go on while the store is away.
    pub(super) fn proof_to_keep(&self, until: Millis) -> KeptProof {
        KeptProof {
            until,
            known: self.peer_set.known().unwrap_or_default(),
            unsure: self.peer_set.unsure().clone(),
            is_majority_told: self.peer_set.is_majority_told(),
        }
    }

    /// The machine goes on with what all members agreed to, as long as that holds.
    pub fn take_kept_proof(&mut self, kept: Option<KeptProof>, now: Millis) {
        if let Some(kept) = kept.filter(|kept| now < kept.until) {
            let KeptProof { until, known, unsure, is_majority_told } = kept;
            self.peer_set = PeerSet::kept(known, unsure, is_majority_told);
            self.proof = Some(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn first(kept: Option<Value>, own: Option<Value>, is_backup: bool) -> (u64, usize) {
        let (dynamic, refused) = Configurations { kept, own, is_backup }.first("a file", 20);
        (dynamic.loop_wait_ms, refused.len())
    }

    #[test]
    fn the_copy_in_the_data_directory_comes_before_the_members_own_file() {
        let (kept, own) = (json!({"loop_wait": 3}), json!({"loop_wait": 4}));
        assert_eq!(first(Some(kept.clone()), Some(own.clone()), false), (3_000, 0));
        assert_eq!(first(Some(kept.clone()), Some(own.clone()), true), (3_000, 0));
        assert_eq!(first(None, Some(own.clone()), false), (4_000, 0));
        let usual = Dynamic::default().loop_wait_ms;
        assert_eq!(first(None, None, false), (usual, 0));
        let follows = json!({"loop_wait": 4, "standby_cluster": {"host": "h"}});
        let foreign = first(Some(kept.clone()), Some(follows.clone()), true);
        assert_eq!(foreign, (4_000, 0), "the copy is of the cluster that is followed");
        assert_eq!(first(Some(kept), Some(follows), false), (3_000, 0));
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_next_one_is_used() {
        let own = json!({"loop_wait": 4});
        assert_eq!(first(Some(json!({"ttl": "rubbish"})), Some(own), false), (4_000, 1));
    }

    #[test]
    fn a_proof_that_is_over_is_not_taken_up() {
        let mut member = Member::new("me".into(), 20, Millis(0));
        let known = Map::from([("me".into(), "u".to_string())]);
        let (until, unsure) = (Millis(100), Map::new());
        let kept = KeptProof { until, known, unsure, is_majority_told: true };
        member.take_kept_proof(Some(kept.clone()), Millis(100));
        assert_eq!(member.proof, None);
        member.take_kept_proof(Some(kept.clone()), Millis(99));
        assert_eq!((member.proof, member.proof_to_keep(until)), (Some(until), kept));
    }
}
