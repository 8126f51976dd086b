//! What comes before a server opens, and with which names it starts.

use super::*;
use crate::sync::fixture::text;

fn policy(mode: SyncMode, strict: bool) -> Policy {
    Policy { mode, strict, node_count: 1, maximum_lag: None }
}

/// The steps before opening, each done.
fn opens(sync: &str, names: &str, policy: &Policy) -> Vec<String> {
    let mut sync = (!sync.is_empty()).then(|| SyncState::read(sync));
    let mut names = Names::parse(names);
    let mut steps = Vec::new();
    while let Some(step) = before_opening(&"me".into(), sync.as_ref(), &names, policy) {
        assert!(steps.len() < 5, "it never opens: {steps:?}");
        match &step {
            Step::Record(wanted) => sync = Some(wanted.clone()),
            Step::Names(wanted) => names = wanted.clone(),
            Step::Wait { .. } => {}
        }
        steps.push(text(Some(step)));
    }
    steps
}

const OLD: &str = r#"{"leader":"old","quorum":0,"sync_standby":"b,me"}"#;
const ALONE: &str = r#"{"leader":"me","quorum":0,"sync_standby":null}"#;

#[test]
fn without_strictness_it_opens_alone() {
    let policy = policy(SyncMode::On, false);
    assert_eq!(opens(OLD, "2 (b,me)", &policy), [ALONE, "names "]);
    assert_eq!(opens("", "", &policy), [ALONE]);
    assert!(opens(ALONE, "", &policy).is_empty());
}

#[test]
fn a_strict_one_waits_for_all_that_had_everything() {
    let policy = policy(SyncMode::On, true);
    let both = r#"{"leader":"me","quorum":0,"sync_standby":"b,old"}"#;
    assert_eq!(opens(OLD, "", &policy), [both, "names 2 (b,old)"]);
    let placeholder = format!("names {}", crate::sync::PLACEHOLDER);
    assert_eq!(opens("", "", &policy), [ALONE.to_string(), placeholder.clone()]);
    // Of a quorum no single standby is known to have everything.
    let quorum = r#"{"leader":"old","quorum":1,"sync_standby":"b,me"}"#;
    assert_eq!(opens(quorum, "", &policy), [ALONE.to_string(), placeholder]);
}

#[test]
fn a_quorum_is_named_before_the_new_leader_is_recorded() {
    let relaxed = policy(SyncMode::Quorum, false);
    let old = r#"{"leader":"old","quorum":1,"sync_standby":"b,me"}"#;
    let new = r#"{"leader":"me","quorum":1,"sync_standby":"b,old"}"#;
    assert_eq!(opens(old, "", &relaxed), ["names ANY 1 (b,old)", new]);
    // Without a vote so far I am one more who may lack something.
    let old = r#"{"leader":"old","quorum":1,"sync_standby":"a,b"}"#;
    let new = r#"{"leader":"me","quorum":1,"sync_standby":"a,b,old"}"#;
    assert_eq!(opens(old, "", &relaxed), ["names ANY 2 (a,b,old)", new]);
    assert_eq!(opens("", "a", &relaxed), ["names ", ALONE]);
    let strict = policy(SyncMode::Quorum, true);
    let placeholder = format!("names ANY 1 ({})", crate::sync::PLACEHOLDER);
    assert_eq!(opens("", "", &strict), [placeholder.as_str(), ALONE]);
}

#[test]
fn no_mode_asks_for_nothing() {
    let off = policy(SyncMode::Off, true);
    assert!(opens(OLD, "a", &off).is_empty());
    assert_eq!(at_start(&"me".into(), None, &off), None);
}

#[test]
fn a_primary_starts_with_the_names_that_the_record_relies_on() {
    let start = |sync: &str, mode, strict| {
        let sync = SyncState::read(sync);
        let names = at_start(&"me".into(), Some(&sync), &policy(mode, strict));
        names.map(|names| names.write()).unwrap_or_default()
    };
    let mine = r#"{"leader":"me","quorum":0,"sync_standby":"a,b"}"#;
    assert_eq!(start(mine, SyncMode::On, false), "2 (a,b)");
    assert_eq!(start(ALONE, SyncMode::On, false), "");
    assert_eq!(start(ALONE, SyncMode::On, true), crate::sync::PLACEHOLDER);
    assert_eq!(start("{}", SyncMode::On, true), crate::sync::PLACEHOLDER);
    assert_eq!(start(OLD, SyncMode::On, false), "2 (b,old)");
    let quorum = r#"{"leader":"me","quorum":1,"sync_standby":"a,b,c"}"#;
    assert_eq!(start(quorum, SyncMode::Quorum, false), "ANY 2 (a,b,c)");
    assert_eq!(start(ALONE, SyncMode::Quorum, false), "");
    let waits_for_any = format!("ANY 1 ({})", crate::sync::PLACEHOLDER);
    assert_eq!(start(ALONE, SyncMode::Quorum, true), waits_for_any);
}
