//! A server that no daemon knows, with a base backup and a WAL archive: what an
//! operator brings along.

use super::stage::Stage;
use ctl::field::Field;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Source {
    pub data: PathBuf,
    pub backup: PathBuf,
    pub archive: PathBuf,
    pub system: String,
    bin: PathBuf,
    port: u16,
}

impl Source {
    /// Rows 1 and 2 stand before the restore point `half_way`, 3 behind it. The
    /// server is stopped.
    pub async fn make(stage: &Stage) -> Source {
        let source = Source::begin(stage);
        let field = &stage.field;
        source.start(field);
        source.ask(field, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)");
        let port = source.port.to_string();
        let backup = source.backup.display().to_string();
        source.run(
            field,
            "pg_basebackup",
            &["-h", "127.0.0.1", "-U", "postgres", "-c", "fast", "-p", &port, "-D", &backup],
        );
        source.ask(field, "INSERT INTO kept VALUES (2)");
        source.ask(field, "SELECT pg_create_restore_point('half_way')");
        source.ask(field, "INSERT INTO kept VALUES (3); SELECT pg_switch_wal()");
        source.stop(field);
        source
    }

    /// An empty server by initdb, its own way of naming its superuser's rights.
    pub fn begin(stage: &Stage) -> Source {
        let field = &stage.field;
        let at = |name: &str| field.dir.join(name);
        let mut source = Source {
            data: at("source"),
            backup: at("backup"),
            archive: at("archive"),
            system: String::new(),
            bin: field.plan.pg_bin.clone(),
            port: ctl::field::free_ports(1).expect("a free port")[0],
        };
        let mut mkdir = field.command(Path::new("mkdir"));
        assert!(mkdir.arg(&source.archive).status().expect("mkdir runs").success());
        let data = source.data.display().to_string();
        source.run(field, "initdb", &["-U", "postgres", "-A", "trust", "--no-sync", "-D", &data]);
        let conf = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n\
             archive_mode = on\narchive_command = 'cp %p {}/%f'\nwal_level = replica\n",
            source.port,
            source.archive.display()
        );
        let path = source.data.join("postgresql.conf");
        let text = std::fs::read_to_string(&path).expect("initdb made it");
        std::fs::write(&path, text + &conf).expect("it can be written");
        source.system = source.system_id(field);
        source
    }

    /// More settings of the stopped server.
    pub fn set(&self, lines: &str) {
        let path = self.data.join("postgresql.conf");
        let text = std::fs::read_to_string(&path).expect("initdb made it");
        std::fs::write(&path, text + lines).expect("it can be written");
    }

    /// Another place and port for the stopped server.
    pub fn move_to(&mut self, data: &Path, port: u16) {
        std::fs::rename(&self.data, data).expect("our own directory");
        self.data = data.to_path_buf();
        let path = self.data.join("postgresql.conf");
        let text = std::fs::read_to_string(&path).expect("initdb made it");
        self.port = port;
        std::fs::write(&path, format!("{text}port = {port}\n")).expect("it can be written");
    }

    fn system_id(&self, field: &Field) -> String {
        let mut control = field.command(&self.bin.join("pg_controldata"));
        let output = control.arg(&self.data).output().expect("pg_controldata runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("system identifier"));
        line.and_then(|line| line.split(':').nth(1)).expect("a system id").trim().to_string()
    }

    pub fn start(&self, field: &Field) {
        let log = field.dir.join("source.log").display().to_string();
        let data = self.data.display().to_string();
        self.run(field, "pg_ctl", &["-D", &data, "-w", "-l", &log, "start"]);
    }

    pub fn stop(&self, field: &Field) {
        let data = self.data.display().to_string();
        self.run(field, "pg_ctl", &["-D", &data, "-w", "-m", "fast", "stop"]);
    }

    pub fn ask(&self, field: &Field, sql: &str) -> String {
        self.ask_as(field, self.port, "postgres", "", sql)
    }

    /// By psql: it takes the passwords and all that the daemons do.
    pub fn ask_as(&self, field: &Field, port: u16, user: &str, word: &str, sql: &str) -> String {
        let mut psql = field.command(&self.bin.join("psql"));
        let port = port.to_string();
        psql.args(["-X", "-A", "-t", "-h", "127.0.0.1", "-p", &port, "-U", user, "-d", "postgres"]);
        said(psql.env("PGPASSWORD", word).args(["-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    fn run(&self, field: &Field, program: &str, arguments: &[&str]) {
        let mut command = field.command(&self.bin.join(program));
        // A server that is started keeps its outputs.
        command.stdout(std::process::Stdio::null()).stdin(std::process::Stdio::null());
        let status = command.args(arguments).status().expect("it runs");
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }
}

impl Source {
    /// Ends a server that a failed test leaves behind.
    fn end(&self) {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let pid: Option<i32> = text.lines().next().and_then(|line| line.trim().parse().ok());
        if let Some(pid) = pid {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.end();
    }
}

fn said(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    text
}
