//! The plain encoding of a tick: which cubes surprised and by how much, in varints.
//!
//! For each cube that surprised, by rising id: a head, one byte. Its bits 0 ..= 2 say which
//! coordinates follow, 3 ..= 5 which components of the rotation, bit 6 that a byte with the
//! left-out component comes first; all 0 is a cube that stopped. Bit 7 says that cubes are
//! skipped: then their number less one follows at once. A number is LEB128, seven bits to a
//! byte, the lowest first; a signed one is zigzag.
//!
//! A cube that jumped has a head of only bit 6, and its byte is the lowest of a packed number:
//! 4 or 5 in three bits, 5 with a rotation, then the fields of the [`Jump`], the lowest first.

use super::Codec;
use super::jump::{Jump, Turn};
use super::set::MotionError;
use super::state::{Correction, Surprise};

const LARGEST: u8 = 1 << 6;
const SKIPS: u8 = 1 << 7;
/// Kinds of a jump, where else the left-out component stands.
const JUMPED: u8 = 4;
const TURNED: u8 = 1;
const KIND_BITS: u32 = 3;

/// Appends a surprise; `expected` is the left-out component as predicted.
pub(super) fn write_surprise(
    out: &mut Vec<u8>,
    skipped: u32,
    surprise: Surprise,
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
    match surprise {
        Surprise::Stopped => head(0),
        Surprise::Jumped(jump) => {
            head(LARGEST);
            write_jump(out, jump, codec);
        }
        Surprise::Error(correction) => {
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

/// How many cubes are skipped before the next that surprised, and its head without that bit.
pub(super) fn read_head(bytes: &mut &[u8]) -> Result<(u32, u8), MotionError> {
    let head = read_byte(bytes)?;
    let skipped = match head & SKIPS {
        0 => 0,
        _ => read_number(bytes)?.saturating_add(1),
    };
    Ok((skipped, head & !SKIPS))
}

/// The rest of a surprise.
pub(super) fn read_surprise(
    bytes: &mut &[u8],
    head: u8,
    expected: usize,
    codec: &Codec,
) -> Result<Surprise, MotionError> {
    if head == 0 {
        return Ok(Surprise::Stopped);
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
        if largest > 3 {
            return Err(MotionError::Number);
        }
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
    Ok(Surprise::Error(correction))
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

fn read_jump(bytes: &mut &[u8], first: u8, codec: &Codec) -> Result<Surprise, MotionError> {
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
    if missing {
        Err(MotionError::Short)
    } else {
        Ok(Surprise::Jumped(jump))
    }
}

fn write_number(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(bytes: &mut &[u8]) -> Result<u32, MotionError> {
    let mut number = 0;
    for place in (0..32).step_by(7) {
        let byte = read_byte(bytes)?;
        number |= u32::from(byte & 0x7F) << place;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(MotionError::Number)
}

fn read_byte(bytes: &mut &[u8]) -> Result<u8, MotionError> {
    let (&byte, rest) = bytes.split_first().ok_or(MotionError::Short)?;
    *bytes = rest;
    Ok(byte)
}
