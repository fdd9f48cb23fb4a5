//! Addresses where nobody answers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};

/// An address of loopback that refuses connections.
pub(crate) fn refused_port() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// An address of loopback where connects neither succeed nor fail, while this lives.
#[derive(Debug)]
pub(crate) struct Blackhole {
    pub(crate) address: SocketAddr,
    _listener: Socket,
    _waiting: TcpStream,
    _fillers: Vec<Socket>,
}

/// Nobody accepts, and the backlog is full: the kernel drops each SYN that comes.
pub(crate) fn blackhole() -> Blackhole {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let waiting = TcpStream::connect(address).unwrap();
    let fillers = (0..FILLERS).map(|_| begin_connect(address)).collect();
    Blackhole { address, _listener: listener, _waiting: waiting, _fillers: fillers }
}

fn begin_connect(to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    // In progress: an error by name, the purpose here.
    let _ = socket.connect(&to.into());
    socket
}

/// One fills a backlog of 0 on Linux; the others are for kernels that round it up.
const FILLERS: usize = 4;
