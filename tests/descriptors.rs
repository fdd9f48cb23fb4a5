//! Descriptors run out: no fetch fails for it. The fetching is done by a child of this process,
//! which is given few; the origins stay here and have enough.

#![cfg(unix)]

mod support;

use std::collections::HashSet;
use std::env;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use support::{DnsReply, DnsServer, Origin, QueryType, Setup, blackhole, response};
use whippet::{Event, Reactor, Request, Settings};

#[test]
fn with_40_descriptors_500_urls_of_60_origins_are_fetched() {
    let origins = origins();
    let urls = (0..URLS).map(|nth| origins[nth % origins.len()].url(&format!("/{nth}")));
    fetch_in_child(40, &urls.collect::<Vec<_>>(), None);
    let requests: usize = origins.iter().map(|origin| origin.requests().len()).sum();
    assert!(requests >= URLS, "{requests}");
}

#[test]
fn names_are_looked_up_with_few_descriptors_too() {
    let origins = origins();
    let dns = DnsServer::start(|asked| match asked.kind {
        QueryType::A => DnsReply::Answer(vec![[127, 0, 0, 1].into()], 60),
        _ => DnsReply::Answer(vec![], 60),
    });
    let urls = (0..URLS).map(|nth| {
        let host = format!("host{}.example", nth % 250);
        origins[nth % origins.len()].url_at(&host, &format!("/{nth}"))
    });
    fetch_in_child(24, &urls.collect::<Vec<_>>(), Some(dns.address()));
}

#[test]
fn races_of_addresses_end_with_few_descriptors_too() {
    let hole = blackhole();
    let address = SocketAddr::new([127, 0, 0, 2].into(), hole.address.port());
    let answer = |seen: &support::Seen| response(200, &[], format!("body of {}", seen.target));
    let origin = Origin::start(Setup { address, ..Setup::default() }, answer);
    let dns = DnsServer::start(move |asked| match asked.kind {
        QueryType::A => DnsReply::Answer(vec![hole.address.ip(), address.ip()], 60),
        _ => DnsReply::Answer(vec![], 60),
    });
    let urls = (0..60).map(|nth| origin.url_at(&format!("host{nth}.example"), "/"));
    fetch_in_child(24, &urls.collect::<Vec<_>>(), Some(dns.address()));
}

fn origins() -> Vec<Origin> {
    let answer = |seen: &support::Seen| response(200, &[], format!("body of {}", seen.target));
    (0..60).map(|_| Origin::plain(answer)).collect()
}

/// Runs the test below in a process that may open `descriptors` files.
fn fetch_in_child(descriptors: usize, urls: &[String], dns: Option<SocketAddr>) {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -n {descriptors}; exec \"$0\" --exact in_the_child --nocapture"))
        .arg(env::current_exe().unwrap())
        .env(URLS_VARIABLE, urls.join("\n"))
        .env(DNS_VARIABLE, dns.map(|dns| dns.to_string()).unwrap_or_default())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    assert!(said.contains(&format!("{} were fetched", urls.len())), "{said}\n{complained}");
}

/// Does nothing unless it is told what to fetch.
#[test]
fn in_the_child() {
    let Ok(urls) = env::var(URLS_VARIABLE) else { return };
    let mut settings = Settings::default();
    settings.concurrency = 128;
    settings.retries = 0;
    settings.dns_servers = env::var(DNS_VARIABLE).unwrap().parse().into_iter().collect();
    let mut reactor = Reactor::new(settings).unwrap();
    for (tag, url) in (0..).zip(urls.lines()) {
        reactor.submit(Request::get(url).unwrap().tag(tag).collect(true)).unwrap();
    }
    let mut done = HashSet::new();
    while reactor.pending() > 0 {
        reactor.wait(Some(Duration::from_secs(20))).unwrap();
        while let Some(event) = reactor.next_event() {
            match event {
                Event::Done { tag, response, stats, .. } => {
                    let response = response.unwrap();
                    assert_eq!(response.text(), format!("body of {}", response.url().path()));
                    // What was short of a descriptor was no attempt.
                    assert!(stats.attempts >= 1);
                    assert!(done.insert(tag));
                }
                Event::Failed { tag, error, .. } => panic!("{tag}: {error}"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((reactor.pending(), reactor.in_flight(), reactor.waiting()), (0, 0, 0));
    assert_eq!(reactor.connections(), reactor.idle_connections());
    println!("{} were fetched", done.len());
}

const URLS: usize = 500;
const URLS_VARIABLE: &str = "WHIPPET_TEST_URLS";
const DNS_VARIABLE: &str = "WHIPPET_TEST_DNS";
