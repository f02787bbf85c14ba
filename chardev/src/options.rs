//! The options of a chardev (qemu_chardev_opts).

use util::cutils::{SizeUnit, parse_bool, strtosz, strtou64};

use util::sockets::{InetSocketAddress, SocketAddress, UnixSocketAddress};

use crate::error::ChardevError;

/// What to make a chardev from: the words of `-chardev`, or those that `-serial` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChardevSpec {
    /// The id.
    pub id: String,
    /// Keys and values; of a key given twice the later counts.
    pub options: Vec<(String, String)>,
}

impl ChardevSpec {
    /// Whether the chardev is a multiplexer: where `-serial mon:…` asked for it, a human monitor is to be
    /// put on it as well.
    #[must_use]
    pub fn is_mux(&self) -> bool {
        let mux = self.options.iter().rfind(|(key, _)| key == "mux");
        mux.is_some_and(|(_, value)| parse_bool(value) == Some(true))
    }
}

/// The keys that some backend of QEMU takes.
const KNOWN: &[&str] = &[
    "backend",
    "path",
    "input-path",
    "host",
    "port",
    "fd",
    "localaddr",
    "localport",
    "to",
    "ipv4",
    "ipv6",
    "wait",
    "server",
    "delay",
    "nodelay",
    "reconnect",
    "telnet",
    "tn3270",
    "tls-creds",
    "tls-authz",
    "websocket",
    "width",
    "height",
    "cols",
    "rows",
    "mux",
    "signal",
    "name",
    "debug",
    "size",
    "chardev",
    "append",
    "logfile",
    "logappend",
    "mouse",
    "clipboard",
    "tight",
    "abstract",
];

/// The keys that go with any backend.
const COMMON: &[&str] = &["backend", "mux", "logfile", "logappend"];

/// The options of one chardev.
pub(crate) struct Options<'a>(&'a [(String, String)]);

impl<'a> Options<'a> {
    pub fn new(list: &'a [(String, String)]) -> Result<Self, ChardevError> {
        match list.iter().find(|(key, _)| !KNOWN.contains(&key.as_str())) {
            Some((key, _)) => Err(ChardevError::options(format!("Invalid parameter '{key}'"))),
            None => Ok(Options(list)),
        }
    }

    /// Refuses what `backend` has no use for (QEMU ignores it).
    pub fn check(&self, backend: &str, keys: &[&str]) -> Result<(), ChardevError> {
        let known = |key: &str| COMMON.contains(&key) || keys.contains(&key);
        match self.0.iter().find(|(key, _)| !known(key)) {
            Some((key, _)) => Err(ChardevError::options(format!(
                "Parameter '{key}' is not supported by chardev backend '{backend}'"
            ))),
            None => Ok(()),
        }
    }

    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, ChardevError> {
        self.parsed(key, "'on' or 'off'", parse_bool)
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>, ChardevError> {
        self.parsed(key, "a number", |text| strtou64(text, 0).ok())
    }

    pub fn size(&self, key: &str) -> Result<Option<u64>, ChardevError> {
        let expected = "a non-negative number below 2^64";
        self.parsed(key, expected, |text| strtosz(text, SizeUnit::Bytes).ok())
    }

    /// A host and port, with the families that the options allow.
    pub fn inet(&self, host: &str, port: &str) -> Result<InetSocketAddress, ChardevError> {
        Ok(InetSocketAddress::new(host, port, self.flag("ipv4")?, self.flag("ipv6")?)?)
    }

    /// The address of a stream socket: `path`, `fd`, or `host` and `port`.
    pub fn address(&self) -> Result<SocketAddress, ChardevError> {
        let (path, fd, host) = (self.get("path"), self.get("fd"), self.get("host"));
        match (path, fd, host) {
            (Some(path), None, None) => Ok(SocketAddress::Unix(UnixSocketAddress {
                path: path.to_owned(),
                is_abstract: self.flag("abstract")?.unwrap_or(false),
                tight: self.flag("tight")?.unwrap_or(true),
            })),
            (None, fd, None) => Ok(SocketAddress::Fd(fd.unwrap_or_default().to_owned())),
            (None, None, Some(host)) => {
                let port = self.get("port");
                let port = port.ok_or_else(|| ChardevError::options("chardev: socket: no port given"))?;
                let mut address = self.inet(host, port)?;
                let to = self.number("to")?;
                let range = || ChardevError::options("Parameter 'to' expects a port number");
                address.to = to.map(u16::try_from).transpose().map_err(|_| range())?;
                Ok(SocketAddress::Inet(address))
            }
            _ => Err(ChardevError::options("None or one of 'path', 'fd' or 'host' option required.")),
        }
    }

    fn parsed<T>(
        &self,
        key: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ChardevError> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let value = parse(text);
        let error = || ChardevError::options(format!("Parameter '{key}' expects {expected}"));
        value.map(Some).ok_or_else(error)
    }
}
