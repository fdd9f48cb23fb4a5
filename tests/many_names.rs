//! 200 URLs on 200 names, three of which lead nowhere, each in its own way: they cost themselves
//! their limits, and nobody else anything.

mod driving;
mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use driving::{Control, Ended, Whims, asking, begin, drive, get, settle, submit, turn};
use support::{Blackhole, DnsReply, DnsServer, Origin, Reply, Setup, blackhole, ok};
use whippet::net::Net;
use whippet::{Kind, Limit, Phase, Reactor, Request};

const NAMES: u64 = 200;
const UNANSWERED: u64 = 17;
const UNACCEPTED: u64 = 101;
const SILENT: u64 = 180;
const LIMIT: Duration = Duration::from_millis(300);

/// The places where the names lead.
struct Places {
    dns: DnsServer,
    origin: Origin,
    blackhole: Blackhole,
    silent: Origin,
}

impl Places {
    fn new() -> Self {
        let dns = DnsServer::start(|question| {
            let number =
                question.name.strip_prefix('n').and_then(|rest| rest.strip_suffix(".test"));
            let number: u64 = number.unwrap().parse().unwrap();
            let last = u8::try_from(number + 1).unwrap();
            match number {
                UNANSWERED => DnsReply::Silent,
                UNACCEPTED | SILENT => DnsReply::Answer(vec![Ipv4Addr::LOCALHOST.into()], 60),
                _ => DnsReply::Answer(vec![IpAddr::from([127, 0, 0, last])], 60),
            }
        });
        let anywhere = Setup { address: (Ipv4Addr::UNSPECIFIED, 0).into(), ..Setup::default() };
        let origin = Origin::start(anywhere, |seen| ok(seen.header("host").unwrap_or_default()));
        let silent = Origin::plain(|_| Reply::new().silence());
        Self { dns, origin, blackhole: blackhole(), silent }
    }

    fn request(&self, tag: u64) -> Request {
        let (port, limit) = match tag {
            UNANSWERED => (self.origin.port(), Limit::Dns),
            UNACCEPTED => (self.blackhole.address.port(), Limit::Connect),
            SILENT => (self.silent.port(), Limit::FirstByte),
            _ => (self.origin.port(), Limit::Total),
        };
        let request = get(format!("http://n{tag}.test:{port}/")).tag(tag);
        if limit == Limit::Total { request } else { request.limit(limit, LIMIT) }
    }

    fn submit_all<N: Net>(&self, reactor: &mut Reactor<N>) {
        for tag in 0..NAMES {
            submit(reactor, self.request(tag));
        }
    }

    fn check_well(&self, ended: &[Ended]) {
        assert_eq!(ended.len(), 197);
        for ended in ended {
            assert_eq!(ended.text(), format!("n{}.test:{}", ended.tag, self.origin.port()));
            let last = u8::try_from(ended.tag + 1).unwrap();
            assert_eq!(ended.stats.remote.unwrap().ip(), IpAddr::from([127, 0, 0, last]));
        }
    }
}

fn check_ill(ended: &mut [Ended]) {
    ended.sort_by_key(|ended| ended.tag);
    let expected = [
        (UNANSWERED, Phase::Dns, Limit::Dns),
        (UNACCEPTED, Phase::Connect, Limit::Connect),
        (SILENT, Phase::Head, Limit::FirstByte),
    ];
    assert_eq!(ended.len(), expected.len());
    for (ended, (tag, phase, limit)) in ended.iter().zip(expected) {
        let error = ended.error();
        assert_eq!((ended.tag, error.kind(), error.phase()), (tag, Kind::Timeout, phase));
        assert_eq!((error.limit(), error.attempts()), (Some(limit), 1));
    }
}

#[test]
fn those_that_lead_nowhere_end_last_and_alone() {
    let places = Places::new();
    let whims = Whims { frozen: Some(Duration::ZERO), ..Whims::default() };
    let control = Control::new(whims);
    let mut reactor = control.reactor(asking(&[&places.dns]));
    places.submit_all(&mut reactor);
    // No time passes: whoever ends did not wait for any limit.
    let mut well = Vec::new();
    while reactor.pending() > 3 {
        well.extend(turn(&mut reactor, Some(Duration::from_millis(20))));
    }
    places.check_well(&well);
    places.silent.wait_for(|log| log.requests.len() == 1);
    // A limit counts from the reading of the clock after it began.
    assert!(begin(&mut reactor).is_empty());
    assert_eq!(reactor.in_flight(), 3);
    control.skip(LIMIT - Duration::from_millis(1));
    assert!(begin(&mut reactor).is_empty());
    control.skip(Duration::from_millis(2));
    let mut ill = begin(&mut reactor);
    check_ill(&mut ill);
    settle(&mut reactor);
}

#[test]
fn on_the_true_clock_every_name_ends_as_it_should() {
    let places = Places::new();
    let mut reactor = Reactor::new(asking(&[&places.dns])).unwrap();
    places.submit_all(&mut reactor);
    let ended = drive(&mut reactor);
    let (well, mut ill): (Vec<_>, Vec<_>) =
        ended.into_iter().partition(|ended| ended.result.is_ok());
    places.check_well(&well);
    check_ill(&mut ill);
    assert_eq!(places.dns.questions().len(), 400);
}

#[test]
fn eight_slots_are_enough() {
    let places = Places::new();
    let whims = Whims { frozen: Some(Duration::ZERO), ..Whims::default() };
    let control = Control::new(whims);
    let mut settings = asking(&[&places.dns]);
    settings.concurrency = 8;
    let mut reactor = control.reactor(settings);
    places.submit_all(&mut reactor);
    let mut well = Vec::new();
    while reactor.pending() > 3 {
        assert!(reactor.in_flight() <= 8);
        well.extend(turn(&mut reactor, Some(Duration::from_millis(20))));
    }
    places.check_well(&well);
    places.silent.wait_for(|log| log.requests.len() == 1);
    assert!(begin(&mut reactor).is_empty());
    control.skip(LIMIT + Duration::from_millis(1));
    check_ill(&mut begin(&mut reactor));
    settle(&mut reactor);
}
