//! `cargo demo-cluster`: runs three servers that show one room over NATS, with bots on each, until Ctrl-C.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, value_parser};
use cubesync_harness::nats::Nats;
use cubesync_harness::programs::{find_installed, neighbour};
use cubesync_harness::{Program, http};

use crate::setup::{build, local, stop_at_ctrl_c, stopped, wait_until_serving};

/// For each server: its name in messages, that of its bots, and the beginning of the bots' own names.
const NAMES: [(&str, &str, &str); 3] = [
    ("server 1", "the bots of server 1", "One"),
    ("server 2", "the bots of server 2", "Two"),
    ("server 3", "the bots of server 3", "Three"),
];
/// Server 1 takes the first of these ports, the others the next ones. Instead of a port that is in
/// use any other serves: the addresses are printed.
const FIRST_TCP_PORT: u16 = 14_911;
const FIRST_HTTP_PORT: u16 = 8_081;
const NATS_PORT: u16 = 14_222;
/// How often the servers are asked who owns the room and how many players each has.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The command's name behind `cargo`.
pub(crate) const NAME: &str = "demo-cluster";

/// The flags of `cargo demo-cluster`.
pub(crate) struct Options {
    nats_server: Option<PathBuf>,
    bus: Option<String>,
    ip: IpAddr,
    bots: u16,
    kill_one_after: Option<u64>,
}

/// Describes `cargo demo-cluster` and its flags.
pub(crate) fn command() -> clap::Command {
    let flag = |name, value, help| Arg::new(name).long(name).value_name(value).help(help);
    clap::Command::new(NAME)
        .about(
            "Start three servers that show one world over NATS, with bots on each, and print what to \
             look at",
        )
        .after_help("Ctrl-C ends all of it.")
        .arg(
            flag("nats-server", "FILE", "A nats-server program [default: the one that is installed]")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("bus"),
        )
        .arg(flag("bus", "URL", "A NATS that runs already, such as nats://127.0.0.1:4222"))
        .arg(
            flag("ip", "ADDR", "Where the servers listen; 0.0.0.0 lets friends join")
                .value_parser(value_parser!(IpAddr))
                .default_value("127.0.0.1"),
        )
        .arg(
            flag("bots", "COUNT", "Bots on each server")
                .value_parser(value_parser!(u16).range(1..=2000))
                .default_value("4"),
        )
        .arg(
            flag(
                "kill-one-after",
                "SECONDS",
                "Kill server 1 after so many seconds, and watch its players move over",
            )
            .value_parser(value_parser!(u64)),
        )
}

impl Options {
    /// Reads the flags that were given, or their defaults.
    pub(crate) fn read(flags: &ArgMatches) -> Self {
        Self {
            nats_server: flags.get_one("nats-server").cloned(),
            bus: flags.get_one("bus").cloned(),
            ip: *flags.get_one("ip").expect("the flag has a default"),
            bots: *flags.get_one("bots").expect("the flag has a default"),
            kill_one_after: flags.get_one("kill-one-after").copied(),
        }
    }
}

/// A server and its addresses.
struct Server {
    program: Program,
    tcp: SocketAddr,
    http: SocketAddr,
}

/// Everything that runs; dropping it kills it.
struct Cluster {
    nats: Option<Nats>,
    servers: Vec<Server>,
    bots: Vec<Program>,
    /// Who owns the room and where players are, as printed last.
    places: String,
}

/// Runs the demo until Ctrl-C (or SIGTERM), or until no server is left, which is an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    let nats_server = match (&options.bus, &options.nats_server) {
        (Some(_), _) => None,
        (None, Some(file)) => Some(file.clone()),
        (None, None) => Some(installed_nats_server()?),
    };
    let stop = stop_at_ctrl_c()?;
    if !build(&["cubesync-server", "cubesync-bots"], &[], &stop)? {
        println!("\nStopped.");
        return Ok(());
    }
    let nats = nats_server.as_deref().map(start_nats).transpose()?;
    let bus = nats.as_ref().map(Nats::url).or(options.bus.clone());
    let bus = bus.unwrap_or_default();
    let mut cluster = Cluster {
        nats,
        servers: Vec::new(),
        bots: Vec::new(),
        places: String::new(),
    };
    let is_up = cluster.start(options, &bus, &stop)?;
    if is_up {
        println!("{}", cluster.what_to_open(&bus, options));
        cluster.watch(options, &stop)?;
    }
    println!("\nStopped.");
    Ok(())
}

impl Cluster {
    /// Starts servers and bots. Returns false if Ctrl-C was pressed meanwhile.
    fn start(&mut self, options: &Options, bus: &str, stop: &Receiver<()>) -> Result<bool> {
        let tcp = addresses_near(options.ip, FIRST_TCP_PORT..)?;
        let pages = addresses_near(options.ip, FIRST_HTTP_PORT..)?;
        let program = neighbour("cubesync-server")?;
        for ((name, _, _), (tcp, &http)) in NAMES.into_iter().zip(tcp.into_iter().zip(&pages)) {
            let mut command = server_command(&program, tcp, http, bus, &pages);
            // Three lists of addresses would hide the one that is printed.
            command.stdout(Stdio::null());
            let mut program = Program::start(name, &mut command)?;
            if !wait_until_serving(&mut program, local(http), stop)? {
                return Ok(false);
            }
            self.servers.push(Server { program, tcp, http });
        }
        for ((_, bots, name), server) in NAMES.into_iter().zip(&self.servers) {
            let mut command = Command::new(neighbour("cubesync-bots")?);
            command
                .args(["--server", &local(server.tcp).to_string(), "--name", name])
                .args(["--count", &options.bots.to_string()])
                // Their status lines would run into each other.
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            self.bots.push(Program::start(bots, &mut command)?);
        }
        Ok(true)
    }

    /// Prints what ends, until Ctrl-C or until no server is left.
    fn watch(&mut self, options: &Options, stop: &Receiver<()>) -> Result<()> {
        let mut kill_at = options
            .kill_one_after
            .map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut ask_at = Instant::now() + ASK_EVERY;
        while !stopped(stop) {
            if Instant::now() >= ask_at {
                ask_at = Instant::now() + ASK_EVERY;
                self.tell_places();
            }
            if kill_at.is_some_and(|at| Instant::now() >= at) {
                kill_at = None;
                if !self.servers.is_empty() {
                    let killed = self.servers.remove(0).program;
                    println!("Killed {}: {}", killed.name(), self.where_players_move());
                }
            }
            if let Some(nats) = &mut self.nats
                && nats.program.ended()?.is_some()
            {
                self.nats = None;
                println!(
                    "nats-server has ended: each server goes on with its own players, as an island."
                );
            }
            for index in (0..self.servers.len()).rev() {
                if let Some(status) = self.servers[index].program.ended()? {
                    let ended = self.servers.remove(index).program;
                    let (name, rest) = (ended.name(), self.where_players_move());
                    println!("{name} has ended ({status}): {rest}");
                }
            }
            for index in (0..self.bots.len()).rev() {
                if let Some(status) = self.bots[index].ended()? {
                    let ended = self.bots.remove(index);
                    println!("{} have ended ({status}).", ended.name());
                }
            }
            if self.servers.is_empty() {
                bail!("no server is left");
            }
        }
        Ok(())
    }

    /// Prints who owns the room and where players are, if that has changed.
    fn tell_places(&mut self) {
        let servers = self.servers.iter();
        let parts = servers.map(|server| {
            let text = |path| {
                let page = http::get(local(server.http), path);
                page.map_or_else(|_| String::new(), |page| text_of(&page.body))
            };
            let part = part_of(&text("/cubes.json"), &text("/metrics"));
            format!("{} {part}", server.program.name())
        });
        let places = parts.collect::<Vec<_>>().join("; ");
        if places != self.places {
            println!("{places}.");
            self.places = places;
        }
    }

    fn where_players_move(&self) -> String {
        let left: Vec<_> = self
            .servers
            .iter()
            .map(|server| server.program.name())
            .collect();
        format!("its players move over to {}.", left.join(" and "))
    }

    fn what_to_open(&self, bus: &str, options: &Options) -> String {
        let bots = options.bots;
        let mut text = format!(
            "\nThree servers show one world, over NATS at {bus}. On each walk {bots} bots, named after it.\n\n"
        );
        for (number, server) in (1..).zip(&self.servers) {
            let (tcp, http) = (local(server.tcp), local(server.http));
            let count = self.servers.len();
            let window = format!("cargo client --server {tcp} --window-tile {number}/{count}");
            let line = format!(
                "  {:<9} http://{http}/  {window:<56} process {}",
                server.program.name(),
                server.program.id(),
            );
            writeln!(text, "{line}").expect("writing to a string cannot fail");
        }
        let status = self.servers.last().map(|server| local(server.http));
        let status = status.map_or_else(String::new, |http| format!("http://{http}/status"));
        let server = self.servers.first().map_or(0, |server| server.program.id());
        let hint = match options.kill_one_after {
            Some(seconds) => format!("wait {seconds} s"),
            None => format!("kill -9 {server}"),
        };
        if options.ip.is_unspecified() {
            let here = local(SocketAddr::new(options.ip, 0)).ip();
            writeln!(
                text,
                "\nFriends on your network open the same with this machine's address in place of {here}."
            )
            .expect("writing to a string cannot fail");
        }
        write!(
            text,
            "
Look at:
  two of the pages                side by side: who walks on one walks on the other
  {status:<30}  who owns the room, where players are, and how the servers do
  {hint:<30}  server 1, which owns the room, dies: another one takes it over within two seconds, with
                                  all cubes as they were, and its players go on there

Ctrl-C ends all of it.
"
        )
        .expect("writing to a string cannot fail");
        text
    }
}

/// Returns the command of a server, on which the pages of all servers at `pages` may play.
fn server_command(
    program: &Path,
    tcp: SocketAddr,
    http: SocketAddr,
    bus: &str,
    pages: &[SocketAddr],
) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--listen", &tcp.to_string(), "--http", &http.to_string()])
        .args(["--bus", bus, "--cluster-name", "demo"])
        .env("CUBESYNC_LOG", "warn");
    // They know each other by this machine's address on the network, not by the one that is printed.
    for page in pages {
        let origin = format!("http://{}", local(*page));
        command.args(["--allow-origin", &origin]);
    }
    command
}

/// Starts nats-server for this machine only.
fn start_nats(program: &Path) -> Result<Nats> {
    let address = listener_near(Ipv4Addr::LOCALHOST.into(), NATS_PORT)?.local_addr()?;
    Nats::start(program, address, &[])
}

/// Returns the part of a server in the room, by its pages: what it is, and how many are connected to it.
fn part_of(room: &str, metrics: &str) -> String {
    let roles = [
        ("owner", "owns the room"),
        ("edge", "is an edge"),
        ("island", "is an island"),
    ];
    let is_role = |(word, _): &&(&str, &str)| room.contains(&format!("\"role\":\"{word}\""));
    let role = roles
        .iter()
        .find(is_role)
        .map_or("does not answer", |(_, role)| role);
    let mut lines = metrics.lines();
    let connections = lines.find_map(|line| line.strip_prefix("cubesync_connections "));
    connections.map_or_else(
        || role.to_owned(),
        |count| format!("{role}, {count} connections"),
    )
}

fn text_of(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

fn installed_nats_server() -> Result<PathBuf> {
    find_installed("nats-server").context(
        "nats-server is not installed: `apt-get install nats-server` or `brew install nats-server` or \
         https://nats.io/download; or give one with --nats-server FILE or --bus nats://HOST:4222",
    )
}

/// Returns an address for each server, with these ports or any free ones.
fn addresses_near(ip: IpAddr, ports: impl Iterator<Item = u16>) -> Result<Vec<SocketAddr>> {
    // All are held until the last one is found, so that none is found twice.
    let listeners = ports.take(NAMES.len()).map(|port| listener_near(ip, port));
    let listeners = listeners.collect::<Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr);
    Ok(addresses.collect::<Result<_, _>>()?)
}

/// Listens on this port, or on any free one.
fn listener_near(ip: IpAddr, port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((ip, port)).or_else(|_| TcpListener::bind((ip, 0)));
    listener.with_context(|| format!("cannot listen on {ip}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::setup::waiting_program;

    fn options(flags: &[&str]) -> Options {
        Options::read(&command().get_matches_from([&[NAME], flags].concat()))
    }

    fn cluster() -> Cluster {
        let servers = NAMES.into_iter().zip(1..);
        let servers = servers.map(|((name, _, _), port)| Server {
            program: Program::start(name, &mut waiting_program()).unwrap(),
            tcp: SocketAddr::from(([0; 4], port)),
            http: SocketAddr::from(([0; 4], 100 + port)),
        });
        Cluster {
            nats: None,
            servers: servers.collect(),
            bots: Vec::new(),
            places: String::new(),
        }
    }

    #[test]
    fn a_server_is_what_its_pages_say() {
        let metrics = "# TYPE cubesync_connections gauge\ncubesync_connections 4\n";
        let part = part_of(r#"{"room":"lobby","role":"owner","cubes":[]}"#, metrics);
        assert_eq!(part, "owns the room, 4 connections");
        assert_eq!(part_of("", ""), "does not answer");
    }

    #[test]
    fn three_pages_and_three_windows_are_printed() {
        let options = options(&[]);
        let text = cluster().what_to_open("nats://x", &options);
        for number in 1..=3 {
            let page = format!("http://127.0.0.1:{}/", 100 + number);
            let window =
                format!("cargo client --server 127.0.0.1:{number} --window-tile {number}/3 ");
            assert!(text.contains(&page) && text.contains(&window), "{text}");
        }
        assert!(text.contains("kill -9 "), "{text}");
    }

    #[test]
    fn demo_fails_when_its_last_server_ends() {
        let options = options(&["--kill-one-after", "0"]);
        let (_sender, stop) = sync_channel(1);
        let mut cluster = cluster();
        cluster.servers.truncate(1);
        let error = cluster.watch(&options, &stop).unwrap_err();
        assert_eq!(error.to_string(), "no server is left");
    }

    #[test]
    fn a_port_that_is_taken_is_no_failure() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let others = addresses_near(taken.ip(), std::iter::repeat(taken.port())).unwrap();
        let ports: BTreeSet<_> = others
            .iter()
            .chain([&taken])
            .map(SocketAddr::port)
            .collect();
        assert_eq!(ports.len(), 4, "{others:?}");
    }

    #[test]
    fn a_printed_page_may_play_on_at_each_server() {
        let everywhere = [8_081, 8_082, 8_083].map(|port| SocketAddr::from(([0; 4], port)));
        let tcp = SocketAddr::from(([0; 4], 14_911));
        let command = server_command(Path::new("x"), tcp, everywhere[0], "nats://y", &everywhere);
        let arguments: Vec<_> = command
            .get_args()
            .map(|word| word.to_str().unwrap())
            .collect();
        let expected = "--listen 0.0.0.0:14911 --http 0.0.0.0:8081 --bus nats://y --cluster-name demo \
                        --allow-origin http://127.0.0.1:8081 --allow-origin http://127.0.0.1:8082 \
                        --allow-origin http://127.0.0.1:8083";
        assert_eq!(arguments.join(" "), expected);
    }

    #[test]
    fn friends_are_thought_of_where_they_can_come() {
        for (flags, is_told) in [(&["--ip", "0.0.0.0"][..], true), (&[], false)] {
            let text = cluster().what_to_open("nats://x", &options(flags));
            assert_eq!(text.contains("Friends on your network"), is_told, "{text}");
        }
    }

    #[test]
    fn a_bus_and_a_program_for_one_exclude_each_other() {
        let both = [NAME, "--bus", "nats://x", "--nats-server", "y"];
        assert!(command().try_get_matches_from(both).is_err());
    }
}
