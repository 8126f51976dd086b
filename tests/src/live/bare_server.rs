//! One PostgreSQL server of a test of statements, with the Citus extension or without: no
//! daemon is beside it.

use anyhow::{Context, Result, bail};
use citus::Address;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio_postgres::{Client, NoTls};

/// PostgreSQL refuses root: as root, commands run as the user `postgres`.
fn command(program: impl AsRef<Path>) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program.as_ref());
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program.as_ref());
    command
}

fn run_command(mut command: Command) -> Result<()> {
    let log = tempfile::tempfile()?;
    let status =
        command.current_dir("/").stdout(log.try_clone()?).stderr(log.try_clone()?).status()?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    std::io::Seek::rewind(&mut &log)?;
    std::io::Read::read_to_string(&mut &log, &mut text)?;
    bail!("{command:?} failed: {text}")
}

fn pg_config(what: &str) -> Result<PathBuf> {
    let out = Command::new("pg_config").arg(what).output();
    let out = out.context("PostgreSQL's pg_config must be in PATH")?;
    Ok(PathBuf::from(String::from_utf8(out.stdout)?.trim()))
}

pub fn has_extension() -> Result<bool> {
    Ok(pg_config("--sharedir")?.join("extension/citus.control").exists())
}

fn free_port() -> Result<u16> {
    Ok(ctl::field::free_ports(1)?[0])
}

/// One server; stopped and forgotten when dropped.
pub struct Server {
    bin: PathBuf,
    data: PathBuf,
    pub port: u16,
}

impl Server {
    fn new(home: &Path, name: &str) -> Result<Server> {
        Ok(Server { bin: pg_config("--bindir")?, data: home.join(name), port: free_port()? })
    }

    pub fn primary(home: &Path, name: &str, extension: bool) -> Result<Server> {
        let server = Server::new(home, name)?;
        let mut initdb = command(server.bin.join("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]);
        initdb.arg(&server.data);
        run_command(initdb)?;
        server.append("pg_hba.conf", "host all,replication all 127.0.0.0/8 trust\n")?;
        server.append("postgresql.conf", &settings(extension))?;
        server.start()?;
        Ok(server)
    }

    /// A physical copy that follows this server, settings of its region added.
    pub fn standby(&self, home: &Path, name: &str, extension: bool) -> Result<Server> {
        let server = Server::new(home, name)?;
        let mut copy = command(self.bin.join("pg_basebackup"));
        copy.args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-c", "fast", "--no-sync"]);
        copy.args(["-p", &self.port.to_string(), "-D"]).arg(&server.data);
        run_command(copy)?;
        if extension {
            let quarantine = "citus.recover_2pc_interval = -1\n\
                              citus.distributed_deadlock_detection_factor = -1\n";
            server.append("postgresql.conf", quarantine)?;
        }
        server.start()?;
        Ok(server)
    }

    fn append(&self, file: &str, text: &str) -> Result<()> {
        use std::io::Write;
        let path = self.data.join(file);
        let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
        Ok(file.write_all(text.as_bytes())?)
    }

    fn start(&self) -> Result<()> {
        let log = self.data.join("log");
        let options = format!("-p {}", self.port);
        self.pg_ctl(&["-l", &log.to_string_lossy(), "-o", &options, "start"])
    }

    fn pg_ctl(&self, args: &[&str]) -> Result<()> {
        let mut pg_ctl = command(self.bin.join("pg_ctl"));
        pg_ctl.args(["-w", "-t", "20", "-D"]).arg(&self.data).args(args);
        run_command(pg_ctl)
    }

    pub fn stop(&self) -> Result<()> {
        self.pg_ctl(&["-m", "fast", "stop"])
    }

    pub fn promote(&self) -> Result<()> {
        self.pg_ctl(&["promote"])
    }

    pub fn at(&self, last: u8) -> Address {
        Address::new(format!("127.0.0.{last}"), self.port)
    }

    pub async fn connect(&self) -> Result<Client> {
        self.connect_as("matriarch").await
    }

    pub async fn connect_as(&self, application: &str) -> Result<Client> {
        let to = format!(
            "host=127.0.0.1 port={} user=postgres application_name={application}",
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&to, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.pg_ctl(&["-m", "immediate", "stop"]);
    }
}

fn settings(extension: bool) -> String {
    let mut text = String::from(
        "listen_addresses = '127.0.0.1,127.0.0.2,127.0.0.3'\n\
         unix_socket_directories = ''\nfsync = off\nshared_buffers = 16MB\n\
         max_connections = 40\nwal_level = logical\nmax_prepared_transactions = 80\n",
    );
    if extension {
        text += "shared_preload_libraries = 'citus'\n\
                 citus.node_conninfo = 'sslmode=prefer'\n\
                 citus.local_hostname = '127.0.0.1'\n";
    }
    text
}

/// A folder that the servers' user owns.
pub fn home() -> Result<tempfile::TempDir> {
    let home = tempfile::tempdir()?;
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name("postgres")?.context("no user postgres")?;
        nix::unistd::chown(home.path(), Some(user.uid), Some(user.gid))?;
    }
    Ok(home)
}
