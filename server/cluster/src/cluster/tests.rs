use bytes::Bytes;

use super::testing::{address, presence, rules};
use super::*;
use crate::bus::{InboxSender, Leases, MemoryLeases, Subscription};

/// A bus in memory whose servers hear each other, and themselves, at once.
#[derive(Debug, Default)]
struct Wire {
    inboxes: Mutex<Vec<InboxSender>>,
    leases: Arc<MemoryLeases>,
}

impl Bus for Wire {
    fn publish(&self, _: &Topic, payload: Bytes) {
        for inbox in &*self.inboxes.lock().unwrap() {
            let payload = payload.clone();
            let _ = inbox.try_send(Received { payload, at: now() });
        }
    }

    fn subscribe(&self, _: &Topic, inbox: InboxSender) -> Subscription {
        self.inboxes.lock().unwrap().push(inbox);
        Subscription::new(|| {})
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn leases(&self) -> Arc<dyn Leases> {
        Arc::clone(&self.leases) as _
    }
}

fn server(bus: &Arc<Wire>, id: u32) -> Arc<Cluster> {
    let profile = ServerProfile {
        rules: rules(),
        address: address(id),
    };
    Cluster::new(Arc::clone(bus) as _, profile, &Metrics::default())
}

fn hear(cluster: &Cluster, presence: &Presence) -> bool {
    let payload = presence.encode();
    cluster.hear(&Received { payload, at: now() })
}

#[tokio::test(start_paused = true)]
async fn servers_know_of_each_other_from_start_to_stop() {
    let bus = Arc::new(Wire::default());
    let servers = [server(&bus, 1), server(&bus, 2)];
    let shutdowns = [CancellationToken::new(), CancellationToken::new()];
    servers[0].note_room("lobby", &Role::Owner, 3);
    for (server, shutdown) in servers.iter().zip(&shutdowns) {
        tokio::spawn(Arc::clone(server).run(shutdown.clone()));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // The first one has answered at once.
    let known = servers[1].servers();
    assert_eq!(known.len(), 2);
    assert_eq!(known[1].rooms[0].players, 3);
    assert_eq!(servers[1].others(), [address(1)]);
    assert_eq!(servers[1].address_of(servers[0].id()), address(1).web);
    shutdowns[0].cancel();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(servers[1].servers().len(), 1);
    assert!(servers[1].has_page(&address(1).web), "it may still be open");
    assert_eq!(
        servers[1].address_of(servers[0].id()),
        servers[0].id().to_string()
    );
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_announcements_causes_no_flood_of_answers() {
    let bus = Arc::new(Wire::default());
    let shutdown = CancellationToken::new();
    tokio::spawn(server(&bus, 1).run(shutdown.clone()));
    let (inbox, mut heard) = mpsc::channel(4_096);
    let _subscription = bus.subscribe(&Topic::Servers, inbox);
    for id in 1..=500 {
        bus.publish(&Topic::Servers, presence(id).encode());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut announced = 0;
    while let Ok(received) = heard.try_recv() {
        let presence = Presence::decode(&received.payload).unwrap();
        announced += usize::from(presence.id.0 > 500);
    }
    assert!(
        (15..=25).contains(&announced),
        "{announced} times in a second"
    );
}

#[test]
fn only_servers_with_the_same_rules_are_named_to_players() {
    let cluster = server(&Arc::default(), 1);
    let mut other = presence(3);
    other.rules.messages += 1;
    assert!(hear(&cluster, &presence(2)) && hear(&cluster, &other));
    assert!(!hear(&cluster, &presence(2)), "it was known");
    assert_eq!(cluster.others(), [address(2)]);
    assert_eq!(cluster.pages().len(), 3);
}

#[test]
fn a_policy_names_all_servers_and_always_the_same_ones() {
    let cluster = server(&Arc::default(), 30);
    for id in (0..30).rev() {
        hear(&cluster, &presence(id));
    }
    let page = |id| address(id).web;
    let expected: Vec<_> = [30].into_iter().chain(0..30).map(page).collect();
    assert_eq!(cluster.pages(), expected);
    // This is another server at the same address, such as one that was killed and is back.
    let back = Presence {
        address: address(30),
        ..presence(200)
    };
    hear(&cluster, &back);
    assert_eq!(cluster.pages(), expected);
}

#[test]
fn a_policy_has_an_end() {
    let cluster = server(&Arc::default(), 0);
    for id in 1..200 {
        hear(&cluster, &presence(id));
    }
    let expected: Vec<_> = (0..64).map(|id| address(id).web).collect();
    assert_eq!(cluster.pages(), expected);
}

#[test]
fn metrics_count_rooms_by_the_part_of_the_server_in_them() {
    let metrics = Metrics::default();
    let profile = ServerProfile {
        rules: rules(),
        address: address(1),
    };
    let cluster = Cluster::new(Arc::new(Wire::default()), profile, &metrics);
    let owner = address(2).web;
    cluster.note_room("a", &Role::Owner, 1);
    cluster.note_room("b", &Role::Edge { owner }, 1);
    cluster.note_room("b", &Role::Island, 1);
    cluster.note_room("c", &Role::Owner, 1);
    cluster.forget_room("c");
    let text = metrics.set.render();
    for line in [
        "cubesync_room_roles{role=\"owner\"} 1\n",
        "cubesync_room_roles{role=\"edge\"} 0\n",
        "cubesync_room_roles{role=\"island\"} 1\n",
        "cubesync_link_ends_total{reason=\"silent\"} 0\n",
        "cubesync_lease_changes_total{change=\"lost\"} 0\n",
        "cubesync_link_resent_total 0\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}
