//! hyper: bare connections, and the pooled client of hyper-util.

use std::sync::Arc;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use whippet_bench::plan::Plan;
use whippet_bench::{Failure, tls};

use crate::work::on_tokio;

/// The configuration for the origin, whether or not that speaks TLS.
pub(crate) fn config(plan: &Plan) -> Result<ClientConfig, Failure> {
    if !plan.is_tls() {
        return Ok(ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth());
    }
    let mut config = tls::client(&plan.authority_file()?)?;
    if !plan.is_set("resume") {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

pub(crate) fn connections(plan: &Plan) -> Result<(), Failure> {
    let (address, authority) = (plan.address()?, plan.authority()?.to_owned());
    let connector = plan.is_tls().then(|| config(plan)).transpose()?.map(Arc::new);
    let connector = connector.map(TlsConnector::from);
    on_tokio(plan, |work| {
        let (connector, authority) = (connector.clone(), authority.clone());
        async move {
            let connect = || async {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let Some(connector) = &connector else { return begin(TokioIo::new(stream)).await };
                let name = ServerName::IpAddress(address.ip().into());
                begin(TokioIo::new(connector.connect(name, stream).await?)).await
            };
            let mut sender = connect().await?;
            while let Some(began) = work.next() {
                if sender.ready().await.is_err() {
                    sender = connect().await?;
                }
                let request = Request::get("/").header(HOST, &authority).body(Empty::new())?;
                work.done(began, length(sender.send_request(request).await?).await?);
            }
            Ok(())
        }
    })
}

async fn begin<T>(stream: T) -> Result<SendRequest<Empty<Bytes>>, Failure>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn length(response: Response<Incoming>) -> Result<u64, Failure> {
    let mut body = response.into_body();
    let mut bytes = 0;
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

pub(crate) fn pooled(plan: &Plan) -> Result<(), Failure> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config(plan)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector);
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let uri: hyper::Uri = plan.url()?.parse()?;
    on_tokio(plan, |work| {
        let (client, uri) = (client.clone(), uri.clone());
        async move {
            while let Some(began) = work.next() {
                work.done(began, length(client.get(uri.clone()).await?).await?);
            }
            Ok(())
        }
    })
}
