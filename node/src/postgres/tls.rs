//! TLS to a PostgreSQL server, by the rules of libpq.
//!
//! `require` encrypts and trusts anybody, unless a root certificate is given;
//! `verify-ca` checks the chain, `verify-full` the name as well. What the
//! settings do not name is looked for where libpq looks, in `~/.postgresql`,
//! so that this connection behaves as those of PostgreSQL's own programs.
//!
//! Absent on purpose: sslcertmode, ALPN as `sslnegotiation=direct` wants it.

use crate::config::Login;
use crate::tls::{self, Believed, Own, TlsError, Trust, revocations};
use std::path::{Path, PathBuf};
use tokio_postgres_rustls::MakeRustlsConnect;

/// `sslrootcert` with this value means the authorities of the system.
const SYSTEM: &str = "system";

pub fn connector(login: &Login, mode: &str) -> Result<MakeRustlsConnect, TlsError> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let files = Files { login, home: home.map(|home| home.join(".postgresql")) };
    let config = tls::client_config(files.believed(mode)?.as_believed(), files.own().as_own())?;
    Ok(MakeRustlsConnect::new(config))
}

struct Files<'a> {
    login: &'a Login,
    /// Where libpq looks for what is not named.
    home: Option<PathBuf>,
}

/// Owns what `tls::Believed` borrows.
struct BelievedFiles {
    trust: Trust,
    authorities: Option<PathBuf>,
    revoked: Vec<rustls::pki_types::CertificateRevocationListDer<'static>>,
}

#[derive(Default)]
struct OwnFiles<'a> {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    password: Option<&'a str>,
}

impl Files<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.login.extra.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The file that is named, else the usual one if it is there.
    fn file(&self, key: &str, usual: &str) -> Option<PathBuf> {
        let at_home = || self.home.as_ref().map(|home| home.join(usual)).filter(|p| p.is_file());
        self.text(key).map(PathBuf::from).or_else(at_home)
    }

    fn believed(&self, mode: &str) -> Result<BelievedFiles, TlsError> {
        let root = self.file("sslrootcert", "root.crt");
        let of_system = root.as_deref() == Some(Path::new(SYSTEM));
        let trust = match (mode, &root) {
            ("verify-ca" | "verify-full", None) => {
                return Err(TlsError::NoAuthority(
                    "sslmode=verify-ca or verify-full",
                    "sslrootcert",
                ));
            }
            // Anybody can have a certificate of a public authority.
            ("require" | "verify-ca" | "verify-full", _) if of_system => Trust::ChainAndLibpqName,
            ("verify-full", Some(_)) => Trust::ChainAndLibpqName,
            ("require" | "verify-ca", Some(_)) => Trust::Chain,
            _ => Trust::Anyone,
        };
        let revoked = if trust == Trust::Anyone { Vec::new() } else { self.revoked()? };
        Ok(BelievedFiles { trust, authorities: root.filter(|_| !of_system), revoked })
    }

    fn revoked(
        &self,
    ) -> Result<Vec<rustls::pki_types::CertificateRevocationListDer<'static>>, TlsError> {
        let mut all = Vec::new();
        let directory = self.text("sslcrldir").map(PathBuf::from);
        let file = match directory {
            // libpq does not look at home when a directory is named.
            Some(_) => self.text("sslcrl").map(PathBuf::from),
            None => self.file("sslcrl", "root.crl"),
        };
        for path in file.into_iter().chain(directory) {
            let found = revocations(&path)?;
            if found.is_empty() {
                let (wanted, reason) = ("revocation lists", "no list in it".to_string());
                return Err(TlsError::File { path, wanted, reason });
            }
            all.extend(found);
        }
        Ok(all)
    }

    fn own(&self) -> OwnFiles<'_> {
        let cert = self.file("sslcert", "postgresql.crt");
        let key = self.file("sslkey", "postgresql.key");
        OwnFiles { cert, key, password: self.text("sslpassword") }
    }
}

impl BelievedFiles {
    fn as_believed(&self) -> Believed<'_> {
        let authorities = self.authorities.as_deref();
        Believed { trust: self.trust, authorities, revoked: &self.revoked }
    }
}

impl OwnFiles<'_> {
    fn as_own(&self) -> Option<Own<'_>> {
        let (cert, key) = (self.cert.as_deref()?, self.key.as_deref());
        Some(Own { cert, key, password: self.password })
    }
}

#[cfg(test)]
mod tests;
