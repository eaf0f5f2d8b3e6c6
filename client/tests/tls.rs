//! The native socket over TLS, against servers with good and bad certificates.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use cubesync_client::ClientOptions;
use cubesync_client::Trust;
use cubesync_client::protocol::{Message, RejectCode, ServerMessage};
use cubesync_client::socket::{Socket, SocketState};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A server's certificate, and the trust that a person would give with `--ca`.
struct Identity {
    config: Arc<ServerConfig>,
    ca: Trust,
}

/// Creates a self-signed certificate for 127.0.0.1, changed as a test wants.
fn identity(change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    change(&mut parameters);
    let key = KeyPair::generate().unwrap();
    let own = parameters.self_signed(&key).unwrap().der().clone();
    Identity {
        config: config(vec![own.clone()], &key),
        ca: Trust::Also(vec![own]),
    }
}

fn config(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

type Encrypted = StreamOwned<ServerConnection, TcpStream>;

/// Serves one connection on a thread. Returns the address, and the thread with the result of
/// `serve`.
fn server<T: Send + 'static>(
    config: &Arc<ServerConfig>,
    serve: impl FnOnce(Encrypted) -> T + Send + 'static,
) -> (String, thread::JoinHandle<T>) {
    let config = Arc::clone(config);
    plain_server(move |stream| {
        let connection = ServerConnection::new(config).unwrap();
        serve(StreamOwned::new(connection, stream))
    })
}

fn plain_server<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || serve(listener.accept().unwrap().0));
    (address, thread)
}

/// Polls until the socket is no longer connecting, while the time stands still.
fn connected(server: &str, trust: &Trust) -> Socket {
    let options = ClientOptions {
        trust: trust.clone(),
        ..ClientOptions::new(format!("tls://{server}"), "Anna")
    };
    let mut socket = Socket::connect(&options.server, &options, Duration::ZERO);
    while socket.poll(Duration::ZERO) == SocketState::Connecting {
        thread::yield_now();
    }
    socket
}

/// Returns why a connection fails.
fn refusal(server: &str, trust: &Trust) -> String {
    match connected(server, trust).poll(Duration::ZERO) {
        SocketState::Closed { reason } => reason.to_owned(),
        state => panic!("{state:?}"),
    }
}

/// Returns why a server with this certificate is refused, or `None` if it is accepted.
fn verdict(identity: &Identity, trust: &Trust) -> Option<String> {
    // Nothing but the handshake happens, and the client decides how it ends.
    let (address, served) = server(&identity.config, |mut stream| stream.read(&mut [0]).is_ok());
    let mut socket = connected(&address, trust);
    let verdict = match socket.poll(Duration::ZERO) {
        SocketState::Open => None,
        SocketState::Closed { reason } => Some(reason.replace(&address, "SERVER")),
        state => panic!("{state:?}"),
    };
    drop(socket);
    assert_eq!(served.join().unwrap(), verdict.is_none());
    verdict
}

#[test]
fn bytes_flow_both_ways_and_the_end_comes_after_the_last() {
    let identity = identity(|_| {});
    let (address, served) = server(&identity.config, |mut stream| {
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(b"\0welcome").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        heard
    });
    let mut socket = connected(&address, &identity.ca);
    let mut buffer = BytesMut::new();
    assert_eq!(socket.receive(&mut buffer), 0);
    assert_eq!(socket.send(&mut BytesMut::from(&b"hello"[..])), 5);
    while socket.poll(Duration::ZERO) == SocketState::Open {
        socket.receive(&mut buffer);
    }
    assert_eq!(&buffer[..], b"\0welcome");
    let reason = "the server closed the connection";
    assert_eq!(socket.poll(Duration::ZERO), SocketState::Closed { reason });
    assert_eq!(&served.join().unwrap(), b"hello");
}

#[test]
fn more_than_the_kernel_takes_goes_out_later_and_arrives_whole() {
    const BYTES: usize = 16 * 1024 * 1024;
    let identity = identity(|_| {});
    let (address, served) = server(&identity.config, |mut stream| {
        let mut heard = vec![0; BYTES];
        stream.read_exact(&mut heard).unwrap();
        heard
    });
    let mut socket = connected(&address, &identity.ca);
    let all: Vec<u8> = (0..BYTES).map(|index| index as u8).collect();
    let mut buffer = BytesMut::from(&all[..]);
    while !buffer.is_empty() || !served.is_finished() {
        socket.send(&mut buffer);
        thread::yield_now();
    }
    assert!(served.join().unwrap() == all);
}

#[test]
fn a_certificate_given_by_hand_is_trusted_and_others_are_not() {
    let (one, other) = (identity(|_| {}), identity(|_| {}));
    assert_eq!(verdict(&one, &one.ca), None);
    let words = verdict(&one, &other.ca).unwrap();
    assert!(
        words.starts_with("nobody whom this machine trusts vouches for SERVER"),
        "{words}"
    );
    for trust in [&other.ca, &Trust::System] {
        let words = verdict(&one, trust).unwrap();
        assert!(words.contains("--ca"), "{words}");
    }
    assert_eq!(verdict(&one, &Trust::Anybody), None);
}

#[test]
fn an_issuer_given_by_hand_vouches_for_its_servers() {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer_key = KeyPair::generate().unwrap();
    let issuer = parameters.self_signed(&issuer_key).unwrap().der().clone();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &Issuer::new(parameters, issuer_key))
        .unwrap();
    let identity = Identity {
        config: config(vec![own.der().clone()], &key),
        ca: Trust::Also(vec![issuer]),
    };
    assert_eq!(verdict(&identity, &identity.ca), None);
}

#[test]
fn a_certificate_as_openssl_makes_it_by_default_can_be_given_by_hand() {
    let authority = |parameters: &mut CertificateParams| {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    let one = identity(authority);
    assert_eq!(verdict(&one, &one.ca), None);
    assert!(verdict(&one, &identity(authority).ca).is_some());
    let elsewhere = identity(|parameters| {
        *parameters = CertificateParams::new(vec!["game.example".to_owned()]).unwrap();
        authority(parameters);
    });
    let words = verdict(&elsewhere, &elsewhere.ca).unwrap();
    assert_eq!(
        words,
        "the certificate of SERVER is for other names: game.example"
    );
    let old = identity(|parameters| {
        authority(parameters);
        parameters.not_after = (SystemTime::now() - DAY).into();
    });
    let words = verdict(&old, &old.ca).unwrap();
    assert!(
        words.starts_with("the certificate of SERVER has expired"),
        "{words}"
    );
}

#[test]
fn a_certificate_of_another_time_or_name_is_refused_in_words() {
    let now = SystemTime::now();
    let expired = identity(|parameters| parameters.not_after = (now - DAY).into());
    let words = verdict(&expired, &expired.ca).unwrap();
    assert!(
        words.starts_with("the certificate of SERVER has expired"),
        "{words}"
    );

    let early = identity(|parameters| parameters.not_before = (now + DAY).into());
    let words = verdict(&early, &early.ca).unwrap();
    assert!(
        words.starts_with("the certificate of SERVER is not valid yet"),
        "{words}"
    );

    let elsewhere = identity(|parameters| {
        let names = vec!["game.example".to_owned(), "192.0.2.7".to_owned()];
        *parameters = CertificateParams::new(names).unwrap();
    });
    let words = verdict(&elsewhere, &elsewhere.ca).unwrap();
    let expected = "the certificate of SERVER is for other names: game.example, 192.0.2.7";
    assert_eq!(words, expected);
}

#[test]
fn a_server_without_tls_has_another_reason_than_one_that_hangs_up() {
    let (address, served) = plain_server(|mut stream| {
        let mut hello = [0; 1024];
        assert!(stream.read(&mut hello).unwrap() > 0);
        // A `Reject` of cubesync begins like this.
        stream.write_all(&[0, 0, 0, 9, 1, 0, 6]).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let words = refusal(&address, &Trust::Anybody);
    assert!(
        words.starts_with(&format!("{address} does not speak TLS")),
        "{words}"
    );
    served.join().unwrap();

    let (address, served) = plain_server(drop);
    let words = refusal(&address, &Trust::Anybody);
    assert_eq!(
        words,
        format!("{address} cut the connection instead of speaking TLS")
    );
    served.join().unwrap();
}

#[test]
fn a_web_server_without_encryption_is_told_from_a_game_without_it() {
    let (address, served) = plain_server(|mut stream| {
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let words = refusal(&address, &Trust::Anybody);
    let expected = format!("a web server answers at {address}, not a game");
    assert!(words.starts_with(&expected), "{words}");
    served.join().unwrap();
}

#[test]
fn a_refusal_of_a_server_that_does_not_take_the_time_to_encrypt_it_is_told() {
    let (address, served) = plain_server(|mut stream| {
        let reject = ServerMessage::Reject {
            code: RejectCode::Full,
            message: "the server is full".to_owned(),
        };
        stream.write_all(&reject.to_frame()).unwrap();
        // Unread bytes would reset the connection.
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let words = refusal(&address, &Trust::Anybody);
    assert_eq!(
        words,
        format!("{address} answers without encryption: the server is full")
    );
    served.join().unwrap();
}
