//! The text protocol's lines.

use cubesync_protocol::clean_name;
use cubesync_server::fuzzing::{TypedLine, read_typed};

use crate::input::Input;

/// Checks that a stream has the same lines in any pieces, none longer than the limit, and that a position
/// that is understood is in the world.
pub fn check(bytes: &[u8]) {
    let mut input = Input(bytes);
    let piece_bytes = usize::from(input.byte()) + 1;
    let cut = read_typed(input.0.chunks(piece_bytes));
    let whole = read_typed([input.0].into_iter());
    assert_eq!(cut, whole);
    for line in whole {
        let TypedLine { line, position } = line;
        if let Some(Ok(position)) = position {
            assert!(position.is_in_bounds());
        }
        if let Some(Ok(name)) = line.as_deref().map(clean_name) {
            assert!(!name.contains(char::is_control));
        }
    }
}
