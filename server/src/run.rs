//! The server's life: starting, serving, stopping.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::bind::{bind, bind_udp};
use crate::cluster::BusConnection;
#[cfg(feature = "cluster")]
use crate::cluster::Neighbours;
use crate::config::Config;
use crate::control::{BanFile, ControlSocket};
use crate::datagram::{self, Datagrams};
use crate::hangup::reload_on_hangup;
use crate::memory::give_back_unused;
use crate::metrics::{Listener, ServerMetrics};
use crate::once::Once;
use crate::players::Refusals;
use crate::replay::Replay;
use crate::shared::{Addresses, Shared};
use crate::start_error::StartError;
use crate::tls::Tls;
use crate::watch::Watches;
use crate::world::WorldFile;
use crate::{control, http, listener, players, recorder, text};
use cubesync_relay::contain::contain;
use cubesync_relay::datagram::DatagramPaths;
use cubesync_relay::ending::Ending;
use cubesync_relay::host::Host;
use cubesync_relay::mechanics::Field;
use cubesync_relay::metrics::{Metrics, Task};
use cubesync_relay::pace::Pace;
use cubesync_relay::places::Places;
use cubesync_relay::room::backplane::Alone;
use cubesync_relay::rooms::DEFAULT_ROOM;
use cubesync_relay::session::{OtherPorts, tcp};

/// Largest number of text clients. Each keeps a copy of its room, so that their memory grows with the square
/// of their number; the port is for a few people with a terminal.
const MAX_TEXT_CLIENTS: usize = 256;

/// The same for one address.
const MAX_TEXT_CLIENTS_PER_ADDRESS: usize = 8;

/// Time that remaining connections have after the drain.
const AFTER_DRAIN: Duration = Duration::from_secs(2);

/// Opens rooms without listeners, whose players may use the ways of `datagrams`. The configuration's
/// addresses, recordings and encryption have no effect. Must be called inside a tokio runtime.
pub fn host(
    config: &Config,
    datagrams: Option<Arc<dyn DatagramPaths>>,
    shutdown: CancellationToken,
) -> Host {
    let (metrics, tasks) = (Metrics::default(), TaskTracker::new());
    let alone = Arc::new(Alone);
    Host::new(
        config.host_settings(),
        alone,
        datagrams,
        metrics,
        tasks,
        shutdown,
    )
}

/// Opens rooms without listeners as one of several that meet on a bus and show the same rooms.
#[cfg(feature = "cluster")]
pub fn host_on_bus(
    config: &Config,
    bus: Arc<dyn cubesync_cluster::bus::Bus>,
    datagrams: Option<Arc<dyn DatagramPaths>>,
    shutdown: CancellationToken,
) -> Host {
    let (metrics, tasks) = (Metrics::default(), TaskTracker::new());
    let listening = [config.listen, config.http];
    let neighbours = Neighbours::join(bus, config, listening, &metrics, &tasks, &shutdown);
    let backplane = neighbours.backplane();
    Host::new(
        config.host_settings(),
        backplane,
        datagrams,
        metrics,
        tasks,
        shutdown,
    )
}

/// Runs a server until `shutdown` is cancelled, then closes all connections with a message. Calls
/// `on_ready` once everything listens, with the actual ports where the configuration has port 0.
///
/// # Errors
/// [`StartError`] if the server cannot start.
pub fn run(
    config: Config,
    shutdown: CancellationToken,
    on_ready: impl FnOnce(Addresses) + Send + 'static,
) -> Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>> {
    boxed(config, shutdown, Box::new(on_ready))
}

/// Boxes the server's future, so that it is compiled once, here, and not with each program and test
/// that polls it.
#[inline(never)]
fn boxed(
    config: Config,
    shutdown: CancellationToken,
    on_ready: Box<dyn FnOnce(Addresses) + Send>,
) -> Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>> {
    Box::pin(serve(config, shutdown, on_ready))
}

async fn serve(
    mut config: Config,
    shutdown: CancellationToken,
    on_ready: Box<dyn FnOnce(Addresses) + Send>,
) -> Result<(), StartError> {
    let (metrics, tasks) = (Metrics::default(), TaskTracker::new());
    let opening = open(&mut config, &metrics);
    let Some((replay, tls, bus)) = shutdown.run_until_cancelled(opening).await.transpose()? else {
        return Ok(());
    };
    let tcp_listener = bind(config.listen, "clients", "--listen").await?;
    let http_listener = bind(config.http, "HTTP", "--http").await?;
    let text_listener = match config.text {
        Some(address) => Some(bind(address, "the text protocol", "--text").await?),
        None => None,
    };
    let tcp_address = tcp_listener.local_addr().unwrap_or(config.listen);
    let udp = bind_udp(&config, tcp_address).await?;
    let addresses = Addresses {
        tcp: tcp_address,
        udp: udp.as_ref().and_then(|socket| socket.local_addr().ok()),
        http: http_listener.local_addr().unwrap_or(config.http),
        text: text_listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok()),
        tls: tls.as_ref().map(Tls::fingerprint),
    };

    let creating = recorder::create(&config);
    let Some(recording) = shutdown.run_until_cancelled(creating).await.transpose()? else {
        return Ok(());
    };

    let mut settings = config.host_settings();
    if let Some(replay) = &replay {
        settings.rooms.default_field = replay.field();
    }
    let opening = open_world(&config, settings.rooms.default_field.as_mut());
    let Some(world) = shutdown.run_until_cancelled(opening).await.transpose()? else {
        return Ok(());
    };

    let listening = [addresses.tcp, addresses.http];
    let neighbours = bus.join(&config, listening, &metrics, &tasks, &shutdown);
    let server_metrics = ServerMetrics::new(&metrics.set);
    if let Some(tls) = &tls {
        tls.register_metrics(&metrics.set);
    }
    let datagrams = udp.zip(addresses.udp).map(|(socket, bound)| {
        let (at, metrics) = ([bound, addresses.tcp], server_metrics.datagrams.clone());
        Arc::new(Datagrams::new(socket, at, &config, metrics))
    });
    settings.sessions.other_ports = Some(OtherPorts {
        pages: addresses.http.port(),
        are_pages_encrypted: tls.is_some(),
        text: addresses.text.map(|address| address.port()),
    });
    let shared = Arc::new(Shared {
        host: Host::new(
            settings,
            neighbours.backplane(),
            datagrams.clone().map(|datagrams| datagrams as _),
            metrics,
            tasks,
            shutdown.clone(),
        ),
        watches: Watches::new(config.grid().cells()),
        text_arrivals: Pace::new(config.max_arrivals_per_address),
        requests: Pace::new(config.max_requests_per_address),
        answer_bytes: Pace::new(http::ANSWER_BYTES_PER_SECOND),
        room_bytes: Pace::with_burst(http::ROOM_BYTES_PER_SECOND, http::ROOM_BYTES_BURST),
        refused_origins: Once::default(),
        config,
        addresses,
        metrics: server_metrics,
        neighbours,
        tls,
    });
    let Host {
        rooms,
        metrics,
        tasks,
        ..
    } = &shared.host;

    let bans = &shared.host.bans;
    let ban_file = shared.config.bans.as_deref();
    let ban_file = ban_file.map(|path| BanFile::open(path, bans)).transpose()?;
    let control = match &shared.config.control {
        Some(path) => Some(ControlSocket::open(path).await?),
        None => None,
    };
    let lobby = rooms.find(DEFAULT_ROOM);
    if let (Some(file), Some(lobby)) = (recording, lobby.clone()) {
        let recording = recorder::record(file, lobby, shutdown.clone());
        tasks.spawn(contain(metrics, Task::Other, recording));
    }
    if let (Some(replay), Some(lobby)) = (replay, lobby) {
        let playing = replay.play(lobby, shutdown.clone());
        tasks.spawn(contain(metrics, Task::Other, playing));
    }
    tasks.spawn(reload_on_hangup(Arc::clone(&shared)));
    tasks.spawn(give_back_unused(metrics.clone(), shutdown.clone()));
    if let Some(control) = control {
        tasks.spawn(control::serve(control, Arc::clone(&shared), ban_file));
    }
    let is_over = CancellationToken::new();
    let keeping = world.map(|world| {
        let keeping = world.keep(is_over.clone());
        tokio::spawn(contain(metrics, Task::Other, keeping))
    });
    let players = accept_players(tcp_listener, Arc::clone(&shared), is_over.clone());
    let players = tokio::spawn(players);
    if let Some(datagrams) = datagrams {
        tasks.spawn(receive_datagrams(datagrams, Arc::clone(&shared)));
    }
    if let Some(text_listener) = text_listener {
        tasks.spawn(accept_text_clients(text_listener, Arc::clone(&shared)));
    }
    // Pages are served until everything else has ended, so that load balancers see the 503.
    let stop_http = CancellationToken::new();
    let http = tokio::spawn(http::serve(
        Arc::clone(&shared),
        http_listener,
        stop_http.clone(),
    ));

    on_ready(addresses);
    shutdown.cancelled().await;
    info!("stopping: telling everybody");
    tasks.close();
    let limit = shared.config.drain + AFTER_DRAIN;
    if tokio::time::timeout(limit, tasks.wait()).await.is_err() {
        warn!("some connections did not end in time");
    }
    is_over.cancel();
    // It ends at once, and the panic hook has reported a panic.
    let _ = players.await;
    if let Some(keeping) = keeping {
        // The same.
        let _ = keeping.await;
    }
    bus.flush().await;
    stop_http.cancel();
    // This ends within its own deadline, and the panic hook has reported a panic.
    let _ = http.await;
    Ok(())
}

/// Reads what the configuration names, and connects to the bus. A recording sets the tick rate.
async fn open(
    config: &mut Config,
    metrics: &Metrics,
) -> Result<(Option<Replay>, Option<Tls>, BusConnection), StartError> {
    let replay = Replay::open(config).await?;
    if let Some(replay) = &replay {
        config.tick = replay.tick_hz();
    }
    let tls = Tls::new(config, metrics).await?;
    let bus = BusConnection::start(config).await?;
    Ok((replay, tls, bus))
}

/// Opens the file of `--world`, and lets the default room begin with what is in it.
async fn open_world(
    config: &Config,
    field: Option<&mut Field>,
) -> Result<Option<WorldFile>, StartError> {
    let Some((path, field)) = config.world.clone().zip(field) else {
        return Ok(None);
    };
    let (file, kept) = WorldFile::open(path, Arc::clone(&field.cubes)).await?;
    field.kept = Some(kept);
    Ok(Some(file))
}

/// Accepts players until `is_over`. A server that stops tells those who come meanwhile.
async fn accept_players(listener: TcpListener, shared: Arc<Shared>, is_over: CancellationToken) {
    let refusals = Refusals::new();
    let (metrics, host) = (&shared.metrics, &shared.host);
    listener::accept(
        Listener::Tcp,
        listener,
        metrics,
        &is_over,
        |stream, peer| {
            if host.shutdown.is_cancelled() {
                host.metrics.disconnects.count(Ending::ShuttingDown);
                return refusals.refuse(&shared, stream, peer.ip(), Ending::ShuttingDown);
            }
            match host.admit(peer.ip()) {
                Ok(admitted) => {
                    let served = Arc::clone(&shared);
                    let serving = async move { players::serve(&served, stream, admitted).await };
                    host.spawn(serving);
                }
                Err(ending) => refusals.refuse(&shared, stream, peer.ip(), ending),
            }
        },
    )
    .await;
}

/// Reads datagrams until the server stops. A panic costs the packet that caused it.
async fn receive_datagrams(datagrams: Arc<Datagrams>, shared: Arc<Shared>) {
    let Host {
        metrics, shutdown, ..
    } = &shared.host;
    while !shutdown.is_cancelled() {
        let receiving = datagram::receive(Arc::clone(&datagrams), shutdown.clone());
        contain(metrics, Task::Other, receiving).await;
    }
}

async fn accept_text_clients(listener: TcpListener, shared: Arc<Shared>) {
    let places = Places::new(MAX_TEXT_CLIENTS, MAX_TEXT_CLIENTS_PER_ADDRESS);
    let (metrics, shutdown) = (&shared.metrics, &shared.host.shutdown);
    listener::accept(
        Listener::Text,
        listener,
        metrics,
        shutdown,
        |stream, peer| {
            let admitted = shared.host.admit_by(&shared.text_arrivals, peer.ip());
            let placed = admitted.and_then(|admitted| match places.take(admitted.address()) {
                Ok(place) => Ok((admitted, place)),
                Err(full) => {
                    shared.host.metrics.disconnects.count(full.into());
                    Err(full.into())
                }
            });
            match placed {
                Ok((admitted, place)) => {
                    let served = Arc::clone(&shared);
                    let serving = async move {
                        text::serve(&served, stream, admitted).await;
                        drop(place);
                    };
                    shared.host.spawn(serving);
                }
                Err(ending) => {
                    let line = format!("error: {}\n", ending.message());
                    tcp::send_at_once(&stream, line.as_bytes());
                }
            }
        },
    )
    .await;
}
