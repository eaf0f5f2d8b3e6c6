//! The page itself: the players and how to join. A script keeps it up to date.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;

use super::board::Board;
use super::feed::{MAX_ROOMS, RoomNow};
use crate::http::{escaped, files, html};
use crate::shared::{Addresses, Shared};

/// Responds with the rooms and the command to join.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    Extension(board): Extension<Board>,
    headers: HeaderMap,
) -> Response {
    let Addresses { tcp, tls, .. } = shared.addresses;
    let scheme = if tls.is_some() { "tls://" } else { "" };
    html(render(
        &board.rooms().await,
        files::has_game(),
        &format!("{scheme}{}", join_address(&headers, tcp.port())),
    ))
}

/// Returns the address for players: the name by which the visitor reached this machine, with the TCP
/// port.
fn join_address(headers: &HeaderMap, port: u16) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("localhost");
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    format!("{name}:{port}")
}

fn render(rooms: &[RoomNow], has_game: bool, join_address: &str) -> String {
    let mut rows = String::new();
    for room in rooms.iter().take(MAX_ROOMS) {
        let names: Vec<_> = room.names.iter().map(|name| escaped(name)).collect();
        write!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&room.name),
            room.players,
            names.join(", "),
        )
        .expect("writing to a string cannot fail");
    }
    let play = if has_game {
        "<a href=\"./\">Play in this browser</a>, or with a window of its own:"
    } else {
        "With a window of its own:"
    };
    PAGE.replace("{rooms}", &rows)
        .replace("{play}", play)
        .replace("{address}", &escaped(join_address))
        .replace("{version}", env!("CARGO_PKG_VERSION"))
}

const PAGE: &str = include_str!("page.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_rooms_players_and_the_command_to_join() {
        let room = RoomNow {
            name: "lobby".into(),
            players: 1,
            ghosts: 0,
            names: vec!["<Вася>".into()],
            servers: None,
            is_foreign: false,
        };
        let page = render(std::slice::from_ref(&room), true, "example:14900");
        assert!(
            page.contains("<td>lobby</td><td>1</td><td>&lt;Вася&gt;</td>"),
            "{page}"
        );
        assert!(
            page.contains("cargo client --server example:14900"),
            "{page}"
        );
        assert!(page.contains("<a href=\"./\">Play"), "{page}");
        let page = render(&[room], false, "example:14900");
        assert!(
            !page.contains("href=\"./\""),
            "there is no game to link to: {page}"
        );
    }

    #[test]
    fn the_join_address_is_the_name_the_visitor_used() {
        let address = |host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            join_address(&headers, 14900)
        };
        assert_eq!(address("192.168.1.5:8080"), "192.168.1.5:14900");
        assert_eq!(address("game.example"), "game.example:14900");
        assert_eq!(address("[::1]:8080"), "[::1]:14900");
        assert_eq!(address("[::1]"), "[::1]:14900");
        assert_eq!(join_address(&HeaderMap::new(), 1), "localhost:1");
    }
}
