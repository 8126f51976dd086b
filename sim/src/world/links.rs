//! Which members and stores can reach each other.
//!
//! Faults overlap, so a link is cut as long as one fault cuts it: every cut is
//! counted, and healing takes one count away.

/// The two conversations between members, cut independently of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Rest,
    Replication,
}

#[derive(Clone, Debug)]
pub struct Links {
    store: Vec<Vec<u32>>,
    rest: Vec<Vec<u32>>,
    replication: Vec<Vec<u32>>,
    /// Stores that answer no member.
    down: Vec<u32>,
    /// Percent of replies that get lost, by store.
    pub lossy: Vec<u64>,
    /// Milliseconds added to every call, by store.
    pub slow: Vec<u64>,
}

impl Links {
    pub fn new(members: usize, regions: usize) -> Links {
        Links {
            store: vec![vec![0; regions]; members],
            rest: vec![vec![0; members]; members],
            replication: vec![vec![0; members]; members],
            down: vec![0; regions],
            lossy: vec![0; regions],
            slow: vec![0; regions],
        }
    }

    pub fn to_store(&self, member: usize, region: usize) -> bool {
        self.down[region] == 0 && self.store[member][region] == 0
    }

    /// TCP needs both directions; a one-way cut stops a conversation too.
    pub fn between(&self, wire: Wire, a: usize, b: usize) -> bool {
        let cuts = self.wire(wire);
        cuts[a][b] == 0 && cuts[b][a] == 0
    }

    fn wire(&self, wire: Wire) -> &Vec<Vec<u32>> {
        match wire {
            Wire::Rest => &self.rest,
            Wire::Replication => &self.replication,
        }
    }

    pub fn cut_store(&mut self, member: usize, region: usize) {
        self.store[member][region] += 1;
    }

    pub fn heal_store(&mut self, member: usize, region: usize) {
        let cuts = &mut self.store[member][region];
        *cuts = cuts.saturating_sub(1);
    }

    pub fn cut(&mut self, wire: Wire, from: usize, to: usize) {
        match wire {
            Wire::Rest => self.rest[from][to] += 1,
            Wire::Replication => self.replication[from][to] += 1,
        }
    }

    pub fn heal(&mut self, wire: Wire, from: usize, to: usize) {
        let cuts = match wire {
            Wire::Rest => &mut self.rest[from][to],
            Wire::Replication => &mut self.replication[from][to],
        };
        *cuts = cuts.saturating_sub(1);
    }

    pub fn take_store_down(&mut self, region: usize) {
        self.down[region] += 1;
    }

    pub fn bring_store_up(&mut self, region: usize) {
        self.down[region] = self.down[region].saturating_sub(1);
    }

    /// Everything works again.
    pub fn heal_all(&mut self) {
        let (members, regions) = (self.rest.len(), self.down.len());
        *self = Links::new(members, regions);
    }
}
