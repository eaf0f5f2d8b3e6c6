//! A recording's file, made of any bytes and of chunks with valid checksums.

use std::io::Write;
use std::time::Duration;

use cubesync_client::replay::Replay;
use cubesync_protocol::{Message, ServerMessage};
use cubesync_recording::chunk::FILE_HEADER;
use cubesync_recording::{Direction, Encoder, Recording};
use cubesync_server::fuzzing::play;
use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::input::Input;

/// Checks that a file plays up to the damage, from any place, and that a recording of it plays alike.
pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    let file = match input.byte() % 2 {
        0 => input.0.to_vec(),
        _ => with_checksums(&mut input),
    };
    let Ok(recording) = Recording::read(&file[..]) else {
        return;
    };
    let (start, end) = (recording.start(), recording.end());
    assert!(start <= end);

    let mut encoder = Encoder::default();
    let mut again = FILE_HEADER.to_vec();
    let mut at = start;
    let mut cursor = recording.seek(start);
    let mut entries = 0;
    while let Some(entry) = cursor.next(&recording) {
        assert!(entry.at >= at, "times never fall");
        at = entry.at;
        if entry.direction != Direction::Opening {
            entries += 1;
        }
        let payload = &entry.frame[4..];
        again.extend(
            encoder
                .record(entry.at, entry.direction, payload)
                .unwrap_or_default(),
        );
    }
    again.extend(encoder.finish().unwrap_or_default());
    if entries > 0 {
        let again = Recording::read(&again[..]).expect("what we write we can read");
        assert_eq!(again.damage(), None);
        assert!(again.start() >= start && again.end() <= end.max(at));
    }
    for message in encoder.scene().opening(end) {
        assert_eq!(ServerMessage::decode(&message.to_frame()[4..]), Ok(message));
    }

    let poses = play(recording.clone(), 100);
    assert!(poses.iter().all(|pose| pose.position.is_in_bounds()));
    let mut replay = Replay::new(recording);
    for part in [4, 1, 3, 0] {
        replay.seek(start + (end - start) / 4 * part);
        draw(&replay);
        replay.advance(replay.now() + Duration::from_millis(700));
        draw(&replay);
    }
}

fn draw(replay: &Replay) {
    for cube in replay.cubes() {
        let numbers = cube.position.iter().chain(&cube.rotation);
        assert!(numbers.into_iter().all(|number| number.is_finite()));
    }
}

/// Returns a file of chunks with any content, so that the fuzzer reaches the code behind checksum and
/// compression.
fn with_checksums(input: &mut Input<'_>) -> Vec<u8> {
    let mut file = FILE_HEADER.to_vec();
    while !input.is_empty() {
        let [chunk_bytes, start_s, length] = input.array();
        let start_us = u64::from(start_s) * 1_000_000;
        let end_us = start_us.saturating_add(match length {
            255 => u64::from_le_bytes(input.array()),
            length => u64::from(length) * 100_000,
        });
        let mut body = start_us.to_be_bytes().to_vec();
        body.extend_from_slice(&end_us.to_be_bytes());
        let content = input.bytes(usize::from(chunk_bytes) * 16);
        let mut pack = DeflateEncoder::new(body, Compression::none());
        let packed = pack.write_all(content).and_then(|()| pack.finish());
        let body = packed.expect("packing into memory cannot fail");
        let mut checksum = flate2::Crc::new();
        checksum.update(&body);
        file.extend_from_slice(&(body.len() as u32).to_be_bytes());
        file.extend_from_slice(&checksum.sum().to_be_bytes());
        file.extend_from_slice(&body);
    }
    file
}
