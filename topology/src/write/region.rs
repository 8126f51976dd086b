//! What regions write: votes, certificates, journals and the agent's key.

use super::{Replacement, Session, Version};
use crate::MemberName;
use crate::acceptor::Acceptor;
use crate::region::{Certificate, Journal, PastMove, PeerRegion, Policy, Register, SignedToken};
use crate::schedule::Schedule;

/// One change below `topology/`. `agent` is the name that the sender has as the
/// region's agent: the write happens only while the agent's key holds that name.
#[derive(Clone, Debug, PartialEq)]
pub enum RegionWrite {
    /// Become the region's agent where there is none.
    ElectAgent {
        agent: String,
        session: Session,
    },
    /// Put the own agent's key on the present lease.
    AdoptAgent {
        agent: String,
        session: Session,
    },
    ResignAgent {
        agent: String,
    },
    /// The policy, where there is none.
    PutPolicy(Box<Policy>),
    /// The first certificate, on the policy that it was made for.
    CreateFirst {
        acceptance: Box<Acceptance>,
        policy: Option<Version>,
    },
    Accept(Box<Acceptance>),
    /// The mark that this epoch was confirmed, on the agent's lease, while the vote
    /// and the certificate are those of these versions.
    Verify {
        agent: String,
        mark: Mark,
        certificate: Option<Version>,
        register: Option<Version>,
    },
    /// The acceptor beside the vote of this version.
    PutAcceptor {
        agent: String,
        acceptor: Box<Replacement<Acceptor>>,
        register: Option<Version>,
    },
    /// What was seen of another region.
    PutPeer {
        agent: String,
        peer: Box<PeerRegion>,
    },
    PutJournal(Box<JournalWrite>),
    /// A schedule, and with it the request of the move that it starts.
    PutSchedule {
        schedule: Box<Replacement<Schedule>>,
        journal: Option<Box<JournalWrite>>,
    },
    /// A schedule that is over is forgotten.
    RemoveSchedule {
        id: String,
        on: Version,
    },
    /// A stopped group's signature, while `me` has its lock and the journal is the one
    /// that asked for it.
    SignToken {
        me: MemberName,
        token: Box<SignedToken>,
        journal: Option<Version>,
    },
}

/// A certificate that one site accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct Acceptance {
    pub certificate: Replacement<Certificate>,
    /// The site's new vote. `None`: only the certificate is restored.
    pub vote: Option<Register>,
    /// The vote that was read.
    pub register: Option<Version>,
    /// The journal of the move that brought the certificate.
    pub journal: Option<JournalWrite>,
    /// The confirmation of the new epoch, while the site's agent lives.
    pub mark: Option<Replacement<Mark>>,
}

/// The next journal; a move that is over also becomes a line of the history.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalWrite {
    pub journal: Replacement<Journal>,
    pub history: Option<Replacement<Vec<PastMove>>>,
}

/// The epoch that was confirmed, and the agent's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub epoch: u64,
    pub session: Session,
}
