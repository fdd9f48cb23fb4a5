//! What passes through open sessions: cuts, joins, closes, damage, key updates, fragments.

use super::*;

#[test]
fn an_answer_cut_in_two_anywhere() {
    let pki = Pki::new();
    for version in BOTH {
        let mut link = Link::open(&pki.config(), &Arc::new(pki.server(version)));
        let mut cut = 0;
        loop {
            let mut wire = link.server_says(b"one");
            wire.extend(link.server_says(b""));
            wire.extend(link.server_says(&[b'x'; 40]));
            let done = cut > wire.len();
            let (head, tail) = wire.split_at(cut.min(wire.len()));
            link.plain.clear();
            link.arrive(head).result.unwrap();
            link.arrive(tail).result.unwrap();
            assert_eq!(link.plain, [&b"one"[..], &[b'x'; 40]].concat());
            assert!(link.kept.is_empty());
            if done {
                break;
            }
            cut += 1;
        }
    }
}

#[test]
fn many_records_and_a_part_of_one_are_compacted_to_the_front() {
    let pki = Pki::new();
    for version in BOTH {
        let mut link = Link::open(&pki.config(), &Arc::new(pki.server(version)));
        let sent: Vec<u8> = (0..=250).cycle().take(60_000).collect();
        let mut wire = Vec::new();
        for message in sent.chunks(7_001) {
            wire.extend(link.server_says(message));
        }
        let (most, rest) = wire.split_at(wire.len() - 10);
        let opened = link.arrive(most);
        opened.result.unwrap();
        assert!(opened.consumed < most.len());
        assert_eq!(opened.plain, sent.chunks(7_001).rev().skip(1).map(<[u8]>::len).sum::<usize>());
        link.arrive(rest).result.unwrap();
        assert_eq!(link.plain, sent);
    }
}

#[test]
fn large_bodies_are_sealed_in_many_records() {
    let pki = Pki::new();
    for version in BOTH {
        let mut link = Link::open(&pki.config(), &Arc::new(pki.server(version)));
        for length in [0, 1, 16_384, 16_385, 60_000] {
            let body: Vec<u8> = (0..=250).cycle().take(length).collect();
            link.session.seal(&body, &mut link.out).unwrap();
            let mut heard = Vec::new();
            let out = std::mem::take(&mut link.out);
            let mut rest = &out[..];
            while !rest.is_empty() {
                link.server.read_tls(&mut rest).unwrap();
                link.server.process_new_packets().unwrap();
                let mut some = vec![0; 32 * 1024];
                if let Ok(n) = link.server.reader().read(&mut some) {
                    heard.extend_from_slice(&some[..n]);
                }
            }
            assert_eq!(heard, body);
        }
    }
}

#[test]
fn nothing_is_sealed_outside_an_open_session() {
    let pki = Pki::new();
    let server = Arc::new(pki.server(&version::TLS13));
    let mut link = Link::new(&pki.config(), HOST, &server);
    link.out.clear();
    assert!(link.session.seal(b"too early", &mut link.out).is_err());
    assert!(link.out.is_empty());

    let mut link = Link::open(&pki.config(), &server);
    link.session.close(&mut link.out);
    let goodbye = link.out.len();
    assert!(goodbye > 0);
    assert!(link.session.seal(b"too late", &mut link.out).is_err());
    link.session.close(&mut link.out);
    assert_eq!(link.out.len(), goodbye);
    // Nor is anything read: not even damage.
    let opened = link.arrive(b"garbage");
    opened.result.unwrap();
    assert_eq!((opened.consumed, opened.plain), (7, 0));
}

#[test]
fn a_session_given_up_during_its_handshake_says_nothing() {
    let pki = Pki::new();
    let mut link = Link::new(&pki.config(), HOST, &Arc::new(pki.server(&version::TLS12)));
    link.out.clear();
    link.session.close(&mut link.out);
    assert!(link.out.is_empty() && !link.session.is_handshaking());
}

#[test]
fn our_close_reaches_the_server() {
    let pki = Pki::new();
    for version in BOTH {
        let mut link = Link::open(&pki.config(), &Arc::new(pki.server(version)));
        link.session.close(&mut link.out);
        link.deliver_out().unwrap();
        let mut rest = [0; 1];
        assert_eq!(link.server.reader().read(&mut rest).unwrap(), 0);
    }
}

#[test]
fn a_close_is_told_from_a_silence() {
    let pki = Pki::new();
    for version in BOTH {
        let mut link = Link::open(&pki.config(), &Arc::new(pki.server(version)));
        let wire = link.server_says(b"all of it");
        assert!(!link.arrive(&wire).peer_closed);

        let mut wire = link.server_says(b"more");
        link.server.send_close_notify();
        wire.extend(link.take_from_server());
        wire.extend(b"to be ignored");
        let opened = link.arrive(&wire);
        opened.result.unwrap();
        assert!(opened.peer_closed);
        assert_eq!(opened.consumed, wire.len());
        assert_eq!(link.plain, b"all of itmore");
        // Stays so; and we may still send.
        assert!(link.arrive(b"ignored too").peer_closed);
        assert_eq!(link.plain, b"all of itmore");
        link.session.seal(b"last words", &mut link.out).unwrap();
        assert_eq!(link.server_heard(), b"last words");
    }
}

#[test]
fn after_our_end_the_server_is_read_on() {
    let pki = Pki::new();
    for version in BOTH {
        let mut link = Link::open(&pki.config(), &Arc::new(pki.server(version)));
        link.session.seal(b"last words", &mut link.out).unwrap();
        link.session.close_write(&mut link.out);
        assert!(link.session.seal(b"more", &mut link.out).is_err());
        assert_eq!(link.server_heard(), b"last words");
        assert_eq!(link.server.reader().read(&mut [0; 1]).unwrap(), 0);
        link.session.close_write(&mut link.out);
        let wire = link.server_says(b"still there");
        assert!(!link.arrive(&wire).peer_closed);
        if version == &version::TLS13 {
            // It asks for an answer, which may not be given any more.
            link.server.refresh_traffic_keys().unwrap();
            let wire = link.take_from_server();
            link.arrive(&wire).result.unwrap();
        }
        let mut wire = link.server_says(b", and now not");
        link.server.send_close_notify();
        wire.extend(link.take_from_server());
        assert!(link.arrive(&wire).peer_closed);
        assert_eq!(link.plain, b"still there, and now not");
        assert!(link.arrive(b"ignored").peer_closed);
        link.session.close(&mut link.out);
        assert!(link.out.is_empty());
    }
}

#[test]
fn after_both_ends_nothing_is_said_and_nothing_read() {
    let pki = Pki::new();
    for version in BOTH {
        let mut link = Link::open(&pki.config(), &Arc::new(pki.server(version)));
        link.server.send_close_notify();
        let wire = link.take_from_server();
        assert!(link.arrive(&wire).peer_closed);
        link.session.close_write(&mut link.out);
        assert!(!link.out.is_empty() && !link.session.can_send());
        link.deliver_out().unwrap();
        assert!(link.arrive(b"ignored").peer_closed);
    }
}

#[test]
fn damage_after_our_end_is_an_error_without_an_alert() {
    let pki = Pki::new();
    for version in BOTH {
        let mut link = Link::open(&pki.config(), &Arc::new(pki.server(version)));
        link.session.close_write(&mut link.out);
        link.deliver_out().unwrap();
        let mut wire = link.server_says(b"good");
        wire.extend(link.server_says(b"bad"));
        *wire.last_mut().unwrap() ^= 1;
        for _ in 0..2 {
            let opened = link.arrive(&wire);
            assert!(opened.result.is_err() && opened.consumed == wire.len());
            assert_eq!((&link.plain[..], &link.out[..]), (&b"good"[..], &b""[..]));
        }
        link.session.close(&mut link.out);
        assert!(link.out.is_empty());
    }
}

#[test]
fn a_damaged_record_is_an_error_after_what_came_before_it() {
    let pki = Pki::new();
    for version in BOTH {
        let mut link = Link::open(&pki.config(), &Arc::new(pki.server(version)));
        let mut wire = link.server_says(b"good");
        let mut bad = link.server_says(b"bad");
        *bad.last_mut().unwrap() ^= 1;
        wire.extend(&bad);
        let good = link.server_says(b"good again");
        let opened = link.arrive(&wire);
        let e = opened.result.unwrap_err();
        assert!(!e.is_certificate());
        assert!(e.to_string().contains("could not be decrypted"), "{e}");
        assert_eq!(link.plain, b"good");
        assert_eq!(opened.consumed, wire.len());
        assert!(matches!(
            link.deliver_out(),
            Err(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac))
        ));
        // The error stays, and says no second alert.
        assert_eq!(link.arrive(&good).result.unwrap_err().to_string(), e.to_string());
        assert!(link.out.is_empty() && link.plain == b"good");
        link.session.close(&mut link.out);
        assert!(link.out.is_empty());
    }
}

#[test]
fn damage_anywhere_never_passes_for_an_answer() {
    let pki = Pki::new();
    let config = pki.config();
    for version in BOTH {
        let server = Arc::new(pki.server(version));
        let length = Link::open(&config, &server).server_says(b"answer").len();
        for at in 0..length {
            for bit in [0, 7] {
                let mut link = Link::open(&config, &server);
                let mut wire = link.server_says(b"answer");
                wire[at] ^= 1 << bit;
                wire.extend(link.server_says(b"next"));
                let opened = link.arrive(&wire);
                if at < RECORD_TYPE_AND_VERSION_BYTES {
                    // RFC 8446 §5.2 leaves them unauthenticated; the plaintext still is.
                    assert!(b"answernext".starts_with(&link.plain[..]));
                } else {
                    assert!(opened.result.is_err() || !link.kept.is_empty(), "{at}");
                    assert!(link.plain.is_empty());
                }
            }
        }
    }
}

#[test]
fn an_alert_is_an_error() {
    let pki = Pki::new();
    let mut link = Link::open(&pki.config(), &Arc::new(pki.server(&version::TLS12)));
    // The server is given damage, and answers with a fatal alert.
    link.session.seal(b"request", &mut link.out).unwrap();
    *link.out.last_mut().unwrap() ^= 1;
    assert!(link.deliver_out().is_err());
    let wire = link.take_from_server();
    let e = link.arrive(&wire).result.unwrap_err();
    assert!(e.to_string().contains("alert BadRecordMac"), "{e}");
    assert!(!e.is_certificate() && link.out.is_empty());
}

#[test]
fn keys_are_updated_when_the_server_asks() {
    let pki = Pki::new();
    let mut link = Link::open(&pki.config(), &Arc::new(pki.server(&version::TLS13)));
    for piece in [1, 2, usize::MAX] {
        link.server.refresh_traffic_keys().unwrap();
        let wire = link.take_from_server();
        for bytes in wire.chunks(piece) {
            link.arrive(bytes).result.unwrap();
        }
        // Our own update goes out before the next record.
        link.exchange(piece);
        link.exchange(piece);
    }
}

#[test]
fn messages_in_many_fragments_are_held_by_the_caller_and_do_not_block_sending() {
    let pki = Pki::new();
    for version in BOTH {
        let mut server = pki.server(version);
        // The least that rustls takes: handshake messages span dozens of records.
        server.max_fragment_size = Some(32);
        let server = Arc::new(server);
        for piece in [1, 10, 37, 300, usize::MAX] {
            let mut link = Link::new(&pki.config(), HOST, &server);
            let mut tickets = Vec::new();
            while link.session.is_handshaking() {
                link.deliver_out().unwrap();
                tickets = link.take_from_server();
                for bytes in tickets.chunks(piece) {
                    link.arrive(bytes).result.unwrap();
                }
            }
            link.deliver_out().unwrap();
            if version == &version::TLS13 {
                // The tickets, in pieces; between any two of them something is sent.
                tickets = link.take_from_server();
            }
            for bytes in tickets.chunks(piece) {
                if version == &version::TLS13 {
                    link.arrive(bytes).result.unwrap();
                }
                link.session.seal(b"x", &mut link.out).unwrap();
                assert_eq!(link.server_heard(), b"x");
            }
            assert!(piece > 300 || link.kept_max > 64, "{}", link.kept_max);
            link.exchange(piece);
        }
    }
}

#[test]
fn a_message_without_end_is_cut_off() {
    let pki = Pki::new();
    let mut link = Link::new(&pki.config(), HOST, &Arc::new(pki.server(&version::TLS12)));
    // A ServerHello of 60,000 bytes, one byte to a record.
    let mut told = [0x02, 0x00, 0xea, 0x60].into_iter().chain(std::iter::repeat(0));
    let e = (0..60_000).find_map(|_| {
        let record = [0x16, 3, 3, 0, 1, told.next().unwrap()];
        link.arrive(&record).result.err()
    });
    assert!(e.unwrap().to_string().contains("too fragmented"));
}

#[test]
fn a_caller_that_loses_what_it_should_keep_gets_an_error() {
    let pki = Pki::new();
    let mut link = Link::new(&pki.config(), HOST, &Arc::new(pki.server(&version::TLS12)));
    link.arrive(&[0x16, 3, 3, 0, 1, 0x02]).result.unwrap();
    assert_eq!(link.kept.len(), 6);
    link.kept.clear();
    assert!(link.arrive(&[0x16]).result.is_err());
}

const RECORD_TYPE_AND_VERSION_BYTES: usize = 3;
