//! The network lab's flags.

use std::time::Duration;

use clap::Args;
use cubesync_arguments::time;
use cubesync_client::ClientOptions;
use cubesync_client::lab::Conditions;

/// Conditions of a network that is worse than the real one.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Network lab")]
pub(crate) struct LabFlags {
    /// Delay added to each way, such as 60ms, at most 2s
    #[arg(long, env = "CUBESYNC_LAB_LATENCY", value_name = "TIME", default_value = "0ms",
        value_parser = time(Duration::ZERO..=Conditions::MAX_LATENCY))]
    lab_latency: Duration,
    /// Random variation of that delay, up or down, such as 20ms, at most 2s
    #[arg(long, env = "CUBESYNC_LAB_JITTER", value_name = "TIME", default_value = "0ms",
        value_parser = time(Duration::ZERO..=Conditions::MAX_LATENCY))]
    lab_jitter: Duration,
    /// Share of segments and datagrams that are lost, in percent, 0 to 50; TCP sends its segments again while
    /// everything behind them waits
    #[arg(long, env = "CUBESYNC_LAB_LOSS", value_name = "PERCENT", default_value = "0",
        value_parser = loss_permille)]
    lab_loss: u16,
    /// Bandwidth of each way in bits per second, such as 64k or 2M, 1k to 1000M [default: no limit]
    #[arg(long, env = "CUBESYNC_LAB_BANDWIDTH", value_name = "BITS", value_parser = bandwidth_bps)]
    lab_bandwidth: Option<u32>,
    /// Let no datagram pass, as behind a firewall
    #[arg(long, env = "CUBESYNC_LAB_NO_DATAGRAMS")]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    lab_no_datagrams: bool,
    /// Seed of losses and delays: the same seed makes the same ones
    #[arg(
        long,
        env = "CUBESYNC_LAB_SEED",
        value_name = "NUMBER",
        default_value_t = 1
    )]
    lab_seed: u64,
}

impl LabFlags {
    /// Sets the flags' conditions in a client's options. Clients of different `number` have losses
    /// of their own.
    pub(crate) fn apply(&self, options: &mut ClientOptions, number: u16) {
        options.lab = Conditions {
            latency: self.lab_latency,
            jitter: self.lab_jitter,
            loss_permille: self.lab_loss,
            bandwidth_bps: self.lab_bandwidth.unwrap_or_default(),
            blocks_datagrams: self.lab_no_datagrams,
        };
        options.lab_seed = self.lab_seed.wrapping_add(number.into());
    }
}

fn loss_permille(text: &str) -> Result<u16, String> {
    let percent = text.trim_end_matches('%').parse::<f64>();
    let permille = percent.map_or(f64::NAN, |percent| percent * 10.0);
    match (0.0..=f64::from(Conditions::MAX_LOSS_PERMILLE)).contains(&permille) {
        true => Ok(permille.round() as u16),
        false => Err("write it as percent, 0 to 50, such as 2".to_owned()),
    }
}

fn bandwidth_bps(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.trim_end_matches(['k', 'K', 'M']) {
        number if text.ends_with('M') => (number, 1_000_000.0),
        number if number.len() < text.len() => (number, 1_000.0),
        number => (number, 1.0),
    };
    let bps = number.parse::<f64>().map_or(f64::NAN, |bps| bps * unit);
    match (f64::from(Conditions::MIN_BANDWIDTH_BPS)..=1e9).contains(&bps) {
        true => Ok(bps.round() as u32),
        false => Err("write it as bits per second, 1k to 1000M, such as 64k".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        lab: LabFlags,
    }

    fn options(flags: &[&str]) -> Result<ClientOptions, clap::Error> {
        let program = Program::try_parse_from([&["program"], flags].concat())?;
        let mut options = ClientOptions::new("host:1", "Anna");
        program.lab.apply(&mut options, 3);
        Ok(options)
    }

    #[test]
    fn without_flags_the_network_is_as_it_is() {
        assert!(options(&[]).unwrap().lab.is_perfect());
    }

    #[test]
    fn every_flag_says_what_it_means() {
        let flags = "--lab-latency 60ms --lab-jitter 20ms --lab-loss 0.5 --lab-bandwidth 64k \
                     --lab-no-datagrams --lab-seed 7";
        let flags: Vec<_> = flags.split_whitespace().collect();
        let options = options(&flags).unwrap();
        let expected = Conditions {
            latency: Duration::from_millis(60),
            jitter: Duration::from_millis(20),
            loss_permille: 5,
            bandwidth_bps: 64_000,
            blocks_datagrams: true,
        };
        assert_eq!((options.lab, options.lab_seed), (expected, 10));
    }

    #[test]
    fn values_that_no_network_has_are_usage_errors() {
        for wrong in [
            ["--lab-latency", "60"],
            ["--lab-latency", "3s"],
            ["--lab-jitter", "soon"],
            ["--lab-loss", "51"],
            ["--lab-loss", "-1"],
            ["--lab-loss", "NaN"],
            ["--lab-bandwidth", "0"],
            ["--lab-bandwidth", "64kk5"],
            ["--lab-bandwidth", "9999M"],
            ["--lab-seed", "x"],
        ] {
            let joined = format!("{}={}", wrong[0], wrong[1]);
            assert_eq!(options(&[&joined]).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
        for (text, bps) in [("1k", 1_000), ("2M", 2_000_000), ("1.5M", 1_500_000)] {
            assert_eq!(bandwidth_bps(text), Ok(bps));
        }
    }
}
