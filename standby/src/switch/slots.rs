//! Permanent logical slots in a move: readers must find them on the new side.
//!
//! The leader of each group says in its record which slots it has, and which copies can be
//! resumed (`crate::slots::readiness`). The preflight asks the servers too; until the decision the
//! records are compared once more, for a failover on either side makes copies unproven.

use crate::slots::{Kind, NATIVE, Readiness, Slot, permanent};
use std::collections::BTreeSet;
use topology::{GroupView, Lsn, Timeline};

/// The logical slots that `slots` of this group defines.
pub(crate) fn defined(view: &GroupView) -> BTreeSet<String> {
    let config = view.config.as_ref().map(|config| &config.value);
    let read = config.map(|config| permanent(&config.slots)).unwrap_or_default();
    let logical = read.specifications.into_iter().filter(|slot| slot.kind != Kind::Physical);
    logical.map(|slot| slot.name).collect()
}

/// What the new side's leader has.
pub(crate) struct Copies<'a> {
    pub major: u64,
    pub there: &'a [Slot],
    /// Where its WAL begins; `None`: that is not known.
    pub wal_from: Option<Lsn>,
}

/// Can the reader of `slot` go on at the new leader, whose group is `view`? If not, why.
pub(crate) fn is_ready(slot: &Slot, new: &Copies, view: &GroupView) -> Result<(), String> {
    let is_native = new.major >= u64::from(NATIVE);
    let is_copy = |copy: &&Slot| {
        copy.name == slot.name && copy.kind == slot.kind && (copy.synced || !is_native)
    };
    let copy = new.there.iter().find(is_copy).filter(|copy| !copy.is_lost);
    let copy = copy.ok_or("there is no copy of it")?;
    match word(view, &slot.name) {
        Some(_) if says(view, &slot.name, Readiness::Ready) => {}
        Some(word) => return Err(format!("its copy is `{word}`")),
        None => return Err("`slots` does not define it there".to_string()),
    }
    let is_whole = matches!((copy.restart_lsn, new.wal_from), (Some(at), Some(from)) if at >= from);
    match is_whole || is_native {
        true => Ok(()),
        false => Err("the WAL that its copy needs is not there".to_string()),
    }
}

/// Slots that the old side's leader may have and the new side's does not say to be ready on the
/// timeline where the old side ends, or is: a word of before a failover counts for nothing. And
/// those that the old side refuses while the new side keeps a copy.
pub(crate) fn unready(
    from: Option<&GroupView>,
    to: Option<&GroupView>,
    ends_on: Option<Timeline>,
) -> BTreeSet<String> {
    let Some(from) = from else { return BTreeSet::new() };
    let timeline = |view: &GroupView| view.leader_record().and_then(|record| record.timeline);
    let wanted = ends_on.or_else(|| timeline(from));
    // A leader that stops tells none: its token does, before anything is decided.
    let to = to.filter(|to| wanted.is_none() || timeline(to) == wanted);
    // Without a word it is not known whether a reader would end.
    let has_none = |name: &str| is_missing(from, name) || says(from, name, PENDING);
    let there = defined(from).into_iter().filter(|name| !has_none(name));
    let unready = there.filter(|name| !to.is_some_and(|to| says(to, name, Readiness::Ready)));
    let refused = to.map(|to| kept_though_refused(from, to)).unwrap_or_default();
    unready.chain(refused).collect()
}

/// Slots that the old side does not resume, for their readers would miss rows, and of which the
/// new side may still have a copy: it would be resumed there.
pub(crate) fn kept_though_refused(from: &GroupView, to: &GroupView) -> BTreeSet<String> {
    let status = from.status.as_ref().map(|status| &status.value);
    let refused = status.into_iter().flat_map(|status| &status.skipping_slots);
    let refused = refused.filter(|name| !says(from, name, Readiness::Ready));
    let kept = defined(to);
    refused.filter(|name| kept.contains(*name) && !is_missing(to, name)).cloned().collect()
}

const PENDING: Readiness = Readiness::Copied { seen: None };

fn is_missing(view: &GroupView, name: &str) -> bool {
    [Readiness::Missing, Readiness::Behind].into_iter().any(|word| says(view, name, word))
}

fn says(view: &GroupView, name: &str, readiness: Readiness) -> bool {
    word(view, name) == Some(readiness.word())
}

fn word<'a>(view: &'a GroupView, name: &str) -> Option<&'a str> {
    view.leader_record()?.logical_slots.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::TakeSample;

    fn view(word: &str) -> GroupView {
        let mut view = GroupView::default();
        let config = r#"{"slots":{"a":{"database":"d","plugin":"p"},"plain":null}}"#;
        view.take_sample("config", config, 1, 0);
        view.take_sample("leader", "l", 1, 1);
        let record =
            format!(r#"{{"timeline":2,"logical_slots":{{"a":"{word}","undefined":"ready"}}}}"#);
        view.take_sample("members/l", &record, 1, 1);
        view
    }

    #[test]
    fn a_slot_that_the_old_side_has_must_be_ready_on_the_new_one() {
        let of = |from: &str, to: &str| unready(Some(&view(from)), Some(&view(to)), None);
        assert!(of("ready", "ready").is_empty());
        assert_eq!(of("ready", "pending"), ["a".to_string()].into());
        assert!(of("missing", "pending").is_empty(), "its reader has ended already");
        let mut silent = view("ready");
        silent.members.clear();
        assert_eq!(unready(Some(&silent), Some(&view("pending")), None).len(), 1, "no word");
        assert!(unready(Some(&silent), Some(&view("ready")), None).is_empty());
        let of = |to: Option<&GroupView>, on| unready(Some(&view("ready")), to, on).len();
        assert_eq!(of(None, None), 1, "unknown is not ready");
        assert_eq!(of(Some(&GroupView::default()), None), 1);
        assert_eq!(of(Some(&view("ready")), Some(Timeline(2))), 0);
        assert_eq!(of(Some(&view("ready")), Some(Timeline(3))), 1, "of before a failover");
    }

    #[test]
    fn no_copy_of_a_slot_that_the_old_side_refuses_may_be_left() {
        let mut refuses = view("missing");
        refuses.take_sample("status", r#"{"refused_slots":{"a":7},"skipping_slots":["a"]}"#, 1, 0);
        let of = |word: &str| unready(Some(&refuses), Some(&view(word)), None).len();
        let all = ["missing", "behind", "pending", "ready"].map(of);
        assert_eq!(all, [0, 0, 1, 1]);
    }
}
