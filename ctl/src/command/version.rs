//! `version`: of this command and of running members.
//!
//! The first line keeps the name and the number of the interface that tools
//! parse; the number of this program stands behind them.

use crate::args::Version;
use crate::rest::QUICK;
use crate::world::{self, World};
use anyhow::Result;
use reqwest::Method;
use serde_json::Value;

fn own() -> String {
    format!("patronictl version {}", topology::member::PATRONI_VERSION)
}

/// Needs neither a store nor a configuration.
pub(crate) fn own_only() -> Result<()> {
    world::screen().say(&own())
}

pub(crate) async fn run(world: &mut World, args: &Version) -> Result<()> {
    world.terminal.say(&own())?;
    let Some(scope) = &args.cluster else {
        return Ok(());
    };
    world.terminal.say("")?;
    let cluster = world.read(scope, args.group).await?;
    for member in cluster.members() {
        if !args.names.is_empty() && !args.names.contains(&member.name.0) {
            continue;
        }
        let reply = super::reload::call(world, &member, Method::GET, "patroni", None, QUICK).await;
        let text = match reply {
            Ok(reply) => versions(&reply.json()),
            Err(silence) => format!("failed to get version: {silence}"),
        };
        world.terminal.say(&format!("{}: {text}", member.name))?;
    }
    Ok(())
}

fn versions(status: &Value) -> String {
    let of_daemon = status.pointer("/patroni/version").and_then(Value::as_str).unwrap_or("unknown");
    let of_server = status.get("server_version").and_then(Value::as_u64).map(server);
    match of_server {
        Some(server) => format!("Patroni {of_daemon} PostgreSQL {server}"),
        None => format!("Patroni {of_daemon}"),
    }
}

/// 150018 is 15.18, 90624 is 9.6.24.
fn server(number: u64) -> String {
    let (major, minor, patch) = (number / 10_000, number / 100 % 100, number % 100);
    if major >= 10 {
        format!("{major}.{}", number % 10_000)
    } else {
        format!("{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{move_apis, world};
    use crate::rest::answering::serve;

    #[tokio::test]
    async fn members_tell_their_versions() {
        let status = r#"{"server_version": 150018, "patroni": {"version": "4.1.5"}}"#.to_string();
        let (url, _) = serve(vec![("GET /patroni", 200, status)]).await;
        let (mut world, screen) = world("02-three-nodes-default", "");
        move_apis(&world, &url).await;
        let names = vec!["n1".to_string(), "n2".to_string()];
        let args = Version { cluster: Some("golden".into()), names, group: None };
        run(&mut world, &args).await.unwrap();
        let text = "patronictl version 4.1.5\n\nn1: Patroni 4.1.5 PostgreSQL 15.18\n\
            n2: Patroni 4.1.5 PostgreSQL 15.18\n";
        assert_eq!(screen.text(), text);
        assert_eq!(server(90_624), "9.6.24");
    }
}
