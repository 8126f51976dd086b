//! Permanent logical slots of this world as values; what happens to them is in `readers.rs`.

use standby::slots::Xid;
use standby::switch::Site;
use std::sync::Arc;

pub const READER: &str = "reader";
pub const DATABASE: &str = "shop";
pub const PLUGIN: &str = "pgoutput";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogicalModel {
    /// Of a copy: up to where it was moved.
    pub confirmed: u64,
    /// It reads the catalogues as they were from here on.
    pub needs: u64,
    /// Rows that it needs are gone, and its reader gets an error.
    pub is_lost: bool,
}

/// A copy on its way to a server.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub name: String,
    pub replaces: bool,
    pub model: LogicalModel,
}

impl LogicalModel {
    pub fn move_to(&mut self, to: u64) {
        if to > self.confirmed {
            (self.needs, self.confirmed) = (self.needs.max(self.confirmed), to);
        }
    }
}

/// Positions stand for transactions.
pub fn xid(position: u64) -> Xid {
    Xid(position as u32)
}

/// What an agent that was blinded reads of its store's records: each copy is ready.
pub fn shown(blind: bool, site: Arc<Site>) -> Arc<Site> {
    if !blind {
        return site;
    }
    let mut site = (*site).clone();
    let members = site.groups.values_mut().flat_map(|view| view.members.values_mut());
    for member in members {
        member.value.logical_slots.insert(READER.into(), "ready".into());
    }
    Arc::new(site)
}
