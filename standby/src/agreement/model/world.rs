//! All regions in the model: what is true, beside what each of them sees.

use super::Bounds;
use crate::agreement::quorum::Heard;
use crate::agreement::sample::{first, region};
use std::fmt;
use std::sync::Arc;
use topology::acceptor::{Acceptor, Ballot};
use topology::region::Certificate;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub sites: Vec<Site>,
    pub regions: Vec<Region>,
    /// Accepts under way. They may be lost, arrive twice, or after later ones: none is taken out.
    pub late: Vec<Vote>,
    /// What may still happen.
    pub left: Bounds,
    /// Every accept there ever was. The properties read it, no rule does.
    pub votes: Vec<Vote>,
    /// Certificates that one site chose with a proof.
    pub solos: Vec<Arc<Certificate>>,
    /// A proof was false.
    pub lied: bool,
}

/// The store of one region.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Site {
    pub acceptor: Option<Arc<Acceptor>>,
    /// A copy of the store: its votes, and whether a move ran.
    pub saved: Option<(Arc<Acceptor>, bool)>,
    /// The journal says that a move runs.
    pub moves: bool,
}

/// The daemons of one region, with one group and one disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Region {
    /// The furthest that its disk has seen of the own store.
    pub disk: Arc<Acceptor>,
    pub group: Servers,
    /// The epoch that was confirmed in this life.
    pub granted: Option<u64>,
    /// The owner is proved to be fenced, for the ballot that was claimed.
    pub proof: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Servers {
    Closed,
    Open,
    /// Stopped and signed off for a move.
    Stopped,
}

/// One accept: at which site, of which certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Vote {
    pub site: usize,
    pub ballot: Ballot,
    pub certificate: Arc<Certificate>,
}

impl Vote {
    fn order(&self) -> impl Ord + '_ {
        let Certificate { epoch, ballot, owner, at, previous_hash, .. } = &*self.certificate;
        (self.site, &self.ballot, epoch, ballot, owner, at, previous_hash)
    }

    /// Into a list that is in order, so that two histories with the same votes are one state.
    pub(super) fn add_to(self, votes: &mut Vec<Vote>) {
        if !votes.contains(&self) {
            let at = votes.partition_point(|other| other.order() < self.order());
            votes.insert(at, self);
        }
    }
}

/// The position of an acceptor, without copies of its names.
fn order(acceptor: &Acceptor) -> impl Ord + '_ {
    let accepted = acceptor.accepted.as_ref().map(|accepted| &accepted.ballot);
    (acceptor.life, acceptor.epoch(), acceptor.promised.as_ref(), accepted)
}

impl Region {
    pub(super) fn has_seen_more_than(&self, acceptor: &Acceptor) -> bool {
        order(acceptor) < order(&self.disk)
    }

    /// What the region writes into its own store, its disk knows first.
    pub(super) fn sees(&mut self, acceptor: &Arc<Acceptor>) {
        if order(&self.disk) < order(acceptor) {
            self.disk = acceptor.clone();
        }
    }
}

impl World {
    /// Region a owns epoch 1 and is open; all regions have confirmed it.
    pub(super) fn new(sites: usize, left: Bounds) -> World {
        let acceptor = Arc::new(first());
        let site = Site { acceptor: Some(acceptor.clone()), saved: None, moves: false };
        let region =
            Region { disk: acceptor, group: Servers::Closed, granted: Some(1), proof: false };
        let mut world = World {
            sites: vec![site; sites],
            regions: vec![region; sites],
            late: vec![],
            left,
            votes: vec![],
            solos: vec![],
            lied: false,
        };
        world.regions[0].group = Servers::Open;
        world
    }

    pub(super) fn votes_of(&self, at: usize) -> Option<&Arc<Acceptor>> {
        self.sites[at].acceptor.as_ref()
    }

    /// Sites that the bits name and that hold votes.
    pub(super) fn heard(&self, bits: u8) -> Heard<'_> {
        let sites = self.sites.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0);
        sites.filter_map(|(at, site)| Some((region(at), &**site.acceptor.as_ref()?))).collect()
    }

    pub(super) fn open(&self) -> usize {
        self.regions.iter().filter(|region| region.group == Servers::Open).count()
    }

    /// Everything that regions hold as chosen, on disks too.
    pub(super) fn held(&self) -> impl Iterator<Item = &Arc<Acceptor>> {
        let disks = self.regions.iter().map(|region| &region.disk);
        self.sites.iter().filter_map(|site| site.acceptor.as_ref()).chain(disks)
    }
}

pub(super) fn is_owned_by(votes: &Acceptor, at: usize) -> bool {
    votes.chosen.as_ref().is_some_and(|chosen| chosen.owner == region(at))
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (at, (site, region)) in self.sites.iter().zip(&self.regions).enumerate() {
            let Region { group, granted, proof, disk } = region;
            let votes = site.acceptor.as_ref().map(|votes| shown(votes));
            let (letter, moves) = (super::region(at), site.moves);
            writeln!(
                f,
                "    {letter} {group:?} granted {granted:?} proof {proof} moves {moves} store \
                 {votes:?} disk {}",
                shown(disk)
            )?;
        }
        write!(f, "    late {}, solo {}, lied {}", self.late.len(), self.solos.len(), self.lied)
    }
}

fn shown(votes: &Acceptor) -> String {
    let owner = votes.chosen.as_ref().map_or("", |chosen| chosen.owner.as_str());
    let ballot = |b: &Ballot| format!("({},{})", b.round, b.region);
    let promised = votes.promised.as_ref().map_or(String::new(), ballot);
    let accepted = votes.accepted.as_ref().map_or(String::new(), |accepted| {
        let (certificate, ballot) = (&accepted.certificate, ballot(&accepted.ballot));
        format!("{:?} {} at {ballot}", certificate.kind, certificate.owner)
    });
    format!(
        "life {} epoch {} of {owner}, promised {promised}, accepted {accepted}, blank to {}",
        votes.life,
        votes.epoch(),
        votes.blank_through
    )
}
