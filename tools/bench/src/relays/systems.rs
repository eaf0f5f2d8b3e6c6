//! The systems that are compared, and how each is started.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use cubesync_harness::programs::{build_command, file_name, find_installed, free_address};

use crate::process::Server;
use crate::serve::ANNOUNCEMENT;

/// Faster than any motion: the server checks every sample and accepts it.
const MAX_SPEED_MPS: &str = "1000000";

/// A system that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// cubesync's server.
    Ours,
    /// The bare writes of as many bytes as cubesync's.
    Floor,
    /// tokio broadcast + bincode, one message each.
    Naive,
    /// axum WebSocket + JSON, one message each.
    Websocket,
    /// nats-server.
    Nats,
    /// redis-server, pub/sub.
    Redis,
    /// mosquitto (MQTT), QoS 0.
    Mosquitto,
}

impl System {
    /// Returns the name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "cubesync",
            Self::Floor => "write floor",
            Self::Naive => "tokio broadcast + bincode",
            Self::Websocket => "axum WebSocket + JSON",
            Self::Nats => "nats-server",
            Self::Redis => "redis pub/sub",
            Self::Mosquitto => "mosquitto",
        }
    }

    /// Returns whether the system has a view distance; the floor writes as much as cubesync.
    pub(crate) fn has_interest(self) -> bool {
        matches!(self, Self::Ours | Self::Floor)
    }

    /// Returns whether the system is installed.
    pub(crate) fn is_installed(self) -> bool {
        let program = match self {
            Self::Nats => "nats-server",
            Self::Redis => "redis-server",
            Self::Mosquitto => "mosquitto",
            _ => return true,
        };
        find_installed(program).is_some()
    }
}

/// The settings of a server for a run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The path of cubesync's server program.
    pub(crate) program: PathBuf,
    /// Further arguments for it.
    pub(crate) arguments: Vec<String>,
    /// Number of clients.
    pub(crate) clients: usize,
    /// Ticks per second.
    pub(crate) hz: u32,
    /// The view distance of cubesync's clients in metres; `None` if they see everything.
    pub(crate) view_distance_m: Option<f32>,
    /// Number of bytes that cubesync wrote to a client at each tick, for the floor.
    pub(crate) tick_bytes: usize,
    /// Number of updates in these bytes.
    pub(crate) tick_updates: usize,
}

/// Starts a system's server.
pub(crate) fn start(system: System, setup: &Setup) -> Result<Server> {
    match system {
        System::Ours => start_ours(setup),
        System::Naive => start_own("naive", &[]),
        System::Websocket => start_own("websocket", &[]),
        System::Floor => start_own(
            "floor",
            &[
                format!("--clients={}", setup.clients),
                format!("--hz={}", setup.hz),
                format!("--bytes={}", setup.tick_bytes),
            ],
        ),
        System::Nats => {
            let address = free_address()?;
            let mut command = installed("nats-server")?;
            command.args(["--addr", "127.0.0.1", "--port", &address.port().to_string()]);
            Server::start_at(&mut command, address)
        }
        System::Redis => {
            let address = free_address()?;
            let mut command = installed("redis-server")?;
            command
                .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
                .args(["--save", "", "--appendonly", "no"])
                // The default cuts a subscriber that is 32 MB behind: the run would be over.
                .args(["--client-output-buffer-limit", "pubsub 0 0 0"])
                .args(["--maxclients", &(setup.clients + 100).to_string()]);
            Server::start_at(&mut command, address)
        }
        System::Mosquitto => start_mosquitto(),
    }
}

/// Starts cubesync's server.
pub(crate) fn start_ours(setup: &Setup) -> Result<Server> {
    let view_distance = setup.view_distance_m;
    let view_distance = view_distance.map(|metres| format!("--view-distance={metres}"));
    let pages = free_address()?;
    let mut command = Command::new(&setup.program);
    command
        .args(["--listen", "127.0.0.1:0", "--http", &pages.to_string()])
        .args(["--tick", &setup.hz.to_string()])
        .args(["--max-speed", MAX_SPEED_MPS])
        .args(view_distance)
        .args(&setup.arguments)
        // Players alone, as the other systems have them.
        .env("CUBESYNC_CUBES", "0")
        // A line for each of thousands of joins would be measured as well.
        .env("CUBESYNC_LOG", "warn");
    let mut server = Server::start_announced(&mut command, "clients ")?;
    server.pages = Some(pages);
    Ok(server)
}

fn start_own(baseline: &str, arguments: &[String]) -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", baseline]).args(arguments);
    Server::start_announced(&mut command, ANNOUNCEMENT)
}

fn start_mosquitto() -> Result<Server> {
    let address = free_address()?;
    // It reads its settings from files only.
    let settings = std::env::temp_dir().join(format!("cubesync-bench-{}.conf", address.port()));
    std::fs::write(&settings, mosquitto_settings(address))?;
    let mut command = installed("mosquitto")?;
    let server = Server::start_at(command.arg("-c").arg(&settings), address);
    std::fs::remove_file(&settings)?;
    server
}

fn mosquitto_settings(address: SocketAddr) -> String {
    format!(
        "listener {} {}\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
         log_dest none\n",
        address.port(),
        address.ip()
    )
}

/// Returns a command for a program that must be installed.
pub(crate) fn installed(name: &str) -> Result<Command> {
    let program = find_installed(name).with_context(|| format!("{name} is not installed"))?;
    Ok(Command::new(program))
}

/// Builds cubesync's server in the release profile, beside this program, and returns its path.
pub(crate) fn build_server() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find out where this program lies")?;
    let folder = own.parent().context("this program lies in no folder")?;
    let target = folder
        .parent()
        .context("this program lies in no target folder")?;
    let status = build_command(&["cubesync-server"], true)
        .arg("--target-dir")
        .arg(target)
        .status()
        .context("cannot start cargo; give a built server with --server")?;
    if !status.success() {
        bail!("the server does not build; give a built one with --server");
    }
    Ok(target.join("release").join(file_name("cubesync-server")))
}
