//! `show-config` and `edit-config`: the cluster-wide configuration.
//!
//! Invariant *what was seen is what is changed*: the new document is written
//! only over the version that the diff was made from.

use crate::args::{EditConfig, OneCluster};
use crate::edit::{self, Edits};
use crate::world::{One, World};
use crate::{diff, program, yaml};
use anyhow::{Context, Result, anyhow, bail};
use node::api::dynamic::{refuse, remarks};
use node::dcs::Version;
use serde_json::Value;
use topology::write::Replacement;
use topology::{Dynamic, Write, document};

const STDIN: &str = "-";

pub(crate) async fn show(world: &mut World, args: &OneCluster) -> Result<()> {
    let scope = world.scope(args.cluster.as_deref())?;
    let cluster = world.read(&scope, world.own_group(args.group)).await?;
    let one = cluster.one()?;
    one.readable_config()?;
    match &one.view.config {
        Some(config) => world.terminal.print(&yaml::block(&config.value.raw)),
        None => world.terminal.say(""),
    }
}

pub(crate) async fn edit(world: &mut World, args: &EditConfig) -> Result<()> {
    let scope = world.scope(args.of.cluster.as_deref())?;
    let cluster = world.read(&scope, world.own_group(args.of.group)).await?;
    let one = cluster.one()?;
    one.readable_config()?;
    let config = one.view.config.as_ref().ok_or_else(|| {
        anyhow!("cluster {scope} has no configuration yet; it is written at its bootstrap")
    })?;
    let current = &config.value.raw;
    let wanted = wanted(world, args, current)?;
    if &wanted == current {
        return if args.quiet { Ok(()) } else { world.terminal.say("Not changed") };
    }
    judge(world, current, &wanted)?;
    if !args.quiet {
        show_diff(world, current, &wanted)?;
    }
    if is_from_stdin(args) && !args.force {
        return world.terminal.say("Use --force option to apply changes");
    }
    if !args.force {
        world.terminal.confirm("Apply these changes?")?;
    }
    write(world, &one, config.version, &wanted).await
}

/// Refuses what `PATCH /config` would refuse, in its words, and tells what is kept
/// without an effect.
fn judge(world: &mut World, current: &Value, wanted: &Value) -> Result<()> {
    Dynamic::read(wanted)?;
    let changed = edit::changed(current, wanted);
    refuse(wanted, &changed).map_err(|why| anyhow!(why))?;
    let remarks = remarks(wanted, &changed);
    remarks.iter().try_for_each(|remark| world.terminal.note(&format!("warning: {remark}")))
}

async fn write(world: &mut World, one: &One<'_>, read_at: Version, wanted: &Value) -> Result<()> {
    let config = Replacement { value: document::compact(wanted), on: Some(read_at) };
    if !world.write(&one.keys, &Write::ReplaceConfig(config)).await? {
        bail!("Config modification aborted: it was changed meanwhile; edit again");
    }
    world.terminal.say("Configuration changed")
}

fn is_from_stdin(args: &EditConfig) -> bool {
    [&args.apply, &args.replace].iter().any(|source| source.as_deref() == Some(STDIN))
}

/// The new document, from the options or from an editor.
fn wanted(world: &mut World, args: &EditConfig, current: &Value) -> Result<Value> {
    let as_parameter = |pair: &String| format!("postgresql.parameters.{pair}");
    let edits = Edits {
        replace: source(world, args.replace.as_deref())?,
        apply: source(world, args.apply.as_deref())?,
        pairs: args.set.iter().cloned().chain(args.pg.iter().map(as_parameter)).collect(),
    };
    if !edits.is_empty() {
        return edits.over(current);
    }
    let text = program::edit(&yaml::block(current))?;
    edit::document(&text, "the edited text")
}

fn source(world: &mut World, name: Option<&str>) -> Result<Option<Value>> {
    let (text, label) = match name {
        None => return Ok(None),
        Some(STDIN) => (world.terminal.rest()?, "the standard input"),
        Some(path) => {
            let text = std::fs::read_to_string(path);
            (text.with_context(|| format!("{path} cannot be read"))?, path)
        }
    };
    edit::document(&text, label).map(Some)
}

fn show_diff(world: &mut World, current: &Value, wanted: &Value) -> Result<()> {
    let lines = diff::unified(&yaml::block(current), &yaml::block(wanted));
    if world.terminal.is_interactive && program::page(&coloured(&lines)) {
        return Ok(());
    }
    lines.iter().try_for_each(|line| world.terminal.say(line))
}

fn coloured(lines: &[String]) -> String {
    let colour = |line: &String| match line.as_bytes().first() {
        Some(b'+') => format!("\x1b[32m{line}\x1b[0m\n"),
        Some(b'-') => format!("\x1b[31m{line}\x1b[0m\n"),
        Some(b'@') => format!("\x1b[36m{line}\x1b[0m\n"),
        _ => format!("{line}\n"),
    };
    lines.iter().map(colour).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::world;

    const MOMENT: &str = "04-pending-restart";

    fn args(set: &[&str], pg: &[&str]) -> EditConfig {
        let own = |words: &[&str]| words.iter().map(|w| w.to_string()).collect();
        EditConfig { set: own(set), pg: own(pg), force: true, ..EditConfig::default() }
    }

    #[tokio::test]
    async fn a_configuration_is_shown_sorted_and_a_missing_one_is_an_empty_line() {
        let (mut world, screen) = world("02-three-nodes-default", "");
        show(&mut world, &OneCluster::default()).await.unwrap();
        let text = "loop_wait: 10\nmaximum_lag_on_failover: 1048576\nretry_timeout: 10\nttl: 30\n";
        assert_eq!(screen.text(), text);
        let nosuch = OneCluster { cluster: Some("nosuch".into()), group: None };
        show(&mut world, &nosuch).await.unwrap();
        assert_eq!(screen.text(), format!("{text}\n"));
    }

    #[tokio::test]
    async fn an_edit_shows_its_diff_and_is_written() {
        let (mut world, screen) = world(MOMENT, "");
        let edits = args(&["loop_wait=2", "synchronous_mode=false"], &["work_mem=6MB"]);
        edit(&mut world, &edits).await.unwrap();
        let text = screen.text();
        assert!(text.starts_with("--- \n+++ \n@@ -"), "{text}");
        assert!(text.contains("\n+    work_mem: 6MB\n"), "{text}");
        assert!(text.ends_with("Configuration changed\n"), "{text}");
        let cluster = world.read("golden", None).await.unwrap();
        let raw = &cluster.one().unwrap().view.config.as_ref().unwrap().value.raw;
        assert_eq!(raw["postgresql"]["parameters"]["work_mem"], "6MB");
    }

    #[tokio::test]
    async fn no_change_and_quiet_edits_say_what_they_should() {
        let (mut world, screen) = world(MOMENT, "");
        edit(&mut world, &args(&["loop_wait=2"], &[])).await.unwrap();
        let quiet = EditConfig { quiet: true, ..args(&[], &["work_mem=7MB"]) };
        edit(&mut world, &quiet).await.unwrap();
        assert_eq!(screen.text(), "Not changed\nConfiguration changed\n");
    }

    #[tokio::test]
    async fn without_a_yes_or_with_nonsense_nothing_is_written() {
        let (mut world, screen) = world(MOMENT, "n\n");
        let unforced = EditConfig { force: false, ..args(&["loop_wait=5"], &[]) };
        let error = edit(&mut world, &unforced).await.unwrap_err();
        assert!(error.is::<crate::prompt::Aborted>());
        assert!(screen.text().ends_with("Apply these changes? [y/N]: "));
        let error = edit(&mut world, &args(&["ttl=soon"], &[])).await.unwrap_err();
        assert!(error.to_string().contains("`ttl`"), "{error}");
        let cluster = world.read("golden", None).await.unwrap();
        assert_eq!(cluster.loop_wait_s(), 2);
    }

    #[tokio::test]
    async fn p4_an_edit_is_judged_as_a_patch_is() {
        let (mut world, screen) = world(MOMENT, "");
        for (pair, part) in [
            ("postgresql.pg_hba=local all all trust", "`postgresql.pg_hba`: a text is no list"),
            ("postgresql.parameters=work_mem = 1MB", "`postgresql.parameters`: a text is no map"),
            ("postgresql.parameters.work_mem=[1, 2]", "a list is no single value"),
            ("synchronous_mode=maybe", "`synchronous_mode`"),
        ] {
            let error = edit(&mut world, &args(&[pair], &[])).await.unwrap_err().to_string();
            assert!(error.starts_with("/config: ") && error.contains(part), "{error}");
        }
        edit(&mut world, &args(&["pg_hba=[local all all trust]", "ttl=5"], &[])).await.unwrap();
        let told = "warning: pg_hba has no effect here; write it below postgresql\n";
        assert!(screen.text().starts_with(told), "{}", screen.text());
        assert!(screen.text().ends_with("Configuration changed\n"));
    }

    #[tokio::test]
    async fn a_document_from_a_pipe_needs_force() {
        let piped = EditConfig { replace: Some("-".into()), ..EditConfig::default() };
        let (mut first, screen) = world(MOMENT, "ttl: 40\n");
        edit(&mut first, &piped).await.unwrap();
        assert!(screen.text().ends_with("+ttl: 40\nUse --force option to apply changes\n"));
        let (mut second, _) = world(MOMENT, "ttl: 40\n");
        edit(&mut second, &EditConfig { force: true, ..piped }).await.unwrap();
        let cluster = second.read("golden", None).await.unwrap();
        let config = cluster.one().unwrap().view.config.clone().unwrap();
        assert_eq!(config.value.raw, serde_json::json!({"ttl": 40}));
    }

    #[tokio::test]
    async fn a_change_by_another_program_is_not_overwritten() {
        let (mut world, _) = world(MOMENT, "");
        let cluster = world.read("golden", None).await.unwrap();
        let one = cluster.one().unwrap();
        let error =
            write(&mut world, &one, Version::of_store(1), &serde_json::json!({"ttl": 40})).await;
        assert!(error.unwrap_err().to_string().contains("changed meanwhile"));
    }
}
