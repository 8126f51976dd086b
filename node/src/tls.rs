//! Certificates as a client: which one it presents, which ones it trusts.
//!
//! One set of rules for every client of this program: the REST APIs of other
//! members, etcd, and PostgreSQL.
//!
//! Deployments that other tools set up often use one self-signed certificate
//! as authority, server and client at once; see `trust` for how it is believed.
//! Files are read when a client is made, so a renewed certificate needs a new
//! client, not a new process.
//!
//! Absent on purpose: what a server shows (`api/tls.rs`) and what libpq's
//! settings mean (`postgres/tls.rs`).

pub(crate) mod key;
pub(crate) mod plain_x509;
mod trust;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "{path}: {reason}; it must be a readable PEM file with {wanted}",
        path = .path.display()
    )]
    File { path: PathBuf, wanted: &'static str, reason: String },
    #[error("{0} is set, so certificates are verified: name the authority's file in {1}")]
    NoAuthority(&'static str, &'static str),
    #[error("no authorities are named, and this system keeps none; name the authority's file")]
    NoSystemAuthorities,
    #[error(
        "the authorities or their revocation lists (which must be of version 2) cannot be used: {0}"
    )]
    Authorities(rustls::server::VerifierBuilderError),
    #[error("the certificate and the key do not work together: {0}")]
    Unusable(String),
}

/// What a client believes of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Any certificate: the daemons' default among themselves.
    Anyone,
    /// A chain to the authority, whatever the host is called.
    Chain,
    /// A chain to the authority, and the host's name.
    ChainAndName,
    /// The same by libpq's rules: a certificate without alternative names is
    /// called by its common name, and one that is pinned has to have the name.
    ChainAndLibpqName,
}

/// The other side, as this client sees it.
#[derive(Clone, Copy, Debug)]
pub struct Believed<'a> {
    pub trust: Trust,
    /// A file, or a directory of files; else the system's.
    pub authorities: Option<&'a Path>,
    /// Revocation lists; where one is given, each certificate of a chain needs
    /// one that speaks of it.
    pub revoked: &'a [CertificateRevocationListDer<'static>],
}

impl<'a> Believed<'a> {
    pub fn new(trust: Trust, authorities: Option<&'a Path>) -> Believed<'a> {
        Believed { trust, authorities, revoked: &[] }
    }
}

/// What is shown to the other side.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    pub cert: &'a Path,
    /// Else the key is in the certificate's file.
    pub key: Option<&'a Path>,
    pub password: Option<&'a str>,
}

/// One provider for all of the program.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub fn client_config(believed: Believed, own: Option<Own>) -> Result<ClientConfig, TlsError> {
    let unusable = |e: rustls::Error| TlsError::Unusable(e.to_string());
    let versions = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let verifier = Arc::new(trust::Verifier::new(believed)?);
    let builder = versions.dangerous().with_custom_certificate_verifier(verifier);
    let Some(own) = own else {
        return Ok(builder.with_no_client_auth());
    };
    let key = key::read(own.key.unwrap_or(own.cert), own.password)?;
    builder.with_client_auth_cert(certificates(own.cert)?, key).map_err(unusable)
}

/// All certificates of a file, or of the files of a directory.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = pieces(path, "certificates")?;
    if all.is_empty() {
        return Err(bad(path, "certificates", "no certificate in it"));
    }
    Ok(all)
}

/// All revocation lists of a file, or of the files of a directory.
pub fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    pieces(path, "revocation lists")
}

/// A directory may hold other files, too.
fn pieces<T: PemObject>(path: &Path, wanted: &'static str) -> Result<Vec<T>, TlsError> {
    if !path.is_dir() {
        return pieces_of_file(path, wanted);
    }
    let listed = std::fs::read_dir(path).map_err(|e| bad(path, wanted, e))?;
    let files = listed.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    Ok(files.filter_map(|file| pieces_of_file(&file, wanted).ok()).flatten().collect())
}

fn pieces_of_file<T: PemObject>(path: &Path, wanted: &'static str) -> Result<Vec<T>, TlsError> {
    let all = T::pem_file_iter(path).map_err(|e| bad(path, wanted, e))?;
    all.collect::<Result<Vec<_>, _>>().map_err(|e| bad(path, wanted, e))
}

fn bad(path: &Path, wanted: &'static str, reason: impl ToString) -> TlsError {
    TlsError::File { path: path.to_path_buf(), wanted, reason: reason.to_string() }
}

/// The authorities' certificates, as roots and as they are.
pub struct Anchors {
    pub exact: Vec<CertificateDer<'static>>,
    pub roots: Arc<RootCertStore>,
}

pub fn anchors(path: Option<&Path>) -> Result<Anchors, TlsError> {
    let exact = match path {
        Some(path) => certificates(path)?,
        None => system_authorities()?,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(exact.iter().cloned());
    Ok(Anchors { exact, roots: Arc::new(roots) })
}

/// What could not be read beside readable ones is left out, as in other programs.
fn system_authorities() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() { Err(TlsError::NoSystemAuthorities) } else { Ok(found) }
}

#[cfg(test)]
pub mod made {
    //! Certificates for tests, made by openssl.

    use std::path::Path;
    use std::process::Command;

    /// The command line without a shell: no quotes, one blank between words.
    pub fn openssl(directory: &Path, arguments: &str) {
        let done = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory)
            .output()
            .unwrap_or_else(|e| panic!("no openssl ({e}); install it: apt-get install openssl"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    pub const NEW: &str =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";

    /// `name.crt` and `name.key`: CA:TRUE and no key usage.
    pub fn self_signed(directory: &Path, name: &str) {
        let names = "-addext subjectAltName=IP:127.0.0.1";
        let files = format!("-keyout {name}.key -out {name}.crt");
        openssl(directory, &format!("{NEW} -subj /CN={name} {names} {files}"));
    }
}
