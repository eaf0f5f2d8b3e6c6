//! TLS: accepted and refused connections, messages, and certificates renewed while people play.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cubesync_client::Trust;
use cubesync_client::{Client, ClientEvent, ClientOptions, Status};
use cubesync_protocol::{ClientMessage, Hello, Message as _, RejectCode, ServerMessage, frame};
use futures_util::{SinkExt, StreamExt};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
#[cfg(unix)]
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::process::Child;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::http::get;
use crate::support::{COLOUR, Server, soon};
#[cfg(unix)]
use crate::support::{PORTS, program, signal};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder with a certificate and its key, which is removed when dropped.
pub struct Pair {
    folder: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pair {
    /// Makes a folder without the two files.
    fn missing() -> Self {
        let name = format!("cubesync-tls-{:016x}", fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        Self {
            folder,
            certificate,
            key,
        }
    }

    /// Makes a valid pair for 127.0.0.1.
    pub fn new() -> Self {
        let pair = Self::missing();
        pair.renew(|_| {});
        pair
    }

    /// Replaces the pair by another one.
    fn renew(&self, change: impl FnOnce(&mut CertificateParams)) {
        let mut parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        fs::write(&self.certificate, certificate.pem()).unwrap();
        fs::write(&self.key, key.serialize_pem()).unwrap();
    }

    /// Returns the flags of a server that uses the pair.
    fn flags(&self) -> [&str; 4] {
        [
            "--tls-cert",
            self.certificate.to_str().unwrap(),
            "--tls-key",
            self.key.to_str().unwrap(),
        ]
    }

    /// Returns the trust of a player that passes the certificate to `--ca`.
    pub fn ca(&self) -> Trust {
        Trust::also(&self.certificate).unwrap()
    }

    /// Starts a server with the pair and further flags.
    pub async fn serve(&self, flags: &[&str]) -> Server {
        Server::start(&[&self.flags(), flags].concat()).await
    }

    /// Connects over TLS as a browser that trusts the certificate.
    pub async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        connect(address, &self.certificate).await
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The real client with its clock.
pub struct Player {
    client: Client,
    began: Instant,
}

impl Player {
    fn new(server: SocketAddr, scheme: &str, name: &str, trust: Trust) -> Self {
        let options = ClientOptions {
            trust,
            ..ClientOptions::new(format!("{scheme}{server}"), name)
        };
        Self {
            client: Client::new(options, 1),
            began: Instant::now(),
        }
    }

    /// Polls the client until `pick` returns something.
    async fn until<T>(&mut self, mut pick: impl FnMut(&mut Client) -> Option<T>) -> T {
        let polling = async {
            loop {
                self.client.poll(self.began.elapsed());
                if let Some(found) = pick(&mut self.client) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(polling).await
    }

    pub async fn join(server: SocketAddr, name: &str, trust: Trust) -> Self {
        let mut player = Self::new(server, "tls://", name, trust);
        player
            .until(|client| match client.status() {
                Status::Joined => Some(()),
                Status::Waiting { reason, .. } | Status::Failed { reason } => panic!("{reason}"),
                Status::Connecting | Status::Joining => None,
            })
            .await;
        player
    }

    /// Returns the reason why a client cannot join.
    pub async fn refusal(server: SocketAddr, scheme: &str, trust: Trust) -> String {
        let mut player = Self::new(server, scheme, "Anna", trust);
        player
            .until(|client| match client.status() {
                Status::Joined => panic!("it should be refused"),
                Status::Waiting { reason, .. } | Status::Failed { reason } => Some(reason),
                Status::Connecting | Status::Joining => None,
            })
            .await
    }

    /// Waits until the client sees a player of a name.
    pub async fn sees(&mut self, name: &str) {
        let began = self.began;
        self.until(|client| {
            let cubes = client.cubes(began.elapsed());
            cubes.iter().any(|view| view.name == name).then_some(())
        })
        .await;
    }
}

/// Connects over TLS as a browser that trusts a certificate.
async fn connect(address: SocketAddr, certificate: &Path) -> TlsStream<TcpStream> {
    connect_with(&connector(certificate), address).await
}

/// Returns a browser that trusts a certificate, and keeps the tickets that it gets.
pub fn connector(certificate: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(certificate).unwrap();
    roots.add(certificate).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config).into()
}

/// Connects a browser.
pub async fn connect_with(connector: &TlsConnector, address: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::IpAddress(address.ip().into());
    soon(connector.connect(name, stream)).await.unwrap()
}

/// Returns the response to a request over https.
pub async fn get_encrypted(address: SocketAddr, path: &str, certificate: &Path) -> String {
    ask(connect(address, certificate).await, address, path).await
}

/// Returns the response to a request, and closes the connection.
pub async fn ask(mut stream: TlsStream<TcpStream>, address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns the metrics of a server with a certificate.
pub async fn metrics() -> String {
    let pair = Pair::new();
    let server = pair.serve(&[]).await;
    get_encrypted(server.addresses.http, "/metrics", &pair.certificate).await
}

/// Waits until `/metrics` has a line.
pub async fn counts(address: SocketAddr, certificate: &Path, line: &str) {
    let mut metrics = String::new();
    let wait = async {
        loop {
            metrics = get_encrypted(address, "/metrics", certificate).await;
            if metrics.lines().any(|other| other == line) {
                return;
            }
        }
    };
    if tokio::time::timeout(crate::support::PATIENCE, wait)
        .await
        .is_err()
    {
        panic!("{line} never came; the last was:\n{metrics}");
    }
}

#[tokio::test]
async fn players_meet_over_tls() {
    let pair = Pair::new();
    let server = pair.serve(&[]).await;
    let mut anna = Player::join(server.addresses.tcp, "Anna", pair.ca()).await;
    let mut boris = Player::join(server.addresses.tcp, "Boris", Trust::Anybody).await;
    anna.sees("Boris").await;
    boris.sees("Anna").await;
    let cubes = get_encrypted(server.addresses.http, "/cubes.json", &pair.certificate).await;
    assert!(cubes.contains("Anna") && cubes.contains("Boris"), "{cubes}");
}

#[tokio::test]
async fn leaving_and_stopping_work_over_tls() {
    let pair = Pair::new();
    let server = pair.serve(&[]).await;
    let mut anna = Player::join(server.addresses.tcp, "Anna", pair.ca()).await;
    anna.client.close();
    let left = "cubesync_disconnects_total{reason=\"left\"} 1";
    counts(server.addresses.http, &pair.certificate, left).await;
    let mut boris = Player::join(server.addresses.tcp, "Boris", pair.ca()).await;
    server.begin_stop();
    // The status says so only until the next try, which begins at once if the server drew a wait of 0.
    let told = boris
        .until(|client| match client.next_event() {
            Some(ClientEvent::Disconnected { reason }) => Some(reason),
            _ => None,
        })
        .await;
    assert!(told.contains("shutting down"), "{told}");
    server.stopped().await;
}

#[tokio::test]
async fn a_client_refuses_a_certificate_that_is_unknown_or_not_valid_now_with_a_reason() {
    let (pair, other) = (Pair::new(), Pair::new());
    let server = pair.serve(&[]).await;
    let words = Player::refusal(server.addresses.tcp, "tls://", other.ca()).await;
    assert!(words.contains("--ca"), "{words}");
    for (change, expected) in [
        (
            (|parameters| parameters.not_after = (SystemTime::now() - DAY).into())
                as fn(&mut CertificateParams),
            "has expired",
        ),
        (
            |parameters| {
                *parameters = CertificateParams::new(vec!["game.example".to_owned()]).unwrap();
            },
            "is for other names: game.example",
        ),
    ] {
        pair.renew(change);
        // An expired certificate is served with a warning, because the server's clock may be wrong.
        let server = pair.serve(&[]).await;
        let words = Player::refusal(server.addresses.tcp, "tls://", pair.ca()).await;
        assert!(words.contains(expected), "{words}");
        let _anybody = Player::join(server.addresses.tcp, "Anna", Trust::Anybody).await;
    }
}

#[tokio::test]
async fn a_client_with_the_wrong_scheme_gets_a_message_with_the_right_one() {
    let pair = Pair::new();
    let server = pair.serve(&[]).await;
    let mut plain = server.connect().await;
    plain
        .send(&ClientMessage::Hello(Hello::new("lobby", "Anna", COLOUR)))
        .await;
    let Some(ServerMessage::Reject { code, message }) = plain.receive().await else {
        panic!("no reject");
    };
    assert_eq!(code, RejectCode::NotHello);
    assert!(message.contains("tls://"), "{message}");
    let words = Player::refusal(server.addresses.tcp, "", Trust::System).await;
    assert!(words.contains("put tls:// in front"), "{words}");
    let counted = "cubesync_disconnects_total{reason=\"not_hello\"} 2";
    counts(server.addresses.http, &pair.certificate, counted).await;

    let plain = Server::start(&[]).await;
    let words = Player::refusal(plain.addresses.tcp, "tls://", Trust::Anybody).await;
    assert!(words.contains("does not speak TLS"), "{words}");
}

#[tokio::test]
async fn pages_are_served_over_https_and_http_is_redirected_there() {
    let pair = Pair::new();
    let server = pair.serve(&[]).await;
    let address = server.addresses.http;
    let stream = connect(address, &pair.certificate).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let page = get_encrypted(address, "/status", &pair.certificate).await;
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
    let join = format!("--server tls://127.0.0.1:{}", server.addresses.tcp.port());
    assert!(page.contains(&join), "{page}");

    let plain = get(address, "/?room=den").await;
    assert_eq!(plain.status, 307);
    let location = "https://test.localhost:8080/?room=den";
    assert_eq!(plain.header("location"), Some(location));
    assert_eq!(plain.body, "this server speaks https only\n");
    // A trusted proxy ends the encryption itself, so a redirect would loop.
    let behind_proxy = pair.serve(&["--trust-proxy", "127.0.0.1"]).await;
    let plain = get(behind_proxy.addresses.http, "/status").await;
    assert_eq!(plain.status, 200);
    // Health checks verify no certificates.
    let health = get(address, "/healthz").await;
    assert_eq!((health.status, health.body.as_str()), (200, "serving\n"));
}

#[tokio::test]
async fn a_browser_plays_over_wss() {
    let pair = Pair::new();
    let server = pair.serve(&[]).await;
    let address = server.addresses.http;
    let stream = connect(address, &pair.certificate).await;
    let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
    let origin = format!("https://{address}").parse().unwrap();
    request.headers_mut().insert("Origin", origin);
    let connecting = tokio_tungstenite::client_async(request, stream);
    let (mut socket, _) = soon(connecting).await.unwrap();
    let hello = ClientMessage::Hello(Hello::new("lobby", "Anna", COLOUR)).to_frame();
    socket.send(Message::Binary(hello)).await.unwrap();
    let Some(Ok(Message::Binary(bytes))) = soon(socket.next()).await else {
        panic!("no answer");
    };
    let mut bytes = bytes::BytesMut::from(&bytes[..]);
    let payload = frame::split(&mut bytes, ServerMessage::MAX_PAYLOAD_BYTES).unwrap();
    let message = ServerMessage::decode(&payload.unwrap()).unwrap();
    assert!(matches!(message, ServerMessage::Welcome(_)), "{message:?}");
}

#[tokio::test]
async fn an_incomplete_handshake_is_cut_by_the_deadline_and_counted() {
    let pair = Pair::new();
    let server = pair.serve(&["--hello-deadline", "50ms"]).await;
    for (address, counted) in [
        (
            server.addresses.tcp,
            "cubesync_disconnects_total{reason=\"tls_handshake\"}",
        ),
        (
            server.addresses.http,
            "cubesync_http_cuts_total{reason=\"tls_handshake\"}",
        ),
    ] {
        // The record's header announces 512 bytes.
        let begun = [0x16, 3, 1, 2, 0, 1, 0, 1];
        let nonsense = [0x16; 600];
        for (count, bytes) in [(1, &begun[..]), (2, &nonsense[..])] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let _ = soon(stream.read_to_end(&mut Vec::new())).await;
            let line = format!("{counted} {count}");
            counts(server.addresses.http, &pair.certificate, &line).await;
        }
    }
    let mut silent = TcpStream::connect(server.addresses.tcp).await.unwrap();
    let end = soon(silent.read(&mut [0])).await;
    assert!(matches!(end, Ok(0) | Err(_)));
    let line = "cubesync_disconnects_total{reason=\"hello_timeout\"} 1";
    counts(server.addresses.http, &pair.certificate, line).await;
}

#[tokio::test]
async fn unusable_files_prevent_the_start_with_a_remedy() {
    let pair = Pair::new();
    let other = Pair::new();
    let missing = pair.folder.join("none.pem");
    for (certificate, key, expected) in [
        (&missing, &pair.key, "no such file; with --tls-self-signed"),
        (&pair.certificate, &missing, "no such file"),
        (&pair.certificate, &other.key, "does not belong to"),
        (&pair.key, &pair.key, "there is no certificate in it"),
    ] {
        let flags = [
            "--tls-cert",
            certificate.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ];
        let config = crate::support::config(&flags);
        let run = cubesync_server::run(config, Default::default(), |_| unreachable!());
        let error = soon(run).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_self_signed_pair_is_made_once_and_other_users_cannot_read_its_key() {
    let pair = Pair::missing();
    let server = pair.serve(&["--tls-self-signed"]).await;
    let first = server.addresses.tls.unwrap();
    let ca = pair.ca();
    let _anna = Player::join(server.addresses.tcp, "Anna", ca.clone()).await;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&pair.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    drop(server);
    let again = pair.serve(&["--tls-self-signed"]).await;
    assert_eq!(again.addresses.tls, Some(first));
    let _boris = Player::join(again.addresses.tcp, "Boris", ca).await;

    let in_memory = Server::start(&["--tls-self-signed"]).await;
    assert_ne!(in_memory.addresses.tls, Some(first));
    Player::join(in_memory.addresses.tcp, "Anna", Trust::Anybody).await;
}

/// The running program, its addresses and its log.
#[cfg(unix)]
pub struct Program {
    pub child: Child,
    pub tcp: SocketAddr,
    pub http: SocketAddr,
    log: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
}

#[cfg(unix)]
impl Program {
    pub async fn start(pair: &Pair) -> Self {
        let flags = [&PORTS[..], &pair.flags()].concat();
        let mut child = program(&flags).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let (mut http, mut tcp) = (None, None);
        while http.is_none() || tcp.is_none() {
            let line = soon(lines.next_line()).await.unwrap();
            let line = line.expect("it prints its addresses");
            let after = |words| line.split_once(words)?.1.split(['/', ' ']).next();
            http = http.or_else(|| after("https://")?.parse().ok());
            tcp = tcp.or_else(|| after("tls://")?.parse().ok());
        }
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            tcp: tcp.unwrap(),
            http: http.unwrap(),
            log,
        }
    }

    pub async fn hang_up(&mut self) {
        signal(&self.child, "HUP").await;
    }

    /// Returns the next line of the log with a text.
    pub async fn says(&mut self, words: &str) -> String {
        loop {
            let line = soon(self.log.next_line()).await.unwrap();
            let line = line.expect("the server should go on");
            if line.contains(words) {
                return line;
            }
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn sighup_reloads_the_certificate_and_drops_no_connections() {
    let pair = Pair::new();
    let mut server = Program::start(&pair).await;
    let old = pair.ca();
    let mut anna = Player::join(server.tcp, "Anna", old.clone()).await;

    pair.renew(|_| {});
    server.hang_up().await;
    server.says("new connections get a new certificate").await;
    let words = Player::refusal(server.tcp, "tls://", old).await;
    assert!(words.contains("--ca"), "{words}");
    let new = fs::read(&pair.certificate).unwrap();
    let _boris = Player::join(server.tcp, "Boris", pair.ca()).await;
    anna.sees("Boris").await;

    // A key that does not match the new certificate changes nothing.
    let served = pair.folder.join("served.pem");
    fs::write(&served, new).unwrap();
    let key = fs::read(&pair.key).unwrap();
    pair.renew(|_| {});
    fs::write(&pair.key, key).unwrap();
    server.hang_up().await;
    let line = server.says("the certificate stays the old one").await;
    assert!(line.contains("does not belong to"), "{line}");

    // An expired certificate changes nothing.
    pair.renew(|parameters| parameters.not_after = (SystemTime::now() - DAY).into());
    server.hang_up().await;
    let line = server.says("the certificate stays the old one").await;
    assert!(line.contains("expired on"), "{line}");

    let _clara = Player::join(server.tcp, "Clara", Trust::also(&served).unwrap()).await;
    anna.sees("Clara").await;
    for line in [
        "cubesync_certificate_reloads_total{outcome=\"ok\"} 1",
        "cubesync_certificate_reloads_total{outcome=\"failed\"} 2",
    ] {
        counts(server.http, &served, line).await;
    }
    let metrics = get_encrypted(server.http, "/metrics", &served).await;
    assert!(
        metrics.contains("\ncubesync_certificate_expiry_timestamp_seconds "),
        "{metrics}"
    );
}
