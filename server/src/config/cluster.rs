//! Flags that make the server one of several.

use std::path::{Path, PathBuf};

use clap::Args;
use cubesync_arguments::SecretFile;
use cubesync_cluster::bus::{BusAddress, NatsSettings, cluster_name};
use cubesync_cluster::host_and_port;

use super::{SEVERAL, flag_or_file, secret_file};

/// The name of a group of servers that has NATS for itself.
const DEFAULT_NAME: &str = "cubesync";

/// The flags of a server that is one of several: how it and the others find each other.
#[derive(Debug, Clone, Args)]
pub struct ClusterOptions {
    /// NATS server with JetStream over which this server shares its rooms with others, such as
    /// nats://10.0.0.7:4222; tls:// encrypts it, user:password@ or token@ before the host logs in,
    /// commas separate the members of a NATS cluster. Everybody on it is trusted: keep it private
    #[arg(
        long,
        value_name = "URL",
        env = "CUBESYNC_BUS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    #[arg(help_heading = SEVERAL, group = "any_bus")]
    pub bus: Vec<BusAddress>,

    /// File with those URLs, because of the logins in them
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_FILE")]
    #[arg(help_heading = SEVERAL, group = "any_bus", value_parser = secret_file())]
    pub bus_file: Option<SecretFile>,

    /// Name of the group of servers that share rooms, where several groups use one NATS
    #[arg(long, value_name = "NAME", default_value = DEFAULT_NAME)]
    #[arg(env = "CUBESYNC_CLUSTER_NAME", help_heading = SEVERAL, value_parser = cluster_name)]
    pub cluster_name: String,

    /// File to log in to NATS with: credentials (.creds) or the seed of an NKey
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_CREDENTIALS")]
    #[arg(help_heading = SEVERAL, requires = "any_bus")]
    pub bus_credentials: Option<PathBuf>,

    /// Authority that must have signed the certificate of NATS (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_CA")]
    #[arg(help_heading = SEVERAL, requires = "any_bus")]
    pub bus_ca: Option<PathBuf>,

    /// This server's certificate for NATS (PEM), if NATS asks for one
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_CERT")]
    #[arg(help_heading = SEVERAL, requires = "any_bus", requires = "bus_key")]
    pub bus_cert: Option<PathBuf>,

    /// Private key of --bus-cert (PEM)
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_KEY")]
    #[arg(help_heading = SEVERAL, requires = "any_bus", requires = "bus_cert")]
    pub bus_key: Option<PathBuf>,

    /// Address at which players reach this server over TCP; the other servers pass it on to their
    /// players, who come here if their server fails [default: the address of --listen]
    #[arg(long, value_name = "HOST:PORT", env = "CUBESYNC_PUBLIC_ADDRESS")]
    #[arg(help_heading = SEVERAL, value_parser = host_and_port)]
    pub public_address: Option<String>,

    /// Address at which browsers reach this server [default: the address of --http]
    #[arg(long, value_name = "HOST:PORT", env = "CUBESYNC_PUBLIC_HTTP")]
    #[arg(help_heading = SEVERAL, value_parser = host_and_port)]
    pub public_http: Option<String>,
}

impl ClusterOptions {
    /// Returns how to reach NATS; `None`: the server is alone.
    pub fn nats(&self) -> Option<NatsSettings> {
        let addresses = self.bus();
        let is_alone = addresses.is_empty();
        (!is_alone).then(|| NatsSettings {
            addresses,
            cluster_name: self.cluster_name.clone(),
            credentials: self.bus_credentials.clone(),
            authority: self.bus_ca.clone(),
            certificate: self.bus_cert.clone().zip(self.bus_key.clone()),
        })
    }

    /// Returns the URLs of NATS, from their flag or their file.
    pub fn bus(&self) -> Vec<BusAddress> {
        let lines = self.bus_file.iter().flat_map(SecretFile::lines);
        let in_file = lines.flat_map(|line| line.split(','));
        let in_flags = self.bus.iter().cloned();
        in_flags.chain(in_file.map(BusAddress::from)).collect()
    }

    /// Returns the files that only the server should be able to read.
    pub(super) fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let bus = self.bus_file.as_ref().map(SecretFile::path);
        let others = [&self.bus_credentials, &self.bus_key];
        bus.into_iter()
            .chain(others.into_iter().flatten().map(PathBuf::as_path))
    }

    /// Returns the flags that were given and have no effect, because the server is alone.
    pub(crate) fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        let is_alone = self.bus().is_empty();
        let given = [
            ("--cluster-name", self.cluster_name != DEFAULT_NAME),
            ("--public-address", self.public_address.is_some()),
            ("--public-http", self.public_http.is_some()),
        ];
        let given = given
            .into_iter()
            .filter(move |(_, is_given)| is_alone && *is_given);
        given.map(|(flag, _)| flag)
    }

    /// Checks the values that must not be printed.
    ///
    /// # Errors
    /// The flag and its problem, in words.
    pub(super) fn check_secrets(&self) -> Result<(), String> {
        let flag = flag_or_file("--bus", self.bus_file.as_ref());
        for address in self.bus() {
            address
                .check()
                .map_err(|problem| format!("invalid value for {flag}: {problem}"))?;
        }
        Ok(())
    }
}
