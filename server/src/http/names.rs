//! The names by which browsers may reach this server.
//!
//! A page elsewhere can let its own name resolve to this server, once it is loaded ("DNS rebinding"). Its
//! requests then look like those of this server's own pages, and come from wherever its visitor is. Where
//! everybody can send requests anyway, that gains nothing. So only a browser on this machine or in its
//! network must use a name that no stranger can have, or one that the operator has given. TLS needs no such
//! check: a stranger has no certificate for this server, and this server none for the stranger's name.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use cubesync_network::{Scope, scope};
use tracing::warn;

use super::plain;
use super::upgrade::host;
use crate::config::Origin;
use crate::shared::Shared;
use crate::tls::host_name;

/// Marks a request that came from this machine or its network, straight and without encryption, in the
/// request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nearby;

/// The ends of names that the internet's DNS does not have: RFC 6761, 6762 and 8375, ICANN's for private use,
/// and those of routers at home, which ICANN gives to nobody.
const PRIVATE_ENDS: [&str; 6] = ["localhost", "local", "home.arpa", "internal", "home", "lan"];

/// This machine's name.
static OWN_NAME: LazyLock<Option<String>> =
    LazyLock::new(|| host_name().map(|name| name.to_ascii_lowercase()));

/// Returns whether the peer of a connection to a `local` address is on this machine or in its network.
pub(super) fn is_nearby(peer: IpAddr, local: Option<IpAddr>) -> bool {
    let is_neighbour = match (peer, local) {
        // Networks of IPv6 are private too behind a firewall, whatever their addresses.
        (IpAddr::V6(peer), Some(IpAddr::V6(local))) => {
            peer.segments()[..4] == local.segments()[..4]
        }
        _ => local == Some(peer),
    };
    is_neighbour || scope(peer) != Scope::Internet
}

/// Returns whether a request with this `Host` header can be one of this server's own pages.
fn is_known(shared: &Shared, host: &str) -> bool {
    let is_given = |origin: &Origin| origin.is_of_host(host);
    is_private(host, OWN_NAME.as_deref())
        || shared.config.allow_origin.iter().any(is_given)
        || as_origin(host)
            .and_then(|origin| origin.page())
            .is_some_and(|page| shared.neighbours.has_page(&page))
}

/// Returns whether a page of `origin` that a nearby browser has by this `Host` may be a stranger's. One that
/// came over https is not: then a proxy with a certificate for that name passes it on to here.
pub(super) fn is_foreign(shared: &Shared, host: &str, origin: Option<&str>) -> bool {
    let is_encrypted = origin.is_some_and(|origin| origin.starts_with("https://"));
    !is_encrypted && !is_known(shared, host)
}

/// Refuses a request of a nearby browser for data of players by a name that this server does not know.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let host = host(request.headers());
    let is_nearby = request.extensions().get::<Nearby>().is_some();
    if !is_nearby || host.is_empty() || is_known(&shared, host) {
        return next.run(request).await;
    }
    let name = as_origin(host).map_or_else(|| host.to_owned(), |origin| origin.to_string());
    let reason = format!(
        "this server does not know that it is {name}; the operator can tell it with --allow-origin {name}, \
         or with --trust-proxy if a reverse proxy asks"
    );
    if shared.refused_origins.is_new(&name) {
        warn!(origin = name, "refused a page: {reason}");
    }
    plain(StatusCode::FORBIDDEN, reason + "\n")
}

/// Returns whether a `Host` header has an address, or a name that nobody elsewhere can have: one without a
/// dot, one of a private network, or this machine's `own`.
fn is_private(host: &str, own: Option<&str>) -> bool {
    let Some(origin) = as_origin(host) else {
        return false;
    };
    let name = origin.host().trim_end_matches('.');
    let is_address = name.starts_with('[') || name.parse::<IpAddr>().is_ok();
    let has_private_end = PRIVATE_ENDS.iter().any(|end| {
        let before = name.strip_suffix(end);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    });
    is_address || !name.contains('.') || has_private_end || own == Some(name)
}

fn as_origin(host: &str) -> Option<Origin> {
    format!("http://{host}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_of_a_private_network_are_known_and_no_others() {
        let own = Some("game.club.example");
        for host in [
            "127.0.0.1:8080",
            "192.168.1.5",
            "203.0.113.9:8080",
            "[::1]:8080",
            "[fd00::2]",
            "localhost:8080",
            "LOCALHOST",
            "localhost.",
            "app.localhost:8080",
            "annas-pc:8080",
            "annas-pc.local:8080",
            "annas-pc.lan",
            "annas-pc.home.arpa:8080",
            "ip-10-0-0-1.ec2.internal",
            "Game.Club.example:8080",
        ] {
            assert!(is_private(host, own), "{host}");
        }
        for host in [
            "evil.example:8080",
            "evil.example.",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evillocal.example",
            "notlocal.notlan",
            "club.example",
            "a.game.club.example",
            "evil.example/localhost",
            "localhost@evil.example",
            "",
        ] {
            assert!(!is_private(host, own), "{host}");
        }
    }

    #[test]
    fn only_machines_of_the_same_network_are_nearby() {
        let nearby = |peer: &str| is_nearby(peer.parse().unwrap(), None);
        for peer in [
            "127.0.0.1",
            "::1",
            "::ffff:192.168.1.5",
            "10.0.0.1",
            "169.254.1.1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(nearby(peer), "{peer}");
        }
        for peer in ["8.8.8.8", "::ffff:8.8.8.8", "2600::1"] {
            assert!(!nearby(peer), "{peer}");
        }
        let [here, household, elsewhere] =
            ["2600::1", "2600::ffff:2", "2600:0:0:1::1"].map(|address| address.parse().unwrap());
        assert!(is_nearby(household, Some(here)));
        assert!(!is_nearby(elsewhere, Some(here)));
    }
}
