//! `list` and `topology`: the members, or the formation, once or again and again.

use super::region::{self, Picture};
use crate::args;
use crate::members;
use crate::moment;
use crate::output::{Format, render};
use crate::world::World;
use anyhow::Result;
use std::time::Duration;

/// Clears the screen and goes to its upper left corner.
pub(super) const CLEAR: &str = "\x1b[2J\x1b[1;1H";
const WATCH_MIN: Duration = Duration::from_millis(100);
const WATCH_MAX: Duration = Duration::from_secs(86_400);

pub(crate) struct Request {
    clusters: Vec<String>,
    group: Option<u32>,
    extended: bool,
    remote_lag: bool,
    timestamp: bool,
    is_tree: bool,
    /// The whole formation instead of a table.
    formation: Option<Picture>,
    format: Format,
    every: Option<Duration>,
}

impl From<args::List> for Request {
    fn from(args: args::List) -> Request {
        Request {
            clusters: args.clusters,
            group: args.group,
            extended: args.extended,
            remote_lag: args.remote_lag,
            timestamp: args.timestamp,
            is_tree: false,
            formation: None,
            format: args.format,
            every: every(&args.watch),
        }
    }
}

impl From<args::Topology> for Request {
    fn from(args: args::Topology) -> Request {
        let formation = picture(&args);
        Request {
            clusters: args.clusters,
            group: args.group,
            extended: false,
            remote_lag: false,
            timestamp: false,
            is_tree: true,
            formation,
            format: Format::Pretty,
            every: every(&args.watch),
        }
    }
}

fn picture(args: &args::Topology) -> Option<Picture> {
    match (args.dot, args.json) {
        (true, _) => Some(Picture::Dot),
        (_, true) => Some(Picture::Json),
        _ => args.formation.then_some(Picture::Tree),
    }
}

pub(super) fn every(watch: &args::Watch) -> Option<Duration> {
    let seconds = watch.seconds.or(watch.every_two_seconds.then_some(2.0))?;
    let wait = Duration::try_from_secs_f64(seconds).unwrap_or(WATCH_MAX);
    Some(wait.clamp(WATCH_MIN, WATCH_MAX))
}

pub(crate) async fn run(world: &mut World, request: &Request) -> Result<()> {
    let scopes = if request.clusters.is_empty() {
        world.settings.scope.clone().into_iter().collect()
    } else {
        request.clusters.clone()
    };
    if scopes.is_empty() {
        return world.terminal.note("Listing members: No cluster names were provided");
    }
    loop {
        if request.every.is_some() {
            world.terminal.print(CLEAR)?;
        }
        once(world, request, &scopes).await?;
        match request.every {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return Ok(()),
        }
    }
}

async fn once(world: &mut World, request: &Request, scopes: &[String]) -> Result<()> {
    if request.timestamp {
        let now = moment::to_the_second(&world.now());
        world.terminal.say(&now)?;
    }
    for scope in scopes {
        if let Some(picture) = request.formation {
            region::draw(world, scope, picture).await?;
            continue;
        }
        let cluster = world.read(scope, request.group).await?;
        let mut shown = cluster.shown(request.extended, request.is_tree);
        let now = world.now().timestamp().as_millisecond().unsigned_abs();
        shown.remote_lag_at = request.remote_lag.then_some(now);
        let table = members::rows(&cluster.groups, &shown);
        world.terminal.print(&render(&table, request.format))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{transcript, world};

    fn list(clusters: &[&str]) -> args::List {
        args::List {
            clusters: clusters.iter().map(|c| c.to_string()).collect(),
            group: None,
            extended: false,
            remote_lag: false,
            timestamp: false,
            format: Format::Pretty,
            watch: args::Watch::default(),
        }
    }

    #[tokio::test]
    async fn what_the_store_holds_is_listed() {
        let (mut world, screen) = world("02-three-nodes-default", "");
        run(&mut world, &list(&[]).into()).await.unwrap();
        assert_eq!(screen.text(), transcript("02-three-nodes-default")[0].1);
    }

    #[tokio::test]
    async fn several_clusters_follow_each_other_and_none_is_a_warning() {
        let (mut world, screen) = world("02-three-nodes-default", "");
        run(&mut world, &list(&["golden", "nosuch"]).into()).await.unwrap();
        assert_eq!(screen.text().matches("+ Cluster: ").count(), 2);
        world.settings.scope = None;
        run(&mut world, &list(&[]).into()).await.unwrap();
        assert!(screen.text().ends_with("No cluster names were provided\n"));
    }

    #[tokio::test]
    async fn each_picture_of_the_formation_implies_it() {
        use crate::args::{Args, Command};
        use clap::Parser;
        let asked = |words: &[&str]| {
            let args = Args::try_parse_from([&["matriarchctl", "topology"], words].concat());
            match args.map(|args| args.command) {
                Ok(Command::Topology(args)) => Request::from(args).formation,
                _ => panic!("{words:?} is refused"),
            }
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&["--formation"]), Some(Picture::Tree));
        assert_eq!(asked(&["--dot"]), Some(Picture::Dot));
        assert_eq!(asked(&["--formation", "--json"]), Some(Picture::Json));
        for words in [["--formation", "--group=1"], ["--dot", "--json"]] {
            let words = [&["matriarchctl", "topology"], &words[..]].concat();
            assert!(Args::try_parse_from(words).is_err());
        }
        let (mut world, screen) = world("02-three-nodes-default", "");
        let request = Request { formation: Some(Picture::Tree), ..list(&[]).into() };
        run(&mut world, &request).await.unwrap();
        assert!(screen.text().starts_with("golden: owner local\n"));
    }

    #[test]
    fn the_watch_is_never_too_fast() {
        let watch = |seconds| args::Watch { every_two_seconds: false, seconds: Some(seconds) };
        assert_eq!(every(&watch(-1.0)), Some(WATCH_MAX));
        assert_eq!(every(&watch(0.0)), Some(WATCH_MIN));
        assert_eq!(
            every(&args::Watch { every_two_seconds: true, seconds: None }),
            Some(Duration::from_secs(2))
        );
    }
}
