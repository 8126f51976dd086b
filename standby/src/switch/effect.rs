//! What a region's agent is shown, what it wants done, and how that ended.
//!
//! The agent (`agent`) is a machine without I/O: it is woken with a `Sight`, gives
//! `Effect`s, and learns by `Answer`s how they ended. The daemon performs them on
//! real stores and servers, the simulator on models of them; neither decides.
//!
//! Invariant: a write carries the site it was decided on. It becomes a
//! `topology::Write` that compares the versions which that site shows.

use super::preflight::Probe;
use super::{LocalTopology, Replayed, Site, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use topology::acceptor::Acceptor;
use topology::region::{Certificate, Journal, PeerRegion, Policy};
use topology::schedule::{Outcome, Schedule};
use topology::{Millis, RegionName, Seen, Session, Version};

/// The daemon that may become the agent.
#[derive(Clone, Debug)]
pub struct Identity {
    pub region: RegionName,
    /// `region/member`.
    pub name: String,
    /// Leads the plain or the coordinator group, when it leads.
    pub is_preferred: bool,
    /// The policy of the daemon's settings.
    pub settings: Policy,
    /// The other regions whose stores this daemon can address.
    pub others: BTreeSet<RegionName>,
}

/// Who an agent is, as its key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentKey {
    /// `region/member`.
    pub name: String,
    pub session: Session,
}

/// Everything the agent may look at, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The steady clock.
    pub now: Millis,
    /// The clock of people: for journals.
    pub unix_ms: u64,
    /// The date, for certificates.
    pub date: String,
    /// The daemon's own lease.
    pub session: Option<Session>,
    /// This daemon may campaign: its member leads its group, or no member does.
    pub holds_lock: bool,
    /// What the host's disk knows of the own store.
    pub memory: Option<Arc<Acceptor>>,
    /// The own store's `topology/`. `None`: not read yet, or its watch is down.
    pub local: Option<LocalCopy>,
    /// The copies of all stores that were made since `Effect::OpenCopies`.
    pub copies: BTreeMap<RegionName, StoreCopy>,
    /// Rises with every change that a watch, the lease or the lock brought.
    pub changes: u64,
}

/// A copy of the own store's `topology/`.
#[derive(Clone, Debug)]
pub struct LocalCopy {
    pub site: Arc<Site>,
    /// The version of the store that the copy is at.
    pub version: Version,
}

/// A copy of one region's store.
#[derive(Clone, Debug)]
pub struct StoreCopy {
    pub site: Arc<Site>,
    /// The watch that feeds it is up.
    pub is_live: bool,
    /// When the store was last heard from, rounded down: a read counts from its beginning.
    pub heard: Millis,
}

/// The topologies of the other regions.
pub type Sites = BTreeMap<RegionName, Seen<LocalTopology>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Begin a call. Its end, within the deadline, comes back as an `Answer`.
    Call {
        id: CallId,
        within_ms: u64,
        call: Call,
    },
    /// Give up a call that is under way, and let go what it holds. No answer.
    End(CallId),
    /// Make new copies of all stores, from reads that begin now.
    OpenCopies,
    /// Drop the copies and every call that needs them.
    CloseCopies,
    Log(Severity, String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Change the agent's key in the own store.
    Campaign {
        on: Arc<Site>,
        key: AgentKey,
        claim: Claim,
    },
    /// Read a region's store, linearizably; its copy learns what was read.
    Read(RegionName),
    Write(Box<StoreWrite>),
    /// Ask a leader over SQL what a preflight must know.
    Probe(Target),
    Checkpoint(Target),
    /// Keep the leaders from deciding distributed transactions, until `Effect::End`. If
    /// the driver's host is lost, their servers end it by themselves after `limit_ms`.
    Hold {
        targets: Vec<Target>,
        limit_ms: u64,
    },
    /// Ask a leader how far it has replayed.
    Replayed(Target),
    /// Make a standby look at once at what it has received.
    WakeReplay(Target),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Elect,
    Resign,
}

/// A write of one region's store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreWrite {
    /// The region whose store is written.
    pub region: RegionName,
    /// What that store was seen to hold.
    pub on: Arc<Site>,
    pub key: AgentKey,
    pub write: AgentWrite,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AgentWrite {
    /// The policy, where there is none.
    Policy(Policy),
    CreateFirst(Box<Certificate>),
    /// Accept a certificate, with the journal of the move that brought it.
    Adopt {
        certificate: Box<Certificate>,
        journal: Option<Journal>,
    },
    /// The mark of this epoch, on the agent's lease.
    Verify(u64),
    /// The acceptor beside the vote.
    Record(Box<Acceptor>),
    Peer(PeerRegion),
    Journal(Journal),
    /// A copy of a schedule, as it is.
    Schedule(Box<Schedule>),
    RemoveSchedule(String),
    /// What became of a schedule's present occurrence, and with it the request of the
    /// move that it starts.
    Conclude {
        id: String,
        outcome: Outcome,
        journal: Option<Box<Journal>>,
        now_ms: u64,
    },
    /// The decision of a planned move.
    Commit {
        now_ms: u64,
        at: String,
    },
    /// The decision, told to the new owner.
    Deliver {
        certificate: Box<Certificate>,
        journal: Journal,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Read(Arc<Site>),
    /// The write happened; the copy shows it.
    Written,
    /// A comparison did not hold.
    Conflict,
    /// The site that the write was decided on leaves nothing to write.
    NothingToWrite,
    Probed(Box<Probe>),
    /// A checkpoint took that long.
    Took(u64),
    Replayed(Replayed),
    /// The call did what it had to do.
    Done,
    /// It failed, or nothing came within the deadline. It may have happened.
    Failed(String),
}

impl Answer {
    /// Why it failed; any answer that does not fit the call is a failure, too.
    pub fn failure(&self) -> String {
        match self {
            Answer::Failed(why) => why.clone(),
            other => format!("{other:?} is no answer to this call"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Debug,
    Info,
    Warn,
    Error,
}
