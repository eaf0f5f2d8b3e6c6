//! The plain encoding of a tick: which cubes surprised and by how much, in varints.
//!
//! A number is LEB128, seven bits to a byte, the lowest first; signed ones are zigzag.

use super::set::MotionError;
use super::state::{Correction, Surprise};

/// Bits of a cube's mask: three of the position, three of the rotation, and one that says that
/// another component is the largest.
const LARGEST_BIT: u32 = 6;
const SKIPS: u8 = 1 << 7;

pub(super) fn write_number(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn read_number(bytes: &mut &[u8]) -> Result<u32, MotionError> {
    let mut number = 0;
    for place in (0..32).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(MotionError::Short)?;
        *bytes = rest;
        number |= u32::from(byte & 0x7F) << place;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(MotionError::Number)
}

/// A surprise; `expected` is the largest component of the rotation as predicted. A mask of 0 is
/// a cube that stopped.
pub(super) fn write_surprise(out: &mut Vec<u8>, skipped: u32, surprise: Surprise, expected: usize) {
    let skips = if skipped > 0 { SKIPS } else { 0 };
    let Surprise::Error(correction) = surprise else {
        out.push(skips);
        if skipped > 0 {
            write_number(out, skipped - 1);
        }
        return;
    };
    let numbers = || correction.position.into_iter().chain(correction.rotation);
    let mut mask = numbers()
        .enumerate()
        .fold(0, |mask, (bit, number)| mask | u8::from(number != 0) << bit);
    if correction.largest != expected {
        mask |= 1 << LARGEST_BIT;
    }
    out.push(mask | skips);
    if skipped > 0 {
        write_number(out, skipped - 1);
    }
    if correction.largest != expected {
        out.push(correction.largest as u8);
    }
    for number in numbers().filter(|&number| number != 0) {
        write_number(out, (number << 1 ^ number >> 31) as u32);
    }
}

pub(super) fn read_head(bytes: &mut &[u8]) -> Result<(u32, u8), MotionError> {
    let (&mask, rest) = bytes.split_first().ok_or(MotionError::Short)?;
    *bytes = rest;
    let skipped = if mask & SKIPS == 0 {
        0
    } else {
        read_number(bytes)?.saturating_add(1)
    };
    Ok((skipped, mask & !SKIPS))
}

pub(super) fn read_surprise(
    bytes: &mut &[u8],
    mask: u8,
    expected: usize,
) -> Result<Surprise, MotionError> {
    if mask == 0 {
        return Ok(Surprise::Stopped);
    }
    let mut correction = Correction {
        largest: expected,
        ..Correction::default()
    };
    if mask >> LARGEST_BIT & 1 == 1 {
        correction.largest = read_number(bytes)? as usize;
        if correction.largest > 3 {
            return Err(MotionError::Number);
        }
    }
    let numbers = correction
        .position
        .iter_mut()
        .chain(&mut correction.rotation);
    for (_, number) in numbers.enumerate().filter(|(bit, _)| mask >> bit & 1 == 1) {
        let zigzag = read_number(bytes)?;
        *number = (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32);
    }
    Ok(Surprise::Error(correction))
}
