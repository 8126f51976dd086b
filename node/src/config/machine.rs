//! What only this machine and its network can tell about a configuration: are
//! the ports free, does the store answer, are PostgreSQL's programs there, does
//! the data directory fit them.
//!
//! Every question has a deadline. Nothing is changed.

use super::document::Document;
use super::settings::default_port;
use super::{Postgresql, StoreSettings};
use crate::dcs;
use crate::document::address::{parse_bind, parse_listen};
use crate::document::findings::Findings;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CONNECT: Duration = Duration::from_secs(2);
const VERSION: Duration = Duration::from_secs(5);
const PROGRAMS: [&str; 6] =
    ["pg_ctl", "initdb", "pg_controldata", "pg_basebackup", "postgres", "pg_isready"];

/// Should the ports we are to listen on be free?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    MustBeFree,
    MayBeInUse,
}

pub(super) fn check(
    document: Document,
    postgresql: &Postgresql,
    store: &StoreSettings,
    ports: Ports,
    findings: &mut Findings,
) {
    if ports == Ports::MustBeFree {
        check_ports(document, findings);
    }
    check_store(document, store, findings);
    check_programs(document, postgresql, findings);
    check_version(postgresql, findings);
    check_places(postgresql, findings);
    check_data_dir(postgresql, findings);
}

fn check_ports(document: Document, findings: &mut Findings) {
    for path in ["restapi.listen", "postgresql.listen"] {
        let Some(text) = document.text(path) else { continue };
        let bind = parse_bind(&text, default_port(path)).map(|(host, port)| (vec![host], port));
        let listen = parse_listen(&text, default_port(path)).or(bind);
        let Some((hosts, port)) = listen else { continue };
        for host in hosts {
            let host =
                if ["*", "0.0.0.0", "::"].contains(&host.as_str()) { "localhost" } else { &host };
            if reach(host, port).is_ok() {
                let what = format!("another program listens on port {port} of {host} already");
                findings.add(path, what, "stop it, write another port, or check with -i");
            }
        }
    }
}

fn check_store(document: Document, store: &StoreSettings, findings: &mut Findings) {
    let section = dcs::settings::own_section(document).map(|(name, _)| name);
    for address in &store.hosts {
        let Some((host, port)) = super::parse_address(address, dcs::settings::PORT) else {
            continue;
        };
        if let Err(error) = reach(&host, port) {
            let path = section.unwrap_or(dcs::settings::SECTION);
            let what = format!("{address} cannot be reached: {error}");
            findings.add(path, what, "start the store, or correct the address");
        }
    }
}

/// Connects to the first address of the name that answers.
fn reach(host: &str, port: u16) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn check_programs(document: Document, postgresql: &Postgresql, findings: &mut Findings) {
    for program in PROGRAMS {
        if find_program(&postgresql.tool(program)).is_some() {
            continue;
        }
        let named = format!("postgresql.bin_name.{program}");
        let path =
            if document.at(&named).is_some() { named.as_str() } else { "postgresql.bin_dir" };
        let place = match &postgresql.bin_dir {
            Some(dir) => format!("in {}", dir.display()),
            None => "on PATH".to_string(),
        };
        let tool = postgresql.tool(program);
        let name = tool.file_name().unwrap_or_default().to_string_lossy();
        let what = format!("there is no program {name} {place}");
        findings.add(path, what, "write the directory of PostgreSQL's programs");
    }
}

fn check_version(postgresql: &Postgresql, findings: &mut Findings) {
    // 96 stands for 9.6.
    let too_old = |major: &u32| *major < 13 || (90..=96).contains(major);
    if let Some(major) = version_of(&postgresql.tool("postgres")).filter(too_old) {
        let what = format!("its PostgreSQL is of version {major}");
        findings.add("postgresql.bin_dir", what, "name the programs of version 13 or newer");
    }
}

/// Where the daemon writes beside the data directory.
fn check_places(postgresql: &Postgresql, findings: &mut Findings) {
    if postgresql.pgpass.is_dir() {
        let what = format!("{} is a directory", postgresql.pgpass.display());
        findings.add("postgresql.pgpass", what, "write the path of a file in it");
    }
    let dir = &postgresql.config_dir;
    if *dir == postgresql.data_dir || dir.as_os_str().is_empty() {
        return;
    }
    let wrong = match rustix::fs::access(dir, rustix::fs::Access::WRITE_OK) {
        _ if !dir.is_dir() => "is no directory",
        Err(_) => "may not be written by this user",
        Ok(()) => return,
    };
    let what = format!("{} {wrong}", dir.display());
    findings.add("postgresql.config_dir", what, "make a directory that PostgreSQL's user owns");
}

/// An executable file; a bare name is looked for on PATH.
pub fn find_program(program: &Path) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return Some(program.to_path_buf()).filter(is_program);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(is_program)
}

/// Absent, empty, or PostgreSQL's and of the version of the programs.
fn check_data_dir(postgresql: &Postgresql, findings: &mut Findings) {
    const PATH: &str = "postgresql.data_dir";
    let dir = &postgresql.data_dir;
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten().count(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            let what = format!("{} cannot be read: {error}", dir.display());
            return findings.add(PATH, what, "name a directory that this user may read");
        }
    };
    if dir.as_os_str().is_empty() || entries == 0 {
        return;
    }
    let remedy = "name an empty directory or a data directory of PostgreSQL";
    let version = std::fs::read_to_string(dir.join("PG_VERSION")).unwrap_or_default();
    let Some(data) = major_of(&version) else {
        let what = format!("{} is not empty and has no PG_VERSION", dir.display());
        return findings.add(PATH, what, remedy);
    };
    if !dir.join("global/pg_control").is_file() {
        let what = format!("{} has no global/pg_control", dir.display());
        return findings.add(PATH, what, remedy);
    }
    if let Some(programs) = version_of(&postgresql.tool("postgres")).filter(|major| *major != data)
    {
        let what = format!("is of version {data}, but the programs are of version {programs}");
        findings.add(PATH, what, "write the bin_dir of its version");
    }
}

/// The major version that `postgres --version` tells; 96 stands for 9.6.
pub fn version_of(postgres: &Path) -> Option<u32> {
    let mut command = Command::new(postgres);
    command.arg("--version").env("LC_ALL", "C").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let end = Instant::now() + VERSION;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() > end {
            // Taken for another program: it is killed, and its version is not known.
            let _ = child.kill().and_then(|()| child.wait());
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find_map(major_of)
}

/// `15.20`, `18beta1`, `9.6.24`.
fn major_of(version: &str) -> Option<u32> {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse::<u32>().ok()
    };
    let mut parts = version.trim().split('.');
    let first = number(parts.next()?)?;
    if first >= 10 { Some(first) } else { Some(first * 10 + number(parts.next()?)?) }
}

#[cfg(test)]
mod tests {
    use super::super::document::whole_of;
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;
    use std::os::unix::process::CommandExt;

    fn program(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn programs(major: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in PROGRAMS {
            program(dir.path(), name, &format!("echo 'postgres (PostgreSQL) {major}'"));
        }
        dir
    }

    #[test]
    fn versions_of_all_kinds() {
        let cases = [("15.20", Some(15)), ("9.6.24", Some(96)), ("18beta1", Some(18)), ("x", None)];
        for (text, major) in cases {
            assert_eq!(major_of(text), major, "{text}");
        }
    }

    #[test]
    fn an_old_postgresql_is_found() {
        for (version, wanted) in [("12.19", 1), ("9.6.24", 1), ("13.2", 0), ("18beta1", 0)] {
            let dir = programs(version);
            let bin_dir = Some(dir.path().to_path_buf());
            let mut findings = Findings::strict();
            check_version(&Postgresql { bin_dir, ..Default::default() }, &mut findings);
            assert_eq!(findings.iter().count(), wanted, "{version}: {findings}");
        }
    }

    #[test]
    fn places_of_its_own_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let found = |pgpass: PathBuf, config_dir: PathBuf| {
            let mut findings = Findings::strict();
            let data_dir = dir.path().join("data");
            check_places(
                &Postgresql { pgpass, config_dir, data_dir, ..Default::default() },
                &mut findings,
            );
            findings.to_string()
        };
        let here = dir.path().to_path_buf();
        assert_eq!(found(here.join("pgpass"), here.clone()), "");
        assert_eq!(found(here.join("pgpass"), here.join("data")), "", "it is yet to be made");
        assert!(found(here.clone(), here.clone()).starts_with("postgresql.pgpass: "));
        let text = found(here.join("pgpass"), here.join("gone"));
        assert!(text.contains("postgresql.config_dir: ") && text.contains("is no directory"));
    }

    /// Root may write everywhere, so root runs this test again as another user.
    #[test]
    fn a_directory_that_may_not_be_written_is_found() {
        const ME: &str = "config::machine::tests::a_directory_that_may_not_be_written_is_found";
        if nix::unistd::geteuid().is_root() {
            return passes_for_a_user_without_rights(ME);
        }
        let (config_dir, data_dir) = (PathBuf::from("/"), PathBuf::from("/data"));
        let mut findings = Findings::strict();
        check_places(&Postgresql { config_dir, data_dir, ..Default::default() }, &mut findings);
        assert!(findings.to_string().contains("/ may not be written by this user"), "{findings}");
    }

    /// Runs one test of this program again, in `/` and as a user who owns nothing.
    fn passes_for_a_user_without_rights(test: &str) {
        const WITHOUT_RIGHTS: u32 = 65_534;
        let dir = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let program = dir.path().join("tests");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mut again = Command::new(&program);
        again.args([test, "--exact"]).current_dir("/").uid(WITHOUT_RIGHTS).gid(WITHOUT_RIGHTS);
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn a_port_in_use_is_found_and_a_free_one_is_not() {
        let held = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let raw = json!({"restapi": {"listen": held.local_addr().unwrap().to_string()}});
        let mut findings = Findings::strict();
        check_ports(whole_of(&raw), &mut findings);
        assert!(findings.to_string().contains("restapi.listen: another program listens on port"));
        drop(held);
        let mut findings = Findings::strict();
        check_ports(whole_of(&raw), &mut findings);
        assert!(findings.is_empty(), "{findings}");
    }

    #[test]
    fn a_store_that_does_not_answer_is_found() {
        let held = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = held.local_addr().unwrap().to_string();
        let store = StoreSettings { hosts: vec![address], ..StoreSettings::default() };
        let raw = json!({"etcd3": {"host": "x"}});
        let found = || {
            let mut findings = Findings::strict();
            check_store(whole_of(&raw), &store, &mut findings);
            findings.to_string()
        };
        assert_eq!(found(), "");
        drop(held);
        assert!(found().starts_with("etcd3: 127.0.0.1:"), "{}", found());
    }

    #[test]
    fn missing_programs_are_named() {
        let dir = programs("15.1");
        let names = [("initdb".to_string(), "init-it".to_string())].into();
        let bin_dir = Some(dir.path().to_path_buf());
        let postgresql = Postgresql { bin_dir, bin_name: names, ..Postgresql::default() };
        let found = || {
            let raw = json!({"postgresql": {"bin_name": {"initdb": "init-it"}}});
            let mut findings = Findings::strict();
            check_programs(whole_of(&raw), &postgresql, &mut findings);
            findings.to_string()
        };
        assert!(found().starts_with("postgresql.bin_name.initdb: there is no program init-it in"));
        program(dir.path(), "init-it", "");
        assert_eq!(found(), "");
        std::fs::remove_file(dir.path().join("pg_isready")).unwrap();
        assert!(found().starts_with("postgresql.bin_dir: there is no program pg_isready"));
    }

    #[test]
    fn a_data_directory_is_new_or_fits_the_programs() {
        let (bin, data) = (programs("15.1"), tempfile::tempdir().unwrap());
        let found = |dir: &Path| {
            let bin_dir = Some(bin.path().to_path_buf());
            let data_dir = dir.to_path_buf();
            let postgresql = Postgresql { bin_dir, data_dir, ..Postgresql::default() };
            let mut findings = Findings::strict();
            check_data_dir(&postgresql, &mut findings);
            findings.to_string()
        };
        assert_eq!(
            (found(&data.path().join("new")), found(data.path())),
            (String::new(), String::new())
        );
        std::fs::write(data.path().join("letter"), "").unwrap();
        assert!(found(data.path()).contains("is not empty and has no PG_VERSION"));
        assert!(found(&data.path().join("letter")).contains("cannot be read"));
        std::fs::write(data.path().join("PG_VERSION"), "15\n").unwrap();
        assert!(found(data.path()).contains("has no global/pg_control"));
        std::fs::create_dir(data.path().join("global")).unwrap();
        std::fs::write(data.path().join("global/pg_control"), "").unwrap();
        assert_eq!(found(data.path()), "");
        std::fs::write(data.path().join("PG_VERSION"), "14\n").unwrap();
        assert!(
            found(data.path()).contains("is of version 14, but the programs are of version 15")
        );
    }
}
