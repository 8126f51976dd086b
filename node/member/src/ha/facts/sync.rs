//! Synchronous replication: what the names and `/sync` lack, and what must hold
//! before a server opens.
//!
//! The steps themselves are `standby::sync`; here is only when they are asked for.
//! Invariant: while a mode is on, no server of ours opens without the names that
//! `/sync` demands, and only a step changes them.

use super::Facts;
use standby::sync::{self, Names, Policy, Situation, Step};
use topology::{MemberRole, SyncMode, SyncState};

/// Between two looks at names that do not act yet.
const ACTS_MS: u64 = 100;
/// After names did not come into force.
const NAMES_AGAIN_MS: u64 = 10_000;
/// A new primary's record is written at the end of the beat.
const TELL_MS: u64 = 10;

impl<'a> Facts<'a> {
    pub fn is_sync_mode_on(&self) -> bool {
        self.o.dynamic.synchronous_mode != SyncMode::Off
    }

    /// Known to be absent: nothing is left of a mode.
    pub fn is_sync_record_gone(&self) -> bool {
        self.view().is_some_and(|view| view.sync.is_none())
    }

    pub fn sync_policy(&self) -> Policy {
        let dynamic = &self.o.dynamic;
        Policy {
            mode: dynamic.synchronous_mode,
            strict: dynamic.synchronous_mode_strict,
            node_count: dynamic.synchronous_node_count,
            maximum_lag: dynamic.maximum_lag_on_syncnode,
        }
    }

    /// What this leading primary has to do next for its standbys to be as wanted.
    pub fn sync_step(&self) -> Option<Step> {
        let seen = self.o.server()?.replication.as_ref()?;
        if !self.keeps_standbys() || !self.is_told_as_primary() {
            return None;
        }
        if !seen.is_acting {
            return Some(Step::Wait { ms: ACTS_MS });
        }
        if self.o.memory.is_sync_unsure {
            return Some(Step::Record(self.as_recorded()));
        }
        let step = sync::next(&Situation {
            me: &self.o.me.name,
            now: self.o.now,
            view: self.view()?,
            seen,
            confirmed: &self.o.memory.confirmed,
            policy: &self.sync_policy(),
        })?;
        Some(self.with_names_first(step, &seen.names))
    }

    /// What may lead is decided on the names in force: they have to be those that
    /// the files keep, or the next rewrite of them would take some back.
    fn with_names_first(&self, step: Step, in_force: &str) -> Step {
        let in_force = Names::parse(in_force);
        let kept = self.o.memory.names.as_deref().map(Names::parse);
        let adds = matches!(&step, Step::Record(state) if !state.standbys.is_empty());
        if adds && kept.is_some_and(|kept| kept != in_force) {
            return Step::Names(in_force);
        }
        step
    }

    /// `/sync` as it was seen, to be written again: what is still on its way to the
    /// store then meets another version and fails.
    fn as_recorded(&self) -> SyncState {
        let alone = || SyncState::alone(self.o.me.name.clone());
        self.sync_record().cloned().unwrap_or_else(alone)
    }

    /// Names that did not come into force are tried again in a while: other rules
    /// have their turn.
    pub fn is_sync_changing(&self) -> bool {
        match self.sync_step() {
            Some(Step::Record(_)) => true,
            Some(Step::Names(_)) => {
                let failed = self.o.memory.names_failed;
                failed.is_none_or(|at| self.o.now.since(at) >= NAMES_AGAIN_MS)
            }
            _ => false,
        }
    }

    /// The step in words, for a reader of the decision.
    pub fn sync_step_told(&self) -> Option<String> {
        match self.sync_step()? {
            Step::Record(state) => Some(format!("/sync becomes {}", state.write())),
            Step::Names(names) if names == Names::none() => {
                Some("commits wait for no standby".into())
            }
            Step::Names(names) => Some(format!("commits wait for {}", names.write())),
            Step::Wait { .. } => None,
        }
    }

    /// The names were changed, and nothing was written since. Without something new
    /// the standbys confirm nothing, and commits that waited for others before wait
    /// until PostgreSQL's next status message (`wal_receiver_status_interval`).
    pub fn is_wal_wanted(&self) -> bool {
        self.keeps_standbys() && self.o.memory.confirmed.wants_record()
    }

    fn keeps_standbys(&self) -> bool {
        let leads = self.o.is_primary() && self.o.holds_lock() && self.may_own();
        leads && self.is_sync_mode_on()
    }

    /// Clients, other groups and regions wait for the word that this one is open;
    /// the standbys are seen to afterwards.
    fn is_told_as_primary(&self) -> bool {
        let mine = self.view().and_then(|view| view.members.get(&self.o.me.name));
        mine.is_some_and(|record| record.value.role == MemberRole::Primary)
    }

    pub fn sync_wait(&self) -> Option<u64> {
        match self.sync_step() {
            Some(Step::Wait { ms }) => Some(ms),
            None if self.keeps_standbys() && !self.is_told_as_primary() => Some(TELL_MS),
            _ => None,
        }
    }

    /// Commits wait for others: whether those are still there is asked often.
    pub fn is_waited_for(&self) -> bool {
        let named = self.o.memory.names.as_ref().is_some_and(|names| !names.is_empty());
        self.is_sync_mode_on() && self.o.is_primary() && named
    }

    /// What must be so before this standby opens.
    pub fn sync_before_opening(&self) -> Option<Step> {
        if !self.is_sync_mode_on() || !self.may_own() || !self.o.is_standby() {
            return None;
        }
        let in_force = &self.o.server()?.replication.as_ref()?.names;
        let sync = self.view()?.sync.as_ref();
        if self.o.memory.is_sync_unsure && sync.is_some() {
            return Some(Step::Record(self.as_recorded()));
        }
        let (me, record) = (&self.o.me.name, sync.map(|sync| &sync.value));
        let step = sync::before_opening(me, record, &Names::parse(in_force), &self.sync_policy())?;
        // Where commits need not wait for a standby, any names lose nothing; they are
        // removed once this server is open.
        (step != Step::Names(Names::none())).then_some(step)
    }

    /// A server whose names are not known has to be asked again, and so has the store.
    pub fn is_sync_due_before_opening(&self) -> bool {
        let applies = self.is_sync_mode_on() && self.may_own() && self.o.is_standby();
        let seen = self.o.server().and_then(|server| server.replication.as_ref());
        let is_silent = seen.is_none_or(|seen| !seen.is_acting);
        let is_unknown = is_silent || self.view().is_none();
        let is_due = applies && (is_unknown || self.sync_before_opening().is_some());
        is_due && self.open().is_ok()
    }

    fn sync_record(&self) -> Option<&'a SyncState> {
        Some(&self.view()?.sync.as_ref()?.value)
    }

    /// `synchronous_standby_names` for the server's files; `None`: the user's own.
    /// `opens`: the server is about to be started as a primary. While the store is
    /// silent it starts with the names it had; if they are not known its commits wait
    /// for a placeholder name that no standby has.
    pub fn sync_names(&self, opens: bool) -> Option<String> {
        let kept = self.o.memory.names.clone();
        let is_read = kept.is_none() && !(opens && self.o.dynamic.is_synchronous);
        if !self.is_sync_mode_on() && (is_read || self.is_sync_record_gone()) {
            return None;
        }
        if !opens {
            return Some(kept.unwrap_or_default());
        }
        if self.view().is_none() {
            let placeholder = || Names::placeholder(self.o.dynamic.synchronous_mode).write();
            return Some(kept.unwrap_or_else(placeholder));
        }
        let mut policy = self.sync_policy();
        if policy.mode == SyncMode::Off && self.o.dynamic.is_synchronous {
            // What cannot be read may mean that a mode is on, as in elections.
            policy.mode = SyncMode::On;
        }
        let demanded = sync::at_start(&self.o.me.name, self.sync_record(), &policy);
        Some(demanded.map_or(kept.unwrap_or_default(), |names| names.write()))
    }
}
