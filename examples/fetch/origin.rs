//! The demo's origin: a server on loopback, in threads of its own, plain and over TLS, that
//! answers in every way an origin can. Blocking and simple: it is what is fetched from, not how.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The name that the certificate is for.
pub(crate) const HOST: &str = "demo.test";
/// A name whose certificate another authority signed.
pub(crate) const BAD_CERTIFICATE_HOST: &str = "untrusted.test";

/// Where it listens; it does so until the process ends.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) plain_port: u16,
    pub(crate) tls_port: u16,
    /// Where nobody listens.
    pub(crate) refusing_port: u16,
    /// The authority that signed [`HOST`]'s certificate.
    pub(crate) authority_pem: String,
}

impl Origin {
    pub(crate) fn start() -> io::Result<Self> {
        let (authority_pem, config) = tls_config().map_err(io::Error::other)?;
        let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let tls = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let refusing_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let origin = Self {
            plain_port: plain.local_addr()?.port(),
            tls_port: tls.local_addr()?.port(),
            refusing_port,
            authority_pem,
        };
        let memory = Memory::default();
        spawn_listener(plain, None, memory.clone())?;
        spawn_listener(tls, Some(Arc::new(config)), memory)?;
        Ok(origin)
    }
}

/// Which targets were asked for before.
type Memory = Arc<Mutex<HashSet<String>>>;

fn spawn_listener(
    listener: TcpListener,
    config: Option<Arc<ServerConfig>>,
    memory: Memory,
) -> io::Result<()> {
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Descriptors are short: others will close theirs.
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            let (config, memory) = (config.clone(), Arc::clone(&memory));
            // A connection that gets no thread is closed, and its client told by that.
            let _ = thread::Builder::new().spawn(move || converse(stream, config, &memory));
        }
    };
    thread::Builder::new().name("origin".to_owned()).spawn(accept).map(drop)
}

/// A failed read or write ends the conversation: the client has gone.
fn converse(stream: TcpStream, config: Option<Arc<ServerConfig>>, memory: &Memory) {
    let _ = stream.set_nodelay(true);
    let Some(config) = config else {
        let mut stream = stream;
        let _ = serve(&mut stream, memory);
        return;
    };
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    if let Ok(Then::Close) = serve(&mut stream, memory) {
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

/// What follows an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    KeepAlive,
    Close,
    /// Without a word of goodbye.
    CutOff,
}

fn serve(stream: &mut (impl Read + Write), memory: &Memory) -> io::Result<Then> {
    let mut bytes = Vec::new();
    loop {
        let Some(asked) = next_request(stream, &mut bytes)? else { return Ok(Then::Close) };
        let then = answer(stream, &asked, memory)?;
        stream.flush()?;
        if then != Then::KeepAlive {
            return Ok(then);
        }
    }
}

struct Asked {
    /// Path and query.
    target: String,
    body: Vec<u8>,
}

/// `None` where the client has closed. Good enough for a client that is well behaved.
fn next_request(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<Option<Asked>> {
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if !receive(stream, bytes)? {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0_usize);
    while bytes.len() < head_end + length {
        if !receive(stream, bytes)? {
            return Ok(None);
        }
    }
    let body = bytes[head_end..head_end + length].to_vec();
    bytes.drain(..head_end + length);
    Ok(Some(Asked { target, body }))
}

/// Whether there was more.
fn receive(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 16_384];
    let read = stream.read(&mut piece)?;
    bytes.extend_from_slice(&piece[..read]);
    Ok(read > 0)
}

fn answer(stream: &mut (impl Read + Write), asked: &Asked, memory: &Memory) -> io::Result<Then> {
    let path = asked.target.split('?').next().unwrap_or_default();
    let is_first = || {
        let mut seen = memory.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(asked.target.clone())
    };
    match path {
        "/fast" => whole(stream, "200 OK", "", &[b'f'; 1_024]),
        "/large" => whole(stream, "200 OK", "", &vec![b'l'; 1 << 20]),
        "/echo" => whole(stream, "200 OK", "", &asked.body),
        "/empty" => {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            Ok(Then::KeepAlive)
        }
        "/flaky" if is_first() => whole(stream, "503 Service Unavailable", "", b"not yet"),
        "/flaky" => whole(stream, "200 OK", "", b"ready"),
        "/limited" if is_first() => {
            whole(stream, "429 Too Many Requests", "Retry-After: 1\r\n", b"slower")
        }
        "/limited" => whole(stream, "200 OK", "", b"allowed"),
        "/redirect/3" => {
            whole(stream, "302 Found", &format!("Location: /redirect/2{}\r\n", query(asked)), b"")
        }
        "/redirect/2" => whole(stream, "301 Moved Permanently", "Location: 1\r\n", b"moved"),
        "/redirect/1" => whole(stream, "307 Temporary Redirect", "Location: ../fast\r\n", b""),
        "/loop" => whole(stream, "302 Found", &format!("Location: {}\r\n", asked.target), b""),
        "/gzip" => whole(stream, "200 OK", "Content-Encoding: gzip\r\n", GZIP),
        "/half-gzip" => {
            whole(stream, "200 OK", "Content-Encoding: gzip\r\n", &GZIP[..GZIP.len() / 2])
        }
        "/br" => whole(stream, "200 OK", "Content-Encoding: br\r\n", BROTLI),
        "/closing" => {
            whole(stream, "200 OK", "Connection: close\r\n", b"closing").map(|_| Then::Close)
        }
        _ => odd_answer(stream, path),
    }
}

/// What is not one whole message with a Content-Length.
fn odd_answer(stream: &mut (impl Read + Write), path: &str) -> io::Result<Then> {
    match path {
        "/slow" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")?;
            for _ in 0..5 {
                thread::sleep(Duration::from_millis(40));
                stream.write_all(&[b's'; 100])?;
                stream.flush()?;
            }
            Ok(Then::KeepAlive)
        }
        "/chunked" => {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
            stream.write_all(head)?;
            for _ in 0..3 {
                stream.write_all(b"3e8\r\n")?;
                stream.write_all(&[b'c'; 1_000])?;
                stream.write_all(b"\r\n")?;
            }
            stream.write_all(b"0\r\nX-Sum: 3000\r\n\r\n")?;
            Ok(Then::KeepAlive)
        }
        "/until-close" | "/cut-off" => {
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n")?;
            stream.write_all(&[b'u'; 2_000])?;
            Ok(if path == "/cut-off" { Then::CutOff } else { Then::Close })
        }
        "/truncated" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
            stream.write_all(&[b't'; 500])?;
            Ok(Then::Close)
        }
        "/silent" => until_left(stream),
        "/stalling" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")?;
            stream.flush()?;
            until_left(stream)
        }
        "/malformed" => {
            stream.write_all(b"HTP 200 what\r\n\r\n")?;
            Ok(Then::Close)
        }
        _ => whole(stream, "404 Not Found", "", b"not here\n"),
    }
}

/// One text, in two codings.
const GZIP: &[u8] = include_bytes!("../../tests/corpus/codings/text.gz");
const BROTLI: &[u8] = include_bytes!("../../tests/corpus/codings/text.br");

fn whole(stream: &mut impl Write, status: &str, fields: &str, body: &[u8]) -> io::Result<Then> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    Ok(Then::KeepAlive)
}

/// Says nothing until the client has had enough.
fn until_left(stream: &mut impl Read) -> io::Result<Then> {
    while stream.read(&mut [0; 1_024])? > 0 {}
    Ok(Then::CutOff)
}

fn query(asked: &Asked) -> String {
    asked.target.split_once('?').map_or_else(String::new, |(_, query)| format!("?{query}"))
}

/// A certificate for each name, chosen by the name asked for.
#[derive(Debug)]
struct ByName {
    trusted: Arc<CertifiedKey>,
    untrusted: Arc<CertifiedKey>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_untrusted = hello.server_name() == Some(BAD_CERTIFICATE_HOST);
        Some(Arc::clone(if is_untrusted { &self.untrusted } else { &self.trusted }))
    }
}

/// The authority's certificate, and a server's configuration with what it signed.
fn tls_config() -> Result<(String, ServerConfig), Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certified = |host: &str| {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let authority: Certificate = params.self_signed(&authority_key)?;
        let issuer = Issuer::new(params, authority_key);
        let params = CertificateParams::new(vec![host.to_owned()])?;
        let certificate = params.signed_by(&key, &issuer)?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = provider.key_provider.load_private_key(der)?;
        let chain = vec![certificate.der().clone()];
        let certified = Arc::new(CertifiedKey::new(chain, signer));
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((authority.pem(), certified))
    };
    let (authority_pem, trusted) = certified(HOST)?;
    let (_, untrusted) = certified(BAD_CERTIFICATE_HOST)?;
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { trusted, untrusted }));
    Ok((authority_pem, config))
}
