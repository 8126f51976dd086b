//! TLS to a PostgreSQL server, by the rules of libpq's sslmode.
//!
//! `require` encrypts and trusts anybody, unless a root certificate is given;
//! `verify-ca` checks the chain, `verify-full` the name as well. A server whose
//! certificate is itself one of the configured roots is accepted: many sites
//! have one self-signed certificate for everything, which webpki refuses as an
//! end entity.
//!
//! Absent on purpose: revocation lists and encrypted keys.

use crate::config::Login;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// `Err`: the sentence that says what is wrong.
pub fn connector(login: &Login, mode: &str) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier::new(login, mode, &provider)?);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let file = |key: &str| login.extra.get(key).filter(|path| !path.is_empty());
    let config = match (file("sslcert"), file("sslkey")) {
        (Some(cert), Some(key)) => {
            let own = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("{key}: {e}"))?;
            config.with_client_auth_cert(certificates(cert)?, own).map_err(|e| e.to_string())?
        }
        _ => config.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| format!("{path}: {error}"))?;
    read.collect::<Result<Vec<_>, _>>().map_err(|error| format!("{path}: {error}"))
}

#[derive(Debug)]
struct Verifier {
    roots: Vec<CertificateDer<'static>>,
    /// None: encryption is all that is asked for.
    chain: Option<Arc<WebPkiServerVerifier>>,
    checks_name: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(login: &Login, mode: &str, provider: &Arc<CryptoProvider>) -> Result<Verifier, String> {
        let root = login.extra.get("sslrootcert").filter(|path| !path.is_empty());
        let roots = match root {
            Some(path) => certificates(path)?,
            None if mode.starts_with("verify") => {
                return Err(format!("sslmode={mode} needs sslrootcert"));
            }
            None => Vec::new(),
        };
        let chain = match root {
            Some(path) if ["require", "verify-ca", "verify-full"].contains(&mode) => {
                Some(chain(&roots, provider).map_err(|why| format!("{path}: {why}"))?)
            }
            _ => None,
        };
        let checks_name = mode == "verify-full";
        Ok(Verifier { roots, chain, checks_name, provider: provider.clone() })
    }
}

fn chain(
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map_err(|error| error.to_string())
}

fn is_name(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        if self.roots.iter().any(|root| root.as_ref() == end_entity.as_ref()) {
            if self.checks_name {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        // The name is looked at last: a wrong name means that the chain is good.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(error) if is_name(&error) && !self.checks_name => {
                Ok(ServerCertVerified::assertion())
            }
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verification_without_a_root_is_refused() {
        let why = connector(&Login::default(), "verify-ca").err().unwrap();
        assert!(why.contains("sslrootcert"));
        assert!(connector(&Login::default(), "require").is_ok());
    }

    #[test]
    fn a_root_that_cannot_be_read_is_named() {
        let mut login = Login::default();
        login.extra.insert("sslrootcert".into(), "/nowhere/root.crt".into());
        let why = connector(&login, "require").err().unwrap();
        assert!(why.contains("/nowhere/root.crt"));
    }
}
