//! `restapi.ciphers`: which suites of TLS 1.2 the API offers.
//!
//! The setting is in OpenSSL's words. Names of suites choose; words for whole
//! families (`HIGH`, `EECDH+AESGCM`) and exclusions of weak ones (`!aNULL`)
//! change nothing, because only strong suites with forward secrecy exist here.
//! Suites of TLS 1.3 are always offered, as OpenSSL does.

use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite, SupportedCipherSuite};

/// OpenSSL's names of the suites of TLS 1.2 that exist here.
const NAMES: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The provider with the suites that are wanted.
pub(super) fn limited(provider: CryptoProvider, wanted: Option<&str>) -> CryptoProvider {
    let Some(wanted) = wanted else { return provider };
    let words = || wanted.split([':', ',', ' ']).filter(|word| !word.is_empty());
    let suite = |word: &str| NAMES.iter().find(|(name, _)| *name == word).map(|(_, suite)| *suite);
    let excluded: Vec<CipherSuite> =
        words().filter_map(|word| suite(word.strip_prefix(['!', '-'])?)).collect();
    let chosen: Vec<CipherSuite> = words().filter_map(suite).collect();
    // A dash is in every suite's name and in no family's.
    let names_none = words().all(|word| word.starts_with(['!', '-', '@']) || !word.contains('-'));
    let keeps = |offered: &SupportedCipherSuite| match offered {
        SupportedCipherSuite::Tls13(_) => true,
        SupportedCipherSuite::Tls12(_) => {
            let suite = offered.suite();
            !excluded.contains(&suite) && (names_none || chosen.contains(&suite))
        }
    };
    let cipher_suites = provider.cipher_suites.iter().copied().filter(keeps).collect();
    CryptoProvider { cipher_suites, ..provider }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(wanted: &str) -> Vec<CipherSuite> {
        let limited = limited(rustls::crypto::ring::default_provider(), Some(wanted));
        let old = |suite: &&SupportedCipherSuite| matches!(suite, SupportedCipherSuite::Tls12(_));
        assert!(limited.cipher_suites.iter().any(|suite| !old(&suite)), "TLS 1.3 is always there");
        limited.cipher_suites.iter().filter(old).map(|suite| suite.suite()).collect()
    }

    #[test]
    fn names_choose_and_families_do_not() {
        let (gcm, all) = (NAMES[3], NAMES.len());
        assert_eq!(offered("ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-SHA"), [gcm.1]);
        assert_eq!(offered("HIGH:!aNULL:!MD5@STRENGTH").len(), all);
        assert_eq!(offered("EECDH+AESGCM:!ECDHE-RSA-AES256-GCM-SHA384").len(), all - 1);
        // Nothing that was named exists here: only TLS 1.3 is left.
        assert_eq!(offered("AES256-SHA:DES-CBC3-SHA"), []);
    }
}
