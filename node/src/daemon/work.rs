//! What the jobs do to PostgreSQL, step by step.
//!
//! Everything here may take long and may be dropped at any await: programs die
//! with the future, and the next beat sees what is there.

use super::notice::Notice;
use super::script;
use super::shutdown_state::shutdown_state_of;
use super::silent_source::{ReadError, reading_from};
use crate::background::JobResult;
use crate::clock;
use crate::config::Settings;
use crate::postgres::conninfo::servers;
use crate::postgres::log_tail::LogTail;
use crate::postgres::slot_files::{self, SlotFile, SlotRequest};
use crate::postgres::{
    ControlState, Error, Instance, Permission, Postmaster, ProvenSource, Ready, Session, StartAs,
    StopMode, Upstream, Written, history, rewind, tools,
};
use member::SlotCopies;
use member::ha::observation::{Following, Job, ShutdownState};
use member::job_terms::JobTerms;
use member::stop::{
    GLANCE_MS, KILLED_MS, OrderlyStop, QUIT_MS, StopPlan, StopSight, StopStep, StopWay,
};
use serde_json::Value;
use standby::source::{Rank, most_telling};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use topology::{Dynamic, Millis, Timeline};

pub(super) const HEARTBEAT: &str = "Patroni heartbeat";
/// After SIGQUIT, before SIGKILL.
const QUIT: Duration = Duration::from_millis(QUIT_MS);
/// After SIGKILL.
const KILLED: Duration = Duration::from_millis(KILLED_MS);
/// A fast stop is looked at again this often.
const GLANCE: Duration = Duration::from_millis(GLANCE_MS);
const CHECKPOINT: Duration = Duration::from_secs(600);

#[derive(Clone)]
pub(super) struct ServerJobs {
    pub settings: Arc<Settings>,
    pub instance: Arc<Instance>,
    pub dynamic: Value,
    pub overrides: Vec<(String, String)>,
    /// Told when a stop has written its last checkpoint.
    pub closing: watch::Sender<Option<Closed>>,
    /// Told when a stop has ended the last client: nothing is committed any more.
    pub quiet: watch::Sender<Option<Millis>>,
    pub terms: JobTerms,
    /// Sent, and its answer awaited, before an orderly stop is signalled.
    pub notice: Option<Notice>,
    /// Says that the running stop waits for nothing any more.
    pub cut: watch::Receiver<bool>,
}

/// What a stop has closed with, and since when.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub shutdown_state: ShutdownState,
    pub since: Millis,
}

pub(super) fn text(error: Error) -> String {
    error.with_causes()
}

impl ServerJobs {
    pub(super) async fn start_primary(&self) -> JobResult {
        self.start_by(&Job::StartPrimary, StartAs::Primary, &[]).await
    }

    pub(super) async fn start_standby(&self, job: &Job, follow: Option<&Following>) -> JobResult {
        let slots = self.read_slots().await;
        self.start_by(job, self.as_standby(follow), &slots).await
    }

    /// A new cluster, whose first recovery takes what it takes.
    pub(super) async fn start_new(&self) -> JobResult {
        self.start(StartAs::Primary, self.start_limit()).await.map(drop)
    }

    /// A start does not wait for long for copies of slots: without them it is asked for again.
    async fn read_slots(&self) -> Vec<SlotFile> {
        let Some(copies) = &self.terms.copies else { return Vec::new() };
        let major = self.instance.catalogue().await.map_or(0, |known| known.major);
        if !SlotCopies::fits(major) {
            return Vec::new();
        }
        let wanted = copies.slots.iter().map(|slot| slot_files::Wanted {
            name: slot.name.clone(),
            database: slot.database.clone(),
            plugin: slot.plugin.clone(),
            replaces: slot.replaces,
        });
        let request = SlotRequest {
            host: &copies.from.host,
            port: copies.from.port,
            login: &self.settings.postgresql.rewind,
            system: &copies.system,
            wanted: wanted.collect(),
            limit: Duration::from_millis(copies.limit_ms()),
        };
        self.instance.read_slots(&request).await.unwrap_or_else(|error| {
            let from = &copies.from.member;
            tracing::warn!("no logical slot of {from} is copied: {}", text(error));
            Vec::new()
        })
    }

    pub(super) async fn restart(&self, job: &Job, as_primary: bool) -> JobResult {
        // Before the stop: its standbys may need this server meanwhile.
        let slots = self.read_slots().await;
        if let Some(why) = self.terms.copies.as_ref().and_then(|c| c.refusal(slots.len())) {
            return Err(why.to_string());
        }
        let running = self.instance.postmaster().map_err(text)?;
        if let Some(postmaster) = running.filter(|_| SlotCopies::need_log(slots.len())) {
            self.hold_log(&postmaster).await;
        }
        self.stop().await?;
        // What is said of the stop holds for the server of before.
        (_, _) = (self.quiet.send_replace(None), self.closing.send_replace(None));
        let role = match as_primary {
            true => StartAs::Primary,
            false => self.as_standby(self.terms.follow.as_ref()),
        };
        self.start_by(job, role, &slots).await
    }

    async fn start_by(&self, job: &Job, role: StartAs, slots: &[SlotFile]) -> JobResult {
        match self.start_with(role, self.start_limit(), slots).await? {
            true => Ok(()),
            false => self.terms.late_start(job),
        }
    }

    fn start_limit(&self) -> Duration {
        let of_tools_ms = self.settings.postgresql.pg_ctl_timeout_s * 1_000;
        Duration::from_millis(self.terms.start.ms(of_tools_ms))
    }

    /// Starts and waits until connections are accepted, or `limit` is over: a
    /// long recovery is watched by the beat, in which others may take over.
    async fn start(&self, role: StartAs, limit: Duration) -> Result<bool, String> {
        self.start_with(role, limit, &[]).await
    }

    async fn start_with(
        &self,
        role: StartAs,
        limit: Duration,
        slots: &[SlotFile],
    ) -> Result<bool, String> {
        let log = LogTail::before_start(&self.settings.postgresql.data_dir);
        let started = self.instance.start(&role, &self.dynamic, &self.overrides, slots).await;
        let (postmaster, _) = started.map_err(text)?;
        let unready = Unready::of(&postmaster);
        let ready = self.instance.wait_ready(&postmaster, HEARTBEAT, limit).await;
        unready.keep();
        match ready.map_err(text)? {
            Ready::Accepting(_) => Ok(true),
            Ready::Starting(error) => {
                tracing::warn!("PostgreSQL still starts after {limit:?}: {}", text(error));
                Ok(false)
            }
            Ready::Ended => Err(match log.last_fatal() {
                Some(words) => format!("PostgreSQL ended while it was starting: {words}"),
                None => "PostgreSQL ended while it was starting; its log says why".to_string(),
            }),
        }
    }

    /// `left`: a server that was seen, should its directory be out of reach.
    pub(super) async fn stop_all(&self, left: Option<Postmaster>) -> JobResult {
        self.stop().await?;
        match left {
            Some(left) if left.is_alive().unwrap_or(true) => self.stop_hard(&left).await,
            _ => Ok(()),
        }
    }

    /// As the terms of the job say.
    pub(super) async fn stop(&self) -> JobResult {
        let plan = &self.terms.stop;
        if let Some(postmaster) = self.instance.postmaster().map_err(text)? {
            self.prepare_stop(plan).await;
            self.stop_server(&postmaster).await?;
        }
        if plan.archives_end
            && let Err(error) = self.instance.archive_end().await
        {
            tracing::warn!("the end of the log is not in the archive: {}", text(error));
        }
        Ok(())
    }

    async fn prepare_stop(&self, plan: &StopPlan) {
        if plan.checkpoints {
            self.checkpoint().await;
        }
        if plan.runs_command
            && let Some(command) = &self.settings.postgresql.before_stop
            && let Err(why) = script::run(command, &[]).await
        {
            tracing::warn!("before_stop: {why}");
        }
        if let Some(notice) = self.notice.clone() {
            notice.send().await;
        }
    }

    /// Without what comes before a stop.
    pub(super) async fn stop_server(&self, postmaster: &Postmaster) -> JobResult {
        match self.terms.stop.way {
            StopWay::AtOnce => self.stop_hard(postmaster).await,
            StopWay::Orderly { patience, limit_ms } => {
                let stop = OrderlyStop::begin(patience, limit_ms, clock::now());
                self.stop_softly(postmaster, stop).await
            }
        }
    }

    /// While clients still write: what is left for the shutdown is short.
    async fn checkpoint(&self) {
        let Ok(session) = self.instance.session(HEARTBEAT).await else { return };
        if let Err(error) = session.execute_long("checkpoint", "CHECKPOINT", CHECKPOINT).await {
            tracing::warn!("the checkpoint before the stop: {error}");
        }
    }

    async fn stop_softly(&self, postmaster: &Postmaster, mut stop: OrderlyStop) -> JobResult {
        let mut cut = self.cut.clone();
        let mut is_closed = false;
        postmaster.stop(StopMode::Fast).map_err(text)?;
        while !has_exited(postmaster, &mut cut).await {
            is_closed = is_closed || self.is_closed().await;
            self.note_quiet(postmaster);
            let (has_receivers, is_cut) = (postmaster.has_receivers(), *cut.borrow_and_update());
            let row = stop.look(StopSight { is_closed, has_receivers, is_cut }, clock::now());
            match row.then {
                StopStep::Wait => {}
                StopStep::EndReceivers => postmaster.end_receivers(true),
                StopStep::Force => {
                    tracing::warn!("{} (rule {})", row.why, row.id);
                    return self.stop_hard(postmaster).await;
                }
            }
        }
        postmaster.wait_gone().await;
        Ok(())
    }

    fn note_quiet(&self, postmaster: &Postmaster) {
        if !postmaster.has_clients() {
            self.quiet.send_if_modified(|quiet| {
                let is_news = quiet.is_none();
                quiet.get_or_insert_with(clock::now);
                is_news
            });
        }
    }

    /// The shutdown checkpoint is written; the archiver or walsenders go on.
    async fn is_closed(&self) -> bool {
        let Ok(control) = self.instance.control().await else { return false };
        let closed = [ControlState::ShutDown, ControlState::ShutDownInRecovery];
        if !closed.contains(&control.state) {
            return false;
        }
        let shutdown_state = shutdown_state_of(&control, &self.settings.postgresql.data_dir);
        self.closing.send_replace(Some(Closed { shutdown_state, since: clock::now() }));
        true
    }

    async fn stop_hard(&self, postmaster: &Postmaster) -> JobResult {
        postmaster.stop_at_once(QUIT, KILLED).await.map_err(text)
    }

    /// A crashed server is brought to an orderly stop, without opening it.
    pub(super) async fn recover(&self) -> JobResult {
        self.instance.crash_recovery().await.map_err(text)
    }

    /// A crashed standby replays what it has and is stopped in order. Crash recovery in
    /// single-user mode would add a checkpoint to its log.
    pub(super) async fn recover_standby(&self) -> JobResult {
        let role = StartAs::Standby { upstream: None };
        let accepts = self.start(role, self.start_limit()).await?;
        let Some(postmaster) = self.instance.postmaster().map_err(text)? else {
            return Err("PostgreSQL ended before it could be stopped in order".to_string());
        };
        self.stop_server(&postmaster).await?;
        let state = self.instance.control().await.map_err(text)?.state;
        match accepts && state == ControlState::ShutDownInRecovery {
            true => Ok(()),
            false => Err(format!("the standby did not stop in order: {state:?}")),
        }
    }

    /// Rewinds against a source whose control file knows its timeline.
    pub(super) async fn rewind(
        &self,
        from: &Following,
        from_primary: bool,
        at_least: Option<Timeline>,
    ) -> JobResult {
        let one = &self.one_of(from, at_least).await?;
        let source = self.prepare_source(one, from_primary).await?;
        let permission = Permission::to_rewind(source);
        // From here on the files name the archive, which may have what is missing.
        self.rewrite(Some(from)).await?;
        let (options, findings) = match &self.settings.postgresql.rewind_options {
            Some(given) => (given.clone(), Default::default()),
            None => crate::config::rewind_options_of(&self.dynamic),
        };
        for warning in findings.warnings() {
            tracing::error!("{warning}");
        }
        let source = tools::Source { host: &one.host, port: one.port };
        let tool = self.instance.rewind(source, &options, from_primary, &permission);
        reading_from(&self.instance, one, tool).await.map_err(ReadError::into_text)
    }

    /// Of several servers the one that counts: pg_rewind reads from one.
    async fn one_of(
        &self,
        from: &Following,
        at_least: Option<Timeline>,
    ) -> Result<Following, String> {
        let all = servers(&from.host, from.port);
        if all.len() <= 1 {
            return Ok(from.clone());
        }
        let (mut ranked, mut refusals) = (Vec::new(), Vec::new());
        for (host, port) in all {
            let one = Following { host, port, ..from.clone() };
            match self.rank(&one).await {
                Ok(rank) if rank.is_left_behind(at_least) => refusals
                    .push(format!("{}:{} is on timeline {}", one.host, one.port, rank.timeline)),
                Ok(rank) => ranked.push((rank, one)),
                Err(why) => refusals.push(why),
            }
        }
        most_telling(ranked).ok_or_else(|| refusals.join("; "))
    }

    async fn rank(&self, from: &Following) -> Result<Rank, String> {
        let session = self.source(from).await?;
        let is_primary = !session.is_in_recovery().await.map_err(text)?;
        let timeline = history::remote_timeline(&session).await.map_err(text)?;
        Ok(Rank { is_primary, timeline })
    }

    /// One that has not written a checkpoint since it was promoted shows the
    /// timeline before. A superuser can have it written.
    async fn prepare_source(
        &self,
        from: &Following,
        from_primary: bool,
    ) -> Result<ProvenSource, String> {
        let source = self.source(from).await?;
        let proven = self.proven(&source, from, None).await?;
        if let Some(socket) = rewind::socket_in_data(&source).await.map_err(text)? {
            return Err(format!(
                "{}:{} has its socket {socket} in its data directory, and pg_rewind cannot copy \
                 that: have unix_socket_directories name a directory outside of it and restart \
                 that server, or build this member anew with `matriarchctl reinit`",
                from.host, from.port
            ));
        }
        let recovers = source.is_in_recovery().await.map_err(text)?;
        if from_primary && recovers {
            return Err(format!("{}:{} is no primary", from.host, from.port));
        }
        if self.has_checkpointed(&source).await? {
            return Ok(proven);
        }
        let login = self.instance.rewind_login().await.map_err(text)?;
        if login.username == self.settings.postgresql.superuser.username {
            let done = source.execute_long("checkpoint", "CHECKPOINT", CHECKPOINT).await;
            return done.map(|()| proven).map_err(text);
        }
        let Following { host, port, .. } = from;
        Err(format!("{host}:{port} has not written a checkpoint on its timeline yet"))
    }

    async fn has_checkpointed(&self, source: &Session) -> Result<bool, String> {
        let sql = "SELECT timeline_id::bigint FROM pg_catalog.pg_control_checkpoint()";
        let row = source.row("checkpoint", sql, &[]).await.map_err(text)?;
        let shown: i64 = row.try_get(0).map_err(|e| e.to_string())?;
        let now = history::remote_timeline(source).await.map_err(text)?;
        Ok(shown == i64::from(now.0))
    }

    pub(super) async fn source(&self, from: &Following) -> Result<Session, String> {
        let login = self.instance.rewind_login().await.map_err(text)?;
        self.instance.peer(&from.host, from.port, login, HEARTBEAT).await.map_err(text)
    }

    pub(super) async fn rewrite(&self, follow: Option<&Following>) -> Result<Written, String> {
        let role = self.as_standby(follow);
        let written = self.instance.write_config(&role, &self.dynamic, &self.overrides).await;
        written.map_err(text)
    }

    fn as_standby(&self, follow: Option<&Following>) -> StartAs {
        StartAs::Standby { upstream: follow.map(|from| upstream(from, &self.dynamic)) }
    }

    pub(super) async fn rewrite_primary(&self) -> Result<Written, String> {
        let role = StartAs::Primary;
        let written = self.instance.write_config(&role, &self.dynamic, &self.overrides).await;
        written.map_err(text)
    }
}

/// Within a moment, or before it is told to wait no longer.
async fn has_exited(postmaster: &Postmaster, cut: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = postmaster.wait_exit() => true,
        _ = cut.wait_for(|cut| *cut) => false,
        () = tokio::time::sleep(GLANCE) => false,
    }
}

/// A server whose start is given up does not come up later, unwatched.
pub(super) struct Unready<'a>(Option<&'a Postmaster>);

impl<'a> Unready<'a> {
    pub(super) fn of(postmaster: &'a Postmaster) -> Unready<'a> {
        Unready(Some(postmaster))
    }

    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unready<'_> {
    fn drop(&mut self) {
        if let Some(postmaster) = self.0
            && let Err(error) = postmaster.stop(StopMode::Immediate)
        {
            tracing::error!("{error}");
        }
    }
}

/// Of another cluster: another region's, or the one that `/config` names.
pub(super) fn upstream(from: &Following, dynamic: &Value) -> Upstream {
    let of_region = from.slot.as_deref().is_some_and(|s| s.starts_with("region_"));
    let named = Dynamic::read(dynamic).ok().and_then(|dynamic| dynamic.standby_cluster);
    let named = named.and_then(|s| Some(servers(s.host.as_deref()?, s.port)));
    let is_named = named.is_some_and(|named| named == servers(&from.host, from.port));
    let remote = of_region || is_named;
    let Following { host, port, slot, database, .. } = from.clone();
    Upstream { host, port, slot, database, remote }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn another_cluster_is_a_region_or_what_the_configuration_names() {
        let from = |host: &str, slot: Option<&str>| Following {
            host: host.into(),
            port: 5432,
            slot: slot.map(str::to_string),
            database: None,
            member: "x".into(),
        };
        let dynamic = json!({"standby_cluster": {"host": "far,farther", "port": 5432}});
        let remote = |from: &Following| upstream(from, &dynamic).remote;
        assert!(remote(&from("far,farther", None)));
        assert!(remote(&from("a", Some("region_b"))));
        assert!(!remote(&from("a", Some("n1"))));
        assert!(!upstream(&from("far,farther", None), &json!({})).remote);
    }
}
