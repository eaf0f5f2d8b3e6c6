//! A room in one line, as pages show it, without a copy of its cubes.

use cubesync_protocol::CubeKind;

use super::handle::Role;

/// Largest number of names in a [`Crowd`].
const MAX_NAMES: usize = 40;

/// A room in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSummary {
    /// The room's name.
    pub name: String,
    /// Ticks per second.
    pub tick_hz: u8,
    /// The part of this server in the room.
    pub role: Role,
    /// The players, as far as this server knows them.
    pub crowd: Crowd,
}

/// The players of a room, as numbers and by some names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crowd {
    /// Number of players.
    pub players: usize,
    /// Number of players whose connection is lost and who may return.
    pub ghosts: usize,
    /// The names of the first 40 players.
    pub names: Vec<String>,
}

impl Crowd {
    /// Counts cubes, given by their kinds and names.
    pub fn of<'a>(cubes: impl Iterator<Item = (CubeKind, &'a str)>) -> Self {
        let mut crowd = Self::default();
        for (kind, name) in cubes {
            match kind {
                CubeKind::Player => {
                    crowd.players += 1;
                    if crowd.names.len() < MAX_NAMES {
                        crowd.names.push(name.to_owned());
                    }
                }
                CubeKind::Ghost => crowd.ghosts += 1,
                CubeKind::Free { .. } => {}
            }
        }
        crowd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn players_and_ghosts_are_counted_and_the_first_players_named() {
        let few = [
            (CubeKind::Free { holder: None }, "cube"),
            (CubeKind::Ghost, "Anna"),
        ];
        let many = std::iter::repeat_n((CubeKind::Player, "Bob"), 98);
        let crowd = Crowd::of(few.into_iter().chain(many));
        assert_eq!((crowd.players, crowd.ghosts), (98, 1));
        assert_eq!(crowd.names, vec!["Bob"; MAX_NAMES]);
    }
}
