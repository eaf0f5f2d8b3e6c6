//! Hostile values of flags: the server refuses them, or runs with them as with any others.

use cubesync_arguments::testing::{accepted, without_range};
use cubesync_protocol::{ClientMessage, Hello};
use cubesync_server::{Config, UdpAddress};
use futures_util::StreamExt;

use crate::http::get;
use crate::support::{COLOUR, Server};

/// Flags whose values are files that the test should not make, or other machines.
const NOT_RUN: &[&str] = &[
    "--record",
    "--replay",
    "--bus",
    "--tls-cert",
    "--tls-key",
    "--control",
    "--bans",
    "--world",
];

/// Returns whether to run with this value: a port that the system chooses disturbs nobody.
fn is_run(given: &str, config: &mut Config) -> bool {
    let flag = given.split('=').next().unwrap();
    if NOT_RUN.contains(&flag) || config.check_secrets().is_err() {
        return false;
    }
    for (own, address) in [
        ("--listen", &mut config.listen),
        ("--http", &mut config.http),
    ] {
        if flag != own {
            *address = "127.0.0.1:0".parse().unwrap();
        }
    }
    let udp = match config.udp {
        Some(UdpAddress::At(address)) => Some(address),
        _ => None,
    };
    let text = config.text;
    let addresses = [Some(config.listen), Some(config.http), udp, text];
    addresses
        .into_iter()
        .flatten()
        .all(|address| address.port() == 0)
}

#[tokio::test]
async fn every_flag_refuses_a_hostile_value_or_works_with_it() {
    let mut configs = accepted::<Config>();
    configs.retain_mut(|(given, config)| is_run(given, config));
    assert!(configs.len() > 100, "{}", configs.len());
    let runs = configs.into_iter().map(|(given, config)| async move {
        let server = Server::start_with(config).await;
        let hello = ClientMessage::Hello(Hello::new("lobby", "Anna", COLOUR));
        let mut player = server.connect().await;
        player.send(&hello).await;
        player.receive().await;
        drop(player);
        for page in ["/healthz", "/time.html", "/cubes.json"] {
            get(server.addresses.http, page).await;
        }
        let metrics = get(server.addresses.http, "/metrics").await.body;
        let panics: Vec<_> = metrics
            .lines()
            .filter(|line| line.starts_with("cubesync_panics_total") && !line.ends_with(" 0"))
            .collect();
        let given: String = given.chars().take(60).collect();
        assert!(panics.is_empty(), "{given}: {panics:?}");
        assert!(
            metrics.contains("cubesync_panics_total"),
            "{given}: {metrics}"
        );
        server.begin_stop();
        server.stopped().await;
    });
    futures_util::stream::iter(runs)
        .buffer_unordered(8)
        .collect::<Vec<_>>()
        .await;
}

#[test]
fn the_help_says_which_values_a_flag_takes() {
    use clap::CommandFactory;
    assert_eq!(without_range(&Config::command()), [""; 0]);
}
