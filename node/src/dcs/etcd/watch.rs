//! One stream of etcd that watches several prefixes, turned into our items.

use super::identity::Identity;
use super::{connection, translate};
use crate::dcs::outlet::Outlet;
use crate::dcs::{DcsError, WatchItem};
use etcd_client::{Client, Error, WatchOptions, WatchResponse, WatchStream};
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

/// A stream whose watches all run, and what came meanwhile.
pub(super) struct Opened {
    stream: WatchStream,
    early: Vec<WatchResponse>,
}

/// Starts a watch per prefix and waits until the store has confirmed each.
pub(super) async fn open(
    client: Client,
    prefixes: Vec<String>,
    from: i64,
) -> Result<Opened, Error> {
    let options = WatchOptions::new().with_prefix().with_start_revision(from).with_fragment();
    let mut missing = prefixes.len();
    let mut prefixes = prefixes.into_iter();
    let first = prefixes.next().ok_or_else(|| Error::InvalidArgs("no prefix".to_string()))?;
    let mut stream = connection::watches(&client).watch(first, Some(options.clone())).await?;
    for prefix in prefixes {
        stream.watch(prefix, Some(options.clone())).await?;
    }
    let mut early = Vec::new();
    while missing > 0 {
        let ended = || Error::WatchError("the stream ended".to_string());
        let response = stream.message().await?.ok_or_else(ended)?;
        if response.created() {
            missing -= 1;
        }
        if response.canceled() {
            early.push(response);
            break;
        }
        early.push(response);
    }
    Ok(Opened { stream, early })
}

/// Feeds the receiver until it is dropped, the store is dropped or the watch
/// is over.
pub(super) fn start(
    opened: Opened,
    identity: Arc<Identity>,
    alive: watch::Receiver<()>,
) -> Result<Receiver<WatchItem>, DcsError> {
    let (outlet, receiver) = Outlet::new();
    for response in &opened.early {
        if response.canceled() {
            return Err(cancelled(response));
        }
        identity.check_watch(response.header())?;
        if let Err(why) = pass_on(&outlet, response) {
            outlet.close(why);
            return Ok(receiver);
        }
    }
    tokio::spawn(pump(opened.stream, outlet, identity, alive));
    Ok(receiver)
}

async fn pump(
    mut stream: WatchStream,
    outlet: Outlet,
    identity: Arc<Identity>,
    mut alive: watch::Receiver<()>,
) {
    let why = loop {
        let response = tokio::select! {
            () = outlet.abandoned() => return,
            _ = alive.changed() => break "the store was closed".to_string(),
            message = stream.message() => message,
        };
        let passed = match response {
            Ok(Some(response)) => {
                let known = identity.check_watch(response.header()).map_err(|e| e.to_string());
                known.and_then(|()| pass_on(&outlet, &response))
            }
            Ok(None) => Err("the stream ended".to_string()),
            Err(error) => Err(translate::error(error).to_string()),
        };
        if let Err(why) = passed {
            break why;
        }
    };
    outlet.close(why);
}

/// The error says why the watch is over.
fn pass_on(outlet: &Outlet, response: &WatchResponse) -> Result<(), String> {
    if response.canceled() {
        return Err(cancelled(response).to_string());
    }
    let events: Vec<_> = response.events().iter().filter_map(translate::event).collect();
    if events.is_empty() || outlet.offer(events) {
        Ok(())
    } else {
        Err("the reader was too slow".to_string())
    }
}

fn cancelled(response: &WatchResponse) -> DcsError {
    let reason = response.cancel_reason();
    if response.compact_revision() > 0 || reason.contains("compacted") {
        DcsError::Compacted
    } else if reason.contains("permission denied") || reason.contains("auth") {
        DcsError::Denied(reason.to_string())
    } else {
        translate::unreachable(format!("the watch was cancelled: {reason}"))
    }
}
