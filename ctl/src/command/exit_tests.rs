//! How every command ends when the REST API of the members refuses, and when it is silent.

use super::*;
use crate::args::{Args, whole};
use crate::fixture::{move_apis, world};
use crate::rest::answering::serve;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Exit code 0.
    Well,
    /// Exit code 1, with the reason.
    WithError,
    /// The exit code says what was found.
    WithFindings,
}
use Ends::*;

const DEFAULT: &str = "02-three-nodes-default";
const SCHEDULED: &str = "09-scheduled-switchover-and-restart";

/// A command line on a recorded moment: how it ends when all members answer 503, and how when
/// none answers.
const LINES: &[(&str, &str, Ends, Ends)] = &[
    // What is to be done was not done.
    ("reload golden --force", DEFAULT, WithError, WithError),
    ("restart golden n2 --force", DEFAULT, WithError, WithError),
    ("restart golden n3 --force --scheduled 2035-06-01T12:00Z", SCHEDULED, WithError, WithError),
    ("reinit golden n2 --force", DEFAULT, WithError, WithError),
    ("reinit golden n2 --force --wait", DEFAULT, WithError, WithError),
    ("flush golden restart --force", SCHEDULED, WithError, WithError),
    ("pause", DEFAULT, WithError, WithError),
    ("resume", "11-paused", WithError, WithError),
    ("demote-cluster --host h --force", DEFAULT, WithError, WithError),
    ("promote-cluster golden-dr --force", "18-standby-cluster", WithError, WithError),
    ("explain n2", DEFAULT, WithError, WithError),
    ("decisions n2", DEFAULT, WithError, WithError),
    // Without an answer the request goes into the store; a refusal stays one.
    ("switchover --candidate n2 --force", DEFAULT, WithError, Well),
    ("failover --candidate n2 --force", DEFAULT, WithError, Well),
    // The store takes it when no member does.
    ("flush golden switchover", SCHEDULED, Well, Well),
    // Questions: what a member does not tell is shown as unknown.
    ("version golden", DEFAULT, Well, Well),
    ("slots", DEFAULT, Well, Well),
    ("doctor", DEFAULT, WithFindings, WithFindings),
    // No member is asked by REST.
    ("list", DEFAULT, Well, Well),
    ("topology", DEFAULT, Well, Well),
    ("history", DEFAULT, Well, Well),
    ("show-config", DEFAULT, Well, Well),
    ("edit-config -s ttl=40 --force", DEFAULT, Well, Well),
    ("dsn", DEFAULT, Well, Well),
    ("query -m nosuch -c x", DEFAULT, Well, Well),
];
/// These ask no member by REST, and need more than a store of one cluster.
const OTHERS: [&str; 6] = ["region", "citus", "demo", "completion", "man", "remove"];

async fn end(line: &str, moment: &str, url: &str) -> (Ends, String) {
    let (mut world, screen) = world(moment, "");
    move_apis(&world, url).await;
    let words = format!("matriarchctl {line}");
    let args = Args::read(words.split(' ').map(Into::into)).unwrap();
    let ended = dispatch(&mut world, args.command).await;
    let how = match &ended {
        Ok(()) => Well,
        Err(error) if error.is::<Found>() => WithFindings,
        Err(error) => {
            assert!(!error.is::<crate::prompt::Aborted>(), "{line} asks");
            WithError
        }
    };
    (how, format!("{}{ended:?}", screen.text()))
}

#[tokio::test]
async fn a_rest_action_that_fails_is_an_error_of_the_command() {
    for (line, moment, refused, silent) in LINES {
        let (url, asked) = serve(ANSWERS.map(|begin| (begin, 503, "no".into())).to_vec()).await;
        let (how, text) = end(line, moment, &url).await;
        assert_eq!(how, *refused, "{line}, refused: {text}");
        let asks = !asked.all().is_empty();
        let (how, text) = end(line, moment, "http://127.0.0.1:1/patroni").await;
        assert_eq!(how, *silent, "{line}, silent: {text}");
        assert!(asks || (*refused, *silent) == (Well, Well), "{line} asks no member");
    }
}

const ANSWERS: [&str; 4] = ["GET", "POST", "PATCH", "DELETE"];

#[test]
fn every_command_is_in_the_table() {
    let all = whole();
    let all: BTreeSet<&str> = all.get_subcommands().map(|command| command.get_name()).collect();
    let lines = LINES.iter().filter_map(|(line, ..)| line.split(' ').next());
    let known: BTreeSet<&str> = lines.chain(OTHERS).collect();
    assert_eq!(all, known);
}
