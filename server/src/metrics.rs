//! The metrics of listeners, datagrams, pages and the log.

mod process;

#[cfg(test)]
pub(crate) use self::process::resident_bytes;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::datagram::DatagramMetrics;
use crate::logging;
use cubesync_relay::ending::Ending;
use cubesync_relay::label::label;
use cubesync_relay::metrics::{CountersBy, MetricSet};

label! {
    /// A listener: the label of `cubesync_accept_errors_total`.
    pub(crate) enum Listener("listener") {
        /// The port for players' connections.
        Tcp => "tcp",
        /// The port for pages.
        Http => "http",
        /// The port of the text protocol.
        Text => "text",
        /// The socket for the operator's commands.
        Control => "control",
    }
}

label! {
    /// The reason why an HTTP connection was cut: the label of
    /// `cubesync_http_cuts_total`.
    pub(crate) enum HttpEnding("reason") {
        /// No head of a request came in time, on a connection without earlier requests.
        HeadTimeout => "head_timeout",
        /// The head was too long, or had too many headers.
        HeadTooLong => "head_too_long",
        /// The request was not HTTP.
        BadRequest => "bad_request",
        /// The connection reached its maximum lifetime.
        Lifetime => "lifetime",
        /// There were too many connections in all.
        Full => "full",
        /// There were too many connections from the peer's address.
        AddressFull => "address_full",
        /// Connections came from the peer's address too fast.
        TooManyArrivals => "too_many_arrivals",
        /// Too many requests over the limit of the peer's address came on the connection.
        TooManyRequests => "too_many_requests",
        /// The peer was too slow for a page of which others needed newer ones.
        SlowReader => "slow_reader",
        /// The peer's address held the most places, and another one needed one.
        GaveWay => "gave_way",
        /// The TLS handshake failed.
        TlsHandshake => "tls_handshake",
        /// The network failed, or the peer closed in the middle of a request.
        Lost => "lost",
        /// The operator has banned the peer's address.
        Banned => "banned",
    }
}

label! {
    /// The outcome of reloading the certificate: the label of
    /// `cubesync_certificate_reloads_total`.
    pub(crate) enum Reload("outcome") {
        /// The old certificate is still served.
        Failed => "failed",
        /// The new certificate is served.
        Good => "ok",
    }
}

impl HttpEnding {
    /// Returns the label for a connection that was not admitted.
    pub(crate) fn not_admitted(ending: Ending) -> Self {
        match ending {
            Ending::AddressFull => Self::AddressFull,
            Ending::TooManyArrivals => Self::TooManyArrivals,
            Ending::Banned => Self::Banned,
            _ => Self::Full,
        }
    }
}

/// The metrics of listeners, datagrams and pages.
#[derive(Debug, Clone)]
pub(crate) struct ServerMetrics {
    /// Connections that could not be accepted.
    pub(crate) accept_errors: CountersBy<Listener>,
    /// HTTP connections that were cut.
    pub(crate) http_cuts: CountersBy<HttpEnding>,
    /// Attempts to reload the certificate.
    pub(crate) certificate_reloads: CountersBy<Reload>,
    /// Datagrams beside the players' streams.
    pub(crate) datagrams: DatagramMetrics,
    http_responses: Family<[(&'static str, u16); 1], Counter>,
}

impl ServerMetrics {
    /// Registers these metrics, those of the log and those of the process.
    pub(crate) fn new(set: &MetricSet) -> Self {
        process::register(set);
        set.read_counter(
            "cubesync_logs_suppressed",
            "Lines of the log that were left out because there were too many",
            logging::suppressed,
        );
        let http_responses = Family::default();
        set.register(
            "cubesync_http_responses",
            "Answers to requests by status",
            None,
            Family::clone(&http_responses),
        );
        Self {
            accept_errors: set.counters_by(
                "cubesync_accept_errors",
                "Connections that could not be accepted, by listener",
            ),
            http_cuts: set.counters_by(
                "cubesync_http_cuts",
                "HTTP connections that ended otherwise than by being served, by reason",
            ),
            certificate_reloads: set.counters_by(
                "cubesync_certificate_reloads",
                "Attempts to read the certificate again, by outcome",
            ),
            datagrams: DatagramMetrics::new(set),
            http_responses,
        }
    }

    /// Counts an answer to a request.
    pub(crate) fn count_response(&self, status: u16) {
        self.http_responses
            .get_or_create(&[("status", status)])
            .inc();
    }
}
