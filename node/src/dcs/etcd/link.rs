//! The way to one endpoint: TCP, TLS where it is wanted, HTTP/2.
//!
//! A name's addresses are all tried (IPv6 and IPv4 at once). TLS is made here
//! and not in the gRPC library, because a certificate that is its own
//! authority has to be believed (see `crate::tls`). The certificates' files are
//! read when a link is made: a renewed one counts from the next link on.
//!
//! Invariant *silence ends*: the kernel gives up on bytes that the peer does not
//! acknowledge, and HTTP/2 pings detect a peer that is gone, both within the
//! shortest ttl.

use super::endpoint::Endpoint;
use crate::dcs::DcsError;
use crate::dcs::settings::StoreSettings;
use crate::tls::{self, Believed, Own, Trust};
use etcd_client::Channel;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tonic::transport::Uri;
use tower::Service;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Linked = Result<TokioIo<Box<dyn Stream>>, Box<dyn std::error::Error + Send + Sync>>;

/// Limits of a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub connect: Duration,
    pub ping_interval: Duration,
    pub ping_timeout: Duration,
}

/// Connects at the first call.
pub(super) fn channel(
    endpoint: &Endpoint,
    settings: &StoreSettings,
    timing: &Timing,
) -> Result<Channel, DcsError> {
    let wrong = |e: tonic::transport::Error| DcsError::Settings(format!("{endpoint}: {e}"));
    let uri = |text: String| {
        text.parse::<Uri>().map_err(|e| DcsError::Settings(format!("{endpoint}: {e}")))
    };
    let tls = if endpoint.tls { Some(tls(settings, &endpoint.host)?) } else { None };
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(timing.connect));
    http.set_tcp_user_timeout(Some(timing.ping_interval + timing.ping_timeout));
    let link = tower::service_fn(move |uri: Uri| connect(http.clone(), uri, tls.clone()));
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", endpoint.name))
        .map_err(wrong)?
        .origin(uri(endpoint.to_string())?)
        .connect_timeout(timing.connect)
        // etcd takes pings without an open stream for an attack.
        .keep_alive_while_idle(false)
        .http2_keep_alive_interval(timing.ping_interval)
        .keep_alive_timeout(timing.ping_timeout)
        .connect_with_connector_lazy(link);
    Ok(Channel::Tonic(channel))
}

async fn connect(
    mut http: HttpConnector,
    uri: Uri,
    tls: Option<(TlsConnector, ServerName<'static>)>,
) -> Linked {
    let stream = http.call(uri).await?.into_inner();
    Ok(TokioIo::new(match tls {
        None => Box::new(stream),
        Some((connector, name)) => Box::new(connector.connect(name, stream).await?),
    }))
}

fn tls(
    settings: &StoreSettings,
    host: &str,
) -> Result<(TlsConnector, ServerName<'static>), DcsError> {
    let mut config = client_config(settings)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from(host.to_string())
        .map_err(|_| DcsError::Settings(format!("`{host}` is no name for a certificate")))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// The certificate that the store's client presents, and the ones it trusts.
pub(super) fn client_config(settings: &StoreSettings) -> Result<ClientConfig, DcsError> {
    let believed = Believed::new(Trust::ChainAndName, settings.cacert.as_deref());
    let key = settings.key.as_deref();
    let own = settings.cert.as_deref().map(|cert| Own { cert, key, password: None });
    tls::client_config(believed, own).map_err(|e| DcsError::Settings(format!("etcd3: {e}")))
}
