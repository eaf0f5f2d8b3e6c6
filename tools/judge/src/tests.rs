//! The judge judged: a client that is right but for one flaw must be found out, by the case that is about it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::BytesMut;
use cubesync_protocol::uplink::UplinkSender;
use cubesync_protocol::{ClientMessage, Hello, Message, Replica, ServerMessage, Welcome, frame};

use crate::cases::{self, Ability, Case};
use crate::client::{self, Client, Start, Task};
use crate::runner::{self, Profile, Verdict};
use cubesync_protocol::Encoding;

/// A mistake of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// It sends no pings.
    Mute,
    /// It takes the first keyframe of a cell and no other.
    OneKeyframe,
    /// It leaves residuals away.
    NoResiduals,
    /// It leaves snapshots with events away.
    NoEvents,
    /// It looks at the first frame of each read only.
    FirstFrameOnly,
    /// It knows numbers of one byte only.
    ShortNumbers,
    /// It sends the same tick again and again.
    SameTick,
    /// It says something before its `Hello`.
    TooEarly,
    /// It goes on after bytes that are no message.
    Tolerant,
    /// It comes back whatever the server says.
    Clinging,
    /// It fails inside when the connection ends.
    Crashing,
    /// It connects and does nothing.
    Hanging,
}

/// A client in a thread.
struct Played {
    thread: JoinHandle<()>,
    crash: Arc<Mutex<Option<String>>>,
}

impl Client for Played {
    fn ended(&mut self) -> Option<String> {
        self.thread.is_finished().then(|| "its thread".to_owned())
    }

    fn output(&self) -> String {
        String::new()
    }

    fn crash(&mut self) -> Option<String> {
        self.crash.lock().unwrap().clone()
    }
}

/// Returns what starts a client with a flaw.
fn flawed(flaw: Flaw) -> Box<Start> {
    Box::new(move |task| {
        let task = task.clone();
        let crash = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&crash);
        let thread = thread::spawn(move || {
            while play(&task, flaw).is_ok() && flaw == Flaw::Clinging {
                thread::sleep(Duration::from_millis(300));
            }
            if flaw == Flaw::Crashing {
                *noted.lock().unwrap() = Some("it panicked".to_owned());
            }
        });
        Ok(Box::new(Played { thread, crash }))
    })
}

/// Plays one session, to its end.
fn play(task: &Task, flaw: Flaw) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", task.port))?;
    stream.set_read_timeout(Some(Duration::from_millis(10)))?;
    if flaw == Flaw::TooEarly {
        stream.write_all(&ClientMessage::Leave.to_frame())?;
    }
    if flaw != Flaw::Hanging {
        let hello = Hello::new("lobby", "Flawed", [1, 2, 3].into());
        stream.write_all(&ClientMessage::Hello(hello).to_frame())?;
    }
    let (mut read, mut replica, mut uplink) =
        (BytesMut::new(), Replica::default(), UplinkSender::default());
    let mut welcome: Option<Welcome> = None;
    let (mut clock, mut pinged) = (0, Instant::now());
    loop {
        let mut bytes = [0; 64 * 1024];
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => read.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Ok(()),
        }
        loop {
            let payload = match frame::split(&mut read, ServerMessage::MAX_PAYLOAD_BYTES) {
                Ok(None) => break,
                Ok(Some(payload)) => payload,
                Err(_) if flaw == Flaw::Tolerant => {
                    read.clear();
                    break;
                }
                Err(_) => return Ok(()),
            };
            if flaw == Flaw::FirstFrameOnly {
                read.clear();
            }
            let Ok(mut message) = ServerMessage::decode(&payload) else {
                if flaw == Flaw::Tolerant {
                    continue;
                }
                return Ok(());
            };
            match &mut message {
                ServerMessage::Welcome(_) if welcome.is_some() => return Ok(()),
                ServerMessage::Welcome(new) if new.tick_hz > 0 => {
                    uplink.gain(new.cube, new.pose);
                    clock = new.tick;
                    welcome = Some(new.clone());
                }
                _ if welcome.is_none() => return Ok(()),
                ServerMessage::Reject { .. } | ServerMessage::Closing { .. } => return Ok(()),
                ServerMessage::Keyframe(new)
                    if flaw == Flaw::OneKeyframe && replica.stream(new.cell).is_some() =>
                {
                    continue;
                }
                ServerMessage::Keyframe(new) if flaw == Flaw::ShortNumbers => {
                    new.cubes.iter_mut().for_each(|info| info.cube.0 &= 0xFF);
                }
                ServerMessage::Snapshot(new) if flaw == Flaw::NoResiduals => new.residuals.clear(),
                ServerMessage::Snapshot(new) if flaw == Flaw::NoEvents => new.events.clear(),
                ServerMessage::Pong { tick, .. } => clock = clock.max(*tick),
                _ => {}
            }
            if replica.take_in(&message).is_err() && flaw != Flaw::Tolerant {
                return Ok(());
            }
        }
        let Some(welcome) = &welcome else {
            continue;
        };
        if flaw != Flaw::Mute && pinged.elapsed() > Duration::from_secs(1) {
            pinged = Instant::now();
            stream.write_all(&ClientMessage::Ping { sent_us: 1 }.to_frame())?;
        }
        let target = replica.cubes().find(|info| info.name == task.follow);
        if let Some(pose) = target.and_then(|info| replica.pose(info.cube)) {
            clock = match flaw {
                Flaw::SameTick => u64::from(u32::MAX),
                _ => replica.tick().max(clock) + 1,
            };
            // Both at rest: nothing is between two poses.
            let at = Duration::from_secs(clock);
            uplink.set_pose(welcome.cube, pose, at);
            if let Some(sample) = uplink.take_sample(clock, at, false) {
                let message = ClientMessage::Sample {
                    tick: sample.tick,
                    placed: sample.placed,
                    residuals: sample.residuals,
                };
                stream.write_all(&message.to_frame())?;
            }
        }
    }
}

fn profile() -> Profile {
    Profile {
        encoding: Encoding::Predicted,
        is_web: false,
        abilities: vec![Ability::Follow, Ability::Strict],
    }
}

fn named(name: &str) -> Case {
    *cases::all()
        .iter()
        .find(|case| case.name == name)
        .expect("the case exists")
}

/// Returns what the judge says of a client in some cases.
fn verdicts(start: &Start, names: &[&str]) -> Vec<Verdict> {
    let cases: Vec<_> = names.iter().map(|name| named(name)).collect();
    runner::run(&cases, &profile(), start, cases.len(), |_, _| {})
}

/// Each flaw, the case that finds it out, and words that it says.
const FOUND_OUT: [(Flaw, &str, &str); 16] = [
    (Flaw::Mute, "pings", "no Ping for"),
    (
        Flaw::OneKeyframe,
        "keyframe-replaces",
        "not to have applied the second keyframe",
    ),
    (Flaw::NoResiduals, "jump", "not to have applied a jump"),
    (Flaw::NoEvents, "crosses", "not to have applied Entered"),
    (
        Flaw::FirstFrameOnly,
        "one-segment",
        "it closed the connection",
    ),
    (Flaw::ShortNumbers, "large-ids", "the cube to follow is at"),
    (Flaw::SameTick, "moves-again-and-again", "ticks must rise"),
    (Flaw::TooEarly, "hello-first", "no Hello"),
    (Flaw::Tolerant, "long-frame", "kept the connection open"),
    (Flaw::Tolerant, "trailing", "kept the connection open"),
    (Flaw::Tolerant, "long-cell", "kept the connection open"),
    (Flaw::Tolerant, "garbage", "kept the connection open"),
    (Flaw::Tolerant, "ticks-fall", "kept the connection open"),
    (
        Flaw::Clinging,
        "closing-kicked",
        "came back after Closing with Kicked",
    ),
    (Flaw::Crashing, "half-open", "panicked"),
    (Flaw::Hanging, "hello-first", "no Hello within 2 s"),
];

#[test]
fn every_flaw_is_found_out() {
    thread::scope(|scope| {
        for (flaw, case, words) in FOUND_OUT {
            scope.spawn(move || match &verdicts(&*flawed(flaw), &[case])[0] {
                Verdict::Wrong { words: said, .. } => {
                    assert!(said.contains(words), "{flaw:?} in {case}: {said}");
                }
                verdict => panic!("{flaw:?} in {case}: {verdict:?}"),
            });
        }
    });
}

#[test]
fn a_client_without_a_flaw_passes() {
    let cases = FOUND_OUT.map(|(_, case, _)| case);
    for (verdict, case) in verdicts(&*flawed(Flaw::None), &cases).iter().zip(cases) {
        assert_eq!(*verdict, Verdict::Right, "{case}");
    }
}

/// Returns what the judge says of a shell's command in a case.
fn said_of(script: &str) -> String {
    let words = ["sh", "-c", script, "{address}"].map(str::to_owned);
    let start = client::command(words.into()).unwrap();
    match verdicts(&*start, &["hello-first"]).remove(0) {
        Verdict::Wrong { words, transcript } => format!("{words}\n{}", transcript.join("\n")),
        verdict => panic!("{script}: {verdict:?}"),
    }
}

#[test]
fn a_process_that_ends_is_told_from_one_that_was_killed() {
    let said = said_of("echo no way; exit 3");
    assert!(
        said.contains("exit status: 3") && said.contains("it printed: no way"),
        "{said}"
    );
    let said = said_of("kill -SEGV $$");
    assert!(said.contains("signal: 11"), "{said}");
}

#[test]
fn a_command_that_says_nowhere_to_connect_is_refused() {
    assert!(client::command(vec!["true".to_owned()]).is_err());
}

#[test]
fn what_a_client_cannot_do_is_not_applicable() {
    let cases = ["takes", "comes-back", "web-ping", "reject-is-shown"];
    for verdict in verdicts(&*flawed(Flaw::None), &cases) {
        assert!(matches!(verdict, Verdict::NotApplicable(_)), "{verdict:?}");
    }
}

#[test]
fn names_are_unique_and_sections_exist() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/PROTOCOL.md");
    let text = std::fs::read_to_string(file).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|letter| letter.is_alphanumeric() || " -".contains(*letter));
        kept.collect::<String>().replace(' ', "-")
    };
    let anchors: Vec<_> = headings.map(anchor).collect();
    let cases = cases::all();
    assert!(cases.len() >= 60);
    for case in &cases {
        assert!(
            anchors.iter().any(|anchor| anchor == case.section),
            "{}: {}",
            case.name,
            case.section
        );
        assert_eq!(
            cases.iter().filter(|other| other.name == case.name).count(),
            1,
            "{}",
            case.name
        );
    }
}
