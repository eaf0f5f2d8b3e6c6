//! `/`: what is running here and how to join.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use cubesync_protocol::CubeKind;

use super::{escaped, html};
use crate::room::RoomView;
use crate::run::Shared;

/// Answers with the rooms and the commands to join.
pub(super) async fn page(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let mut rooms = Vec::new();
    for room in shared.rooms.all() {
        // A room that ended a moment ago is not shown.
        rooms.extend(room.view().await.ok());
    }
    html(render(
        &rooms,
        &join_address(&headers, shared.addresses.tcp.port()),
    ))
}

/// The visitor reached this machine by some name: that name with the TCP port reaches it too.
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

fn render(rooms: &[RoomView], join_address: &str) -> String {
    let mut rows = String::new();
    for room in rooms {
        let players = room
            .cubes
            .iter()
            .filter(|cube| cube.kind == CubeKind::Player)
            .map(|cube| &cube.name);
        let names = players
            .clone()
            .map(|name| escaped(name))
            .collect::<Vec<_>>()
            .join(", ");
        write!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&room.name),
            players.count(),
            if names.is_empty() {
                "—".into()
            } else {
                names
            },
        )
        .expect("writing to a string cannot fail");
    }
    PAGE.replace("{rooms}", &rows)
        .replace("{address}", &escaped(join_address))
}

const PAGE: &str = include_str!("home.html");

#[cfg(test)]
mod tests {
    use cubesync_protocol::{Colour, CubeId, CubeInfo, Pose};

    use super::*;

    #[test]
    fn the_page_shows_rooms_players_and_the_command_to_join() {
        let player = CubeInfo {
            cube: CubeId(1),
            kind: CubeKind::Player,
            name: "<Вася>".into(),
            colour: Colour {
                red: 0,
                green: 0,
                blue: 0,
            },
            pose: Pose::default(),
        };
        let room = RoomView {
            name: "lobby".into(),
            tick: 1,
            tick_hz: 30,
            cubes: vec![player],
        };
        let page = render(&[room], "example:14900");
        assert!(
            page.contains("<td>lobby</td><td>1</td><td>&lt;Вася&gt;</td>"),
            "{page}"
        );
        assert!(
            page.contains("cargo client --server example:14900"),
            "{page}"
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
