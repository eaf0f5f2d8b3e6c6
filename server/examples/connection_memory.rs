//! What a connection costs the server in resident memory, encrypted and not: one that has only
//! connected, and one of a player who stands in a room and says nothing.
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
use cubesync_protocol::{ClientMessage, Colour, Hello, Message};
use cubesync_server::Config;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

const CONNECTIONS: usize = 2_000;
const SETTLES_WITHIN: Duration = Duration::from_secs(2);
/// Nobody is cut while it is measured.
const FLAGS: [&str; 10] = [
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
];

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<Any: AsyncRead + AsyncWrite + Send + Unpin> Stream for Any {}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "serve") {
        let config = Config::parse_from(arguments.iter().skip(1));
        let tell = |addresses: cubesync_server::Addresses| println!("{}", addresses.tcp);
        return Ok(cubesync_server::run(config, Default::default(), tell).await?);
    }
    let folder = std::env::temp_dir().join(format!("cubesync-memory-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    println!("KiB of resident memory for each of {CONNECTIONS} connections");
    println!("            connected   joined and idle");
    for is_encrypted in [false, true] {
        let measured = measure(is_encrypted.then_some(&*folder)).await?;
        let label = if is_encrypted { "TLS" } else { "TCP" };
        println!("{label:<10} {:>10.1} {:>17.1}", measured[0], measured[1]);
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// KiB of a connection that has only connected, and of one whose player stands in a room.
async fn measure(folder: Option<&Path>) -> Result<[f64; 2]> {
    let mut server = Command::new(std::env::current_exe()?);
    server.arg("serve").args(FLAGS);
    let certificate = folder.map(|folder| folder.join("cert.pem"));
    if let (Some(folder), Some(certificate)) = (folder, &certificate) {
        server.arg("--tls-self-signed").arg("--tls-cert");
        server
            .arg(certificate)
            .arg("--tls-key")
            .arg(folder.join("key.pem"));
    }
    let mut server = server.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = server.stdout.take().context("it is piped")?;
    let line = BufReader::new(output).lines().next_line().await?;
    let address = line.context("the server ended")?.parse()?;
    let connector = certificate.as_deref().map(connector).transpose()?;

    // What the first connections bring with them is not theirs.
    let _warm = connect(10, address, &connector).await?;
    let before = resident_kib(&server)?;
    let mut connections = connect(CONNECTIONS, address, &connector).await?;
    let connected = settled_kib(&server).await?;
    let mut reading = JoinSet::new();
    let (joined, mut all) = tokio::sync::mpsc::channel(CONNECTIONS);
    for mut stream in connections.drain(..) {
        let hello = Hello::new(
            "idle",
            "Anna",
            Colour {
                red: 0,
                green: 0,
                blue: 0,
            },
        );
        stream
            .write_all(&ClientMessage::Hello(hello).to_frame())
            .await?;
        stream.flush().await?;
        let joined = joined.clone();
        reading.spawn(async move {
            let mut bytes = vec![0; 16 * 1024];
            // The first answer is the welcome; what follows is read so that nobody is slow.
            while matches!(stream.read(&mut bytes).await, Ok(1..)) {
                let _ = joined.try_send(());
            }
        });
        all.recv().await;
    }
    let idle = settled_kib(&server).await?;
    Ok([connected, idle].map(|kib| (kib - before) / CONNECTIONS as f64))
}

async fn connect(
    count: usize,
    address: SocketAddr,
    connector: &Option<TlsConnector>,
) -> Result<Vec<Box<dyn Stream>>> {
    let mut streams: Vec<Box<dyn Stream>> = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push(match connector {
            None => Box::new(stream),
            Some(connector) => {
                let name = ServerName::IpAddress(address.ip().into());
                Box::new(connector.connect(name, stream).await?)
            }
        });
    }
    Ok(streams)
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
