//! Is the server who it should be?
//!
//! Web PKI refuses an authority's certificate as an end entity, so an end
//! entity that is, byte for byte, one of the configured anchors is accepted
//! here; its key must still prove itself in the handshake. The expiry of such a
//! pinned certificate is not judged. What else Web PKI refuses and OpenSSL does
//! not is judged by `plain_x509`.
//!
//! Invariant *fails closed*: where revocation lists are given, a certificate
//! that they cannot judge is refused.

use super::{Believed, TlsError, Trust, anchors, plain_x509, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    exact: Vec<CertificateDer<'static>>,
    /// `None`: anybody is believed.
    chain: Option<Arc<WebPkiServerVerifier>>,
    judges_revocation: bool,
    known: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(believed: Believed) -> Result<Verifier, TlsError> {
        let provider = provider();
        let known = provider.signature_verification_algorithms;
        let judges_revocation = !believed.revoked.is_empty();
        let trust = believed.trust;
        if trust == Trust::Anyone {
            let exact = Vec::new();
            return Ok(Verifier { trust, exact, chain: None, judges_revocation, known });
        }
        let anchors = anchors(believed.authorities)?;
        let chain = WebPkiServerVerifier::builder_with_provider(anchors.roots, provider)
            .with_crls(believed.revoked.iter().cloned())
            .build()
            .map_err(TlsError::Authorities)?;
        let exact = anchors.exact;
        Ok(Verifier { trust, exact, chain: Some(chain), judges_revocation, known })
    }

    fn believes(
        &self,
        chain: &WebPkiServerVerifier,
        shown: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let Some((end_entity, intermediates)) = shown.split_first() else {
            return Err(Error::NoCertificatesPresented);
        };
        let pinned = self.exact.iter().any(|anchor| anchor == end_entity);
        let odd = plain_x509::is_odd(end_entity);
        if (pinned || odd) && self.judges_revocation {
            let why = "the server's certificate cannot be judged by revocation lists";
            return Err(Error::General(format!("{why}; leave sslcrl out, or give it another one")));
        }
        if odd && !pinned {
            plain_x509::verify(end_entity, &self.exact, now, &self.known)?;
        }
        if odd || pinned {
            return match self.trust {
                Trust::ChainAndLibpqName => libpq_name(end_entity, name),
                Trust::ChainAndName if !pinned => {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)
                }
                _ => Ok(()),
            };
        }
        // The name is looked at last: a wrong name means that the chain is good.
        match chain.verify_server_cert(end_entity, intermediates, name, &[], now) {
            Err(error) if is_name(&error) => match self.trust {
                Trust::Chain | Trust::Anyone => Ok(()),
                Trust::ChainAndName => Err(error),
                Trust::ChainAndLibpqName => plain_x509::common_name(end_entity, name),
            },
            answer => answer.map(|_| ()),
        }
    }
}

fn libpq_name(end_entity: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end_entity);
    match parsed.and_then(|parsed| verify_server_name(&parsed, name)) {
        Ok(()) => Ok(()),
        Err(_) => plain_x509::common_name(end_entity, name),
    }
}

fn is_name(error: &Error) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(error, Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            let mut shown = vec![end_entity.clone()];
            shown.extend_from_slice(intermediates);
            self.believes(chain, &shown, server_name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if plain_x509::is_plain(cert) {
            return plain_x509::handshake(message, cert, signed, &self.known);
        }
        verify_tls12_signature(message, cert, signed, &self.known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if plain_x509::is_plain(cert) {
            return plain_x509::handshake13(message, cert, signed, &self.known);
        }
        verify_tls13_signature(message, cert, signed, &self.known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.known.supported_schemes()
    }
}
