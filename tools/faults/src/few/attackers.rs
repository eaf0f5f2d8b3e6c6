//! A few addresses with many connections: one thread that is cheap, because the server must not starve for
//! the attackers' work.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use cubesync_protocol::{ClientMessage, Hello, Message};
use rustix::process::setpriority_process;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::harness::encryption::Encryption;
use crate::harness::light_client::LightClient;
use crate::harness::namespace::enter;
use crate::harness::websocket;

/// What does not connect or answer in this time does not do it any more.
const PATIENCE: Duration = Duration::from_secs(5);
/// The wait of a connection that was refused before it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How nice the attackers are to everybody else on this machine, where they stand for other machines.
const NICE: i32 = 5;
/// A receive buffer that is soon full.
const SMALL_BUFFER_BYTES: u32 = 4 * 1024;

/// A connection of any kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The way by which a player comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Tcp,
    WebSocket,
    Tls,
    TlsWebSocket,
}

impl Way {
    fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::TlsWebSocket)
    }

    fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::TlsWebSocket)
    }
}

/// Counts of what the attackers have achieved, by name.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    pub(super) fn add(&self, what: &'static str, count: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += count;
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }
}

/// What all attackers know.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Their addresses.
    pub(super) sources: Vec<IpAddr>,
    /// The server's addresses for clients and for pages, as they see it.
    pub(super) tcp: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) tally: Arc<Tally>,
    pub(super) encryption: Option<Encryption>,
}

impl Plan {
    /// Does `once` again and again on `connections` connections at a time from each address.
    pub(super) fn each<F>(&self, connections: usize, once: fn(Attacker) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        for &source in &self.sources {
            for _ in 0..connections {
                let attacker = Attacker {
                    plan: self.clone(),
                    source,
                };
                tokio::spawn(async move {
                    loop {
                        if once(attacker.clone()).await.is_err() {
                            attacker.tally("failed", 1);
                            sleep(RETRY).await;
                        }
                    }
                });
            }
        }
    }

    /// Does the same on at most `in_all` connections together: in one room each of them is a reader of
    /// everybody's motion, which is a load by itself.
    pub(super) fn each_of<F>(&self, in_all: usize, connections: usize, once: fn(Attacker) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let share = in_all.div_ceil(self.sources.len());
        self.each(connections.min(share), once);
    }
}

/// One connection of an attacker.
#[derive(Debug, Clone)]
pub(super) struct Attacker {
    pub(super) plan: Plan,
    pub(super) source: IpAddr,
}

impl Attacker {
    pub(super) fn tally(&self, what: &'static str, count: u64) {
        self.plan.tally.add(what, count);
    }

    /// Connects from the attacker's address.
    pub(super) async fn dial(&self, server: SocketAddr) -> Result<TcpStream> {
        self.connect(server, None).await
    }

    /// Connects with a receive buffer that is soon full.
    pub(super) async fn dial_tight(&self, server: SocketAddr) -> Result<TcpStream> {
        self.connect(server, Some(SMALL_BUFFER_BYTES)).await
    }

    async fn connect(&self, server: SocketAddr, buffer: Option<u32>) -> Result<TcpStream> {
        let socket = match server {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if server.is_ipv6() {
            // An address of a whole local network does not count as this machine's own.
            SockRef::from(&socket).set_freebind_v6(true)?;
        }
        if let Some(len_bytes) = buffer {
            socket.set_recv_buffer_size(len_bytes)?;
        }
        socket.bind(SocketAddr::new(self.source, 0))?;
        let stream = timeout(PATIENCE, socket.connect(server)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Connects to the port for pages and sends a request.
    pub(super) async fn request(&self, target: &str) -> Result<TcpStream> {
        let mut stream = self.dial_tight(self.plan.http).await?;
        stream.write_all(&self.head(target)).await?;
        self.tally("requests", 1);
        Ok(stream)
    }

    /// Returns a request for a page.
    pub(super) fn head(&self, target: &str) -> Vec<u8> {
        format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.plan.http).into_bytes()
    }

    /// Joins over TCP.
    pub(super) async fn join(&self, hello: Hello) -> Result<Joined> {
        let stream = self.dial(self.plan.tcp).await?;
        let mut client = LightClient::over(stream, self.plan.tcp, false).await?;
        let welcome = timeout(PATIENCE, client.join(hello)).await??;
        self.tally("joins", 1);
        Ok(Joined { client, welcome })
    }

    /// Connects by any way with a small receive buffer and says `hello`.
    pub(super) async fn greet(&self, way: Way, hello: Hello) -> Result<Greeted> {
        let server = match way.is_websocket() {
            true => self.plan.http,
            false => self.plan.tcp,
        };
        let tcp = self.dial_tight(server).await?;
        let mut stream: Box<dyn Stream> = match &self.plan.encryption {
            Some(encryption) if way.is_encrypted() => {
                Box::new(timeout(PATIENCE, encryption.connect(tcp)).await??)
            }
            None if way.is_encrypted() => bail!("the server does not encrypt"),
            _ => Box::new(tcp),
        };
        if way.is_websocket() {
            let request = websocket::upgrade(server, websocket::RIGHT_HEADERS);
            stream.write_all(request.as_bytes()).await?;
            let head = timeout(PATIENCE, read_head(&mut stream)).await??;
            ensure!(head.starts_with(b"HTTP/1.1 101"), "no WebSocket");
        }
        let mut greeted = Greeted { stream, way };
        greeted.send(&ClientMessage::Hello(hello)).await?;
        self.tally("greetings", 1);
        Ok(greeted)
    }
}

/// A connection by any way after the greeting. What comes is not understood.
pub(super) struct Greeted {
    pub(super) stream: Box<dyn Stream>,
    way: Way,
}

impl Greeted {
    /// Sends a message.
    pub(super) async fn send(&mut self, message: &ClientMessage) -> Result<()> {
        let frame = message.to_frame();
        match self.way.is_websocket() {
            true => {
                let frame = websocket::ws_frame(websocket::BINARY, &frame);
                self.stream.write_all(&frame).await?;
            }
            false => self.stream.write_all(&frame).await?,
        }
        // TLS keeps what it cannot write.
        Ok(self.stream.flush().await?)
    }
}

/// A player who has joined.
pub(super) struct Joined {
    pub(super) client: LightClient,
    pub(super) welcome: cubesync_protocol::Welcome,
}

/// Reads byte by byte to the end of a response's head.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Result<BytesMut> {
    let mut head = BytesMut::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await?;
        head.extend_from_slice(&[byte]);
    }
    Ok(head)
}

/// Closes a connection by a reset.
pub(super) fn reset(stream: &TcpStream) -> Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}

/// The attackers at work, on a thread of their own outside. Dropping it closes their connections.
#[derive(Debug)]
pub(super) struct AtWork {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl AtWork {
    /// Lets attackers begin.
    pub(super) fn start(outside: &str, plan: Plan, attack: fn(&Plan)) -> Self {
        let (stop, stopped) = oneshot::channel();
        let outside = outside.to_owned();
        let thread = std::thread::spawn(move || {
            enter(&outside)?;
            setpriority_process(None, NICE).context("the attackers cannot be nice")?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                attack(&plan);
                // The sender is dropped at the end.
                let _ = stopped.await;
            });
            Ok(())
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Ends the attack, and returns what kept the attackers from it.
    pub(super) fn stop(mut self) -> Result<()> {
        self.stop = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            _ => bail!("the attackers panicked"),
        }
    }
}
