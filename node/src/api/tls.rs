//! Certificates: what the API shows, whom it believes, whom its client believes.
//!
//! Deployments that other tools set up often use one self-signed certificate
//! as authority, server and client at once. Web PKI refuses an authority's
//! certificate as an end entity, so both verifiers accept an end entity that
//! is, byte for byte, one of the configured anchors; its key must still prove
//! itself in the handshake. The expiry of such a pinned certificate is not
//! judged.
//!
//! Absent on purpose: encrypted keys, revocation lists.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
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
}

/// May clients come without a certificate?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProof {
    None,
    Optional,
    Required,
}

impl ClientProof {
    /// Reads `restapi.verify_client`.
    pub fn parse(text: &str) -> Option<ClientProof> {
        match text {
            "" | "none" => Some(ClientProof::None),
            "optional" => Some(ClientProof::Optional),
            "required" => Some(ClientProof::Required),
            _ => None,
        }
    }
}

/// One provider for all of the daemon.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| TlsError::File {
        path: path.to_path_buf(),
        wanted: "certificates",
        reason,
    };
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))?.collect();
    let all = all.map_err(|e| bad(e.to_string()))?;
    if all.is_empty() { Err(bad("no certificate in it".to_string())) } else { Ok(all) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| TlsError::File {
        path: path.to_path_buf(),
        wanted: "a private key without a password",
        reason: e.to_string(),
    })
}

/// The authority's certificates, as roots and as they are.
struct Anchors {
    exact: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
}

fn anchors(path: &Path) -> Result<Anchors, TlsError> {
    let exact = certificates(path)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(exact.iter().cloned());
    Ok(Anchors { exact, roots: Arc::new(roots) })
}

/// What the server shows and whom it lets in.
pub fn server_config(
    certfile: &Path,
    keyfile: Option<&Path>,
    cafile: Option<&Path>,
    proof: ClientProof,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(certfile)?;
    let key = key(keyfile.unwrap_or(certfile))?;
    let versions = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Unusable(e.to_string()))?;
    let builder = match proof {
        ClientProof::None => versions.with_no_client_auth(),
        ClientProof::Optional | ClientProof::Required => {
            let cafile =
                cafile.ok_or(TlsError::NoAuthority("restapi.verify_client", "restapi.cafile"))?;
            versions.with_client_cert_verifier(client_verifier(anchors(cafile)?, proof)?)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|e| TlsError::Unusable(e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn client_verifier(
    anchors: Anchors,
    proof: ClientProof,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(anchors.roots, provider());
    let builder = match proof {
        ClientProof::Required => builder,
        ClientProof::None | ClientProof::Optional => builder.allow_unauthenticated(),
    };
    let inner = builder.build().map_err(|e| TlsError::Unusable(e.to_string()))?;
    Ok(Arc::new(PinnedClients { exact: anchors.exact, inner }))
}

/// What a client of the API shows and whom it believes.
pub fn client_config(
    trust: Trust,
    cafile: Option<&Path>,
    certfile: Option<&Path>,
    keyfile: Option<&Path>,
) -> Result<ClientConfig, TlsError> {
    let versions = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Unusable(e.to_string()))?;
    let builder =
        versions.dangerous().with_custom_certificate_verifier(server_verifier(trust, cafile)?);
    match certfile {
        None => Ok(builder.with_no_client_auth()),
        Some(certfile) => builder
            .with_client_auth_cert(certificates(certfile)?, key(keyfile.unwrap_or(certfile))?)
            .map_err(|e| TlsError::Unusable(e.to_string())),
    }
}

fn server_verifier(
    trust: Trust,
    cafile: Option<&Path>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if trust == Trust::Anyone {
        return Ok(Arc::new(PinnedServers { exact: Vec::new(), inner: None, trust }));
    }
    let cafile = cafile.ok_or(TlsError::NoAuthority("ctl.certfile", "ctl.cacert"))?;
    let anchors = anchors(cafile)?;
    let inner = WebPkiServerVerifier::builder_with_provider(anchors.roots, provider())
        .build()
        .map_err(|e| TlsError::Unusable(e.to_string()))?;
    Ok(Arc::new(PinnedServers { exact: anchors.exact, inner: Some(inner), trust }))
}

#[derive(Debug)]
struct PinnedClients {
    exact: Vec<CertificateDer<'static>>,
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for PinnedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.exact.iter().any(|anchor| anchor == end_entity) {
            return Ok(ClientCertVerified::assertion());
        }
        self.inner.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct PinnedServers {
    exact: Vec<CertificateDer<'static>>,
    /// `None`: anybody is believed.
    inner: Option<Arc<WebPkiServerVerifier>>,
    trust: Trust,
}

impl ServerCertVerifier for PinnedServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        if self.exact.iter().any(|anchor| anchor == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        // The chain is judged before the name, so a wrong name means a good chain.
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(reason))
                if self.trust == Trust::Chain && is_about_the_name(&reason) =>
            {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &ring::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn is_about_the_name(reason: &CertificateError) -> bool {
    matches!(
        reason,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    )
}
