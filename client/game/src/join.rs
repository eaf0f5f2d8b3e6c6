//! The join screen: server, name, room, join key and colour, and the last error.

mod panel;

use cubesync_client::protocol::limits::{MAX_JOIN_KEY_BYTES, MAX_NAME_BYTES, MAX_ROOM_BYTES};
use cubesync_client::protocol::{Colour, clean_key};
use cubesync_client::{Client, ClientOptions, Status};

use crate::clock::FrameTime;
use crate::input::Edit;
use crate::platform;
use crate::text_field::TextField;
use crate::theme::PALETTE;

/// Longest text in the server's field: an invite link with the longest names of a host and a room.
const MAX_SERVER_CHARS: usize = 1_000;

/// The control that has the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Focus {
    Server,
    Name,
    Room,
    JoinKey,
    Colour,
    Join,
}

/// All controls from top to bottom.
const ORDER: [Focus; 6] = [
    Focus::Server,
    Focus::Name,
    Focus::Room,
    Focus::JoinKey,
    Focus::Colour,
    Focus::Join,
];

/// Returns the controls that this platform has: in a browser the page decides about the server.
fn order() -> &'static [Focus] {
    &ORDER[usize::from(!platform::CHOOSES_SERVER)..]
}

/// The fields, and the client that is joining.
#[derive(Debug)]
pub(crate) struct JoinScreen {
    /// The options that no field shows.
    other: ClientOptions,
    server: TextField,
    name: TextField,
    room: TextField,
    join_key: TextField,
    colours: Vec<Colour>,
    chosen: usize,
    focus: Focus,
    error: Option<String>,
    joining: Option<Client>,
}

impl JoinScreen {
    /// Creates a screen with these options filled in, and the error that ended the last game.
    pub(crate) fn new(options: ClientOptions, error: Option<String>) -> Self {
        let mut colours = PALETTE.to_vec();
        if !colours.contains(&options.colour) {
            colours[0] = options.colour;
        }
        // Fields take one character too many, so that what is too long is refused instead of cut.
        Self {
            other: options.clone(),
            server: TextField::new(options.server, MAX_SERVER_CHARS),
            name: TextField::new(options.name, MAX_NAME_BYTES + 1),
            room: TextField::new(options.room, MAX_ROOM_BYTES + 1),
            join_key: TextField::new(options.join_key.unwrap_or_default(), MAX_JOIN_KEY_BYTES + 1),
            chosen: colours
                .iter()
                .position(|&colour| colour == options.colour)
                .unwrap_or(0),
            colours,
            focus: Focus::Name,
            error: error.as_deref().map(sentence),
            joining: None,
        }
    }

    /// Polls the client that is joining, and returns it once it has joined.
    pub(crate) fn poll(&mut self, time: FrameTime) -> Option<Client> {
        let client = self.joining.as_mut()?;
        client.poll(time.now);
        match client.status() {
            Status::Connecting | Status::Joining => return None,
            Status::Joined => return self.joining.take(),
            // There is no retry here: the person in front of the screen may correct the address.
            Status::Waiting { reason, .. } | Status::Failed { reason } => {
                self.error = Some(sentence(&reason));
            }
        }
        self.joining = None;
        None
    }

    fn join(&mut self) {
        match self.options() {
            Ok(options) => {
                self.error = None;
                self.joining = Some(platform::client(options));
            }
            Err((focus, error)) => {
                self.focus = focus;
                self.error = Some(error);
            }
        }
    }

    /// Returns the options in the fields, or the first wrong field and its error.
    fn options(&mut self) -> Result<ClientOptions, (Focus, String)> {
        if self.server.text().trim().is_empty() {
            let example = "Enter the server's address, for example localhost:14900";
            return Err((Focus::Server, example.to_owned()));
        }
        self.read_target()
            .map_err(|error| (Focus::Server, sentence(&error)))?;
        let name = platform::clean_name(self.name.text())
            .map_err(|error| (Focus::Name, sentence(&error.to_string())))?;
        let room = platform::clean_room(self.room.text())
            .map_err(|error| (Focus::Room, sentence(&error.to_string())))?;
        // Blanks around a pasted key are not part of it: no server has such a one.
        let join_key = match self.join_key.text().trim() {
            "" => None,
            given => Some(
                clean_key(given).map_err(|error| (Focus::JoinKey, sentence(&error.to_string())))?,
            ),
        };
        Ok(ClientOptions {
            server: self.server.text().to_owned(),
            room,
            name,
            colour: self.colours[self.chosen],
            join_key: join_key.map(str::to_owned),
            resume: None,
            ..self.other.clone()
        })
    }

    /// Shows the server's address in full. An invite link fills the other fields, too.
    fn read_target(&mut self) -> Result<(), String> {
        let target = platform::target(self.server.text())?;
        self.server.replace(&target.server);
        for (field, text) in [(&mut self.room, target.room), (&mut self.name, target.name)] {
            if let Some(text) = text {
                field.replace(&text);
            }
        }
        Ok(())
    }

    fn field(&mut self, focus: Focus) -> Option<&mut TextField> {
        match focus {
            Focus::Server => Some(&mut self.server),
            Focus::Name => Some(&mut self.name),
            Focus::Room => Some(&mut self.room),
            Focus::JoinKey => Some(&mut self.join_key),
            Focus::Colour | Focus::Join => None,
        }
    }

    fn edit(&mut self, edit: Edit) {
        let count = self.colours.len();
        match (self.focus, edit) {
            (_, Edit::Next) => self.move_focus(1),
            (_, Edit::Previous) => self.move_focus(order().len() - 1),
            (_, Edit::Confirm) => self.join(),
            (Focus::Colour, Edit::Left) => self.chosen = (self.chosen + count - 1) % count,
            (Focus::Colour, Edit::Right) => self.chosen = (self.chosen + 1) % count,
            (focus, edit) => {
                if let Some(field) = self.field(focus) {
                    field.apply(edit, platform::paste);
                }
            }
        }
    }

    fn move_focus(&mut self, steps: usize) {
        let order = order();
        let place = order.iter().position(|&focus| focus == self.focus);
        self.focus = order[(place.unwrap_or(0) + steps) % order.len()];
    }
}

/// Makes a sentence of a reason, which begins with a small letter. Only ASCII letters become
/// capitals: the tables for all others would be a fiftieth of what a browser loads.
pub(crate) fn sentence(reason: &str) -> String {
    let mut sentence = reason.to_owned();
    if let Some(first) = sentence.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    sentence
}

/// Returns zero to three dots in turn, which show that something is going on.
pub(crate) fn dots(time: FrameTime) -> &'static str {
    ["   ", ".  ", ".. ", "..."][time.now.as_millis() as usize / 350 % 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(server: &str, name: &str) -> JoinScreen {
        let options = ClientOptions {
            colour: PALETTE[3],
            ..ClientOptions::new(server, name)
        };
        JoinScreen::new(options, None)
    }

    #[test]
    fn a_wrong_field_gets_the_focus_and_a_sentence() {
        let mut wrong = screen("localhost:1", "  ");
        wrong.join();
        assert!(wrong.joining.is_none() && wrong.focus == Focus::Name);
        let error = wrong.error.unwrap();
        assert!(error.starts_with("A name needs"), "{error}");
        assert_eq!(screen(" ", "a").options().unwrap_err().0, Focus::Server);
    }

    #[test]
    fn an_invite_link_in_the_servers_field_fills_the_others() {
        let mut invited = screen("http://10.0.0.5:8080/?room=Den.", "Anna");
        let options = invited.options().unwrap();
        assert_eq!(options.server, "10.0.0.5:14900");
        assert_eq!((&*options.room, &*options.name), ("Den", "Anna"));
        let shown = (invited.server.text(), invited.room.text());
        assert_eq!(shown, ("10.0.0.5:14900", "Den"));
        let mut wrong = screen("http://10.0.0.5:8080/?room=%E3%85%A4", "Anna");
        let (focus, error) = wrong.options().unwrap_err();
        assert_eq!(focus, Focus::Server);
        assert!(error.contains("a room name needs"), "{error}");
    }

    #[test]
    fn a_text_that_is_too_long_is_refused_and_not_cut() {
        let mut pasted = screen("a", "");
        let long = "я".repeat(500);
        pasted.name.apply(Edit::Paste, || Some(long.clone()));
        let (focus, error) = pasted.options().unwrap_err();
        assert_eq!(focus, Focus::Name);
        assert!(error.contains("has at most"), "{error}");
    }

    #[test]
    fn a_join_key_is_sent_only_when_there_is_one() {
        let mut screen = screen("a", "a");
        assert_eq!(screen.options().unwrap().join_key, None);
        screen.focus = Focus::JoinKey;
        screen.edit(Edit::Type('k'));
        assert_eq!(screen.options().unwrap().join_key.as_deref(), Some("k"));
        screen.edit(Edit::Type(' '));
        assert_eq!(screen.options().unwrap().join_key.as_deref(), Some("k"));
        "я".repeat(100)
            .chars()
            .for_each(|character| screen.edit(Edit::Type(character)));
        assert_eq!(screen.options().unwrap_err().0, Focus::JoinKey);
    }

    #[test]
    fn a_colour_from_the_command_line_can_be_chosen_too() {
        let magenta = Colour {
            red: 255,
            green: 0,
            blue: 255,
        };
        let options = ClientOptions {
            colour: magenta,
            ..screen("a", "a").options().unwrap()
        };
        assert_eq!(
            JoinScreen::new(options, None).options().unwrap().colour,
            magenta
        );
        assert_eq!(screen("a", "a").options().unwrap().colour, PALETTE[3]);
    }

    #[test]
    fn tab_goes_through_all_controls_and_shift_tab_goes_back() {
        let mut screen = screen("a", "a");
        for expected in [
            Focus::Room,
            Focus::JoinKey,
            Focus::Colour,
            Focus::Join,
            Focus::Server,
        ] {
            screen.edit(Edit::Next);
            assert_eq!(screen.focus, expected);
        }
        screen.edit(Edit::Previous);
        assert_eq!(screen.focus, Focus::Join);
    }

    #[test]
    fn typing_goes_to_the_field_that_has_the_focus_at_that_moment() {
        let mut screen = screen("a", "b");
        let edits = [
            Edit::Type('1'),
            Edit::Next,
            Edit::Type('2'),
            Edit::Previous,
            Edit::Type('3'),
        ];
        edits.into_iter().for_each(|edit| screen.edit(edit));
        assert_eq!((screen.name.text(), screen.room.text()), ("b13", "lobby2"));
    }
}
