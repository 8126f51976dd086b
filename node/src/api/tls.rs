//! Certificates of the REST API: which one it presents, which clients it accepts.
//!
//! An authority's certificate that comes as a client's is accepted where it is,
//! byte for byte, one of the configured anchors; its key must still prove
//! itself in the handshake, and its expiry is not judged. The same holds for
//! what else Web PKI refuses and OpenSSL does not (`plain_x509`).
//!
//! Absent on purpose: the client's side (`tls.rs` of this crate), revocation
//! lists.

use super::ciphers::limited;
use crate::tls::{Anchors, Own, TlsError, anchors, certificates, key, plain_x509, provider};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// May clients come without a certificate?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientProof {
    None,
    Optional,
    Required,
}

impl ClientProof {
    /// Reads `restapi.verify_client`.
    pub(crate) fn parse(text: &str) -> Option<ClientProof> {
        match text {
            "" | "none" => Some(ClientProof::None),
            "optional" => Some(ClientProof::Optional),
            "required" => Some(ClientProof::Required),
            _ => None,
        }
    }
}

/// Which certificate the server presents and which clients it accepts.
pub(crate) fn server_config(
    own: Own,
    cafile: Option<&Path>,
    proof: ClientProof,
    ciphers: Option<&str>,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(own.cert)?;
    let key = key::read(own.key.unwrap_or(own.cert), own.password)?;
    let offered = limited(ring::default_provider(), ciphers);
    let versions = ServerConfig::builder_with_provider(Arc::new(offered))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Unusable(e.to_string()))?;
    let builder = match proof {
        ClientProof::None => versions.with_no_client_auth(),
        ClientProof::Optional | ClientProof::Required => {
            let cafile =
                cafile.ok_or(TlsError::NoAuthority("restapi.verify_client", "restapi.cafile"))?;
            versions.with_client_cert_verifier(client_verifier(anchors(Some(cafile))?, proof)?)
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
    let known = provider().signature_verification_algorithms;
    Ok(Arc::new(PinnedClients { exact: anchors.exact, inner, known }))
}

#[derive(Debug)]
struct PinnedClients {
    exact: Vec<CertificateDer<'static>>,
    inner: Arc<dyn ClientCertVerifier>,
    known: WebPkiSupportedAlgorithms,
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
        if plain_x509::is_odd(end_entity) {
            plain_x509::verify(end_entity, &self.exact, now, &self.known)?;
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
        if plain_x509::is_plain(certificate) {
            return plain_x509::handshake(message, certificate, signature, &self.known);
        }
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if plain_x509::is_plain(certificate) {
            return plain_x509::handshake13(message, certificate, signature, &self.known);
        }
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
