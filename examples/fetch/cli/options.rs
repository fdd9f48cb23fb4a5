//! Every option: its names, its value, what it says of itself, and where it is kept.

mod reached;
mod sent;

use super::super::values;
use super::option::{Asked, Group, ends, flag, number, one, path, perhaps, value};

/// What stands for URLs among options that exclude each other.
pub(super) const URL: &str = "URL";

pub(super) const GROUPS: &[Group] = &[
    Group {
        heading: "What to fetch",
        apart: &[],
        options: &[
            value(
                &["i", "input"],
                "FILE",
                "Take one URL per line from FILE; # comments and blank lines are skipped; - is \
                 standard input",
                |args, given| path(&mut args.input, given),
            )
            .apart(&["jobs", "demo", URL]),
            value(
                &["jobs"],
                "FILE",
                "Take one JSON job per line from FILE; - is standard input",
                |args, given| path(&mut args.jobs, given),
            )
            .apart(&["input", "demo", URL]),
            perhaps(
                &["demo"],
                "N",
                "500",
                "Fetch N URLs (500) from an origin inside this process, every kind of failure included; \
                 what is asked, and how long it may take, is the demo's own",
                |args, given| one(&mut args.demo, given, number),
            )
            .apart(&["input", "jobs", URL]),
        ],
    },
    Group {
        heading: "How many, how fast, how long",
        apart: &[],
        options: &[
            value(
                &["c", "concurrency"],
                "N",
                "Fetches in flight at once [default: 64]",
                |args, given| one(&mut args.concurrency, given, number),
            ),
            value(
                &["per-host"],
                "N",
                "Fetches in flight at once to one origin [default: a fair share]",
                |args, given| one(&mut args.per_host, given, number),
            ),
            value(
                &["rate"],
                "N",
                "Attempts a second for each origin (scheme, host and port), retries and redirects \
                 included",
                |args, given| one(&mut args.rate, given, values::rate),
            ),
            flag(
                &["polite"],
                "Leave an origin alone for as long as it asks: Retry-After, and RateLimit fields",
                |args| args.polite = true,
            ),
            value(
                &["hedge"],
                "SECONDS|p95",
                "Send a request again whose answer has not begun after SECONDS, or after the time in \
                 which 95 % of the origin's answers begin (p95); one in twenty at the most, and the \
                 first answer counts",
                |args, given| one(&mut args.hedge, given, values::hedge),
            ),
            value(
                &["circuit"],
                "N",
                "Leave an origin alone for a while after N failures in a row; what waits for it fails \
                 at once",
                |args, given| one(&mut args.circuit, given, number),
            ),
            value(
                &["circuit-time"],
                "SECONDS",
                "How long --circuit leaves an origin alone before it is tried again [default: 30]",
                |args, given| one(&mut args.circuit_time, given, values::pause),
            )
            .needs("circuit"),
            value(
                &["m", "max-time", "timeout"],
                "SECONDS",
                "Seconds for one fetch in all, from its admission; 0: no limit [default: 30]",
                |args, given| one(&mut args.max_time, given, values::seconds),
            )
            .apart(&["demo"]),
            value(
                &["connect-timeout"],
                "SECONDS",
                "Seconds for DNS, connecting and TLS together; 0: no limit [default: 10]",
                |args, given| one(&mut args.connect_timeout, given, values::seconds),
            ),
            value(
                &["retry", "retries"],
                "N",
                "Attempts beyond the first [default: 2 for URLs, 0 for jobs]",
                |args, given| one(&mut args.retries, given, number),
            )
            .apart(&["demo"]),
            value(
                &["max-redirs", "max-redirects"],
                "N",
                "Redirects followed at most [default: 10]",
                |args, given| one(&mut args.max_redirects, given, number),
            ),
            flag(&["no-follow"], "Do not follow redirects", |args| args.no_follow = true),
        ],
    },
    sent::SENT,
    sent::LOGINS,
    reached::WAY,
    reached::TLS,
    Group {
        heading: "What is taken and kept",
        apart: &[],
        options: &[
            flag(
                &["no-decode"],
                "Neither ask for content codings (gzip, deflate, br, zstd) nor remove them",
                |args| args.no_decode = true,
            ),
            value(
                &["max-body"],
                "BYTES",
                "Bytes of a body at most, decoded [default: 10 MiB where it is collected for --json, \
                 else none]",
                |args, given| one(&mut args.max_body, given, number),
            ),
            value(
                &["max-head"],
                "BYTES",
                "Bytes of a response's head at most [default: 64 KiB]",
                |args, given| one(&mut args.max_head, given, number),
            ),
            value(
                &["o", "output"],
                "PATH",
                "Write bodies to a file, a directory (ends in /, or is there), or a template with \
                 {host}, {path}, {n}, {id}; - is standard output, for one URL",
                |args, given| path(&mut args.output, given),
            )
            .apart(&["head"]),
            flag(
                &["continue"],
                "Go on with what an earlier run has left of a file, and leave what there is if this \
                 one fails; a status of 400 or more counts as a failure",
                |args| args.resume = true,
            )
            .apart(&["head"])
            .needs("output"),
            value(
                &["checksum"],
                "sha256:HEX",
                "The SHA-256 that the one file must have, or it is not kept",
                |args, given| one(&mut args.checksum, given, values::checksum),
            )
            .needs("output"),
            flag(
                &["no-body"],
                "Receive bodies, but neither print nor keep them",
                |args| args.no_body = true,
            )
            .apart(&["output"]),
            flag(
                &["f", "fail"],
                "Count a status of 400 or more as a failure, and do not print or keep its body",
                |args| args.fail = true,
            ),
        ],
    },
    Group {
        heading: "What is printed",
        apart: &[],
        options: &[
            flag(&["json"], "Print one JSON object per job", |args| args.json = true),
            flag(
                &["ordered"],
                "Print results in the order of the input",
                |args| args.ordered = true,
            ),
            value(
                &["report"],
                "FILE.html",
                "Write a page of what the run came to to FILE.html: when each fetch had its phases, \
                 how long they took, what failed, what was slowest",
                |args, given| path(&mut args.report, given),
            ),
            flag(&["s", "silent"], "Neither progress nor summary", |args| args.silent = true),
            flag(
                &["v", "verbose"],
                "Say on standard error what happens: * steps, > requests, < responses; no credentials",
                |args| args.verbose = true,
            ),
            ends(&["h", "help"], "Print this", Asked::Help),
            ends(&["V", "version"], "Print the version", Asked::Version),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::super::option::Opt;
    use super::*;

    #[test]
    fn names_are_unique_and_those_referred_to_are_there() {
        let all = || GROUPS.iter().flat_map(|group| group.options);
        let mut names: Vec<_> = all().flat_map(|option| option.names).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        let apart = all().flat_map(|it| it.apart).chain(GROUPS.iter().flat_map(|it| it.apart));
        for other in apart.copied().chain(all().filter_map(|it| it.needs)) {
            assert!(other == URL || all().map(Opt::name).any(|name| name == other), "{other}");
        }
    }
}
