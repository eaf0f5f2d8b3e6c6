//! What a recorder hears is what a player of its file gets, whatever happens to the file.

#![allow(clippy::unwrap_used, reason = "its helpers are tests too")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use cubesync_protocol::limits::FRAME_HEADER_BYTES;
use cubesync_protocol::motion::{Codec, MotionSet, MotionState};
use cubesync_protocol::{
    CellId, ClientMessage, Colour, CubeId, CubeInfo, CubeKind, DatagramAnswer, DatagramKey,
    DatagramRequest, Event, Hello, Keyframe, Message, PathId, Pose, Position, ResumeToken,
    ServerMessage, Snapshot, Welcome,
};
use cubesync_recording::chunk::FILE_HEADER;
use cubesync_recording::{
    BoundedFile, Direction, Encoder, Entry, OpenError, Place, Recording, Scene, parse_size,
};
use proptest::prelude::*;

const HZ: u64 = 30;
const CELLS: u16 = 2;

fn at(tick: u64) -> Duration {
    Duration::from_micros(1_000_000 + tick * 1_000_000 / HZ)
}

fn info(cube: u64, kind: CubeKind, pose: Pose) -> CubeInfo {
    CubeInfo {
        cube: CubeId(cube),
        kind,
        name: format!("name {cube}"),
        colour: Colour::from([1, 2, 3]),
        width: Default::default(),
        motion: MotionState::at_rest(pose),
    }
}

/// Where the walkers are: they turn once a second.
fn walk(cube: CubeId, tick: u64) -> Pose {
    let step = (tick % HZ) as i32 * 70;
    let (x, y) = match tick / HZ % 4 {
        0 => (step, 0),
        1 => (2_100, step),
        2 => (2_100 - step, 2_100),
        _ => (0, 2_100 - step),
    };
    let x = x + cube.0 as i32 * 1_000;
    Pose {
        position: Position { x, y, z: 256 },
        ..Pose::default()
    }
}

/// What a server says in two cells with a free cube and three players, of whom one comes late,
/// changes the cell, and goes; and what one client says.
fn conversation(ticks: u64) -> Vec<(Duration, Direction, Bytes)> {
    let mut said = Vec::new();
    for (tick, message) in [
        (
            0,
            ClientMessage::Hello(Hello::new("lobby", "name 1", Colour::from([1, 2, 3]))),
        ),
        (100, ClientMessage::Ping { sent_us: 7 }),
    ] {
        let payload = message.to_frame().slice(FRAME_HEADER_BYTES..);
        said.push((at(tick), Direction::FromClient, payload));
    }
    let datagram = Bytes::from_static(b"a datagram's plaintext");
    said.push((at(100), Direction::Datagram, datagram));
    let mut say = |tick, message: ServerMessage| {
        let payload = message.to_frame().slice(FRAME_HEADER_BYTES..);
        said.push((at(tick), Direction::FromServer, payload));
    };
    say(
        0,
        ServerMessage::Welcome(Welcome {
            version: 4,
            room: "lobby".into(),
            name: "name 1".into(),
            cube: CubeId(1),
            pose: Pose::default(),
            tick_hz: HZ as u8,
            tick: 0,
            since_tick_us: 0,
            max_speed: 0,
            physics: false,
            resume: ResumeToken(*b"0123456789abcdef"),
            servers: Vec::new(),
        }),
    );
    let mut cells: BTreeMap<u16, MotionSet> = BTreeMap::new();
    for cell in 0..CELLS {
        let mut believed = MotionSet::new(&Codec::LIVE);
        let free = CubeKind::Free { holder: None };
        let cubes = match cell {
            0 => vec![info(0, free, Pose::default())],
            _ => [1, 2]
                .map(|id| info(id, CubeKind::Player, walk(CubeId(id), 0)))
                .to_vec(),
        };
        for cube in &cubes {
            believed.insert(cube.cube, cube.motion);
        }
        cells.insert(cell, believed);
        let (cell, tick, interval_ticks) = (CellId(cell), 0, 1);
        let keyframe = Keyframe {
            cell,
            interval_ticks,
            tick,
            cubes,
        };
        say(0, ServerMessage::Keyframe(keyframe));
    }
    for tick in 1..ticks {
        for (&cell, believed) in &mut cells {
            believed.advance_to(believed.tick() + 1);
            let (cube, free) = (CubeId(3), CubeId(0));
            let late = info(3, CubeKind::Player, walk(cube, tick));
            let events = match (cell, tick % 300) {
                (0, 50) => vec![Event::Taken {
                    cube: free,
                    by: CubeId(1),
                }],
                (0, 70) => vec![Event::Joined(late)],
                (0, 170) => vec![Event::Exited { cube }],
                (1, 170) => vec![Event::Entered(late)],
                (0, 180) => vec![Event::Freed { cube: free }],
                (1, 200) => vec![Event::Ghost { cube }],
                (1, 250) => vec![Event::Left { cube }],
                _ => vec![],
            };
            for event in &events {
                match event {
                    Event::Joined(info) | Event::Entered(info) => {
                        believed.insert(info.cube, info.motion);
                    }
                    Event::Left { cube } | Event::Exited { cube } => {
                        believed.remove(*cube);
                    }
                    _ => {}
                }
            }
            let mut residuals = Vec::new();
            let truth = |cube| match cube {
                CubeId(0) => Pose::default(),
                cube => walk(cube, tick),
            };
            believed.encode_tick(truth, &mut residuals);
            if !events.is_empty() || !residuals.is_empty() {
                let cell = CellId(cell);
                let residuals = residuals.into();
                let snapshot = Snapshot {
                    cell,
                    tick,
                    events,
                    residuals,
                };
                say(tick, ServerMessage::Snapshot(snapshot));
            }
        }
        if tick % HZ == 0 {
            say(tick, ServerMessage::Heartbeat { tick });
        }
    }
    said.sort_by_key(|(at, ..)| *at);
    said
}

/// A file of these, and where its chunks end.
fn recorded(said: &[(Duration, Direction, Bytes)]) -> (Vec<u8>, Vec<usize>) {
    let mut encoder = Encoder::default();
    let mut file = FILE_HEADER.to_vec();
    let mut ends = Vec::new();
    for (at, direction, payload) in said {
        if let Some(chunk) = encoder.record(*at, *direction, payload) {
            file.extend(chunk);
            ends.push(file.len());
        }
    }
    file.extend(encoder.finish().unwrap());
    ends.push(file.len());
    (file, ends)
}

fn entries_from(recording: &Recording, at: Duration) -> Vec<Entry> {
    let mut cursor = recording.seek(at);
    std::iter::from_fn(|| cursor.next(recording)).collect()
}

fn heard(entries: &[Entry]) -> Scene {
    let mut scene = Scene::default();
    for entry in entries {
        if matches!(entry.direction, Direction::FromServer | Direction::Opening) {
            let message = ServerMessage::decode(&entry.frame[FRAME_HEADER_BYTES..]).unwrap();
            scene.hear(entry.at, &message);
        }
    }
    scene
}

/// What is known of the cubes.
fn known(scene: &Scene, tick: u64) -> Vec<(CubeId, CubeKind, String, Pose)> {
    let cubes = scene.cubes(tick);
    let known = cubes.map(|(info, pose)| (info.cube, info.kind, info.name.clone(), pose));
    known.collect()
}

#[test]
fn everything_comes_back_with_its_time_but_what_lets_somebody_in() {
    let mut said = conversation(1_000);
    let secret = Hello {
        join_key: Some("secret".into()),
        resume: Some(ResumeToken(*b"0123456789abcdef")),
        ..Hello::new("lobby", "name 1", Colour::from([1, 2, 3]))
    };
    let secret = ClientMessage::Hello(secret).to_frame();
    let plain = std::mem::replace(&mut said[0].2, secret.slice(FRAME_HEADER_BYTES..));
    assert_eq!(said[0].1, Direction::FromClient);
    let (file, ends) = recorded(&said);
    assert!(ends.len() > 5);
    let recording = Recording::read(&file[..]).unwrap();
    assert_eq!((recording.start(), recording.damage()), (at(0), None));
    let entries = entries_from(&recording, Duration::ZERO);
    assert_eq!(entries.len(), said.len());
    said[0].2 = plain;
    for (entry, (at, direction, payload)) in entries.iter().zip(&said) {
        assert_eq!((entry.at, entry.direction), (*at, *direction));
        let payload_now = &entry.frame[FRAME_HEADER_BYTES..];
        match ServerMessage::decode(payload_now) {
            Ok(ServerMessage::Welcome(welcome)) if *direction == Direction::FromServer => {
                assert_eq!(welcome.resume, ResumeToken([0; 16]));
            }
            _ => assert_eq!(payload_now, payload),
        }
    }
}

#[test]
fn the_key_of_datagrams_and_a_browsers_offer_are_left_out() {
    let request = ClientMessage::OpenDatagrams(DatagramRequest::WebRtc {
        offer: "a=ice-pwd:secret".into(),
    });
    let answer = ServerMessage::Datagrams(DatagramAnswer::Udp {
        port: 14_900,
        path: PathId(7),
        key: DatagramKey([0x5A; 32]),
    });
    let [request, answer] =
        [request.to_frame(), answer.to_frame()].map(|frame| frame.slice(FRAME_HEADER_BYTES..));
    let mut said = conversation(10);
    let end = said.last().unwrap().0;
    said.push((end, Direction::FromClient, request));
    said.push((end, Direction::FromServer, answer));
    let (file, _) = recorded(&said);
    let recording = Recording::read(&file[..]).unwrap();
    let entries = entries_from(&recording, Duration::ZERO);
    let last = entries[entries.len() - 2..].iter();
    let payloads: Vec<_> = last
        .map(|entry| entry.frame.slice(FRAME_HEADER_BYTES..))
        .collect();
    let request = ClientMessage::OpenDatagrams(DatagramRequest::Udp);
    assert_eq!(ClientMessage::decode(&payloads[0]), Ok(request));
    let answer = ServerMessage::Datagrams(DatagramAnswer::Unavailable);
    assert_eq!(ServerMessage::decode(&payloads[1]), Ok(answer));
}

#[test]
fn who_starts_at_any_chunk_knows_as_much_as_who_heard_everything() {
    let ticks = 1_000;
    let (file, ends) = recorded(&conversation(ticks));
    let recording = Recording::read(&file[..]).unwrap();
    let all = heard(&entries_from(&recording, recording.start()));
    assert_eq!(known(&all, ticks).len(), 4);
    let mut starts = std::collections::BTreeSet::new();
    for tick in 0..ticks {
        let entries = entries_from(&recording, at(tick));
        starts.insert(entries[0].at);
        assert!(entries[0].at <= at(tick));
        assert_eq!(
            known(&heard(&entries), ticks),
            known(&all, ticks),
            "from tick {tick}"
        );
    }
    assert_eq!(starts.len(), ends.len());
}

#[test]
fn an_opening_tells_what_the_clock_shows_and_a_pong_sets_it() {
    let mut scene = Scene::default();
    let welcome = &conversation(2)[1].2;
    scene.hear(at(0), &ServerMessage::decode(welcome).unwrap());
    let time = |scene: &Scene, tick| match &scene.opening(at(tick))[0] {
        ServerMessage::Welcome(welcome) => (welcome.tick, welcome.since_tick_us / 1_000),
        message => panic!("{message:?}"),
    };
    assert_eq!(time(&scene, 45), (45, 0));
    let pong = ServerMessage::Pong {
        sent_us: at(50).as_micros() as u64,
        tick: 60,
        since_tick_us: 10_500,
        late_samples: 0,
    };
    // The server answered half-way, at 52.
    scene.hear(at(54), &pong);
    assert_eq!(time(&scene, 62), (70, 10));
}

#[test]
fn a_file_cut_anywhere_plays_up_to_the_cut_and_says_so() {
    let (file, ends) = recorded(&conversation(700));
    let whole = entries_from(&Recording::read(&file[..]).unwrap(), Duration::ZERO);
    for len in 0..file.len() {
        let chunks = ends.iter().filter(|&&end| end <= len).count();
        match Recording::read(&file[..len]) {
            Err(OpenError::Foreign) => assert!(len < 7),
            Err(OpenError::Empty(_)) => assert_eq!(chunks, 0, "{len}"),
            Err(error) => panic!("{len}: {error}"),
            Ok(recording) => {
                let entries = entries_from(&recording, Duration::ZERO);
                assert_eq!(entries[..], whole[..entries.len()]);
                assert_eq!(entries.last().unwrap().at, recording.end());
                let is_whole = ends.contains(&len);
                assert_eq!(recording.damage().is_none(), is_whole, "{len}");
                let next = whole.get(entries.len()).map(|entry| entry.at);
                assert!(
                    next.is_none_or(|next| next >= at(0) + Duration::from_secs(5) * chunks as u32)
                );
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_ends_the_recording_there_and_never_changes_it() {
    let (file, ends) = recorded(&conversation(700));
    let whole = entries_from(&Recording::read(&file[..]).unwrap(), Duration::ZERO);
    for index in 0..file.len() {
        let mut file = file.clone();
        file[index] ^= 1 << (index % 8);
        match Recording::read(&file[..]) {
            Err(OpenError::Foreign | OpenError::Version) => assert!(index < FILE_HEADER.len()),
            Err(OpenError::Empty(damage)) => assert!(damage.is_some() && index < ends[0]),
            Err(error) => panic!("{index}: {error}"),
            Ok(recording) => {
                assert!(index >= ends[0] && recording.damage().is_some(), "{index}");
                let entries = entries_from(&recording, Duration::ZERO);
                assert_eq!(entries[..], whole[..entries.len()]);
            }
        }
    }
}

#[test]
fn keyframes_of_a_tick_that_come_again_are_one_gap() {
    let said = conversation(100);
    let mut scene = Scene::default();
    for (at, direction, payload) in &said {
        if *direction == Direction::FromServer {
            scene.hear(*at, &ServerMessage::decode(payload).unwrap());
        }
    }
    assert_eq!(scene.gaps(), 0);
    for tick in [140, 300] {
        for cell in 0..CELLS {
            let keyframe = Keyframe {
                cell: CellId(cell),
                interval_ticks: 1,
                tick,
                cubes: vec![],
            };
            scene.hear(at(tick), &ServerMessage::Keyframe(keyframe));
        }
    }
    assert_eq!(scene.gaps(), 2);
}

#[test]
fn a_bad_message_costs_each_cell_no_more_than_the_wait_for_its_keyframe() {
    let keyframe = |cell: u16, tick| {
        let cube = info(cell.into(), CubeKind::Player, Pose::default());
        ServerMessage::Keyframe(Keyframe {
            cell: CellId(cell),
            interval_ticks: 1,
            tick,
            cubes: vec![cube],
        })
    };
    let snapshot = |cell, tick, residuals: &'static [u8]| {
        ServerMessage::Snapshot(Snapshot {
            cell: CellId(cell),
            tick,
            residuals: residuals.into(),
            ..Snapshot::default()
        })
    };
    let mut scene = Scene::default();
    let mut cubes_after = |tick, message| {
        scene.hear(at(tick), &message);
        scene.cubes(tick).count()
    };
    assert_eq!(cubes_after(1, keyframe(1, 1)), 1);
    assert_eq!(cubes_after(1, keyframe(2, 1)), 2);
    assert_eq!(cubes_after(2, snapshot(1, 2, &[0xFF; 40])), 0);
    assert_eq!(cubes_after(3, keyframe(1, 3)), 1);
    assert_eq!(cubes_after(4, snapshot(2, 4, &[])), 1, "cell 2 has to wait");
    assert_eq!(cubes_after(5, keyframe(2, 5)), 2);
}

/// A path that nobody else uses; what is there afterwards goes.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("cubesync-recording-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_at_its_bound_keeps_the_newest_part() {
    const BOUND: u64 = 1024 * 1024;
    let scratch = Scratch::new("bound");
    let mut file = BoundedFile::create(&scratch.0, BOUND).unwrap();
    let mut encoder = Encoder::default();
    // No message, and nothing that could be packed.
    let mut random = 1u32;
    let mut noise = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    });
    let mut longest = 0;
    for tick in 0..800 {
        let frame: Vec<u8> = noise.by_ref().take(4_000).collect();
        if let Some(chunk) = encoder.record(at(tick), Direction::FromClient, &frame) {
            file.append(&chunk).unwrap();
            let len_bytes = std::fs::metadata(&scratch.0).unwrap().len();
            assert!(len_bytes <= BOUND, "{len_bytes}");
            longest = longest.max(len_bytes);
        }
    }
    file.append(&encoder.finish().unwrap()).unwrap();
    let recording = Recording::read(std::fs::File::open(&scratch.0).unwrap()).unwrap();
    assert_eq!((recording.damage(), recording.end()), (None, at(799)));
    let entries = entries_from(&recording, Duration::ZERO);
    let first = 800 - entries.len() as u64;
    assert_eq!(entries[0].at, at(first));
    assert!(first > 0 && longest > BOUND / 2);
}

/// A folder for a test, deleted afterwards.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("cubesync-folder-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_recording_changes_nothing_that_is_there_and_gets_the_next_number() {
    let folder = Folder::new("taken");
    let wanted = folder.0.join("a.rec");
    std::fs::write(&wanted, "my diary").unwrap();
    std::fs::create_dir(folder.0.join("a-2.rec")).unwrap();
    std::fs::write(folder.0.join("a-3.rec"), "").unwrap();
    let expected = folder.0.join("a-4.rec");
    assert_eq!(
        Place::find(&wanted).unwrap(),
        Place::NewFile(expected.clone())
    );
    assert!(!expected.exists());
    let file = BoundedFile::create(&wanted, 1 << 20).unwrap();
    assert_eq!(file.path(), expected);
    assert_eq!(std::fs::read(&wanted).unwrap(), b"my diary");
    assert_eq!(std::fs::read(&expected).unwrap(), FILE_HEADER);
}

#[test]
fn recordings_that_begin_at_once_get_files_of_their_own() {
    let folder = Folder::new("race");
    let wanted = folder.0.join("a.rec");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| BoundedFile::create(&wanted, 1 << 20).unwrap());
        }
    });
    assert_eq!(folder.names().len(), 16);
}

#[test]
fn a_folder_and_a_missing_folder_are_refused() {
    let folder = Folder::new("folders");
    let error = BoundedFile::create(&folder.0, 1 << 20).unwrap_err();
    assert_eq!(error.to_string(), "it is a folder; name a file in it");
    let error = BoundedFile::create(&folder.0.join("no/a.rec"), 1 << 20).unwrap_err();
    let expected = format!(
        "there is no folder {}/no; make it first",
        folder.0.display()
    );
    assert_eq!(error.to_string(), expected);
    assert!(folder.names().is_empty());
}

#[cfg(unix)]
#[test]
fn a_link_leads_to_its_target_and_stays() {
    let folder = Folder::new("links");
    let [link, target] = ["link.rec", "target.rec"].map(|name| folder.0.join(name));
    std::os::unix::fs::symlink("target.rec", &link).unwrap();
    for expected in [target, folder.0.join("target-2.rec")] {
        let file = BoundedFile::create(&link, 1 << 20).unwrap();
        assert_eq!(file.path(), expected);
    }
    assert!(link.is_symlink());
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("link.rec", &link).unwrap();
    assert!(BoundedFile::create(&link, 1 << 20).is_err());
}

/// Appends chunks until the file has dropped its oldest ones.
fn fill(file: &mut BoundedFile) {
    for _ in 0..20 {
        file.append(&[7; 100_000]).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_recording_at_its_bound_spares_a_file_that_took_its_name() {
    let folder = Folder::new("moved");
    let wanted = folder.0.join("a.rec");
    std::fs::write(folder.0.join("a.rec.new"), "not of ours").unwrap();
    let mut file = BoundedFile::create(&wanted, 1 << 20).unwrap();
    file.append(b"the beginning").unwrap();
    std::fs::rename(&wanted, folder.0.join("kept.rec")).unwrap();
    std::fs::write(&wanted, "another one").unwrap();
    fill(&mut file);
    assert_eq!(
        folder.names(),
        ["a-2.rec", "a.rec", "a.rec.new", "kept.rec"]
    );
    assert_eq!(file.path(), folder.0.join("a-2.rec"));
    let read = |name| std::fs::read(folder.0.join(name)).unwrap();
    assert_eq!(read("a.rec"), b"another one");
    assert_eq!(read("a.rec.new"), b"not of ours");
    assert!(read("kept.rec").starts_with(&[&FILE_HEADER[..], b"the beginning"].concat()));
}

#[cfg(unix)]
#[test]
fn a_device_takes_any_amount_and_stays_a_device() {
    use std::os::unix::fs::FileTypeExt;

    let null = std::path::Path::new("/dev/null");
    let mut file = BoundedFile::create(null, 1 << 20).unwrap();
    fill(&mut file);
    let known = std::fs::metadata(null).unwrap().file_type();
    assert!(known.is_char_device() && file.path() == null);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_recorded_into_while_somebody_reads_it() {
    use std::io::Read;

    let folder = Folder::new("pipe");
    let pipe = folder.0.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let error = BoundedFile::create(&pipe, 1 << 20).unwrap_err();
    assert!(
        error.to_string().contains("start its reader first"),
        "{error}"
    );
    let mut reader = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let mut file = BoundedFile::create(&pipe, 1 << 20).unwrap();
    file.append(b"chunk").unwrap();
    let mut read = [0; FILE_HEADER.len() + 5];
    reader.read_exact(&mut read).unwrap();
    assert_eq!(read[..], [&FILE_HEADER[..], b"chunk"].concat());
    assert_eq!(folder.names(), ["pipe"]);
}

#[test]
fn sizes_are_read_as_people_write_them() {
    assert_eq!(parse_size("64M"), Ok(64 << 20));
    assert_eq!(parse_size("2gib"), Ok(2 << 30));
    assert_eq!(parse_size("2000KB"), Ok(2_000 << 10));
    assert_eq!(parse_size("1048576"), Ok(1 << 20));
    for wrong in ["", "M", "1K", "-5M", "1.5G", "5T", "99999999999G"] {
        assert!(parse_size(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn recordings_of_real_games_are_still_read() {
    for (file, players) in [
        (&include_bytes!("data/lobby.rec")[..], 4),
        (include_bytes!("data/client.rec"), 4),
    ] {
        let recording = Recording::read(file).unwrap();
        assert_eq!(recording.damage(), None);
        let middle = (recording.start() + recording.end()) / 2;
        let mut entries = entries_from(&recording, middle);
        entries.retain(|entry| entry.at <= middle);
        let scene = heard(&entries);
        let names = scene.cubes(scene.tick()).map(|(info, _)| &info.name[..]);
        let names: Vec<_> = names.collect();
        assert_eq!(names.len(), players + 1, "{names:?}");
        assert!(names.contains(&"Anna") && names.contains(&"Bot 2"));
    }
}

/// A chunk of these packed entries, its checksum right.
fn chunk(start_s: u64, end_s: u64, entries: &[u8]) -> Vec<u8> {
    let mut body = (start_s * 1_000_000).to_be_bytes().to_vec();
    body.extend_from_slice(&(end_s * 1_000_000).to_be_bytes());
    body.extend_from_slice(entries);
    let mut checksum = flate2::Crc::new();
    checksum.update(&body);
    let length = (body.len() as u32).to_be_bytes();
    [&length[..], &checksum.sum().to_be_bytes(), &body].concat()
}

#[test]
fn an_entry_after_its_chunks_end_makes_no_sense() {
    // Stored, not compressed: 2 s after the start of the chunk the server says a byte.
    let entry = [0x80, 0x89, 0x7A, 1, 0, 0, 0, 1, 9];
    let packed = [&[1, 9, 0, !9, !0][..], &entry].concat();
    for (end_s, expected) in [(2, 1), (1, 0)] {
        let file = [&FILE_HEADER[..], &chunk(0, end_s, &packed)].concat();
        let recording = Recording::read(&file[..]).unwrap();
        let entries = entries_from(&recording, Duration::ZERO);
        assert_eq!(entries.len(), expected, "a chunk of {end_s} s");
    }
}

proptest! {
    #[test]
    fn any_bytes_with_the_right_header_are_read_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let file = [&FILE_HEADER[..], &chunk(0, 0, &bytes)].concat();
        let recording = Recording::read(&file[..]).unwrap();
        prop_assert!(entries_from(&recording, Duration::ZERO).len() < 200);
        let _ = Recording::read(&bytes[..]);
    }
}
