//! What all programs do alike with their command lines: [`parse()`] reads one, the rest parses values.
//!
//! An empty environment variable counts as not set. A value is within bounds that make sense, or the
//! program says which ones do and ends with code 2.

mod address;
mod command_line;
mod secret_file;
#[cfg(feature = "testing")]
pub mod testing;
mod value;
mod variables;

pub use address::listen_address;
pub use command_line::{parse, warn_of_unknown_variables, without_empty_variables};
pub use secret_file::SecretFile;
pub use value::{LONGEST_TIME, MAX_COUNT, decimal, time, whole};
pub use variables::{UnknownVariable, unknown_variables};
