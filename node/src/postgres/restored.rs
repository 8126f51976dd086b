//! The first start of a data directory that an operator's command made.
//!
//! Whose passwords are in it is not known, so for this start only this machine
//! gets in, without a password, as superuser or replication user. The rules are
//! in a file of their own: the caller ends this server when its work is done,
//! and no later start reads that file.
//!
//! Invariant *no other client gets in* before the passwords are set anew.
//!
//! Absent on purpose: waiting for the end of recovery, and what is done then.

use super::error::{Error, remove_if_there};
use super::files::{self, Places};
use super::parameters::{Effective, RECOVERY};
use super::spelling::scalar;
use super::{Instance, Written};
use crate::config::{BootstrapMethod, Postgresql};
use crate::postgres::Postmaster;
use member::role::Role;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::IpAddr;
use topology::quote::identifier;
use topology::tags::parse_bool;

/// The rules of the first start, in the data directory.
const TRUST: &str = "pg_hba.bootstrap.conf";

/// Once settings, now files: `standby.signal` and `promote`.
const BY_SIGNAL: [&str; 3] = ["standby_mode", "trigger_file", "promote_trigger_file"];

/// Which settings of recovery the first start has.
#[derive(Clone, Copy, Debug)]
pub enum Recovery<'a> {
    /// None: what a tool has left behind is removed.
    None,
    /// Those that the command wrote.
    Kept,
    /// Those of the configuration.
    Given(&'a Map<String, Value>),
}

impl<'a> Recovery<'a> {
    pub fn of(method: &'a BootstrapMethod) -> Recovery<'a> {
        match &method.recovery_conf {
            Some(given) => Recovery::Given(given),
            None if method.keep_existing_recovery_conf => Recovery::Kept,
            None => Recovery::None,
        }
    }

    /// Reading while it recovers demands as many connections and locks as the
    /// old primary had. Where it opens by itself, no client needs to read before.
    fn opens_by_itself(self) -> bool {
        match self {
            Recovery::None => false,
            Recovery::Kept => true,
            Recovery::Given(given) => block(given)
                .get("recovery_target_action")
                .is_some_and(|action| action.eq_ignore_ascii_case("promote")),
        }
    }

    /// Ends as a standby would: `standby_mode` of old.
    fn is_standby(self) -> bool {
        matches!(self, Recovery::Given(given)
            if given.get("standby_mode").and_then(parse_bool) == Some(true))
    }
}

impl Instance {
    /// Starts what a command made; does not wait for it.
    pub async fn start_restored(
        &self,
        recovery: Recovery<'_>,
        bootstrap_hba: &[String],
        dynamic: &Value,
        overrides: &[(String, String)],
    ) -> Result<(Postmaster, Written), Error> {
        self.make_room().await?;
        let places = Places::of(&self.settings);
        files::restore_backups(&places)?;
        remove_if_there(&self.settings.data_dir.join("promote"))?;
        let mut ours = overrides.to_vec();
        ours.push(("hba_file".into(), self.write_trust(&places)?));
        if recovery.opens_by_itself() {
            ours.push(("hot_standby".into(), "off".into()));
        }
        let effective = self.effective_restored(recovery, dynamic, &ours).await?;
        let block = match recovery {
            Recovery::Given(given) => Some(block(given)),
            Recovery::None | Recovery::Kept => None,
        };
        let hba_is_theirs = parameters_name_hba(&self.settings, dynamic);
        if self.settings.pg_hba.is_none() && !hba_is_theirs && !bootstrap_hba.is_empty() {
            files::append_hba(bootstrap_hba, &places)?;
        }
        let changed = files::write_conf(&effective, block.as_ref(), &places)?;
        set_signals(recovery, &places)?;
        let beside_values = self.tell(&effective, block);
        let written = Written { changed, beside_values, effective };
        let postmaster = self.launch(&written).await?;
        Ok((postmaster, written))
    }

    async fn effective_restored(
        &self,
        recovery: Recovery<'_>,
        dynamic: &Value,
        overrides: &[(String, String)],
    ) -> Result<Effective, Error> {
        let catalogue = self.catalogue().await?;
        let reads = matches!(recovery, Recovery::Given(_)) && !recovery.opens_by_itself();
        let control = if reads { Some(self.control().await?) } else { None };
        let role = Role::Primary;
        Ok(self.effective(role, dynamic, overrides, control.as_ref(), &catalogue).await)
    }

    fn write_trust(&self, places: &Places) -> Result<String, Error> {
        let path = places.data_dir.join(TRUST);
        files::write_lines(&path, &trust(&self.settings), places)?;
        Ok(path.display().to_string())
    }

    /// The server of the first start has ended.
    pub fn end_trust(&self) -> Result<(), Error> {
        remove_if_there(&self.settings.data_dir.join(TRUST))
    }
}

fn parameters_name_hba(settings: &Postgresql, dynamic: &Value) -> bool {
    let dynamic = dynamic.get("postgresql").and_then(|p| p.get("parameters"));
    let names = |map: &Map<String, Value>| map.keys().any(|k| k.eq_ignore_ascii_case("hba_file"));
    names(&settings.parameters) || dynamic.and_then(Value::as_object).is_some_and(names)
}

/// This machine alone, as the users that this daemon needs.
fn trust(settings: &Postgresql) -> Vec<String> {
    let host = settings.local_host();
    let own = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Some(format!("{address}/32")),
        Ok(IpAddr::V6(address)) => Some(format!("{address}/128")),
        Err(_) => Some(host.to_string()),
    };
    let local = ["127.0.0.1/32", "::1/128"].map(str::to_string);
    let own = own.filter(|own| own != "localhost" && !local.contains(own));
    let superuser = identifier(&settings.superuser.username);
    let users = [("all", superuser.clone()), ("replication", superuser)]
        .into_iter()
        .chain([("replication", identifier(&settings.replication.username))]);
    let addresses: Vec<String> = local.into_iter().chain(own).collect();
    users
        .flat_map(|(database, user)| {
            let hosts = addresses.iter().map(move |a| ("host", format!(" {a}")));
            let places: Vec<_> = std::iter::once(("local", String::new())).chain(hosts).collect();
            places.into_iter().map(move |(kind, at)| format!("{kind} {database} {user}{at} trust"))
        })
        .collect()
}

/// The settings of recovery that this PostgreSQL knows, by today's names.
fn block(given: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut block = BTreeMap::new();
    for (name, value) in given {
        let name = name.to_lowercase();
        if name == "pause_at_recovery_target" {
            let action = if parse_bool(value) == Some(false) { "promote" } else { "pause" };
            block.entry("recovery_target_action".into()).or_insert_with(|| action.to_string());
        } else if RECOVERY.contains(&name.as_str())
            && !BY_SIGNAL.contains(&name.as_str())
            && let Some(text) = text(value)
        {
            block.insert(name, text);
        }
    }
    block
}

fn text(value: &Value) -> Option<String> {
    if value.is_array() { None } else { scalar(value) }
}

fn set_signals(recovery: Recovery<'_>, places: &Places) -> Result<(), Error> {
    match recovery {
        Recovery::Kept => refuse_old_form(places),
        Recovery::None => {
            files::strip_auto_conf(places)?;
            files::set_standby(places, false)
        }
        Recovery::Given(_) => {
            files::strip_auto_conf(places)?;
            files::set_standby(places, recovery.is_standby())?;
            if recovery.is_standby() { Ok(()) } else { files::set_recovery(places) }
        }
    }
}

/// What a tool wrote must take effect, but no server from 12 on reads this file.
fn refuse_old_form(places: &Places) -> Result<(), Error> {
    let path = files::old_recovery_conf(places);
    if path.exists() { Err(Error::OldRecoveryConf(path)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_recovery_conf_of_old_is_refused_where_it_would_count_and_else_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::in_data(dir.path());
        let there = |name: &str| dir.path().join(name).exists();
        std::fs::write(dir.path().join("recovery.conf"), "restore_command = 'x'\n").unwrap();
        let text = set_signals(Recovery::Kept, &places).unwrap_err().to_string();
        assert!(text.contains("recovery.signal"), "{text}");
        set_signals(given(&json!({"recovery_target": "immediate"})), &places).unwrap();
        assert!(there("recovery.done") && there("recovery.signal") && !there("recovery.conf"));
        set_signals(given(&json!({"standby_mode": "on"})), &places).unwrap();
        assert!(there("standby.signal") && !there("recovery.signal"));
        set_signals(Recovery::Kept, &places).unwrap();
        assert!(there("standby.signal"), "what a tool made is kept");
        set_signals(Recovery::None, &places).unwrap();
        assert!(!there("standby.signal") && !there("recovery.signal"));
    }

    fn given(value: &Value) -> Recovery<'_> {
        Recovery::Given(value.as_object().unwrap())
    }

    #[test]
    fn only_this_machine_gets_in_and_only_as_our_users() {
        let mut settings =
            Postgresql { listen_hosts: vec!["10.0.0.5".into()], ..Default::default() };
        settings.superuser.username = "bo\"ss".into();
        settings.replication.username = "rep".into();
        let lines = trust(&settings);
        assert!(lines.contains(&"local all \"bo\"\"ss\" trust".to_string()), "{lines:?}");
        assert!(lines.contains(&"host replication \"rep\" 10.0.0.5/32 trust".to_string()));
        assert!(lines.contains(&"host all \"bo\"\"ss\" ::1/128 trust".to_string()));
        assert!(lines.iter().all(|line| !line.contains("0.0.0.0") && !line.contains(" all all ")));
        settings.listen_hosts = vec!["*".into()];
        assert_eq!(trust(&settings).iter().filter(|l| l.starts_with("host all")).count(), 2);
    }

    #[test]
    fn a_recovery_that_opens_by_itself_needs_no_readers() {
        assert!(given(&json!({"recovery_target_action": "promote"})).opens_by_itself());
        assert!(given(&json!({"pause_at_recovery_target": "off"})).opens_by_itself());
        assert!(!given(&json!({"recovery_target": "immediate"})).opens_by_itself());
        assert!(Recovery::Kept.opens_by_itself() && !Recovery::None.opens_by_itself());
    }

    #[test]
    fn settings_of_recovery_are_taken_by_todays_names() {
        let old = json!({"standby_mode": "off", "pause_at_recovery_target": true, "junk": 1,
            "Restore_Command": "cp %f %p", "recovery_target_inclusive": false});
        let Recovery::Given(map) = given(&old) else { panic!("just made") };
        let block = block(map);
        let pairs: Vec<_> = block.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let wanted = [
            ("recovery_target_action", "pause"),
            ("recovery_target_inclusive", "off"),
            ("restore_command", "cp %f %p"),
        ];
        assert_eq!(pairs, wanted);
        assert!(!given(&old).is_standby() && given(&json!({"standby_mode": "on"})).is_standby());
    }
}
