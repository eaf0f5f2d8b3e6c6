//! The flags about the join key.

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::error::{Error, ErrorKind};
use cubesync_arguments::SecretFile;
use cubesync_client::ClientOptions;
use cubesync_client::protocol::clean_key;

/// The server's join key, given as it is or in a file.
#[derive(Clone, Args)]
pub(crate) struct KeyFlags {
    /// The server's join key, if it asks for one. Every user of the machine can read it here, so prefer
    /// the file or the variable
    #[arg(
        long,
        value_name = "KEY",
        env = "CUBESYNC_JOIN_KEY",
        hide_env_values = true
    )]
    join_key: Option<String>,
    /// File with that key
    #[arg(long, value_name = "FILE", env = "CUBESYNC_JOIN_KEY_FILE", conflicts_with = "join_key",
        value_parser = PathBufValueParser::new().try_map(SecretFile::read))]
    join_key_file: Option<SecretFile>,
}

impl KeyFlags {
    /// Sets the key in a client's options.
    ///
    /// # Errors
    /// A usage error if no server has such a key; it does not print the key.
    pub(crate) fn apply(&self, options: &mut ClientOptions) -> Result<(), Error> {
        let (given, flag) = match (&self.join_key, &self.join_key_file) {
            (Some(key), _) => (key.as_str(), "--join-key or CUBESYNC_JOIN_KEY".to_owned()),
            (None, Some(file)) => {
                let path = file.path().display();
                (file.text(), format!("--join-key-file ({path})"))
            }
            (None, None) => return Ok(()),
        };
        let key = clean_key(given).map_err(|problem| {
            let message = format!("invalid value for {flag}: {problem}\n");
            Error::raw(ErrorKind::ValueValidation, message)
        })?;
        options.join_key = Some(key.to_owned());
        Ok(())
    }
}

impl std::fmt::Debug for KeyFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyFlags(..)")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        key: KeyFlags,
    }

    fn key(flags: &[&str]) -> Result<Option<String>, Error> {
        let program = Program::try_parse_from([&["program"], flags].concat())?;
        let mut options = ClientOptions::new("host:1", "Anna");
        program.key.apply(&mut options)?;
        Ok(options.join_key)
    }

    #[test]
    fn a_key_is_a_flag_or_in_a_file() {
        let path = std::env::temp_dir().join(format!("cubesync-flags-{}", std::process::id()));
        std::fs::write(&path, "open sesame\r\n").unwrap();
        let in_file = ["--join-key-file", path.to_str().unwrap()];
        assert_eq!(key(&in_file).unwrap().as_deref(), Some("open sesame"));
        let both = [&in_file[..], &["--join-key", "a"]].concat();
        assert_eq!(key(&both).unwrap_err().exit_code(), 2);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(key(&["--join-key", "a\n"]).unwrap().as_deref(), Some("a"));
        assert_eq!(key(&[]).unwrap(), None);
    }

    #[test]
    fn a_key_that_no_server_has_is_a_usage_error_and_not_printed() {
        for wrong in ["", "sesame ", "\"sesame\"", "sesame\tsesame"] {
            let error = key(&[&format!("--join-key={wrong}")]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(!error.to_string().contains("sesame"), "{error}");
        }
    }
}
