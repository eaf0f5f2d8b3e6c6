//! Leases of rooms over a real nats-server with JetStream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cubesync_cluster::bus::{
    Bus, Holder, LEASE_AGE, Lease, LeaseError, Leases, Nats, RENEW_EVERY, ServerId,
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::bus::join;
use crate::nats::NatsServer;
use crate::support::{Folder, soon};

const ANNA: ServerId = ServerId(0xa);
const BEN: ServerId = ServerId(0xb);

/// The time for which a holder relies on its lease here. A busy machine may run it a little late.
const RELY_FOR: Duration = LEASE_AGE.saturating_sub(Duration::from_millis(100));

/// Pause between two attempts of a server to get a lease.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until leases cannot be had for a reason that has these words.
async fn is_told(nats: &Nats, words: &str) {
    soon(async {
        loop {
            match nats.leases().acquire("lobby", BEN).await {
                Err(LeaseError::Unreachable(reason)) if reason.contains(words) => return,
                other => assert!(matches!(other, Err(LeaseError::Unreachable(_)))),
            }
            sleep(PAUSE).await;
        }
    })
    .await;
}

/// Acquires a lease as soon as that is possible.
async fn acquire(nats: &Nats, room: &str, server: ServerId) -> Lease {
    let leases = nats.leases();
    soon(async {
        loop {
            if let Ok(lease) = leases.acquire(room, server).await {
                return lease;
            }
            sleep(PAUSE).await;
        }
    })
    .await
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn a_lease_has_one_holder_until_it_is_released() {
    let server = NatsServer::start();
    let (first, second) = (
        join(&server.url(), &[]).await,
        join(&server.url(), &[]).await,
    );
    let (anna, ben) = (first.leases(), second.leases());
    // Dots, stars and spaces have a meaning in the keys of buckets.
    let room = "a.b *>ä";
    let mut lease = acquire(&first, room, ANNA).await;
    let holder = Holder {
        server: ANNA,
        term: lease.term,
    };
    for _ in 0..3 {
        assert_eq!(ben.holder(room).await, Ok(Some(holder)));
        assert_eq!(ben.acquire(room, BEN).await, Err(LeaseError::Taken));
        let renewed = anna.renew(room, lease, ANNA).await.unwrap();
        assert_eq!(renewed.term, lease.term);
        // As if the answer had been lost.
        let again = anna.renew(room, lease, ANNA).await.unwrap();
        assert_eq!(again.term, lease.term);
        assert!(again.revision > renewed.revision);
        lease = again;
    }
    anna.release(room, lease).await.unwrap();
    assert_eq!(ben.holder(room).await, Ok(None));

    let next = ben.acquire(room, BEN).await.unwrap();
    assert!(next.term > lease.term);
    let late = anna.renew(room, lease, ANNA).await;
    assert_eq!(late, Err(LeaseError::Taken));
    let late = anna.release(room, lease).await;
    assert_eq!(late, Err(LeaseError::Taken));
    let holder = anna.holder(room).await.unwrap();
    assert_eq!(holder.map(|holder| holder.server), Some(BEN));
    assert_eq!(anna.holder("a.b *").await, Ok(None));
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn a_lease_that_is_not_renewed_ends_after_its_age() {
    let server = NatsServer::start();
    let (first, second) = (
        join(&server.url(), &[]).await,
        join(&server.url(), &[]).await,
    );
    let lease = acquire(&first, "lobby", ANNA).await;
    let asked_at = Instant::now();
    let lease = first.leases().renew("lobby", lease, ANNA).await.unwrap();
    let next = acquire(&second, "lobby", BEN).await;
    assert!(asked_at.elapsed() >= LEASE_AGE);
    assert!(next.term > lease.term);
    let late = first.leases().renew("lobby", lease, ANNA).await;
    assert_eq!(late, Err(LeaseError::Taken));
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn of_servers_that_ask_at_once_one_gets_the_lease() {
    let server = NatsServer::start();
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(join(&server.url(), &[]).await);
    }
    acquire(&servers[0], "lobby", ANNA).await;
    for round in 0..20 {
        let room = format!("den {round}");
        let asked = servers
            .iter()
            .zip(1..)
            .map(|(nats, id)| nats.leases().acquire(&room, ServerId(id)));
        let answers = join_all(asked).await;
        let got = answers.iter().filter(|answer| answer.is_ok());
        assert_eq!(got.count(), 1, "{answers:?}");
        let taken = |answer: &&Result<_, _>| **answer == Err(LeaseError::Taken);
        assert_eq!(answers.iter().filter(taken).count(), servers.len() - 1);
    }
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn a_server_replaces_a_lease_of_its_own() {
    let server = NatsServer::start();
    let nats = join(&server.url(), &[]).await;
    let lost = acquire(&nats, "lobby", ANNA).await;
    let leases = nats.leases();
    let lease = leases.acquire("lobby", ANNA).await.unwrap();
    assert!(lease.term > lost.term);
    let outdated = leases.renew("lobby", lost, ANNA).await;
    assert_eq!(outdated, Err(LeaseError::Taken));
    assert!(leases.renew("lobby", lease, ANNA).await.is_ok());
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn a_nats_that_comes_back_knows_the_leases_or_waits_until_they_are_over() {
    for loses_memory in [false, true] {
        let mut server = NatsServer::start();
        let (first, second) = (
            join(&server.url(), &[]).await,
            join(&server.url(), &[]).await,
        );
        let lease = acquire(&first, "lobby", ANNA).await;
        // Wait until the second server has the bucket open, so that a new one surprises it.
        acquire(&second, "den", BEN).await;
        let asked_at = Instant::now();
        let lease = first.leases().renew("lobby", lease, ANNA).await.unwrap();
        match loses_memory {
            true => server.lose(),
            false => server.kill(),
        }
        let away = first.leases().renew("lobby", lease, ANNA).await;
        assert!(matches!(away, Err(LeaseError::Unreachable(_))), "{away:?}");
        server.restart();
        let next = acquire(&second, "lobby", BEN).await;
        assert!(asked_at.elapsed() >= LEASE_AGE);
        assert!(next.term > lease.term);
    }
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn a_nats_without_jetstream_carries_messages_and_says_what_is_missing() {
    let server = NatsServer::without_jetstream();
    let nats = join(&server.url(), &[]).await;
    is_told(&nats, "nats-server --jetstream").await;
    assert!(nats.is_connected());
}

#[tokio::test]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn the_permissions_in_the_operators_page_suffice_and_fewer_are_reported() {
    let page = include_str!("../../../docs/ops/README.md");
    let (_, rest) = page.split_once("permissions: {").unwrap();
    let (permissions, _) = rest.split_once("\n}").unwrap();
    let permissions = permissions.replace("NAME", "cubesync");
    let folder = Folder::new();
    let configuration = folder.write(
        "nats.conf",
        &format!(
            "authorization {{ users: [
               {{ user: anna, password: a, permissions: {{ {permissions} }} }}
               {{ user: ben, password: b, permissions: {{
                 publish: \"cubesync.>\", subscribe: \"cubesync.>\"
               }} }}
             ] }}"
        ),
    );
    let server = NatsServer::with(&["--config", &configuration]);
    let url = |login: &str| format!("nats://{login}@{}", server.address());
    let allowed = join(&url("anna:a"), &[]).await;
    let lease = acquire(&allowed, "lobby", ANNA).await;
    let leases = allowed.leases();
    let lease = leases.renew("lobby", lease, ANNA).await.unwrap();
    leases.holder("lobby").await.unwrap().unwrap();
    leases.release("lobby", lease).await.unwrap();

    let barred = join(&url("ben:b"), &[]).await;
    is_told(&barred, "may not publish").await;
}

/// Holds a lease whenever it can be had, for a while each time, as an owner does. Counts the holders,
/// of which there is never a second one.
async fn hold_and_lose(
    leases: Arc<dyn Leases>,
    server: ServerId,
    holders: Arc<AtomicUsize>,
    periods: Arc<AtomicUsize>,
) {
    let mut last_term = 0;
    loop {
        let mut asked_at = Instant::now();
        let Ok(mut lease) = leases.acquire("lobby", server).await else {
            sleep(PAUSE).await;
            continue;
        };
        assert!(lease.term > last_term);
        last_term = lease.term;
        if asked_at.elapsed() >= RELY_FOR {
            continue;
        }
        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two holders");
        let ends_at = Instant::now() + Duration::from_millis(fastrand::u64(0..1_500));
        while Instant::now() < ends_at {
            let next = Instant::now();
            let renewing = leases.renew("lobby", lease, server);
            match tokio::time::timeout_at(asked_at + RELY_FOR, renewing).await {
                Ok(Ok(renewed)) => (lease, asked_at) = (renewed, next),
                Ok(Err(LeaseError::Unreachable(_))) => {}
                Ok(Err(LeaseError::Taken)) | Err(_) => break,
            }
            let rest = (asked_at + RELY_FOR).saturating_duration_since(Instant::now());
            sleep(RENEW_EVERY.min(rest)).await;
            if rest <= RENEW_EVERY {
                break;
            }
        }
        holders.fetch_sub(1, Ordering::SeqCst);
        periods.fetch_add(1, Ordering::SeqCst);
        // Half of the holders die, and the others say goodbye.
        if fastrand::bool() {
            let _ = leases.release("lobby", lease).await;
        }
        sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nats-server; .ci/run installs and runs it"]
async fn no_two_servers_hold_a_lease_whatever_nats_does() {
    let mut server = NatsServer::start();
    let (holders, periods) = (Arc::default(), Arc::<AtomicUsize>::default());
    let mut tasks = Vec::new();
    let mut connections = Vec::new();
    for id in 1..=3 {
        let nats = join(&server.url(), &[]).await;
        let (holders, periods) = (Arc::clone(&holders), Arc::clone(&periods));
        let holding = hold_and_lose(nats.leases(), ServerId(id), holders, periods);
        connections.push(nats);
        tasks.push(tokio::spawn(holding));
    }
    for fault in 0..4 {
        let before = periods.load(Ordering::SeqCst);
        soon(async {
            while periods.load(Ordering::SeqCst) < before + 2 {
                sleep(PAUSE).await;
            }
        })
        .await;
        let outage = Duration::from_millis(fastrand::u64(0..1_500));
        match fault {
            0 => server.kill(),
            1 => server.lose(),
            _ => server.pause(),
        }
        sleep(outage).await;
        match fault {
            0 | 1 => server.restart(),
            _ => server.resume(),
        }
    }
    for task in &tasks {
        assert!(!task.is_finished(), "a server saw two holders");
        task.abort();
    }
}
