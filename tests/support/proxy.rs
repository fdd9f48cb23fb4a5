//! A proxy: HTTP with and without CONNECT, SOCKS 4, 4a and 5, all on one port, TLS in front where
//! asked for. Whatever it is asked to lead to, it leads to one origin, and notes what it was asked.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates::TlsSetup;

/// A listener on loopback. Dropping it ends its connections and threads.
pub(crate) struct ProxyServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What is not usual about a proxy.
#[derive(Default)]
pub(crate) struct ProxySetup {
    pub(crate) tls: Option<TlsSetup>,
    /// The user name and password that it wants.
    pub(crate) wants: Option<(&'static str, &'static str)>,
    /// What it says in place of leading anywhere, before it closes.
    pub(crate) says: Option<Vec<u8>>,
    /// What it says to this HTTP request, before it reads the next one; none: it leads on.
    pub(crate) objects: Option<Objection>,
}

/// Judges what the proxy is asked.
pub(crate) type Objection = Box<dyn Fn(&Asked) -> Option<String> + Send + Sync>;

/// What a client asked of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    /// `CONNECT`, `GET` and so on, `SOCKS4` or `SOCKS5`.
    pub(crate) how: String,
    /// Where to: as the client said it.
    pub(crate) to: String,
    /// Proxy-Authorization, or `user:password`.
    pub(crate) who: Option<String>,
}

struct Shared {
    origin: SocketAddr,
    setup: ProxySetup,
    tls: Option<Arc<ServerConfig>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    asked: Vec<Asked>,
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

impl ProxyServer {
    /// Leads to `origin`.
    pub(crate) fn start(origin: SocketAddr, setup: ProxySetup) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = setup.tls.as_ref().map(TlsSetup::server_config);
        let shared = Arc::new(Shared { origin, setup, tls, state: Mutex::default() });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }
}

impl Drop for ProxyServer {
    fn drop(&mut self) {
        let threads = {
            let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_stopped = true;
            for socket in &state.sockets {
                let _ = socket.shutdown(Shutdown::Both);
            }
            std::mem::take(&mut state.threads)
        };
        // The acceptor wakes for a connection, and sees that it is over.
        let _ = TcpStream::connect(self.address);
        let acceptor = self.acceptor.take();
        let failed = acceptor.into_iter().chain(threads).filter_map(|t| t.join().err()).count();
        assert!(failed == 0 || thread::panicking(), "threads of the proxy panicked");
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        let mut state = shared.state.lock().unwrap();
        if state.is_stopped {
            return;
        }
        let Ok(socket) = socket else { continue };
        socket.set_nodelay(true).unwrap();
        state.sockets.push(socket.try_clone().unwrap());
        let mine = Arc::clone(shared);
        let ending = socket.try_clone().unwrap();
        state.threads.push(thread::spawn(move || {
            // Clients may go at any time: what ends a connection is no failure of a test.
            let _ = mine.serve(socket);
            // The other descriptors of the socket are kept to the end.
            let _ = ending.shutdown(Shutdown::Both);
        }));
    }
}

/// What can be read and written.
trait Stream: Read + Write {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for StreamOwned<ServerConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

impl Shared {
    fn serve(&self, socket: TcpStream) -> io::Result<()> {
        match &self.tls {
            None => self.negotiate(socket),
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).unwrap();
                self.negotiate(StreamOwned::new(session, socket))
            }
        }
    }

    fn negotiate(&self, mut client: impl Stream) -> io::Result<()> {
        match byte(&mut client)? {
            4 => self.socks4(client),
            5 => self.socks5(client),
            // The beginning of a TLS handshake, where none is expected.
            22 => client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            first => self.http(client, first),
        }
    }

    fn note(&self, how: &str, to: String, who: Option<String>) -> Asked {
        let asked = Asked { how: how.to_owned(), to, who };
        self.state.lock().unwrap().asked.push(asked.clone());
        asked
    }

    fn http(&self, mut client: impl Stream, first: u8) -> io::Result<()> {
        let mut head = vec![first];
        while !head.ends_with(b"\r\n\r\n") {
            head.push(byte(&mut client)?);
        }
        let text = String::from_utf8(head.clone()).unwrap();
        let mut words = text.split(' ');
        let (Some(how), Some(to)) = (words.next(), words.next()) else {
            // The body of a request that was refused.
            return Ok(());
        };
        let asks = text.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
        let asked = self.note(how, to.to_owned(), asks.map(str::to_owned));
        if let Some(says) = &self.setup.says {
            return client.write_all(says);
        }
        if let Some(objection) = self.setup.objects.as_ref().and_then(|objects| objects(&asked)) {
            client.write_all(objection.as_bytes())?;
            let next = byte(&mut client)?;
            return self.http(client, next);
        }
        let wants = self.setup.wants.map(|(user, password)| basic(user, password));
        if wants.as_deref() != asks && wants.is_some() {
            let refusal =
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
            return client.write_all(refusal);
        }
        if how == "CONNECT" {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            return self.lead(client, &[]);
        }
        self.lead(client, &head)
    }

    fn socks4(&self, mut client: impl Stream) -> io::Result<()> {
        let mut fixed = [0; 7];
        client.read_exact(&mut fixed)?;
        let [_, p1, p2, ip @ ..] = fixed;
        let user = until_nul(&mut client)?;
        let by_name = ip[..3] == [0; 3] && ip[3] != 0;
        let host = if by_name { until_nul(&mut client)? } else { Ipv4Addr::from(ip).to_string() };
        let port = u16::from_be_bytes([p1, p2]);
        self.note("SOCKS4", format!("{host}:{port}"), Some(user).filter(|it| !it.is_empty()));
        if let Some(says) = &self.setup.says {
            return client.write_all(says);
        }
        client.write_all(&[0, 90, 0, 0, 0, 0, 0, 0])?;
        self.lead(client, &[])
    }

    fn socks5(&self, mut client: impl Stream) -> io::Result<()> {
        let methods = counted(&mut client)?;
        let mut who = None;
        match self.setup.wants {
            Some(_) if !methods.contains(&2) => return client.write_all(&[5, 255]),
            None => client.write_all(&[5, 0])?,
            Some((user, password)) => {
                client.write_all(&[5, 2])?;
                byte(&mut client)?;
                let given = [counted(&mut client)?, counted(&mut client)?];
                let [name, word] = given.map(|text| String::from_utf8(text).unwrap());
                if (&*name, &*word) != (user, password) {
                    return client.write_all(&[1, 1]);
                }
                who = Some(format!("{name}:{word}"));
                client.write_all(&[1, 0])?;
            }
        }
        let mut request = [0; 4];
        client.read_exact(&mut request)?;
        let host = match request[3] {
            1 => Ipv4Addr::from(exactly::<4>(&mut client)?).to_string(),
            4 => std::net::Ipv6Addr::from(exactly::<16>(&mut client)?).to_string(),
            _ => String::from_utf8(counted(&mut client)?).unwrap(),
        };
        let port = u16::from_be_bytes(exactly(&mut client)?);
        self.note("SOCKS5", format!("{host}:{port}"), who);
        if let Some(says) = &self.setup.says {
            return client.write_all(says);
        }
        client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        self.lead(client, &[])
    }

    /// Passes bytes both ways until one side ends. Both are asked in turn, since a TLS session
    /// cannot be read and written by two threads.
    fn lead(&self, mut client: impl Stream, first: &[u8]) -> io::Result<()> {
        let mut origin = TcpStream::connect(self.origin)?;
        origin.set_nodelay(true)?;
        origin.write_all(first)?;
        for socket in [client.socket(), &origin] {
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        }
        while pass(&mut client, &mut origin)? && pass(&mut origin, &mut client)? {}
        Ok(())
    }
}

/// The credentials of scheme Basic.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

/// `false`: it has ended.
fn pass(from: &mut impl Read, to: &mut impl Write) -> io::Result<bool> {
    let mut piece = [0; 16 << 10];
    match from.read(&mut piece) {
        Ok(0) => Ok(false),
        Ok(count) => to.write_all(&piece[..count]).and_then(|()| to.flush()).map(|()| true),
        Err(error) if is_later(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn byte(from: &mut impl Read) -> io::Result<u8> {
    exactly::<1>(from).map(|[byte]| byte)
}

fn exactly<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A length, and so many bytes.
fn counted(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; byte(from)?.into()];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn until_nul(from: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        match byte(from)? {
            0 => return Ok(String::from_utf8(bytes).unwrap()),
            other => bytes.push(other),
        }
    }
}
