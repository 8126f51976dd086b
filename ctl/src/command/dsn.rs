//! `dsn`: where a member listens, for scripts that connect.

use crate::args::{Dsn, RoleFilter};
use crate::world::{Cluster, World};
use anyhow::{Result, bail};

pub(crate) async fn run(world: &mut World, args: &Dsn) -> Result<()> {
    if args.role.is_some() && args.member.is_some() {
        bail!("--role and --member are mutually exclusive options");
    }
    let scope = world.scope(args.of.cluster.as_deref())?;
    let cluster = world.read(&scope, args.of.group).await?;
    let line = dsn(&cluster, args)?;
    world.terminal.say(&line)
}

fn dsn(cluster: &Cluster, args: &Dsn) -> Result<String> {
    let default = if args.member.is_some() { RoleFilter::Any } else { RoleFilter::Leader };
    let role = args.role.unwrap_or(default);
    let found = cluster.members().into_iter().find_map(|member| {
        let is_named = args.member.as_ref().is_none_or(|name| *name == member.name.0);
        let fits = is_named && role.matches(cluster.view(member.group)?, &member.name);
        if fits { member.record.address() } else { None }
    });
    match found {
        Some((host, port)) => Ok(format!("host={host} port={port}")),
        None => bail!("Can not find a suitable member"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::world;

    #[tokio::test]
    async fn the_leader_a_role_or_a_member() {
        let (mut world, screen) = world("02-three-nodes-default", "");
        let role = |role| Dsn { of: Default::default(), role, member: None };
        run(&mut world, &role(None)).await.unwrap();
        run(&mut world, &role(Some(RoleFilter::Replica))).await.unwrap();
        let named = Dsn { member: Some("n3".into()), ..role(None) };
        run(&mut world, &named).await.unwrap();
        let lines = [5361, 5362, 5363].map(|port| format!("host=127.0.0.1 port={port}\n"));
        assert_eq!(screen.text(), lines.concat());
        let both = Dsn { role: Some(RoleFilter::Any), ..named };
        assert!(run(&mut world, &both).await.is_err());
        let unnamed = Dsn { member: Some("x".into()), ..role(None) };
        let error = run(&mut world, &unnamed).await.unwrap_err();
        assert_eq!(error.to_string(), "Can not find a suitable member");
    }
}
