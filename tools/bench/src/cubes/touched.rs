//! The eighth field of the trace, which is no motion: whether the player touches a cube. A game would send
//! it as an event; here it is a list of the cubes whose field differs from its prediction.
//!
//! A count, then for each the cubes skipped, as bytes of seven bits. The
//! prediction: a cube that begins to move is touched, and nothing else changes.

use anyhow::{Context, ensure};
use cubesync_protocol::Pose;

use crate::trace::Frame;

/// Appends the differences from the prediction by the baseline.
pub(crate) fn write(out: &mut Vec<u8>, baseline: &Frame, before: &Frame, now: &Frame) {
    let expected = expected(baseline, before, &now.poses);
    let wrong = (0..now.touched.len()).filter(|&index| now.touched[index] != expected[index]);
    let wrong = wrong.collect::<Vec<_>>();
    write_number(out, wrong.len());
    let mut next = 0;
    for index in wrong {
        write_number(out, index - next);
        next = index + 1;
    }
}

/// Decodes the differences; `poses` are those of the frame.
pub(crate) fn read(
    bytes: &mut &[u8],
    baseline: &Frame,
    before: &Frame,
    poses: &[Pose],
) -> anyhow::Result<Vec<bool>> {
    let mut touched = expected(baseline, before, poses);
    let mut next = 0;
    for _ in 0..read_number(bytes)? {
        let index = next + read_number(bytes)?;
        ensure!(index < touched.len(), "a flag of cube {index}");
        touched[index] ^= true;
        next = index + 1;
    }
    Ok(touched)
}

/// `before` is the frame before the baseline.
fn expected(baseline: &Frame, before: &Frame, poses: &[Pose]) -> Vec<bool> {
    (0..poses.len())
        .map(|index| {
            let was_still = before.poses[index] == baseline.poses[index];
            baseline.touched[index] || was_still && poses[index] != baseline.poses[index]
        })
        .collect()
}

fn write_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(bytes: &mut &[u8]) -> anyhow::Result<usize> {
    let mut number = 0;
    for place in [0, 7] {
        let (&byte, rest) = bytes.split_first().context("a flag is missing")?;
        *bytes = rest;
        number |= usize::from(byte & 0x7F) << place;
        if byte < 0x80 {
            break;
        }
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_back_whatever_they_are() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut frame = || Frame {
            poses: (0..901)
                .map(|_| {
                    let mut pose = Pose::default();
                    pose.position.x = random.i32(0..2);
                    pose
                })
                .collect(),
            touched: (0..901).map(|_| random.bool()).collect(),
        };
        for _ in 0..20 {
            let [before, baseline, now] = [frame(), frame(), frame()];
            let mut bytes = Vec::new();
            write(&mut bytes, &baseline, &before, &now);
            let mut rest = bytes.as_slice();
            let read = read(&mut rest, &baseline, &before, &now.poses).unwrap();
            assert_eq!(read, now.touched);
            assert!(rest.is_empty());
        }
    }
}
