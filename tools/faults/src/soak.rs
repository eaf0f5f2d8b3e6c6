//! A long run in which players join, move and leave in every possible way. The memory and the descriptors
//! of the server must not grow.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cubesync_harness::wait::comes_true;
use cubesync_protocol::Hello;
use socket2::SockRef;

use crate::harness::bystanders::Bystanders;
use crate::harness::crowd::sample;
use crate::harness::light_client::LightClient;
use crate::harness::peer::RED;
use crate::harness::server::Server;
use crate::harness::server::Setup;

/// How often memory and descriptors are read.
const READING_INTERVAL: Duration = Duration::from_secs(10);
/// The caches and the allocator are full after this time, or after a quarter of a shorter run.
const WARM_UP: Duration = Duration::from_secs(10 * 60);
/// Number of rooms that many players enter, besides those that only one ever enters.
const ROOMS: usize = 12;
/// The longest stay of a player, in seconds.
const STAY_S: f64 = 20.0;
/// All descriptors of connections are closed in this time after the end.
const EMPTY_WITHIN: Duration = Duration::from_secs(40);

/// A server with default limits but for ghosts, which would outnumber the players.
const SETUP: Setup = Setup {
    flags: &["--resume-within", "5s"],
    ..Setup::PLAIN
};

/// The values at one time.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at_s: f64,
    resident_kib: u64,
    descriptors: u64,
    connections: u64,
    rooms: u64,
    p99_ms: f64,
}

/// Runs a server with `players` players at a time and writes the readings as a CSV. Returns whether all
/// descriptors are closed at the end.
pub(crate) fn soak(
    binary: &Path,
    duration: Duration,
    players: usize,
    csv: Option<&Path>,
) -> Result<bool> {
    let mut server = Server::start(binary, &SETUP, false)?;
    let idle_descriptors = server.process().descriptors()?;
    let bystanders = Bystanders::join(server.tcp, None)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    for number in 0..players {
        runtime.spawn(come_and_go([server.tcp, server.http], number));
    }
    let began = Instant::now();
    let mut readings = Vec::new();
    while began.elapsed() < duration {
        let lags = bystanders.watch(READING_INTERVAL.min(duration));
        let counters = server.counters()?;
        let gauge = |name| counters.value(name) as u64;
        let reading = Reading {
            at_s: began.elapsed().as_secs_f64(),
            resident_kib: server.process().resident_kib()?,
            descriptors: server.process().descriptors()?,
            connections: gauge("gauge connections"),
            rooms: gauge("gauge rooms"),
            p99_ms: lags.p99_ms,
        };
        println!("{}", line(&reading));
        readings.push(reading);
        if let Some(csv) = csv {
            std::fs::write(csv, table(&readings)).context("cannot write the CSV")?;
        }
    }
    runtime.shutdown_background();
    let counters = server.counters()?;
    let ended = counters.disconnects();
    let count: u64 = ended.iter().map(|(_, count)| count).sum();
    println!("\nhow {count} connections ended:");
    for (reason, count) in ended {
        println!("  {reason:<20} {count}");
    }
    let joins = bystanders.joins();
    drop(bystanders);
    let process = server.process();
    let is_empty = comes_true(EMPTY_WITHIN, || {
        process
            .descriptors()
            .is_ok_and(|open| open <= idle_descriptors)
    });
    let after_warm_up = warm(&readings, duration);
    println!(
        "\nRSS slope after warm-up: {:+.0} KiB an hour over {} readings; at the end, with nobody there: \
         {} KiB, {} descriptors (at first {idle_descriptors})",
        slope_per_hour(after_warm_up),
        after_warm_up.len(),
        process.resident_kib()?,
        process.descriptors()?,
    );
    ensure!(
        server.ended(Duration::ZERO).is_none(),
        "the server has ended"
    );
    ensure!(joins == 2, "a bystander was cut off");
    Ok(is_empty)
}

/// Runs one player after the other, for ever.
async fn come_and_go(addresses: [SocketAddr; 2], number: usize) {
    let mut random = fastrand::Rng::with_seed(number as u64);
    for visit in 0.. {
        // A bad peer loses its connection, which is no error here.
        let _ = visit_once(addresses, number, visit, &mut random).await;
        tokio::time::sleep(Duration::from_secs_f64(random.f64())).await;
    }
}

/// Runs one player, which joins and leaves in some way.
async fn visit_once(
    [tcp, http]: [SocketAddr; 2],
    number: usize,
    visit: u64,
    random: &mut fastrand::Rng,
) -> Result<()> {
    let is_websocket = random.u8(..3) == 0;
    let server = if is_websocket { http } else { tcp };
    let mut client = LightClient::connect(server, is_websocket).await?;
    match random.u8(..20) {
        0 => {
            client.read_for(Duration::from_secs(30)).await;
            return Ok(());
        }
        1 => {
            let junk: Vec<u8> = (0..random.usize(1..300)).map(|_| random.u8(..)).collect();
            client.stream.writable().await?;
            client.stream.try_write(&junk)?;
            client.read_for(Duration::from_secs(5)).await;
            return Ok(());
        }
        _ => {}
    }
    let room = match random.usize(..=ROOMS) {
        0 => "lobby".to_owned(),
        ROOMS => format!("once {number} {visit}"),
        room => format!("room {room}"),
    };
    let welcome = client
        .join(Hello::new(room, format!("player {number}"), RED))
        .await?;
    let tick = Duration::from_secs(1) / u32::from(welcome.tick_hz);
    let ticks = (random.f64() * STAY_S / tick.as_secs_f64()) as u64;
    for step in 1..=ticks {
        let mut position = welcome.pose.position;
        position.x += (step % 400) as i32 * 20;
        client
            .send(&sample(welcome.tick + step, welcome.cube, position))
            .await?;
        ensure!(!client.read_for(tick).await, "closed");
    }
    match random.u8(..8) {
        0 => SockRef::from(&client.stream).set_linger(Some(Duration::ZERO))?,
        1 => {}
        2 => {
            client.send_bytes(&[0xFF; 4]).await?;
            client.read_for(Duration::from_secs(5)).await;
        }
        3 => client.send_bytes(&[0, 0, 0, 9, 1]).await?,
        _ => client.leave().await?,
    }
    Ok(())
}

fn warm(readings: &[Reading], duration: Duration) -> &[Reading] {
    let warm_up_s = WARM_UP.min(duration / 4).as_secs_f64();
    &readings[readings.partition_point(|reading| reading.at_s < warm_up_s)..]
}

/// Returns the slope of the line through the memory, by least squares, in KiB per hour.
fn slope_per_hour(readings: &[Reading]) -> f64 {
    let count = readings.len() as f64;
    let mean = |value: fn(&Reading) -> f64| readings.iter().map(value).sum::<f64>() / count;
    let (mean_s, mean_kib) = (
        mean(|reading| reading.at_s),
        mean(|reading| reading.resident_kib as f64),
    );
    let (mut covariance, mut variance) = (0.0, 0.0);
    for reading in readings {
        let from_mean_s = reading.at_s - mean_s;
        covariance += from_mean_s * (reading.resident_kib as f64 - mean_kib);
        variance += from_mean_s * from_mean_s;
    }
    3_600.0 * covariance / variance
}

fn line(reading: &Reading) -> String {
    format!(
        "{:5.0} s  RSS {:6} KiB  {:4} descriptors  {:4} connections  {:3} rooms  p99 {:.1} ms",
        reading.at_s,
        reading.resident_kib,
        reading.descriptors,
        reading.connections,
        reading.rooms,
        reading.p99_ms
    )
}

fn table(readings: &[Reading]) -> String {
    let mut text = "seconds,rss_kib,descriptors,connections,rooms,p99_ms\n".to_owned();
    for reading in readings {
        let _ = writeln!(
            text,
            "{:.0},{},{},{},{},{:.1}",
            reading.at_s,
            reading.resident_kib,
            reading.descriptors,
            reading.connections,
            reading.rooms,
            reading.p99_ms
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_what_grows_in_an_hour() {
        let reading = |minute: u64| Reading {
            at_s: 60.0 * minute as f64,
            resident_kib: 10_000 + 7 * minute,
            descriptors: 0,
            connections: 0,
            rooms: 0,
            p99_ms: 0.0,
        };
        let readings: Vec<_> = (0..60).map(reading).collect();
        assert!((slope_per_hour(&readings) - 420.0).abs() < 1e-6);
        let warm = warm(&readings, Duration::from_secs(3_600));
        assert_eq!(warm.len(), 50);
    }
}
