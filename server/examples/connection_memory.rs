//! Measures the resident memory that a connection costs the server, over TCP and WebSocket, encrypted
//! and not, with and without datagrams: before its hello, and when its player stands idle in a room. Then the
//! same for joins in a crowded room that never read.
//!
//! `cargo run --release -p cubesync-server --example connection_memory`

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use cubesync_protocol::{ClientMessage, Colour, DatagramRequest, Hello, Message};
use cubesync_server::{Addresses, Config};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite as ws;

const CONNECTIONS: usize = 2_000;
/// Players in one room.
const ROOM: usize = 100;
/// Players of the crowded room, and joins there that do not read.
const CROWD: usize = 2_000;
const UNREAD: usize = 500;
const SETTLES_WITHIN: Duration = Duration::from_secs(2);
/// Nobody is cut while it is measured.
const FLAGS: [&str; 12] = [
    "--listen",
    "127.0.0.1:0",
    "--http",
    "127.0.0.1:0",
    "--max-pending",
    "10000",
    "--hello-deadline",
    "10m",
    "--dead-after",
    "10m",
    "--slow-reader-after",
    "10m",
];

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<Any: AsyncRead + AsyncWrite + Send + Unpin> Stream for Any {}

/// The kind of connection that is measured.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Tcp,
    /// TCP, with a path for datagrams beside it once joined.
    TcpWithDatagrams,
    Tls,
    WebSocket,
    WebSocketOverTls,
}

impl Kind {
    fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::WebSocketOverTls)
    }

    fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::WebSocketOverTls)
    }
}

enum Connection {
    Bytes(Box<dyn Stream>),
    WebSocket(Box<WebSocketStream<Box<dyn Stream>>>),
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "serve") {
        let config = Config::parse_from(arguments.iter().skip(1));
        let tell = |Addresses { tcp, http, .. }| println!("{tcp} {http}");
        return Ok(cubesync_server::run(config, Default::default(), tell).await?);
    }
    let folder = std::env::temp_dir().join(format!("cubesync-memory-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    println!("KiB of resident memory for each of {CONNECTIONS} connections, in rooms of {ROOM}");
    println!("                   connected   joined and idle");
    for kind in [
        Kind::Tcp,
        Kind::TcpWithDatagrams,
        Kind::Tls,
        Kind::WebSocket,
        Kind::WebSocketOverTls,
    ] {
        let [connected, idle] = measure(kind, &folder).await?;
        println!("{:<17} {connected:>11.1} {idle:>17.1}", format!("{kind:?}"));
    }
    println!("KiB for each of {UNREAD} joins that read nothing, in a room of {CROWD}");
    println!("                        unread    after they have left");
    for kind in [
        Kind::Tcp,
        Kind::Tls,
        Kind::WebSocket,
        Kind::WebSocketOverTls,
    ] {
        let [unread, left] = measure_unread(kind, &folder).await?;
        println!("{:<17} {unread:>12.1} {left:>23.1}", format!("{kind:?}"));
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// A server in a process of its own.
struct Server {
    process: Child,
    tcp: SocketAddr,
    http: SocketAddr,
    connector: Option<TlsConnector>,
}

impl Server {
    async fn start(is_encrypted: bool, folder: &Path) -> Result<Self> {
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        let mut server = Command::new(std::env::current_exe()?);
        server.arg("serve").args(FLAGS);
        if is_encrypted {
            server.arg("--tls-self-signed");
            server.arg("--tls-cert").arg(&certificate);
            server.arg("--tls-key").arg(&key);
        }
        let mut process = server.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let output = process.stdout.take().context("it is piped")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let line = line.context("the server ended")?;
        let (tcp, http) = line.split_once(' ').context("no two addresses")?;
        let connector = match is_encrypted {
            true => Some(connector(&certificate)?),
            false => None,
        };
        Ok(Self {
            process,
            tcp: tcp.parse()?,
            http: http.parse()?,
            connector,
        })
    }

    async fn connect(&self, count: usize, kind: Kind) -> Result<Vec<Connection>> {
        let address = if kind.is_websocket() {
            self.http
        } else {
            self.tcp
        };
        connect(count, kind, address, &self.connector).await
    }
}

/// KiB of a connection that has only connected, and of one whose player stands in a room.
async fn measure(kind: Kind, folder: &Path) -> Result<[f64; 2]> {
    let server = Server::start(kind.is_encrypted(), folder).await?;
    // The first connections also pay for memory that the server takes once; they do not count.
    let _warm = server.connect(10, kind).await?;
    let before = settled_kib(&server.process).await?;
    let connections = server.connect(CONNECTIONS, kind).await?;
    let connected = settled_kib(&server.process).await?;
    let mut reading = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        let room = format!("idle {}", number / ROOM);
        join(connection, &room, kind, Some(&mut reading)).await?;
    }
    let idle = settled_kib(&server.process).await?;
    Ok([connected, idle].map(|kib| (kib - before) / CONNECTIONS as f64))
}

/// KiB of a join in a crowded room that reads nothing, and what is left of it after its end.
async fn measure_unread(kind: Kind, folder: &Path) -> Result<[f64; 2]> {
    let server = Server::start(kind.is_encrypted(), folder).await?;
    let crowd_kind = match kind.is_encrypted() {
        true => Kind::Tls,
        false => Kind::Tcp,
    };
    let mut reading = JoinSet::new();
    for connection in server.connect(CROWD, crowd_kind).await? {
        join(connection, "crowd", crowd_kind, Some(&mut reading)).await?;
    }
    let connections = server.connect(UNREAD, kind).await?;
    let before = settled_kib(&server.process).await?;
    let mut unread = Vec::new();
    for connection in connections {
        unread.extend(join(connection, "crowd", kind, None).await?);
    }
    let during = settled_kib(&server.process).await?;
    drop(unread);
    tokio::time::sleep(SETTLES_WITHIN * 5).await;
    let after = settled_kib(&server.process).await?;
    Ok([during, after].map(|kib| (kib - before) / UNREAD as f64))
}

async fn connect(
    count: usize,
    kind: Kind,
    address: SocketAddr,
    connector: &Option<TlsConnector>,
) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match connector {
            None => Box::new(stream),
            Some(connector) => {
                let name = ServerName::IpAddress(address.ip().into());
                Box::new(connector.connect(name, stream).await?)
            }
        };
        connections.push(match kind.is_websocket() {
            false => Connection::Bytes(stream),
            true => {
                let asked = format!("ws://{address}/ws");
                let (socket, _) = tokio_tungstenite::client_async(asked, stream).await?;
                Connection::WebSocket(Box::new(socket))
            }
        });
    }
    Ok(connections)
}

/// Joins a room. With `reading`, waits for the first answer, and reads what follows so that nobody is slow;
/// otherwise returns the connection.
async fn join(
    connection: Connection,
    room: &str,
    kind: Kind,
    reading: Option<&mut JoinSet<()>>,
) -> Result<Option<Connection>> {
    let colour = Colour::from([0, 0, 0]);
    let hello = ClientMessage::Hello(Hello::new(room, "Anna", colour)).to_frame();
    match connection {
        Connection::Bytes(mut stream) => {
            stream.write_all(&hello).await?;
            if matches!(kind, Kind::TcpWithDatagrams) {
                let request = ClientMessage::OpenDatagrams(DatagramRequest::Udp);
                stream.write_all(&request.to_frame()).await?;
            }
            stream.flush().await?;
            let Some(reading) = reading else {
                return Ok(Some(Connection::Bytes(stream)));
            };
            let mut bytes = vec![0; 16 * 1024];
            anyhow::ensure!(stream.read(&mut bytes).await? > 0, "no answer");
            reading.spawn(async move { while matches!(stream.read(&mut bytes).await, Ok(1..)) {} });
        }
        Connection::WebSocket(mut socket) => {
            socket.send(ws::Message::Binary(hello)).await?;
            let Some(reading) = reading else {
                return Ok(Some(Connection::WebSocket(socket)));
            };
            socket.next().await.context("no answer")??;
            reading.spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
        }
    }
    Ok(None)
}

fn connector(certificate: &Path) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Once everybody is accepted and the last tick has told of the joins.
async fn settled_kib(server: &Child) -> Result<f64> {
    tokio::time::sleep(SETTLES_WITHIN).await;
    resident_kib(server)
}

fn resident_kib(server: &Child) -> Result<f64> {
    let process = server.id().context("the server ended")?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = field.and_then(|field| field.split_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse()?)
}
