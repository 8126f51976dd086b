//! The processes of a field: started, noted by pid, ended by pid.

use super::plan::{MemberPlan, Plan, RegionPlan};
use super::segments::remove_segments;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use node::postgres::{Stat, listed_children};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::iter;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PIDS: &str = "pids.json";

#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{what} cannot be started: {source}")]
    Start { what: String, source: std::io::Error },
    #[error("there is no user `postgres` to run servers as; install PostgreSQL or run as a user")]
    NoUser,
    #[error("{what} did not happen within {seconds} s{hint}")]
    TooLate { what: String, seconds: u64, hint: String },
    #[error("{0} is not installed; install it with: {1}")]
    Missing(&'static str, &'static str),
}

/// Everything that runs in one directory.
pub struct Field {
    pub dir: PathBuf,
    pub plan: Plan,
    /// The binaries under test, copied to where the unprivileged user may read.
    bin: PathBuf,
    user: Option<User>,
    /// More variables for the daemon of a member, by its name.
    pub env: BTreeMap<String, Vec<(String, String)>>,
    /// Another daemon than the one under test for a member, by its name.
    pub programs: BTreeMap<String, PathBuf>,
    children: BTreeMap<String, Child>,
}

impl Field {
    /// Makes the directory, copies the binaries, writes every configuration.
    pub fn prepare(dir: &Path, plan: Plan, daemon: &Path) -> Result<Field, FieldError> {
        let user = unprivileged()?;
        let field = Field {
            dir: dir.to_path_buf(),
            plan,
            bin: dir.join("bin"),
            user,
            env: BTreeMap::new(),
            programs: BTreeMap::new(),
            children: BTreeMap::new(),
        };
        field.make_dir(dir)?;
        field.make_dir(&field.bin)?;
        fs::copy(daemon, field.daemon_program()).map_err(|source| file_error(daemon, source))?;
        for member in field.plan.members() {
            field.write_config(member)?;
        }
        Ok(field)
    }

    pub(super) fn write_config(&self, member: &MemberPlan) -> Result<(), FieldError> {
        self.write(&self.config_path(member), &self.plan.config(member, &self.dir))
    }

    pub(super) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// The daemon under test, where the servers' user may run it.
    pub fn daemon_program(&self) -> PathBuf {
        self.bin.join("matriarch")
    }

    pub fn config_path(&self, member: &MemberPlan) -> PathBuf {
        self.dir.join(format!("{}.yml", member.name))
    }

    pub fn data_dir(&self, member: &MemberPlan) -> PathBuf {
        self.dir.join("data").join(&member.name)
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    fn make_dir(&self, path: &Path) -> Result<(), FieldError> {
        fs::create_dir_all(path).map_err(|source| file_error(path, source))?;
        self.hand_over(path)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), FieldError> {
        fs::write(path, text).map_err(|source| file_error(path, source))?;
        self.hand_over(path)
    }

    /// Gives a directory and its files to the user that the servers run as.
    pub fn give(&self, dir: &Path) -> Result<(), FieldError> {
        self.hand_over(dir)?;
        let entries = fs::read_dir(dir).map_err(|source| file_error(dir, source))?;
        entries.flatten().try_for_each(|entry| self.hand_over(&entry.path()))
    }

    /// Gives a file to the user that the servers run as.
    fn hand_over(&self, path: &Path) -> Result<(), FieldError> {
        let Some(user) = &self.user else { return Ok(()) };
        chown(path, Some(user.uid), Some(user.gid))
            .map_err(|e| file_error(path, std::io::Error::from(e)))
    }

    fn spawn(&mut self, name: &str, mut command: Command) -> Result<(), FieldError> {
        let log_path = self.log_path(name);
        let log = append(&log_path)?;
        self.hand_over(&log_path)?;
        let errors = log.try_clone().map_err(|source| file_error(&log_path, source))?;
        let namespace = self.plan.namespaces.get(name);
        if let Some(namespace) = namespace {
            command = self.within(namespace, &command);
        }
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(log).stderr(errors);
        command.env_remove("LC_ALL").env("LC_ALL", "C.UTF-8").env("HOME", &self.dir);
        if let (Some(user), None) = (&self.user, namespace) {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.process_group(0);
        let child = command.spawn();
        let child = child.map_err(|source| FieldError::Start { what: name.to_string(), source })?;
        self.children.insert(name.to_string(), child);
        self.note_pids()
    }

    /// The same command in a network namespace, which only root may enter: it
    /// becomes the servers' user before it runs the command. The pid stays the same.
    fn within(&self, namespace: &str, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", namespace]);
        if let Some(user) = &self.user {
            let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
            inside.args(["setpriv", "--reuid", &uid, "--regid", &gid, "--clear-groups", "--"]);
        }
        inside.arg(command.get_program()).args(command.get_args());
        let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        inside.envs(set);
        inside
    }

    pub fn start_store(&mut self, region: &RegionPlan) -> Result<(), FieldError> {
        let etcd =
            find("etcd").ok_or(FieldError::Missing("etcd", "apt-get install etcd-server"))?;
        let host = &region.store_host;
        let client = format!("{}://{host}:{}", self.plan.store_scheme, region.store_port);
        let peer = format!("http://{host}:{}", region.store_peer_port);
        let name = format!("etcd-{}", region.name);
        let mut command = Command::new(etcd);
        command.args(["--name", &name, "--data-dir"]).arg(self.dir.join(&name));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("{name}={peer}"), "--logger", "zap"]);
        command.args(["--log-level", "warn"]).args(&self.plan.store_options);
        self.spawn(&name, command)
    }

    pub fn start_member(&mut self, member: &MemberPlan) -> Result<(), FieldError> {
        let program = self.programs.get(&member.name).cloned();
        let mut command = Command::new(program.unwrap_or_else(|| self.daemon_program()));
        command.arg(self.config_path(member)).envs(&self.plan.environment);
        command.envs(self.env.get(&member.name).cloned().unwrap_or_default());
        self.spawn(&member.name.clone(), command)
    }

    /// Pid of the daemon of this member, if it runs.
    pub fn daemon_pid(&mut self, name: &str) -> Option<i32> {
        let child = self.children.get_mut(name)?;
        match child.try_wait() {
            Ok(None) => i32::try_from(child.id()).ok(),
            _ => None,
        }
    }

    /// Pid of the postmaster of this member, from its own file.
    pub fn postmaster_pid(&self, member: &MemberPlan) -> Option<i32> {
        let text = fs::read_to_string(self.data_dir(member).join("postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        is_alive(pid).then_some(pid)
    }

    pub fn signal_daemon(&mut self, name: &str, signal: Signal) -> bool {
        let pid = self.daemon_pid(name);
        pid.is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }

    /// The node is gone: daemon, postmaster and all its children at once.
    pub fn kill_node(&mut self, member: &MemberPlan) {
        let postmaster = self.postmaster_pid(member);
        self.signal_daemon(&member.name, Signal::SIGKILL);
        for pid in postmaster.into_iter().flat_map(family) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        self.forget(&member.name);
    }

    /// Waits for a killed child.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(mut child) = self.children.remove(name) {
            let _ = child.wait();
        }
    }

    /// Waits for a daemon to end by itself and gives its exit code.
    pub fn wait_exit(&mut self, name: &str, limit: Duration) -> Result<Option<i32>, FieldError> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let Some(child) = self.children.get_mut(name) else { return Ok(None) };
            if let Ok(Some(status)) = child.try_wait() {
                self.children.remove(name);
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let what = format!("the end of {name}");
        Err(FieldError::TooLate { what, seconds: limit.as_secs(), hint: String::new() })
    }

    fn note_pids(&self) -> Result<(), FieldError> {
        let pids: BTreeMap<&String, u32> = self.children.iter().map(|(n, c)| (n, c.id())).collect();
        let text = serde_json::to_string(&pids).expect("names and numbers serialise");
        self.write(&self.dir.join(PIDS), &text)
    }

    /// Ends everything: daemons first (they stop PostgreSQL), stores last.
    pub fn stop(&mut self) {
        stop_directory(&self.dir);
        for child in self.children.values_mut() {
            let _ = child.wait();
        }
        self.children.clear();
    }

    /// Leaves everything running; `stop_directory` ends it later.
    pub fn leave(mut self) {
        self.children.clear();
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        if !self.children.is_empty() {
            self.stop();
        }
    }
}

/// Ends what was noted in a field's directory: by name and pid, stores last; then no trace
/// of its servers is left outside the directory.
pub fn stop_directory(dir: &Path) {
    let text = fs::read_to_string(dir.join(PIDS)).unwrap_or_default();
    let pids: BTreeMap<String, i32> = serde_json::from_str(&text).unwrap_or_default();
    let (stores, daemons): (Vec<_>, Vec<_>) =
        pids.iter().partition(|(name, _)| name.starts_with("etcd-"));
    let ours = |pid: i32| is_ours(pid, dir);
    let frozen = pids.values().copied().filter(|pid| ours(*pid));
    thaw(frozen.chain(postmasters(dir).into_iter().flat_map(family)));
    let daemons: Vec<i32> = daemons.iter().map(|(_, p)| **p).filter(|p| ours(*p)).collect();
    end_all(&daemons, Signal::SIGTERM, Duration::from_secs(30));
    end_all(&postmasters(dir), Signal::SIGQUIT, Duration::from_secs(10));
    let stores: Vec<i32> = stores.iter().map(|(_, p)| **p).filter(|p| ours(*p)).collect();
    end_all(&stores, Signal::SIGTERM, Duration::from_secs(5));
    remove_segments(dir);
    let _ = fs::remove_file(dir.join(PIDS));
}

/// Postmasters that outlived their daemons.
fn postmasters(dir: &Path) -> Vec<i32> {
    let entries = fs::read_dir(dir.join("data")).into_iter().flatten().flatten();
    entries
        .filter_map(|e| fs::read_to_string(e.path().join("postmaster.pid")).ok())
        .filter_map(|text| text.lines().next()?.trim().parse().ok())
        .filter(|pid| is_ours(*pid, dir))
        .collect()
}

fn end_all(pids: &[i32], signal: Signal, limit: Duration) {
    for pid in pids {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGCONT);
        let _ = kill(Pid::from_raw(*pid), signal);
    }
    let end = Instant::now() + limit;
    while pids.iter().any(|pid| is_alive(*pid)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    for pid in pids.iter().filter(|pid| is_alive(**pid)).flat_map(|pid| family(*pid)) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// A pid that was noted may belong to another process by now: its command line or
/// working directory must name the directory of the field.
fn is_ours(pid: i32, dir: &Path) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).into_owned();
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
    command.contains(&*dir.to_string_lossy()) || cwd.starts_with(dir)
}

/// Wakes frozen processes, so that they hear what else they are told.
pub(super) fn thaw(pids: impl Iterator<Item = i32>) {
    for pid in pids.filter(|pid| is_alive(*pid)) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
    }
}

/// Alive and no zombie.
pub fn is_alive(pid: i32) -> bool {
    Stat::of(pid).ok().flatten().is_some_and(|stat| stat.lives)
}

/// A process and its children.
pub(super) fn family(pid: i32) -> Vec<i32> {
    let children = listed_children(pid);
    iter::once(pid).chain(children).collect()
}

fn unprivileged() -> Result<Option<User>, FieldError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    match User::from_name("postgres") {
        Ok(Some(user)) => Ok(Some(user)),
        _ => Err(FieldError::NoUser),
    }
}

fn append(path: &Path) -> Result<File, FieldError> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> FieldError {
    FieldError::File { path: path.to_path_buf(), source }
}

/// A program by name, on PATH or where Debian keeps system programs.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|dir| dir.join(program)).find(|p| p.is_file())
}

/// The newest PostgreSQL (13 or later) with server programs.
pub fn find_postgres() -> Option<PathBuf> {
    let on_path = find("postgres").and_then(|p| p.parent().map(Path::to_path_buf));
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = installed
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .filter(|(version, bin)| *version >= 13 && bin.join("initdb").is_file())
        .collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin).or(on_path)
}
