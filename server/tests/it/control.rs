//! The operator's commands: through the control socket, and as a person types them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser};
use cubesync_arguments::testing::{HOSTILE_VALUES, try_all, without_range};
use cubesync_protocol::{ClientMessage, CloseCode, Event, Hello, RejectCode, ServerMessage};
use cubesync_server::StartError;
use cubesync_server::control::ask;
use cubesync_server::control::command_line::{Answer, Command};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::handshake::assert_rejected;
use crate::http::{get, request_with};
use crate::support::{COLOUR, Client, Folder, Player, Server, config, program, soon};
use crate::tls::Pair;
use crate::websocket::Browser;

/// A command as it is typed.
#[derive(Debug, Parser)]
struct Typed {
    #[command(subcommand)]
    command: Command,
}

/// A server that takes commands.
struct Operated {
    server: Server,
    folder: Folder,
}

fn socket_in(folder: &Folder) -> PathBuf {
    Path::new(folder.path()).join("control.sock")
}

impl Operated {
    async fn start(flags: &[&str]) -> Self {
        let folder = Folder::new();
        let server = serve_in(&folder, flags).await;
        Self { server, folder }
    }

    /// Types a command, and returns what it prints, or the problem.
    async fn types(&self, words: &[&str]) -> Result<String, String> {
        types(&self.folder, words).await
    }

    async fn does(&self, words: &[&str]) -> String {
        self.types(words).await.unwrap()
    }

    async fn refuses(&self, words: &[&str]) -> String {
        self.types(words).await.unwrap_err()
    }
}

async fn serve_in(folder: &Folder, flags: &[&str]) -> Server {
    let socket = socket_in(folder);
    let control = ["--control", socket.to_str().unwrap()];
    Server::start(&[&control, flags].concat()).await
}

async fn types(folder: &Folder, words: &[&str]) -> Result<String, String> {
    let socket = socket_in(folder);
    let control = ["--control", socket.to_str().unwrap()];
    let typed = Typed::try_parse_from([&["program"], words, &control].concat());
    let command = typed.map_err(|error| error.to_string())?.command;
    let ran = soon(tokio::task::spawn_blocking(|| command.run())).await;
    ran.unwrap().map_err(|error| error.to_string())
}

/// Reads until the server says why it ends the connection, and that it ends.
async fn closed(player: &mut Player) -> (CloseCode, String, Option<u32>) {
    let closing = |message| match message {
        ServerMessage::Closing {
            code,
            message,
            retry_after_ms,
        } => Some((code, message, retry_after_ms)),
        _ => None,
    };
    let closing = player.find(closing).await;
    assert!(player.client.receive().await.is_none(), "nothing follows");
    closing
}

async fn sees_leave(viewer: &mut Player, player: &Player) {
    let gone = Event::Left {
        cube: player.cube(),
    };
    while !viewer.next_update().await.events.contains(&gone) {}
}

#[tokio::test]
async fn a_kicked_player_is_told_why_leaves_no_ghost_and_can_join_again_as_somebody_new() {
    let operated = Operated::start(&["--resume-within", "1h"]).await;
    let server = &operated.server;
    let (mut anna, mut ben) = (server.join("Anna").await, server.join("Ben").await);
    // A name that looks like it is enough.
    let kick = ["kick", "ＡＮＮＡ", "--reason", " wash  your hands "];
    let said = operated.does(&kick).await;
    let id = anna.cube();
    assert_eq!(said, format!("removed Anna (id {id}, room lobby)\n"));
    let (code, message, retry) = closed(&mut anna).await;
    assert_eq!((code, retry), (CloseCode::Kicked, None));
    let expected = "the operator has removed you from the room: wash your hands";
    assert_eq!(message, expected);
    sees_leave(&mut ben, &anna).await;
    server
        .counts("cubesync_disconnects_total{reason=\"kicked\"} 1")
        .await;
    let hello = Hello {
        resume: Some(anna.welcome.resume),
        ..Hello::new("lobby", "Anna", COLOUR)
    };
    let mut again = server.connect().await;
    again.send(&ClientMessage::Hello(hello)).await;
    assert_ne!(again.welcomed().await.cube(), anna.cube());
    let problem = operated.refuses(&["kick", "Cora"]).await;
    assert!(problem.contains("no player named Cora"), "{problem}");
}

#[tokio::test]
async fn players_are_listed_and_told_apart_by_room_id_and_address() {
    let operated = Operated::start(&["--text", "127.0.0.1:0"]).await;
    let server = &operated.server;
    assert_eq!(operated.does(&["players"]).await, "nobody plays here\n");
    let (mut here, mut there) = (
        server.join("Anna").await,
        server.join_room("den", "anna").await,
    );
    let mut typist = TcpStream::connect(server.addresses.text.unwrap())
        .await
        .unwrap();
    typist.write_all(b"Typist\n").await.unwrap();
    typist.read_u8().await.unwrap();

    let list = operated.does(&["players"]).await;
    let rows: Vec<Vec<&str>> = list
        .lines()
        .map(|line| line.split_whitespace().take(5).collect())
        .collect();
    let [one, other] = [here.cube(), there.cube()].map(|id| id.to_string());
    assert_eq!(rows[0], ["ID", "ROOM", "NAME", "FROM", "OVER"]);
    assert_eq!(rows[1], [&other, "den", "anna", "127.0.0.1", "tcp"]);
    assert_eq!(rows[2], [&one, "lobby", "Anna", "127.0.0.1", "tcp"]);
    assert_eq!(rows[3][2..], ["Typist", "127.0.0.1", "text"]);
    let json = operated.does(&["players", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["name"], "Anna");
    assert_eq!(json[1]["place"], "here");

    let problem = operated.refuses(&["kick", "Anna"]).await;
    assert!(
        problem.contains("room den")
            && problem.contains("room lobby")
            && problem.contains("--room"),
        "{problem}"
    );
    let problem = operated.refuses(&["kick", "Anna", "--room", "attic"]).await;
    assert_eq!(problem, "there is no room attic");
    operated.does(&["kick", "Anna", "--room", "DEN"]).await;
    assert_eq!(closed(&mut there).await.0, CloseCode::Kicked);
    operated.does(&["kick", "--id", &one]).await;
    assert_eq!(closed(&mut here).await.0, CloseCode::Kicked);
    let problem = operated.refuses(&["kick", "--address", "192.0.2.7"]).await;
    assert_eq!(problem, "nobody plays from 192.0.2.7 here");
    let said = operated.does(&["kick", "--address", "127.0.0.0/8"]).await;
    assert!(said.starts_with("removed Typist"), "{said}");
    let mut text = String::new();
    soon(typist.read_to_string(&mut text)).await.unwrap();
    let last = text.lines().last().unwrap();
    assert_eq!(last, "error: the operator has removed you from the room");
}

#[tokio::test]
async fn a_ban_ends_what_an_address_has_and_refuses_it_on_every_port_until_it_is_lifted() {
    let operated = Operated::start(&["--text", "127.0.0.1:0"]).await;
    let server = &operated.server;
    let mut anna = server.join("Anna").await;
    // Connections that have not said what they want.
    let mut newcomer = server.connect().await;
    let mut page = TcpStream::connect(server.addresses.http).await.unwrap();
    server.counts("cubesync_pending_connections 1").await;

    let problem = operated.refuses(&["ban", "127.0.0.1"]).await;
    assert!(problem.contains("an address of this machine"), "{problem}");
    let ban = ["ban", "--player", "anna", "--force", "--reason", "spam"];
    let said = operated.does(&ban).await;
    assert!(said.contains("banned 127.0.0.1 until 2"), "{said}");
    assert!(said.contains("; removed Anna (id"), "{said}");
    assert!(said.contains("without --bans"), "{said}");
    let (code, message, retry) = closed(&mut anna).await;
    assert_eq!((code, retry), (CloseCode::Banned, None));
    assert!(message.ends_with("from this server: spam"), "{message}");
    assert_eq!(soon(page.read(&mut [0; 1])).await.unwrap(), 0);
    let hello = ClientMessage::Hello(Hello::new("lobby", "Ben", COLOUR));
    newcomer.send(&hello).await;
    let closing = |message| match message {
        ServerMessage::Closing { code, .. } => Some(code),
        _ => None,
    };
    assert_eq!(newcomer.find(closing).await, CloseCode::Banned);

    let message = assert_rejected(server.connect().await, RejectCode::JoinKey).await;
    assert_eq!(message, "your address is banned from this server");
    let refused = get(server.addresses.http, "/healthz").await;
    assert_eq!((refused.status, refused.body.trim_end()), (403, &*message));
    let mut typist = TcpStream::connect(server.addresses.text.unwrap())
        .await
        .unwrap();
    let mut text = String::new();
    soon(typist.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, format!("error: {message}\n"));
    assert!(operated.does(&["bans"]).await.contains("127.0.0.1  2"));

    assert!(
        operated
            .refuses(&["unban", "127.0.0.0/8"])
            .await
            .contains("is not banned")
    );
    operated.does(&["unban", "127.0.0.1"]).await;
    assert_eq!(operated.does(&["bans"]).await, "nobody is banned\n");
    server.join("Anna").await;
    let metrics = get(server.addresses.http, "/metrics").await.body;
    let of = |name: &str| format!("{name}{{reason=\"banned\"}} ");
    let count = |name: &str| {
        let mut lines = metrics.lines();
        let line = lines.find_map(|line| line.strip_prefix(&*of(name)));
        line.unwrap().parse::<u64>().unwrap()
    };
    // Two players were ended, and two connections refused.
    assert_eq!(count("cubesync_disconnects_total"), 4);
    assert_eq!(count("cubesync_http_cuts_total"), 2);
}

#[tokio::test]
async fn a_banned_address_is_refused_before_tls() {
    let pair = Pair::new();
    let folder = Folder::new();
    let socket = socket_in(&folder);
    let server = pair.serve(&["--control", socket.to_str().unwrap()]).await;
    types(&folder, &["ban", "127.0.0.1", "--force"])
        .await
        .unwrap();
    // Without a handshake the words are plain.
    assert_rejected(server.connect().await, RejectCode::JoinKey).await;
    let mut page = TcpStream::connect(server.addresses.http).await.unwrap();
    assert_eq!(soon(page.read(&mut [0; 1])).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn behind_a_proxy_the_address_that_it_passes_on_is_banned() {
    let operated = Operated::start(&["--trust-proxy", "127.0.0.1"]).await;
    let pages = operated.server.addresses.http;
    let status = async |address| {
        let headers = [("X-Forwarded-For", address)];
        request_with(pages, "GET", "/time.html", &headers)
            .await
            .status
    };
    let problem = operated.refuses(&["ban", "127.0.0.0/8"]).await;
    assert!(problem.contains("is a proxy"), "{problem}");
    operated.does(&["ban", "192.0.2.7"]).await;
    assert_eq!(status("192.0.2.7").await, 403);
    assert_eq!(status("192.0.2.8").await, 200);
    operated
        .does(&["ban", "2001:db8:0:7::1", "--for", "ever"])
        .await;
    assert_eq!(status("2001:db8:0:7::2").await, 403);
    assert_eq!(status("2001:db8:0:8::2").await, 200);
}

#[tokio::test]
async fn a_browser_behind_a_proxy_is_listed_and_banned_by_its_own_address() {
    let operated = Operated::start(&["--trust-proxy", "127.0.0.1"]).await;
    let server = &operated.server;
    let mut browsers = Vec::new();
    for (name, address) in [("Anna", "192.0.2.7"), ("Ben", "192.0.2.8")] {
        let mut browser = Browser::open_from(server, address).await;
        let hello = Hello::new("lobby", name, COLOUR);
        browser.send(&[ClientMessage::Hello(hello)]).await;
        browser.welcome().await;
        browsers.push(browser);
    }
    let list = operated.does(&["players"]).await;
    assert!(list.contains("Anna  192.0.2.7  websocket"), "{list}");
    let said = operated.does(&["ban", "--player", "Anna"]).await;
    assert!(said.starts_with("banned 192.0.2.7 until"), "{said}");
    let said = operated.does(&["kick", "Ben", "--reason", "bye"]).await;
    assert!(said.starts_with("removed Ben"), "{said}");
    let closing = |message| match message {
        ServerMessage::Closing { code, message, .. } => Some((code, message)),
        _ => None,
    };
    for (mut browser, (code, words)) in browsers.into_iter().zip([
        (CloseCode::Banned, "from this server"),
        (CloseCode::Kicked, ": bye"),
    ]) {
        let (told, message) = browser.find(closing).await;
        assert!(told == code && message.ends_with(words), "{message}");
        assert!(browser.receive().await.is_none(), "nothing follows");
    }
    // The page learns why from the answer to its question.
    let headers = [("X-Forwarded-For", "192.0.2.7")];
    let pages = server.addresses.http;
    let asked = request_with(pages, "GET", "/ws", &headers).await;
    let expected = "your address is banned from this server\n";
    assert_eq!((asked.status, &*asked.body), (403, expected));
}

#[tokio::test]
async fn the_socket_is_its_users_alone_and_goes_with_the_server() {
    let operated = Operated::start(&[]).await;
    let socket = socket_in(&operated.folder);
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files = fs::read_dir(operated.folder.path()).unwrap();
    assert_eq!(files.count(), 1, "nothing else is left there");
    operated.server.begin_stop();
    operated.server.stopped().await;
    assert!(!socket.exists());
    let problem = types(&operated.folder, &["players"]).await.unwrap_err();
    assert!(problem.contains("there is no control socket"), "{problem}");
}

#[tokio::test]
async fn the_socket_of_a_dead_server_is_replaced_and_that_of_a_living_one_is_not() {
    let folder = Folder::new();
    let socket = socket_in(&folder);
    // A listener that is dropped leaves its file, as a process that is killed does.
    drop(UnixListener::bind(&socket).unwrap());
    let problem = types(&folder, &["players"]).await.unwrap_err();
    assert!(problem.contains("no server listens"), "{problem}");
    let first = serve_in(&folder, &[]).await;
    let refused = async |path: &Path| {
        let flags = ["--control", path.to_str().unwrap()];
        let running = cubesync_server::run(config(&flags), Default::default(), |_| {});
        match soon(running).await {
            Err(error @ StartError::Control { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(&socket).await.contains("another server listens"));
    // The second one has left the first one's file alone.
    let said = types(&folder, &["players"]).await;
    assert_eq!(said.as_deref(), Ok("nobody plays here\n"));

    let file = folder.write("file", "precious");
    let problem = refused(Path::new(&file)).await;
    assert!(problem.contains("a file of another kind"), "{problem}");
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
    let nowhere = refused(Path::new("/nowhere/control.sock")).await;
    assert!(nowhere.contains("its folder does not exist"), "{nowhere}");
    let long = Path::new(folder.path()).join("a".repeat(200));
    let problem = refused(&long).await;
    assert!(problem.contains("choose a shorter one"), "{problem}");
    first.begin_stop();
    first.stopped().await;
}

#[tokio::test]
async fn a_server_that_stops_leaves_the_socket_that_another_has_put_there() {
    let operated = Operated::start(&[]).await;
    let socket = socket_in(&operated.folder);
    fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    operated.server.begin_stop();
    operated.server.stopped().await;
    assert!(socket.exists());
}

#[tokio::test]
async fn bytes_that_are_no_order_are_answered_in_words_and_harm_nobody() {
    let operated = Operated::start(&[]).await;
    let socket = socket_in(&operated.folder);
    let long = format!(
        "{{\"version\":1,\"kick\":{{\"reason\":\"{}",
        "a".repeat(100_000)
    );
    let deep = "[".repeat(10_000) + "\n";
    for (bytes, hint) in [
        ("GET / HTTP/1.1\r\n\r\n", "no line of the control socket"),
        ("\n", "no line of the control socket"),
        (
            "{\"version\":9,\"players\":{}}\n",
            "different versions (9, 1)",
        ),
        (
            "{\"version\":1,\"dance\":{}}\n",
            "no line of the control socket",
        ),
        (&deep, "no line of the control socket"),
        (&long, "has no end"),
        (
            "{\"version\":1,\"kick\":{\"who\":{\"name\":\"a\"},\"room\":null,\"reason\":\"a\\u0000b\"}}\n",
            "cannot contain",
        ),
        (
            "{\"version\":1,\"ban\":{\"who\":{\"address\":\"192.0.2.1\"},\"room\":null,\"reason\":null,\
             \"seconds\":18446744073709551615,\"force\":false}}\n",
            "too long",
        ),
    ] {
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        // A server that has read enough may have closed.
        let _ = stream.write_all(bytes.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = soon(stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.contains("\"failed\"") && answer.contains(hint),
            "{answer}"
        );
    }
    // An end without a word.
    drop(UnixStream::connect(&socket).unwrap());
    let said = operated.does(&["players"]).await;
    assert_eq!(said, "nobody plays here\n");
    let metrics = get(operated.server.addresses.http, "/metrics").await.body;
    assert!(metrics.contains("cubesync_panics_total{task=\"other\"} 0"));
}

#[tokio::test]
async fn a_caller_that_stalls_holds_up_neither_players_nor_the_stop() {
    let operated = Operated::start(&[]).await;
    let socket = socket_in(&operated.folder);
    let stalled: Vec<_> = (0..50)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    let mut anna = operated.server.join("Anna").await;
    let pose = anna.step(600).await;
    anna.sees(anna.cube(), pose).await;
    operated.server.begin_stop();
    drop(anna);
    let begun = Instant::now();
    operated.server.stopped().await;
    // Far less than the callers' deadline, on any machine: the stop waits for none of them.
    assert!(begun.elapsed() < Duration::from_secs(8));
    drop(stalled);
}

#[tokio::test]
async fn bans_outlive_the_server_in_their_file() {
    let folder = Folder::new();
    let file = Path::new(folder.path()).join("bans");
    let flags = [
        "--bans",
        file.to_str().unwrap(),
        "--trust-proxy",
        "127.0.0.1",
    ];
    let server = serve_in(&folder, &flags).await;
    for ban in [
        &["ban", "192.0.2.7", "--reason", "spam"][..],
        &["ban", "192.0.2.8", "--for", "ever"],
        &["ban", "192.0.2.9"],
        &["unban", "192.0.2.9"],
    ] {
        let said = types(&folder, ban).await.unwrap();
        assert!(!said.contains("--bans"), "{said}");
    }
    let before = types(&folder, &["bans"]).await.unwrap();
    assert_eq!(before.lines().count(), 3, "{before}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.begin_stop();
    server.stopped().await;

    // A line is damaged, and a ban is over.
    let mut text = fs::read_to_string(&file).unwrap();
    text +=
        "{\"network\":\"192.0.2.10\",\"until\":\"2020-01-01T00:00:00Z\",\"reason\":null}\n{\"netw";
    fs::write(&file, &text).unwrap();
    let server = serve_in(&folder, &flags).await;
    assert_eq!(types(&folder, &["bans"]).await.unwrap(), before);
    let headers = [("X-Forwarded-For", "192.0.2.7")];
    let pages = server.addresses.http;
    let refused = request_with(pages, "GET", "/time.html", &headers).await;
    assert_eq!(refused.status, 403);
    let aside = fs::read_to_string(file.with_extension("damaged")).unwrap();
    assert_eq!(aside, text);
    server.begin_stop();
    server.stopped().await;

    // What cannot be read at all is no reason to forget it.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let running = cubesync_server::run(config(&flags), Default::default(), |_| {});
    assert!(matches!(soon(running).await, Err(StartError::Bans { .. })));
}

#[tokio::test]
async fn the_real_program_serves_and_commands() {
    let folder = Folder::new();
    let socket = socket_in(&folder);
    let path = socket.to_str().unwrap();
    let command = |words: &[&str]| {
        let mut command = program(words);
        command.env("CUBESYNC_CONTROL", path);
        command
    };
    let output = soon(command(&["players"]).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.starts_with("error: there is no control socket at"),
        "{message}"
    );

    let server = serve_in(&folder, &[]).await;
    let mut anna = server.join("Anna").await;
    let kick = ["kick", "Anna", "--reason", "bye"];
    let output = soon(command(&kick).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("removed Anna (id "), "{said}");
    assert_eq!(closed(&mut anna).await.0, CloseCode::Kicked);
    for (words, code) in [
        (&["kick", "Anna"][..], 1),
        (&["kick"], 2),
        (&["kick", "Anna", "--reason", "\n"], 2),
        (&["kick", "Anna", "--id", "1"], 2),
        (&["ban", "10.0.0.0/33"], 2),
        (&["ban", "10.0.0.0/8", "--for", "2y"], 2),
        (&["unban"], 2),
        (&["bans"], 0),
        (&["kick", "--help"], 0),
    ] {
        let output = soon(command(words).output()).await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}");
    }
}

#[tokio::test]
async fn hostile_values_are_refused_or_obeyed() {
    try_all(&Typed::command());
    for command in Typed::command().get_subcommands() {
        assert_eq!(without_range(command), [""; 0]);
    }
    let operated = Operated::start(&[]).await;
    for value in HOSTILE_VALUES {
        for words in [
            &["kick", "--reason=x", "--", value][..],
            &["kick", "--address", value],
            &["kick", "--id", value],
            &["unban", "--", value],
        ] {
            let typed = Typed::try_parse_from([&["program"], words].concat());
            let Ok(Typed { command }) = typed else {
                continue;
            };
            let (_, order) = command.order();
            let socket = socket_in(&operated.folder);
            let asked = tokio::task::spawn_blocking(move || ask(&socket, &order)).await;
            let answer = asked.unwrap().unwrap();
            assert!(matches!(answer, Answer::Failed(_)), "{words:?}: {answer:?}");
        }
        // As the name of a socket: the system takes nearly all.
        let path = Path::new(operated.folder.path()).join(value.trim_start_matches('/'));
        let flags = ["--control", path.to_str().unwrap()];
        let server = config(&flags);
        let stop = tokio_util::sync::CancellationToken::new();
        stop.cancel();
        match soon(cubesync_server::run(server, stop, |_| {})).await {
            Ok(()) | Err(StartError::Control { .. }) => {}
            Err(other) => panic!("{value:?}: {other}"),
        }
    }
    let client = Client::new(
        TcpStream::connect(operated.server.addresses.tcp)
            .await
            .unwrap(),
    );
    client.join("lobby", "Anna").await;
}
