//! Bad browsers, bad pages, and programs that are neither.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cubesync_protocol::{ClientMessage, Hello, Message, RejectCode};

use crate::fault::{Fault, Outcome, Setup};
use crate::harness::peer::RED;
use crate::harness::scene::{PATIENCE, Scene, hello};
use crate::harness::web::{self, Answer, BINARY, End};

/// An answer after which nothing came for so long is over.
const QUIET: Duration = Duration::from_millis(300);
/// Final bit and opcode of a WebSocket's frames.
const PING: u8 = 0x89;
const CONTINUATION: u8 = 0x00;
const FIRST_BINARY: u8 = 0x02;

/// A server whose patience with slow readers of pages is shorter in a quick run.
const IMPATIENT: Setup = Setup {
    quick_flags: &["--http-lifetime", "5s"],
    ..Setup::PLAIN
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new("slow-head", &["cut head_timeout", "cut full"], |scene| {
        slowhttptest(scene, "/", &["-H", "-i", "1"])
    })
    .needs(&["slowhttptest"]),
    Fault::new("slow-body", &["http 413", "cut full"], |scene| {
        slowhttptest(scene, "/", &["-B", "-i", "1", "-s", "8192"])
    })
    .needs(&["slowhttptest"]),
    Fault::new("slow-read", &["cut lifetime", "cut full"], |scene| {
        let page = web::get(scene.server.http, "/")?;
        let page = String::from_utf8_lossy(&page.body);
        let long = page.split('"').find(|part| part.ends_with(".wasm"));
        let path = format!("/{}", long.context("the page has no long file")?);
        slowhttptest(
            scene,
            &path,
            &["-X", "-w", "8", "-y", "16", "-n", "2", "-z", "4"],
        )
    })
    .needs(&["slowhttptest"])
    .on(&IMPATIENT),
    Fault::new("101-headers", &["cut head_too_long"], |scene| {
        let headers: String = (0..101)
            .map(|number| format!("X-{number}: a\r\n"))
            .collect();
        answered(scene, &request("GET", "/time.html", &headers), &[431, 400])
    }),
    Fault::new("600-kb-header", &["cut head_too_long"], |scene| {
        let headers = format!("X-Long: {}\r\n", "a".repeat(600_000));
        answered(scene, &request("GET", "/time.html", &headers), &[431, 400])
    }),
    Fault::new("70-kb-uri", &["cut head_too_long"], |scene| {
        let path = format!("/{}", "a".repeat(70_000));
        answered(scene, &request("GET", &path, ""), &[414, 431, 400])
    }),
    Fault::new("missing-host", &["http 400"], |scene| {
        answered(
            scene,
            b"GET /time.html HTTP/1.1\r\nConnection: close\r\n\r\n",
            &[400],
        )
    }),
    Fault::new("double-host", &["http 400"], |scene| {
        answered(
            scene,
            &request("GET", "/time.html", "Host: evil\r\n"),
            &[400],
        )
    }),
    Fault::new(
        "content-length-and-chunked",
        &["http 400", "http 413", "cut bad_request"],
        |scene| {
            let headers = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
            let bytes = [&request("POST", "/time.html", headers)[..], SMUGGLED].concat();
            not_smuggled(scene, &bytes)
        },
    ),
    Fault::new(
        "two-content-lengths",
        &["http 400", "cut bad_request"],
        |scene| {
            let headers = "Content-Length: 5\r\nContent-Length: 6\r\n";
            let bytes = [&request("POST", "/time.html", headers)[..], SMUGGLED].concat();
            not_smuggled(scene, &bytes)
        },
    ),
    Fault::new("bare-cr", &["http 400", "cut bad_request"], |scene| {
        answered(
            scene,
            &request("GET", "/time.html", "X-Bare: a\rX-Other: b\r\n"),
            &[400],
        )
    }),
    Fault::new("nul", &["http 400", "cut bad_request"], |scene| {
        answered(
            scene,
            &request("GET", "/time.html", "X-Nul: a\0b\r\n"),
            &[400],
        )
    }),
    Fault::new(
        "dot-dot-slash",
        &["http 404", "http 400", "cut bad_request"],
        dot_dot_slash,
    ),
    Fault::new(
        "unknown-methods",
        &["http 405", "http 400", "cut bad_request"],
        |scene| {
            let methods = [
                "BREW", "TRACE", "CONNECT", "DELETE", "PUT", "OPTIONS", "get", "G\u{e9}T",
            ];
            for method in methods {
                answered(scene, &request(method, "/time.html", ""), &[405, 400])
                    .with_context(|| method.to_owned())?;
            }
            Ok(Outcome::of(
                methods.len() as u64,
                "405 or 400 for each of 8",
            ))
        },
    ),
    Fault::new("post", &["http 413"], |scene| {
        let bytes = [
            &request("POST", "/time.html", "Content-Length: 3\r\n")[..],
            b"a=b",
        ]
        .concat();
        answered(scene, &bytes, &[413])
    }),
    Fault::new("head", &[], |scene| {
        let answer = ask(scene, &request("HEAD", "/time.html", ""))?;
        ensure!(
            answer.status() == Some(200) && answer.body.is_empty(),
            "{answer}"
        );
        Ok(Outcome::of(0, "200, no body"))
    }),
    Fault::new("pipelining", &[], |scene| {
        let mut bytes = b"GET /time.html HTTP/1.1\r\nHost: a\r\n\r\n".repeat(19);
        bytes.extend(request("GET", "/healthz", ""));
        let answer = ask(scene, &bytes)?;
        ensure!(answer.statuses == [200; 20], "{answer}");
        ensure!(answer.body.ends_with(b"serving\n"), "not in order");
        Ok(Outcome::of(0, "20 answers in their order"))
    }),
    Fault::new("http-1.0", &[], |scene| {
        let answer = ask(scene, b"GET /time.html HTTP/1.0\r\n\r\n")?;
        ensure!(
            answer.status() == Some(200) && answer.end == End::Fin,
            "{answer}"
        );
        Ok(Outcome::of(0, answer.to_string()))
    }),
    Fault::new("upgrade-wrong-version", &["http 426"], |scene| {
        upgrade(
            scene,
            "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            426,
        )
    }),
    Fault::new("upgrade-without-key", &["http 400"], |scene| {
        upgrade(scene, "Sec-WebSocket-Version: 13\r\n", 400)
    }),
    Fault::new("upgrade-bad-key", &["http 400"], |scene| {
        upgrade(
            scene,
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n",
            400,
        )
    }),
    Fault::new("foreign-origin", &["http 403"], |scene| {
        origin(scene, "http://evil.example")
    }),
    Fault::new("null-origin", &["http 403"], |scene| origin(scene, "null")),
    Fault::new("look-alike-origin", &["http 403"], |scene| {
        let host = scene.server.http;
        let alike = [
            "http://{}.evil.example",
            "http://evil@{}",
            "http://{}/",
            "ws://{}",
        ];
        for form in alike {
            origin(scene, &form.replace("{}", &host.to_string())).context(form)?;
        }
        Ok(Outcome::of(4, "403 for each of 4"))
    }),
    Fault::new("ws-unmasked", &["bad_message"], |scene| {
        ws_says(scene, |_| vec![BINARY, 5, 0, 0, 0, 1, 5])
    }),
    Fault::new("ws-reserved-bits", &["bad_message"], |scene| {
        ws_says(scene, |ping| web::ws_frame(BINARY | 0x70, ping))
    }),
    Fault::new("ws-reserved-opcode", &["bad_message"], |scene| {
        ws_says(scene, |ping| web::ws_frame(0x83, ping))
    }),
    Fault::new("ws-giant-ping", &["bad_message"], |scene| {
        ws_says(scene, |_| web::ws_frame(PING, &[7; 4_000]))
    }),
    Fault::new("ws-2^62-bytes-claimed", &["frame_too_long"], |scene| {
        ws_says(scene, |_| web::ws_head(BINARY, 1 << 62))
    }),
    Fault::new("ws-text", &["bad_message"], |scene| {
        ws_says(scene, |_| web::ws_frame(0x81, b"hello"))
    }),
    Fault::new("ws-endless-fragments", &["frame_too_long"], |scene| {
        ws_says(scene, |_| {
            let mut frames = web::ws_frame(FIRST_BINARY, &[0; 1_000]);
            for _ in 0..100 {
                frames.extend(web::ws_frame(CONTINUATION, &[0; 1_000]));
            }
            frames
        })
    }),
    Fault::new("ws-endless-empty-fragments", &["frame_too_slow"], |scene| {
        ws_says(scene, |_| {
            let mut frames = web::ws_frame(FIRST_BINARY, &[]);
            for _ in 0..20_000 {
                frames.extend(web::ws_frame(CONTINUATION, &[]));
            }
            frames
        })
    }),
    Fault::new("ws-rst", &["lost"], |scene| {
        let mut peer = scene.websocket()?;
        peer.join(hello("bad"))?;
        peer.reset()?;
        Ok(Outcome::one("it reset the connection itself"))
    }),
    Fault::new("hostile-names", &["bad_name"], hostile_names),
    Fault::new("10-mb-name", &["not_hello"], |scene| {
        let hello = Hello::new("lobby", "a".repeat(10_000_000), RED);
        let frame = ClientMessage::Hello(hello).to_frame();
        let mut peer = scene.peer()?;
        // It is cut off while it talks.
        let _ = peer.send_raw(&frame);
        let ending = peer.ending(PATIENCE)?;
        Ok(Outcome::one(ending.over()?))
    }),
    Fault::new("emoji-name", &[], |scene| {
        let mut peer = scene.websocket()?;
        let welcome = peer.join(hello("🦀🚀🇺🇦"))?;
        peer.leave()?;
        Ok(Outcome::of(0, format!("let in as {}", welcome.name)))
    }),
];

/// What would be a second request to a server that is misled about where the first one ends.
const SMUGGLED: &[u8] = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

fn request(method: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")
        .into_bytes()
}

fn ask(scene: &Scene<'_>, bytes: &[u8]) -> Result<Answer> {
    web::exchange(scene.server.http, bytes, QUIET)
}

/// One of these must be the one answer, and the connection be closed after it.
fn answered(scene: &mut Scene<'_>, bytes: &[u8], expected: &[u16]) -> Result<Outcome> {
    let answer = ask(scene, bytes)?;
    let is_one = matches!(answer.statuses[..], [status] if expected.contains(&status));
    ensure!(
        is_one && answer.end != End::Open,
        "expected {expected:?}, saw {answer}"
    );
    Ok(Outcome::one(answer.to_string()))
}

/// There must be one refusal, and no answer to what was hidden in the body.
fn not_smuggled(scene: &mut Scene<'_>, bytes: &[u8]) -> Result<Outcome> {
    answered(scene, bytes, &[400, 413])
}

fn dot_dot_slash(scene: &mut Scene<'_>) -> Result<Outcome> {
    const UP: [&str; 12] = [
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..\\",
        "..%5c",
        "%252e%252e%252f",
        "..%252f",
        "..%c0%af",
        "%c0%ae%c0%ae/",
        "....//",
        "..;/",
    ];
    for up in UP {
        for folder in ["", "assets/"] {
            let path = format!("/{folder}{}etc/passwd", up.repeat(8));
            let answer = ask(scene, &request("GET", &path, ""))?;
            let is_refused = matches!(answer.status(), Some(404 | 400));
            ensure!(is_refused, "{path}: {answer}");
            ensure!(
                web::find(&answer.body, b"root:").is_none(),
                "{path} shows the file"
            );
        }
    }
    let count = 2 * UP.len();
    Ok(Outcome::of(
        count as u64,
        format!("404 or 400 for each of {count}"),
    ))
}

fn upgrade(scene: &mut Scene<'_>, headers: &str, expected: u16) -> Result<Outcome> {
    let bytes = web::upgrade(scene.server.http, headers);
    let answer = ask(scene, bytes.as_bytes())?;
    ensure!(
        answer.status() == Some(expected),
        "expected {expected}, saw {answer}"
    );
    let version = answer
        .head
        .to_ascii_lowercase()
        .contains("sec-websocket-version: 13");
    ensure!(expected != 426 || version, "it does not say which version");
    Ok(Outcome::one(answer.to_string()))
}

fn origin(scene: &mut Scene<'_>, origin: &str) -> Result<Outcome> {
    upgrade(
        scene,
        &format!("{}Origin: {origin}\r\n", web::RIGHT_HEADERS),
        403,
    )
}

/// A player in a WebSocket sends these bytes, made from a right message: the connection must end.
fn ws_says(scene: &mut Scene<'_>, bytes: fn(&[u8]) -> Vec<u8>) -> Result<Outcome> {
    let mut peer = scene.websocket()?;
    peer.join(hello("bad"))?;
    let ping = ClientMessage::Ping { sent_us: 1 }.to_frame();
    // A server that has heard enough may cut us off while we talk.
    let _ = peer.send_raw(&bytes(&ping));
    Ok(Outcome::one(peer.ending(PATIENCE)?.over()?))
}

/// Names that would break a line of a log, of the metrics, or of the screen.
fn hostile_names(scene: &mut Scene<'_>) -> Result<Outcome> {
    const NAMES: [&str; 8] = [
        "a\nb",
        "a\r\nINFO forged",
        "\u{1b}[31mred",
        "a\0b",
        "\u{202e}nimda",
        "\u{2066}x\u{2069}",
        "\u{200b}",
        "a\u{7f}",
    ];
    for name in NAMES {
        for frame in [hello(name), Hello::new(name, "bad", RED)] {
            let frame = ClientMessage::Hello(frame).to_frame();
            scene
                .stranger_says(&frame, RejectCode::Name)
                .context(format!("{name:?}"))?;
        }
    }
    // These are allowed, and must not be taken for a label's end or for markup.
    for name in ["\"} 1", "<script>", "\\\" x"] {
        let (peer, _) = scene.player(name)?;
        let page = web::get(scene.server.http, "/metrics")?;
        ensure!(
            web::find(&page.body, b"<script").is_none(),
            "a name is in the metrics"
        );
        peer.leave()?;
    }
    let log = scene.server.log();
    let is_torn =
        |line: &str| line.chars().any(char::is_control) || line.starts_with("INFO forged");
    if let Some(line) = log.lines().find(|line| is_torn(line)) {
        bail!("a name broke a line of the log: {line:?}");
    }
    let count = 2 * NAMES.len();
    Ok(Outcome::of(
        count as u64,
        format!("Reject Name for each of {count}; the log is whole"),
    ))
}

/// Runs the program of that name; every connection it makes must be cut or answered.
fn slowhttptest(scene: &mut Scene<'_>, path: &str, flags: &[&str]) -> Result<Outcome> {
    let count = scene.pick(60, 400);
    let connections = count.to_string();
    let url = format!("http://{}{path}", scene.server.http);
    let began = Instant::now();
    Command::new("slowhttptest")
        .args(flags)
        .args([
            "-c",
            &connections,
            "-r",
            &connections,
            "-p",
            "3",
            "-u",
            &url,
        ])
        .args(["-l", scene.pick("15", "75")])
        .output()
        .context("cannot run slowhttptest")?;
    let took = began.elapsed().as_secs();
    let answer = web::get(scene.server.http, "/healthz")?;
    ensure!(answer.status() == Some(200), "no pages any more: {answer}");
    let saw = format!("all of {count} connections were over after {took} s");
    Ok(Outcome::of(count, saw))
}
