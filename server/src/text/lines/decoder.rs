//! Bytes to lines: the line ends of all systems, telnet's commands (RFC 854), and the editing keys that a
//! raw terminal sends as they are.

use bytes::{Buf, BytesMut};

use super::{Input, MAX_LINE_BYTES, Unreadable};

/// Telnet's commands.
mod telnet {
    /// The end of the file and the end of the process, of line mode (RFC 1184).
    pub(super) const EOF: u8 = 236;
    pub(super) const ABORT: u8 = 238;
    pub(super) const SUBNEGOTIATION_END: u8 = 240;
    pub(super) const BREAK: u8 = 243;
    pub(super) const INTERRUPT: u8 = 244;
    pub(super) const ERASE_CHARACTER: u8 = 247;
    pub(super) const ERASE_LINE: u8 = 248;
    pub(super) const SUBNEGOTIATION: u8 = 250;
    pub(super) const WILL: u8 = 251;
    pub(super) const WONT: u8 = 252;
    pub(super) const DO: u8 = 253;
    pub(super) const DONT: u8 = 254;
    /// Interpret as command: the byte before each of them.
    pub(super) const IAC: u8 = 255;
}

/// Keys that a terminal would have handled before it sends a line, as control characters.
mod key {
    pub(super) const INTERRUPT: u8 = 0x03;
    pub(super) const END: u8 = 0x04;
    pub(super) const BACKSPACE: u8 = 0x08;
    pub(super) const ERASE_LINE: u8 = 0x15;
    pub(super) const END_ON_WINDOWS: u8 = 0x1A;
    pub(super) const ESCAPE: u8 = 0x1B;
    pub(super) const DELETE: u8 = 0x7F;
}

const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// A decoder of what a text client sends.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    line: Vec<u8>,
    /// Whether the rest of a line that is too long is being dropped.
    is_skipping: bool,
    state: State,
    /// Whether the last line had NULs inside, as UTF-16 has.
    is_wide: bool,
    has_left: bool,
}

/// The place in what is being received.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After a carriage return, which has ended the line.
    Return,
    Command,
    /// After `WILL`, `WONT`, `DO` or `DONT`.
    Negotiation(u8),
    /// In a subnegotiation, after so many bytes; the second one after an `IAC`.
    Subnegotiation(usize),
    SubnegotiationCommand(usize),
    /// In the code of a key such as an arrow (ECMA-48), after its first byte or its first two.
    Escape,
    Sequence,
    /// Before the only byte of such a code.
    LastOfEscape,
}

impl Decoder {
    /// Takes bytes until there is an input. `None` needs more bytes, unless the client
    /// [has left](Self::has_left).
    pub(super) fn next(&mut self, received: &mut BytesMut) -> Option<Input> {
        while !self.has_left && received.has_remaining() {
            let input = self.take(received.get_u8());
            if input.is_some() {
                return input;
            }
        }
        None
    }

    /// Returns whether the client has pressed a key, or sent a command, that means the end.
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    /// Returns the number of bytes that are kept.
    pub(super) fn len_bytes(&self) -> usize {
        self.line.len()
    }

    /// Returns the line that the end of the stream has cut off.
    pub(super) fn rest(&mut self) -> Option<Input> {
        let has_text = self.line.iter().any(|&byte| byte != 0);
        if has_text { self.end_line() } else { None }
    }

    fn take(&mut self, byte: u8) -> Option<Input> {
        match self.state {
            State::Text => return self.take_text(byte),
            State::Return => {
                // In UTF-16 a NUL stands between the two, and the line has been refused already.
                if byte == 0 && std::mem::take(&mut self.is_wide) {
                    return None;
                }
                self.state = State::Text;
                // The second byte of a line end: `\r\n`, or telnet's `\r\0`.
                if byte != b'\n' && byte != 0 {
                    return self.take_text(byte);
                }
            }
            State::Command => return self.take_command(byte),
            State::Negotiation(command) => {
                self.state = State::Text;
                // Every option is refused; a refusal needs no answer, so there is no loop (RFC 1143).
                let refusal = match command {
                    telnet::WILL => Some(telnet::DONT),
                    telnet::DO => Some(telnet::WONT),
                    _ => None,
                };
                return refusal.map(|refusal| Input::Negotiation([telnet::IAC, refusal, byte]));
            }
            State::Subnegotiation(count) => {
                self.state = match byte {
                    telnet::IAC => State::SubnegotiationCommand(count + 1),
                    _ => State::Subnegotiation(count + 1),
                };
                // One without an end would take everything that follows.
                if count >= MAX_LINE_BYTES {
                    self.state = State::Text;
                    return self.skip_line();
                }
            }
            State::SubnegotiationCommand(count) => {
                self.state = match byte {
                    telnet::SUBNEGOTIATION_END => State::Text,
                    _ => State::Subnegotiation(count + 1),
                };
            }
            State::Escape => match byte {
                b'[' => self.state = State::Sequence,
                b'O' => self.state = State::LastOfEscape,
                _ => return self.end_escape(byte),
            },
            // Parameters stand before the byte that ends the code.
            State::Sequence if (0x20..0x40).contains(&byte) => {}
            State::Sequence | State::LastOfEscape => return self.end_escape(byte),
        }
        None
    }

    /// Ends the code of a key with its last byte. Line ends and the like are no part of one.
    fn end_escape(&mut self, last: u8) -> Option<Input> {
        self.state = State::Text;
        match last {
            0x20..0x7F => None,
            other => self.take_text(other),
        }
    }

    fn take_text(&mut self, byte: u8) -> Option<Input> {
        match byte {
            b'\n' => return self.end_line(),
            b'\r' => {
                self.state = State::Return;
                return self.end_line();
            }
            telnet::IAC => self.state = State::Command,
            key::ESCAPE => self.state = State::Escape,
            key::BACKSPACE | key::DELETE => self.erase_character(),
            key::ERASE_LINE => self.line.clear(),
            key::INTERRUPT => self.has_left = true,
            key::END | key::END_ON_WINDOWS if self.line.is_empty() => self.has_left = true,
            _ => return self.push(byte),
        }
        None
    }

    fn take_command(&mut self, byte: u8) -> Option<Input> {
        self.state = State::Text;
        match byte {
            telnet::WILL..=telnet::DONT => self.state = State::Negotiation(byte),
            telnet::SUBNEGOTIATION => self.state = State::Subnegotiation(0),
            telnet::ERASE_CHARACTER => self.erase_character(),
            telnet::ERASE_LINE => self.line.clear(),
            telnet::EOF | telnet::ABORT | telnet::BREAK | telnet::INTERRUPT => self.has_left = true,
            // The byte 255 itself, which is in no UTF-8.
            telnet::IAC => return self.push(telnet::IAC),
            telnet::EOF.. => {}
            // No command: a letter of an older encoding stands before this byte.
            _ => {
                let too_long = self.push(telnet::IAC);
                return too_long.or(self.take_text(byte));
            }
        }
        None
    }

    /// Adds a byte to the line. Returns an error for the first one that is too many.
    fn push(&mut self, byte: u8) -> Option<Input> {
        if self.is_skipping {
            return None;
        }
        if self.line.len() == MAX_LINE_BYTES {
            return self.skip_line();
        }
        self.line.push(byte);
        None
    }

    /// Drops the line to its end, and says so once.
    fn skip_line(&mut self) -> Option<Input> {
        self.line.clear();
        let was_skipping = std::mem::replace(&mut self.is_skipping, true);
        (!was_skipping).then_some(Input::Unreadable(Unreadable::TooLong))
    }

    fn erase_character(&mut self) {
        while let Some(byte) = self.line.pop() {
            let is_continuation = byte & 0xC0 == 0x80;
            if !is_continuation {
                break;
            }
        }
    }

    fn end_line(&mut self) -> Option<Input> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_skipping) {
            return None;
        }
        // Programs in C send the NUL after their texts; telnet has it as filling.
        let start = line
            .iter()
            .position(|&byte| byte != 0)
            .unwrap_or(line.len());
        let end = line
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(start, |last| last + 1);
        let text = &line[start..end];
        self.is_wide = text.contains(&0);
        Some(match std::str::from_utf8(text) {
            _ if self.is_wide => Input::Unreadable(Unreadable::Nul),
            Err(_) => Input::Unreadable(Unreadable::NotUtf8),
            Ok(text) => Input::Line(text.trim_start_matches(BYTE_ORDER_MARK).to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns everything that a stream holds, with the line that its end cuts off.
    fn inputs(bytes: &[u8]) -> Vec<Input> {
        let mut decoder = Decoder::default();
        let mut received = BytesMut::from(bytes);
        let mut inputs: Vec<_> = std::iter::from_fn(|| decoder.next(&mut received)).collect();
        inputs.extend(decoder.rest());
        inputs
    }

    /// Returns the lines of a stream, all of which are text.
    fn lines(bytes: &[u8]) -> Vec<String> {
        let text = |input| match input {
            Input::Line(line) => line,
            other => panic!("{other:?} is no line"),
        };
        inputs(bytes).into_iter().map(text).collect()
    }

    #[test]
    fn every_systems_line_ends_end_one_line() {
        for stream in [
            "Anna\n1 2 3\n",
            "Anna\r\n1 2 3\r\n",
            "Anna\r1 2 3\r",
            "Anna\r\x001 2 3\r\x00",
            "Anna\n1 2 3",
            "\u{FEFF}Anna\r\n1 2 3\0",
        ] {
            assert_eq!(lines(stream.as_bytes()), ["Anna", "1 2 3"], "{stream:?}");
        }
        assert_eq!(lines(b"\n\r\n\r\r"), [""; 4]);
    }

    #[test]
    fn telnets_options_are_refused_and_leave_no_trace_in_lines() {
        // WILL terminal type, DO echo, DONT echo, and the size of a window 10 characters wide.
        let stream = b"\xFF\xFB\x18An\xFF\xFD\x01\xFF\xFE\x01n\xFF\xFA\x1F\0\n\0\x18\xFF\xF0a\r\n";
        assert_eq!(
            inputs(stream),
            [
                Input::Negotiation([255, 254, 24]),
                Input::Negotiation([255, 252, 1]),
                Input::Line("Anna".to_owned()),
            ]
        );
        // A 255 inside of a subnegotiation is doubled; its end is not taken for that.
        assert_eq!(lines(b"\xFF\xFA\x18\xFF\xFF\xF0x\xFF\xF0Anna\n"), ["Anna"]);
    }

    #[test]
    fn a_subnegotiation_without_an_end_takes_one_line() {
        let stream = [&b"\xFF\xFA"[..], &[b'x'; 2 * MAX_LINE_BYTES], b"\nAnna\n"].concat();
        let too_long = Input::Unreadable(Unreadable::TooLong);
        let expected = [too_long, Input::Line("Anna".to_owned())];
        assert_eq!(inputs(&stream), expected);
        // A command may stand where the bound is.
        let stream = [
            &b"\xFF\xFA"[..],
            &[b'x'; MAX_LINE_BYTES - 1],
            b"\xFF\xFF",
            &[b'x'; 9],
        ]
        .concat();
        assert_eq!(inputs(&[&stream[..], b"\nAnna\n"].concat()), expected);
    }

    #[test]
    fn keys_of_a_raw_terminal_edit_the_line() {
        assert_eq!(lines("Вд\x7Fася\n".as_bytes()), ["Вася"]);
        assert_eq!(lines(b"\x08\x08An\xFF\xF7nna\x08\n"), ["Ann"]);
        assert_eq!(lines(b"Boris\x15Anna\n"), ["Anna"]);
        // Arrows, the key for the end, a function key, a colour, and Alt with a letter.
        assert_eq!(
            lines(b"\x1B[A\x1BOFAn\x1B[15~na\x1B[31;1m\x1Bx\n"),
            ["Anna"]
        );
        assert_eq!(lines(b"Anna\x1B\r\n"), ["Anna"]);
    }

    #[test]
    fn keys_that_mean_the_end_end_it() {
        for stream in [
            &b"\x04Anna\n"[..],
            b"x\x03Anna\n",
            b"\x1A",
            b"x\xFF\xF4Anna\n",
        ] {
            let mut decoder = Decoder::default();
            assert_eq!(decoder.next(&mut BytesMut::from(stream)), None);
            assert!(decoder.has_left(), "{stream:?}");
        }
        let mut decoder = Decoder::default();
        decoder.next(&mut BytesMut::from(&b"x\x04"[..]));
        assert!(!decoder.has_left(), "in a line it is no end");
    }

    #[test]
    fn other_encodings_are_named_and_change_no_other_line() {
        let wide = |text: &str, to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(to_bytes).collect()
        };
        for (bytes, expected) in [
            (b"J\xFCrgen\n".to_vec(), Unreadable::NotUtf8),
            (b"\xFFber\n".to_vec(), Unreadable::NotUtf8),
            (b"\xFF\xFF\n".to_vec(), Unreadable::NotUtf8),
            (b"An\0na\n".to_vec(), Unreadable::Nul),
            (wide("Anna\n", u16::to_be_bytes), Unreadable::Nul),
            (wide("Anna\n", u16::to_le_bytes), Unreadable::Nul),
            (wide("\u{FEFF}Anna\n", u16::to_le_bytes), Unreadable::Nul),
            (wide("Anna\r\n", u16::to_be_bytes), Unreadable::Nul),
            (wide("Anna\r\n", u16::to_le_bytes), Unreadable::Nul),
        ] {
            let found = inputs(&[&bytes[..], b"\0"].concat());
            assert_eq!(found, [Input::Unreadable(expected)], "{bytes:?}");
            assert!(expected.to_string().is_ascii());
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_once_and_not_kept() {
        let mut decoder = Decoder::default();
        let mut next = |bytes: &[u8]| decoder.next(&mut BytesMut::from(bytes));
        let line = |text: &str| Some(Input::Line(text.to_owned()));
        assert_eq!(next(&[b'x'; MAX_LINE_BYTES]), None);
        assert_eq!(next(b"\n"), line(&"x".repeat(MAX_LINE_BYTES)));
        let too_long = Some(Input::Unreadable(Unreadable::TooLong));
        assert_eq!(next(&[b'x'; MAX_LINE_BYTES + 1]), too_long);
        for _ in 0..100 {
            assert_eq!(next(&[b'x'; 10_000]), None);
        }
        assert_eq!(next(b"end\nthree\n"), line("three"));
        assert_eq!(decoder.len_bytes(), 0, "a long line takes no memory");
    }
}
