//! What new settings change for a server that runs.
//!
//! Compared as PostgreSQL compares: `1024kB` and `1MB` are one value. So a
//! server is not told to read files in which only the spelling changed, and the
//! log says what did change.
//!
//! Absent on purpose: recovery settings and access files, where every change
//! of the text counts.

use super::error::Error;
use super::session::Session;
use super::units::Nature;
use std::collections::BTreeMap;

const SQL: &str = "SELECT name, setting, pg_catalog.current_setting(name, true), unit, vartype, \
    context = 'postmaster' FROM pg_catalog.pg_settings \
    WHERE pg_catalog.lower(name) = ANY ($1::text[])";

/// One setting whose value will be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub name: String,
    pub from: String,
    pub to: String,
    /// Only a restart brings it.
    pub by_restart: bool,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "changed {} from '{}' to '{}'", self.name, self.from, self.to)?;
        f.write_str(if self.by_restart { " (by a restart)" } else { "" })
    }
}

/// What the running server says about one setting.
#[derive(Clone, Debug, Default)]
struct Present {
    setting: String,
    shown: String,
    nature: Nature,
    by_restart: bool,
}

/// When a session has read the server's files, asked before others are written.
///
/// A backend reads them with its next statement after the postmaster was told to. One that
/// was still to do so for an earlier reload reads the new ones, and shows values that no other
/// process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesRead(String);

impl FilesRead {
    pub async fn of(session: &Session) -> Result<FilesRead, Error> {
        const WHAT: &str = "when its files were read";
        const SQL: &str = "SELECT pg_catalog.pg_conf_load_time()::text";
        let row = session.row(WHAT, SQL, &[]).await?;
        row.try_get(0).map(FilesRead).map_err(Error::sql(WHAT))
    }

    /// Compares `wanted` with the server of `session`. `None`: it has read its files since.
    pub async fn changes(
        &self,
        session: &Session,
        wanted: &BTreeMap<String, String>,
    ) -> Result<Option<Vec<Change>>, Error> {
        let changes = changes(session, wanted).await?;
        let is_same = FilesRead::of(session).await? == *self;
        Ok(is_same.then_some(changes))
    }
}

async fn changes(
    session: &Session,
    wanted: &BTreeMap<String, String>,
) -> Result<Vec<Change>, Error> {
    let names = wanted.keys().map(|name| name.to_lowercase());
    let names: Vec<String> = names.chain(["shared_buffers".to_string()]).collect();
    let rows = session.rows("settings", SQL, &[&names]).await?;
    let present = rows.iter().map(|row| {
        let text = |at: usize| row.try_get::<_, Option<String>>(at).ok().flatten();
        let nature = Nature::new(&text(4).unwrap_or_default(), text(3).as_deref());
        let (setting, shown) = (text(1).unwrap_or_default(), text(2).unwrap_or_default());
        let by_restart = row.try_get(5).unwrap_or(false);
        let name = text(0).unwrap_or_default().to_lowercase();
        (name, Present { setting, shown, nature, by_restart })
    });
    Ok(compare(&present.collect(), wanted))
}

fn compare(present: &BTreeMap<String, Present>, wanted: &BTreeMap<String, String>) -> Vec<Change> {
    let change = |(name, to): (&String, &String)| {
        let now = present.get(&name.to_lowercase()).cloned().unwrap_or_default();
        let computed = default_buffers(name, to, present);
        let same = now.nature.is_same(&now.setting, computed.as_ref().unwrap_or(to));
        (!same).then(|| Change {
            name: name.clone(),
            from: now.shown,
            to: now.nature.shown(to),
            by_restart: now.by_restart,
        })
    };
    wanted.iter().filter_map(change).collect()
}

/// -1 stands for what the server computes, and shows: a 32nd of shared_buffers,
/// from 64 kB to 16 MB.
fn default_buffers(
    name: &str,
    wanted: &str,
    present: &BTreeMap<String, Present>,
) -> Option<String> {
    if name != "wal_buffers" || wanted.trim() != "-1" {
        return None;
    }
    let pages: u64 = present.get("shared_buffers")?.setting.parse().ok()?;
    Some((pages / 32).clamp(8, 2048).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(name: &str, kind: &str, unit: Option<&str>, setting: &str) -> (String, Present) {
        let nature = Nature::new(kind, unit);
        let shown = nature.shown(setting);
        let by_restart = name == "shared_buffers";
        (name.to_string(), Present { setting: setting.to_string(), shown, nature, by_restart })
    }

    #[test]
    fn another_spelling_is_no_change() {
        let now = BTreeMap::from([
            present("work_mem", "integer", Some("kB"), "4096"),
            present("shared_buffers", "integer", Some("8kB"), "16384"),
            present("autovacuum", "bool", None, "on"),
            present("wal_buffers", "integer", Some("8kB"), "512"),
            present("my.thing", "string", None, "1"),
        ]);
        let wanted = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let same = [
            ("work_mem", "4MB"),
            ("shared_buffers", "128MB"),
            ("autovacuum", "true"),
            ("wal_buffers", "-1"),
            ("my.thing", "1"),
        ];
        assert!(compare(&now, &wanted(&same)).is_empty());
        let other = compare(&now, &wanted(&[("shared_buffers", "256MB"), ("my.thing", "01")]));
        assert_eq!(
            other[0],
            Change {
                name: "my.thing".into(),
                from: "1".into(),
                to: "01".into(),
                by_restart: false,
            }
        );
        assert_eq!((other[1].from.as_str(), other[1].to.as_str()), ("128MB", "256MB"));
        assert!(other[1].by_restart);
        assert_eq!(compare(&now, &wanted(&[("new.thing", "")])).len(), 0);
    }
}
