//! The backends of `chardev-add`, and what they are as options of `-chardev`.
//!
//! Source: QEMU `qapi/char.json`, `qapi/sockets.json`.

use qapi::sockets::{FdName, InetSocketAddress, UnixSocketAddress};
use qapi::{QapiType, Wrapper};

/// Names and values, as `-chardev` takes them.
type Options = Vec<(String, String)>;

fn add(options: &mut Options, name: &str, value: impl ToString) {
    options.push((name.to_owned(), value.to_string()));
}

fn add_flag(options: &mut Options, name: &str, value: Option<bool>) {
    if let Some(value) = value {
        add(options, name, if value { "on" } else { "off" });
    }
}

fn add_some(options: &mut Options, name: &str, value: &Option<impl ToString>) {
    if let Some(value) = value {
        add(options, name, value.to_string());
    }
}

/// What goes with any backend.
#[derive(QapiType)]
pub struct ChardevCommon {
    logfile: Option<String>,
    logappend: Option<bool>,
}

impl ChardevCommon {
    fn put(&self, options: &mut Options) {
        add_some(options, "logfile", &self.logfile);
        add_flag(options, "logappend", self.logappend);
    }
}

/// A file.
#[derive(QapiType)]
pub struct ChardevFile {
    #[qapi(flatten)]
    common: ChardevCommon,
    r#in: Option<String>,
    out: String,
    append: Option<bool>,
}

/// A device of the host.
#[derive(QapiType)]
pub struct ChardevHostdev {
    #[qapi(flatten)]
    common: ChardevCommon,
    device: String,
}

/// Where a socket is.
#[derive(QapiType)]
#[qapi(name = "SocketAddressLegacy", tag = "type", tag_type = "SocketAddressType")]
pub enum SocketAddressLegacy {
    /// TCP or UDP.
    Inet(Wrapper<InetSocketAddress>),
    /// A path.
    Unix(Wrapper<UnixSocketAddress>),
    /// A descriptor that the program was started with.
    Fd(Wrapper<FdName>),
}

/// A stream socket.
#[derive(QapiType)]
pub struct ChardevSocket {
    #[qapi(flatten)]
    common: ChardevCommon,
    addr: SocketAddressLegacy,
    tls_creds: Option<String>,
    tls_authz: Option<String>,
    server: Option<bool>,
    wait: Option<bool>,
    nodelay: Option<bool>,
    telnet: Option<bool>,
    tn3270: Option<bool>,
    websocket: Option<bool>,
    reconnect: Option<i64>,
}

impl ChardevSocket {
    fn put(&self, options: &mut Options) {
        match &self.addr {
            SocketAddressLegacy::Inet(Wrapper { data }) => {
                add(options, "host", &data.host);
                add(options, "port", &data.port);
                add_some(options, "to", &data.to);
                add_flag(options, "ipv4", data.ipv4);
                add_flag(options, "ipv6", data.ipv6);
            }
            SocketAddressLegacy::Unix(Wrapper { data }) => {
                add(options, "path", &data.path);
                add_flag(options, "abstract", data.r#abstract);
                add_flag(options, "tight", data.tight);
            }
            SocketAddressLegacy::Fd(Wrapper { data }) => add(options, "fd", &data.str),
        }
        add_some(options, "tls-creds", &self.tls_creds);
        add_some(options, "tls-authz", &self.tls_authz);
        let server = self.server.unwrap_or(true);
        add_flag(options, "server", Some(server));
        // Unlike the option, the command does not wait where nobody says so.
        add_flag(options, "wait", self.wait.or(server.then_some(false)));
        add_flag(options, "nodelay", self.nodelay);
        add_flag(options, "telnet", self.telnet);
        add_flag(options, "tn3270", self.tn3270);
        add_flag(options, "websocket", self.websocket);
        add_some(options, "reconnect", &self.reconnect);
    }
}

/// Datagrams.
#[derive(QapiType)]
pub struct ChardevUdp {
    #[qapi(flatten)]
    common: ChardevCommon,
    remote: SocketAddressLegacy,
    local: Option<SocketAddressLegacy>,
}

impl ChardevUdp {
    fn put(&self, options: &mut Options) -> qom::Result<()> {
        let inet = |address: &SocketAddressLegacy| match address {
            SocketAddressLegacy::Inet(Wrapper { data }) => Ok((data.host.clone(), data.port.clone())),
            _ => qom::bail!("socket family unsupported"),
        };
        let (host, port) = inet(&self.remote)?;
        add(options, "host", host);
        add(options, "port", port);
        if let Some(local) = &self.local {
            let (host, port) = inet(local)?;
            add(options, "localaddr", host);
            add(options, "localport", port);
        }
        Ok(())
    }
}

/// Several frontends on one backend.
#[derive(QapiType)]
pub struct ChardevMux {
    #[qapi(flatten)]
    common: ChardevCommon,
    chardev: String,
}

/// The program's own terminal.
#[derive(QapiType)]
pub struct ChardevStdio {
    #[qapi(flatten)]
    common: ChardevCommon,
    signal: Option<bool>,
}

/// Output that is kept for `ringbuf-read`.
#[derive(QapiType)]
pub struct ChardevRingbuf {
    #[qapi(flatten)]
    common: ChardevCommon,
    size: Option<i64>,
}

/// A backend.
#[derive(QapiType)]
#[qapi(name = "ChardevBackend", tag = "type", tag_type = "ChardevBackendKind")]
pub enum ChardevBackend {
    /// Output to a file, input from another.
    File(Wrapper<ChardevFile>),
    /// A serial port of the host.
    Serial(Wrapper<ChardevHostdev>),
    /// Two named pipes.
    Pipe(Wrapper<ChardevHostdev>),
    /// A stream socket.
    Socket(Wrapper<ChardevSocket>),
    /// Datagrams.
    Udp(Wrapper<ChardevUdp>),
    /// A pseudo-terminal.
    Pty(Wrapper<ChardevCommon>),
    /// Nothing.
    Null(Wrapper<ChardevCommon>),
    /// Several frontends on one backend.
    Mux(Wrapper<ChardevMux>),
    /// The program's own terminal.
    Stdio(Wrapper<ChardevStdio>),
    /// Output that is kept.
    Ringbuf(Wrapper<ChardevRingbuf>),
    /// The same by an older name.
    Memory(Wrapper<ChardevRingbuf>),
}

impl ChardevBackend {
    /// As options of `-chardev`.
    ///
    /// # Errors
    /// A combination that no option stands for.
    pub fn options(&self) -> qom::Result<Options> {
        let mut options = Options::new();
        let to = &mut options;
        let (name, common) = match self {
            Self::File(Wrapper { data }) => {
                add(to, "path", &data.out);
                add_some(to, "input-path", &data.r#in);
                add_flag(to, "append", data.append);
                ("file", &data.common)
            }
            Self::Serial(Wrapper { data }) => {
                add(to, "path", &data.device);
                ("serial", &data.common)
            }
            Self::Pipe(Wrapper { data }) => {
                add(to, "path", &data.device);
                ("pipe", &data.common)
            }
            Self::Socket(Wrapper { data }) => {
                data.put(to);
                ("socket", &data.common)
            }
            Self::Udp(Wrapper { data }) => {
                data.put(to)?;
                ("udp", &data.common)
            }
            Self::Pty(Wrapper { data }) => ("pty", data),
            Self::Null(Wrapper { data }) => ("null", data),
            Self::Mux(Wrapper { data }) => {
                add(to, "chardev", &data.chardev);
                ("mux", &data.common)
            }
            Self::Stdio(Wrapper { data }) => {
                add_flag(to, "signal", data.signal);
                ("stdio", &data.common)
            }
            Self::Ringbuf(Wrapper { data }) | Self::Memory(Wrapper { data }) => {
                add_some(to, "size", &data.size);
                ("ringbuf", &data.common)
            }
        };
        add(to, "backend", name);
        common.put(to);
        Ok(options)
    }
}
