//! From files to one document.
//!
//! A file, or every `.yml` and `.yaml` file of a directory in the order of
//! their names, each laid over the one before; then the environment. Without
//! a file `PATRONI_CONFIGURATION` is the whole, else the environment alone.
//!
//! Invariant: a file that was named and cannot be read, or is not there, is a
//! finding, never "no file": a misspelt name would else start a daemon with
//! half of its settings. Only `PATRONI_CONFIGURATION`, which is a whole
//! configuration, may stand for a file that is not there.

use super::env::{self, Environment};
use super::yaml::{self, Parsed};
use crate::document::findings::Findings;
use serde_json::{Map, Value};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use topology::document::patch;

/// No configuration is longer; something else was named by mistake.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The variable that may hold a whole configuration.
const WHOLE: &str = "PATRONI_CONFIGURATION";

/// The merged document. Empty when nothing is configured.
pub(super) fn document(path: Option<&Path>, env: &Environment, findings: &mut Findings) -> Value {
    let mut document = Value::Object(Map::new());
    let whole = env::given(env, WHOLE);
    let files = path.and_then(|path| existing_files(path, whole.is_some(), findings));
    if let (None, Some(text)) = (&files, whole) {
        lay(&mut document, WHOLE, text, findings);
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
        Ok(Parsed { value: Value::Null, .. }) => {
            findings.add(place, "is empty", "write `scope: NAME` and so on");
        }
        Ok(_) => findings.add(place, "the top level is no map", "write `scope: NAME` and so on"),
        Err(error) => {
            findings.add(place, format!("is no YAML: {}", error.wrong()), error.remedy());
        }
    }
}

fn unreadable(path: &Path, error: &io::Error, findings: &mut Findings) {
    let remedy = "name a readable file, or a directory of .yml files";
    findings.add(&path.display().to_string(), format!("cannot be read: {error}"), remedy);
}

/// `None`: nothing can be read, which is a finding or, where the environment holds
/// the whole, a warning.
fn existing_files(path: &Path, has_whole: bool, findings: &mut Findings) -> Option<Vec<PathBuf>> {
    match files_of(path) {
        Ok(files) => {
            if files.is_empty() {
                let what = "is a directory without .yml or .yaml files";
                findings.warn(format!("{} {what}; only the environment is read", path.display()));
            }
            Some(files)
        }
        Err(error) if error.kind() == ErrorKind::NotFound && has_whole => {
            findings.warn(format!("{} does not exist; {WHOLE} is read instead", path.display()));
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
    fn p7_a_named_file_that_cannot_be_read_ends_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("n1.yml");
        for env in [&[][..], &[("PATRONI_SCOPE", "s"), ("PATRONI_NAME", "n")][..]] {
            let (_, findings) = read(&missing, env);
            let text = findings.to_string();
            assert!(
                text.starts_with(&format!("{}: cannot be read: ", missing.display())),
                "{text}"
            );
            assert_eq!(text.lines().count(), 1, "{text}");
        }
        let (_, findings) = read(dir.path(), &[("PATRONI_SCOPE", "s")]);
        assert!(findings.warnings()[0].contains("is a directory without .yml"), "{findings}");
        std::fs::write(&missing, b"scope: \xff").unwrap();
        let (_, findings) = read(&missing, &[]);
        assert!(findings.to_string().contains("n1.yml: cannot be read: "), "{findings}");
        std::fs::write(&missing, "# nothing\n").unwrap();
        let (_, findings) = read(&missing, &[("PATRONI_SCOPE", "s")]);
        assert!(findings.to_string().contains("n1.yml: is empty"), "{findings}");
    }

    #[test]
    fn patroni_configuration_is_the_whole_when_there_is_no_file() {
        let env = [("PATRONI_CONFIGURATION", "scope: a"), ("PATRONI_NAME", "ignored")];
        let (value, findings) = read(Path::new("/nonexistent/x.yml"), &env);
        assert_eq!(value, json!({"scope": "a"}));
        assert!(findings.is_empty() && findings.warnings()[0].contains("/nonexistent/x.yml"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.yml");
        std::fs::write(&file, "scope: b").unwrap();
        assert_eq!(read(&file, &env).0, json!({"scope": "b", "name": "ignored"}));
    }
}
