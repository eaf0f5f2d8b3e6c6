//! Servers to compare with, as modes of this program: each runs in a process of its own, so that
//! its CPU can be measured alone.

mod floor;
mod naive;
mod websocket;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use clap::Subcommand;
use tokio::net::TcpListener;

/// The text before the address that a server prints.
pub(crate) const ANNOUNCEMENT: &str = "listening on";

/// Number of updates that a reader may be behind before it misses some.
const BROADCAST_CAPACITY: usize = 4_096;

/// The baseline servers.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Baseline {
    /// tokio, a task per connection, a broadcast channel, one bincode message an update.
    Naive,
    /// axum's WebSocket, a task per connection, a broadcast channel, one JSON message an update.
    Websocket,
    /// One vectored write per client and tick, and nothing else.
    Floor {
        /// Number of clients to wait for.
        #[arg(long)]
        clients: usize,
        /// Ticks per second.
        #[arg(long)]
        hz: u32,
        /// Number of bytes of each write.
        #[arg(long)]
        bytes: usize,
    },
}

/// Serves until the standard input ends: its other end is held by the program that measures.
pub(crate) fn run(baseline: &Baseline) -> Result<()> {
    std::thread::spawn(|| {
        let mut input = Vec::new();
        // However it ends, nobody is there any more.
        let _ = std::io::stdin().read_to_end(&mut input);
        std::process::exit(0);
    });
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
    };
    match *baseline {
        Baseline::Naive => runtime()?.block_on(naive::serve()),
        Baseline::Websocket => runtime()?.block_on(websocket::serve()),
        Baseline::Floor { clients, hz, bytes } => floor::serve(clients, hz, bytes),
    }
}

async fn listen() -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    announce(listener.local_addr()?);
    Ok(listener)
}

fn announce(address: SocketAddr) {
    println!("{ANNOUNCEMENT} {address}");
}
