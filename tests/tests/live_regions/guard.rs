//! Watches all servers and proves that no group ever had two primaries.
//!
//! A server that says "not in recovery" twice in one life was a primary all the
//! time between its two answers: a primary goes back only by a restart. Two such
//! spans of one group that overlap are two primaries at one moment, whatever the
//! delays of the questions were.

use super::formation::Formation;
use super::sql;
use anyhow::{Result, ensure};
use ctl::field::MemberPlan;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

const POLL: Duration = Duration::from_millis(25);
const CALL: Duration = Duration::from_secs(2);
const QUESTION: &str = "SELECT pg_is_in_recovery(), pg_postmaster_start_time()::text";

/// A member was certainly a primary from one moment to the other.
#[derive(Clone, Debug)]
struct Span {
    member: String,
    group: Option<u32>,
    life: String,
    from: Instant,
    to: Instant,
}

#[derive(Default)]
pub(crate) struct Guard {
    spans: Arc<Mutex<Vec<Span>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Guard {
    pub(crate) fn start(f: &Formation) -> Guard {
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let watch = |m: &MemberPlan| tokio::spawn(watch(m.clone(), spans.clone()));
        let tasks = f.field.plan.members().map(watch).collect();
        Guard { spans, tasks }
    }

    /// Ends the watch and compares all spans.
    pub(crate) fn one_primary_each(self) -> Result<()> {
        self.tasks.iter().for_each(JoinHandle::abort);
        let spans = self.spans.lock().expect("no watch panics").clone();
        ensure!(!spans.is_empty(), "the watch saw no primary at all");
        for (index, one) in spans.iter().enumerate() {
            let others = spans[..index].iter().filter(|s| s.group == one.group);
            for other in others.filter(|other| other.member != one.member) {
                let apart = one.to <= other.from || other.to <= one.from;
                ensure!(apart, "two primaries of one group at one time: {one:?} and {other:?}");
            }
        }
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn watch(member: MemberPlan, spans: Arc<Mutex<Vec<Span>>>) {
    let mut client: Option<Client> = None;
    loop {
        tokio::time::sleep(POLL).await;
        if client.is_none() {
            client = sql::connect(&member).await.ok();
        }
        let Some(connected) = &client else { continue };
        let sent = Instant::now();
        let answer = tokio::time::timeout(CALL, connected.query_one(QUESTION, &[])).await;
        let Ok(Ok(row)) = answer else {
            client = None;
            continue;
        };
        let (in_recovery, life): (bool, String) = (row.get(0), row.get(1));
        if !in_recovery {
            note(&member, life, sent, &spans);
        }
    }
}

/// Lengthens the span of this life, or begins one: it was a primary when the
/// answer came, and still is if it says so again.
fn note(member: &MemberPlan, life: String, sent: Instant, spans: &Mutex<Vec<Span>>) {
    let mut spans = spans.lock().expect("no watch panics");
    let known = spans.iter_mut().find(|s| s.member == member.name && s.life == life);
    match known {
        Some(span) => span.to = span.to.max(sent),
        None => {
            let from = Instant::now();
            let (member, group) = (member.name.clone(), member.group);
            spans.push(Span { member, group, life, from, to: from });
        }
    }
}
