//! What the API answers from, and the particulars of the member record.

use super::Daemon;
use crate::api::published::Published;
use crate::api::slots::{self, SlotReport};
use crate::api::status::replication_state;
use crate::clock;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use member::ha::Observation;
use member::ha::observation::Guarding;
use member::{Particulars, Report, reason};
use standby::switch::ownership::Ownership;
use std::sync::Arc;
use std::time::SystemTime;
use topology::{Millis, RemoteEnd};

impl Daemon {
    /// What the record and a leader's documents say beside what was seen.
    pub(super) fn particulars(&self, seen: &Observation) -> Particulars {
        let settings = &self.settings;
        let status = self.server.status();
        let replication = status.and_then(|s| replication_state(s, Some(&seen.dynamic.raw)));
        Particulars {
            unix_ms: clock::unix_ms(),
            conn_url: self.server.served_url(),
            api_url: settings.restapi.api_url(),
            proxy_url: settings
                .postgresql
                .proxy_address
                .as_ref()
                .map(|a| format!("postgres://{a}/postgres")),
            custom_bootstrap: self.has_custom_bootstrap(),
            pending_restart: self.server.pending_restart(),
            replay: status.and_then(|status| status.replay),
            receive: status.and_then(|status| status.receive),
            replication_state: replication.map(str::to_string),
            remote: RemoteEnd {
                lsn: status.filter(|status| status.is_streaming()).and_then(|s| s.latest_end),
                replayed_at: status.and_then(|status| status.replayed_at.clone()),
            },
            slots: self.server.slots(),
            timeline_began: match seen.is_primary() && seen.holds_lock() {
                true => self.timeline_began(seen),
                false => String::new(),
            },
        }
    }

    fn slot_reports(&self, seen: &Observation) -> Vec<SlotReport> {
        let Some(monitor) = self.server.monitored() else { return Vec::new() };
        let known = slots::Known {
            view: seen.view(),
            dynamic: &self.member.dynamic,
            ready: &self.member.logical_slots(),
        };
        slots::reports(monitor, &known)
    }

    fn has_custom_bootstrap(&self) -> bool {
        self.settings.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.method.is_some())
    }

    /// By the file of its history; to the microsecond, for readers in Python take no
    /// more digits.
    fn timeline_began(&self, seen: &Observation) -> String {
        let timeline = seen.server().and_then(|server| server.timeline).unwrap_or_default();
        let data_dir = &self.settings.postgresql.data_dir;
        let began = crate::postgres::history::local_time(data_dir, timeline);
        let began = Timestamp::try_from(began.unwrap_or_else(|_| SystemTime::now()));
        let began = began.unwrap_or_default().to_zoned_datetime(TimeZone::system());
        began.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()
    }

    pub(super) fn publish(&mut self, report: &Report) {
        let seen = &report.seen;
        let lock_until = seen.relied_until();
        let previous = self.published.borrow().clone();
        let view = seen.view().cloned().map(Arc::new).or_else(|| previous.view.clone());
        let known = seen.view().is_some();
        let slots = Arc::new(self.slot_reports(seen));
        self.warn_about_slots(&slots);
        let standby_region = matches!(seen.ownership, Ownership::Standby { .. });
        let published = Published {
            name: self.settings.name.clone(),
            scope: self.settings.scope.clone(),
            state: self.member.state(seen, self.has_custom_bootstrap()),
            role: self.member.role(seen),
            running: seen.server().is_some(),
            lock_until,
            monitor: self.server.status().cloned().map(Arc::new),
            config: view
                .as_ref()
                .and_then(|v| v.config.as_ref())
                .map(|c| Arc::new(c.value.raw.clone())),
            view: view.filter(|_| known || !self.is_store_forgotten()),
            groups: self
                .settings
                .group()
                .is_coordinator()
                .then(|| Arc::new(self.chores.groups.clone())),
            dcs_last_seen: self.store_seen(previous.dcs_last_seen),
            system_id: seen.system().cloned(),
            tags: self.member.memory.effective_tags(&self.settings.tags),
            pending_restart: self.server.pending_restart(),
            scheduled_restart: self.member.planned_restart(),
            paused: self.member.dynamic.pause,
            loop_wait_ms: self.member.dynamic.loop_wait_ms,
            ttl_ms: self.member.dynamic.ttl_ms,
            last_beat: clock::now(),
            failsafe_until: self.failsafe_until(seen),
            failsafe: self.member.peer_set.known().map(Arc::new),
            standby_group: standby_region || self.member.dynamic.standby_cluster.is_some(),
            quarantined: self.member.refuses_writes(seen),
            maximum_lag_on_failover: self.member.dynamic.maximum_lag_on_failover,
            watchdog_failed: matches!(seen.watchdog, Guarding::Broken(_)),
            has_watchdog: matches!(seen.watchdog, Guarding::Ready | Guarding::Armed),
            reason: reason(seen),
            logical_slots: self.member.logical_slots(),
            slots,
            disk_failed: seen.has_failed_disk(),
            log: crate::log::counters(),
            citus: self.citus_numbers(seen),
            writes: self.writes.clone(),
        };
        self.published.send_replace(Arc::new(published));
    }

    /// It answers when its watch or a read brings something, and when it takes a
    /// renewal: a store in which nothing happens is not away.
    fn store_seen(&self, before: u64) -> u64 {
        let (now, unix_ms) = (clock::now(), clock::unix_ms());
        let heard = self.mirror.snapshot().map(|view| {
            let age = view.confirmed.elapsed().as_millis() as u64;
            Millis(now.0.saturating_sub(age))
        });
        let proof = heard.max(self.member.lease.id.map(|_| self.member.lease.renewed));
        proof.map_or(before, |proof| last_seen(before, proof, now, unix_ms))
    }

    /// The last view of the store is valid for one ttl.
    fn is_store_forgotten(&self) -> bool {
        let last = self.published.borrow().dcs_last_seen;
        is_outdated(last, clock::unix_ms(), self.member.dynamic.ttl_ms)
    }
}

/// When the store was last known to answer, in seconds since 1970: `proof` on
/// the clock of this machine, which shows `now` at `unix_ms`.
fn last_seen(before: u64, proof: Millis, now: Millis, unix_ms: u64) -> u64 {
    before.max(unix_ms.saturating_sub(now.since(proof)) / 1_000)
}

/// What was read of the store is good for one ttl.
fn is_outdated(last_seen: u64, unix_ms: u64, ttl_ms: u64) -> bool {
    unix_ms > last_seen * 1_000 + ttl_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::standby;
    use crate::postgres::ServerStatus;
    use topology::Lsn;

    #[test]
    fn a_standby_that_does_not_stream_recovers_from_the_archive_if_there_is_one() {
        let silent = ServerStatus { receiver_state: None, receive: Some(Lsn(0)), ..standby() };
        let archive =
            serde_json::json!({"postgresql": {"recovery_conf": {"restore_command": "cp"}}});
        assert_eq!(replication_state(&standby(), Some(&archive)), Some("streaming"));
        assert_eq!(replication_state(&silent, Some(&archive)), Some("in archive recovery"));
        assert_eq!(replication_state(&silent, Some(&serde_json::json!({}))), None);
    }

    #[test]
    fn the_store_was_seen_when_it_last_answered() {
        let now = Millis(50_000);
        assert_eq!(last_seen(0, Millis(49_900), now, 1_700_000_000_950), 1_700_000_000);
        // It is silent: the moment stays, however often it is asked.
        assert_eq!(last_seen(0, Millis(38_000), now, 1_700_000_000_000), 1_699_999_988);
        // The clock of the wall was set back.
        assert_eq!(last_seen(1_700_000_000, now, now, 1_600_000_000_000), 1_700_000_000);
    }

    #[test]
    fn what_was_read_is_good_for_one_ttl() {
        let good = |unix_ms| !is_outdated(1_700_000_000, unix_ms, 30_000);
        assert!(good(1_700_000_000_000) && good(1_700_000_030_000));
        assert!(!good(1_700_000_030_001));
        assert!(is_outdated(0, 1_700_000_000_000, 30_000), "nothing was ever read");
    }
}
