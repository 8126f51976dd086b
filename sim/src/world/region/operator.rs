//! What an operator asks of the regions: a move, now or later, and its end.
//!
//! The operator reaches the stores of all regions.

use super::region_name;
use crate::world::World;
use node::region::ownership::{read, read_site};
use node::region::request::with_abort;
use standby::switch::LocalTopology;
use standby::switch::request::requested;
use standby::switch::write::{put_schedule, write_journal};
use topology::RegionName;
use topology::region::AbortRequest;
use topology::schedule::{CronLine, Limits, Schedule};

const HOST: &str = "desk";
const WINDOW_MINUTES: u64 = 10;

impl World {
    /// An operator asks for a move away from the owner, if that is possible now.
    pub fn ask_for_move(&mut self) {
        for region in 0..self.stores.regions.len() {
            let keys = self.members[0].keys.clone();
            let site = read_site(&keys, &self.stores.snapshot(region).entries);
            let (from, to) = (region_name(region), self.next_region(region));
            let limits = Limits::default();
            let Ok(journal) = requested(&site, &from, &to, &limits, self.unix_ms()) else {
                continue;
            };
            let write = write_journal(&site.topology, &journal);
            let asked = self.stores.regions[region].write_now(&keys, &write);
            self.note(format!("move {} asked for: {asked:?}", journal.id));
            return;
        }
    }

    /// A schedule `id` of a move away from the owner, in the stores of all regions.
    pub fn schedule_move(&mut self, id: &str, due_ms: u64, cron: Option<CronLine>) {
        let owners = (0..self.stores.regions.len()).filter_map(|region| {
            let certificate = self.topology_of(region).certificate()?.clone();
            (certificate.owner == region_name(region)).then_some((region, certificate.epoch))
        });
        let Some((owner, epoch)) = owners.max_by_key(|(_, epoch)| *epoch) else { return };
        let schedule = Schedule {
            id: id.to_string(),
            from: region_name(owner),
            to: self.next_region(owner),
            epoch,
            revision: 1,
            host: HOST.to_string(),
            cron,
            due_ms: Some(due_ms),
            window_minutes: WINDOW_MINUTES,
            limits: Limits::default(),
            last: None,
        };
        let keys = self.members[0].keys.clone();
        for region in 0..self.stores.regions.len() {
            let write = put_schedule(&self.topology_of(region), &schedule, None);
            let made = self.stores.regions[region].write_now(&keys, &write);
            self.note(format!("schedule {id} made: {made:?}"));
        }
    }

    /// An operator asks that the running move be given up. `Err`: why that is refused.
    pub fn ask_for_abort(&mut self) -> Result<(), String> {
        let under_way = (0..self.stores.regions.len()).find_map(|region| {
            let local = self.topology_of(region);
            let here = region_name(region);
            let journal = local.journal().filter(|j| j.from == here && !j.phase.is_over())?;
            Some((region, journal.id.clone(), local.clone()))
        });
        let (region, id, local) = under_way.ok_or("no move is under way")?;
        let request = AbortRequest { host: HOST.to_string(), at_ms: self.unix_ms() };
        let asked = with_abort(&local, &id, &request).map_err(|why| why.to_string())?;
        if let Some(journal) = asked {
            let keys = self.members[0].keys.clone();
            let write = write_journal(&local, &journal);
            let written = self.stores.regions[region].write_now(&keys, &write);
            self.note(format!("abort of move {id} asked for: {written:?}"));
        }
        Ok(())
    }

    pub fn topology_of(&self, region: usize) -> LocalTopology {
        read(&self.members[0].keys, &self.stores.snapshot(region).entries)
    }

    fn next_region(&self, region: usize) -> RegionName {
        region_name((region + 1) % self.stores.regions.len())
    }
}
