//! A wrong `topology` section: the daemon ends at once and says what is wrong.

use super::formation::daemon;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::process::Command;

pub(crate) fn wrong_sections_are_refused() -> Result<()> {
    let unlisted = json!(["west", "south"]);
    let twice = json!(["north", "south", "south"]);
    refused(&unlisted, "does not list `north`")?;
    refused(&twice, "`south` is named twice")
}

fn refused(regions: &Value, finding: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("north.yml");
    std::fs::write(&path, serde_yaml::to_string(&config(regions, dir.path()))?)?;
    let output = Command::new(daemon()?).arg(&path).output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.code() == Some(1), "ended with {}: {text}", output.status);
    ensure!(text.contains(finding), "`{finding}` is not in: {text}");
    Ok(())
}

/// Each region has its own store: no other finding must come first.
fn config(regions: &Value, dir: &std::path::Path) -> Value {
    let entry = |(index, name): (usize, &Value)| json!({"name": name, "etcd3": {"hosts": format!("127.0.0.1:{}", index + 1)}});
    let regions: Vec<Value> =
        regions.as_array().into_iter().flatten().enumerate().map(entry).collect();
    let login = |name: &str| json!({"username": name, "password": "p"});
    json!({
        "scope": "shop", "name": "n1",
        "restapi": {"listen": "127.0.0.1:0", "connect_address": "127.0.0.1:9"},
        "etcd3": {"hosts": "127.0.0.1:1"},
        "postgresql": {
            "listen": "127.0.0.1:9", "connect_address": "127.0.0.1:9",
            "data_dir": dir.join("data"),
            "authentication": {
                "superuser": login("postgres"), "replication": login("replicator"),
            },
        },
        "topology": {"formation": "shop", "region": "north", "regions": regions},
    })
}
