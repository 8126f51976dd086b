//! Everything that can happen to the regions.

/// What happens next. Regions and sites are named by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The daemons of a region see their own store, and write it to their disk.
    Watch(usize),
    /// The owner begins a move.
    Move(usize),
    /// The owner's group stops for the move.
    Stop(usize),
    Abort(usize),
    Open(usize),
    Close(usize),
    /// The daemons of a region start anew, with what is on their disk.
    Crash(usize),
    /// A mover of the owner accepts a certificate for another region in its own store, in round
    /// 0. Two movers of one region differ in the certificate.
    AcceptOwn {
        by: usize,
        to: usize,
        variant: u8,
    },
    /// What the own store accepted is written into the store of another region.
    Carry {
        by: usize,
        to: usize,
    },
    /// The same, but the write arrives later, at any time and more than once.
    Post {
        by: usize,
        to: usize,
    },
    Land(usize),
    Claim(usize),
    Promise {
        by: usize,
        at: usize,
    },
    /// The owner is found to be fenced, and it is.
    Prove(usize),
    /// The owner is said to be fenced, and it is not.
    Lie(usize),
    Propose {
        by: usize,
        heard: u8,
        what: What,
    },
    /// The region finds what was chosen in its instance.
    Elect(usize),
    Learn {
        by: usize,
        from: usize,
    },
    /// The region confirms its epoch after a start.
    Grant(usize),
    /// A copy of the store is made.
    Save(usize),
    /// The store becomes what it was when the copy was made.
    Restore(usize),
    Wipe(usize),
    Seed(usize),
}

/// Which certificate a region proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The one that may have been chosen.
    Bound,
    /// One that cannot have been chosen, once more.
    Again,
    Reclaim,
    Forced,
}

/// All events of a formation with this number of sites, whether they can happen now or not.
pub(super) fn all(sites: usize, movers: u8, late: usize) -> Vec<Event> {
    let mut events: Vec<Event> = (0..sites).flat_map(of_one_region).collect();
    for by in 0..sites {
        for to in (0..sites).filter(|to| *to != by) {
            let variants = 0..movers;
            events.extend(variants.map(|variant| Event::AcceptOwn { by, to, variant }));
            events.extend([Event::Carry { by, to }, Event::Post { by, to }]);
            events.extend([Event::Promise { by, at: to }, Event::Learn { by, from: to }]);
        }
        for heard in (0..1 << sites).filter(|heard| heard & (1 << by) != 0) {
            let whats = [What::Bound, What::Again, What::Reclaim, What::Forced];
            events.extend(whats.map(|what| Event::Propose { by, heard, what }));
        }
    }
    events.extend((0..late).map(Event::Land));
    events
}

fn of_one_region(at: usize) -> [Event; 16] {
    [
        Event::Watch(at),
        Event::Move(at),
        Event::Stop(at),
        Event::Abort(at),
        Event::Open(at),
        Event::Close(at),
        Event::Crash(at),
        Event::Claim(at),
        Event::Prove(at),
        Event::Lie(at),
        Event::Elect(at),
        Event::Grant(at),
        Event::Save(at),
        Event::Restore(at),
        Event::Wipe(at),
        Event::Seed(at),
    ]
}

/// What agents do by themselves, the most urgent first: what is chosen is learnt before a ballot is
/// finished, and a ballot is finished before another one is claimed.
pub(super) fn towards_rest(sites: usize) -> Vec<Event> {
    let all = all(sites, 0, 0);
    let mut events: Vec<_> = all.into_iter().filter(|event| urgency(*event).is_some()).collect();
    events.sort_by_key(|event| urgency(*event));
    events
}

fn urgency(event: Event) -> Option<u8> {
    match event {
        Event::Watch(_) | Event::Close(_) | Event::Seed(_) => Some(0),
        Event::Learn { .. } | Event::Elect(_) => Some(1),
        Event::Abort(_) | Event::Grant(_) => Some(2),
        Event::Open(_) => Some(3),
        Event::Carry { .. } => Some(4),
        Event::Promise { .. } => Some(5),
        Event::Propose { what: What::Bound | What::Reclaim, .. } => Some(6),
        Event::Propose { what: What::Again, .. } => Some(7),
        Event::Claim(_) => Some(8),
        _ => None,
    }
}
