//! The command line: its options, and what may stand beside what.
//!
//! Names and short forms follow curl's where curl has them; where two names are usual, both are
//! taken. A line that cannot be used becomes one line on standard error. [`sent`] has the options
//! that say what requests carry.

pub(crate) mod sent;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};
use whippet::{ConnectTo, Hedge, Rate, Resolve};

use self::sent::Sent;
use super::USAGE_EXIT;
use super::values::{self, Checksum, Cookie, Header, ProxyChoice, Seconds, Servers, Userinfo};

/// Fetches URLs, many at once, on one thread.
///
/// One URL prints its body; several print a line each. Exit status: 0 when every job succeeded,
/// 1 when some failed, 2 for a usage error, 130 after an interrupt.
#[derive(Parser, Default)]
#[command(name = "fetch", version, max_term_width = 100, override_usage = USAGE)]
pub(crate) struct Args {
    /// What to fetch: absolute, http or https
    #[arg(value_name = "URL", group = "way")]
    pub(crate) urls: Vec<String>,
    /// Take one URL per line from FILE; # comments and blank lines are skipped; - is standard
    /// input
    #[arg(short, long, value_name = "FILE", group = "way")]
    pub(crate) input: Option<PathBuf>,
    /// Take one JSON job per line from FILE; - is standard input
    #[arg(long, value_name = "FILE", group = "way")]
    pub(crate) jobs: Option<PathBuf>,
    /// Fetch N URLs (500) from an origin inside this process, every kind of failure included
    #[arg(long, value_name = "N", group = "way", num_args = 0..=1,
          default_missing_value = "500", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) demo: Option<u64>,

    /// Fetches in flight at once
    #[arg(short, long, value_name = "N", default_value = "64")]
    pub(crate) concurrency: Option<NonZeroUsize>,
    /// Fetches in flight at once to one origin [default: a fair share]
    #[arg(long, value_name = "N")]
    pub(crate) per_host: Option<NonZeroUsize>,
    /// Attempts a second for each origin (scheme, host and port), retries and redirects included
    #[arg(long, value_name = "N", value_parser = values::rate)]
    pub(crate) rate: Option<Rate>,
    /// Leave an origin alone for as long as it asks: Retry-After, and RateLimit fields
    #[arg(long)]
    pub(crate) polite: bool,
    /// Send a request again whose answer has not begun after SECONDS, or after the time in which
    /// 95 % of the origin's answers begin (p95); one in twenty at the most, and the first answer counts
    #[arg(long, value_name = "SECONDS|p95", value_parser = values::hedge)]
    pub(crate) hedge: Option<Hedge>,
    /// Leave an origin alone for a while after N failures in a row; what waits for it fails at once
    #[arg(long, value_name = "N")]
    pub(crate) circuit: Option<NonZeroU32>,
    /// How long --circuit leaves an origin alone before it is tried again [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = values::pause, requires = "circuit")]
    pub(crate) circuit_time: Option<Duration>,
    /// Seconds for one fetch in all, from its admission; 0: no limit [default: 30]
    #[arg(short, long = "max-time", visible_alias = "timeout", value_name = "SECONDS",
          value_parser = values::seconds)]
    pub(crate) max_time: Option<Seconds>,
    /// Seconds for DNS, connecting and TLS together; 0: no limit [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub(crate) connect_timeout: Option<Seconds>,
    /// Attempts beyond the first [default: 2 for URLs, 0 for jobs]
    #[arg(long = "retry", visible_alias = "retries", value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// Redirects followed at most [default: 10]
    #[arg(long = "max-redirs", visible_alias = "max-redirects", value_name = "N")]
    pub(crate) max_redirects: Option<usize>,
    /// Do not follow redirects
    #[arg(long)]
    pub(crate) no_follow: bool,

    /// The method [default: GET, or POST where there is a body, PUT for a file]
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = values::method,
          conflicts_with = "head")]
    pub(crate) method: Option<String>,
    /// A header to send; may be given again
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = values::header)]
    pub(crate) headers: Vec<Header>,
    #[command(flatten)]
    pub(crate) sent: Sent,
    /// Ask for the head only (method HEAD)
    #[arg(short = 'I', long)]
    pub(crate) head: bool,
    /// Basic authentication, or Digest with --digest
    #[arg(short, long, value_name = "USER:PASS", value_parser = values::userinfo,
          conflicts_with = "bearer")]
    pub(crate) user: Option<Userinfo>,
    /// Give the login of -u, or that in a URL, in answer to a Digest challenge, and never as it is
    #[arg(long, conflicts_with = "bearer")]
    pub(crate) digest: bool,
    /// Take the logins of hosts from the file that NETRC names, or ~/.netrc
    #[arg(short = 'n', long)]
    pub(crate) netrc: bool,
    /// Take the logins of hosts from FILE
    #[arg(long, value_name = "FILE", conflicts_with = "netrc")]
    pub(crate) netrc_file: Option<PathBuf>,
    /// Bearer authentication
    #[arg(long, value_name = "TOKEN", value_parser = values::bearer)]
    pub(crate) bearer: Option<String>,
    /// Cookies for every URL, as NAME=VALUE; or where there is no =, a file to take kept ones from;
    /// may be given again
    #[arg(short = 'b', long = "cookie", value_name = "NAME=VALUE|FILE", value_parser = values::cookie)]
    pub(crate) cookies: Vec<Cookie>,
    /// Write the cookies that are kept at the end to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) cookie_jar: Option<PathBuf>,
    /// Neither keep cookies nor send kept ones, unless a job says so
    #[arg(long)]
    pub(crate) no_cookies: bool,
    /// The User-Agent header
    #[arg(short = 'A', long, value_name = "TEXT", value_parser = values::user_agent)]
    pub(crate) user_agent: Option<Header>,

    /// The proxy: http, https, socks4, socks4a, socks5 or socks5h; empty for none [default: what
    /// http_proxy, https_proxy, all_proxy and no_proxy say]
    #[arg(short = 'x', long, value_name = "URL", value_parser = values::proxy,
          conflicts_with = "demo")]
    pub(crate) proxy: Option<ProxyChoice>,
    /// Give the login in a proxy's URL in answer to its Digest challenge, and never as it is
    #[arg(long)]
    pub(crate) proxy_digest: bool,
    /// Connect to ADDR where a URL says HOST and PORT; may be given again
    #[arg(long, value_name = "HOST:PORT:ADDR", value_parser = values::resolve)]
    pub(crate) resolve: Vec<Resolve>,
    /// Connect to HOST2 and PORT2 where a URL says HOST1 and PORT1, each of which may be empty; may
    /// be given again
    #[arg(long, value_name = "HOST1:PORT1:HOST2:PORT2", value_parser = values::connect_to)]
    pub(crate) connect_to: Vec<ConnectTo>,
    /// Connect to the socket at PATH, whatever host a URL says
    #[arg(long, value_name = "PATH", conflicts_with_all = ["demo", "proxy", "deny_private"])]
    pub(crate) unix_socket: Option<PathBuf>,
    /// Connect through this network interface, or from this address; may be given again
    #[arg(long, value_name = "NAME|ADDR")]
    pub(crate) interface: Vec<String>,
    /// Have silent connections probed after and every SECONDS, nine times [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub(crate) keepalive_time: Option<Seconds>,
    /// Give up connections where nothing is acknowledged for SECONDS [default: the system's]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub(crate) tcp_user_timeout: Option<Seconds>,
    /// Let the kernel gather small writes
    #[arg(long)]
    pub(crate) no_tcp_nodelay: bool,
    /// Name servers to ask in place of the system's
    #[arg(long, value_name = "ADDR[:PORT],…", value_parser = values::servers)]
    pub(crate) dns_servers: Option<Servers>,
    /// Trust the certificate authorities in FILE (PEM) in place of the web's
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Trust what the operating system trusts in place of the web's authorities, beside --cacert
    #[arg(long)]
    pub(crate) native_roots: bool,
    /// A certificate to show to servers (PEM)
    #[arg(short = 'E', long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key (PEM) [default: in the certificate's file]
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Accept any certificate: anyone in between can read and change everything
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,

    /// The public key that servers must have: sha256//BASE64 of it, several with ; between them, or
    /// a file with one (PEM or DER)
    #[arg(long = "pinnedpubkey", value_name = "HASHES|FILE")]
    pub(crate) pinned_keys: Option<String>,
    /// Ask for, and verify, this name in place of the URL's host
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Option<String>,
    /// TLS 1.2 or later: the default
    #[arg(long = "tlsv1.2")]
    pub(crate) tls12: bool,
    /// TLS 1.3 or later
    #[arg(long = "tlsv1.3")]
    pub(crate) tls13: bool,

    /// Connect to no private, loopback, link-local or otherwise special address, at any redirect
    #[arg(long, conflicts_with = "demo")]
    pub(crate) deny_private: bool,

    /// Neither ask for content codings (gzip, deflate, br, zstd) nor remove them
    #[arg(long)]
    pub(crate) no_decode: bool,

    /// Bytes of a body at most, decoded [default: 10 MiB where it is collected for --json, else none]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_body: Option<u64>,
    /// Bytes of a response's head at most [default: 64 KiB]
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_head: Option<NonZeroUsize>,

    /// Write bodies to a file, a directory (ends in /, or is there), or a template with {host},
    /// {path}, {n}, {id}
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Go on with what an earlier run has left of a file, and leave what there is if this one fails;
    /// a status of 400 or more counts as a failure
    #[arg(long = "continue", requires = "output", conflicts_with = "head")]
    pub(crate) resume: bool,
    /// The SHA-256 that the one file must have, or it is not kept
    #[arg(long, value_name = "sha256:HEX", requires = "output", value_parser = values::checksum)]
    pub(crate) checksum: Option<Checksum>,
    /// Print one JSON object per job
    #[arg(long)]
    pub(crate) json: bool,
    /// Print results in the order of the input
    #[arg(long)]
    pub(crate) ordered: bool,
    /// Receive bodies, but neither print nor keep them
    #[arg(long, conflicts_with = "output")]
    pub(crate) no_body: bool,
    /// Count a status of 400 or more as a failure, and do not print or keep its body
    #[arg(short, long)]
    pub(crate) fail: bool,
    /// Write a page of what the run came to to FILE: when each fetch had its phases, how long they took,
    /// what failed, what was slowest
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,
    /// Neither progress nor summary
    #[arg(short, long)]
    pub(crate) silent: bool,
    /// Say on standard error what happens: * steps, > requests, < responses; no credentials
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

const USAGE: &str = "fetch [OPTIONS] URL…\n       fetch [OPTIONS] --input FILE\n       \
                     fetch [OPTIONS] --jobs FILE\n       fetch [OPTIONS] --demo [N]";

impl Args {
    /// The process's own command line, or the status to exit with: its help or version, or what
    /// is wrong with it, was printed.
    pub(crate) fn from_command_line() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            let error = without_secret(error);
            if error.use_stderr() {
                eprintln!("fetch: {}", one_line(&error));
                return ExitCode::from(USAGE_EXIT);
            }
            // Help into a closed pipe is no failure.
            let _ = error.print();
            ExitCode::SUCCESS
        })
    }

    /// The value, which has a default.
    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.map_or(64, NonZeroUsize::get)
    }
}

/// Without the value where the option takes a secret.
fn without_secret(mut error: clap::Error) -> clap::Error {
    let option = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    if SECRET_OPTIONS.iter().any(|secret| option.starts_with(secret)) {
        let hidden = ContextValue::String("...".to_owned());
        let _ = error.insert(ContextKind::InvalidValue, hidden);
    }
    error
}

/// What clap says in several lines, without its usage text.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or_default();
    let said = said.split("\n\nFor more information").next().unwrap_or_default();
    let said = said.replace(|c: char| c.is_control() && !c.is_whitespace(), "\u{FFFD}");
    let words: Vec<&str> = said.split_whitespace().collect();
    let line = words.join(" ");
    format!("{} (see fetch --help)", line.strip_prefix("error: ").unwrap_or(&line))
}

const SECRET_OPTIONS: [&str; 7] =
    ["--header", "--user", "--bearer", "--data", "--form", "--cookie", "--proxy"];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Args, String> {
        let words = std::iter::once("fetch").chain(words.split_whitespace());
        Args::try_parse_from(words).map_err(|error| one_line(&without_secret(error)))
    }

    #[test]
    fn both_names_of_an_option_are_taken() {
        for words in ["-m 1.5 u", "--max-time 1.5 u", "--timeout 1.5 u"] {
            assert_eq!(parse(words).unwrap().max_time.unwrap().0.as_millis(), 1_500, "{words}");
        }
        for words in ["--retry 3 u", "--retries 3 u"] {
            assert_eq!(parse(words).unwrap().retries, Some(3), "{words}");
        }
        for words in ["--max-redirs 3 u", "--max-redirects 3 u"] {
            assert_eq!(parse(words).unwrap().max_redirects, Some(3), "{words}");
        }
    }

    #[test]
    fn the_demo_has_a_number_of_its_own() {
        assert_eq!(parse("--demo").unwrap().demo, Some(500));
        assert_eq!(parse("--demo 20").unwrap().demo, Some(20));
        assert_eq!(parse("--demo --json").unwrap().demo, Some(500));
        assert!(parse("--demo 0").is_err());
    }

    #[test]
    fn what_cannot_be_used_is_one_line_that_names_it() {
        for (words, named) in [
            ("--nope u", "--nope"),
            ("--proxy x://y u", "--proxy"),
            ("--unix-socket", "--unix-socket"),
            ("--unix-socket x --deny-private u", "--unix-socket"),
            ("--unix-socket x --demo", "--unix-socket"),
            ("--connect-to a:80 u", "--connect-to"),
            ("-m x u", "--max-time"),
            ("-m -1 u", "-1"),
            ("-c 0 u", "--concurrency"),
            ("-c u", "--concurrency"),
            ("-X G<T u", "--request"),
            ("-H nocolon u", "--header"),
            ("-H Host:x u", "--header"),
            ("-u nocolon u", "--user"),
            ("--resolve a:b:c u", "--resolve"),
            ("--dns-servers x u", "--dns-servers"),
            ("--key k u", "--cert"),
            ("-i a --jobs b", "--jobs"),
            ("-i a u", "--input"),
            ("--max-body 1k u", "--max-body"),
            ("--circuit-time 5 u", "--circuit"),
            ("--circuit 3 --circuit-time 0 u", "--circuit-time"),
            ("--demo --deny-private", "--deny-private"),
            ("--digest --bearer t u", "--bearer"),
            ("-n --netrc-file f u", "--netrc"),
            ("-b a=\u{7} u", "--cookie"),
            ("-F nothing u", "--form"),
            ("--form-string nothing u", "--form-string"),
            ("-F a=b;c u", "--form"),
            ("-F a=b -d c u", "--data"),
            ("-F a=b --data-urlencode c u", "--data-urlencode"),
            ("-F a=b -I u", "--head"),
            ("--form-string a=b -I u", "--head"),
            ("--data-urlencode c -I u", "--head"),
            ("-T f -I u", "--head"),
            ("-T f -d c u", "--data"),
            ("-T f -F a=b u", "--form"),
            ("--expect100-timeout soon u", "--expect100-timeout"),
        ] {
            let line = parse(words).err().unwrap();
            assert!(line.contains(named) && !line.contains('\n'), "{words}: {line}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_not_repeated() {
        for words in [
            "-u canary u",
            "--user=canary u",
            "-H canary u",
            "-H Bearer:canary\u{1} u",
            "-HAuthorization:Bearer\u{1}canary u",
            "--bearer canary\u{7} u",
            "-x http://user:canary@h:x u",
            "-b a=canary\u{7} u",
            "-F canary u",
            "-F a=canary;type=canary u",
            "--form-string canary u",
        ] {
            let line = parse(words).err().unwrap();
            assert!(line.contains("--") && !line.contains("canary"), "{words}: {line}");
        }
    }

    #[test]
    fn the_options_are_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
