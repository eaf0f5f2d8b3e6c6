//! What encryption can cost: handshakes that are never completed, and a certificate that cannot be read.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::few::attack::Attack;
use crate::few::attackers::{Attacker, reset};
use crate::few::trial::Scene;
use crate::harness::server::Setup;

/// Returns a server with a certificate of its own.
const fn encrypting(shell: &'static str) -> Setup {
    Setup {
        shell,
        is_encrypted: true,
        ..crate::few::DEFAULT
    }
}

/// Servers whose key is RSA: openssl makes the certificate.
pub(super) const RSA_2048: Setup = encrypting(
    "openssl req -x509 -newkey rsa:2048 -nodes -keyout $SCRATCH/key.pem -out $SCRATCH/cert.pem -days 2 \\
        -subj /CN=few.test -addext subjectAltName=DNS:few.test -addext basicConstraints=critical,CA:FALSE &&
        exec \"$0\" \"$@\" --tls-cert $SCRATCH/cert.pem --tls-key $SCRATCH/key.pem",
);
const RSA_4096: Setup = encrypting(
    "openssl req -x509 -newkey rsa:4096 -nodes -keyout $SCRATCH/key.pem -out $SCRATCH/cert.pem -days 2 \\
        -subj /CN=few.test -addext subjectAltName=DNS:few.test -addext basicConstraints=critical,CA:FALSE &&
        exec \"$0\" \"$@\" --tls-cert $SCRATCH/cert.pem --tls-key $SCRATCH/key.pem",
);

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("handshakes-rsa-4096", |plan| plan.each(32, both_hellos))
        .on(&RSA_4096)
        .achieving(&[("hellos", 64)])
        .quick(),
    Attack::new("handshakes-rsa-2048", |plan| plan.each(32, both_hellos))
        .on(&RSA_2048)
        .achieving(&[("hellos", 64)]),
    Attack::new("reload-hangs", |_| {})
        .on(&RSA_2048)
        .from(&[1])
        .meanwhile(hanging_reload)
        .quick(),
];

/// Sends a recorded hello to the port for clients, then to the one for pages.
async fn both_hellos(attacker: Attacker) -> Result<()> {
    let [tcp, http] = [attacker.plan.tcp, attacker.plan.http];
    let first = send_hello(&attacker, tcp).await;
    send_hello(&attacker, http).await?;
    first
}

/// Sends a recorded hello, and waits for the server's signature.
async fn send_hello(attacker: &Attacker, server: SocketAddr) -> Result<()> {
    const ANSWER_WITHIN: Duration = Duration::from_secs(5);
    let encryption = attacker.plan.encryption.as_ref();
    let hello = &encryption.context("the server does not encrypt")?.hello;
    let mut stream = attacker.dial(server).await?;
    stream.write_all(hello).await?;
    attacker.tally("hellos", 1);
    let mut answer = [0; 4096];
    // A refusal is a plain message, which is shorter than any certificate.
    let count = tokio::time::timeout(ANSWER_WITHIN, stream.read(&mut answer)).await??;
    ensure!(count > 500, "refused");
    attacker.tally("signatures", 1);
    reset(&stream)
}

/// Lets the server read its certificate again from a pipe in which nothing comes.
fn hanging_reload(scene: &Scene<'_>) -> Result<String> {
    const HANGS: Duration = Duration::from_secs(4);
    let folder = &scene.server.folder;
    let run = |script: &str| -> Result<()> {
        let status = Command::new("bash")
            .args(["-c", script])
            .current_dir(folder)
            .status()?;
        ensure!(status.success(), "{script}: {status}");
        Ok(())
    };
    run("mv cert.pem real.pem && mkfifo cert.pem")?;
    scene.server.signal(Signal::HUP)?;
    std::thread::sleep(HANGS);
    // Without somebody who reads the pipe, it could not even be opened.
    run("timeout 5 bash -c 'cat real.pem > cert.pem'").context("the server did not read it")?;
    run("rm cert.pem && mv real.pem cert.pem")?;
    Ok(format!("the reload hung for {} s", HANGS.as_secs()))
}
