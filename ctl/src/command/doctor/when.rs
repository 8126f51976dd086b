//! When each row of `doctor` applies: pure functions of what was seen.
//!
//! Invariant *unknown is not absent*: what was not told makes no row apply, but that which says
//! that a member did not answer.

use super::seen::{Seen, Told};
use node::api::slots::SlotReport;
use serde_json::Value;
use standby::switch::preflight::STANDBY_SETTINGS;
use std::collections::{BTreeMap, BTreeSet};
use topology::report::synchronous_mode;
use topology::{Dynamic, GroupView, SyncMode};

/// An object to which a row applies, and the reason.
pub(super) struct Hit {
    pub object: String,
    pub text: String,
}

/// Clocks may differ by this much.
const CLOCK_MS_MAX: i64 = 1_000;
const MEGABYTE: u64 = 1 << 20;
/// Releases of PostgreSQL with a fault that damages data: from, up to before, what.
const FAULTS: [(u64, u64, &str); 1] =
    [(140_000, 140_004, "CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY may damage indexes")];

pub(super) fn each_member(seen: &Seen, when: impl Fn(&Told) -> Option<String>) -> Vec<Hit> {
    let hit = |told: &Told| Some(Hit { object: told.name(), text: when(told)? });
    seen.members.iter().filter_map(hit).collect()
}

pub(super) fn flag(seen: &Seen, key: &str, text: &str) -> Vec<Hit> {
    each_member(seen, |told| told.says(key).then(|| text.to_string()))
}

pub(super) fn each_group(
    seen: &Seen,
    when: impl Fn(&GroupView, &Dynamic) -> Vec<String>,
) -> Vec<Hit> {
    let hits = |(object, view, dynamic): (String, &GroupView, Dynamic)| {
        let texts = when(view, &dynamic).into_iter();
        texts.map(|text| Hit { object: object.clone(), text }).collect::<Vec<_>>()
    };
    seen.each_group().flat_map(hits).collect()
}

pub(super) fn each_slot(
    seen: &Seen,
    when: impl Fn(&Told, &SlotReport) -> Option<String>,
) -> Vec<Hit> {
    let of = |told: &Told| {
        let slots = told.slots.iter().flatten();
        let hit = |slot: &SlotReport| {
            let text = when(told, slot)?;
            Some(Hit { object: format!("{}, slot {}", told.name(), slot.name), text })
        };
        slots.filter_map(hit).collect::<Vec<_>>()
    };
    seen.members.iter().flat_map(of).collect()
}

/// By the member's own clock.
pub(super) fn store_unseen(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let ttl_s =
            seen.view(told.member.group).config.as_ref().map_or(30, |c| c.value.ttl_ms / 1000);
        let last_s = told.said("/dcs_last_seen")?.as_u64()?;
        let now_s = told.date_s?;
        let ago_s = now_s.saturating_sub(last_s);
        (ago_s > ttl_s).then(|| format!("it has not reached the store for {ago_s} s"))
    })
}

pub(super) fn not_running(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let said = told.said("/state").and_then(Value::as_str);
        let state = said.unwrap_or(&told.member.record.state);
        let runs = ["running", "streaming", "in archive recovery"].contains(&state);
        (!runs).then(|| format!("its PostgreSQL is not running: {state}"))
    })
}

pub(super) fn other_system(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let of_group = seen.view(told.member.group).initialize.as_ref()?.value.as_ref()?;
        let own = told.said("/database_system_identifier")?.as_str()?;
        let same = own == of_group.to_string();
        (!same).then(|| format!("its system identifier is {own}, the cluster's is {of_group}"))
    })
}

/// A leader alone is one machine away from an outage.
pub(super) fn no_successor(seen: &Seen) -> Vec<Hit> {
    each_group(seen, |view, _| {
        let Some(leader) = view.leader_name() else { return Vec::new() };
        let mut others = view.members.iter().filter(|(name, _)| *name != leader);
        let may_lead = others.any(|(_, member)| {
            let record = &member.value;
            !record.tags.nofailover() && record.tags.failover_priority() > 0 && record.is_running()
        });
        let text = "no other member runs that could take over";
        (!may_lead).then(|| text.to_string()).into_iter().collect()
    })
}

fn number(told: &Told, name: &str) -> Option<u64> {
    told.settings.as_ref()?.get(name)?.parse().ok()
}

/// The leader that a member follows, as far as it was asked.
fn leader_of<'a>(seen: &'a Seen, told: &Told) -> Option<&'a Told> {
    let is_leader = |other: &&Told| other.member.group == told.member.group && other.leads(seen);
    seen.members.iter().find(is_leader).filter(|leader| leader.member.name != told.member.name)
}

pub(super) fn standby_settings(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let leader = leader_of(seen, told)?;
        let lower = STANDBY_SETTINGS.iter().filter_map(|name| {
            let (own, wanted) = (number(told, name)?, number(leader, name)?);
            (own < wanted).then(|| format!("{name} is {own}, the leader's is {wanted}"))
        });
        Some(lower.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
    })
}

pub(super) fn failsafe_off(seen: &Seen) -> Vec<Hit> {
    if seen.store_servers != Some(1) {
        return Vec::new();
    }
    each_group(seen, |_, dynamic| {
        let text = "the configuration names one server of the store, and failsafe_mode is off: \
                    the leader's PostgreSQL stops while that server is away";
        (!dynamic.failsafe_mode).then(|| text.to_string()).into_iter().collect()
    })
}

pub(super) fn store_slow(seen: &Seen) -> Vec<Hit> {
    each_group(seen, |_, dynamic| {
        let (ttl, safe, slowest) = (dynamic.ttl_ms / 1000, seen.safe_ttl_s(), seen.store_ms);
        let text = format!(
            "the slowest read of the store took {slowest} ms; ttl is {ttl} s, and {safe} s is the \
             smallest in which the lock is renewed safely"
        );
        (safe > ttl).then_some(text).into_iter().collect()
    })
}

/// Where other members of the group have one: that none has may be a choice.
pub(super) fn watchdog_missing(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let others = seen.members.iter().filter(|other| other.member.group == told.member.group);
        let mut with_one = others.filter(|other| other.watchdog == Some(true));
        let other = with_one.next().filter(|_| told.watchdog == Some(false))?;
        Some(format!("it has no watchdog, {} has one", other.member.name))
    })
}

/// A member that goes by an older copy of the store.
pub(super) fn config_differs(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let stored = &seen.view(told.member.group).config.as_ref()?.value.raw;
        let own = told.config.as_ref()?;
        (own != stored).then(|| "it goes by another configuration than the store holds".to_string())
    })
}

pub(super) fn no_synchronous_standby(seen: &Seen) -> Vec<Hit> {
    each_group(seen, |view, dynamic| {
        let is_on = synchronous_mode(view) != SyncMode::Off && view.leader_name().is_some();
        let has_one = view.sync.as_ref().is_some_and(|sync| !sync.value.standbys.is_empty());
        let text = match dynamic.synchronous_mode_strict {
            true => "no standby is synchronous: writes wait until one is (synchronous_mode_strict)",
            false => "no standby is synchronous: a commit may be lost with the leader",
        };
        (is_on && !has_one).then(|| text.to_string()).into_iter().collect()
    })
}

pub(super) fn not_streaming(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let report = told.report(seen);
        let streams = told.member.record.replication_state.as_deref() == Some("streaming");
        // A region's or a cluster's standby leader may have an archive alone.
        let should = !report.role.leads() && report.streams() && told.member.record.is_running();
        (should && !streams).then(|| "it runs and does not stream from another member".to_string())
    })
}

pub(super) fn lag(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let view = seen.view(told.member.group);
        let limit = view.config.as_ref().map_or(MEGABYTE, |c| c.value.maximum_lag_on_failover);
        let report = told.report(seen);
        let [receive, replay] = report.receive_and_replay();
        let of = |what: &str, bytes: Option<&u64>| {
            let bytes = bytes.filter(|bytes| **bytes > limit)?;
            Some(format!("{} behind in {what}", size(*bytes)))
        };
        let receive = of("receiving", receive.lag_bytes.known());
        let lags = [receive, of("replaying", replay.lag_bytes.known())];
        let lags: Vec<String> = lags.into_iter().flatten().collect();
        let text = format!("it is {} (maximum_lag_on_failover: {})", lags.join(", "), size(limit));
        (!lags.is_empty()).then_some(text)
    })
}

fn size(bytes: u64) -> String {
    match bytes {
        0..MEGABYTE => format!("{} kB", bytes.div_ceil(1024)),
        _ => format!("{} MB", bytes / MEGABYTE),
    }
}

pub(super) fn timeline_behind(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let leader = seen.view(told.member.group).leader_record()?.timeline?;
        let own = told.member.record.timeline?;
        (own < leader).then(|| format!("it is on timeline {own}, the leader on {leader}"))
    })
}

pub(super) fn pending_restart(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let record = &told.member.record;
        let names = record.pending_restart_reason.as_ref().and_then(Value::as_object);
        let names: Vec<&str> =
            names.iter().flat_map(|map| map.keys().map(String::as_str)).collect();
        let of = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        record.pending_restart.then(|| format!("settings take effect after a restart{of}"))
    })
}

/// On the leader: a slot on a standby waits for the day when that one leads.
pub(super) fn slot_inactive(seen: &Seen) -> Vec<Hit> {
    each_slot(seen, |told, slot| {
        let counts = told.leads(seen) && !slot.active && slot.wal_status.as_deref() != Some("lost");
        let holder = slot.holder.as_deref().unwrap_or("not known");
        let kept = slot.distance_bytes.map_or("an unknown amount".to_string(), size);
        counts.then(|| format!("it has no reader (holder: {holder}) and keeps {kept} of WAL"))
    })
}

pub(super) fn logical_slot_not_ready(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let slots = told.member.record.logical_slots.iter().filter(|(_, word)| *word != "ready");
        let slots: Vec<String> = slots.map(|(name, word)| format!("{name} is {word}")).collect();
        (!slots.is_empty()).then(|| slots.join(", "))
    })
}

/// What members of one group say differently: the values, each with its members.
fn differing<T: Ord + ToString>(
    seen: &Seen,
    value: impl Fn(&Told) -> Option<T>,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for group in seen.groups.keys() {
        let mut by_value: BTreeMap<T, Vec<&str>> = BTreeMap::new();
        let members = seen.members.iter().filter(|told| told.member.group == *group);
        for told in members {
            if let Some(value) = value(told) {
                by_value.entry(value).or_default().push(told.member.name.as_str());
            }
        }
        if by_value.len() > 1 {
            let list = by_value.iter();
            let list =
                list.map(|(value, names)| format!("{} on {}", value.to_string(), names.join(", ")));
            let object = group.0.map_or("cluster".to_string(), |number| format!("group {number}"));
            found.push((object, list.collect::<Vec<_>>().join("; ")));
        }
    }
    found
}

pub(super) fn settings_differ(seen: &Seen) -> Vec<Hit> {
    let names = seen.members.iter().flat_map(|told| told.settings.iter().flat_map(|s| s.keys()));
    let names: BTreeSet<&String> = names.collect();
    let of = |name: &String| {
        let values = differing(seen, |told| told.settings.as_ref()?.get(name).cloned());
        let hit = |(object, list)| Hit { object, text: format!("{name} differs: {list}") };
        values.into_iter().map(hit).collect::<Vec<_>>()
    };
    names.into_iter().flat_map(of).collect()
}

fn server_version(told: &Told) -> Option<u64> {
    told.said("/server_version")?.as_u64().filter(|version| *version > 0)
}

pub(super) fn versions_differ(seen: &Seen) -> Vec<Hit> {
    let of_server = |told: &Told| server_version(told).map(in_words);
    let of_daemon =
        |told: &Told| Some(told.member.record.version.clone()).filter(|v| !v.is_empty());
    let servers = differing(seen, of_server).into_iter();
    let servers = servers.map(|(object, list)| (object, format!("PostgreSQL is {list}")));
    let daemons = differing(seen, of_daemon).into_iter();
    let daemons = daemons.map(|(object, list)| (object, format!("the daemon is {list}")));
    servers.chain(daemons).map(|(object, text)| Hit { object, text }).collect()
}

/// 150018 is 15.18.
fn in_words(version: u64) -> String {
    format!("{}.{}", version / 10_000, version % 10_000)
}

pub(super) fn known_fault(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let version = server_version(told)?;
        let (.., fault) = FAULTS.iter().find(|(from, to, _)| (*from..*to).contains(&version))?;
        Some(format!("PostgreSQL {}: {fault}", in_words(version)))
    })
}

pub(super) fn clock_differs(seen: &Seen) -> Vec<Hit> {
    each_member(seen, |told| {
        let clock = told.clock?;
        let (ms, word) = match (clock.at_least_ms, clock.at_most_ms) {
            (ahead, _) if ahead > CLOCK_MS_MAX => (ahead, "ahead of"),
            (_, behind) if behind < -CLOCK_MS_MAX => (-behind, "behind"),
            _ => return None,
        };
        Some(format!("its clock is at least {} s {word} that of this machine", ms / 1000))
    })
}
