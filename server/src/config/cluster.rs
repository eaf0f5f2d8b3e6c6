//! Flags that make the server one of several.

use std::path::PathBuf;

use clap::Args;
use cubesync_cluster::bus::{BusAddress, NatsSettings, cluster_name};
use cubesync_cluster::host_and_port;

use super::SEVERAL;

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
    #[arg(help_heading = SEVERAL)]
    pub bus: Vec<BusAddress>,

    /// Name of the group of servers that share rooms, where several groups use one NATS
    #[arg(long, value_name = "NAME", default_value = "cubesync")]
    #[arg(env = "CUBESYNC_CLUSTER_NAME", help_heading = SEVERAL, value_parser = cluster_name)]
    pub cluster_name: String,

    /// File to log in to NATS with: credentials (.creds) or the seed of an NKey
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_CREDENTIALS")]
    #[arg(help_heading = SEVERAL, requires = "bus")]
    pub bus_credentials: Option<PathBuf>,

    /// Authority that must have signed the certificate of NATS (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_CA")]
    #[arg(help_heading = SEVERAL, requires = "bus")]
    pub bus_ca: Option<PathBuf>,

    /// This server's certificate for NATS (PEM), if NATS asks for one
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_CERT")]
    #[arg(help_heading = SEVERAL, requires = "bus", requires = "bus_key")]
    pub bus_cert: Option<PathBuf>,

    /// Private key of --bus-cert (PEM)
    #[arg(long, value_name = "FILE", env = "CUBESYNC_BUS_KEY")]
    #[arg(help_heading = SEVERAL, requires = "bus", requires = "bus_cert")]
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
        let is_alone = self.bus.is_empty();
        (!is_alone).then(|| NatsSettings {
            addresses: self.bus.clone(),
            cluster_name: self.cluster_name.clone(),
            credentials: self.bus_credentials.clone(),
            authority: self.bus_ca.clone(),
            certificate: self.bus_cert.clone().zip(self.bus_key.clone()),
        })
    }

    /// Checks the values that must not be printed.
    ///
    /// # Errors
    /// The flag and its problem, in words.
    pub(super) fn check_secrets(&self) -> Result<(), String> {
        for address in &self.bus {
            address
                .check()
                .map_err(|problem| format!("invalid value for --bus: {problem}"))?;
        }
        Ok(())
    }
}
