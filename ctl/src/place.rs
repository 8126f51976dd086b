//! Which store and which cluster: the configuration, and the options above it.

use crate::args::Args;
use anyhow::{Context, Result, bail};
use node::config::{CtlSettings, Environment, load_for_ctl, take_working_directory};
use std::path::{Path, PathBuf};

const DEFAULT_FILE: &str = ".config/patroni/patronictl.yaml";

/// Settings from file and environment; `--dcs-url` replaces the store.
pub(crate) fn settings(args: &Args) -> Result<CtlSettings> {
    let mut env = environment();
    let file = config_file(args.config_file.as_deref(), env.get("HOME"))?;
    let url = args.dcs_url.as_deref().map(DcsUrl::parse).transpose()?;
    if let Some(url) = &url {
        env.retain(|key, _| !is_store_address(key));
        env.insert("PATRONI_ETCD3_HOSTS".to_string(), url.host.clone());
    }
    let mut settings = load_for_ctl(file.as_deref(), &env, None)?;
    if let Some(url) = url {
        settings.store.hosts = vec![url.host];
        settings.namespace = url.namespace.unwrap_or(settings.namespace);
    }
    Ok(settings)
}

/// A variable of another program need not be text.
fn environment() -> Environment {
    let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
    let mut env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    take_working_directory(&mut env);
    env
}

fn is_store_address(key: &str) -> bool {
    ["PATRONI_ETCD_", "PATRONI_ETCD3_"].iter().any(|section| {
        key.strip_prefix(section)
            .is_some_and(|k| ["HOST", "HOSTS", "URL", "PROXY", "SRV", "SRV_SUFFIX"].contains(&k))
    })
}

/// A file that was named must be there; the default one may be missing.
fn config_file(named: Option<&Path>, home: Option<&String>) -> Result<Option<PathBuf>> {
    if let Some(path) = named {
        std::fs::metadata(path)
            .with_context(|| format!("Provided config file {} is not there", path.display()))?;
        return Ok(Some(path.to_path_buf()));
    }
    let default = home.map(|home| Path::new(home).join(DEFAULT_FILE));
    Ok(default.filter(|path| path.is_file()))
}

/// `scheme://host:port/namespace`; all parts but the host may be missing.
#[derive(Debug, PartialEq, Eq)]
struct DcsUrl {
    host: String,
    namespace: Option<String>,
}

impl DcsUrl {
    fn parse(text: &str) -> Result<DcsUrl> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let (address, namespace) = match rest.split_once('/') {
            Some((address, path)) => (address, Some(path)),
            None => (rest, None),
        };
        let (host, port) = split_port(address);
        let scheme = scheme.unwrap_or(match port {
            Some("8500") => "consul",
            Some("8181") => "exhibitor",
            Some("2181") => "zookeeper",
            _ => "etcd",
        });
        if !["etcd", "etcd3"].contains(&scheme) {
            bail!("--dcs-url names a store of the kind `{scheme}`; use etcd3://host:port");
        }
        let host = if host.is_empty() { "localhost" } else { host };
        let namespace = namespace.filter(|path| !path.is_empty()).map(str::to_string);
        Ok(DcsUrl { host: format!("{host}:{}", port.unwrap_or("2379")), namespace })
    }
}

fn split_port(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_url_have_defaults() {
        let parse = |text| DcsUrl::parse(text).map(|url| (url.host, url.namespace));
        let path = |text: &str| Some(text.to_string());
        assert_eq!(parse("etcd3://h:1/ns/x").unwrap(), ("h:1".into(), path("ns/x")));
        assert_eq!(parse("h").unwrap(), ("h:2379".into(), None));
        assert_eq!(parse("etcd://:7/").unwrap(), ("localhost:7".into(), None));
        assert_eq!(parse("etcd3://[::1]").unwrap().0, "[::1]:2379");
        assert_eq!(parse("[::1]:5").unwrap().0, "[::1]:5");
    }

    #[test]
    fn other_stores_are_refused_by_name() {
        for text in ["consul://h", "h:8500", "zookeeper://h:2181/x"] {
            let error = DcsUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains("etcd3://"), "{error}");
        }
    }

    #[test]
    fn a_named_file_must_be_there_and_the_default_need_not() {
        let error = config_file(Some(Path::new("/nonexistent.yml")), None).unwrap_err();
        assert!(error.to_string().contains("/nonexistent.yml"));
        assert_eq!(config_file(None, Some(&"/nonexistent".to_string())).unwrap(), None);
    }
}
