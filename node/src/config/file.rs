//! From files to one document.
//!
//! A file, or every `.yml` and `.yaml` file of a directory in the order of
//! their names, each laid over the one before; then the environment. Without
//! a file `PATRONI_CONFIGURATION` is the whole, else the environment alone.
//!
//! Invariant: a file that is there but cannot be read is a finding, never
//! "no file".

use super::env::{self, Environment};
use super::findings::Findings;
use super::yaml::{self, Parsed};
use serde_json::{Map, Value};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use topology::document::patch;

/// No configuration is longer; something else was named by mistake.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The merged document. Empty when nothing is configured.
pub fn document(path: Option<&Path>, env: &Environment, findings: &mut Findings) -> Value {
    let mut document = Value::Object(Map::new());
    let files = path.and_then(|path| existing_files(path, findings));
    if let (None, Some(text)) = (&files, env::given(env, "PATRONI_CONFIGURATION")) {
        lay(&mut document, "PATRONI_CONFIGURATION", text, findings);
        return document;
    }
    for file in files.unwrap_or_default() {
        match read_bounded(&file) {
            Ok(text) => lay(&mut document, &file.display().to_string(), &text, findings),
            Err(error) => unreadable(&file, &error, findings),
        }
    }
    patch(&mut document, &env::overlay(env, findings));
    document
}

fn lay(document: &mut Value, place: &str, text: &str, findings: &mut Findings) {
    match yaml::read(text) {
        Ok(Parsed { value, repeated }) if value.is_object() => {
            for key in repeated {
                findings.warn(format!("{place}: `{key}` stands twice; the last one counts"));
            }
            patch(document, &value);
        }
        Ok(_) => findings.add(place, "the top level is no map", "write `scope: NAME` and so on"),
        Err(error) => findings.add(place, format!("is no YAML: {error}"), "correct the syntax"),
    }
}

fn unreadable(path: &Path, error: &io::Error, findings: &mut Findings) {
    let remedy = "name a readable file, or a directory of .yml files";
    findings.add(&path.display().to_string(), format!("cannot be read: {error}"), remedy);
}

/// `None`: nothing is there, so the environment alone counts.
fn existing_files(path: &Path, findings: &mut Findings) -> Option<Vec<PathBuf>> {
    match files_of(path) {
        Ok(files) => Some(files),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let place = path.display();
            findings.warn(format!("{place} does not exist; only the environment is read"));
            None
        }
        Err(error) => {
            unreadable(path, &error, findings);
            None
        }
    }
}

fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    if !kind.is_dir() {
        return Err(io::Error::other("neither a file nor a directory"));
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let is_yaml = file.extension().is_some_and(|end| end == "yml" || end == "yaml");
        if is_yaml && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("too long for a configuration"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(path: &Path, env: &[(&str, &str)]) -> (Value, Findings) {
        let env = env.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let mut findings = Findings::default();
        (document(Some(path), &env, &mut findings), findings)
    }

    #[test]
    fn files_of_a_directory_merge_in_order_and_the_environment_wins() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("20.yaml", "scope: second\npostgresql: {listen: 'a:1', pgpass: null}");
        write("10.yml", "scope: first\nname: n1\npostgresql: {listen: 'b:2', pgpass: p}");
        write("30.txt", "scope: never");
        let (value, findings) = read(dir.path(), &[("PATRONI_NAME", "from-env")]);
        assert_eq!(
            value,
            json!({"scope": "second", "name": "from-env",
            "postgresql": {"listen": "a:1"}})
        );
        assert!(findings.is_empty());
    }

    #[test]
    fn every_broken_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yml"), "a: [").unwrap();
        std::fs::write(dir.path().join("b.yml"), "- 1").unwrap();
        assert_eq!(read(dir.path(), &[]).1.iter().count(), 2);
        let (_, findings) = read(Path::new("/dev/null"), &[]);
        assert!(findings.to_string().contains("neither a file nor a directory"));
    }

    #[test]
    fn patroni_configuration_is_the_whole_when_there_is_no_file() {
        let env = [("PATRONI_CONFIGURATION", "scope: a"), ("PATRONI_NAME", "ignored")];
        let (value, _) = read(Path::new("/nonexistent/x.yml"), &env);
        assert_eq!(value, json!({"scope": "a"}));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.yml");
        std::fs::write(&file, "scope: b").unwrap();
        assert_eq!(read(&file, &env).0, json!({"scope": "b", "name": "ignored"}));
    }
}
