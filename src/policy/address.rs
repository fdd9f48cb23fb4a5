//! Floor 1. Which addresses are not of the public internet. In goes an address that a connection
//! would go to; out comes the name of the range that it is in, or nothing where anyone may have it.
//!
//! Ranges are those of IANA's special-purpose address registries (RFC 6890) that are not globally
//! reachable, multicast, and whatever of IPv6 is not assigned (RFC 4291 §2.4). The most specific
//! range counts, as it does in the registries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of the range that is not globally reachable and that `address` is in. An IPv6 address
/// that stands for an IPv4 one is judged as that.
pub(crate) fn private_range(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => private_v4(address),
        IpAddr::V6(address) => private_v6(address),
    }
}

fn private_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = u128::from(address.to_bits()) << V4_SHIFT;
    narrowest(&V4, bits).and_then(|range| range.name)
}

fn private_v6(address: Ipv6Addr) -> Option<&'static str> {
    let range = narrowest(&V6, address.to_bits());
    match range.map(|range| (range, embedded(range, address))) {
        Some((range, Some(inner))) => private_v4(inner).or(range.name),
        Some((range, None)) => range.name,
        None if address.to_bits() >> 125 == GLOBAL_UNICAST => None,
        None => Some("reserved"),
    }
}

/// The IPv4 address that packets to this one end up at.
fn embedded(range: &Range, address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits() >> range.embeds_at?;
    Some(Ipv4Addr::from_bits(u32::try_from(bits & u128::from(u32::MAX)).unwrap_or(u32::MAX)))
}

fn narrowest(ranges: &[Range], bits: u128) -> Option<&Range> {
    let inside = |range: &&Range| (range.first ^ bits) >> (128 - range.length) == 0;
    ranges.iter().filter(inside).max_by_key(|range| range.length)
}

/// A block of addresses, left-aligned in 128 bits.
#[derive(Clone, Copy)]
struct Range {
    first: u128,
    /// Bits of the prefix, 1 to 128.
    length: u32,
    /// None: globally reachable, inside a block that is not.
    name: Option<&'static str>,
    /// How many bits stand behind the IPv4 address that it stands for, if it does.
    embeds_at: Option<u32>,
}

const fn v4(first: [u8; 4], length: u32, name: &'static str) -> Range {
    let first = (u32::from_be_bytes(first) as u128) << V4_SHIFT;
    Range { first, length, name: Some(name), embeds_at: None }
}

const fn v6(first: [u16; 8], length: u32, name: &'static str) -> Range {
    let [a, b, c, d, e, f, g, h] = first;
    let first = Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits();
    Range { first, length, name: Some(name), embeds_at: None }
}

/// Globally reachable, whatever is around it.
const fn reachable(range: Range) -> Range {
    Range { name: None, ..range }
}

/// Stands for an IPv4 address with `bits` bits behind it, and is globally reachable where that is.
const fn embeds(range: Range, bits: u32) -> Range {
    Range { name: None, embeds_at: Some(bits), ..range }
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry/>, and multicast (RFC 5771).
const V4: [Range; 19] = [
    v4([0, 0, 0, 0], 8, "this network"),
    v4([0, 0, 0, 0], 32, "unspecified"),
    v4([10, 0, 0, 0], 8, "private use"),
    v4([100, 64, 0, 0], 10, "carrier-grade NAT"),
    v4([127, 0, 0, 0], 8, "loopback"),
    v4([169, 254, 0, 0], 16, "link-local"),
    v4([172, 16, 0, 0], 12, "private use"),
    v4([192, 0, 0, 0], 24, "IETF protocol assignments"),
    reachable(v4([192, 0, 0, 9], 32, "port control anycast")),
    reachable(v4([192, 0, 0, 10], 32, "TURN anycast")),
    v4([192, 0, 2, 0], 24, "documentation"),
    v4([192, 88, 99, 0], 24, "6to4 relays"),
    v4([192, 168, 0, 0], 16, "private use"),
    v4([198, 18, 0, 0], 15, "benchmarking"),
    v4([198, 51, 100, 0], 24, "documentation"),
    v4([203, 0, 113, 0], 24, "documentation"),
    v4([224, 0, 0, 0], 4, "multicast"),
    v4([240, 0, 0, 0], 4, "reserved"),
    v4([255, 255, 255, 255], 32, "broadcast"),
];

/// <https://www.iana.org/assignments/iana-ipv6-special-registry/>, and what stands for IPv4:
/// mapped and compatible (RFC 4291 §2.5.5), NAT64 (RFC 6052) and 6to4 (RFC 3056).
const V6: [Range; 27] = [
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    embeds(v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped"), 0),
    Range { embeds_at: Some(0), ..v6([0, 0, 0, 0, 0, 0, 0, 0], 96, "IPv4-compatible") },
    embeds(v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "NAT64"), 0),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "local NAT64"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard-only"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "dummy prefix"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "IETF protocol assignments"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo"),
    reachable(v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128, "port control anycast")),
    reachable(v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128, "TURN anycast")),
    reachable(v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128, "DNS-SD anycast")),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmarking"),
    reachable(v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, "AMT")),
    reachable(v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, "AS112")),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "ORCHID"),
    reachable(v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "ORCHIDv2")),
    reachable(v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, "drone identifiers")),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    embeds(v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"), 80),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique local"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];

/// 2000::/3: the first three bits.
const GLOBAL_UNICAST: u128 = 0b001;
const V4_SHIFT: u32 = 96;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(address: &str) -> Option<&'static str> {
        private_range(address.parse().unwrap())
    }

    /// Name, the first and the last address, and the neighbours outside that are allowed.
    const RANGES: &str = "
        this network              | 0.0.0.1 0.255.255.255 | - 1.0.0.0
        private use               | 10.0.0.0 10.255.255.255 | 9.255.255.255 11.0.0.0
        carrier-grade NAT         | 100.64.0.0 100.127.255.255 | 100.63.255.255 100.128.0.0
        loopback                  | 127.0.0.0 127.255.255.255 | 126.255.255.255 128.0.0.0
        link-local                | 169.254.0.0 169.254.255.255 | 169.253.255.255 169.255.0.0
        private use               | 172.16.0.0 172.31.255.255 | 172.15.255.255 172.32.0.0
        IETF protocol assignments | 192.0.0.0 192.0.0.255 | 191.255.255.255 192.0.1.0
        documentation             | 192.0.2.0 192.0.2.255 | 192.0.1.255 192.0.3.0
        6to4 relays               | 192.88.99.0 192.88.99.255 | 192.88.98.255 192.88.100.0
        private use               | 192.168.0.0 192.168.255.255 | 192.167.255.255 192.169.0.0
        benchmarking              | 198.18.0.0 198.19.255.255 | 198.17.255.255 198.20.0.0
        documentation             | 198.51.100.0 198.51.100.255 | 198.51.99.255 198.51.101.0
        documentation             | 203.0.113.0 203.0.113.255 | 203.0.112.255 203.0.114.0
        multicast                 | 224.0.0.0 239.255.255.255 | 223.255.255.255 -
        reserved                  | 240.0.0.0 255.255.255.254 | - -
        broadcast                 | 255.255.255.255 255.255.255.255 | - -
        unspecified               | 0.0.0.0 0.0.0.0 | - -
        unspecified               | :: :: | - -
        loopback                  | ::1 ::1 | - -
        local NAT64               | 64:ff9b:1:: 64:ff9b:1:ffff:ffff:ffff:ffff:ffff | - -
        discard-only              | 100:: 100::ffff:ffff:ffff:ffff | - -
        dummy prefix              | 100:0:0:1:: 100::1:ffff:ffff:ffff:ffff | - -
        Teredo                    | 2001:: 2001:0:ffff:ffff:ffff:ffff:ffff:ffff | - -
        IETF protocol assignments | 2001:5:: 2001:5::1 | - -
        IETF protocol assignments | 2001:100:: 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff | - 2001:200::
        benchmarking              | 2001:2:: 2001:2:0:ffff:ffff:ffff:ffff:ffff | - -
        ORCHID                    | 2001:10:: 2001:1f:ffff:ffff:ffff:ffff:ffff:ffff | - -
        documentation             | 2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff | - 2001:db9::
        documentation             | 3fff:: 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff | - 3fff:1000::
        reserved                  | 4000:: 5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff | - -
        segment routing           | 5f00:: 5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff | - -
        unique local              | fc00:: fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff | - -
        link-local                | fe80:: febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff | - -
        site-local                | fec0:: feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff | - -
        multicast                 | ff00:: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff | - -
    ";

    #[test]
    fn every_range_begins_and_ends_where_the_registries_say() {
        let mut lines = 0;
        for line in RANGES.lines().filter(|line| !line.trim().is_empty()) {
            let parts: Vec<&str> = line.split('|').map(str::trim).collect();
            for inside in parts[1].split(' ') {
                assert_eq!(range(inside), Some(parts[0]), "{inside}");
            }
            for outside in parts[2].split(' ').filter(|outside| *outside != "-") {
                assert_eq!(range(outside), None, "{outside}");
            }
            lines += 1;
        }
        assert!(lines > V4.len());
    }

    #[test]
    fn what_is_globally_reachable_is_allowed() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.215.14",
            "192.0.0.9",
            "192.0.0.10",
            "192.31.196.1",
            "192.52.193.1",
            "192.175.48.1",
            "2000::",
            "2001:1::1",
            "2001:1::2",
            "2001:1::3",
            "2001:3::1",
            "2001:4:112::1",
            "2001:20::1",
            "2001:2f:ffff::1",
            "2001:30::1",
            "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:4860:4860::8888",
            "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "2606:4700:4700::1111",
            "2620:4f:8000::1",
        ] {
            assert_eq!(range(address), None, "{address}");
        }
        assert!(range("192.0.0.8").is_some() && range("192.0.0.11").is_some());
        assert!(range("2001:1::").is_some() && range("2001:1::4").is_some());
    }

    #[test]
    fn an_address_that_stands_for_another_is_judged_as_that() {
        for (address, name) in [
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::ffff:169.254.169.254", Some("link-local")),
            ("::ffff:8.8.8.8", None),
            ("::10.0.0.1", Some("private use")),
            ("::8.8.8.8", Some("IPv4-compatible")),
            ("64:ff9b::192.168.0.1", Some("private use")),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b::1:8.8.8.8", Some("reserved")),
            ("2002:7f00:1::", Some("loopback")),
            ("2002:a9fe:a9fe::1", Some("link-local")),
            ("2002:c0a8:1:ffff:ffff:ffff:ffff:ffff", Some("private use")),
            ("2002:808:808::1", None),
        ] {
            assert_eq!(range(address), name, "{address}");
        }
    }

    proptest! {
        #[test]
        fn no_form_of_an_ipv4_address_is_allowed_where_it_is_not(bits: u32, behind: u128) {
            let v4 = Ipv4Addr::from_bits(bits);
            let own = private_range(v4.into());
            let mapped = v4.to_ipv6_mapped();
            prop_assert_eq!(private_range(mapped.into()), own);
            let nat64 = Ipv6Addr::from_bits(0x64_ff9b << 96 | u128::from(bits));
            prop_assert_eq!(private_range(nat64.into()), own);
            let six = 0x2002 << 112 | u128::from(bits) << 80 | behind >> 48;
            prop_assert_eq!(private_range(Ipv6Addr::from_bits(six).into()), own);
            let compatible = Ipv6Addr::from_bits(u128::from(bits));
            prop_assert!(private_range(compatible.into()).is_some());
        }

        #[test]
        fn outside_of_global_unicast_nothing_else_is_allowed(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            let stands_for_ipv4 = bits >> 32 == 0xffff || bits >> 32 == 0x64_ff9b << 64;
            if bits >> 125 != GLOBAL_UNICAST && !stands_for_ipv4 {
                prop_assert!(private_range(address.into()).is_some());
            }
        }
    }
}
