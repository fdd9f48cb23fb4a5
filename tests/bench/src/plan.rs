//! What a client is to do: the same words for each of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Failure;
use crate::gate::Gate;

/// `CLIENT key=value…`.
pub struct Plan {
    /// Which of a program's clients.
    pub client: String,
    words: HashMap<String, String>,
}

impl Plan {
    pub fn from_args() -> Result<Self, Failure> {
        let mut args = std::env::args().skip(1);
        let client = args.next().unwrap_or_default();
        let mut words = HashMap::new();
        for arg in args {
            let (key, value) = arg.split_once('=').ok_or_else(|| format!("no value: {arg}"))?;
            words.insert(key.to_owned(), value.to_owned());
        }
        Ok(Self { client, words })
    }

    /// The value of `key`, where it is given.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.words.get(key).map(String::as_str)
    }

    pub fn number<T: FromStr>(&self, key: &str, default: T) -> Result<T, Failure> {
        let Some(word) = self.get(key) else { return Ok(default) };
        word.parse().map_err(|_| format!("{key}={word}").into())
    }

    pub fn is_set(&self, key: &str) -> bool {
        self.get(key).is_some_and(|word| word != "0")
    }

    /// Requests in all.
    pub fn requests(&self) -> Result<u64, Failure> {
        self.number("requests", 1)
    }

    /// Requests in flight.
    pub fn at_once(&self) -> Result<u64, Failure> {
        self.number("at_once", 1)
    }

    pub fn url(&self) -> Result<&str, Failure> {
        self.get("url").ok_or_else(|| "url=".into())
    }

    /// Host and port of the URL, as they stand in it.
    pub fn authority(&self) -> Result<&str, Failure> {
        let url = self.url()?;
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        Ok(rest.split('/').next().unwrap_or(rest))
    }

    /// The URL's host is an address.
    pub fn address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.authority()?.parse()?)
    }

    pub fn is_tls(&self) -> bool {
        self.get("url").is_some_and(|url| url.starts_with("https:"))
    }

    /// The file of the authority that the origin's certificate is of.
    pub fn authority_file(&self) -> Result<PathBuf, Failure> {
        self.get("ca").map(PathBuf::from).ok_or_else(|| "ca=".into())
    }

    /// The gate, where the run is in step with the origin.
    pub fn gate(&self) -> Result<Option<Gate>, Failure> {
        Ok(self.get("gate").map(|folder| Gate::open(folder.as_ref())).transpose()?)
    }
}
