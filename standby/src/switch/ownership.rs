//! May this region's groups be open? Read from the local store only.
//!
//! Every daemon asks this in every beat, so it needs nothing but the keys of
//! its own region's store: a local failover depends on no other region.
//!
//! Invariant *no doubtful opening*: a key that is missing, unreadable or
//! contradicts another one takes the ability to write away. A region that
//! follows another one cannot write, so it needs no proof to stay a standby.
//!
//! A store may lose what it held: it is restored from an earlier copy, or its data is lost. Each
//! host keeps the highest epoch that its daemon has seen on its own disk (`Remembered`); a store
//! that answers with a lower one opens nothing, and its orders are not obeyed.
//!
//! Absent on purpose: the group's lock (see `promotion`), and the region's lease
//! (manual mode has none).

pub use super::local::LocalTopology;
use topology::id::slot_name;
use topology::region::{Certificate, CertificateKind, Journal, Phase, Token};
use topology::{Group, MemberName, RegionName};

/// Where a standby region's leader streams from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    pub slot: String,
    pub member: MemberName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The scope has no regions: nothing is restricted.
    NoRegions,
    Owner {
        epoch: u64,
        /// What this group must have received before it may open.
        token: Option<Token>,
        /// The region has just become owner: workers before the coordinator,
        /// and the coordinator in quarantine.
        opening: bool,
    },
    Standby {
        epoch: u64,
        upstream: Option<Upstream>,
    },
    /// No member may open, for this reason.
    Doubtful(String),
}

/// What a running move asks of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Shut down fast, keep the lock and write the token.
    StopAndSign { id: String },
}

/// What a daemon remembers of its region's store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The highest epoch that lies on this host's disk, whichever region owns the formation in
    /// it. It proves no confirmation: the region may have been a standby then.
    pub newest: u64,
    /// The highest epoch that this process has seen verified: it keeps a region open while
    /// `topology/verified` passes from one agent to the next.
    pub verified: Option<u64>,
}

/// May this region's group be open, and which server does it follow if not?
pub fn ownership(
    local: &LocalTopology,
    me: &RegionName,
    group: Group,
    remembered: Remembered,
) -> Ownership {
    let certificate = match consistent(local, remembered) {
        Ok(certificate) => certificate,
        Err(why) => return Ownership::Doubtful(why),
    };
    let epoch = certificate.epoch;
    if &certificate.owner != me {
        return Ownership::Standby { epoch, upstream: upstream(local, certificate, me, group) };
    }
    if remembered.newest < epoch {
        return Ownership::Doubtful(format!(
            "epoch {epoch} is not on this host's disk yet; the log says what hinders it"
        ));
    }
    if let Err(why) = verified(local, epoch, remembered.verified) {
        return Ownership::Doubtful(why);
    }
    Ownership::Owner {
        epoch,
        token: certificate.groups.get(&group).cloned(),
        opening: is_opening(certificate, local.journal()),
    }
}

/// What a daemon without a `topology` section may do with this store.
///
/// Such a daemon does not know its region: beside a certificate it could open
/// a standby region's data, so it must not open at all.
pub fn without_region(local: &LocalTopology) -> Ownership {
    let key = match (&local.certificate, &local.register, &local.policy) {
        (None, None, None) => local.unreadable.keys().next().map(String::as_str),
        (None, None, Some(_)) => Some("policy"),
        (None, Some(_), _) => Some("register"),
        (Some(_), ..) => Some("certificate"),
    };
    match key {
        None => Ownership::NoRegions,
        Some(key) => Ownership::Doubtful(format!(
            "the store holds `topology/{key}`, but this daemon has no `topology` section; \
             name its region and the formation's policy there"
        )),
    }
}

/// The order of a running move to this region's groups, if it is still undecided.
pub fn order(
    local: &LocalTopology,
    me: &RegionName,
    _group: Group,
    remembered: Remembered,
) -> Option<Order> {
    let journal = local.journal()?;
    // A journal that came back with an earlier copy of the store asks for nothing.
    let in_force = local.certificate().filter(|c| c.epoch >= newest(remembered))?;
    let concerns_us = &journal.from == me && journal.phase.old_side_stopped();
    let undecided = &in_force.owner == me && in_force.epoch == journal.epoch;
    // Every group obeys, also one that the journal does not list: the driver
    // gives the move up when it meets a group without a token.
    (concerns_us && undecided).then(|| Order::StopAndSign { id: journal.id.clone() })
}

/// The certificate in force, if the keys of the store agree with each other.
fn consistent(local: &LocalTopology, remembered: Remembered) -> Result<&Certificate, String> {
    for key in ["certificate", "register"] {
        if let Some(why) = local.unreadable.get(key) {
            return Err(format!(
                "`topology/{key}` cannot be read ({why}); the agent restores it from another \
                 region's register, or restore the key from a backup"
            ));
        }
    }
    let certificate = local.certificate().ok_or(
        "`topology/certificate` is absent: no region owns the formation yet; the first owner's \
         agent writes it as soon as it can read the stores of all regions (see its log)",
    )?;
    match local.accepted() {
        Some(accepted) if accepted == certificate => {}
        Some(accepted) => {
            return Err(format!(
                "`topology/register` accepted epoch {} but `topology/certificate` says epoch {}; \
                 the agent brings them together, see its log",
                accepted.epoch, certificate.epoch
            ));
        }
        None => {
            return Err("`topology/register` is empty beside a certificate; the agent restores \
                        it from another region's register"
                .to_string());
        }
    }
    match newest(remembered) {
        epoch if epoch > certificate.epoch => Err(format!(
            "`topology/certificate` went back from epoch {epoch} to {}; the store lost data, \
             check its members and backups",
            certificate.epoch
        )),
        _ => Ok(certificate),
    }
}

fn newest(remembered: Remembered) -> u64 {
    remembered.newest.max(remembered.verified.unwrap_or(0))
}

fn verified(local: &LocalTopology, epoch: u64, remembered: Option<u64>) -> Result<(), String> {
    let marked = local.verified.as_ref().map(|v| v.value.epoch);
    if marked == Some(epoch) || remembered == Some(epoch) {
        return Ok(());
    }
    Err(format!(
        "`topology/verified` does not confirm epoch {epoch}: after a restart of the region the \
         agent must first read the other regions' registers; restore the connection to their \
         stores (see the agent's log)"
    ))
}

/// Is the certificate's own move still on its way?
///
/// A journal that is missing or older does not prove the move finished, so it
/// counts as opening: quarantine too long costs less than none.
fn is_opening(certificate: &Certificate, journal: Option<&Journal>) -> bool {
    if certificate.kind != CertificateKind::Planned {
        return false;
    }
    match journal {
        Some(journal) if journal.epoch >= certificate.epoch => false,
        Some(journal) if journal.epoch + 1 == certificate.epoch => {
            !matches!(journal.phase, Phase::Reverse | Phase::Done)
        }
        _ => true,
    }
}

fn upstream(
    local: &LocalTopology,
    certificate: &Certificate,
    me: &RegionName,
    group: Group,
) -> Option<Upstream> {
    let leader = local.peers.get(&certificate.owner)?.groups.get(&group)?.leader()?;
    Some(Upstream {
        host: leader.host.clone(),
        port: leader.port,
        slot: slot_name(&format!("region_{me}")),
        member: leader.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::register::tests::{certificate, journal, local_with};
    use super::*;
    use topology::region::{PeerGroup, PeerMember, PeerRegion};

    /// The disk knows what the store holds; `verified` is what the process has seen.
    fn asked(local: &LocalTopology, me: &str, verified: Option<u64>) -> Ownership {
        let remembered = Remembered { newest: local.accepted_epoch(), verified };
        ownership(local, &me.into(), Group::PLAIN, remembered)
    }

    fn doubt(local: &LocalTopology, remembered: Option<u64>) -> String {
        match asked(local, "a", remembered) {
            Ownership::Doubtful(why) => why,
            other => panic!("opened as {other:?}"),
        }
    }

    fn verified_local(epoch: u64, owner: &str) -> LocalTopology {
        let mut local = local_with(certificate(epoch, owner));
        local.take_sample("verified", &format!("{{\"epoch\":{epoch}}}"), 9, 7);
        local
    }

    #[test]
    fn only_a_whole_and_verified_certificate_opens() {
        let local = verified_local(1, "a");
        assert!(matches!(asked(&local, "a", None), Ownership::Owner { epoch: 1, .. }));
        assert!(doubt(&LocalTopology::default(), None).contains("topology/certificate"));
        let mut broken = local.clone();
        broken.take_sample("certificate", "?", 10, 0);
        assert!(doubt(&broken, None).contains("cannot be read"));
        let mut behind = local.clone();
        behind.register.as_mut().unwrap().value.accepted = Some(certificate(2, "b"));
        assert!(doubt(&behind, Some(1)).contains("register"));
        let mut lost = local.clone();
        lost.register = None;
        assert!(doubt(&lost, Some(1)).contains("register"));
    }

    #[test]
    fn the_mark_or_the_own_memory_confirms_an_epoch() {
        let unmarked = local_with(certificate(3, "a"));
        assert!(doubt(&unmarked, None).contains("topology/verified"));
        assert!(doubt(&unmarked, Some(2)).contains("topology/verified"));
        assert!(matches!(asked(&unmarked, "a", Some(3)), Ownership::Owner { .. }));
        assert!(doubt(&unmarked, Some(4)).contains("went back"));
        let stale = {
            let mut local = local_with(certificate(3, "a"));
            local.take_sample("verified", r#"{"epoch":2}"#, 9, 7);
            local
        };
        assert!(doubt(&stale, None).contains("topology/verified"));
    }

    #[test]
    fn a_standby_needs_no_mark_and_follows_the_owners_leader() {
        let mut local = local_with(certificate(1, "a"));
        let bare = asked(&local, "b-1", None);
        assert_eq!(bare, Ownership::Standby { epoch: 1, upstream: None });
        let leader = PeerMember {
            name: "n1".into(),
            role: "primary".into(),
            state: "running".into(),
            host: "h".into(),
            port: 5433,
            api_url: None,
            timeline: None,
            lsn: None,
        };
        let group = PeerGroup { leader: Some("n1".into()), system_id: None, members: vec![leader] };
        let groups = [(Group::PLAIN, group)].into();
        let peer = PeerRegion { region: "a".into(), epoch: Some(1), groups };
        local.peers.insert("a".into(), peer);
        let Ownership::Standby { upstream: Some(up), .. } = asked(&local, "b-1", None) else {
            panic!("no upstream");
        };
        assert_eq!((up.host.as_str(), up.port, up.slot.as_str()), ("h", 5433, "region_b_1"));
    }

    #[test]
    fn a_region_opens_in_quarantine_until_its_move_is_past_rewiring() {
        let mut local = verified_local(2, "a");
        let opening = |local: &LocalTopology| match asked(local, "a", None) {
            Ownership::Owner { opening, .. } => opening,
            other => panic!("{other:?}"),
        };
        assert!(!opening(&verified_local(1, "a")), "the first certificate moves nothing");
        assert!(opening(&local), "a missing journal proves nothing");
        for (phase, expected) in
            [(Phase::Stop, true), (Phase::Open, true), (Phase::Rewire, true), (Phase::Done, false)]
        {
            local.switch = Some(journal(1, "b", "a", phase));
            assert_eq!(opening(&local), expected, "{phase:?}");
        }
        local.switch = Some(journal(2, "a", "b", Phase::Requested));
        assert!(!opening(&local), "a new move begins only when the last one is over");
    }

    #[test]
    fn groups_stop_only_while_the_move_is_undecided() {
        let mut local = verified_local(1, "a");
        let disk = Remembered { newest: 1, verified: None };
        let asked = |local: &LocalTopology, me: &str| order(local, &me.into(), Group::PLAIN, disk);
        for phase in [Phase::Requested, Phase::Hold, Phase::Open, Phase::Aborted] {
            local.switch = Some(journal(1, "a", "b", phase));
            assert_eq!(asked(&local, "a"), None, "{phase:?}");
        }
        for phase in [Phase::Stop, Phase::CatchUp, Phase::Certify] {
            local.switch = Some(journal(1, "a", "b", phase));
            assert_eq!(asked(&local, "a"), Some(Order::StopAndSign { id: "move".into() }));
            assert_eq!(asked(&local, "b"), None);
        }
        let later = Remembered { newest: 2, verified: None };
        let went_back = order(&local, &"a".into(), Group::PLAIN, later);
        assert_eq!(went_back, None, "the store came back with an earlier journal");
        local.certificate.as_mut().unwrap().value = certificate(2, "b");
        assert_eq!(asked(&local, "a"), None);
    }

    /// The daemon was started again since it saw epoch 2, as a standby of region b.
    #[test]
    fn a_certificate_that_went_back_opens_nothing_also_after_a_restart_as_a_standby() {
        let local = verified_local(1, "a");
        let of = |newest| {
            let remembered = Remembered { newest, verified: None };
            ownership(&local, &"a".into(), Group::PLAIN, remembered)
        };
        assert!(matches!(of(1), Ownership::Owner { epoch: 1, .. }));
        assert!(matches!(of(2), Ownership::Doubtful(why) if why.contains("went back")));
        // Nothing opens in an epoch that the next process would not know of.
        assert!(matches!(of(0), Ownership::Doubtful(why) if why.contains("disk")));
        let standby = ownership(&local, &"b".into(), Group::PLAIN, Remembered::default());
        assert!(matches!(standby, Ownership::Standby { .. }));
    }

    #[test]
    fn a_daemon_that_does_not_know_its_region_opens_nothing_beside_a_certificate() {
        assert_eq!(without_region(&LocalTopology::default()), Ownership::NoRegions);
        let owned = without_region(&local_with(certificate(1, "a")));
        assert!(matches!(owned, Ownership::Doubtful(_)));
        let mut broken = LocalTopology::default();
        broken.take_sample("certificate", "?", 1, 0);
        assert!(matches!(without_region(&broken), Ownership::Doubtful(_)));
    }
}
