//! What may be wrong, as rows: a code, how bad it is, when it is so, and what to do.
//!
//! Every row is asked, and one may apply to several objects. What concerns the whole formation
//! (leaders, regions, circles, names, routes) are the findings of its graph, with the codes that
//! `GET /topology` has.

use super::seen::Seen;
use super::when::*;
use node::api::slots::warning;
use topology::graph::Level;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// The word for it that scripts use.
    pub code: &'static str,
    pub level: Level,
    pub object: String,
    pub text: String,
    pub remedy: &'static str,
}

/// One thing that may be wrong.
pub(super) struct Row {
    /// Never used for another row.
    pub code: &'static str,
    pub level: Level,
    /// The objects to which it applies, each with the reason.
    when: fn(&Seen) -> Vec<Hit>,
    pub remedy: &'static str,
}

/// The rows, in the order in which they are shown among those of one level.
pub(super) const ROWS: &[Row] = &[
    Row {
        code: "member-silent",
        level: Level::Error,
        when: |seen| each_member(seen, |told| told.status.as_ref().err().cloned()),
        remedy: "start its daemon, or check the network and the certificates of its REST API",
    },
    Row {
        code: "store-unseen",
        level: Level::Error,
        when: store_unseen,
        remedy: "check the network between this member and the store, and the store's servers",
    },
    Row {
        code: "failsafe-active",
        level: Level::Error,
        when: |seen| {
            flag(
                seen,
                "/failsafe_mode_is_active",
                "leads by failsafe mode: it does not reach the store",
            )
        },
        remedy: "bring the store back; until then no other member can take over",
    },
    Row {
        code: "needs-a-person",
        level: Level::Error,
        when: |seen| each_member(seen, |told| told.member.record.reason.clone()),
        remedy: "see `explain` of this member, and its log",
    },
    Row {
        code: "not-running",
        level: Level::Error,
        when: not_running,
        remedy: "see the logs of its daemon and of its PostgreSQL",
    },
    Row {
        code: "other-system",
        level: Level::Error,
        when: other_system,
        remedy: "its data are of another cluster: correct its data_dir or its scope",
    },
    Row {
        code: "disk-failed",
        level: Level::Error,
        when: |seen| flag(seen, "/disk_failed", "its disk takes no new files"),
        remedy: "free space, or remount the file system for writing",
    },
    Row {
        code: "watchdog-failed",
        level: Level::Error,
        when: |seen| flag(seen, "/watchdog_failed", "its watchdog cannot be used"),
        remedy: "load the module (softdog), let the daemon's user open watchdog.device, or set watchdog.mode",
    },
    Row {
        code: "config-unreadable",
        level: Level::Error,
        when: |seen| {
            each_group(seen, |view, _| {
                let lines = view
                    .unreadable
                    .iter()
                    .map(|(key, why)| format!("/{key} makes no sense: {why}"));
                lines.collect()
            })
        },
        remedy: "correct it with `edit-config`, or write the key anew",
    },
    Row {
        code: "slot-lost",
        level: Level::Error,
        when: |seen| {
            each_slot(seen, |_, slot| {
                let is_lost = slot.wal_status.as_deref() == Some("lost");
                is_lost.then(|| "the WAL that it needs is gone".to_string())
            })
        },
        remedy: "its reader needs a new copy (`reinit` of a member); then drop the slot",
    },
    Row {
        code: "standby-settings",
        level: Level::Error,
        when: standby_settings,
        remedy: "a standby must not have less than its primary: raise it in the file of that member",
    },
    Row {
        code: "paused",
        level: Level::Warning,
        when: |seen| {
            each_group(seen, |view, _| {
                view.is_paused()
                    .then(|| "automatic failover is off (pause)".to_string())
                    .into_iter()
                    .collect()
            })
        },
        remedy: "`resume` when the maintenance is over",
    },
    Row {
        code: "no-successor",
        level: Level::Warning,
        when: no_successor,
        remedy: "add a member, or remove the tag nofailover of one",
    },
    Row {
        code: "failsafe-off",
        level: Level::Warning,
        when: failsafe_off,
        remedy: "`edit-config -s failsafe_mode=true`, or a store of three servers",
    },
    Row {
        code: "store-slow",
        level: Level::Warning,
        when: store_slow,
        remedy: "give the store faster disks and a nearer network, or raise ttl with `edit-config`",
    },
    Row {
        code: "watchdog-missing",
        level: Level::Warning,
        when: watchdog_missing,
        remedy: "load the module of its watchdog (softdog will do), or set watchdog.mode: required, so that this member does not lead without one",
    },
    Row {
        code: "config-ignored",
        level: Level::Warning,
        when: |seen| {
            each_group(seen, |_, dynamic| dynamic.ignored.iter().map(ToString::to_string).collect())
        },
        remedy: "the default is used: correct the value with `edit-config`",
    },
    Row {
        code: "config-differs",
        level: Level::Warning,
        when: config_differs,
        remedy: "look again after loop_wait; else see whether this member reaches the store",
    },
    Row {
        code: "no-synchronous-standby",
        level: Level::Warning,
        when: no_synchronous_standby,
        remedy: "start a standby that may be synchronous (no tag nosync), or see its lag",
    },
    Row {
        code: "not-streaming",
        level: Level::Warning,
        when: not_streaming,
        remedy: "see its PostgreSQL's log; `reinit` if the WAL that it needs is gone",
    },
    Row {
        code: "lag",
        level: Level::Warning,
        when: lag,
        remedy: "check its network and its disk, and long queries on it that hold up replay",
    },
    Row {
        code: "timeline-behind",
        level: Level::Warning,
        when: timeline_behind,
        remedy: "see `explain` of this member; `reinit` if it cannot follow",
    },
    Row {
        code: "pending-restart",
        level: Level::Warning,
        when: pending_restart,
        remedy: "`restart SCOPE --pending`, replicas first",
    },
    Row {
        code: "slot-inactive",
        level: Level::Warning,
        when: slot_inactive,
        remedy: "start its reader, or drop the slot if nothing needs it",
    },
    Row {
        code: "slot-danger",
        level: Level::Warning,
        when: |seen| each_slot(seen, |_, slot| warning(slot, None)),
        remedy: "bring its reader back before the WAL is gone",
    },
    Row {
        code: "logical-slot-not-ready",
        level: Level::Warning,
        when: logical_slot_not_ready,
        remedy: "a reader cannot go on here after a failover yet: see `slots`",
    },
    Row {
        code: "settings-differ",
        level: Level::Warning,
        when: settings_differ,
        remedy: "set it with `edit-config -p`, and remove it from the members' files",
    },
    Row {
        code: "versions-differ",
        level: Level::Warning,
        when: versions_differ,
        remedy: "update the members one by one, replicas first",
    },
    Row {
        code: "known-fault",
        level: Level::Warning,
        when: known_fault,
        remedy: "update PostgreSQL to its latest minor version",
    },
    Row {
        code: "clock-differs",
        level: Level::Warning,
        when: clock_differs,
        remedy: "run chrony or another NTP client on all machines",
    },
];

/// Everything that was found, errors first.
pub(super) fn findings(seen: &Seen) -> Vec<Finding> {
    let of_formation = seen.formation.iter().map(|(object, finding)| Finding {
        code: finding.code(),
        level: finding.level(),
        object: object.clone(),
        text: finding.to_string(),
        remedy: finding.remedy(),
    });
    let of_row = |row: &Row| {
        let finding = |hit: Hit| Finding {
            code: row.code,
            level: row.level,
            object: hit.object,
            text: hit.text,
            remedy: row.remedy,
        };
        (row.when)(seen).into_iter().map(finding).collect::<Vec<_>>()
    };
    let mut found: Vec<Finding> = of_formation.chain(ROWS.iter().flat_map(of_row)).collect();
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}
