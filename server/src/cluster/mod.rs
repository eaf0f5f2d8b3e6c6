//! The server as one of several that show the same rooms; in a build without the feature `cluster` it
//! is always alone.

#[cfg(not(feature = "cluster"))]
mod alone;
#[cfg(feature = "cluster")]
mod several;
#[cfg(feature = "cluster")]
mod status;

#[cfg(feature = "cluster")]
pub(crate) use cubesync_cluster::bus::BusError;

#[cfg(not(feature = "cluster"))]
pub(crate) use self::alone::{BusConnection, BusError, ClusterNow, Neighbours, RoomServers};
#[cfg(feature = "cluster")]
pub(crate) use self::several::{BusConnection, Neighbours, profile};
#[cfg(feature = "cluster")]
pub(crate) use self::status::{ClusterNow, RoomServers};
