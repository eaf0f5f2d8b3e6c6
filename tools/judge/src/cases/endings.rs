//! How a conversation ends, and whether and how the client comes back.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cubesync_protocol::{
    ClientMessage, CloseCode, CubeId, Hello, RejectCode, ResumeToken, ServerMessage, Welcome,
};

use super::{Case, FOLLOW, MOVE, RETURN, SAY, case};
use crate::room::{OWN, TARGET, at, is_near};
use crate::trial::{Outcome, Trial};

const CODES: &str = "from-the-server";
const RETURNS: &str = "coming-back";
const SECOND: &str = "the-room-goes-on-at-another-server";
const CONVERSATION: &str = "the-conversation";

pub(super) const CASES: &[Case] = &[
    case(
        "reject-not-hello",
        "ends at a Reject with NotHello, and tries later if at all",
        CODES,
        &[],
        |trial| rejected(trial, RejectCode::NotHello),
    ),
    case(
        "reject-version",
        "ends at a Reject with Version for good",
        CODES,
        &[],
        |trial| rejected(trial, RejectCode::Version),
    ),
    case(
        "reject-name",
        "ends at a Reject with Name for good",
        CODES,
        &[],
        |trial| rejected(trial, RejectCode::Name),
    ),
    case(
        "reject-join-key",
        "ends at a Reject with JoinKey for good",
        CODES,
        &[],
        |trial| rejected(trial, RejectCode::JoinKey),
    ),
    case(
        "reject-full",
        "ends at a Reject with Full, and tries later if at all",
        CODES,
        &[],
        |trial| rejected(trial, RejectCode::Full),
    ),
    case(
        "reject-shutting-down",
        "ends at a Reject with ShuttingDown, and tries later if at all",
        CODES,
        &[],
        |trial| rejected(trial, RejectCode::ShuttingDown),
    ),
    case(
        "reject-comes-back",
        "comes back after a Reject with Full",
        CODES,
        &[RETURN],
        reject_comes_back,
    ),
    case(
        "reject-is-shown",
        "shows the message of a Reject to the person",
        CODES,
        &[SAY],
        reject_is_shown,
    ),
    case(
        "reject-at-once",
        "reads a Reject that comes before its Hello",
        CONVERSATION,
        &[],
        reject_at_once,
    ),
    case(
        "closed-at-once",
        "ends when the server closes without a word, and does not try too often",
        CONVERSATION,
        &[],
        closed_at_once,
    ),
    case(
        "closing-replaced",
        "ends at Closing with Replaced for good",
        CODES,
        &[],
        |trial| closed(trial, CloseCode::Replaced),
    ),
    case(
        "closing-kicked",
        "ends at Closing with Kicked for good",
        CODES,
        &[],
        |trial| closed(trial, CloseCode::Kicked),
    ),
    case(
        "closing-banned",
        "ends at Closing with Banned for good",
        CODES,
        &[],
        |trial| closed(trial, CloseCode::Banned),
    ),
    case(
        "closing-bad-message",
        "ends at Closing with BadMessage for good",
        CODES,
        &[],
        |trial| closed(trial, CloseCode::BadMessage),
    ),
    case(
        "closing-too-many",
        "ends at Closing with TooManyMessages for good",
        CODES,
        &[],
        |trial| closed(trial, CloseCode::TooManyMessages),
    ),
    case(
        "closing-slow-reader",
        "ends at Closing with SlowReader for good",
        CODES,
        &[],
        |trial| closed(trial, CloseCode::SlowReader),
    ),
    case(
        "closing-is-shown",
        "shows the message of Closing to the person",
        CODES,
        &[SAY],
        closing_is_shown,
    ),
    case(
        "closing-instead-of-welcome",
        "ends at Closing that comes instead of a Welcome",
        CODES,
        &[],
        closing_instead_of_welcome,
    ),
    case(
        "comes-back-when-asked",
        "comes back after Closing with 2 s, not before, with the token",
        CODES,
        &[RETURN],
        comes_back_when_asked,
    ),
    case(
        "comes-back-at-once",
        "comes back after Closing with 0 s",
        CODES,
        &[RETURN],
        comes_back_at_once,
    ),
    case(
        "comes-back",
        "comes back after a lost connection, with the token and its last pose",
        RETURNS,
        &[RETURN, FOLLOW],
        comes_back,
    ),
    case(
        "newest-token",
        "shows the token of the newest Welcome at each return",
        RETURNS,
        &[RETURN],
        newest_token,
    ),
    case(
        "other-cube",
        "goes on with another cube when the server does not know the token",
        RETURNS,
        &[RETURN, FOLLOW],
        other_cube,
    ),
    case(
        "lost-while-joining",
        "comes back when the connection is lost before the keyframe",
        RETURNS,
        &[RETURN],
        lost_while_joining,
    ),
    case(
        "other-server",
        "goes on at the other server that the Welcome named, with the token",
        "moving-to-another-server",
        &[MOVE, FOLLOW],
        other_server,
    ),
    case(
        "reset",
        "does not fail inside when the connection is reset",
        RETURNS,
        &[],
        reset,
    ),
    case(
        "half-open",
        "ends when the server has closed its direction",
        CONVERSATION,
        &[],
        half_open,
    ),
    case(
        "second-welcome",
        "answers a second Welcome by Continue and places its cubes again, or closes",
        SECOND,
        &[FOLLOW],
        second_welcome,
    ),
    case(
        "second-welcome-other-cube",
        "goes on with the cube of a second Welcome, or closes",
        SECOND,
        &[FOLLOW],
        second_welcome_other_cube,
    ),
    case(
        "third-welcome",
        "counts releases on at yet another Welcome, or closes",
        SECOND,
        &[FOLLOW],
        third_welcome,
    ),
    case(
        "second-welcome-of-the-past",
        "closes at a second Welcome whose tick is not later",
        SECOND,
        &[],
        second_welcome_of_the_past,
    ),
];

const WORDS: &str = "Das Ende – конец – the end 42";

/// Rejects the client's `Hello`.
fn reject(trial: &mut Trial<'_>, code: RejectCode) -> Outcome {
    trial.hello()?;
    let message = WORDS.to_owned();
    trial.send(ServerMessage::Reject { code, message })?;
    trial.ends("a Reject")
}

fn rejected(trial: &mut Trial<'_>, code: RejectCode) -> Outcome {
    reject(trial, code)?;
    if code.is_temporary() {
        trial.does_not_hurry()
    } else {
        trial.stays_away(&format!(
            "a Reject with {code:?}, which says that it is of no use to try again"
        ))
    }
}

fn reject_comes_back(trial: &mut Trial<'_>) -> Outcome {
    reject(trial, RejectCode::Full)?;
    trial.comes_back()?;
    trial.hello_here()?;
    Ok(())
}

fn reject_is_shown(trial: &mut Trial<'_>) -> Outcome {
    reject(trial, RejectCode::JoinKey)?;
    trial.prints(WORDS)
}

fn reject_at_once(trial: &mut Trial<'_>) -> Outcome {
    trial.accept()?;
    let message = WORDS.to_owned();
    let code = RejectCode::Full;
    trial.send(ServerMessage::Reject { code, message })?;
    trial.ends("a Reject that came before its Hello")?;
    trial.does_not_hurry()
}

fn closed_at_once(trial: &mut Trial<'_>) -> Outcome {
    trial.accept()?;
    trial.hang_up();
    trial.does_not_hurry()
}

/// Closes the conversation.
fn close(trial: &mut Trial<'_>, code: CloseCode, retry_after_ms: Option<u32>) -> Outcome {
    let message = WORDS.to_owned();
    trial.send(ServerMessage::Closing {
        code,
        message,
        retry_after_ms,
    })?;
    trial.ends("Closing")
}

fn closed(trial: &mut Trial<'_>, code: CloseCode) -> Outcome {
    trial.join()?;
    trial.stay(Duration::from_millis(300))?;
    close(trial, code, None)?;
    trial.stays_away(&format!(
        "Closing with {code:?} and without a time to come back"
    ))
}

fn closing_is_shown(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    close(trial, CloseCode::Kicked, None)?;
    trial.prints(WORDS)
}

fn closing_instead_of_welcome(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    close(trial, CloseCode::Kicked, None)?;
    trial.stays_away("Closing without a time to come back")
}

/// Checks the token of a client that has come back.
fn has_token(hello: &Hello, token: ResumeToken) -> Outcome {
    ensure!(
        hello.resume.is_some(),
        "it came back without a token: its player gets another cube"
    );
    ensure!(
        hello.resume == Some(token),
        "it came back with another token than that of the newest Welcome"
    );
    Ok(())
}

fn comes_back_when_asked(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.stay(Duration::from_millis(500))?;
    close(trial, CloseCode::ShuttingDown, Some(2_000))?;
    let closed = Instant::now();
    trial.comes_back()?;
    let away = closed.elapsed();
    ensure!(
        away >= Duration::from_millis(1_500),
        "it came back after {:.1} s; Closing asked it to come back after 2 s",
        away.as_secs_f32()
    );
    let hello = trial.hello_here()?;
    has_token(&hello, trial.greeting.resume)
}

fn comes_back_at_once(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    close(trial, CloseCode::Silent, Some(0))?;
    trial.comes_back()?;
    let hello = trial.hello_here()?;
    has_token(&hello, trial.greeting.resume)
}

fn comes_back(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    let there = trial.own();
    trial.hang_up();
    trial.comes_back()?;
    let hello = trial.hello_here()?;
    has_token(&hello, trial.greeting.resume)?;
    let is_there = hello
        .pose
        .zip(there)
        .is_some_and(|(pose, there)| is_near(pose, there));
    ensure!(
        is_there,
        "it came back with the pose {:?} in its Hello; its cube was at {there:?}",
        hello.pose
    );
    trial.greeting.pose = there.unwrap_or_default();
    trial.welcome()?;
    trial.first_keyframe()?;
    trial.room.put(TARGET, at(-4.0, 4.0, 1.0));
    trial.settle()?;
    trial.follows("the snapshots after it has come back")
}

fn newest_token(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    for round in 2..5 {
        trial.stay(Duration::from_millis(300))?;
        trial.hang_up();
        trial.comes_back()?;
        let hello = trial.hello_here()?;
        has_token(&hello, trial.greeting.resume)?;
        trial.greeting.resume = ResumeToken([round; 16]);
        trial.welcome()?;
        trial.first_keyframe()?;
    }
    Ok(())
}

fn other_cube(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    trial.hang_up();
    trial.comes_back()?;
    trial.hello_here()?;
    trial.greeting.cube = CubeId(70);
    trial.greeting.tick = 20;
    trial.welcome()?;
    trial.first_keyframe()?;
    trial.room.put(TARGET, at(-4.0, 4.0, 1.0));
    trial.settle()?;
    trial.follows("the snapshots after it has come back with another cube")
}

fn other_server(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    let other = trial.name_another_server()?;
    trial.welcome()?;
    trial.first_keyframe()?;
    trial.follows("the first keyframe")?;
    trial.move_to(other);
    trial.comes_back()?;
    let hello = trial.hello_here()?;
    has_token(&hello, trial.greeting.resume)?;
    trial.welcome()?;
    trial.first_keyframe()?;
    trial.room.put(TARGET, at(-4.0, 4.0, 1.0));
    trial.settle()?;
    trial.follows("the snapshots of the other server")
}

fn lost_while_joining(trial: &mut Trial<'_>) -> Outcome {
    trial.hello()?;
    trial.welcome()?;
    trial.hang_up();
    trial.comes_back()?;
    trial.hello_here()?;
    trial.welcome()?;
    trial.first_keyframe()?;
    trial.stay(Duration::from_secs(1))
}

fn reset(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.stay(Duration::from_millis(500))?;
    trial.reset()?;
    trial.does_not_hurry()
}

fn half_open(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.stay(Duration::from_millis(500))?;
    trial.link()?.end_writing();
    trial.ends("the server had closed its direction")
}

/// Sends a second welcome at a later tick. Returns whether the client goes on: it may also close, and come back
/// with the new token.
fn welcome_again(trial: &mut Trial<'_>, cube: CubeId, token: u8) -> anyhow::Result<bool> {
    let (tick, _) = trial.clock();
    let before = trial.uplink.releases;
    trial.set_tick(tick + 100);
    trial.greeting = Welcome {
        cube,
        pose: trial.own().unwrap_or(trial.greeting.pose),
        resume: ResumeToken([token; 16]),
        ..trial.greeting.clone()
    };
    let welcome = trial.greeting.clone();
    trial.send(ServerMessage::Welcome(welcome))?;
    let is_closed =
        trial.answers_or_closes(|message| matches!(message, ClientMessage::Continue { .. }))?;
    if is_closed {
        return Ok(false);
    }
    let releases = trial.says("Continue", |message| match message {
        ClientMessage::Continue { releases } => Some(*releases),
        _ => None,
    })?;
    ensure!(
        releases == before + 1,
        "it answered the Welcome by Continue with {releases} releases; it had counted {before}"
    );
    trial.first_keyframe()?;
    Ok(true)
}

fn second_welcome(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    if welcome_again(trial, OWN, 2)? {
        trial.room.put(TARGET, at(-4.0, 4.0, 1.0));
        trial.settle()?;
        trial.follows("the snapshots after the second Welcome, or did not place its cube again")?;
    }
    trial.is_sound()
}

fn second_welcome_other_cube(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    if welcome_again(trial, CubeId(71), 2)? {
        trial.room.put(TARGET, at(-4.0, 4.0, 1.0));
        trial.settle()?;
        trial
            .follows("the second Welcome, which gave it another cube, or the snapshots after it")?;
    }
    trial.is_sound()
}

fn third_welcome(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.follows("the first keyframe")?;
    if welcome_again(trial, OWN, 2)? && welcome_again(trial, OWN, 3)? {
        trial.room.put(TARGET, at(-4.0, 4.0, 1.0));
        trial.settle()?;
        trial.follows("the snapshots after the third Welcome")?;
    }
    trial.is_sound()
}

fn second_welcome_of_the_past(trial: &mut Trial<'_>) -> Outcome {
    trial.join()?;
    trial.stay(Duration::from_secs(1))?;
    let welcome = Welcome {
        tick: trial.room.replica.tick(),
        ..trial.greeting.clone()
    };
    trial.send(ServerMessage::Welcome(welcome))?;
    trial.ends("a second Welcome whose tick was not later than that of all messages")
}
