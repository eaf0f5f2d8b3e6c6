//! Names and rooms over real sockets: what is let in, what is refused, and what counts as the same.

use cubesync_protocol::{ClientMessage, Hello, RejectCode, clean_name};

use crate::handshake::rejected_hello;
use crate::http::get;
use crate::support::{COLOUR, Server};

#[tokio::test]
async fn names_that_need_joiners_are_shown_as_they_are() {
    let server = Server::start(&[]).await;
    for name in [
        "👩\u{200D}👩\u{200D}👧\u{200D}👦",
        "🏴\u{E0067}\u{E0062}\u{E0077}\u{E006C}\u{E0073}\u{E007F}",
        "می\u{200C}خواهم",
        "ක්\u{200D}රිස්",
        "র\u{200D}্যাব",
        "葛\u{E0100}飾",
    ] {
        let player = server.join(name).await;
        assert_eq!(player.welcome.name, name);
        assert_eq!(player.knows(player.cube()).unwrap().name, name);
    }
}

#[tokio::test]
async fn names_that_show_nothing_are_refused_in_words() {
    let server = Server::start(&[]).await;
    let braille = "\u{2800}".repeat(3);
    for (name, reason) in [
        ("\u{3164}", "needs at least one visible character"),
        (&braille, "needs at least one visible character"),
        ("\u{200D}\u{FE0F}", "needs at least one visible character"),
        ("\u{301}", "combining mark without a letter"),
        ("A\u{E000}", "a private character"),
        ("A\u{378}", "stands for no character"),
        ("A\u{2066}B", "changes the direction of text (U+2066)"),
    ] {
        let named = Hello::new("lobby", name, COLOUR);
        let in_room = Hello::new(name, "Anna", COLOUR);
        for (hello, what) in [(named, "a name"), (in_room, "a room name")] {
            let message = rejected_hello(&server, hello, RejectCode::Name).await;
            assert!(
                message.contains(reason) && message.starts_with(what),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn names_that_look_alike_get_numbers() {
    let server = Server::start(&[]).await;
    let mut players = Vec::new();
    for (name, shown) in [
        ("Anna", "Anna"),
        ("ANNA", "ANNA-2"),
        ("An\u{200B}na", "Anna-3"),
        ("Anna\u{FE0F}", "Anna\u{FE0F}-4"),
        ("Ａｎｎａ", "Ａｎｎａ-5"),
        ("Cube", "Cube-2"),
    ] {
        let player = server.join(name).await;
        assert_eq!(player.welcome.name, shown);
        players.push(player);
    }
    // A number makes no name too long to come back with.
    let long = "я".repeat(24);
    let (_first, second) = (server.join(&long).await, server.join(&long).await);
    assert_eq!(second.welcome.name, "я".repeat(22) + "-2");
    assert!(clean_name(&second.welcome.name).is_ok());
}

#[tokio::test]
async fn rooms_that_look_alike_are_one_room_with_one_key() {
    let server = Server::start(&["--room-key", "den=cave"]).await;
    let first = server.join_room("Garden", "Anna").await;
    let second = server
        .join_room("\u{2068}ＧＡＲＤＥＮ\u{2069}", "Boris")
        .await;
    assert_eq!(second.welcome.room, "Garden");
    assert!(second.knows(first.cube()).is_some());
    for room in ["garden", "%20Garden%E2%80%8B"] {
        let path = format!("/cubes.json?room={room}");
        let answer = get(server.addresses.http, &path).await;
        assert!(
            answer.body.contains("\"room\":\"Garden\""),
            "{}",
            answer.body
        );
    }
    let answer = get(server.addresses.http, "/cubes.json?room=%E3%85%A4").await;
    let refused = "a room name needs at least one visible character\n";
    assert_eq!((answer.status, answer.body.as_str()), (400, refused));

    for room in ["den", "Den", "ｄｅｎ", "den\u{FE0F}", "d\u{AD}en"] {
        let hello = Hello::new(room, "Anna", COLOUR);
        rejected_hello(&server, hello.clone(), RejectCode::JoinKey).await;
        let mut client = server.connect().await;
        let join_key = Some("cave".to_owned());
        client
            .send(&ClientMessage::Hello(Hello { join_key, ..hello }))
            .await;
        assert_eq!(client.welcomed().await.welcome.room, "den");
    }
}
