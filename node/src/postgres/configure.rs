//! Writing the configuration of an instance.
//!
//! Settings are put together, PostgreSQL is asked whether it takes them, and
//! the files are written where they differ.
//!
//! Absent on purpose: telling a running server (`Postmaster::reload`), and when
//! to do so.

use super::catalogue::Catalogue;
use super::controldata::ControlData;
use super::error::Error;
use super::files::{self, Places};
use super::init_sync;
use super::parameters::{self, Effective, Raised, Sources};
use super::process::Postmaster;
use super::readiness::Pacer;
use super::recovery::{self, Upstream};
use super::served::Served;
use super::{Instance, StartAs};
use member::role::Role;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What writing the configuration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Some file is not what it was: a reload has something to do.
    pub changed: bool,
    /// It is more than values of settings that are not what they were.
    pub beside_values: bool,
    pub effective: Effective,
}

/// What is remembered from one writing to the next, by all copies of an
/// instance.
#[derive(Debug, Default)]
pub(super) struct Notes {
    catalogue: tokio::sync::Mutex<Option<Arc<Catalogue>>>,
    told: Mutex<Told>,
    pacer: Mutex<Pacer>,
    served: Mutex<Option<Served>>,
}

#[derive(Debug, Default)]
struct Told {
    effective: Effective,
    recovery: Option<BTreeMap<String, String>>,
    /// Something was written before.
    once: bool,
}

impl Told {
    /// Another recovery block, or a setting that is no longer given.
    fn is_less_or_other(
        &self,
        now: &Effective,
        recovery: &Option<BTreeMap<String, String>>,
    ) -> bool {
        let kept = |name: &String| now.parameters.contains_key(name);
        !self.once || self.recovery != *recovery || !self.effective.parameters.keys().all(kept)
    }
}

impl Notes {
    pub(super) fn pacer(&self) -> MutexGuard<'_, Pacer> {
        self.pacer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn served(&self) -> MutexGuard<'_, Option<Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instance {
    /// Version and known settings of the programs in bin_dir.
    pub async fn catalogue(&self) -> Result<Arc<Catalogue>, Error> {
        let postgres = self.settings.tool("postgres");
        let mut known = self.notes.catalogue.lock().await;
        if let Some(catalogue) = known.as_ref().filter(|known| known.is_of(&postgres)) {
            return Ok(catalogue.clone());
        }
        let catalogue = Arc::new(Catalogue::load(&postgres).await?);
        *known = Some(catalogue.clone());
        Ok(catalogue)
    }

    /// Settings that the last written configuration has more of than was asked
    /// for, because the data directory demands it.
    pub fn raised(&self) -> BTreeMap<String, Raised> {
        self.notes.told().effective.raised.clone()
    }

    /// Writes all files. The running server is not told (`reload`).
    pub async fn write_config(
        &self,
        start_as: &StartAs,
        dynamic: &Value,
        overrides: &[(String, String)],
    ) -> Result<Written, Error> {
        let catalogue = self.catalogue().await?;
        let (role, places) = (start_as.role(), Places::of(&self.settings));
        let control = match role {
            Role::Primary => None,
            Role::Replica | Role::StandbyLeader => Some(self.control().await?),
        };
        let target = overrides.iter().find(|(name, _)| name == recovery::TARGET);
        let others = overrides.iter().filter(|(name, _)| name != recovery::TARGET);
        let overrides: Vec<(String, String)> = others.cloned().collect();
        let effective = self.effective(role, dynamic, &overrides, control.as_ref(), &catalogue);
        let mut effective = effective.await;
        let method = init_sync::default_method(catalogue.major, &self.settings.data_dir);
        effective.weakest.extend(method);
        effective.weakest.extend(parameters::citus_defaults(self.citus.as_ref()));
        let mut block = self.recovery_block(start_as, &mut effective, dynamic, &catalogue).await;
        if let (Some(block), Some((name, to))) = (&mut block, target) {
            block.insert(name.clone(), to.clone());
        }
        if let StartAs::Standby { upstream: Some(upstream) } = start_as {
            self.keep_pgpass(upstream)?;
        }
        let values = files::write_conf(&effective, block.as_ref(), &places)?;
        let mut others = self.write_access(&effective, role, dynamic, &places)?;
        others |= files::strip_auto_conf(&places)?;
        let beside_values = others || self.tell(&effective, block);
        Ok(Written { changed: values || others, beside_values, effective })
    }

    /// Writes all files and, if one changed, has the server read them.
    pub async fn reload(
        &self,
        postmaster: &Postmaster,
        start_as: &StartAs,
        dynamic: &Value,
        overrides: &[(String, String)],
    ) -> Result<Written, Error> {
        let written = self.write_config(start_as, dynamic, overrides).await?;
        if written.changed {
            postmaster.reload()?;
        }
        Ok(written)
    }

    pub(super) async fn effective(
        &self,
        role: Role,
        dynamic: &Value,
        overrides: &[(String, String)],
        at_least: Option<&ControlData>,
        catalogue: &Catalogue,
    ) -> Effective {
        let mut effective = parameters::effective(&Sources {
            settings: &self.settings,
            citus: self.citus.as_ref(),
            scope: &self.scope,
            dynamic,
            role,
            at_least,
            overrides,
            catalogue,
        });
        let ours = |name: &str| {
            parameters::is_controlled(name) || overrides.iter().any(|(laid, _)| laid == name)
        };
        let refused = catalogue.sift(&mut effective.parameters, ours).await;
        effective.warnings.extend(refused);
        effective
    }

    async fn recovery_block(
        &self,
        start_as: &StartAs,
        effective: &mut Effective,
        dynamic: &Value,
        catalogue: &Catalogue,
    ) -> Option<BTreeMap<String, String>> {
        let StartAs::Standby { upstream } = start_as else {
            return None;
        };
        let (settings, name) = (&self.settings, self.name.as_str());
        let major = catalogue.major;
        let upstream = upstream.as_ref();
        let mut block = recovery::settings(effective, settings, name, upstream, dynamic, major);
        let refused = catalogue.sift(&mut block, recovery::is_ours).await;
        effective.warnings.extend(refused);
        Some(block)
    }

    /// Each warning once, until another writing has others. True: more than
    /// values of settings is not what it was.
    pub(super) fn tell(
        &self,
        effective: &Effective,
        recovery: Option<BTreeMap<String, String>>,
    ) -> bool {
        let mut told = self.notes.told();
        for warning in &effective.warnings {
            if !told.effective.warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        let other = told.is_less_or_other(effective, &recovery);
        *told = Told { effective: effective.clone(), recovery, once: true };
        other
    }

    /// The password that a standby streams with: its server reads the file at
    /// every connection. Written where it is not what it should be.
    pub fn keep_pgpass(&self, upstream: &Upstream) -> Result<(), Error> {
        let login = &self.settings.replication;
        let Some(password) = &login.password else {
            return Ok(());
        };
        let (host, port) = (&upstream.host, upstream.port);
        let text = super::pgpass::pgpass_lines(host, port, &login.username, &password.0);
        files::write_pgpass(&self.settings.pgpass, &text).map(drop)
    }

    /// pg_hba.conf and pg_ident.conf, where they are ours to write.
    fn write_access(
        &self,
        effective: &Effective,
        role: Role,
        dynamic: &Value,
        places: &Places,
    ) -> Result<bool, Error> {
        let own = self.settings.by_role.get(role.word());
        let by_role = |of: fn(&crate::config::RoleSettings) -> &Option<Vec<String>>| {
            own.and_then(|own| of(own).clone())
        };
        let (hba, ident) = (&self.settings.pg_hba, &self.settings.pg_ident);
        let hba = lines(dynamic, "pg_hba", role, by_role(|own| &own.pg_hba), hba);
        let ident = lines(dynamic, "pg_ident", role, by_role(|own| &own.pg_ident), ident);
        let files = [("hba_file", places.hba(), hba), ("ident_file", places.ident(), ident)];
        let mut changed = false;
        for (name, path, lines) in files {
            let elsewhere =
                effective.parameters.get(name).is_some_and(|set| Path::new(set) != path);
            if let (Some(lines), false) = (lines, elsewhere) {
                changed |= files::write_lines(&path, &lines, places)?;
            }
        }
        Ok(changed)
    }
}

/// The lines of an access file. Those of the role replace the others; what the
/// local file says replaces what the store says.
fn lines(
    dynamic: &Value,
    name: &str,
    role: Role,
    own_of_role: Option<Vec<String>>,
    own: &Option<Vec<String>>,
) -> Option<Vec<String>> {
    let section = dynamic.get("postgresql");
    let stored = |key: &str| -> Option<Vec<String>> {
        let items = section?.get(key)?.as_array()?;
        Some(items.iter().filter_map(|line| line.as_str().map(str::to_string)).collect())
    };
    own_of_role
        .or_else(|| stored(&format!("{name}_{}", role.word())))
        .or_else(|| own.clone())
        .or_else(|| stored(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_role_and_then_the_own_file_decide_who_may_connect() {
        let dynamic = json!({"postgresql": {"pg_hba": ["stored"], "pg_hba_replica": ["of role"]}});
        let one = |line: &str| Some(vec![line.to_string()]);
        let of = |role, own_of_role, own| lines(&dynamic, "pg_hba", role, own_of_role, &own);
        assert_eq!(of(Role::Primary, None, None), one("stored"));
        assert_eq!(of(Role::Primary, None, one("own")), one("own"));
        assert_eq!(of(Role::Replica, None, one("own")), one("of role"));
        assert_eq!(of(Role::Replica, one("own of role"), one("own")), one("own of role"));
        assert_eq!(lines(&json!({}), "pg_ident", Role::Replica, None, &None), None);
    }

    fn instance(dir: &Path) -> Instance {
        let lines = |line: &str| Some(vec![line.to_string()]);
        let settings = crate::config::Postgresql {
            data_dir: dir.join("data"),
            config_dir: dir.to_path_buf(),
            pg_hba: lines("local all all trust"),
            pg_ident: lines("map os me"),
            ..Default::default()
        };
        Instance::new(Arc::new(settings), "demo", &"n1".into(), None)
    }

    fn with_files(files: &[(&str, &Path)]) -> Effective {
        let pairs = files.iter().map(|(name, path)| (name.to_string(), path.display().to_string()));
        Effective { parameters: pairs.collect(), ..Effective::default() }
    }

    #[test]
    fn access_files_are_written_unless_the_server_reads_others() {
        let dir = tempfile::tempdir().unwrap();
        let instance = instance(dir.path());
        let places = Places::of(&instance.settings);
        let write = |effective: &Effective| {
            instance.write_access(effective, Role::Primary, &json!({}), &places).unwrap()
        };
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        let (elsewhere, theirs) = (dir.path().join("etc/hba"), dir.path().join("etc/ident"));
        assert!(!write(&with_files(&[("hba_file", &elsewhere), ("ident_file", &theirs)])));
        assert_eq!((read("pg_hba.conf"), read("pg_ident.conf")), (None, None));
        assert!(write(&with_files(&[("hba_file", &elsewhere)])));
        assert_eq!(read("pg_hba.conf"), None);
        assert!(read("pg_ident.conf").unwrap().ends_with("!\nmap os me\n"));
        assert!(write(&with_files(&[("hba_file", &places.hba())])), "named where ours is");
        assert!(read("pg_hba.conf").unwrap().ends_with("!\nlocal all all trust\n"));
        assert!(!write(&Effective::default()), "nothing new");
        assert!(!elsewhere.exists() && !theirs.exists());
    }

    #[test]
    fn lines_that_are_not_given_leave_the_files_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            crate::config::Postgresql { data_dir: dir.path().to_path_buf(), ..Default::default() };
        let instance = Instance::new(Arc::new(settings), "demo", &"n1".into(), None);
        let places = Places::of(&instance.settings);
        std::fs::write(places.hba(), "by hand").unwrap();
        let effective = Effective::default();
        let written = instance.write_access(&effective, Role::Primary, &json!({}), &places);
        assert!(!written.unwrap() && !places.ident().exists());
        assert_eq!(std::fs::read_to_string(places.hba()).unwrap(), "by hand");
    }

    #[test]
    fn the_passwords_of_a_standby_are_written_once_and_again_when_they_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let pgpass = dir.path().join("pgpass");
        let mut settings = crate::config::Postgresql { pgpass, ..Default::default() };
        settings.replication.username = "rep".into();
        let upstream =
            Upstream { host: "h".into(), port: 7, slot: None, database: None, remote: false };
        let keep = |settings: &crate::config::Postgresql| {
            let settings = Arc::new(settings.clone());
            Instance::new(settings, "demo", &"n1".into(), None).keep_pgpass(&upstream).unwrap();
        };
        keep(&settings);
        assert!(!settings.pgpass.exists(), "there is no password");
        for word in ["one", "two"] {
            settings.replication.password = Some(crate::config::Secret(word.into()));
            keep(&settings);
            let text = std::fs::read_to_string(&settings.pgpass).unwrap();
            assert_eq!(text, format!("h:7:*:rep:{word}\n"));
        }
        std::fs::remove_file(&settings.pgpass).unwrap();
        keep(&settings);
        assert!(settings.pgpass.exists());
    }

    /// The connection string names the file, and not what is in it.
    #[test]
    fn known_bug_07_a_new_password_reaches_the_passfile_though_conninfo_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let pgpass = dir.path().join("pgpass");
        let mut settings = crate::config::Postgresql { pgpass, ..Default::default() };
        settings.replication.username = "rep".into();
        let upstream =
            Upstream { host: "h".into(), port: 7, slot: None, database: None, remote: false };
        let mut seen = Vec::new();
        for word in ["before", "after"] {
            settings.replication.password = Some(crate::config::Secret(word.into()));
            let none = Value::Null;
            let effective = Effective::default();
            let block = recovery::settings(&effective, &settings, "n1", Some(&upstream), &none, 15);
            let own = Arc::new(settings.clone());
            let instance = Instance::new(own, "demo", &"n1".into(), None);
            instance.keep_pgpass(&upstream).unwrap();
            let file = std::fs::read_to_string(&settings.pgpass).unwrap();
            seen.push((block["primary_conninfo"].clone(), file));
        }
        assert_eq!(seen[0].0, seen[1].0);
        assert!(seen[0].1.contains("before") && seen[1].1.contains(":rep:after"), "{seen:?}");
    }
}
