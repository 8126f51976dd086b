//! How far one region is behind another, by what their leaders last published.

use crate::{Group, GroupView, Lsn, Seen};
use std::collections::BTreeMap;

/// Bytes between the ends of the log in `lead` and what `behind` has replayed, of the
/// group that is furthest behind. `Unknown` as soon as it is so of one group.
pub fn lag_bytes(
    lead: &BTreeMap<Group, GroupView>,
    behind: &BTreeMap<Group, GroupView>,
) -> Seen<u64> {
    let of_group = |(group, view): (&Group, &GroupView)| {
        let end = view.leader_record()?.xlog_location?;
        Some(replayed(behind.get(group)?)?.behind(end))
    };
    let lags: Option<Vec<u64>> = lead.iter().map(of_group).collect();
    lags.and_then(|lags| lags.into_iter().max()).map_or(Seen::Unknown, Seen::Known)
}

fn replayed(view: &GroupView) -> Option<Lsn> {
    let leader = view.leader_record()?;
    leader.replay_lsn.or(leader.xlog_location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    fn groups(of: &[(u32, Option<u64>)]) -> BTreeMap<Group, GroupView> {
        let view = |lsn: Option<u64>| {
            let mut view = GroupView::default();
            view.take_sample("leader", "l", 1, 1);
            if let Some(lsn) = lsn {
                view.take_sample("members/l", &format!(r#"{{"xlog_location":{lsn}}}"#), 1, 1);
            }
            view
        };
        of.iter().map(|(number, lsn)| (Group(Some(*number)), view(*lsn))).collect()
    }

    #[test]
    fn the_group_furthest_behind_counts_and_one_unknown_hides_all() {
        let lead = groups(&[(0, Some(100)), (1, Some(100))]);
        let found = |behind: &[(u32, Option<u64>)]| lag_bytes(&lead, &groups(behind));
        assert_eq!(found(&[(0, Some(90)), (1, Some(40))]), Seen::Known(60));
        assert_eq!(found(&[(0, Some(90)), (1, None)]), Seen::Unknown);
        assert_eq!(found(&[(0, Some(90))]), Seen::Unknown);
        assert_eq!(lag_bytes(&groups(&[]), &lead), Seen::Unknown);
    }
}
