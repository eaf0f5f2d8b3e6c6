//! The flag about datagrams.

use clap::Args;
use cubesync_client::ClientOptions;

/// Whether to use datagrams.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DatagramFlags {
    /// Use the connection alone, without the datagrams (UDP) that bring what is newest sooner
    #[arg(long, env = "CUBESYNC_NO_DATAGRAMS")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    no_datagrams: bool,
}

impl DatagramFlags {
    /// Sets what the flag says in a client's options.
    pub(crate) fn apply(&self, options: &mut ClientOptions) {
        options.datagrams = !self.no_datagrams;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        datagrams: DatagramFlags,
    }

    #[test]
    fn datagrams_are_used_unless_the_flag_says_no() {
        for (flags, expected) in [(&[][..], true), (&["--no-datagrams"], false)] {
            let program = Program::parse_from([&["program"], flags].concat());
            let mut options = ClientOptions::new("host:1", "Anna");
            program.datagrams.apply(&mut options);
            assert_eq!(options.datagrams, expected);
        }
    }
}
