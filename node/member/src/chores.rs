//! What a member keeps in order on its own machine, beside its decisions.
//!
//! After a beat the rows that stand before the documents are asked, then the record and a
//! leader's documents are written (`upkeep`), then the other rows are asked. A row that is
//! due gives one call; the next row is asked when that is answered.
//!
//! Nothing here changes which member leads. What fails is tried again after a later beat,
//! because what made its row due is still so.
//!
//! Work that takes longer than a beat may (a checkpoint, copies of history files) is begun
//! by a call and runs beside the beats; a later `ChoreSight` tells its end.
//!
//! Absent on purpose: slots, callbacks, and the rows of `pg_dist_node`.

use super::after_promotion::AfterPromotion;
use super::chore_sight::Sights;
pub use super::chore_sight::{ChoreSight, Work};
use super::effect::{Answer, Call, Effect};
use super::histories::Histories;
use super::server_files::ServerFiles;
use super::{Level, Member};
use crate::ha::Observation;
use crate::ha::facts::Facts;
use crate::ha::guarding::is_watchdog_needed;
use serde_json::Value;
use topology::{Millis, Version};

/// A server that has nothing left to replay leaves recovery in less.
const WAKE_MS: u64 = 100;

/// One thing to keep in order.
pub struct Chore {
    /// Shown on the page of rules; never reused.
    pub id: u16,
    moment: Moment,
    due: fn(&mut Member, &Sights) -> Option<Call>,
    answered: fn(&mut Member, Answer),
    /// Why it is done, and when.
    pub why: &'static str,
}

/// When in the time after a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the record and the documents are written.
    First,
    Last,
}

/// In the order in which they are asked.
pub const CHORES: &[Chore] = &[
    Chore {
        id: 1310,
        moment: Moment::First,
        due: watchdog,
        answered: |_, _| {},
        why: "the watchdog is disarmed in pause, and also while this member certainly does not write \
              and is not about to; a server that does not stop leaves it armed",
    },
    // Before the record, which says whether it is done.
    Chore {
        id: 1320,
        moment: Moment::First,
        due: |member, sights| member.chores.checkpoint.due(sights.seen),
        answered: |_, _| {},
        why: "after a promotion the leader writes a checkpoint: until then its control file shows \
              the previous timeline, and no member can be rewound against it",
    },
    // As soon as the server is a primary, so that they reach the archive before the first
    // segment of the new timeline is full.
    Chore {
        id: 1330,
        moment: Moment::First,
        due: |member, sights| member.chores.histories.due(sights.seen),
        answered: |_, _| {},
        why: "a leader brings the history of every timeline below its own into its data \
              directory and into the archive; what failed is tried again, at first soon",
    },
    Chore {
        id: 1340,
        moment: Moment::First,
        due: configuration,
        answered: configuration_saved,
        why: "the copy of `/config` in the data directory, from which a restarted daemon begins, is \
              out of date: it is rewritten, only in this cluster's data and while no job runs",
    },
    Chore {
        id: 1350,
        moment: Moment::First,
        due: Member::rewiring_due,
        answered: Member::rewiring_told,
        why: "`pg_dist_node` names this region's groups: the region's agent is told, and Citus \
              leaves its quarantine",
    },
    Chore {
        id: 1355,
        moment: Moment::First,
        due: retry_of_stream,
        answered: failure_told,
        why: "a standby does not stream although its leader's record says that it runs: its \
              receiver tries again at once, once for each such record, instead of after \
              wal_retrieve_retry_interval; in a synchronous mode commits wait for it",
    },
    Chore {
        id: 1356,
        moment: Moment::First,
        due: wake_of_promotion,
        answered: failure_told,
        why: "a server that was told to leave recovery has not done so: it is woken, for if it took \
              the request while it waited for its source it sleeps until the next try of that \
              source is due (wal_retrieve_retry_interval)",
    },
    Chore {
        id: 1360,
        moment: Moment::Last,
        due: password_file,
        answered: failure_told,
        why: "the password file of a standby is there, also if another program has removed it",
    },
    Chore {
        id: 1370,
        moment: Moment::Last,
        due: Member::files_due,
        answered: Member::files_applied,
        why: "the configuration, the server's role or its overrides changed since its files were \
              written: they are rewritten, and the server reloads them if a value differs",
    },
];

/// What the chores remember between beats.
#[derive(Debug, Default)]
pub(super) struct Chores {
    pub checkpoint: AfterPromotion,
    pub histories: Histories,
    pub files: ServerFiles,
    /// What the copy of `/config` in the data directory holds, as far as this process knows.
    saved: Value,
    /// The leader's record for which the receiver was made to try again.
    retried: Option<Version>,
    /// When a server that leaves recovery was last woken.
    woken: Millis,
    under_way: Option<UnderWay>,
}

/// The chores after a beat.
#[derive(Debug)]
struct UnderWay {
    own: ChoreSight,
    moment: Moment,
    /// The row whose call is to be answered.
    row: usize,
}

impl Member {
    /// The first call of this moment; `None`: no row is due.
    pub fn begin_chores(
        &mut self,
        now: Millis,
        seen: &Observation,
        moment: Moment,
        own: ChoreSight,
    ) -> Option<Effect> {
        for (work, result) in &own.ended {
            self.work_ended(*work, result, now);
        }
        self.next_chore(now, seen, UnderWay { own, moment, row: 0 })
    }

    /// The next call, after the last one was answered.
    pub fn go_on_with_chores(
        &mut self,
        now: Millis,
        seen: &Observation,
        answer: Answer,
    ) -> Option<Effect> {
        let under_way = self.chores.under_way.take()?;
        (CHORES[under_way.row].answered)(self, answer);
        let row = under_way.row + 1;
        self.next_chore(now, seen, UnderWay { row, ..under_way })
    }

    fn next_chore(&mut self, now: Millis, seen: &Observation, from: UnderWay) -> Option<Effect> {
        let sights = Sights { seen, own: &from.own };
        let rows = (from.row..CHORES.len()).filter(|row| CHORES[*row].moment == from.moment);
        let mut due = rows.filter_map(|row| Some((row, (CHORES[row].due)(self, &sights)?)));
        let Some((row, call)) = due.next() else {
            if from.moment == Moment::Last && sights.is_at_rest() {
                self.call_at_rest(seen);
            }
            return None;
        };
        // What takes longer must not hold up the next renewal.
        let limit_ms = Some(self.report_limit_ms(seen, now).max(1));
        self.chores.under_way = Some(UnderWay { row, ..from });
        Some(Effect::Call { call, limit_ms })
    }

    fn work_ended(&mut self, work: Work, result: &Result<(), String>, now: Millis) {
        let told = match work {
            Work::Checkpoint => self.chores.checkpoint.ended(result, now),
            Work::Histories => self.chores.histories.ended(result),
        };
        if let Some(text) = told {
            self.note(Level::Warn, text);
        }
    }
}

fn watchdog(member: &mut Member, sights: &Sights) -> Option<Call> {
    let (seen, is_quiet) = (sights.seen, sights.own.is_quiet);
    let is_needed = is_watchdog_needed(seen, member.may_open(seen), is_quiet);
    (member.dynamic.pause || !is_needed).then_some(Call::RestWatchdog)
}

fn configuration(member: &mut Member, sights: &Sights) -> Option<Call> {
    let seen = sights.seen;
    let known = seen.view()?.initialize.as_ref()?.value.as_ref()?;
    let is_ours = seen.system() == Some(known) && seen.job.is_none();
    let raw = &member.dynamic.raw;
    let is_empty = raw.as_object().is_none_or(|map| map.is_empty());
    (is_ours && !is_empty && member.chores.saved != *raw).then_some(Call::SaveConfiguration)
}

fn configuration_saved(member: &mut Member, answer: Answer) {
    match answer {
        Answer::Done => member.chores.saved = member.dynamic.raw.clone(),
        answer => failure_told(member, answer),
    }
}

fn retry_of_stream(member: &mut Member, sights: &Sights) -> Option<Call> {
    let seen = sights.seen;
    if !sights.is_at_rest() || !seen.is_standby() || seen.receives() {
        return None;
    }
    let view = seen.view()?;
    let leader = view.leader_name()?;
    let facts = Facts::of(seen);
    if facts.must_follow_another() || facts.upstream().is_none_or(|from| from.member != *leader) {
        return None;
    }
    let record = view.members.get(leader).filter(|record| record.value.is_running())?;
    let is_news = member.chores.retried.replace(record.version) != Some(record.version);
    is_news.then_some(Call::WakeRecovery)
}

/// Each time after twice as long: one that replays what it has needs no waking.
fn wake_of_promotion(member: &mut Member, sights: &Sights) -> Option<Call> {
    let seen = sights.seen;
    let since = seen.memory.promoting.filter(|_| Facts::of(seen).is_promoting())?;
    let last = member.chores.woken.max(since);
    let is_due = seen.now.since(last) >= last.since(since).max(WAKE_MS);
    is_due.then(|| {
        member.chores.woken = seen.now;
        Call::WakeRecovery
    })
}

fn password_file(_: &mut Member, sights: &Sights) -> Option<Call> {
    (sights.is_at_rest() && sights.seen.is_standby()).then_some(Call::KeepPgpass)
}

fn failure_told(member: &mut Member, answer: Answer) {
    if let Answer::Failed(why) = answer {
        member.note(Level::Warn, why);
    }
}
