//! The client's connection: socket, network lab and recorder around the session, and when to try
//! again.

use std::time::Duration;

use super::Client;
use super::reconciliation::Reconciliation;
use crate::report::{ClientEvent, Status};
use crate::session::Retry;
use crate::session::Session;
use crate::socket::{DatagramSocket, Socket, SocketState};

/// Largest number of reads per poll, so that a flood does not hold up a frame: 1 MiB.
const MAX_READS_PER_POLL: usize = 64;

/// Whether there is a connection.
#[derive(Debug)]
pub(super) enum Link {
    Down {
        retry_at: Option<Duration>,
    },
    Up {
        socket: Socket,
        /// When the client goes on to another server, unless this one has made a step by then. It is
        /// `None` when no other server is known.
        give_up_at: Option<Duration>,
        /// The way for datagrams beside the socket, once joined.
        datagrams: Option<DatagramSocket>,
    },
}

impl Client {
    /// Starts to connect when the time of the next try has come.
    pub(super) fn connect_when_due(&mut self, now: Duration) {
        let Link::Down {
            retry_at: Some(retry_at),
        } = self.link
        else {
            return;
        };
        if now < retry_at {
            if let Status::Waiting { retry_in, .. } = &mut self.status {
                *retry_in = retry_at - now;
            }
            return;
        }
        if let Err(reason) = self.options.check_address() {
            return self.disconnect(now, reason, Retry::Never);
        }
        self.status = Status::Connecting;
        self.link = Link::Up {
            socket: Socket::connect(self.servers.at(), &self.options, now),
            give_up_at: self.servers.connect_within().map(|within| now + within),
            datagrams: None,
        };
    }

    /// Gives up a silent server when other servers are known, since a dead machine does not refuse a
    /// connection.
    pub(super) fn give_up_when_late(&mut self, now: Duration) {
        let is_joined = self.session.as_ref().is_some_and(Session::is_joined);
        if let Link::Up {
            give_up_at: Some(give_up_at),
            ..
        } = self.link
            && !is_joined
            && now >= give_up_at
        {
            let reason = format!("no answer from {}", self.server());
            self.disconnect(now, reason, Retry::Backoff);
        }
    }

    /// Reads what has arrived, through the lab, into the session.
    pub(super) fn read(&mut self, now: Duration) {
        let Link::Up {
            socket, give_up_at, ..
        } = &mut self.link
        else {
            return;
        };
        let session = match (socket.poll(now), &mut self.session) {
            (SocketState::Connecting, _) => return,
            (SocketState::Closed { reason }, None) => {
                let reason = reason.to_owned();
                return self.disconnect(now, reason, Retry::Backoff);
            }
            (_, Some(session)) => session,
            (SocketState::Open, none) => {
                self.status = Status::Joining;
                *give_up_at = self.servers.join_within().map(|within| now + within);
                let mut hello = self.options.hello();
                hello.pose = self.previous.as_ref().and_then(Session::own_pose);
                if let Some(tap) = &mut self.tap {
                    tap.connected();
                }
                none.insert(Session::new(hello, now))
            }
        };
        for _ in 0..MAX_READS_PER_POLL {
            let line = &mut self.lab.down;
            let has_read = line.has_room() && socket.receive(&mut self.arriving) > 0;
            line.send(now, &mut self.arriving);
            let arrived = line.receive(now, &mut self.incoming);
            if arrived > 0 {
                self.total.bytes_in += arrived as u64;
                if let Some(tap) = &mut self.tap {
                    tap.received(now, &self.incoming[self.incoming.len() - arrived..]);
                }
                session.receive(now, &mut self.incoming);
                // A large room takes long on a thin line.
                *give_up_at = self.servers.join_within().map(|within| now + within);
            }
            if !has_read {
                break;
            }
        }
        if let SocketState::Closed { reason } = socket.poll(now)
            && self.lab.down.is_empty()
        {
            session.disconnected(reason);
        }
    }

    /// Sends the session's bytes and datagrams through the lab, as far as the socket takes them.
    pub(super) fn flush(&mut self, now: Duration) {
        self.flush_datagrams(now);
        if let (Link::Up { socket, .. }, Some(session)) = (&mut self.link, &mut self.session) {
            let line = &mut self.lab.up;
            // Bytes that the socket does not take stay with the session, which then sends less.
            if self.departing.is_empty() && line.has_room() {
                if let Some(tap) = self.tap.as_mut().filter(|_| !session.outgoing().is_empty()) {
                    tap.sent(now, session.outgoing());
                }
                line.send(now, session.outgoing());
            }
            line.receive(now, &mut self.departing);
            self.total.bytes_out += socket.send(&mut self.departing) as u64;
        }
    }

    /// Ends the connection and plans the next try.
    pub(super) fn disconnect(&mut self, now: Duration, reason: String, retry: Retry) {
        let mut lasted = None;
        if let Some(session) = self.session.take() {
            self.total.add(&session.statistics());
            // A token can be used once, and this session may have used it up.
            self.options.resume = session.token().or(self.options.resume);
            if session.welcome().is_some() {
                lasted = Some(now.saturating_sub(session.started()));
                self.lost_at = now;
                self.previous = Some(session);
                let reason = reason.clone();
                self.events.push_back(ClientEvent::Disconnected { reason });
            }
        }
        for buffer in [&mut self.arriving, &mut self.incoming, &mut self.departing] {
            buffer.clear();
        }
        self.lab.clear();
        self.reconciliation = Reconciliation::default();
        self.trouble = Some(reason.clone());
        let next = self.servers.next(now, reason.clone(), retry, lasted);
        self.link = Link::Down {
            retry_at: next.as_ref().ok().copied(),
        };
        self.status = match next {
            Ok(retry_at) if retry_at <= now => Status::Connecting,
            Ok(retry_at) => Status::Waiting {
                retry_in: retry_at - now,
                reason,
            },
            Err(reason) => Status::Failed { reason },
        };
    }
}
