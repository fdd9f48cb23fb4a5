//! A name server in a few lines: `o17.test` has the address 127.64.0.17, and no other family's;
//! a name that does not begin so does not exist.

use mio::net::UdpSocket;

/// Answers what has arrived. A query that makes no sense is dropped.
pub(crate) fn answer_all(socket: &UdpSocket) {
    let mut query = [0; 512];
    while let Ok((bytes, from)) = socket.recv_from(&mut query) {
        if let Some(reply) = answer(&query[..bytes]) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(*query.get(HEADER_BYTES)?);
    let label = query.get(HEADER_BYTES + 1..HEADER_BYTES + 1 + length)?;
    let end = HEADER_BYTES + query[HEADER_BYTES..].iter().position(|byte| *byte == 0)? + 5;
    let kind = query.get(end - 4..end - 2)?;
    let number = std::str::from_utf8(label).ok()?.strip_prefix('o').map(str::parse::<u16>);
    let (code, answers) = match number {
        Some(Ok(_)) if kind == [0, 1] => (0, 1),
        Some(Ok(_)) => (0, 0),
        _ => (NO_SUCH_NAME, 0),
    };
    // RFC 1035 §4.1.1: the same id; a response, recursion desired and available.
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    reply.extend(query.get(HEADER_BYTES..end)?);
    if let (Some(Ok(number)), 1) = (number, answers) {
        // The question's name, type A, class IN, 300 seconds, four bytes.
        reply.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 127, 64]);
        reply.extend(number.to_be_bytes());
    }
    Some(reply)
}

const HEADER_BYTES: usize = 12;
const NO_SUCH_NAME: u8 = 3;
