//! Dead keys: ´ and then e types é. miniquad passes on no character and no code for a dead key, so a
//! connection of its own hears the same key presses.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use unicode_normalization::char::compose;
use x11rb::protocol::Event;
use x11rb::protocol::xkb::{self, ConnectionExt as _, MapPart};
use x11rb::protocol::xproto::{
    ChangeWindowAttributesAux, ConnectionExt as _, EventMask, KeyButMask, KeyPressEvent, Window,
};
use x11rb::rust_connection::RustConnection;

use super::Result;

/// Longest wait for an accent that was typed before a character. It comes at the same time, on
/// another connection.
const PATIENCE: Duration = Duration::from_millis(5);
/// The code of the first dead key.
const FIRST_DEAD: u32 = 0xfe50;
/// The combining marks of the dead keys from there on (X11's keysymdef.h); 0 where there is none.
const MARKS: [u32; 31] = [
    0x300, 0x301, 0x302, 0x303, 0x304, 0x306, 0x307, 0x308, 0x30a, 0x30b, 0x30c, 0x327, 0x328,
    0x345, 0, 0, 0x323, 0x309, 0x31b, 0, 0x313, 0x314, 0x30f, 0x325, 0x331, 0x32d, 0x330, 0x32e,
    0x324, 0x311, 0x326,
];

/// The accents that were typed and not used yet.
static ACCENTS: Mutex<Option<Receiver<char>>> = Mutex::new(None);

/// Hears the window's dead keys from now on, on a thread.
pub(super) fn listen(connection: RustConnection, window: Window) -> Result<()> {
    connection.xkb_use_extension(1, 0)?.reply()?;
    let presses = ChangeWindowAttributesAux::new().event_mask(EventMask::KEY_PRESS);
    connection
        .change_window_attributes(window, &presses)?
        .check()?;
    let (sender, accents) = mpsc::channel();
    *ACCENTS.lock().unwrap_or_else(PoisonError::into_inner) = Some(accents);
    thread::Builder::new()
        .name("dead keys".into())
        .spawn(move || while hear(&connection, &sender).is_ok() {})?;
    Ok(())
}

/// Types a character with the accents before it: `silent` keys were pressed that typed nothing, and
/// may have been dead ones.
pub(crate) fn with_accents(character: char, silent: u32, mut type_one: impl FnMut(char)) {
    let accents = ACCENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let next = |_| accents.as_ref()?.recv_timeout(PATIENCE).ok();
    let marks = (0..silent).map_while(next);
    accented(character, marks).chars().for_each(&mut type_one);
}

/// Waits for a key, and sends its accent if it is a dead one.
fn hear(connection: &RustConnection, accents: &Sender<char>) -> Result<()> {
    use x11rb::connection::Connection;

    if let Event::KeyPress(press) = connection.wait_for_event()?
        && let Some(mark) = mark(keysym(connection, &press)?)
    {
        accents.send(mark)?;
    }
    Ok(())
}

/// Returns the meaning of a key in the layout of this moment.
fn keysym(connection: &RustConnection, press: &KeyPressEvent) -> Result<u32> {
    let (none, syms) = (MapPart::default(), MapPart::KEY_SYMS);
    let keyboard = u16::from(xkb::ID::USE_CORE_KBD);
    let (key, no_mods) = (press.detail, xkb::VMod::default());
    let map = connection.xkb_get_map(
        keyboard, none, syms, 0, 0, key, 1, 0, 0, 0, 0, no_mods, 0, 0, 0, 0, 0, 0,
    )?;
    let map = map.reply()?.map.syms_rtrn.unwrap_or_default();
    let Some(key) = map.first() else {
        return Ok(0);
    };
    let state = u16::from(press.state);
    let has = |mask: KeyButMask| usize::from(state & u16::from(mask) != 0);
    let groups = usize::from(key.group_info & 0xf).max(1);
    let group = usize::from(state >> 13 & 3) % groups;
    let level = has(KeyButMask::SHIFT) + 2 * has(KeyButMask::MOD5);
    let width = usize::from(key.width);
    let level = if level < width { level } else { 0 };
    Ok(key
        .syms
        .get(group * width + level)
        .copied()
        .unwrap_or_default())
}

fn mark(keysym: u32) -> Option<char> {
    let place = usize::try_from(keysym.checked_sub(FIRST_DEAD)?).ok()?;
    let mark = MARKS.get(place).filter(|mark| **mark != 0)?;
    char::from_u32(*mark)
}

/// Puts marks on a character. Marks that no letter has with it are typed before it, as far as
/// keyboards have signs for them.
fn accented(character: char, marks: impl Iterator<Item = char>) -> String {
    let mut before = String::new();
    let mut result = character;
    for mark in marks {
        match compose(result, mark) {
            Some(letter) => result = letter,
            None => before.extend(spacing(mark)),
        }
    }
    // A dead key and a blank make the sign itself.
    if result != ' ' || before.is_empty() {
        before.push(result);
    }
    before
}

/// Returns the sign of a mark that stands alone.
fn spacing(mark: char) -> Option<char> {
    match mark {
        '\u{300}' => Some('`'),
        '\u{301}' => Some('\''),
        '\u{302}' => Some('^'),
        '\u{303}' => Some('~'),
        '\u{308}' => Some('"'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_keys_make_one_letter_and_otherwise_their_sign() {
        let typed = |keys: &[u32], character| {
            let marks: Vec<_> = keys.iter().map(|key| mark(*key).unwrap()).collect();
            accented(character, marks.into_iter())
        };
        let (grave, acute, diaeresis) = (0xfe50, 0xfe51, 0xfe57);
        let (caron, horn, below_comma) = (0xfe5a, 0xfe62, 0xfe6e);
        for (keys, character, expected) in [
            (&[acute][..], 'e', "é"),
            (&[diaeresis], 'U', "Ü"),
            (&[caron], 'š', "š"),
            (&[below_comma], 't', "ț"),
            (&[horn, grave], 'o', "ờ"),
            (&[acute], 'B', "'B"),
            (&[acute], ' ', "'"),
            (&[], ' ', " "),
            (&[], 'e', "e"),
        ] {
            assert_eq!(typed(keys, character), expected);
        }
        // Other keys, and dead keys without a combining mark.
        for other in [0x65, 0xfe4f, 0xfe5e, 0xfe6f, 0xff08, 0x100_0301] {
            assert_eq!(mark(other), None, "{other:x}");
        }
    }
}
