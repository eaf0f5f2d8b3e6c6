//! Tests of the server over real sockets. Each file tests a part of the behaviour, with the helpers in
//! `support`.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, reason = "its helpers are tests too")]

mod bus;
mod cluster;
#[cfg(unix)]
mod control;
mod datagrams;
mod doctor;
mod elsewhere;
mod endings;
mod faults;
mod files;
mod free_cube;
mod going_on;
mod handshake;
mod hostile;
mod http;
mod leases;
mod limits;
mod log;
mod loose;
mod names;
mod nats;
mod ops;
mod paths;
mod plain;
mod process;
mod readers;
mod recording;
mod relay;
mod resume;
mod settings;
mod shutdown;
#[cfg(unix)]
mod slow_files;
mod status;
mod support;
mod text;
mod tls;
mod tls_handshakes;
mod webrtc;
mod websocket;
mod world;
mod wrong_port;
