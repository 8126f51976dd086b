//! Which members a command acts on: by name, by role, after a look and a yes.

use crate::args::RoleFilter;
use crate::world::{Chosen, Cluster, World};
use anyhow::{Result, bail};
use topology::MemberName;

/// Members with the role, and of these the named ones if any are named.
///
/// `role_label` is the role as the error names it.
pub(crate) fn members(
    cluster: &Cluster,
    names: &[String],
    role: RoleFilter,
    role_label: &str,
) -> Result<Vec<Chosen>> {
    let all = cluster.members();
    if all.is_empty() {
        bail!("{} cluster doesn't have any members", cluster.scope);
    }
    let has_role =
        |m: &Chosen| cluster.view(m.group).is_some_and(|view| role.matches(view, &m.name));
    let fitting: Vec<Chosen> = all.into_iter().filter(has_role).collect();
    if fitting.is_empty() {
        bail!("{} cluster doesn't have any {} members", cluster.scope, role.text());
    }
    let is_fitting = |name: &String| fitting.iter().any(|m| m.name.as_str() == name);
    if !names.iter().all(is_fitting) {
        bail!("No {role_label} among provided members");
    }
    let is_named = |m: &Chosen| names.is_empty() || names.contains(&m.name.0);
    Ok(fitting.into_iter().filter(is_named).collect())
}

/// `'any'`, as commands name a role that may be given by an option.
pub(crate) fn quoted(role: RoleFilter) -> String {
    format!("'{}'", role.text())
}

pub(crate) fn list(members: &[Chosen]) -> String {
    members.iter().map(|m| MemberName::to_string(&m.name)).collect::<Vec<_>>().join(", ")
}

/// Asks before the members are touched.
pub(crate) fn confirm(
    world: &mut World,
    action: &str,
    members: &[Chosen],
    after: &str,
) -> Result<()> {
    let names = list(members);
    world.terminal.confirm(&format!("Are you sure you want to {action} members {names}{after}?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::world;

    #[tokio::test]
    async fn names_and_roles_are_both_needed() {
        let (world, _) = world("02-three-nodes-default", "");
        let cluster = world.read("golden", None).await.unwrap();
        let pick = |names: &[&str], role| {
            let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            members(&cluster, &names, role, &quoted(role))
                .map(|m| list(&m))
                .map_err(|e| e.to_string())
        };
        assert_eq!(pick(&[], RoleFilter::Any).unwrap(), "n1, n2, n3");
        assert_eq!(pick(&["n3", "n2"], RoleFilter::Replica).unwrap(), "n2, n3");
        let error = pick(&["nosuch"], RoleFilter::Any).unwrap_err();
        assert_eq!(error, "No 'any' among provided members");
        assert!(pick(&["n1"], RoleFilter::Replica).is_err());
        let empty = world.read("nosuch", None).await.unwrap();
        assert!(members(&empty, &[], RoleFilter::Any, "any").is_err());
    }
}
