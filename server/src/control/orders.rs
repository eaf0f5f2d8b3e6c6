//! Carries out operators' orders.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cubesync_network::all_addresses;
use cubesync_protocol::{CubeId, clean_reason, folded};
use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::{info, warn};

use super::BanFile;
use super::message::{Answer, BanLine, Order, Place, PlayerLine, Who};
use crate::blocking;
use crate::shared::Shared;
use cubesync_relay::bans::{Ban, bannable, covers};
use cubesync_relay::ending::{Ending, Problem};
use cubesync_relay::label::Label;
use cubesync_relay::network::Network;
use cubesync_relay::peer::Peer;
use cubesync_relay::room::{PlayerPlace, PlayerSeen, Role, RoomHandle};

/// Time for a room to answer. It takes events at each tick, so only one that hangs needs longer.
const ROOM_DEADLINE: Duration = Duration::from_secs(2);

/// Largest number of players that an answer names one by one.
const MAX_NAMED: usize = 8;

/// Largest number of players that a line of the log names one by one.
const MAX_LOGGED: usize = 100;

/// An operator with an order.
pub(super) struct Operator<'server> {
    shared: &'server Shared,
    ban_file: Option<Arc<BanFile>>,
    /// The number of the user who gives the order.
    user: Option<u32>,
}

/// A player in a room.
struct Found {
    room: String,
    handle: RoomHandle,
    role: Role,
    player: PlayerSeen,
}

impl<'server> Operator<'server> {
    pub(super) fn new(
        shared: &'server Shared,
        ban_file: Option<Arc<BanFile>>,
        user: Option<u32>,
    ) -> Self {
        Self {
            shared,
            ban_file,
            user,
        }
    }

    pub(super) async fn carry_out(&self, order: Order) -> Answer {
        let done = match order {
            Order::Players {} => return self.players().await,
            Order::Bans {} => {
                let bans = self.shared.host.bans.all(SystemTime::now());
                return Answer::Bans(bans.iter().map(BanLine::from).collect());
            }
            Order::Kick { who, room, reason } => self.kick(&who, room.as_deref(), reason).await,
            Order::Ban {
                who,
                room,
                reason,
                seconds,
                force,
            } => {
                let time = seconds.map(Duration::from_secs);
                self.ban(&who, room.as_deref(), reason, time, force).await
            }
            Order::Unban { network } => self.unban(network).await,
        };
        match done {
            Ok(sentence) => Answer::Done(sentence),
            Err(problem) => Answer::Failed(problem),
        }
    }

    async fn players(&self) -> Answer {
        let all = self.all(None).await;
        let lines = all.map(|found| found.iter().map(Found::line).collect());
        lines.map_or_else(Answer::Failed, Answer::Players)
    }

    async fn kick(
        &self,
        who: &Who,
        room: Option<&str>,
        reason: Option<String>,
    ) -> Result<String, String> {
        let reason = checked(reason)?;
        let found = match who {
            Who::Address(network) => {
                let found = self.connected_from(bannable(*network), room).await?;
                if found.is_empty() {
                    return Err(format!("nobody plays from {network} here"));
                }
                found
            }
            Who::Name(_) | Who::Id(_) => vec![self.one(who, room).await?],
        };
        let removed = self.remove(&found, Ending::Kicked, reason.as_deref()).await;
        match removed.is_empty() {
            true => Err(format!("{} is gone already", named(&found, MAX_NAMED))),
            false => Ok(format!("removed {}", named(&removed, MAX_NAMED))),
        }
    }

    async fn ban(
        &self,
        who: &Who,
        room: Option<&str>,
        reason: Option<String>,
        time: Option<Duration>,
        force: bool,
    ) -> Result<String, String> {
        let reason = checked(reason)?;
        let network = match who {
            Who::Address(network) => bannable(*network),
            Who::Name(_) | Who::Id(_) => {
                let found = self.one(who, room).await?;
                bannable(found.address().ok_or_else(|| {
                    format!(
                        "{} has no connection here, so the address is not known",
                        found.named()
                    )
                })?)
            }
        };
        if !force {
            self.check_harm(network)?;
        }
        let now = SystemTime::now();
        let until = match time {
            Some(time) => Some(
                now.checked_add(time)
                    .ok_or("that is too long; leave out the time")?,
            ),
            None => None,
        };
        let ban = Ban {
            network,
            until,
            reason: reason.clone(),
        };
        let until = BanLine::from(&ban).until;
        let bans = &self.shared.host.bans;
        bans.add(ban, now).map_err(|error| error.to_string())?;
        // A newcomer is refused from now on or, if admitted already, removed on arrival.
        let found = self.connected_from(network, None).await?;
        let removed = self.remove(&found, Ending::Banned, reason.as_deref()).await;
        let players = match removed.is_empty() {
            true => "nobody played from there".to_owned(),
            false => format!("removed {}", named(&removed, MAX_NAMED)),
        };
        let (user, removed) = (self.user, removed.len());
        info!(%network, until, reason, user, removed, "the operator has banned an address");
        let kept = match self.ban_file {
            Some(_) => self.save().await,
            None => "; it ends with the server, which runs without --bans".to_owned(),
        };
        let until = until.map_or("for ever".to_owned(), |until| format!("until {until}"));
        Ok(format!("banned {network} {until}; {players}{kept}"))
    }

    async fn unban(&self, network: Network) -> Result<String, String> {
        let (network, bans) = (bannable(network), &self.shared.host.bans);
        if bans.lift(network).is_none() {
            let wider = bans.find(network.address(), SystemTime::now());
            let wider = wider.map(|ban| format!(", but {} is", ban.network));
            return Err(format!(
                "{network} is not banned{}",
                wider.unwrap_or_default()
            ));
        }
        info!(%network, user = self.user, "the operator has lifted a ban");
        let kept = self.save().await;
        Ok(format!("{network} is no longer banned{kept}"))
    }

    /// Refuses a ban that would shut out the operator.
    fn check_harm(&self, network: Network) -> Result<(), String> {
        let proxies = &self.shared.config.trust_proxy;
        if let Some(proxy) = proxies.iter().find(|proxy| network.overlaps(proxy)) {
            return Err(format!(
                "{proxy} is a proxy (--trust-proxy), whose visitors would all be shut out; --force bans {network} all \
                 the same"
            ));
        }
        let own = all_addresses().into_iter();
        match own.map(Network::from).find(|own| network.overlaps(own)) {
            Some(own) => Err(format!(
                "{own} is an address of this machine: a proxy or a health check on it would be shut out; --force bans \
                 {network} all the same"
            )),
            None => Ok(()),
        }
    }

    /// Returns the only player who is meant.
    async fn one(&self, who: &Who, room: Option<&str>) -> Result<Found, String> {
        let mut found = self.all(room).await?;
        let shown = match who {
            Who::Name(name) => {
                let wanted = folded(name);
                found.retain(|found| folded(&found.player.name) == wanted);
                format!("named {name}")
            }
            Who::Id(id) => {
                found.retain(|found| found.player.cube == CubeId(*id));
                format!("with the id {id}")
            }
            Who::Address(_) => return Err("an address may be that of several players".to_owned()),
        };
        let Some(one) = found.pop() else {
            return Err(format!(
                "there is no player {shown}; `cubesync-server players` lists all"
            ));
        };
        if !found.is_empty() {
            found.push(one);
            return Err(format!(
                "there are several players {shown}: {}; name one by its --room",
                named(&found, MAX_NAMED)
            ));
        }
        match one.line().place {
            Place::Elsewhere { owner: Some(owner) } => {
                let owner = match owner.is_empty() {
                    true => "which is being looked for".to_owned(),
                    false => format!("at {owner}"),
                };
                Err(format!(
                    "{} plays at another server: give this command to the room's owner, {owner}",
                    one.named()
                ))
            }
            _ => Ok(one),
        }
    }

    /// Returns the players who are connected to this server from a network.
    async fn connected_from(
        &self,
        network: Network,
        room: Option<&str>,
    ) -> Result<Vec<Found>, String> {
        let mut found = self.all(room).await?;
        found.retain(|found| {
            found
                .peer()
                .is_some_and(|peer| covers(network, peer.address.ip()))
        });
        Ok(found)
    }

    /// Returns all players, by room and id.
    async fn all(&self, room: Option<&str>) -> Result<Vec<Found>, String> {
        let rooms = &self.shared.host.rooms;
        let handles = match room {
            Some(room) => {
                let handle = rooms.find(room);
                vec![handle.ok_or_else(|| format!("there is no room {room}"))?]
            }
            None => rooms.all(),
        };
        let asked = handles
            .iter()
            .map(|room| timeout(ROOM_DEADLINE, room.players()));
        let mut all = Vec::new();
        for (handle, answer) in handles.iter().zip(join_all(asked).await) {
            let answer = match answer {
                Ok(Ok(answer)) => answer,
                // It ended meanwhile, and has no players.
                Ok(Err(_)) => continue,
                Err(_) => {
                    warn!("a room did not say who is in it");
                    continue;
                }
            };
            all.extend(answer.players.into_iter().map(|player| Found {
                room: answer.room.clone(),
                handle: handle.clone(),
                role: answer.role.clone(),
                player,
            }));
        }
        Ok(all)
    }

    /// Removes players. Returns those who were still there.
    async fn remove<'found>(
        &self,
        found: &'found [Found],
        ending: Ending,
        reason: Option<&str>,
    ) -> Vec<&'found Found> {
        let why = Problem::removal(ending, reason);
        let asked = found.iter().map(|found| {
            let removing = found.handle.remove(found.player.cube, why.clone());
            timeout(ROOM_DEADLINE, removing)
        });
        let answers = join_all(asked).await;
        let removed = found.iter().zip(answers);
        let removed = removed.filter(|(_, answer)| matches!(answer, Ok(Ok(true))));
        let removed: Vec<_> = removed.map(|(found, _)| found).collect();
        if !removed.is_empty() {
            // One line for all: of many lines in a row, the log would leave some out.
            let players = named(&removed, MAX_LOGGED);
            let command = match ending {
                Ending::Banned => "ban",
                _ => "kick",
            };
            let user = self.user;
            info!(
                players,
                command, reason, user, "the operator has removed players"
            );
        }
        removed
    }

    /// Keeps the bans. Returns what the operator should know about that.
    async fn save(&self) -> String {
        let Some(file) = self.ban_file.clone() else {
            return String::new();
        };
        let bans = Arc::clone(&self.shared.host.bans);
        let saving = blocking::run("the file of --bans", move || file.save(&bans));
        match saving.await.flatten() {
            Ok(()) => String::new(),
            Err(error) => {
                warn!(%error, "the bans cannot be kept");
                format!(
                    "; after a restart it is as before, since the file of --bans cannot be written: {error}"
                )
            }
        }
    }
}

impl Found {
    fn peer(&self) -> Option<Peer> {
        match self.player.place {
            PlayerPlace::Here { peer, .. } => peer,
            PlayerPlace::Elsewhere | PlayerPlace::Nowhere => None,
        }
    }

    /// Returns what a ban of the player's address would ban.
    fn address(&self) -> Option<Network> {
        Some(bannable(self.peer()?.address.ip().into()))
    }

    fn named(&self) -> String {
        let PlayerSeen { cube, name, .. } = &self.player;
        format!("{name} (id {cube}, room {})", self.room)
    }

    fn line(&self) -> PlayerLine {
        let PlayerSeen { cube, name, place } = &self.player;
        let since = match place {
            PlayerPlace::Here { since, .. } => Some(*since),
            _ => None,
        };
        let place = match (place, &self.role) {
            (PlayerPlace::Here { peer: None, .. }, _) => Place::Recording,
            (PlayerPlace::Here { .. }, _) => Place::Here,
            (PlayerPlace::Nowhere, Role::Owner | Role::Island) => Place::Away,
            (_, Role::Owner | Role::Island) => Place::Elsewhere { owner: None },
            (_, Role::Edge { owner }) => Place::Elsewhere {
                owner: Some(owner.clone()),
            },
        };
        PlayerLine {
            room: self.room.clone(),
            id: cube.0,
            name: name.clone(),
            place,
            address: self.address().map(|address| address.to_string()),
            transport: self.peer().map(|peer| peer.transport.as_str().to_owned()),
            connected_s: since.map(|since| Instant::now().duration_since(since).as_secs()),
        }
    }
}

/// Returns a reason as players read it.
fn checked(reason: Option<String>) -> Result<Option<String>, String> {
    let reason = reason.map(|reason| clean_reason(&reason));
    reason.transpose().map_err(|error| error.to_string())
}

/// Names players, the first few one by one.
fn named(found: &[impl Borrow<Found>], most: usize) -> String {
    let first = found.iter().take(most);
    let mut named: Vec<_> = first.map(|found| found.borrow().named()).collect();
    if found.len() > most {
        named.push(format!("{} more", found.len() - most));
    }
    named.join(", ")
}
