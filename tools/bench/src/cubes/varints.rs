//! A tick's residuals as plain varints: simple enough to write by hand in any language, at two to
//! three times the bytes. It shows the gain of the range coder; no connection uses it.
//!
//! For each cube with an update, by rising id: a head, one byte. Its bits 0 ..= 2 say which
//! coordinates follow, 3 ..= 5 which components of the rotation, bit 6 that a byte with the
//! left-out component comes first; all 0 is a cube that stopped. Bit 7 says that cubes are
//! skipped: then their number less one follows at once. A number is LEB128, seven bits to a
//! byte, the lowest first; a signed one is zigzag.
//!
//! A cube that jumped has a head of only bit 6, and its byte is the lowest of a packed number:
//! 4 or 5 in three bits, 5 with a rotation, then the fields of the [`Jump`], the lowest first.
//!
//! The codec's own loops keep each prediction between comparing and updating; this one predicts
//! again, so its times are some 20 ns per update longer than they could be.

use anyhow::{Context, bail, ensure};
use cubesync_protocol::motion::{Codec, Correction, Jump, MotionSet, Residual, Turn};
use cubesync_protocol::{CubeId, Pose};

const LARGEST: u8 = 1 << 6;
const SKIPS: u8 = 1 << 7;
/// Kinds of a jump, where otherwise the left-out component stands.
const JUMPED: u8 = 4;
const TURNED: u8 = 1;
const KIND_BITS: u32 = 3;

/// Compares every cube with its true pose, appends the residuals to `out` and updates the states
/// with them. Returns the number of updates. `codec` is the set's.
pub(crate) fn encode_tick(
    set: &mut MotionSet,
    codec: &Codec,
    truth: impl FnMut(CubeId) -> Pose,
    out: &mut Vec<u8>,
) -> usize {
    let residuals: Vec<_> = set.residuals(truth).collect();
    let mut ids = set.iter().map(|(id, _)| id);
    for &(id, residual) in &residuals {
        let skipped = ids.by_ref().take_while(|&other| other != id).count();
        write_residual(out, skipped as u32, residual, expected(set, id), codec);
    }
    drop(ids);
    for &(id, residual) in &residuals {
        set.apply(id, residual);
    }
    residuals.len()
}

/// Decodes what [`encode_tick`] appended and updates the states with it.
pub(crate) fn decode_tick(
    set: &mut MotionSet,
    codec: &Codec,
    mut bytes: &[u8],
) -> anyhow::Result<()> {
    let ids: Vec<_> = set.iter().map(|(id, _)| id).collect();
    let mut next = 0;
    while !bytes.is_empty() {
        let (skipped, head) = read_head(&mut bytes)?;
        let index = (skipped as usize).saturating_add(next);
        let &id = ids.get(index).context("a cube that is not there")?;
        let residual = read_residual(&mut bytes, head, expected(set, id), codec)?;
        set.apply(id, residual);
        next = index + 1;
    }
    Ok(())
}

/// Returns the component that the predicted rotation leaves out.
fn expected(set: &MotionSet, id: CubeId) -> usize {
    let rotation = set.pose(id).unwrap_or_default().rotation;
    (u32::from_le_bytes(rotation.into()) >> 30) as usize
}

fn write_residual(
    out: &mut Vec<u8>,
    skipped: u32,
    residual: Residual,
    expected: usize,
    codec: &Codec,
) {
    let mut head = |mask: u8| match skipped {
        0 => out.push(mask),
        skipped => {
            out.push(mask | SKIPS);
            write_number(out, skipped - 1);
        }
    };
    match residual {
        Residual::Stopped => head(0),
        Residual::Jumped(jump) => {
            head(LARGEST);
            write_jump(out, jump, codec);
        }
        Residual::Error(correction) => {
            let numbers = correction.position.into_iter().chain(correction.rotation);
            let largest = if correction.largest == expected {
                0
            } else {
                LARGEST
            };
            let present = numbers.clone().enumerate();
            head(present.fold(largest, |mask, (bit, number)| {
                mask | u8::from(number != 0) << bit
            }));
            if largest != 0 {
                out.push(correction.largest as u8);
            }
            for number in numbers.filter(|&number| number != 0) {
                write_number(out, ((number << 1) ^ (number >> 31)) as u32);
            }
        }
    }
}

/// Reads how many cubes are skipped before the next that has an update, and its head without that
/// bit.
fn read_head(bytes: &mut &[u8]) -> anyhow::Result<(u32, u8)> {
    let head = read_byte(bytes)?;
    let skipped = match head & SKIPS {
        0 => 0,
        _ => read_number(bytes)?.saturating_add(1),
    };
    Ok((skipped, head & !SKIPS))
}

/// Reads the rest of a residual.
fn read_residual(
    bytes: &mut &[u8],
    head: u8,
    expected: usize,
    codec: &Codec,
) -> anyhow::Result<Residual> {
    if head == 0 {
        return Ok(Residual::Stopped);
    }
    let mut correction = Correction {
        largest: expected,
        ..Correction::default()
    };
    if head & LARGEST != 0 {
        let largest = read_byte(bytes)?;
        if head == LARGEST && largest & JUMPED != 0 {
            return read_jump(bytes, largest, codec);
        }
        ensure!(largest <= 3, "a rotation leaves out component {largest}");
        correction.largest = largest.into();
    }
    let numbers = correction
        .position
        .iter_mut()
        .chain(&mut correction.rotation);
    for (_, number) in numbers.enumerate().filter(|(bit, _)| head >> bit & 1 == 1) {
        let zigzag = read_number(bytes)?;
        *number = (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32);
    }
    Ok(Residual::Error(correction))
}

fn write_jump(out: &mut Vec<u8>, mut jump: Jump, codec: &Codec) {
    let turned = if jump.rotation.is_some() { TURNED } else { 0 };
    let mut packed = u128::from(JUMPED | turned);
    let mut length = KIND_BITS;
    jump.visit(codec, |field, bits| {
        packed |= u128::from(*field) << length;
        length += bits;
    });
    out.extend(&packed.to_le_bytes()[..length.div_ceil(8) as usize]);
}

fn read_jump(bytes: &mut &[u8], first: u8, codec: &Codec) -> anyhow::Result<Residual> {
    let mut packed = u128::from(first >> KIND_BITS);
    let mut length = 8 - KIND_BITS;
    let mut jump = Jump {
        rotation: (first & TURNED != 0).then(Turn::default),
        ..Jump::default()
    };
    let mut missing = false;
    jump.visit(codec, |field, bits| {
        while length < bits && !missing {
            match read_byte(bytes) {
                Ok(byte) => packed |= u128::from(byte) << length,
                Err(_) => missing = true,
            }
            length += 8;
        }
        *field = packed as u32 & ((1 << bits) - 1);
        packed >>= bits;
        length = length.saturating_sub(bits);
    });
    ensure!(!missing, "a jump ends too early");
    Ok(Residual::Jumped(jump))
}

fn write_number(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(bytes: &mut &[u8]) -> anyhow::Result<u32> {
    let mut number = 0;
    for place in (0..32).step_by(7) {
        let byte = read_byte(bytes)?;
        number |= u32::from(byte & 0x7F) << place;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    bail!("a number is out of range")
}

fn read_byte(bytes: &mut &[u8]) -> anyhow::Result<u8> {
    let (&byte, rest) = bytes.split_first().context("a tick ends too early")?;
    *bytes = rest;
    Ok(byte)
}
