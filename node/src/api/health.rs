//! Health checks: which path is answered with 200, and when.
//!
//! Rules are rows: a path, the test, and whether `?tag_NAME=` filters apply.
//! Load balancers decide by the status code alone, so a doubt is a 503.
//!
//! Paths match exactly (a slash at the end aside); everything else is 404 and
//! stands in `endpoints.rs`. Pure: facts in, answer out.

use super::status::{Duty, Facts};
use serde_json::Value;
use topology::number::{Base, split_decimal};
use topology::{Lsn, MemberRole, MemberState, Millis};

/// The options behind `?`, in order.
pub(crate) type Options = [(String, String)];

pub(crate) struct Check {
    pub path: &'static str,
    pub passes: fn(&Facts, &Options) -> bool,
    /// Do `?tag_NAME=VALUE` filters apply?
    pub by_tags: bool,
    /// Which members pass, for the page.
    pub about: &'static str,
}

type Passes = fn(&Facts, &Options) -> bool;

const fn plain(path: &'static str, about: &'static str, passes: Passes) -> Check {
    Check { path, passes, by_tags: false, about }
}

const fn by_tags(path: &'static str, about: &'static str, passes: Passes) -> Check {
    Check { path, passes, by_tags: true, about }
}

const PRIMARY: &str = "200 for the leader that accepts writes; 503 on a Citus group that opens after a \
     region move (quarantine)";
const STANDBY_LEADER: &str = "200 for the leader of a standby cluster or region";
const SYNC: &str = "200 for a replica that `/sync` names, in priority mode";
const ASYNC: &str = "200 for a replica that `/sync` does not name";
const READ_ONLY_SYNC: &str = "200 for a leader, and where `/sync` has 200";

pub(crate) const CHECKS: &[Check] = &[
    plain("/", PRIMARY, |f, _| primary(f)),
    plain("/primary", PRIMARY, |f, _| primary(f)),
    plain("/master", PRIMARY, |f, _| primary(f)),
    plain("/read-write", PRIMARY, |f, _| primary(f)),
    plain("/standby-leader", STANDBY_LEADER, |f, _| standby_leader(f)),
    plain("/standby_leader", STANDBY_LEADER, |f, _| standby_leader(f)),
    plain("/leader", "200 for the leader of either kind", |f, _| leader(f)),
    by_tags("/replica", "200 for a replica that runs, without the tag `noloadbalance`", replica),
    by_tags("/read-only", "200 for a leader, and where `/replica` has 200", |f, o| {
        leads_readers(f) || replica(f, o)
    }),
    by_tags("/health", "200 while PostgreSQL runs and answers", |f, _| f.is_running),
    by_tags("/sync", SYNC, |f, o| with_duty(f, o, Duty::Sync)),
    by_tags("/synchronous", SYNC, |f, o| with_duty(f, o, Duty::Sync)),
    by_tags("/quorum", "200 for a replica that `/sync` names, in quorum mode", |f, o| {
        with_duty(f, o, Duty::Quorum)
    }),
    by_tags("/async", ASYNC, asynchronous),
    by_tags("/asynchronous", ASYNC, asynchronous),
    by_tags("/read-only-quorum", "200 for a leader, and where `/quorum` has 200", |f, o| {
        read_only_with(f, o, Duty::Quorum)
    }),
    by_tags("/read-only-sync", READ_ONLY_SYNC, |f, o| read_only_with(f, o, Duty::Sync)),
    by_tags("/read-only-synchronous", READ_ONLY_SYNC, |f, o| read_only_with(f, o, Duty::Sync)),
];

/// Without the slash at the end, except for the root itself.
pub(crate) fn normal_path(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    }
}

pub(crate) fn find(path: &str) -> Option<&'static Check> {
    let path = normal_path(path);
    CHECKS.iter().find(|check| check.path == path)
}

impl Check {
    pub(crate) fn is_passed(&self, facts: &Facts, options: &Options) -> bool {
        (!self.by_tags || tags_match(facts, options)) && (self.passes)(facts, options)
    }
}

/// In quarantine sessions are read-only: a proxy would send writers into errors.
fn primary(facts: &Facts) -> bool {
    open_primary(facts) && !facts.published.quarantined
}

fn open_primary(facts: &Facts) -> bool {
    let leads = holds(facts, &[MemberRole::Primary]) && accepts_connections(facts);
    leads && !facts.published.standby_group
}

/// As far as is known: a server that does not answer just now keeps its clients, one
/// that starts, leaves recovery or is down gets none.
fn accepts_connections(facts: &Facts) -> bool {
    let may_answer = facts.monitor.is_some() || facts.published.state == MemberState::Running;
    facts.role == MemberRole::Primary && may_answer
}

fn standby_leader(facts: &Facts) -> bool {
    let standby = matches!(facts.role, MemberRole::Replica | MemberRole::StandbyLeader);
    facts.published.standby_group && standby && holds(facts, &[MemberRole::StandbyLeader])
}

fn leader(facts: &Facts) -> bool {
    holds(facts, &[MemberRole::Primary, MemberRole::StandbyLeader])
}

fn leads_readers(facts: &Facts) -> bool {
    open_primary(facts) || standby_leader(facts)
}

/// The lock; while paused and without any picture of the group, the role.
fn holds(facts: &Facts, roles: &[MemberRole]) -> bool {
    if facts.published.view.is_none() && facts.published.paused {
        return roles.contains(&facts.role);
    }
    facts.is_leader
}

fn replica(facts: &Facts, options: &Options) -> bool {
    let leads_standbys = facts.published.standby_group && facts.is_leader;
    !facts.published.tags.noloadbalance()
        && facts.role == MemberRole::Replica
        && !leads_standbys
        && facts.is_running
        && lag_is_fine(facts, options)
        && option(options, "replication_state")
            .is_none_or(|wanted| facts.replication_state() == Some(wanted))
}

fn lag_is_fine(facts: &Facts, options: &Options) -> bool {
    let Some(limit) = option(options, "lag").and_then(parse_bytes) else {
        return true;
    };
    let replayed = facts.monitor.and_then(|m| m.replay).unwrap_or_default();
    facts.known_end().unwrap_or_default().0 <= replayed.0.saturating_add(limit)
}

fn with_duty(facts: &Facts, options: &Options, duty: Duty) -> bool {
    facts.published.view.is_some() && facts.duty == Some(duty) && replica(facts, options)
}

fn asynchronous(facts: &Facts, options: &Options) -> bool {
    facts.published.view.is_some() && facts.duty.is_none() && replica(facts, options)
}

fn read_only_with(facts: &Facts, options: &Options, duty: Duty) -> bool {
    let has_picture = facts.published.view.is_some();
    has_picture && (leads_readers(facts) || with_duty(facts, options, duty))
}

fn tags_match(facts: &Facts, options: &Options) -> bool {
    let mut wanted = options.iter().filter_map(|(k, v)| Some((k.strip_prefix("tag_")?, v)));
    let tags = facts.published.tags.published();
    wanted.all(|(name, value)| tags.get(name).is_some_and(|tag| tag_text(tag) == *value))
}

fn tag_text(tag: &Value) -> String {
    tag.as_str().map_or_else(|| tag.to_string().to_lowercase(), str::to_string)
}

/// `GET /liveness`: does the daemon still beat?
pub(crate) fn is_alive(facts: &Facts) -> bool {
    let published = facts.published;
    let leads = published.role == MemberRole::Primary && published.running;
    let patience = if leads { published.ttl_ms } else { 2 * published.ttl_ms };
    let next_beat = published.last_beat + published.loop_wait_ms;
    published.paused || facts.now < next_beat + patience
}

/// `GET /readiness`: may traffic or a rolling update go on to the next one?
pub(crate) fn is_ready(facts: &Facts, options: &Options) -> bool {
    if facts.is_leader {
        return true;
    }
    let streams = facts.is_running && facts.replication_state() == Some("streaming");
    let (true, Some(monitor), Some(end)) = (streams, facts.monitor, facts.known_end()) else {
        return false;
    };
    let here = match option(options, "mode") {
        Some("write") => monitor.receive.or(monitor.replay),
        _ => monitor.replay,
    };
    let limit = option(options, "lag").and_then(parse_bytes);
    let limit = limit.unwrap_or(facts.published.maximum_lag_on_failover);
    here.is_some_and(|here: Lsn| here.behind(end) <= limit)
}

fn option<'a>(options: &'a Options, name: &str) -> Option<&'a str> {
    options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// `16`, `16MB`, `1.5 GB`; `None` for anything else.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_decimal(text);
    let factor = Base::Bytes.factor(unit)?;
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor as u64),
        Err(_) => number.parse::<f64>().ok().map(|n| (n * factor) as u64),
    }
}

/// When an answer of the monitoring query is too old for a health check.
pub(crate) fn is_recent(at: Millis, now: Millis, age_ms_max: u64) -> bool {
    now.since(at) < age_ms_max
}
