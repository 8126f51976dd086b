//! Which store and which cluster: the configuration, and the options above it.

use crate::args::Place;
use anyhow::{Context, Result, anyhow};
use node::config::{CtlSettings, Environment, load_for_ctl, take_working_directory};
use node::dcs::settings::{HOSTS_VARIABLE, StoreUrl, is_address_variable};
use std::path::{Path, PathBuf};

const DEFAULT_FILE: &str = ".config/patroni/patronictl.yaml";

/// Settings from file and environment; `--dcs-url` replaces the store.
pub(crate) fn settings(args: &Place) -> Result<CtlSettings> {
    let mut env = environment();
    let file = config_file(args.config_file.as_deref(), env.get("HOME"))?;
    let url = args.dcs_url.as_deref().map(store_url).transpose()?;
    if let Some(url) = &url {
        env.retain(|key, _| !is_address_variable(key));
        env.insert(HOSTS_VARIABLE.to_string(), url.host.clone());
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

fn store_url(text: &str) -> Result<StoreUrl> {
    StoreUrl::parse(text).map_err(|wrong| anyhow!("--dcs-url {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_must_be_there_and_the_default_need_not() {
        let error = config_file(Some(Path::new("/nonexistent.yml")), None).unwrap_err();
        assert!(error.to_string().contains("/nonexistent.yml"));
        assert_eq!(config_file(None, Some(&"/nonexistent".to_string())).unwrap(), None);
    }
}
