//! Files that are written from a model are read as it; any bytes, and files cut anywhere, are read
//! within bounds.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn name() -> impl Strategy<Value = String> {
    vec("[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?", 1..4).prop_map(|labels| labels.join("."))
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|bytes| bytes.into()),
        any::<[u8; 16]>().prop_map(|bytes| bytes.into()),
    ]
}

/// What may stand between two words, and behind a line.
fn gap() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(" "), Just("\t"), Just("  \t ")]
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("\n"),
        Just(" \n"),
        Just("\r\n"),
        Just(" # comment\n"),
        Just("\n\n#x\nnonsense\n"),
        Just("\n\u{fffd}\n")
    ]
}

/// Lines of hosts: an address, its names, and how they are written.
type HostsLine = (IpAddr, Vec<String>, &'static str, &'static str);

fn hosts_lines() -> impl Strategy<Value = Vec<HostsLine>> {
    vec((address(), vec(name(), 1..4), gap(), line_end()), 0..12)
}

fn written(lines: &[HostsLine]) -> String {
    let line =
        |(address, names, gap, end): &HostsLine| format!("{address}{gap}{}{end}", names.join(gap));
    lines.iter().map(line).collect()
}

fn assert_within_bounds(config: &Config) {
    assert!((1..=SERVERS_MAX).contains(&config.servers.len()));
    assert!(config.search.len() <= SEARCH_DOMAINS_MAX);
    assert!(config.search.iter().all(|domain| is_askable(domain)));
    assert!(config.ndots <= NDOTS_MAX && (1..=ATTEMPTS_MAX).contains(&config.attempts));
    assert!((1..=u64::from(TIMEOUT_SECONDS_MAX)).contains(&config.timeout.as_secs()));
    for host in ["a", "a.example", "a.example."] {
        let names = config.candidates(host);
        assert!(names.len() <= SEARCH_DOMAINS_MAX + 1);
        assert!(names.iter().all(|name| name.starts_with('a') && !name.ends_with('.')));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn hosts_that_were_written_are_found(lines in hosts_lines()) {
        let hosts = Hosts::parse(written(&lines).as_bytes());
        let mut model: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (address, names, ..) in &lines {
            for name in names {
                let list = model.entry(name.to_ascii_lowercase()).or_default();
                if !list.contains(address) {
                    list.push(*address);
                }
            }
        }
        prop_assert_eq!(hosts.addresses.len(), model.len());
        for (name, mut list) in model {
            list.sort_by_key(IpAddr::is_ipv4);
            prop_assert_eq!(hosts.get(&name), Some(interleave(&list)), "{}", name);
        }
    }

    /// A file that somebody is just writing may end anywhere; no other address is read from it.
    #[test]
    fn hosts_cut_anywhere_have_no_address_that_was_not_written(lines in hosts_lines()) {
        let text = written(&lines);
        let all: Vec<IpAddr> = lines.iter().map(|line| line.0).collect();
        for end in 0..text.len() {
            let hosts = Hosts::parse(&text.as_bytes()[..end]);
            let mut found = hosts.addresses.values().flatten();
            prop_assert!(found.all(|address| all.contains(address)), "cut at {end}");
        }
    }

    #[test]
    fn a_configuration_that_was_written_is_read(
        servers in vec(address(), 1..6),
        search in vec(name(), 0..8),
        (ndots, timeout, attempts) in (0_u32..30, 0_u32..60, 0_u32..10),
        (rotate, tcp, ipv4) in any::<(bool, bool, bool)>(),
        end in line_end().prop_filter("a CR is of a word", |end| !end.contains('\r')),
    ) {
        let mut text = String::new();
        for server in &servers {
            text += &format!("nameserver {server}\n");
        }
        if !search.is_empty() {
            text += &format!("search {}{end}", search.join(" "));
        }
        text += &format!("options ndots:{ndots} timeout:{timeout} attempts:{attempts}");
        for (is_on, option) in [(rotate, " rotate"), (tcp, " use-vc"), (ipv4, " no-aaaa")] {
            text += if is_on { option } else { "" };
        }
        let config = Config::parse(Some(text.as_bytes()), None);
        assert_within_bounds(&config);
        let kept = servers.iter().take(SERVERS_MAX).map(|ip| SocketAddr::new(*ip, PORT));
        prop_assert_eq!(&config.servers, &kept.collect::<Vec<_>>());
        let domains: Vec<Box<str>> = search.iter().map(|d| d.to_ascii_lowercase().into()).collect();
        prop_assert_eq!(&config.search, &domains);
        prop_assert_eq!(config.ndots, ndots.min(15));
        prop_assert_eq!(config.timeout.as_secs(), u64::from(timeout.clamp(1, 30)));
        prop_assert_eq!(config.attempts, attempts.clamp(1, 5));
        let switches = (config.rotate, config.is_tcp_only, config.is_ipv4_only);
        prop_assert_eq!(switches, (rotate, tcp, ipv4));
        for cut in 0..text.len() {
            assert_within_bounds(&Config::parse(Some(&text.as_bytes()[..cut]), None));
        }
    }

    #[test]
    fn any_bytes_are_read_within_bounds(
        resolv_conf in vec(
            prop_oneof![any::<u8>(), prop::sample::select(&b" \n#;.:%0nosd"[..])], 0..200),
        line in "(nameserver|search|domain|options|sortlist)? ?[ -~]{0,40}",
        nsswitch in vec(any::<u8>(), 0..100),
    ) {
        let text = [&resolv_conf[..], b"\n", line.as_bytes(), b"\n", &resolv_conf].concat();
        assert_within_bounds(&Config::parse(Some(&text), Some(&nsswitch)));
        let hosts = [b"hosts:", &nsswitch[..]].concat();
        assert_within_bounds(&Config::parse(Some(line.as_bytes()), Some(&hosts)));
        Hosts::parse(&text);
    }
}
