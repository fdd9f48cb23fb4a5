//! Names through the whole reactor: who is asked, how often, and what comes of each answer.

mod driving;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use driving::{
    Control, Whims, asking, begin, drain, drive, get, ips, run, run_all, run_until, settings,
    settle, submit,
};
use support::{DnsQuestion, DnsReply, DnsServer, Latch, Origin, QueryType, Setup, ok};
use whippet::net::ResolverFiles;
use whippet::{Kind, Limit, Phase, Reactor, Resolve, ResolverChoice};

/// An origin that says where each request came to.
fn origin() -> Origin {
    Origin::plain(|seen| ok(seen.header("host").unwrap_or_default()))
}

/// Answers every question with loopback's addresses.
fn dns(addresses: &[&str], ttl: u32) -> DnsServer {
    let addresses = ips(addresses);
    DnsServer::start(move |_| DnsReply::Answer(addresses.clone(), ttl))
}

fn of(dns: &DnsServer, kind: QueryType) -> usize {
    dns.questions().iter().filter(|question| question.kind == kind).count()
}

#[test]
fn a_name_with_an_ipv4_address_leads_there() {
    let (origin, dns) = (origin(), dns(&["127.0.0.1"], 60));
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let ended = run(&mut reactor, get(origin.url_at("four.test", "/")));
    assert_eq!(ended.text(), format!("four.test:{}", origin.port()));
    assert_eq!(ended.stats.remote, Some(origin.address()));
    assert_eq!((of(&dns, QueryType::A), of(&dns, QueryType::Aaaa)), (1, 1));
}

#[test]
fn a_name_with_an_ipv6_address_leads_there() {
    let setup = Setup { address: "[::1]:0".parse().unwrap(), ..Setup::default() };
    let origin = Origin::start(setup, |_| ok("six"));
    let dns = dns(&["::1"], 60);
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let ended = run(&mut reactor, get(origin.url_at("six.test", "/")));
    assert_eq!((ended.text(), ended.stats.remote), ("six", Some(origin.address())));
}

#[test]
fn of_both_families_ipv6_is_first_and_ipv4_the_way_around() {
    let setup = Setup { address: "[::1]:0".parse().unwrap(), ..Setup::default() };
    let six = Origin::start(setup, |_| ok("six"));
    let four = origin();
    let dns = dns(&["127.0.0.1", "::1"], 60);
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let ended = run(&mut reactor, get(six.url_at("both.test", "/")));
    assert_eq!(ended.stats.remote, Some(six.address()));
    // Nobody listens on this port of ::1.
    let ended = run(&mut reactor, get(four.url_at("both.test", "/")));
    assert_eq!(ended.stats.remote, Some(four.address()));
    assert_eq!(dns.count("both.test"), 2);
}

#[test]
fn a_family_that_is_never_answered_is_not_waited_for_long() {
    let origin = origin();
    let dns = DnsServer::start(|question| match question.kind {
        QueryType::A => DnsReply::Answer(ips(&["127.0.0.1"]), 60),
        _ => DnsReply::Silent,
    });
    let mut settings = asking(&[&dns]);
    // Less than one try of a server takes.
    settings.timeouts.set(Limit::Dns, Some(Duration::from_secs(4)));
    let mut reactor = Reactor::new(settings).unwrap();
    let ended = run(&mut reactor, get(origin.url_at("half.test", "/")));
    assert_eq!(ended.stats.remote, Some(origin.address()));
}

/// Who does not see the queries has 16 bits of id and the port to guess, anew for each query.
#[test]
fn each_query_has_an_id_from_the_generator_and_a_port_of_its_own() {
    let (origin, dns) = (origin(), dns(&["127.0.0.1"], 60));
    let control = Control::default();
    let mut reactor = control.reactor(asking(&[&dns]));
    let names = (0..40).map(|n| get(origin.url_at(&format!("n{n}.test"), "/")));
    run_all(&mut reactor, names).iter().for_each(|ended| assert_eq!(ended.answer().status, 200));
    let asked = dns.questions();
    assert_eq!(asked.len(), 80);
    // Two bytes were drawn for each, and nothing else: they are its id.
    let drawn = control.with(|whims| std::mem::take(&mut whims.drawn));
    let mut drawn: Vec<u16> = drawn
        .into_iter()
        .map(|bytes| u16::from_ne_bytes(bytes.try_into().expect("two bytes")))
        .collect();
    let mut ids: Vec<u16> = asked.iter().map(|question| question.id).collect();
    drawn.sort_unstable();
    ids.sort_unstable();
    assert_eq!(ids, drawn);
    let is_run = |pair: &[DnsQuestion]| pair[1].id.wrapping_sub(pair[0].id) == 1;
    assert!(asked.windows(2).filter(|pair| is_run(pair)).count() < 10, "they are counted up");
    let ports: BTreeSet<u16> = asked.iter().map(|question| question.from.port()).collect();
    assert!(ports.len() > asked.len() / 2, "{} ports", ports.len());
    let steps: BTreeSet<u16> = asked
        .windows(2)
        .map(|pair| pair[1].from.port().wrapping_sub(pair[0].from.port()))
        .collect();
    assert!(steps.len() > asked.len() / 4, "the ports are counted up: {steps:?}");
}

#[test]
fn a_lookup_without_randomness_is_not_made_with_a_guessable_id() {
    let dns = dns(&["127.0.0.1"], 60);
    let control = Control::new(Whims { no_randomness: true, ..Whims::default() });
    let mut reactor = control.reactor(asking(&[&dns]));
    let ended = run(&mut reactor, get("http://a.test/"));
    assert_eq!(ended.error().kind(), Kind::Dns);
    assert!(ended.error().to_string().contains("no entropy"), "{}", ended.error());
    assert_eq!(dns.questions(), []);
}

#[test]
fn a_hundred_fetches_of_a_name_are_one_lookup() {
    let origin = origin();
    let (all_wait, ready) = (Latch::new(), Latch::new());
    let (held, seen) = (all_wait.clone(), ready.clone());
    let dns = DnsServer::start(move |_| {
        seen.release();
        DnsReply::After(held.clone(), Box::new(DnsReply::Answer(ips(&["127.0.0.1"]), 60)))
    });
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    for tag in 0..100 {
        submit(&mut reactor, get(origin.url_at("many.test", "/")).tag(tag));
    }
    assert!(begin(&mut reactor).is_empty());
    assert_eq!((reactor.in_flight(), reactor.connections()), (100, 0));
    ready.wait();
    all_wait.release();
    let ended = drive(&mut reactor);
    assert_eq!(ended.iter().filter(|ended| ended.answer().status == 200).count(), 100);
    assert_eq!((of(&dns, QueryType::A), of(&dns, QueryType::Aaaa)), (1, 1));
}

#[test]
fn answers_are_kept_for_their_time_to_live() {
    let (origin, dns) = (origin(), dns(&["127.0.0.1"], 60));
    let control = Control::default();
    let mut settings = asking(&[&dns]);
    settings.idle_connections_max = 0;
    let mut reactor = control.reactor(settings);
    let url = origin.url_at("kept.test", "/");
    for (skipped, asked) in [(0, 2), (59, 2), (1, 4), (0, 4)] {
        control.skip(Duration::from_secs(skipped));
        assert_eq!(run(&mut reactor, get(&url)).answer().status, 200);
        assert_eq!(dns.count("kept.test"), asked, "{skipped} s later");
    }
}

#[test]
fn an_answer_that_holds_for_no_time_serves_one_burst() {
    let (origin, dns) = (origin(), dns(&["127.0.0.1"], 0));
    let control = Control::new(Whims { frozen: Some(Duration::ZERO), ..Whims::default() });
    let mut settings = asking(&[&dns]);
    settings.idle_connections_max = 0;
    let mut reactor = control.reactor(settings);
    for (skipped, asked) in [(0, 2), (999, 2), (1, 4)] {
        control.skip(Duration::from_millis(skipped));
        run(&mut reactor, get(origin.url_at("brief.test", "/"))).answer();
        assert_eq!(dns.count("brief.test"), asked, "{skipped} ms later");
    }
}

#[test]
fn a_name_that_does_not_exist_fails_for_good_and_is_remembered() {
    let dns = DnsServer::start(|_| DnsReply::NxDomain(60));
    let control = Control::default();
    let mut settings = asking(&[&dns]);
    settings.retries = 5;
    let mut reactor = control.reactor(settings);
    for (skipped, asked) in [(0, 2), (0, 2), (59, 2), (2, 4)] {
        control.skip(Duration::from_secs(skipped));
        let ended = run(&mut reactor, get("http://absent.test/"));
        let error = ended.error();
        assert_eq!((error.kind(), error.phase(), error.attempts()), (Kind::Dns, Phase::Dns, 1));
        assert!(!error.is_transient());
        assert_eq!(error.to_string(), "could not resolve absent.test: no such host name");
        assert_eq!(dns.count("absent.test"), asked, "{skipped} s later");
    }
}

#[test]
fn many_fetches_of_an_absent_name_all_fail_and_leave_nothing() {
    let (origin, dns) = (
        origin(),
        DnsServer::start(|question| match &*question.name {
            "absent.test" => DnsReply::NxDomain(60),
            _ => DnsReply::Answer(ips(&["127.0.0.1"]), 60),
        }),
    );
    let mut settings = asking(&[&dns]);
    settings.concurrency = 4;
    let mut reactor = Reactor::new(settings).unwrap();
    run(&mut reactor, get("http://absent.test/")).error();
    let absent = || get("http://absent.test/");
    let ended = run_all(&mut reactor, (0..50).map(|_| absent()));
    assert!(ended.iter().all(|ended| ended.error().kind() == Kind::Dns));
    assert_eq!(dns.count("absent.test"), 2);
    // No slot was lost.
    let present = (0..20).map(|_| get(origin.url_at("present.test", "/")));
    run_all(&mut reactor, present).iter().for_each(|ended| assert_eq!(ended.answer().status, 200));
}

#[test]
fn a_name_without_addresses_fails_for_good() {
    let dns = dns(&[], 60);
    let mut settings = asking(&[&dns]);
    settings.retries = 5;
    let mut reactor = Reactor::new(settings).unwrap();
    let ended = run(&mut reactor, get("http://empty.test/"));
    assert_eq!((ended.error().kind(), ended.error().attempts()), (Kind::Dns, 1));
    assert_eq!(
        ended.error().to_string(),
        "could not resolve empty.test: the host name has no addresses"
    );
}

#[test]
fn a_server_that_fails_is_followed_by_the_next() {
    let origin = origin();
    let failing = DnsServer::start(|_| DnsReply::ServFail);
    let well = dns(&["127.0.0.1"], 60);
    let mut reactor = Reactor::new(asking(&[&failing, &well])).unwrap();
    run(&mut reactor, get(origin.url_at("a.test", "/"))).answer();
    assert_eq!((failing.count("a.test"), well.count("a.test")), (2, 2));
}

#[test]
fn a_name_that_no_server_answers_for_may_be_tried_again() {
    let origin = origin();
    let well = Latch::new();
    let mended = well.clone();
    let dns = DnsServer::start(move |_| {
        if mended.is_released() {
            DnsReply::Answer(ips(&["127.0.0.1"]), 60)
        } else {
            DnsReply::ServFail
        }
    });
    let control = Control::default();
    let mut reactor = control.reactor(asking(&[&dns]));
    let ended = run(&mut reactor, get(origin.url_at("a.test", "/")));
    assert_eq!((ended.error().kind(), ended.error().is_transient()), (Kind::Dns, true));
    assert!(ended.error().to_string().ends_with("failed with code 2 (SERVFAIL)"));

    // The attempts that follow in the same second meet the memory of the failure.
    submit(&mut reactor, get(origin.url_at("a.test", "/")).retries(3));
    assert!(begin(&mut reactor).is_empty());
    assert_eq!((reactor.in_flight(), reactor.waiting()), (0, 1));
    well.release();
    control.skip(Duration::from_secs(20 - 2));
    let ended = drive(&mut reactor).pop().unwrap();
    assert_eq!((ended.answer().status, ended.stats.attempts), (200, 2));
}

#[test]
fn a_silent_server_is_followed_by_the_next() {
    let origin = origin();
    let asked = Latch::new();
    let heard = asked.clone();
    let silent = DnsServer::start(move |question| {
        if question.kind == QueryType::Aaaa {
            heard.release();
        }
        DnsReply::Silent
    });
    let well = dns(&["127.0.0.1"], 60);
    let files = resolv_conf("options timeout:9");
    let control = Control::new(Whims { files, ..Whims::default() });
    let mut reactor = control.reactor(asking(&[&silent, &well]));
    submit(&mut reactor, get(origin.url_at("a.test", "/")));
    assert!(begin(&mut reactor).is_empty());
    asked.wait();
    control.skip(Duration::from_millis(8_900));
    assert!(begin(&mut reactor).is_empty());
    assert_eq!(well.count("a.test"), 0);
    control.skip(Duration::from_millis(101));
    drive(&mut reactor).pop().unwrap().answer();
    assert_eq!((silent.count("a.test"), well.count("a.test")), (2, 2));
}

#[test]
fn the_dns_limit_names_itself_and_its_phase() {
    let dns = DnsServer::start(|_| DnsReply::Silent);
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    for limit in [Limit::Dns, Limit::Connect, Limit::Total] {
        let request = get("http://silent.test/").limit(limit, Duration::from_millis(50));
        let ended = run(&mut reactor, request);
        let error = ended.error();
        assert_eq!((error.kind(), error.phase()), (Kind::Timeout, Phase::Dns));
        assert_eq!((error.limit(), error.is_transient()), (Some(limit), limit != Limit::Total));
        let said = format!("timed out while resolving the name (limit {limit}: 0.05 s)");
        assert_eq!(error.to_string(), said);
    }
}

#[test]
fn a_server_that_is_not_there_fails_at_once() {
    let nobody = support::refused_port();
    let mut settings = settings();
    settings.dns_servers = vec![nobody];
    let mut reactor = Reactor::new(settings).unwrap();
    let ended = run(&mut reactor, get("http://a.test/"));
    assert_eq!((ended.error().kind(), ended.error().is_transient()), (Kind::Dns, true));
    assert!(ended.error().to_string().contains(&nobody.to_string()), "{}", ended.error());
}

#[test]
fn forged_answers_are_not_believed() {
    let origin = origin();
    let dns = DnsServer::start(|_| {
        let truth = DnsReply::Answer(ips(&["127.0.0.1"]), 60);
        DnsReply::Forged(ips(&["127.0.0.66", "::1"]), Box::new(truth))
    });
    let control = Control::default();
    let mut reactor = control.reactor(asking(&[&dns]));
    let ended = run(&mut reactor, get(origin.url_at("bank.test", "/")));
    assert_eq!(ended.stats.remote, Some(origin.address()));
    assert_eq!(control.with(|whims| whims.dialled.clone()), [origin.address()]);
    // Ids and ports differ from question to question.
    let asked = dns.questions();
    assert!(asked[0].from.port() != asked[1].from.port());
}

#[test]
fn what_is_no_answer_is_not_waited_out() {
    let dns = DnsServer::start(|_| DnsReply::Garbage(b"\x81\x80 nonsense".to_vec()));
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let request = get("http://a.test/").limit(Limit::Dns, Duration::from_millis(100));
    let ended = run(&mut reactor, request);
    assert!(matches!(ended.error().kind(), Kind::Dns | Kind::Timeout), "{}", ended.error());
}

#[test]
fn a_truncated_answer_is_asked_for_over_tcp() {
    let origin = origin();
    let dns = DnsServer::start(|_| DnsReply::Truncated(ips(&["127.0.0.1"]), 60));
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let ended = run(&mut reactor, get(origin.url_at("long.test", "/")));
    assert_eq!(ended.stats.remote, Some(origin.address()));
    let over_tcp = |question: &&DnsQuestion| question.over_tcp;
    assert_eq!(dns.questions().iter().filter(over_tcp).count(), 2);
    assert_eq!(dns.count("long.test"), 4);
}

#[test]
fn an_alias_is_followed_and_the_host_stays() {
    let origin = origin();
    let dns = DnsServer::start(|_| {
        DnsReply::Alias("cdn.example.test".to_owned(), ips(&["127.0.0.1"]), 60)
    });
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let ended = run(&mut reactor, get(origin.url_at("www.test", "/")));
    assert_eq!(ended.text(), format!("www.test:{}", origin.port()));
    assert_eq!(dns.count("cdn.example.test"), 0);
}

#[test]
fn what_is_known_already_is_not_asked() {
    let origin = origin();
    let six = Setup { address: "[::1]:0".parse().unwrap(), ..Setup::default() };
    let six = Origin::start(six, |_| ok("six"));
    let dns = DnsServer::start(|_| DnsReply::NxDomain(60));
    let mut settings = asking(&[&dns]);
    let host = |host: &str, address: &str| Resolve {
        host: host.to_owned(),
        port: origin.port(),
        address: address.parse().unwrap(),
    };
    // The last that matches counts; one of another port does not match.
    settings.resolve = vec![host("Set.test", "127.0.0.9"), host("set.test", "127.0.0.1")];
    settings.resolve.push(Resolve { port: 1, ..host("set.test", "127.0.0.8") });
    let control = Control::default();
    let mut reactor = control.reactor(settings);
    let own = get(origin.url_at("own.test", "/"));
    let own = own.resolve("OWN.test", origin.port(), ips(&["127.0.0.1"])[0]).unwrap();
    let requests = [
        get(origin.url("/")),
        get(six.url_at("[::1]", "/")),
        get(origin.url_at("set.test", "/")),
        own,
        get(origin.url_at("localhost", "/")),
        get(origin.url_at("deep.localhost", "/")),
        get(origin.url_at("localhost.", "/")),
    ];
    for ended in run_all(&mut reactor, requests) {
        assert_eq!(ended.answer().status, 200);
    }
    assert_eq!(dns.questions(), []);
    let loopback = |dialled: &SocketAddr| dialled.ip().is_loopback();
    assert!(control.with(|whims| whims.dialled.iter().all(loopback)));
    assert_eq!(six.connections(), 1);
}

#[test]
fn an_override_is_not_shared_with_requests_that_lack_it() {
    let origin =
        Origin::start(Setup { address: "0.0.0.0:0".parse().unwrap(), ..Setup::default() }, |_| {
            ok("here")
        });
    let dns = dns(&["127.0.0.1"], 60);
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let plain = get(origin.url_at("a.test", "/"));
    let overridden = plain.clone().resolve("a.test", origin.port(), ips(&["127.0.0.3"])[0]);
    let overridden = overridden.unwrap();
    for (request, ip, reused) in [
        (&plain, "127.0.0.1", false),
        (&overridden, "127.0.0.3", false),
        (&plain, "127.0.0.1", true),
        (&overridden, "127.0.0.3", true),
    ] {
        let stats = run(&mut reactor, request.clone()).stats;
        assert_eq!((stats.remote.unwrap().ip(), stats.reused), (ips(&[ip])[0], reused));
    }
}

#[test]
fn the_hosts_file_comes_before_the_servers() {
    let origin = origin();
    let dns = DnsServer::start(|_| DnsReply::NxDomain(60));
    let hosts = b"127.0.0.1 Printer printer.office # upstairs\n".to_vec();
    let files = ResolverFiles { hosts: Some(hosts), ..ResolverFiles::default() };
    let control = Control::new(Whims { files, ..Whims::default() });
    let mut reactor = control.reactor(asking(&[&dns]));
    for name in ["printer", "PRINTER.office", "printer.office."] {
        run(&mut reactor, get(origin.url_at(name, "/"))).answer();
    }
    assert_eq!(dns.questions(), []);
}

#[test]
fn the_search_list_is_tried_and_a_final_dot_goes_around_it() {
    let origin = origin();
    let dns = DnsServer::start(|question| match question.name.as_str() {
        "a.corp.test" => DnsReply::Answer(ips(&["127.0.0.1"]), 60),
        _ => DnsReply::NxDomain(60),
    });
    let files = resolv_conf("search home.test corp.test");
    let control = Control::new(Whims { files, ..Whims::default() });
    let mut reactor = control.reactor(asking(&[&dns]));
    let ended = run(&mut reactor, get(origin.url_at("a", "/")));
    assert_eq!(ended.text(), format!("a:{}", origin.port()));
    assert_eq!((dns.count("a.home.test"), dns.count("a.corp.test"), dns.count("a")), (2, 2, 0));
    let ended = run(&mut reactor, get(origin.url_at("a.", "/")));
    assert_eq!(ended.error().kind(), Kind::Dns);
    assert_eq!((dns.count("a.home.test"), dns.count("a")), (2, 2));
}

#[test]
fn case_makes_no_difference_and_a_final_dot_does_no_harm() {
    let (origin, dns) = (origin(), dns(&["127.0.0.1"], 60));
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let upper = run(&mut reactor, get(origin.url_at("WWW.Example.TEST", "/")));
    assert!(!upper.stats.reused);
    let lower = run(&mut reactor, get(origin.url_at("www.example.test", "/")));
    assert!(lower.stats.reused);
    assert_eq!(dns.count("www.example.test"), 2);
    let dotted = run(&mut reactor, get(origin.url_at("www.example.test.", "/")));
    assert_eq!(dotted.text(), format!("www.example.test.:{}", origin.port()));
}

#[test]
fn a_name_that_dns_cannot_carry_fails_at_once() {
    let dns = dns(&["127.0.0.1"], 60);
    let mut settings = asking(&[&dns]);
    settings.retries = 5;
    let mut reactor = Reactor::new(settings).unwrap();
    let long_label = format!("http://{}.test/", "a".repeat(64));
    let long_name = format!("http://{}test/", "abcdefghi.".repeat(26));
    for url in [&*long_label, &*long_name, "http://a..test/"] {
        let ended = run(&mut reactor, get(url));
        let error = ended.error();
        assert_eq!((error.kind(), error.attempts()), (Kind::Dns, 1), "{error}");
        assert!(!error.is_transient());
        assert!(error.to_string().ends_with("not a host name that DNS can carry"), "{error}");
    }
    assert_eq!(dns.questions(), []);
}

#[test]
fn the_systems_resolver_wakes_a_sleeping_wait() {
    let origin = origin();
    let control =
        Control::new(Whims { system_name: Some("localhost".to_owned()), ..Whims::default() });
    let mut settings = settings();
    settings.resolver = ResolverChoice::System;
    let mut reactor = control.reactor(settings);
    let requests = (0..10).map(|_| get(origin.url_at("system.test", "/")));
    for ended in run_all(&mut reactor, requests) {
        assert_eq!(ended.stats.remote, Some(origin.address()));
    }
    assert_eq!(control.with(|whims| whims.system_lookups.clone()), ["system.test"]);
    // The name that needs no thread.
    run(&mut reactor, get(origin.url_at("localhost", "/"))).answer();
    assert_eq!(control.with(|whims| whims.system_lookups.len()), 1);
}

#[test]
fn the_systems_resolver_is_taken_where_the_files_ask_for_it() {
    let origin = origin();
    let files = ResolverFiles {
        nsswitch: Some(b"hosts: files ldap dns\n".to_vec()),
        ..ResolverFiles::default()
    };
    let system_name = Some("localhost".to_owned());
    let control = Control::new(Whims { files, system_name, ..Whims::default() });
    let mut reactor = control.reactor(settings());
    run(&mut reactor, get(origin.url_at("from.ldap", "/"))).answer();
    assert_eq!(control.with(|whims| whims.system_lookups.clone()), ["from.ldap"]);
    // Nobody is there to answer, but the thread is not started.
    let mut forbidding = settings();
    forbidding.resolver = ResolverChoice::Builtin;
    forbidding.dns_servers = vec![support::refused_port()];
    let mut reactor = control.reactor(forbidding);
    run(&mut reactor, get(origin.url_at("from.ldap", "/"))).error();
    assert_eq!(control.with(|whims| whims.system_lookups.len()), 1);
}

#[test]
fn a_system_lookup_may_be_cancelled() {
    let origin = origin();
    let control =
        Control::new(Whims { system_name: Some("localhost".to_owned()), ..Whims::default() });
    let mut settings = settings();
    settings.resolver = ResolverChoice::System;
    let mut reactor = control.reactor(settings);
    let first = submit(&mut reactor, get(origin.url_at("system.test", "/")));
    assert!(begin(&mut reactor).is_empty());
    assert!(reactor.cancel(first));
    settle(&mut reactor);
    run(&mut reactor, get(origin.url_at("other.test", "/"))).answer();
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_cancelled_waiter_takes_nobody_elses_answer_away() {
    let origin = origin();
    let (answer, asked) = (Latch::new(), Latch::new());
    let (held, heard) = (answer.clone(), asked.clone());
    let dns = DnsServer::start(move |_| {
        heard.release();
        DnsReply::After(held.clone(), Box::new(DnsReply::Answer(ips(&["127.0.0.1"]), 60)))
    });
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let ids: Vec<_> = (0..3)
        .map(|tag| submit(&mut reactor, get(origin.url_at("a.test", "/")).tag(tag)))
        .collect();
    assert!(begin(&mut reactor).is_empty());
    asked.wait();
    assert!(reactor.cancel(ids[0]) && !reactor.cancel(ids[0]));
    assert!(reactor.cancel(ids[2]));
    answer.release();
    let ended = drive(&mut reactor);
    assert_eq!(ended.iter().map(|ended| ended.tag).collect::<Vec<_>>(), [1]);
    ended[0].answer();
    assert_eq!(dns.count("a.test"), 2);
}

#[test]
fn a_lookup_that_nobody_waits_for_is_dropped() {
    let origin = origin();
    let asked = Latch::new();
    let heard = asked.clone();
    let dns = DnsServer::start(move |question| {
        if question.nth == 0 {
            heard.release();
            return DnsReply::Silent;
        }
        DnsReply::Answer(ips(&["127.0.0.1"]), 60)
    });
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let id = submit(&mut reactor, get(origin.url_at("a.test", "/")));
    assert!(begin(&mut reactor).is_empty());
    asked.wait();
    assert!(reactor.cancel(id));
    assert!(begin(&mut reactor).is_empty());
    assert_eq!((reactor.pending(), reactor.in_flight(), reactor.next_deadline()), (0, 0, None));
    // It is asked anew: nothing is left of the first lookup.
    run(&mut reactor, get(origin.url_at("a.test", "/"))).answer();
    assert_eq!(dns.count("a.test"), 4);
}

#[test]
fn cancelling_between_the_answer_and_its_telling_is_safe() {
    let origin = origin();
    let dns = dns(&["127.0.0.1"], 60);
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    for _ in 0..20 {
        let ids: Vec<_> =
            (0..4).map(|_| submit(&mut reactor, get(origin.url_at("a.test", "/")))).collect();
        reactor.wait(Some(Duration::ZERO)).unwrap();
        ids.into_iter().for_each(|id| assert!(reactor.cancel(id)));
        drain(&mut reactor);
    }
    run_until(&mut reactor, |reactor| reactor.connections() == reactor.idle_connections());
    settle(&mut reactor);
}

#[test]
fn a_redirect_to_another_name_is_resolved_like_any_other() {
    let origin = Origin::plain(|seen| match seen.target.as_str() {
        "/there" => ok("there"),
        _ => {
            let port = seen.header("host").unwrap().split_once(':').unwrap().1;
            support::redirect(302, &format!("http://there.test:{port}/there"))
        }
    });
    let dns = dns(&["127.0.0.1"], 60);
    let mut reactor = Reactor::new(asking(&[&dns])).unwrap();
    let ended = run(&mut reactor, get(origin.url_at("here.test", "/")));
    assert_eq!((ended.text(), ended.stats.redirects), ("there", 1));
    assert_eq!((dns.count("here.test"), dns.count("there.test")), (2, 2));
}

fn resolv_conf(text: &str) -> ResolverFiles {
    ResolverFiles { resolv_conf: Some(text.as_bytes().to_vec()), ..ResolverFiles::default() }
}
