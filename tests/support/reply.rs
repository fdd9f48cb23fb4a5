//! What an origin does about a request: a script of actions, and helpers for the usual ones.

use super::latch::Latch;

/// One step of a script.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Sends bytes as they are. Over TLS, they are sealed.
    Send(Vec<u8>),
    /// Sends bytes in pieces of a length, one system call (and one TLS record) each.
    SendSplit(Vec<u8>, usize),
    /// Sends each piece as one chunk, then the last chunk.
    Chunked(Vec<Vec<u8>>),
    /// Waits until the latch is released, or the origin dropped.
    Wait(Latch),
    /// Releases the latch: tells the test that the script came here.
    Release(Latch),
    /// Reads this many bytes that the client sends beyond what was taken as the request.
    Receive(usize),
    /// Reads until the client ends its half in good order, then sends all of that back.
    EchoAtEnd,
    /// Ends with an RST.
    Reset,
    /// Ends in good order: over TLS with a close_notify, then a FIN.
    Close,
    /// Ends with a FIN; over TLS without a close_notify.
    CloseWithoutNotify,
    /// Ends the origin's half (over TLS with a close_notify), then reads until the client ends.
    HalfClose,
    /// Neither reads nor writes until the origin is dropped.
    Silence,
    /// Reads the next request, even where this one had asked to close.
    KeepOpen,
}

/// A script. When it has run, the next request is read, except after a request with
/// `Connection: close`, and after the actions that end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply(pub(crate) Vec<Action>);

impl Reply {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn then(mut self, action: Action) -> Self {
        self.0.push(action);
        self
    }

    pub(crate) fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Action::Send(bytes.as_ref().to_vec()))
    }

    pub(crate) fn split(self, bytes: impl AsRef<[u8]>, piece: usize) -> Self {
        self.then(Action::SendSplit(bytes.as_ref().to_vec(), piece))
    }

    pub(crate) fn wait(self, latch: &Latch) -> Self {
        self.then(Action::Wait(latch.clone()))
    }

    pub(crate) fn release(self, latch: &Latch) -> Self {
        self.then(Action::Release(latch.clone()))
    }

    pub(crate) fn reset(self) -> Self {
        self.then(Action::Reset)
    }

    pub(crate) fn close(self) -> Self {
        self.then(Action::Close)
    }

    pub(crate) fn close_without_notify(self) -> Self {
        self.then(Action::CloseWithoutNotify)
    }

    pub(crate) fn half_close(self) -> Self {
        self.then(Action::HalfClose)
    }

    pub(crate) fn silence(self) -> Self {
        self.then(Action::Silence)
    }

    pub(crate) fn keep_open(self) -> Self {
        self.then(Action::KeepOpen)
    }
}

/// 200 with a body of known length.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Reply {
    response(200, &[], body)
}

/// A redirect with an empty body.
pub(crate) fn redirect(status: u16, location: &str) -> Reply {
    response(status, &[("Location", location)], "")
}

/// A status with an empty body.
pub(crate) fn status(status: u16) -> Reply {
    response(status, &[], "")
}

/// A whole response with `Content-Length`, except where the status forbids both.
pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} {}\r\n", reason(status)).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if status != 204 && status != 304 {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    Reply::new().send(bytes)
}

/// 200 with a chunked body.
pub(crate) fn chunked<B: AsRef<[u8]>>(pieces: &[B]) -> Reply {
    Reply::new()
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .then(Action::Chunked(pieces.iter().map(|piece| piece.as_ref().to_vec()).collect()))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
