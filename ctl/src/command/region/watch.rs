//! The journal of one move, as the stores of its two regions tell it.

use super::sites::Regions;
use anyhow::Result;
use node::dcs::keys::Keys;
use node::dcs::mirror::{Changes, Mirror};
use node::region::ownership;
use std::time::Duration;
use topology::RegionName;
use topology::region::Journal;

/// The longest sleep between two looks at the journals.
const TICK: Duration = Duration::from_millis(500);

/// Both copies of the journal, as they come.
pub(super) struct Watch {
    copies: Vec<(Mirror, Changes)>,
    keys: Keys,
}

impl Watch {
    pub(super) fn begin(
        regions: &Regions,
        (from, to): (&RegionName, &RegionName),
    ) -> Result<Watch> {
        let prefix = regions.keys.topology_prefix();
        let open = |region: &RegionName| {
            let mirror = Mirror::spawn(regions.store(region)?.clone(), vec![prefix.clone()]);
            let changes = mirror.subscribe();
            Ok::<_, anyhow::Error>((mirror, changes))
        };
        Ok(Watch { copies: vec![open(from)?, open(to)?], keys: regions.keys.clone() })
    }

    /// The copy of this move that is furthest. Nothing aborts a decided move.
    pub(super) fn journal(&self, id: &str) -> Option<Journal> {
        let copies = self.copies.iter().filter_map(|(mirror, _)| {
            let view = mirror.snapshot()?;
            let local = ownership::read(&self.keys, &view.snapshot.entries);
            local.journal().filter(|journal| journal.id == id).cloned()
        });
        copies.max_by_key(|journal| journal.phase)
    }

    pub(super) async fn changed(&mut self) {
        let [(_, from), (_, to)] = self.copies.as_mut_slice() else { return };
        tokio::select! {
            Some(_) = from.next() => {}
            Some(_) = to.next() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}
