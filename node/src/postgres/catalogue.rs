//! Which settings this PostgreSQL knows, and its version: asked once for each
//! set of programs.

use super::error::Error;
use super::judge::Judge;
use super::run::run;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(10);
/// Older ones keep their settings of recovery elsewhere.
const OLDEST: u32 = 13;

#[derive(Debug, Default)]
pub struct Catalogue {
    pub major: u32,
    postgres: PathBuf,
    /// When the program was installed: another one may know other settings.
    installed: Option<SystemTime>,
    /// Lower-case name to the spelling of PostgreSQL.
    names: HashMap<String, String>,
    judge: Judge,
    /// Where this program has its sockets unless a setting says otherwise.
    pub socket_directories: Option<String>,
}

impl Catalogue {
    pub async fn load(postgres: &Path) -> Result<Catalogue, Error> {
        let installed = installed(postgres);
        let mut version = Command::new(postgres);
        version.arg("--version").env("LC_ALL", "C");
        let mut describe = Command::new(postgres);
        describe.arg("--describe-config").env("LC_ALL", "C");
        let version = run(version, LIMIT).await?;
        let unclear = || Error::ToolUnclear { tool: "postgres --version".into(), missing: "major" };
        let major = parse_major(&version).ok_or_else(unclear)?;
        if major < OLDEST {
            return Err(Error::TooOld { major, oldest: OLDEST });
        }
        let described = Catalogue::new(major, &run(describe, LIMIT).await?);
        Ok(Catalogue { installed, postgres: postgres.to_path_buf(), ..described })
    }

    /// From the text of `postgres --describe-config`.
    pub fn new(major: u32, described: &str) -> Catalogue {
        let first = described.lines().filter_map(|line| line.split('\t').next());
        let all = first.map(str::trim).filter(|name| !name.is_empty());
        let names = all.map(|name| (name.to_lowercase(), name.to_string())).collect();
        let rows = described.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let sockets = rows.into_iter().find(|row| row[0] == "unix_socket_directories");
        let built_in = sockets.and_then(|row| row.get(4).map(|value| value.to_string()));
        let socket_directories = built_in.filter(|value| !value.is_empty());
        Catalogue { major, names, socket_directories, ..Catalogue::default() }
    }

    /// Was it made of the program that is there now?
    pub fn is_of(&self, postgres: &Path) -> bool {
        self.postgres == postgres && self.installed == installed(postgres)
    }

    /// Leaves what PostgreSQL takes; gives a sentence for everything else.
    pub async fn sift(
        &self,
        wished: &mut BTreeMap<String, String>,
        skipped: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        self.judge.sift(&self.postgres, wished, skipped).await
    }

    /// PostgreSQL's spelling of a setting. Developers' settings are not
    /// described, those of extensions not known: they stay as they are.
    pub fn spell(&self, name: &str) -> String {
        self.names.get(&name.to_lowercase()).cloned().unwrap_or_else(|| name.to_string())
    }
}

/// None for a program that is found on the PATH.
fn installed(postgres: &Path) -> Option<SystemTime> {
    std::fs::metadata(postgres).and_then(|data| data.modified()).ok()
}

/// `postgres (PostgreSQL) 15.20 (Debian ..)`, `.. 18beta1`.
fn parse_major(text: &str) -> Option<u32> {
    let word =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    word[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_kinds() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_major("nothing"), None);
    }

    #[test]
    fn names_are_spelled_as_postgres_does() {
        let catalogue = Catalogue::new(15, "TimeZone\tuser\nwork_mem\tuser\n");
        assert_eq!(catalogue.spell("timezone"), "TimeZone");
        let line =
            "unix_socket_directories\tpostmaster\tgroup\tSTRING\t/var/run/postgresql\t\t\t\n";
        let found = Catalogue::new(15, line).socket_directories;
        assert_eq!(found.as_deref(), Some("/var/run/postgresql"));
        assert_eq!(catalogue.socket_directories, None);
        assert_eq!(catalogue.spell("my.thing"), "my.thing");
        assert_eq!(catalogue.spell("zero_damaged_pages"), "zero_damaged_pages");
    }

    /// A vendor's server: it knows a setting that no other one does.
    const VENDOR: &str = r#"#!/bin/sh
case "$1" in
  --version) echo "postgres (PostgreSQL) 15.4 (Vendor 3.1)" ;;
  --describe-config) printf 'Vendor_Cache\tuser\nwork_mem\tuser\n' ;;
  *) bad=0
     while read -r name is value; do
       case "$name=$value" in
         work_men=*) bad=1
           echo 'LOG:  unrecognized configuration parameter "work_men" in file "x" line 1' >&2 ;;
         "Vendor_Cache='100'"|work_mem=*) ;;
         Vendor_Cache=*) bad=1
           echo 'LOG:  9999 is outside the valid range for parameter' \
             '"Vendor_Cache" (1 .. 100)' >&2 ;;
       esac
     done < /dev/stdin
     [ $bad = 0 ] || { echo 'FATAL:  configuration file "x" contains errors' >&2; exit 1; }
     echo 100 ;;
esac
"#;

    fn server(dir: &Path, text: &str) -> PathBuf {
        let (text_file, program) = (dir.join("text"), dir.join("postgres"));
        std::fs::write(&text_file, text).unwrap();
        std::fs::set_permissions(&text_file, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        // By another program: what this one has open for writing cannot be run.
        let copied = std::process::Command::new("cp").arg(&text_file).arg(&program).status();
        assert!(copied.unwrap().success());
        program
    }

    #[tokio::test]
    async fn servers_of_long_ago_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (version, major) in [("9.6.24", 9), ("12.19", 12)] {
            let program = server(dir.path(), &VENDOR.replace("15.4", version));
            let error = Catalogue::load(&program).await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("PostgreSQL {major} is not supported")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_vendors_server_knows_its_own_settings() {
        let dir = tempfile::tempdir().unwrap();
        let program = server(dir.path(), VENDOR);
        let catalogue = Catalogue::load(&program).await.unwrap();
        assert_eq!(
            (catalogue.major, catalogue.spell("vendor_cache").as_str()),
            (15, "Vendor_Cache")
        );
        let pairs =
            [("Vendor_Cache", "9999"), ("work_mem", "4MB"), ("work_men", "1"), ("a.b", "c")];
        let mut wished: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let told = catalogue.sift(&mut wished, |_| false).await;
        let left: Vec<_> = wished.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(left, [("Vendor_Cache", "100"), ("a.b", "c"), ("work_mem", "4MB")]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().any(|line| line.contains("work_men = 1 is not a setting")));
    }
}
