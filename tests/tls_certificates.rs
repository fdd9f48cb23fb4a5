//! Certificates that servers show: which are accepted, which are refused, and in which words.
//!
//! One table, gone through with TLS 1.2 and with TLS 1.3: what the server shows, the host that is
//! asked for, and what must come of it.

#![cfg(any(feature = "ring", feature = "aws-lc-rs"))]

mod driving;
mod support;

use std::sync::Arc;

use driving::{get, run, settings};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, NameConstraints, date_time_ymd,
};
use support::{Authority, Origin, Presented, Setup, TlsSetup, ok};
use whippet::{Error, Kind, Phase, Reactor, Roots, TlsSettings};

/// What must come of a certificate.
enum Outcome {
    Accepted,
    /// Refused, with all of these words in the error's line.
    Refused(&'static [&'static str]),
}
use Outcome::{Accepted, Refused};

/// What is asked for, where a case does not say otherwise.
const HOST: &str = "www.a.test";

/// Each case: what it is, what is shown, the host, and the outcome.
type Case = (&'static str, Presented, &'static str, Outcome);

#[test]
fn validity_is_checked_along_the_chain() {
    let root = Authority::root("root");
    let old = root.intermediate("old", |params| params.not_after = date_time_ymd(2020, 1, 1));
    let ends_first = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2021, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    };
    check(
        &root,
        [
            ("valid", root.leaf(&[HOST], |_| ()), HOST, Accepted),
            (
                "expired",
                root.leaf(&[HOST], |params| params.not_after = date_time_ymd(2020, 1, 1)),
                HOST,
                Refused(&["expired", "days ago"]),
            ),
            (
                "not yet valid",
                root.leaf(&[HOST], |params| params.not_before = date_time_ymd(4000, 1, 1)),
                HOST,
                Refused(&["not yet valid", "days"]),
            ),
            ("ends before it begins", root.leaf(&[HOST], ends_first), HOST, Refused(&["expired"])),
            ("of an expired issuer", old.leaf(&[HOST], |_| ()), HOST, Refused(&["expired"])),
        ],
    );
}

#[test]
fn a_chain_leads_to_a_trusted_authority() {
    let root = Authority::root("root");
    let below = root.intermediate("below", |_| ());
    let deeper = below.intermediate("deeper", |_| ());
    let leaf = || deeper.leaf(&[HOST], |_| ());
    let other = Authority::root("other");
    let namesake = Authority::root("root");
    check(
        &root,
        [
            ("two intermediates", leaf(), HOST, Accepted),
            (
                "them in the wrong order",
                leaf().with_chain(|chain| chain.swap(1, 2)),
                HOST,
                Accepted,
            ),
            ("the root too", leaf().with_chain(|chain| chain.push(root.der())), HOST, Accepted),
            (
                "something else too",
                leaf().with_chain(|chain| chain.insert(1, other.der())),
                HOST,
                Accepted,
            ),
            (
                "an intermediate missing",
                leaf().with_chain(|chain| drop(chain.remove(1))),
                HOST,
                Refused(&["an issuer that is not trusted", "an intermediate is missing"]),
            ),
            (
                "the leaf alone",
                leaf().with_chain(|chain| chain.truncate(1)),
                HOST,
                Refused(&["an issuer that is not trusted", "an intermediate is missing"]),
            ),
            (
                "self-signed",
                Presented::self_signed(&[HOST], |_| ()),
                HOST,
                Refused(&["self-signed", "not trusted"]),
            ),
            (
                "of another authority",
                other.leaf(&[HOST], |_| ()),
                HOST,
                Refused(&["an issuer that is not trusted"]),
            ),
            (
                "of another authority, which is shown",
                other.leaf(&[HOST], |_| ()).with_chain(|chain| chain.push(other.der())),
                HOST,
                Refused(&["an issuer that is not trusted"]),
            ),
            (
                "of an authority that took the name of ours",
                namesake.leaf(&[HOST], |_| ()),
                HOST,
                Refused(&["not signed by the issuer that it names"]),
            ),
            (
                "somebody else's",
                root.leaf(&[HOST], |_| ()).with_another_key(),
                HOST,
                Refused(&["the server does not hold its key"]),
            ),
        ],
    );
}

#[test]
fn authorities_keep_to_what_they_are_authorities_for() {
    let root = Authority::root("root");
    let no_ca = root.intermediate("no_ca", |params| params.is_ca = IsCa::ExplicitNoCa);
    let silent = root.intermediate("silent", |params| params.is_ca = IsCa::NoCa);
    let last = root.intermediate("last", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let clients = root.intermediate("clients", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    check(
        &root,
        [
            (
                "an issuer that is none",
                no_ca.leaf(&[HOST], |_| ()),
                HOST,
                Refused(&["issuer", "not an authority"]),
            ),
            (
                "an issuer that does not say",
                silent.leaf(&[HOST], |_| ()),
                HOST,
                Refused(&["issuer", "not an authority"]),
            ),
            ("a path as long as may be", last.leaf(&[HOST], |_| ()), HOST, Accepted),
            (
                "a path that is too long",
                last.intermediate("one more", |_| ()).leaf(&[HOST], |_| ()),
                HOST,
                Refused(&["chain is longer than one of its authorities allows"]),
            ),
            (
                "an authority as a server",
                root.itself(),
                HOST,
                Refused(&["is that of an authority"]),
            ),
            (
                "an authority for clients only",
                clients.leaf(&[HOST], |_| ()),
                HOST,
                Refused(&["not meant for servers"]),
            ),
        ],
    );
}

#[test]
fn name_constraints_are_kept() {
    let root = Authority::root("root");
    let constrained = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
        root.intermediate("constrained", |params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: permitted,
                excluded_subtrees: excluded,
            });
        })
    };
    let dns = |name: &str| vec![GeneralSubtree::DnsName(name.to_owned())];
    let net = || vec![GeneralSubtree::IpAddress(CidrSubnet::V4([10, 0, 0, 0], [255, 0, 0, 0]))];
    let permitting = constrained(dns("a.test"), vec![]);
    let excluding = constrained(vec![], dns("a.test"));
    let addresses = constrained(net(), vec![]);
    let violated = Refused(&["name", "its issuer may not vouch for"]);
    let again = || Refused(&["name", "its issuer may not vouch for"]);
    check(
        &root,
        [
            ("permitted", permitting.leaf(&[HOST], |_| ()), HOST, Accepted),
            ("not permitted", permitting.leaf(&["b.test"], |_| ()), "b.test", violated),
            ("one of two not permitted", permitting.leaf(&[HOST, "b.test"], |_| ()), HOST, again()),
            ("excluded", excluding.leaf(&[HOST], |_| ()), HOST, again()),
            ("not excluded", excluding.leaf(&["b.test"], |_| ()), "b.test", Accepted),
            ("address permitted", addresses.leaf(&["10.1.2.3"], |_| ()), "10.1.2.3", Accepted),
            ("address not permitted", addresses.leaf(&["11.1.2.3"], |_| ()), "11.1.2.3", again()),
        ],
    );
}

#[test]
fn certificates_are_used_for_what_they_are_for() {
    use ExtendedKeyUsagePurpose as Purpose;
    let root = Authority::root("root");
    let for_use = |purposes: &[Purpose]| {
        root.leaf(&[HOST], |params| params.extended_key_usages = purposes.to_vec())
    };
    let odd = |critical: bool| {
        root.leaf(&[HOST], |params| {
            let mut extension = CustomExtension::from_oid_content(&[1, 3, 9999, 1], vec![5, 0]);
            extension.set_criticality(critical);
            params.custom_extensions.push(extension);
        })
    };
    check(
        &root,
        [
            ("servers", for_use(&[Purpose::ServerAuth]), HOST, Accepted),
            ("both", for_use(&[Purpose::ClientAuth, Purpose::ServerAuth]), HOST, Accepted),
            (
                "clients only",
                for_use(&[Purpose::ClientAuth]),
                HOST,
                Refused(&["not meant for servers", "client authentication"]),
            ),
            ("code", for_use(&[Purpose::CodeSigning]), HOST, Refused(&["not meant for servers"])),
            ("an unknown extension", odd(false), HOST, Accepted),
            ("an unknown one that is critical", odd(true), HOST, Refused(&["critical extension"])),
            (
                "no certificate but bytes",
                root.leaf(&[HOST], |_| ()).with_chain(|chain| chain[0] = b"bytes".to_vec().into()),
                HOST,
                Refused(&["malformed"]),
            ),
            (
                "half a certificate",
                root.leaf(&[HOST], |_| ()).with_chain(|chain| {
                    chain[0] = chain[0][..chain[0].len() / 2].to_vec().into();
                }),
                HOST,
                Refused(&["malformed"]),
            ),
            (
                "no certificate",
                root.leaf(&[HOST], |_| ()).with_chain(Vec::clear),
                HOST,
                Refused(&["no certificate"]),
            ),
        ],
    );
}

#[test]
fn names_are_compared_as_they_should_be() {
    let root = Authority::root("root");
    let of = |names: &[&str]| root.leaf(names, |_| ());
    let mailbox = root.leaf(&[], |params| {
        let name = "www@a.test".try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::Rfc822Name(name));
    });
    check(
        &root,
        [
            ("the second of two", of(&["b.test", HOST]), HOST, Accepted),
            ("in other case", of(&["WWW.a.Test"]), "www.A.test", Accepted),
            ("with a final dot", of(&[HOST]), "www.a.test.", Accepted),
            (
                "another",
                of(&["b.test"]),
                HOST,
                Refused(&["is for b.test; www.a.test was expected"]),
            ),
            (
                "many others",
                of(&["b.test", "c.test", "d.test", "e.test", "f.test"]),
                HOST,
                Refused(&["is for b.test, c.test, d.test, e.test, ...; www.a.test was expected"]),
            ),
            ("the parent's", of(&["a.test"]), HOST, Refused(&["is for a.test;"])),
            ("a child's", of(&["x.www.a.test"]), HOST, Refused(&["is for x.www.a.test;"])),
            ("a longer one's", of(&["www.a.test.evil.test"]), HOST, Refused(&["evil.test;"])),
            ("none", of(&[]), HOST, Refused(&["names no host", "www.a.test was expected"])),
            ("a mailbox only", mailbox, HOST, Refused(&["names no host"])),
            (
                "in the subject only",
                root.leaf(&[], |params| {
                    params.distinguished_name.push(rcgen::DnType::CommonName, HOST);
                }),
                HOST,
                Refused(&["names no host"]),
            ),
            // IDN: the name of the URL is compared in its ASCII form.
            ("international", of(&["xn--bcher-kva.test"]), "bücher.test", Accepted),
            ("the same, in ASCII", of(&["xn--bcher-kva.test"]), "xn--bcher-kva.test", Accepted),
            ("below it", of(&["*.xn--bcher-kva.test"]), "www.bücher.test", Accepted),
            (
                "it without its marks",
                of(&["bucher.test"]),
                "bücher.test",
                Refused(&["is for bucher.test; xn--bcher-kva.test was expected"]),
            ),
        ],
    );
}

#[test]
fn a_wildcard_is_one_whole_first_label() {
    let root = Authority::root("root");
    let of = |names: &[&str]| root.leaf(names, |_| ());
    check(
        &root,
        [
            ("one label", of(&["*.a.test"]), HOST, Accepted),
            ("an international label", of(&["*.a.test"]), "bücher.a.test", Accepted),
            ("the apex", of(&["*.a.test"]), "a.test", Refused(&["is for *.a.test; a.test was"])),
            ("two labels", of(&["*.a.test"]), "x.www.a.test", Refused(&["is for *.a.test;"])),
            ("another domain", of(&["*.a.test"]), "www.b.test", Refused(&["is for *.a.test;"])),
            ("a part of a label", of(&["w*.a.test"]), HOST, Refused(&["is for w*.a.test;"])),
            ("the end of a label", of(&["*w.a.test"]), HOST, Refused(&["is for *w.a.test;"])),
            ("not the first label", of(&["www.*.test"]), HOST, Refused(&["is for www.*.test;"])),
            ("two wildcards", of(&["*.*.test"]), HOST, Refused(&["is for *.*.test;"])),
            ("a whole top level", of(&["*.test"]), "a.test", Refused(&["is for *.test;"])),
            ("everything", of(&["*"]), HOST, Refused(&["is for *;"])),
            ("an address", of(&["*.0.0.1"]), "127.0.0.1", Refused(&["127.0.0.1 was expected"])),
            ("any address", of(&["*"]), "127.0.0.1", Refused(&["is for *;"])),
        ],
    );
}

#[test]
fn addresses_are_compared_with_addresses() {
    let root = Authority::root("root");
    let of = |names: &[&str]| root.leaf(names, |_| ());
    let as_dns = root.leaf(&[], |params| {
        let name = "192.0.2.1".try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::DnsName(name));
    });
    check(
        &root,
        [
            ("matching", of(&["192.0.2.1"]), "192.0.2.1", Accepted),
            ("beside a name", of(&["a.test", "192.0.2.1"]), "192.0.2.1", Accepted),
            (
                "not matching",
                of(&["192.0.2.1"]),
                "192.0.2.2",
                Refused(&["is for 192.0.2.1; 192.0.2.2 was expected"]),
            ),
            (
                "for a name",
                of(&["192.0.2.1"]),
                HOST,
                Refused(&["is for 192.0.2.1; www.a.test was"]),
            ),
            ("of the other family", of(&["2001:db8::1"]), "[2001:db8::1]", Accepted),
            (
                "not matching there",
                of(&["2001:db8::1"]),
                "[2001:db8::2]",
                Refused(&["2001:db8::2 was"]),
            ),
            ("a name for an address", of(&["a.test"]), "192.0.2.1", Refused(&["is for a.test;"])),
            (
                "written as a name",
                as_dns,
                "192.0.2.1",
                Refused(&["is for the DNS name 192.0.2.1;"]),
            ),
        ],
    );
}

#[test]
fn what_a_stranger_writes_into_a_certificate_stays_one_short_line() {
    let root = Authority::root("root");
    let long = "x".repeat(5_000);
    for name in ["a\nb.test", "a\x1b[2Jb.test", "a\r\0b.test", &long] {
        for count in [1, 5] {
            let shown = root.leaf(&vec![name; count], |_| ());
            let said = refused("odd names", &root, &shown, HOST, true);
            assert!(said.contains("www.a.test was expected"), "{said}");
        }
    }
}

/// Goes through the cases of an authority that is trusted.
fn check<const COUNT: usize>(root: &Authority, cases: [Case; COUNT]) {
    for (name, shown, host, outcome) in cases {
        for tls13 in [true, false] {
            match outcome {
                Accepted => accepted(name, root, &shown, host, tls13),
                Refused(words) => {
                    let said = refused(name, root, &shown, host, tls13);
                    let missing: Vec<_> =
                        words.iter().filter(|word| !said.contains(**word)).collect();
                    assert!(missing.is_empty(), "{name}: no {missing:?} in: {said}");
                }
            }
        }
    }
}

fn accepted(name: &str, root: &Authority, shown: &Presented, host: &str, tls13: bool) {
    let origin = origin(shown, tls13);
    let ended = fetch(root, &origin, host);
    assert!(ended.result.is_ok(), "{name}, TLS 1.3 {tls13}: {:?}", ended.result);
    assert_eq!((ended.text(), ended.stats.attempts), ("the body", 1), "{name}");
}

/// The refusal's line. It is of the certificate, final although retries are allowed, says nothing
/// of what was asked, and nothing was said to the server.
fn refused(name: &str, root: &Authority, shown: &Presented, host: &str, tls13: bool) -> String {
    let origin = origin(shown, tls13);
    let ended = fetch(root, &origin, host);
    let Err(error) = &ended.result else { panic!("{name}, TLS 1.3 {tls13}: accepted") };
    assert_eq!((error.kind(), error.phase()), (Kind::Certificate, Phase::Tls), "{name}: {error}");
    assert_eq!((error.attempts(), error.is_transient()), (1, false), "{name}: {error}");
    assert_eq!((origin.connections(), origin.requests()), (1, vec![]), "{name}");
    line_of(error)
}

fn line_of(error: &Error) -> String {
    let said = error.to_string();
    assert!(!said.contains(|c: char| c.is_control()), "{said:?}");
    assert!(said.len() < 1_000, "{} bytes: {said}", said.len());
    for secret in ["a-user", "a-password", "a-token", "BEGIN"] {
        assert!(!said.contains(secret) && !format!("{error:?}").contains(secret), "{said}");
    }
    said
}

fn origin(shown: &Presented, tls13: bool) -> Origin {
    let tls = TlsSetup { tls13, ..TlsSetup::presenting(shown.clone()) };
    Origin::start(Setup { tls: Some(tls), ..Setup::default() }, |_| ok("the body"))
}

/// Asks for a host that leads to this origin, with retries allowed.
fn fetch(root: &Authority, origin: &Origin, host: &str) -> driving::Ended {
    let mut settings = settings();
    settings.retries = 3;
    let tls = TlsSettings::new().with_roots(Roots::OnlyAdded).add_ca_der(root.der().to_vec());
    settings.tls = Arc::new(tls);
    let url = origin.url_at(&format!("a-user:a-password@{host}"), "/?a-token");
    let request = get(url);
    let host = request.url().host_str().unwrap().trim_matches(['[', ']']).to_owned();
    let request = request.resolve(&host, origin.port(), origin.address().ip()).unwrap();
    run(&mut Reactor::new(settings).unwrap(), request)
}
